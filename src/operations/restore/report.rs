//! What `restore` says of each source: what was done, or what would be. One type gives the document, the text and the status.

use std::path::PathBuf;

use serde_json::Value;

use crate::base::exact;
use crate::base::raw_text::printable;
use crate::base::units::format_bytes;
use crate::engines::docker::restore::VolumeReport;
use crate::engines::files::restore::FilesRestoreReport;
use crate::engines::files::survey::FilesPlan;
use crate::engines::postgres::{self, FailedItem, RestorePlan};
use crate::engines::redis::stored::Written;
use crate::engines::redis::{FailedKey, RedisPlan, Tally};
use crate::engines::sqlite::Integrity;
use crate::engines::sqlite::plan::SqlitePlan;
use crate::engines::sqlite::restore::SqliteRestoreReport;
use crate::operations::session::quoted;
use crate::operations::volumes::VolumesRestored;
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
#[derive(Debug, serde::Serialize)]
pub(super) struct RestorePreview {
    pub(super) snapshot: SnapshotId,
    pub(super) would_restore: Vec<PlannedSource>,
    /// Nothing: what a restore would refuse ends the dry run.
    pub(super) errors: Vec<String>,
    #[serde(skip)]
    pub(super) again: Again,
}

/// One source that came back.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RestoredSource {
    pub(crate) source: String,
    /// Where it went.
    pub(crate) into: String,
    #[serde(flatten)]
    pub(crate) report: SourceReport,
}

/// What its engine did.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum SourceReport {
    Files(FilesRestoreReport),
    Sqlite(SqliteRestoreReport),
    Volumes(VolumesRestored),
    Redis(Box<KeysRestored>),
    RdbFile(RdbWritten),
    Postgres(Box<DatabaseRestored>),
}

/// Keys that went into a server.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct KeysRestored {
    /// Bytes of the backup, if it says so.
    pub(crate) bytes: Option<u64>,
    /// The snapshot that holds what the target had before.
    pub(crate) previous: Option<String>,
    /// What of the backup runs code with power, or gives it.
    pub(crate) powers: Vec<String>,
    pub(crate) report: Tally,
}

/// An RDB, or several, that stand in files.
#[derive(Debug, serde::Serialize)]
pub(crate) struct RdbWritten {
    pub(crate) bytes: u64,
    pub(crate) report: Written,
    /// What a person does with them.
    pub(crate) advice: &'static str,
}

/// A database of PostgreSQL that came back.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct DatabaseRestored {
    /// Bytes of COPY data sent.
    pub(crate) bytes: u64,
    /// Statements that failed for good.
    pub(crate) failed: usize,
    pub(crate) report: postgres::RestoreReport,
}

/// One source that would come back, with what was found out about its target.
#[derive(Debug, serde::Serialize)]
pub(super) struct PlannedSource {
    pub(super) source: String,
    /// Where it would go.
    pub(super) into: String,
    /// Bytes that would be written, or else those of the backup.
    pub(super) bytes: Option<u64>,
    /// For a database of PostgreSQL.
    pub(super) plan: Option<RestorePlan>,
    pub(super) files: Option<FilesPlan>,
    pub(super) sqlite: Option<SqlitePlan>,
    pub(super) redis: Option<RedisPlan>,
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
                "{}{original}{}",
                flag("into", options.into.as_ref()),
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
        let damaged = self.restored.iter().any(|one| one.report.is_damaged());
        ended(!self.restored.is_empty(), self.errors.is_empty() && !damaged)
    }
}

