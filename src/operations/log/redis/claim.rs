//! Who receives the log of a source, as an object beside it: `log/redis/<source>/receiver.json`.
//!
//! It keeps two servers from sharing one name by mistake. Nothing rests on it: it may be lost or never written, and two receivers
//! of one server store the same bytes.

use std::time::Duration;

use bytes::Bytes;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::replica::History;
use crate::repository::holder::Holder;
use crate::repository::{document, layout};
use crate::storage::{ObjectKey, ObjectOptions, PutMode, SharedStore};

/// How often a receiver shows that it is at work.
pub(super) const SHOWN_EVERY: Duration = Duration::from_secs(60);

/// One that did not for so long, by the store's clock, has ended.
const GONE_AFTER: Duration = Duration::from_secs(150);

/// The object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct ClaimDocument {
    /// Repository format.
    format: u32,
    /// Which receiver it is: random.
    receiver: String,
    /// The host.
    host: String,
    /// Process id there.
    pid: u32,
    /// Which process that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    /// Up to where it had stored, as ID:OFFSET.
    stored_to: String,
    /// Whether it has ended.
    ended: bool,
}

/// Another receiver of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    /// Where it runs.
    pub(super) place: String,
    /// What it follows, and how far that was stored.
    pub(super) stored_to: Option<Position>,
    /// Whether it is at work.
    pub(super) is_live: bool,
}

impl Other {
    /// Returns whether it is at work, and follows a history.
    pub(super) fn is_at_work_on(&self, id: &ReplicationId) -> bool {
        self.is_live && self.stored_to.as_ref().is_some_and(|theirs| theirs.id == *id)
    }

    /// Fails if it follows a server of which this one shares no history.
    pub(super) fn is_of(&self, history: &History, source: &str) -> Result<()> {
        let Some(theirs) = self.stored_to.as_ref().filter(|_| self.is_live) else {
            return Ok(());
        };
        let before = history.before.as_ref().map(|before| &before.id);
        if theirs.id == history.now.id || before == Some(&theirs.id) {
            return Ok(());
        }
        let message = format!(
            "another server is received as source \"{source}\", by {}: it is at {theirs}, and this one at {}",
            self.place, history.now
        );
        Err(Error::invalid(message).with_hint(
            "Give this one a name of its own: --source NAME, or a [source.NAME] in the configuration. If it took the place of the \
             other one, end that receiver first.",
        ))
    }
}

/// What one receiver says of itself.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    store: SharedStore,
    key: ObjectKey,
    receiver: String,
    host: String,
}

impl Claim {
    pub(super) fn new(store: SharedStore, source: &str, host: String) -> Result<Self> {
        Ok(Self {
            store,
            key: layout::commands_receiver(source)?,
            receiver: format!("{:016x}", rand::random::<u64>()),
            host,
        })
    }

    /// Returns who received last, if that was another one.
    pub(super) async fn other(&self) -> Result<Option<Other>> {
        let act = || format!("read \"{}\"", self.key);
        let bytes = match self.store.get(&self.key, document::MAX_DOCUMENT_BYTES).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(act)?,
        };
        // One that is damaged says nothing.
        let Ok(theirs) = document::decode::<ClaimDocument>(&bytes) else {
            return Ok(None);
        };
        if theirs.receiver == self.receiver {
            return Ok(None);
        }
        let shown = self.store.head(&self.key).await.with_context(act)?.modified;
        let age = self.store.now().await.with_context(act)?.duration_since(shown);
        let is_dead = theirs.host == self.host && theirs.holder.is_some_and(|holder| holder.is_gone(theirs.pid));
        Ok(Some(Other {
            place: format!("process {} of host \"{}\"", theirs.pid, theirs.host),
            stored_to: theirs.stored_to.parse().ok(),
            is_live: !theirs.ended && !is_dead && age <= exact::saturating_signed(GONE_AFTER),
        }))
    }

    /// Shows that this receiver is at work, or has ended.
    pub(super) async fn show(self, stored_to: Position, ended: bool) -> Result<()> {
        let body = document::encode(&ClaimDocument {
            format: document::FORMAT,
            receiver: self.receiver,
            host: self.host,
            pid: std::process::id(),
            holder: Holder::this(),
            stored_to: stored_to.to_string(),
            ended,
        })?;
        let (mode, options) = (PutMode::Overwrite, ObjectOptions::default());
        let put = self.store.put(&self.key, Bytes::from(body), mode, &options).await;
        put.with_context(|| format!("write \"{}\"", self.key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::storage::memory::MemoryStore;

    #[tokio::test]
    async fn a_receiver_of_another_server_is_refused_while_one_is_at_work() {
        let store = Arc::new(MemoryStore::new());
        let claim = |host: &str| Claim::new(store.clone(), "cache", host.to_owned()).unwrap();
        let position = |digit: &str| Position {
            id: digit.repeat(40).parse().unwrap(),
            offset: 7,
        };
        let history = |now: &str, before: Option<&str>| History {
            now: position(now),
            before: before.map(position),
        };
        let (one, two) = (claim("web1"), claim("web2"));
        assert_eq!(two.other().await.unwrap(), None);
        one.clone().show(position("a"), false).await.unwrap();
        assert_eq!(one.other().await.unwrap(), None);
        let other = two.other().await.unwrap().unwrap();
        other.is_of(&history("a", None), "cache").unwrap();
        other.is_of(&history("b", Some("a")), "cache").unwrap();
        let error = other.is_of(&history("b", Some("c")), "cache").unwrap_err();
        assert!(error.hint().unwrap().contains("--source NAME"), "{error:?}");

        // It has ended, with a word or without.
        store.advance(SignedDuration::from_secs(151));
        assert!(!two.other().await.unwrap().unwrap().is_live);
        one.clone().show(position("a"), false).await.unwrap();
        assert!(two.other().await.unwrap().unwrap().is_live);
        one.show(position("a"), true).await.unwrap();
        let other = two.other().await.unwrap().unwrap();
        assert!(!other.is_live && other.stored_to == Some(position("a")));
        other.is_of(&history("b", None), "cache").unwrap();
    }
}
