//! `cleanup`: removes plain local files that are older than a rule allows, and what nobody uses on a Docker engine.
//!
//! Deciding and doing are two steps: without `--delete` it only says what would go.

mod docker;
mod files;
pub(super) mod mounts;
mod walls;

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::nearest::nearest;
use crate::base::units::format_bytes;
use crate::config::{CleanupConfig, CleanupScope};
use crate::operations::options;
use crate::operations::{Report, Session, Status, document_of};

pub use docker::Unwanted;

/// Paths and names that a report holds; the rest is counted.
const MAX_NAMED: usize = 1000;

/// What a rule found, or did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Cleaned {
    /// The rule.
    pub rule: String,
    /// Whether anything was removed.
    pub deleted: bool,
    /// Files or things older than the rule allows.
    pub items: u64,
    /// The same by kind, for people.
    pub counted: String,
    /// Their size in bytes; of images, with the layers they share.
    pub bytes: u64,
    /// What would match and is not old enough.
    pub kept: u64,
    /// The first of the old ones: paths relative to the rule's directory, or kinds and names.
    pub paths: Vec<String>,
    /// What was not entered or stays, although the rule would reach it, and why.
    pub spared: Vec<String>,
    /// What could not be looked at or removed.
    pub failures: Vec<String>,
}

/// What `cleanup` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct CleanupReport {
    /// Each rule that was applied.
    pub cleanup: Vec<Cleaned>,
}

impl Report for CleanupReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        self.cleanup.iter().map(text_of).collect()
    }

    fn status(&self) -> Status {
        self.cleanup
            .iter()
            .map(Cleaned::status)
            .fold(Status::Done, Status::worse)
    }
}

impl Cleaned {
    /// Returns how the rule ended.
    pub(crate) fn status(&self) -> Status {
        if self.failures.is_empty() {
            Status::Done
        } else {
            Status::Partial
        }
    }
}

/// Applies the rules that were named, or all.
pub async fn run(session: &Session, options: &options::Cleanup) -> Result<CleanupReport> {
    let rules = &session.config.cleanups;
    for name in &options.rules {
        if !rules.iter().any(|rule| rule.name == *name) {
            let error = Error::invalid(format!("{} has no [cleanup.{name}]", session.config.origin));
            return Err(match nearest(name, rules.iter().map(|rule| rule.name.as_str())) {
                Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                None => error.with_hint("Write [cleanup.NAME] with path, glob and keep into wirevault.toml."),
            });
        }
    }
    let mut cleanup = Vec::new();
    for rule in rules {
        if options.rules.is_empty() || options.rules.contains(&rule.name) {
            cleanup.push(apply(session, rule, options.delete).await?);
        }
    }
    Ok(CleanupReport { cleanup })
}

/// Applies one rule.
pub(crate) async fn apply(session: &Session, rule: &CleanupConfig, delete: bool) -> Result<Cleaned> {
    session.check_cancelled()?;
    let now = Timestamp::now();
    match &rule.reach {
        CleanupScope::Files { .. } => {
            let rule = rule.clone();
            let walls = walls::Walls::of(session).await?;
            tokio::task::spawn_blocking(move || match &rule.reach {
                CleanupScope::Files { path, globs } => files::clean(&rule, path, globs, &walls, now, delete),
                CleanupScope::Docker { .. } => Ok(Cleaned::default()),
            })
            .await
            .map_err(|e| Error::new(ErrorKind::Other, "the clean-up thread ended early").with_cause(e))?
        }
        CleanupScope::Docker { .. } => {
            let unwanted = Unwanted::of(rule, &docker::record_directory(session))?;
            let unwanted = unwanted.sparing(&session.config.sources)?;
            session.or_cancelled(unwanted.clean(now, delete)).await
        }
    }
}

fn text_of(cleaned: &Cleaned) -> String {
    let did = if cleaned.deleted { "removed" } else { "would remove" };
    let mut text = String::new();
    for path in &cleaned.paths {
        text.push_str(&format!("{did} {path}\n"));
    }
    for one in &cleaned.spared {
        text.push_str(&format!("left alone: {one}\n"));
    }
    for failure in &cleaned.failures {
        text.push_str(&format!("failed: {failure}\n"));
    }
    let (counted, size) = (&cleaned.counted, format_bytes(cleaned.bytes));
    text.push_str(&format!(
        "{}: {did} {counted}, {size}; {} are too new to remove\n",
        cleaned.rule, cleaned.kept
    ));
    text
}
