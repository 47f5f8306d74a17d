//! Who receives the log of a source, as an object for each beside it: `log/redis/<source>/receivers/<digest>-<receiver>.json`. The
//! digest is that of host and server, and the rest is random: one on a copy of the machine takes nobody's place.
//!
//! They keep two servers from sharing one name by mistake. Nothing else rests on them: they may be lost or never written, and two
//! receivers of one server store the same bytes.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

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

/// One that did not for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);

/// Objects that are looked at, at most.
const MOST: usize = 256;

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
    /// When it began, by the clock of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Timestamp>,
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
    /// Whether it began before this one.
    pub(super) is_elder: bool,
    /// Whether it follows the same server on a host of the same name: it is the one before this one, or runs on a copy of the machine.
    is_of_the_place: bool,
    key: ObjectKey,
}

impl Other {
    /// Returns whether it is at work, and follows a history.
    pub(super) fn is_at_work_on(&self, id: &ReplicationId) -> bool {
        self.is_live && self.stored_to.as_ref().is_some_and(|theirs| theirs.id == *id)
    }

    /// Fails if it follows a server of which this one shares no history.
    pub(super) fn is_of(&self, history: &History, source: &str) -> Result<()> {
        // A server may have lost its history since the receiver before this one was killed.
        let is_meant = self.is_live && !self.is_of_the_place;
        let Some(theirs) = self.stored_to.as_ref().filter(|_| is_meant) else {
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
    source: String,
    /// The keys of those that follow the same server on a host of the same name begin with it.
    place: String,
    receiver: String,
    host: String,
    begun: Timestamp,
}

impl Claim {
    /// Of a receiver on a host, which follows the server at a place.
    pub(super) fn new(store: SharedStore, source: &str, host: String, place: &str) -> Result<Self> {
        let digest = document::sha256_hex(format!("{host}\n{place}").as_bytes());
        let digest = exact::text(&digest, ..16, "SHA-256 has 64 digits");
        let claim = Self {
            store,
            source: source.to_owned(),
            place: digest.to_owned(),
            receiver: format!("{:016x}", rand::random::<u64>()),
            host,
            begun: Timestamp::now(),
        };
        claim.key()?;
        Ok(claim)
    }

    fn key(&self) -> Result<ObjectKey> {
        layout::commands_receiver(&self.source, &format!("{}-{}", self.place, self.receiver))
    }

    /// Returns the others that received within a day, or still do.
    pub(super) async fn others(&self) -> Result<Vec<Other>> {
        let act = || format!("look who receives source \"{}\"", self.source);
        let prefix = layout::commands_receivers(&self.source);
        let listed = self.store.list(&prefix, None).await.with_context(act)?.objects;
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let (now, mut others) = (self.store.now().await.with_context(act)?, Vec::new());
        for object in listed.into_iter().take(MOST) {
            let age = now.duration_since(object.modified);
            if age > exact::saturating_signed(FORGOTTEN_AFTER) {
                if let Err(error) = self.store.delete(&object.key).await {
                    tracing::debug!("{}", error.chain());
                }
                continue;
            }
            let bytes = match self.store.get(&object.key, document::MAX_DOCUMENT_BYTES).await {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                bytes => bytes.with_context(act)?,
            };
            // One that is damaged says nothing.
            let Ok(theirs) = document::decode::<ClaimDocument>(&bytes) else {
                continue;
            };
            if theirs.receiver == self.receiver {
                continue;
            }
            let is_dead = theirs.host == self.host && theirs.holder.is_some_and(|holder| holder.is_gone(theirs.pid));
            let of_the_place = format!("{prefix}{}", self.place);
            others.push(Other {
                is_elder: (theirs.begun, &theirs.receiver) < (Some(self.begun), &self.receiver),
                is_of_the_place: object.key.as_str().starts_with(&of_the_place),
                key: object.key,
                place: format!("process {} of host \"{}\"", theirs.pid, theirs.host),
                stored_to: theirs.stored_to.parse().ok(),
                is_live: !theirs.ended && !is_dead && age <= exact::saturating_signed(GONE_AFTER),
            });
        }
        Ok(others)
    }

    /// Shows that this receiver is at work, and returns the others: of two that begin at once, one at least sees the other. Takes
    /// away what those before it on the same host have left.
    pub(super) async fn show(self, stored_to: Position) -> Result<Vec<Other>> {
        self.put(stored_to, false).await?;
        let others = self.others().await?;
        for other in others.iter().filter(|other| other.is_of_the_place && !other.is_live) {
            if let Err(error) = self.store.delete(&other.key).await {
                tracing::debug!("{}", error.chain());
            }
        }
        Ok(others)
    }

    /// Shows that this receiver has ended.
    pub(super) async fn end(self, stored_to: Position) -> Result<()> {
        self.put(stored_to, true).await
    }

    async fn put(&self, stored_to: Position, ended: bool) -> Result<()> {
        let key = self.key()?;
        let body = document::encode(&ClaimDocument {
            format: document::FORMAT,
            receiver: self.receiver.clone(),
            host: self.host.clone(),
            begun: Some(self.begun),
            pid: std::process::id(),
            holder: Holder::this(),
            stored_to: stored_to.to_string(),
            ended,
        })?;
        let (mode, options) = (PutMode::Overwrite, ObjectOptions::default());
        let put = self.store.put(&key, Bytes::from(body), mode, &options).await;
        put.with_context(|| format!("write \"{key}\""))
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
        let claim = |host: &str, place: &str| Claim::new(store.clone(), "cache", host.to_owned(), place).unwrap();
        let position = |digit: &str| Position {
            id: digit.repeat(40).parse().unwrap(),
            offset: 7,
        };
        let history = |now: &str, before: Option<&str>| History {
            now: position(now),
            before: before.map(position),
        };
        let (one, two) = (claim("web1", "redis://one"), claim("web2", "redis://two"));
        assert_eq!(two.others().await.unwrap(), []);
        let the_other = async || match two.others().await.unwrap().as_slice() {
            [other] => other.clone(),
            others => unreachable!("{others:?}"),
        };
        assert_eq!(one.clone().show(position("a")).await.unwrap(), []);
        let seen = two.clone().show(position("a")).await.unwrap();
        assert!(matches!(seen.as_slice(), [other] if other.is_elder), "{seen:?}");
        let seen = one.others().await.unwrap();
        assert!(matches!(seen.as_slice(), [other] if !other.is_elder), "{seen:?}");
        let other = the_other().await;
        assert!(other.is_at_work_on(&position("a").id) && !other.is_at_work_on(&position("b").id));
        other.is_of(&history("a", None), "cache").unwrap();
        other.is_of(&history("b", Some("a")), "cache").unwrap();
        let error = other.is_of(&history("b", Some("c")), "cache").unwrap_err();
        assert!(error.hint().unwrap().contains("--source NAME"), "{error:?}");

        // On a copy of the machine: it is seen, and takes nobody's place. But its server may be the same one without its history.
        let copy = claim("web1", "redis://one");
        let seen = copy.clone().show(position("a")).await.unwrap();
        let live: Vec<_> = seen
            .iter()
            .filter(|other| other.is_at_work_on(&position("a").id))
            .collect();
        assert_eq!(live.len(), 2, "{seen:?}");
        let own = live
            .iter()
            .filter(|other| other.is_of(&history("b", None), "cache").is_ok());
        assert_eq!(own.count(), 1, "{live:?}");
        copy.end(position("a")).await.unwrap();

        // It has ended, with a word or without; the next one takes away what it has left.
        store.advance(SignedDuration::from_secs(151));
        assert!(two.others().await.unwrap().iter().all(|other| !other.is_live));
        one.clone().show(position("a")).await.unwrap();
        assert!(the_other().await.is_live);
        one.end(position("b")).await.unwrap();
        let other = the_other().await;
        assert!(!other.is_live && other.stored_to == Some(position("b")));
        other.is_of(&history("c", None), "cache").unwrap();
        claim("web1", "redis://one").show(position("c")).await.unwrap();
        assert_eq!(the_other().await.stored_to, Some(position("c")));
        store.advance(SignedDuration::from_hours(25));
        assert_eq!(two.others().await.unwrap(), []);
    }
}
