//! Bringing keys back, into a server or into a file: where to, how, and what is said of it.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::printable;
use crate::engines::redact::redact_url;
use crate::engines::redis::flags::RestoreRedis;
use crate::engines::redis::source_url::without_database;
use crate::engines::redis::stored::{Verified, Written, write_files};
use crate::engines::redis::{FailedKey, KIND, RedisPlan, RedisRestore, RedisRestoreOptions, RedisSpec, Tally};
use crate::engines::restorer::make_parents;
use crate::engines::{
    KeptSnapshot, RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, Spec, TargetPlan, Tools,
};

/// Notes of a snapshot that is not all keys of its server, so that the server is not emptied after it.
const WITHOUT_KEYS: &[&str] = &["databases-not-shown", "cluster-not-known", "module-data-not-stored"];

/// What a person does with an RDB.
const RDB_ADVICE: &str = "stop the server, put the file into its data directory under the name in `dbfilename`, and \
                          start it; if appendonly is on, move appendonlydir away and start with appendonly no, \
                          because the AOF takes precedence over the RDB";

/// Decides whether keys go into a server or a file.
pub(super) fn restorer(request: RestoreRequest) -> Result<Box<dyn Restorer>> {
    let flags: RestoreRedis = request.options.engines.of();
    if flags.listen.is_some() {
        let message = format!(
            "--listen is for a restore by a log into a server, and source \"{}\" comes back as of a snapshot",
            request.source
        );
        return Err(Error::invalid(message).with_hint("Leave --listen out."));
    }
    let Some(given) = &request.into else {
        let place = request.place.as_ref().ok_or_else(|| request.has_no_place())?;
        let mut server: RedisSpec = place.of_engine::<RedisSpec>(KIND)?.clone();
        // Keys of a whole server go back by their own numbers, whatever the number of its place: only a given place moves them.
        let of_one = request
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome.position.contains_key("database"));
        if !of_one {
            server.url = without_database(&server.url);
        }
        return Ok(Box::new(KeysRestorer::new(server, request)));
    };
    if let Some(spec) = &given.spec {
        let server = spec.downcast_ref::<RedisSpec>().filter(|_| !request.is_one_of_several);
        let server = server.ok_or_else(|| request.cannot_go_into(given))?.clone();
        return Ok(Box::new(KeysRestorer::new(server, request)));
    }
    let path = PathBuf::from(given.text.strip_prefix("file:").unwrap_or(&given.text));
    let path = if request.is_one_of_several || given.is_directory(&path) {
        path.join(&request.source).join("dump.rdb")
    } else {
        path
    };
    Ok(Box::new(RdbRestorer {
        path,
        task: request.source,
        clean: request.options.clean,
        tools: request.tools,
    }))
}

/// Brings keys back into a server.
#[derive(Debug)]
struct KeysRestorer {
    server: RedisSpec,
    request: RestoreRequest,
    planned: Option<(RedisRestore, RedisPlan)>,
    verified: Option<Vec<Verified>>,
    /// The snapshot of what is removed, for people.
    kept: Option<String>,
}

impl KeysRestorer {
    fn new(server: RedisSpec, request: RestoreRequest) -> Self {
        Self {
            server,
            request,
            planned: None,
            verified: None,
            kept: None,
        }
    }
}

#[async_trait(?Send)]
impl Restorer for KeysRestorer {
    fn target(&self) -> String {
        redact_url(&self.server.url)
    }

    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        let flags: RestoreRedis = self.request.options.engines.of();
        let restore = RedisRestore {
            address: self.server.address()?,
            reader: reader.clone(),
            options: RedisRestoreOptions {
                clean: self.request.options.clean,
                conflict: flags.conflict,
                keys: flags.key,
                users: flags.users,
            },
            task: self.request.source.clone(),
            reporter: self.request.tools.reporter.clone(),
            cancel: self.request.tools.cancel.clone(),
        };
        let plan = Box::pin(restore.plan()).await?;
        self.planned = Some((restore, plan.clone()));
        Ok(Some(Box::new(plan)))
    }

    /// The whole RDB is verified before anything is removed.
    async fn to_keep(&mut self) -> Result<Option<Spec>> {
        let Some((restore, plan)) = &self.planned else {
            return Err(not_planned());
        };
        let verified = self.request.tools.or_cancelled(restore.verify()).await?;
        self.verified = Some(verified);
        let removes = restore.options.clean && plan.removes_something();
        Ok(removes.then(|| -> Spec { Box::new(self.server.clone()) }))
    }

    fn is_kept(&mut self, snapshot: KeptSnapshot) -> Result<()> {
        refuse_lacking(&snapshot)?;
        self.kept = Some(format!("snapshot {}", snapshot.id));
        Ok(())
    }

    async fn restore(self: Box<Self>, _: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        let (Some((restore, plan)), Some(verified)) = (self.planned, self.verified) else {
            return Err(not_planned());
        };
        let (kept, powers) = (self.kept, plan.powers.clone());
        let loading = Box::pin(restore.run(plan, verified));
        let done = self.request.tools.or_cancelled(loading).await;
        let done = done.map_err(|error| match &kept {
            Some(kept) => error
                .context("load keys after the target was emptied")
                .with_hint(format!("Its previous data is in {kept}.")),
            None => error,
        })?;
        Ok(Box::new(KeysRestored {
            bytes: self.request.outcome.as_ref().map(|outcome| outcome.raw_bytes),
            previous: kept,
            powers,
            report: done,
        }))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        Err(not_settled(how))
    }
}

