//! What a recovery says, and what each of its steps proved. Proofs are also what the state file remembers: a field that an
//! earlier release did not write has its default.

use serde_json::{Map, Value};

use super::choice::SourceCopy;
use super::plan::PlanReport;
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::docker::restore::VolumeReport;
use crate::engines::{self, Engine};
use crate::operations::log::redis::restore::RestoredMoment;
use crate::operations::restore::report::{RestoreReport, RestoredSource, document};
use crate::operations::{Report, Status};

/// What `recover --dry-run` found.
#[derive(Debug, serde::Serialize)]
pub(super) struct RecoverPreview {
    /// The newest snapshot that something comes from.
    pub(super) snapshot: String,
    pub(super) sources: Vec<SourceCopy>,
    /// Seconds between the earliest and the latest moment at which the sources are consistent.
    pub(super) skew_seconds: f64,
    pub(super) plan: PlanReport,
    #[serde(skip)]
    pub(super) text: String,
}

/// What `recover` did.
#[derive(Debug, serde::Serialize)]
pub(super) struct RecoverReport {
    /// The newest snapshot that something came from.
    pub(super) snapshot: String,
    pub(super) sources: Vec<SourceCopy>,
    /// Seconds between the earliest and the latest moment at which the sources are consistent.
    pub(super) skew_seconds: f64,
    /// How long it took.
    pub(super) seconds: f64,
    pub(super) steps: Vec<ProvenStep>,
    /// What did not come back, or not as it was.
    pub(super) failed: Vec<String>,
}

/// What one step proved.
#[derive(Debug, serde::Serialize)]
pub(super) struct ProvenStep {
    pub(super) step: String,
    pub(super) seconds: f64,
    pub(super) proof: Proof,
    #[serde(skip)]
    pub(super) text: String,
}

/// What a step of each kind proves.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(super) enum Proof {
    /// A source that came back.
    Restored(Restored<Box<dyn engines::RestoreReport>>),
    Networks(Networks),
    Images(Images),
    Volume(VolumeReport),
    EmptyVolume(EmptyVolume),
    Containers(Containers),
    /// A source that came to a moment by its commands.
    Moment(Box<RestoredMoment>),
    Started(Started),
    Running(Running),
    /// What a server, or a health URL, said.
    Answer(String),
}

/// One source that came back.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Restored<R> {
    pub(super) source: String,
    pub(super) into: String,
    #[serde(flatten)]
    pub(super) report: R,
    /// What of it did not come back, or not as it was.
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

impl Restored<Map<String, Value>> {
    /// Takes what a restore of one source reports, as the state file remembers it.
    pub(super) fn of(done: RestoreReport) -> Result<Self> {
        let RestoreReport { restored, errors, .. } = done;
        let one = restored.into_iter().next();
        let nothing = || Error::new(ErrorKind::Other, format!("nothing was restored: {}", errors.join("; ")));
        let RestoredSource { source, into, report } = one.ok_or_else(nothing)?;
        let Value::Object(report) = report.document() else {
            return Err(Error::new(ErrorKind::Other, "the report of a restore is no object"));
        };
        Ok(Self {
            source,
            into,
            report,
            errors,
        })
    }

    /// Has the engine read it: what an earlier release did not write has its default.
    pub(super) fn read(self, engine: &dyn Engine) -> Result<Restored<Box<dyn engines::RestoreReport>>> {
        Ok(Restored {
            source: self.source,
            into: self.into,
            report: engine.read_report(self.report.into())?,
            errors: self.errors,
        })
    }
}

/// Networks of Docker.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Networks {
    /// Names of those that were made.
    pub(super) created: Vec<String>,
    /// All that the snapshot has.
    pub(super) networks: usize,
}

/// Images of Docker.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Images {
    /// Names of those that the snapshot holds.
    pub(super) loaded: Vec<String>,
    /// Names of those that a registry holds.
    pub(super) pulled: Vec<String>,
    /// Bytes that were loaded.
    pub(super) bytes: u64,
}

/// A volume that stays empty.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct EmptyVolume {
    /// Whether it was made.
    pub(super) created: bool,
}

/// Containers that are made, not started.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Containers {
    /// Names of those that were made.
    pub(super) created: Vec<String>,
    /// All that the snapshot has.
    pub(super) containers: usize,
}

/// Containers that are started.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Started {
    /// Their names.
    pub(super) started: Vec<String>,
}

/// Containers that run.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Running {
    /// How many.
    pub(super) running: u64,
    /// Names of those that are healthy by their own check.
    pub(super) healthy: Vec<String>,
}

impl Report for RecoverPreview {
    fn document(&self) -> Value {
        document(self)
    }

    fn text(&self) -> String {
        self.text.clone()
    }

    fn status(&self) -> Status {
        if self.plan.is_possible() {
            Status::Done
        } else {
            Status::Failed
        }
    }
}

impl Report for RecoverReport {
    fn document(&self) -> Value {
        document(self)
    }

    fn text(&self) -> String {
        let whole = if self.failed.is_empty() { "" } else { " in part" };
        let mut text = format!("recovered{whole} in {:.1} s:\n", self.seconds);
        for step in &self.steps {
            text.push_str(&format!("  {}\n", step.text));
        }
        for line in &self.failed {
            text.push_str(&format!("failed: {line}\n"));
        }
        text
    }

    fn status(&self) -> Status {
        if self.failed.is_empty() {
            Status::Done
        } else {
            Status::Partial
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(document: &Value) -> Restored<Box<dyn engines::RestoreReport>> {
        let kind = if document["into"] == "redis://cache" {
            "redis"
        } else {
            "postgres"
        };
        let stored: Restored<Map<String, Value>> = serde_json::from_str(&document.to_string()).unwrap();
        let engines = engines::Registry::standard();
        stored.read(engines.of_kind(kind).unwrap()).unwrap()
    }

    #[test]
    fn a_proof_is_read_as_it_was_written_and_what_an_earlier_release_did_not_write_is_missing_only() {
        let item = json!({ "kind": "INDEX", "name": "public.i", "error": "refused", "advice": "Look" });
        let database = json!({ "source": "shop", "into": "postgres://db/shop", "bytes": 7, "failed": 1, "errors": ["shop: INDEX"],
            "report": { "database": "shop", "tables": 2, "rows": 3, "bytes": 7, "statistics": 1, "rows_verified": true,
                "failed": [item], "left_out": [], "kept_old": "shop_old", "ended_sessions": 1, "next": ["ANALYZE"],
                "powers": [], "seconds": 1.5 } });
        assert_eq!(document(&read(&database)), database);
        let mut earlier = database;
        let report = earlier["report"].as_object_mut().unwrap();
        report.remove("powers").unwrap();
        report.remove("ended_sessions").unwrap();
        let again = document(&read(&earlier));
        assert_eq!(
            (&again["report"]["rows_verified"], &again["report"]["powers"]),
            (&json!(true), &json!([]))
        );

        let keys = json!({ "source": "cache", "into": "redis://cache", "bytes": null, "previous": "snapshot s", "powers": [],
            "errors": [], "report": { "restored": 5, "expired": 1 } });
        let again = document(&read(&keys));
        assert_eq!(
            (&again["report"]["restored"], &again["report"]["failed_keys"]),
            (&json!(5), &json!(0))
        );
        assert_eq!(again["previous"], "snapshot s");
    }
}
