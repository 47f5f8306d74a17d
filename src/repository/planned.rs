//! The schedule that manifests and run records carry.

/// The schedule of a job, with what it takes to evaluate it elsewhere. Manifests and run records carry it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlannedSchedule {
    /// Five cron fields.
    pub schedule: String,
    /// IANA name of its time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Runs begin later by a part of this.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter_seconds: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl PlannedSchedule {
    /// Reads the schedule in the plan of a manifest. Plans of older releases have none.
    pub fn in_plan(plan: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(plan.clone()).ok()
    }
}
