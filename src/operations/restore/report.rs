//! What `restore` says of each source: what was done, or what would be. One type gives the document, the text and the status.

use serde_json::{Map, Value, json};

use crate::base::units::format_bytes;
use crate::engines::{self, Registry, TargetPlan};
use crate::operations::log::recovery;
use crate::operations::session::quoted;
use crate::operations::{Report, Session, Status, options, show};
use crate::repository::{Manifest, SnapshotId};

/// What `restore` did.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RestoreReport {
    pub(crate) snapshot: SnapshotId,
    pub(crate) restored: Vec<RestoredSource>,
    /// What did not come back, or not as it was, headed by its source.
    pub(crate) errors: Vec<String>,
    #[serde(skip)]
    pub(super) again: Again,
}

/// What `restore --dry-run` found.
#[derive(Debug)]
pub(super) struct RestorePreview {
    pub(super) snapshot: SnapshotId,
    pub(super) would_restore: Vec<PlannedSource>,
    /// Nothing: what a restore would refuse ends the dry run.
    pub(super) errors: Vec<String>,
    pub(super) again: Again,
    pub(super) engines: Registry,
}

/// One source that came back.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RestoredSource {
    pub(crate) source: String,
    /// Where it went.
    pub(crate) into: String,
    #[serde(flatten)]
    pub(crate) report: Box<dyn engines::RestoreReport>,
}

/// One source that would come back, with what was found out about its target.
#[derive(Debug)]
pub(super) struct PlannedSource {
    pub(super) source: String,
    pub(super) kind: String,
    /// Where it would go.
    pub(super) into: String,
    /// Bytes that would be written, or else those of the backup.
    pub(super) bytes: Option<u64>,
    /// What its engine says of the target.
    pub(super) plan: Option<Box<dyn TargetPlan>>,
}

/// How the same snapshot is restored once more.
#[derive(Debug)]
pub(super) struct Again {
    snapshot: SnapshotId,
    /// When it was finished, for people.
    finished: String,
    /// Where to, where from.
    flags: String,
}

impl Again {
    pub(super) fn new(session: &Session, options: &options::Restore, manifest: &Manifest) -> Self {
        let flag = |name: &str, value: Option<&String>| {
            value.map_or_else(String::new, |value| {
                format!(" --{name} {}", quoted(&crate::config::redact_url(value)))
            })
        };
        let original = if options.into_original { " --into-original" } else { "" };
        Self {
            snapshot: manifest.id.clone(),
            finished: show::local_time(manifest.finished),
            flags: format!(
                "{}{original}{}{}",
                flag("into", options.into.as_ref()),
                recovery::flags(options),
                flag("from", session.repository.as_ref())
            ),
        }
    }

    /// Returns the line that ends the text; nothing where nothing was restored.
    fn line<'a>(&self, sources: impl Iterator<Item = &'a str>) -> String {
        let named = sources.fold(String::new(), |named, name| format!("{named} --source {name}"));
        if named.is_empty() {
            return String::new();
        }
        let Self {
            snapshot,
            finished,
            flags,
        } = self;
        format!(
            "snapshot {snapshot} of {finished}; the same snapshot again: wirevault restore {snapshot}{named}{flags}\n"
        )
    }
}

/// Returns a report as its one document.
pub(crate) fn document(report: &impl serde::Serialize) -> Value {
    // Keys are names of fields and paths are written as text, so nothing is left that JSON cannot hold.
    serde_json::to_value(report).unwrap_or_default()
}

/// How a verb over several sources ended: partly, if some came back.
pub(crate) fn ended(some_done: bool, whole: bool) -> Status {
    match (some_done, whole) {
        (_, true) => Status::Done,
        (false, false) => Status::Failed,
        (true, false) => Status::Partial,
    }
}

impl Report for RestoreReport {
    fn document(&self) -> Value {
        document(self)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for one in &self.restored {
            let bytes = format_bytes(one.report.bytes());
            text.push_str(&format!("restored {} into {} ({bytes})\n", one.source, one.into));
            text.push_str(&one.report.text());
        }
        text.push_str(&self.again.line(self.restored.iter().map(|one| one.source.as_str())));
        for error in &self.errors {
            text.push_str(&format!("failed: {error}\n"));
        }
        text
    }

