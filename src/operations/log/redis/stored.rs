//! What of the streams of a source is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::archive::log::LogReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::position::ReplicationId;
use crate::repository::layout;
use crate::storage::{ListPage, ObjectKey, SharedStore};

/// Pieces of one source that are looked at, at most: bounds memory, 8 or 16 bytes each.
const MOST_PIECES: usize = 16 << 20;

/// A piece in a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    /// The offset where it begins.
    pub(super) from: u64,
    /// Bytes of the object.
    pub(super) stored_bytes: u64,
}

/// A page of a listing of pieces.
#[derive(Debug)]
pub(super) struct PiecePage {
    /// Pieces, and when they were stored.
    pub(super) pieces: Vec<(Listed, Timestamp)>,
    /// Pass it to the next call; None when this was the last page.
    pub(super) next: Option<String>,
}

/// The streams of one source in a repository.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) store: SharedStore,
    pub(super) source: String,
}

impl Streams {
    /// Names those of a source.
    pub(super) fn of(store: &SharedStore, source: &str) -> Self {
        Self {
            store: store.clone(),
            source: source.to_owned(),
        }
    }

    /// Returns where a piece lies.
    pub(super) fn key(&self, id: &ReplicationId, from: u64) -> Result<ObjectKey> {
        layout::commands(&self.source, id.as_str(), from)
    }

    /// Reads what the descriptor of a piece says.
    pub(super) async fn look(&self, id: &ReplicationId, from: u64) -> Result<Piece> {
        let key = self.key(id, from)?;
        let reader = LogReader::look(&self.store, &key).await?;
        described(&key, from, &reader)
    }

    /// Opens a piece whose bytes are wanted.
    pub(super) async fn open(&self, id: &ReplicationId, from: u64) -> Result<(LogReader, Piece)> {
        let key = self.key(id, from)?;
        let reader = LogReader::open(&self.store, &key).await?;
        let piece = described(&key, from, &reader)?;
        Ok((reader, piece))
    }

    /// Returns the last piece of a history; None where there is none.
    ///
    /// A history may have millions of pieces. So a listing of more than a page is narrowed digit by digit, from the highest on.
    pub(super) async fn newest(&self, id: &ReplicationId) -> Result<Option<Piece>> {
        let directory = format!("{}{id}/", layout::command_logs(&self.source));
        let mut waiting = vec![String::new()];
        while let Some(digits) = waiting.pop() {
            let page = self.list(&format!("{directory}{digits}"), None).await?;
            if page.next.is_some() && digits.len() < 20 {
                waiting.extend((0..10).map(|digit| format!("{digits}{digit}")));
                continue;
            }
            let newest = page.objects.iter().rev().find_map(|object| self.at(&object.key));
            if let Some((_, from)) = newest {
                return self.look(id, from).await.map(Some);
            }
        }
        Ok(None)
    }

    /// Returns whether anything is stored.
    pub(super) async fn any(&self) -> Result<bool> {
        let page = self.list(&layout::command_logs(&self.source), None).await?;
        Ok(!page.objects.is_empty())
    }

    /// Returns whether anything is stored of any source.
    pub(super) async fn any_at_all(store: &SharedStore) -> Result<bool> {
        let page = store.list(layout::COMMANDS, None).await;
        Ok(!page.context("list logs of commands")?.objects.is_empty())
    }

    /// Lists the offsets at which pieces begin, by history, in order.
    pub(super) async fn all(&self) -> Result<BTreeMap<ReplicationId, Vec<u64>>> {
        let (mut found, mut count): (BTreeMap<_, Vec<u64>>, _) = (BTreeMap::new(), 0_usize);
        let mut next = None;
        loop {
            let page = self.list(&layout::command_logs(&self.source), next).await?;
            for (id, from) in page.objects.iter().filter_map(|object| self.at(&object.key)) {
                found.entry(id).or_default().push(from);
                count += 1;
            }
            if count > MOST_PIECES {
                return Err(too_many(&self.source));
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Lists a page of the pieces of one history, with the times at which they were stored, by the store's clock.
    pub(super) async fn page(&self, id: &ReplicationId, next: Option<String>) -> Result<PiecePage> {
        let directory = format!("{}{id}/", layout::command_logs(&self.source));
        let page = self.list(&directory, next).await?;
        let pieces = page.objects.iter().filter_map(|object| {
            let (_, from) = self.at(&object.key)?;
            let stored_bytes = object.size_bytes;
            Some((Listed { from, stored_bytes }, object.modified))
        });
        Ok(PiecePage {
            pieces: pieces.collect(),
            next: page.next,
        })
    }

    /// Lists all streams of a repository, by source and history.
    pub(super) async fn every(store: &SharedStore) -> Result<BTreeMap<String, BTreeMap<ReplicationId, Vec<Listed>>>> {
        let (mut found, mut next): (BTreeMap<_, BTreeMap<_, Vec<Listed>>>, _) = (BTreeMap::new(), None);
        let mut of_source = (String::new(), 0_usize);
        loop {
            let page = store
                .list(layout::COMMANDS, next)
                .await
                .context("list logs of commands")?;
            for object in page.objects {
                let rest = object.key.as_str().strip_prefix(layout::COMMANDS);
                let Some((source, _)) = rest.and_then(|rest| rest.split_once('/')) else {
                    continue;
                };
                let Some((id, from)) = layout::commands_at(source, &object.key) else {
                    continue;
                };
                let Ok(id) = id.parse::<ReplicationId>() else { continue };
                let histories = found.entry(source.to_owned()).or_default();
                histories.entry(id).or_default().push(Listed {
                    from,
                    stored_bytes: object.size_bytes,
                });
                // The keys of a source follow one another.
                if of_source.0 != source {
                    of_source = (source.to_owned(), 0);
                }
                of_source.1 += 1;
                if of_source.1 > MOST_PIECES {
                    return Err(too_many(source));
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        let act = || format!("list the log of source \"{}\"", self.source);
        self.store.list(prefix, next).await.with_context(act)
    }

    /// Returns what the key of a piece says.
    fn at(&self, key: &ObjectKey) -> Option<(ReplicationId, u64)> {
        let (id, from) = layout::commands_at(&self.source, key)?;
        Some((id.parse().ok()?, from))
    }
}

fn too_many(source: &str) -> Error {
    let message = format!("the log of \"{source}\" has more than {MOST_PIECES} pieces");
    Error::new(ErrorKind::LimitExceeded, message)
}

fn described(key: &ObjectKey, from: u64, reader: &LogReader) -> Result<Piece> {
    Piece::read(from, reader.descriptor()).with_context(|| format!("log segment \"{key}\""))
}