impl Report for RestorePreview {
    fn document(&self) -> Value {
        document(self)
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

impl SourceReport {
    /// Bytes that were written, for people.
    fn bytes(&self) -> u64 {
        match self {
            Self::Files(done) => done.bytes,
            Self::Sqlite(done) => done.bytes,
            Self::Volumes(done) => done.bytes,
            Self::Redis(done) => done.bytes.unwrap_or(0),
            Self::RdbFile(done) => done.bytes,
            Self::Postgres(done) => done.bytes,
        }
    }

    /// Returns whether what came back was damaged when it was stored.
    fn is_damaged(&self) -> bool {
        matches!(self, Self::Sqlite(done) if done.integrity.is_damaged())
    }

    /// Returns a line for each item that did not come back, and one for what is not as it was.
    pub(super) fn failures(&self) -> Vec<String> {
        match self {
            Self::Files(done) => lost(done.lost),
            Self::Sqlite(_) => Vec::new(),
            Self::Volumes(done) => lost(done.volumes.iter().map(|volume| volume.lost).sum()),
            Self::Redis(done) => {
                let mut lines = failed_keys(&done.report.failed, done.report.failed_keys);
                lines.extend(done.report.losses.iter().map(key_line));
                lines
            }
            Self::RdbFile(done) => failed_keys(&done.report.failed, done.report.failed_keys),
            Self::Postgres(done) => done.report.failed.iter().map(item_line).collect(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Files(done) => kept_text(done.previous.as_ref()),
            Self::Sqlite(done) => kept_text(done.previous.as_ref()) + &integrity_text(&done.integrity),
            Self::Volumes(done) => done.volumes.iter().map(volume_text).collect(),
            Self::Redis(done) => done.text(),
            Self::RdbFile(done) => format!("  {}\n", done.advice),
            Self::Postgres(done) => database_text(&done.report),
        }
    }
}

/// Returns a line for a statement that failed for good: the object, why, what to do.
pub(crate) fn item_line(item: &FailedItem) -> String {
    failed_line([&item.kind, &item.name, &item.error, &item.advice])
}

fn key_line(key: &FailedKey) -> String {
    failed_line([&key.kind, &key.name, &key.error, &key.advice])
}

fn failed_line(fields: [&String; 4]) -> String {
    let [kind, name, error, advice] = fields.map(|field| printable(field.clone()));
    format!("{kind} {name}: {error}. {advice}")
}

/// Returns a line for each key that is named, and one for the rest.
fn failed_keys(named: &[FailedKey], failed: u64) -> Vec<String> {
    let mut lines: Vec<String> = named.iter().map(key_line).collect();
    let unnamed = failed.saturating_sub(exact::u64_from(lines.len()));
    if unnamed > 0 {
        lines.push(format!("and {unnamed} keys more"));
    }
    lines
}

/// Says that what came back is not all that was there.
fn lost(entries: u64) -> Vec<String> {
    let line = "not everything is as it was: an owner, a mode, an attribute could not be set, or a device node not made; the \
         notes name the first of each kind";
    (entries > 0).then(|| line.to_owned()).into_iter().collect()
}

/// Says where what was replaced is.
fn kept_text(previous: Option<&PathBuf>) -> String {
    previous.map_or_else(String::new, |previous| {
        format!("  what was there before is kept in {}\n", previous.display())
    })
}

/// What SQLite says of a database that came back as it was stored.
fn integrity_text(integrity: &Integrity) -> String {
    let mut text = String::new();
    for (lines, words) in [
        (
            &integrity.damaged,
            "it was damaged when it was stored, and came back so",
        ),
        (
            &integrity.violated,
            "rows break a rule of their table, as they did when it was stored",
        ),
        (&integrity.unchecked, "not checked"),
    ] {
        for line in lines {
            text.push_str(&format!("  {words}: {line}\n"));
        }
    }
    if integrity.is_damaged() {
        text.push_str("  `.recover` of the sqlite3 program saves its rows, or an older snapshot may be whole\n");
    }
    text
}

fn volume_text(volume: &VolumeReport) -> String {
    let mut text = format!(
        "  volume {}{}: {} written, {} unchanged, {}{}\n",
        volume.volume,
        if volume.created { " (created)" } else { "" },
        volume.written,
        volume.unchanged,
        format_bytes(volume.bytes),
        if volume.by_archive {
            ", through the archive API"
        } else {
            ""
        },
    );
    if let Some(previous) = &volume.previous {
        text.push_str(&format!(
            "    what was there before is kept in {}\n",
            previous.display()
        ));
    }
    text
}

impl KeysRestored {
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(previous) = &self.previous {
            text.push_str(&format!("  what was there before is kept in {previous}\n"));
        }
        let tally = &self.report;
        text.push_str(&format!("  {} keys restored", tally.restored));
        for (count, words) in [
            (tally.functions, "function libraries"),
            (tally.users, "users"),
            (tally.transcoded, "of them in another encoding"),
            (tally.replayed, "of them by ordinary commands"),
            (tally.expired, "expired meanwhile"),
            (tally.skipped, "left as they were"),
            (tally.not_selected, "not selected"),
            (tally.failed_keys, "failed"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {words}"));
            }
        }
        text.push('\n');
        if tally.users_in_memory {
            text.push_str(
                "  the users are in no file of the server yet: ACL SAVE or CONFIG REWRITE there keeps them\n",
            );
        }
        text + &powers_text(&self.powers)
    }
}

/// Says what the keys bring with them.
fn powers_text(powers: &[String]) -> String {
    powers.iter().fold(String::new(), |text, line| {
        format!("{text}  the backup brings {line}\n")
    })
}

fn database_text(report: &postgres::RestoreReport) -> String {
    let mut text = String::new();
    if let Some(old) = &report.kept_old {
        text.push_str(&format!("  the database that was there is kept as {old}\n"));
    }
    text.push_str(&sessions_text(report.ended_sessions));
    for line in &report.powers {
        text.push_str(&format!("  the backup holds {line}\n"));
    }
    for line in &report.next {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Says that sessions had to end for a swap.
pub(crate) fn sessions_text(sessions: u64) -> String {
    match sessions {
        0 => String::new(),
        1 => "  1 session of the database that was there was ended\n".to_owned(),
        more => format!("  {more} sessions of the database that was there were ended\n"),
    }
}

impl PlannedSource {
    fn text(&self) -> String {
        let bytes = format_bytes(self.bytes.unwrap_or(0));
        let mut text = format!("would restore {} into {} ({bytes})\n", self.source, self.into);
        text.push_str(&self.sqlite.as_ref().map_or_else(String::new, sqlite_plan_text));
        text.push_str(&self.files.as_ref().map_or_else(String::new, files_plan_text));
        text.push_str(&self.redis.as_ref().map_or_else(String::new, redis_plan_text));
        text.push_str(&self.plan.as_ref().map_or_else(String::new, RestorePlan::lines));
        text
    }
}

/// What is said of the place of a SQLite database before it is restored.
fn sqlite_plan_text(plan: &SqlitePlan) -> String {
    let mut text = format!(
        "  {}; {} of {} free\n",
        if plan.replaces {
            "replaces the file there, which is kept beside"
        } else {
            "nothing is there"
        },
        format_bytes(plan.bytes),
        format_bytes(plan.free_bytes),
    );
    match (plan.replaces, plan.hidden_processes) {
        (true, 0) => text.push_str("  nobody has it open\n"),
        (true, hidden) => text.push_str(&format!(
            "  nobody was seen to have it open; {hidden} processes could not be looked into\n"
        )),
        (false, _) => {}
    }
    text
}

/// What is said of a file tree before it is restored.
fn files_plan_text(plan: &FilesPlan) -> String {
    let free = plan
        .free_bytes
        .map_or_else(String::new, |free| format!(" of {} free", format_bytes(free)));
    format!(
        "  {} new, {} replaced, {} deleted, {} unchanged; {}{free} to write\n",
        plan.new,
        plan.replaced,
        plan.deleted,
        plan.unchanged,
        format_bytes(plan.bytes),
    )
}

/// What is said of a server before keys go into it.
fn redis_plan_text(plan: &RedisPlan) -> String {
    let target = plan.target_keys;
    let target = target.map_or("an unknown number".to_owned(), |keys| keys.to_string());
    let keys = plan.databases.iter();
    let keys: Vec<String> = keys.map(|(number, keys)| format!("{number}: {keys}")).collect();
    let mut text = format!("  keys by database {}; the target holds {target}\n", keys.join(", "));
    for line in plan.moves.iter().chain(&plan.left_out) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&powers_text(&plan.powers));
    for warning in &plan.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(restored: Vec<SourceReport>, errors: &[&str]) -> RestoreReport {
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

    fn sqlite(damaged: &[&str]) -> SourceReport {
        let damaged = damaged.iter().map(|line| (*line).to_owned()).collect();
        SourceReport::Sqlite(SqliteRestoreReport {
            integrity: Integrity {
                damaged,
                ..Integrity::default()
            },
            ..SqliteRestoreReport::default()
        })
    }

    #[test]
    fn the_status_is_of_what_came_back() {
        assert_eq!(report(vec![sqlite(&[])], &[]).status(), Status::Done);
        assert_eq!(report(vec![sqlite(&["page 7"])], &[]).status(), Status::Partial);
        assert_eq!(report(vec![sqlite(&[])], &["db: refused"]).status(), Status::Partial);
        assert_eq!(report(vec![], &["db: refused"]).status(), Status::Failed);
        assert_eq!(report(vec![], &[]).status(), Status::Done);
        let text = report(vec![sqlite(&["page 7"])], &["db: refused"]).text();
        let id = report(vec![], &[]).snapshot;
        assert_eq!(
            text,
            format!(
                "restored app into /srv/app.db (0 B)\n  it was damaged when it was stored, and came back so: page 7\n  \
                 `.recover` of the sqlite3 program saves its rows, or an older snapshot may be whole\n\
                 snapshot {id} of 2026-01-01 00:00; the same snapshot again: wirevault restore {id} --source app --from r\n\
                 failed: db: refused\n"
            )
        );
    }

    #[test]
    fn what_did_not_come_back_is_named_and_the_rest_is_counted() {
        let key = |name: &str| FailedKey {
            kind: "key".to_owned(),
            name: name.to_owned(),
            error: "refused".to_owned(),
            advice: "Look".to_owned(),
        };
        let mut keys = KeysRestored::default();
        keys.report.failed_keys = 3;
        keys.report.failed.push(key("0 a"));
        keys.report.losses.push(key("0 b"));
        let lines = SourceReport::Redis(keys.into()).failures();
        assert_eq!(
            lines,
            ["key 0 a: refused. Look", "and 2 keys more", "key 0 b: refused. Look"]
        );
        let volume = |lost| VolumeReport {
            lost,
            ..VolumeReport::default()
        };
        let of = |lost| {
            let volumes = vec![volume(0), volume(lost)];
            SourceReport::Volumes(VolumesRestored { bytes: 0, volumes })
                .failures()
                .len()
        };
        assert_eq!((of(0), of(2)), (0, 1));
    }
}
