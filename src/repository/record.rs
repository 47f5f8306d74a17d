//! Records of runs: what a job, drill or rule did, when, and how it ended. Also, and above all, of runs that left no snapshot.
//!
//! A record is written once, when a run has ended, under a key that is unique to it; nothing rewrites it. The newest
//! [`KEPT`] of each task stay, older ones are removed where the credentials allow it. Nothing that restores depends on them:
//! they say what cannot be seen in snapshots, so that a new process, or another host, knows it as well.

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::base::error::{Context, ErrorKind, Result};
use crate::base::exact;
use crate::repository::PlannedSchedule;
use crate::repository::{Repository, SnapshotId, document, is_ahead, layout};
use crate::storage::{ObjectKey, ObjectOptions, PutMode};

/// Records of one task that stay.
pub const KEPT: usize = 20;

/// Records that are read in all. Each task has at least its newest among them, up to this number of tasks.
const READ: usize = 2000;

/// Records that are read at once.
const CONCURRENT_READS: usize = 8;

/// Lines of the log that a record keeps, and characters of each text in it.
const LOG_LINES: usize = 20;
const TEXT_CHARS: usize = 2000;

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// A backup.
    Backup,
    /// A copy into a repository that was left behind.
    Copy,
    /// A verification.
    Drill,
    /// A rule for local files.
    Cleanup,
}

impl TaskKind {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::Drill => "drill",
            Self::Cleanup => "cleanup",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// All of it was done.
    Done,
    /// Some of it was not.
    Partial,
    /// None of it was, or damage was found.
    Failed,
}

/// The record of one run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunRecord {
    /// Repository format.
    pub format: u32,
    /// Host that ran it.
    pub host: String,
    /// What it was.
    pub task: TaskKind,
    /// Name of the job, drill or rule.
    pub name: String,
    /// When it began, by the host's clock.
    pub started: Timestamp,
    /// When it ended, by the host's clock.
    pub ended: Timestamp,
    /// How.
    pub outcome: RunOutcome,
    /// What was not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// The snapshots that it made, or found to be up to date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotId>,
    /// The sources that the job had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<RecordedSource>,
    /// When the job was to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PlannedSchedule>,
    /// Version of the program.
    pub program: String,
}

/// A source of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct RecordedSource {
    /// Its name.
    pub name: String,
    /// Whether its failure is only a warning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl RunRecord {
    /// Returns how long it took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.ended
            .duration_since(self.started)
            .max(SignedDuration::ZERO)
            .as_secs_f64()
    }

    /// Returns whether it is the record of the same run.
    pub fn is_of_the_run(&self, other: &Self) -> bool {
        (&self.host, self.task, &self.name, self.started, self.ended)
            == (&other.host, other.task, &other.name, other.started, other.ended)
    }

    /// Returns its document. Long texts are cut.
    pub fn encode(&self) -> Result<Bytes> {
        let cut = |text: &String| text.chars().take(TEXT_CHARS).collect::<String>();
        let mut short = self.clone();
        short.error = self.error.as_ref().map(cut);
        short.hint = self.hint.as_ref().map(cut);
        let from = self.log.len().saturating_sub(LOG_LINES);
        short.log = self.log.iter().skip(from).map(cut).collect();
        document::encode(&short).map(Bytes::from)
    }

    /// Reads its document.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        document::decode(bytes)
    }

    /// Returns a name that no other record of the task has; names sort by the end of the run.
    pub fn file_name(&self) -> String {
        let nanoseconds = exact::saturating_u64(self.ended.subsec_nanosecond());
        let unique = (nanoseconds << 34) | (rand::random::<u64>() >> 30);
        format!("{}-{unique:016x}.json", self.ended.strftime("%Y%m%dT%H%M%SZ"))
    }

    /// Returns the prefix of its task's records.
    pub fn directory(&self) -> String {
        layout::records(&self.host, self.task.word(), &self.name)
    }
}

impl Repository {
    /// Keeps a record under `file_name`, and removes those of its task that are too old. The same record may be written again.
    pub async fn write_record(&self, record: &RunRecord, file_name: &str) -> Result<()> {
        let directory = record.directory();
        let key = ObjectKey::new(format!("{directory}{file_name}"))?;
        let options = ObjectOptions::default();
        let put = self.store().put(&key, record.encode()?, PutMode::Overwrite, &options);
        put.await.context("write the record of the run")?;
        // Credentials that can only add keep them all; reading takes the newest.
        if let Ok(mut keys) = self.keys_below(&directory).await {
            // The new one stays, also beside older ones that a wrong clock dated after it.
            keys.retain(|one| *one != key);
            keys.sort();
            let old = (keys.len() + 1).saturating_sub(KEPT);
            for key in keys.iter().take(old) {
                if let Err(error) = self.store().delete(key).await {
                    tracing::debug!("an old record stays: {}", error.chain());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns the records that tell how things stand: of each task the newest, back to the last run that was well. Newest
    /// first. What cannot be read is passed over.
    pub async fn records(&self) -> Result<Vec<RunRecord>> {
        self.records_below(layout::RECORDS).await
    }

    /// Returns the same of one task of a host.
    pub async fn records_of(&self, host: &str, task: TaskKind, name: &str) -> Result<Vec<RunRecord>> {
        self.records_below(&layout::records(host, task.word(), name)).await
    }

    async fn records_below(&self, prefix: &str) -> Result<Vec<RunRecord>> {
        let now = self.clock().await;
        let mut keys = self.keys_below(prefix).await?;
        keys.sort();
        let directory = |key: &ObjectKey| key.as_str().rsplit_once('/').map(|(directory, _)| directory.to_owned());
        let tasks: Vec<Vec<ObjectKey>> = keys
            .chunk_by(|a, b| directory(a) == directory(b))
            .map(|keys| keys.iter().rev().take(KEPT).cloned().collect())
            .collect();
        let each = (READ / tasks.len().max(1)).clamp(1, KEPT);
        let read = |keys: Vec<ObjectKey>| async move {
            let mut found = Vec::new();
            for key in keys.iter().take(each) {
                if let Some(record) = self.record(key).await? {
                    let well = record.outcome == RunOutcome::Done && !is_ahead(record.ended, now);
                    found.push(record);
                    if well {
                        break;
                    }
                }
            }
            Ok::<_, crate::Error>(found)
        };
        let tasks = tasks.into_iter().take(READ).map(read);
        let mut found = futures_util::stream::iter(tasks).buffer_unordered(CONCURRENT_READS);
        let mut records: Vec<RunRecord> = Vec::new();
        while let Some(some) = found.next().await {
            records.extend(some?);
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.ended));
        Ok(records)
    }

    /// Reads one; `None` if it is gone or damaged.
    async fn record(&self, key: &ObjectKey) -> Result<Option<RunRecord>> {
        let bytes = match self.store().get(key, document::MAX_DOCUMENT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::LimitExceeded) => return Ok(None),
            Err(error) => return Err(error.context("read the record of a run")),
        };
        match RunRecord::decode(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!("ignoring record \"{key}\": {}", error.chain());
                Ok(None)
            }
        }
    }

    /// Lists every key below a prefix.
    pub(super) async fn keys_below(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        let (mut keys, mut next) = (Vec::new(), None);
        loop {
            let page = self.store().list(prefix, next).await;
            let page = page.with_context(|| format!("list \"{prefix}\""))?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            next = page.next;
            if next.is_none() {
                return Ok(keys);
            }
        }
    }
}