/// Refuses a snapshot of what is removed that does not hold all of it.
pub(crate) fn refuse_lacking(snapshot: &KeptSnapshot) -> Result<()> {
    if !snapshot.notes.iter().any(|code| WITHOUT_KEYS.contains(&code.as_str())) {
        return Ok(());
    }
    let message = format!(
        "snapshot {} may not contain everything that would be removed",
        snapshot.id
    );
    Err(Error::new(ErrorKind::Denied, message)
        .with_hint("Nothing was removed. See the log for what is missing, and give the user the permissions for it."))
}

fn not_planned() -> Error {
    Error::invalid("a restore into a server has no plan")
}

fn not_settled(how: Settle) -> Error {
    let error = how.is_not_done(KIND.word());
    match how {
        Settle::Finish => error,
        Settle::Undo => error.with_hint(
            "A restore with --clean saves the removed data in a snapshot and prints its id: restore that one with \
             --clean.",
        ),
    }
}

/// Writes the RDB into a file, for a server that is stopped.
#[derive(Debug)]
struct RdbRestorer {
    path: PathBuf,
    task: String,
    clean: bool,
    tools: Tools,
}

#[async_trait(?Send)]
impl Restorer for RdbRestorer {
    fn target(&self) -> String {
        self.path.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        if self.clean || self.path.symlink_metadata().is_err() {
            return Ok(());
        }
        let message = format!("\"{}\" exists", self.path.display());
        Err(Error::new(ErrorKind::AlreadyExists, message)
            .with_hint("Add --clean to replace it (the old file is not kept), or choose another --into."))
    }

    async fn plan(&mut self, _: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        Ok(None)
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        make_parents(&self.path)?;
        let to = (self.task.as_str(), &self.tools.reporter);
        let done = write_files(&reader, &self.path, self.clean, to, &self.tools.cancel).await?;
        Ok(Box::new(RdbWritten {
            bytes: done.bytes,
            report: done,
            advice: RDB_ADVICE,
        }))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        Err(not_settled(how))
    }
}

/// Keys that went into a server.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct KeysRestored {
    /// Bytes of the backup, if it says so.
    pub bytes: Option<u64>,
    /// The snapshot that holds what the target had before.
    pub previous: Option<String>,
    /// What of the backup runs code with power, or gives it.
    pub powers: Vec<String>,
    /// What was loaded.
    pub report: Tally,
}

/// An RDB, or several, that stand in files.
#[derive(Debug, serde::Serialize)]
pub struct RdbWritten {
    /// Bytes written.
    pub bytes: u64,
    /// What was written.
    pub report: Written,
    /// What a person does with them.
    pub advice: &'static str,
}

impl TargetPlan for RedisPlan {
    fn text(&self) -> String {
        let target = self.target_keys;
        let target = target.map_or("an unknown number".to_owned(), |keys| keys.to_string());
        let keys = self.databases.iter();
        let keys: Vec<String> = keys.map(|(number, keys)| format!("{number}: {keys}")).collect();
        let mut text = format!("  keys by database {}; the target holds {target}\n", keys.join(", "));
        for line in self.moves.iter().chain(&self.left_out) {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str(&powers_text(&self.powers));
        for warning in &self.warnings {
            text.push_str(&format!("  warning: {warning}\n"));
        }
        text
    }
}

impl RestoreReport for KeysRestored {
    fn bytes(&self) -> u64 {
        self.bytes.unwrap_or(0)
    }

    fn failures(&self) -> Vec<String> {
        let mut lines = failed_keys(&self.report.failed, self.report.failed_keys);
        lines.extend(self.report.losses.iter().map(key_line));
        lines
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(previous) = &self.previous {
            text.push_str(&format!("  the previous data is kept in {previous}\n"));
        }
        let tally = &self.report;
        text.push_str(&format!("  {} keys restored", tally.restored));
        for (count, words) in [
            (tally.functions, "function libraries"),
            (tally.users, "users"),
            (tally.transcoded, "of them in another encoding"),
            (tally.replayed, "of them by ordinary commands"),
            (tally.expired, "expired meanwhile"),
            (tally.skipped, "unchanged"),
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
                "  the users are not saved to disk by the server yet: run ACL SAVE or CONFIG REWRITE there\n",
            );
        }
        text + &powers_text(&self.powers)
    }

    fn summary(&self) -> String {
        let tally = &self.report;
        format!(
            "{} keys restored, {} expired meanwhile, {} failed",
            tally.restored, tally.expired, tally.failed_keys
        )
    }
}

impl RestoreReport for RdbWritten {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failures(&self) -> Vec<String> {
        failed_keys(&self.report.failed, self.report.failed_keys)
    }

    fn text(&self) -> String {
        format!("  {}\n", self.advice)
    }
}

fn key_line(key: &FailedKey) -> String {
    let fields = [&key.kind, &key.name, &key.error, &key.advice];
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

/// Says what the keys bring with them.
fn powers_text(powers: &[String]) -> String {
    powers.iter().fold(String::new(), |text, line| {
        format!("{text}  the backup contains {line}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            keys.failures(),
            ["key 0 a: refused. Look", "and 2 keys more", "key 0 b: refused. Look"]
        );
    }
}
