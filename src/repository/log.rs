//! What of logs lies in a repository: listed in key order, with memory for one page.

use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result, if_there};
use crate::repository::layout::{self, WalKey};
use crate::repository::{Repository, document};
use crate::storage::ObjectKey;

/// The newest format of [`SeenLog`] that is read.
const SEEN_FORMAT: u32 = 1;

/// Parts of one segment that are listed, at most.
const MOST_PARTS: usize = 100_000;

/// A stored file of a write-ahead log, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLog {
    /// Its key.
    pub key: ObjectKey,
    /// The system that wrote it.
    pub system: u64,
    /// Its name without what stands around it in the key; of a part, the name of the segment.
    pub name: String,
    /// Of a part of a segment that is still being written: the offsets at which it begins and ends.
    pub part: Option<(u32, u32)>,
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
}

/// Up to where a server had sent its log at a moment by its own clock. What is written of it tells when nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SeenLog {
    /// Format of the document.
    pub format: u32,
    /// The branch of the log.
    pub timeline: u32,
    /// The position, as the engine writes it; all before it is stored.
    pub lsn: String,
    /// The moment.
    pub at: Timestamp,
}

/// A page of a listing of logs.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// Files of logs, in the order of their keys.
    pub logs: Vec<ListedLog>,
    /// Objects among them whose key is none of a log.
    pub foreign: u64,
    /// Pass it to the next call; `None` when this was the last page.
    pub next: Option<String>,
}

impl Repository {
    /// Lists a page of what lies under `wal/`, or of what of it one system wrote, in the order of keys: systems one after
    /// another, of each its timelines, of each the segments by number.
    pub async fn logs(&self, system: Option<u64>, next: Option<String>) -> Result<LogPage> {
        let prefix = system.map_or_else(|| layout::WAL.to_owned(), layout::wal_system);
        self.page(&prefix, next).await
    }

    async fn page(&self, prefix: &str, next: Option<String>) -> Result<LogPage> {
        let listed = self.store().list(prefix, next).await.context("list logs")?;
        let mut page = LogPage {
            next: listed.next,
            ..LogPage::default()
        };
        for object in listed.objects {
            let (system, name, part) = match layout::wal_key(&object.key) {
                Some(WalKey::File(system, name)) => (system, name.to_owned(), None),
                Some(WalKey::Part(system, name, range)) => (system, name.to_owned(), Some(range)),
                Some(WalKey::Seen(_)) => continue,
                None => {
                    page.foreign += 1;
                    continue;
                }
            };
            page.logs.push(ListedLog {
                system,
                name,
                part,
                stored_bytes: object.size_bytes,
                stored: object.modified,
                key: object.key,
            });
        }
        Ok(page)
    }

    /// Lists the parts of a segment that is still being written, in the order of their offsets.
    pub async fn log_parts(&self, system: u64, timeline: u32, segment: &str) -> Result<Vec<ListedLog>> {
        let prefix = layout::wal_parts(system, timeline, segment);
        let (mut parts, mut next) = (Vec::new(), None);
        loop {
            let page = self.page(&prefix, next).await?;
            parts.extend(page.logs.into_iter().filter(|log| log.part.is_some()));
            next = page.next;
            // A receiver leaves no more than one each second of a segment; whoever leaves more is none.
            if next.is_none() || parts.len() > MOST_PARTS {
                return Ok(parts);
            }
        }
    }

    /// Goes through all pages. `each` returns whether to go on. Returns how many objects bear no name of a log.
    pub async fn for_each_log(
        &self,
        system: Option<u64>,
        each: &mut (dyn FnMut(ListedLog) -> bool + Send),
    ) -> Result<u64> {
        let (mut next, mut foreign) = (None, 0);
        loop {
            let page = self.logs(system, next).await?;
            foreign += page.foreign;
            for log in page.logs {
                if !each(log) {
                    return Ok(foreign);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(foreign);
            }
        }
    }

    /// Reads up to where a server was seen, if whoever receives its log writes it.
    pub async fn seen_log(&self, system: u64) -> Result<Option<SeenLog>> {
        let key = layout::wal_seen(system)?;
        let act = || format!("read \"{key}\"");
        let bytes = match if_there(self.store().get(&key, document::MAX_DOCUMENT_BYTES).await) {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => Err(Error::corrupt("it is too large")),
            read => read,
        };
        let Some(bytes) = bytes.with_context(act)? else {
            return Ok(None);
        };
        let seen: SeenLog = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt("it says no position and moment").with_cause(error))
            .with_context(act)?;
        if seen.format > SEEN_FORMAT {
            let message = format!("it has format {}, this program reads up to {SEEN_FORMAT}", seen.format);
            return Err(Error::unsupported(message).with_hint("Use a newer version of wirevault.")).with_context(act);
        }
        Ok(Some(seen))
    }

    /// Returns the systems whose logs are here, two at most: more than one is one too many for whoever asks.
    pub async fn log_systems(&self) -> Result<Vec<u64>> {
        let mut systems = Vec::new();
        self.for_each_log(None, &mut |log| {
            if systems.last() != Some(&log.system) {
                systems.push(log.system);
            }
            systems.len() < 2
        })
        .await?;
        Ok(systems)
    }
}