    fn status(&self) -> Status {
        let damaged = self.restored.iter().any(|one| one.report.damage().is_some());
        ended(!self.restored.is_empty(), self.errors.is_empty() && !damaged)
    }
}

impl Report for RestorePreview {
    fn document(&self) -> Value {
        let sources = self.would_restore.iter();
        let sources: Vec<Value> = sources.map(|source| source.document(&self.engines)).collect();
        json!({ "snapshot": self.snapshot, "would_restore": sources, "errors": self.errors })
    }

    fn text(&self) -> String {
        let mut text: String = self.would_restore.iter().map(PlannedSource::text).collect();
        text.push_str(
            &self
                .again
                .line(self.would_restore.iter().map(|one| one.source.as_str())),
        );
        text
    }
}

impl PlannedSource {
    /// The object of the document: each engine has a key of its own, which is null for a source of another.
    fn document(&self, engines: &Registry) -> Value {
        let mut object = Map::new();
        object.insert("source".to_owned(), self.source.clone().into());
        object.insert("into".to_owned(), self.into.clone().into());
        object.insert("bytes".to_owned(), self.bytes.into());
        for engine in engines.iter() {
            if let Some(key) = engine.plan_key() {
                let is_own = engine.kind().word() == self.kind;
                let plan = self.plan.as_ref().filter(|_| is_own).map(|plan| plan.document());
                object.insert(key.to_owned(), plan.unwrap_or_default());
            }
        }
        object.into()
    }

    fn text(&self) -> String {
        let bytes = format_bytes(self.bytes.unwrap_or(0));
        let text = format!("would restore {} into {} ({bytes})\n", self.source, self.into);
        text + &self.plan.as_ref().map_or_else(String::new, |plan| plan.text())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(restored: Vec<Box<dyn engines::RestoreReport>>, errors: &[&str]) -> RestoreReport {
        let snapshot = SnapshotId::new("2026-01-01T00:00:00Z".parse().unwrap(), "full", 7);
        let named = |report| RestoredSource {
            source: "app".to_owned(),
            into: "/srv/app.db".to_owned(),
            report,
        };
        RestoreReport {
            again: Again {
                snapshot: snapshot.clone(),
                finished: "2026-01-01 00:00".to_owned(),
                flags: " --from r".to_owned(),
            },
            snapshot,
            restored: restored.into_iter().map(named).collect(),
            errors: errors.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    /// What an engine says of a source that may have been damaged.
    #[derive(Debug, serde::Serialize)]
    struct Database {
        damaged: bool,
    }

    impl engines::RestoreReport for Database {
        fn bytes(&self) -> u64 {
            0
        }

        fn damage(&self) -> Option<&'static str> {
            self.damaged.then_some("it was damaged")
        }

        fn text(&self) -> String {
            "  as it was stored\n".to_owned()
        }
    }

    fn database(damaged: bool) -> Box<dyn engines::RestoreReport> {
        Box::new(Database { damaged })
    }

    #[test]
    fn the_status_is_of_what_came_back() {
        assert_eq!(report(vec![database(false)], &[]).status(), Status::Done);
        assert_eq!(report(vec![database(true)], &[]).status(), Status::Partial);
        assert_eq!(
            report(vec![database(false)], &["db: refused"]).status(),
            Status::Partial
        );
        assert_eq!(report(vec![], &["db: refused"]).status(), Status::Failed);
        assert_eq!(report(vec![], &[]).status(), Status::Done);
        let text = report(vec![database(true)], &["db: refused"]).text();
        let id = report(vec![], &[]).snapshot;
        assert_eq!(
            text,
            format!(
                "restored app into /srv/app.db (0 B)\n  as it was stored\n\
                 snapshot {id} of 2026-01-01 00:00; the same snapshot again: wirevault restore {id} --source app --from r\n\
                 failed: db: refused\n"
            )
        );
    }
}
