//! The plan that manifests carry, and the schedule that run records carry too.
//!
//! A plan is written by the release that made the snapshot and read by every later one, so it is read word by word: what is
//! missing, or of another type, is not there. In the words in which it was written, it stays whole.

use serde_json::Value;

use crate::archive::StoredSource;
use crate::base::error::{Error, Result};

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

/// The version of plans that this release writes, and the newest whose words it takes to mean what it knows. Plans without a
/// number are of releases before there was one.
const VERSION: u64 = 1;

/// The plan of a snapshot, of any release. One of a newer version is kept as it is and says nothing.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Value", into = "Value")]
pub struct StoredPlan {
    sources: Vec<StoredSource>,
    /// Everything else; where there are sources, an empty list of them.
    rest: Value,
}

/// Returns whether a plan has a version that this release does not know; what is no number is one of those.
fn is_newer(plan: &Value) -> bool {
    let version = plan.get("version");
    version.is_some_and(|version| version.as_u64().is_none_or(|version| version > VERSION))
}

impl From<Value> for StoredPlan {
    fn from(mut plan: Value) -> Self {
        if is_newer(&plan) {
            return Self {
                sources: Vec::new(),
                rest: plan,
            };
        }
        let sources = plan.get_mut("sources").and_then(Value::as_array_mut);
        let sources = sources.map(std::mem::take).unwrap_or_default();
        Self {
            sources: sources.into_iter().map(StoredSource::from).collect(),
            rest: plan,
        }
    }
}

impl From<StoredPlan> for Value {
    fn from(plan: StoredPlan) -> Self {
        let StoredPlan { sources, mut rest } = plan;
        if let Some(place) = rest.get_mut("sources").and_then(Value::as_array_mut) {
            place.extend(sources.into_iter().map(Value::from));
        }
        rest
    }
}

impl StoredPlan {
    /// Takes the plan of a run as it is to be written.
    pub fn of(plan: &impl serde::Serialize) -> Result<Self> {
        let plan = serde_json::to_value(plan);
        let mut plan = plan.map_err(|e| Error::invalid("write the plan as JSON").with_cause(e))?;
        if let Some(plan) = plan.as_object_mut() {
            plan.insert("version".to_owned(), VERSION.into());
        }
        Ok(Self::from(plan))
    }

    /// Returns when the job was to run. Plans of older releases do not say it.
    pub fn schedule(&self) -> Option<PlannedSchedule> {
        if is_newer(&self.rest) {
            return None;
        }
        serde_json::from_value(self.rest.clone()).ok()
    }

    /// Returns the sources, in their order.
    pub fn sources(&self) -> &[StoredSource] {
        &self.sources
    }

    /// Finds a source by its name.
    pub fn source(&self, name: &str) -> Option<&StoredSource> {
        self.sources.iter().find(|source| source.text("name") == Some(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_stays_as_it_was_written_whatever_it_is() {
        for plan in [
            json!({ "job": "full", "sources": [{ "name": "db", "kind": "sqlite", "later": { "a": [1] } }, 7], "more": null }),
            json!({ "sources": [] }),
            json!({ "version": 7, "sources": [{ "name": "db" }] }),
            json!({ "sources": "none" }),
            json!({}),
            json!(null),
            json!([1]),
        ] {
            let read: StoredPlan = serde_json::from_value(plan.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), plan);
        }
    }

    #[test]
    fn a_plan_of_a_newer_version_says_nothing() {
        let mut plan = json!({ "schedule": "0 2 * * *", "sources": [{ "name": "db", "kind": "sqlite" }] });
        assert_eq!(
            StoredPlan::of(&plan).unwrap().rest.get("version"),
            Some(&json!(VERSION))
        );
        for (version, is_known) in [(json!(VERSION), true), (json!(VERSION + 1), false), (json!("1"), false)] {
            plan["version"] = version.clone();
            let read = StoredPlan::from(plan.clone());
            assert_eq!(
                (read.source("db").is_some(), read.schedule().is_some()),
                (is_known, is_known),
                "{version}"
            );
        }
    }

    #[test]
    fn what_is_of_another_type_is_not_there() {
        let plan = StoredPlan::from(json!({ "schedule": "0 2 * * *", "sources": [
            7, { "name": "db", "path": 1, "include": ["a", 2], "on": "yes", "exclude_large_objects": true },
        ] }));
        assert_eq!(plan.schedule().unwrap().schedule, "0 2 * * *");
        assert!(plan.source("etc").is_none() && StoredPlan::default().schedule().is_none());
        let source = plan.source("db").unwrap();
        assert_eq!((source.text("name"), source.text("path")), (Some("db"), None));
        assert_eq!(
            (source.texts("include"), source.texts("path").len()),
            (vec!["a".to_owned()], 0)
        );
        assert!(
            source.has("path") && !source.has("root") && !source.is_on("on") && source.is_on("exclude_large_objects")
        );
    }
}
