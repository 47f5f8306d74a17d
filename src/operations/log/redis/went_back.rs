//! That a server went back to an older state, beside the history that it went back in:
//! `log/redis/<source>/<replication ID>/went-back.json`.
//!
//! Whoever receives next knows by it that what is stored of this history does not lead to what the server writes, even if it has given
//! itself another replication ID since. It counts until something behind that is stored.

use bytes::Bytes;

use crate::base::error::{Context, ErrorKind, Result};
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::replica::History;
use crate::operations::log::redis::stored::Streams;
use crate::repository::{document, layout};
use crate::storage::{ObjectOptions, PutMode};

/// The object.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct WentBack {
    /// Repository format.
    format: u32,
    /// Up to here the history was received or stored, as ID:OFFSET.
    known: String,
}

impl Streams {
    /// Takes note that a server went back in a history that is known up to a position.
    pub(super) async fn note_went_back(&self, known: &Position) -> Result<()> {
        let noted = self.noted(&known.id).await?.unwrap_or(0);
        let offset = known.offset.max(noted).max(self.stored_to(&known.id).await?);
        self.write_note(&known.id, offset).await
    }

    async fn write_note(&self, id: &ReplicationId, offset: u64) -> Result<()> {
        let body = document::encode(&WentBack {
            format: document::FORMAT,
            known: format!("{id}:{offset}"),
        })?;
        let key = layout::commands_went_back(&self.source, id.as_str())?;
        let (mode, options) = (PutMode::Overwrite, ObjectOptions::default());
        let put = self.store.put(&key, Bytes::from(body), mode, &options).await;
        put.with_context(|| format!("write \"{key}\""))
    }

    /// Returns up to where a history is known that leads nowhere, because its server went back: that of a server, or the one that it
    /// continues.
    pub(super) async fn went_back(&self, history: &History) -> Result<Option<Position>> {
        let now = &history.now.id;
        if let Some(offset) = self.noted(now).await? {
            return self.unless_passed(now, offset).await;
        }
        let Some(before) = &history.before else {
            return Ok(None);
        };
        let Some(offset) = self.noted(&before.id).await? else {
            return Ok(None);
        };
        // What is stored of the history that the server has now lies behind a gap.
        if self.newest(now).await?.is_some() {
            return Ok(None);
        }
        self.unless_passed(&before.id, offset).await
    }

    /// Something stored behind it lies behind a gap, or is of a receiver whose server did not go back.
    async fn unless_passed(&self, id: &ReplicationId, offset: u64) -> Result<Option<Position>> {
        if self.stored_to(id).await? <= offset {
            let id = id.clone();
            return Ok(Some(Position { id, offset }));
        }
        let key = layout::commands_went_back(&self.source, id.as_str())?;
        if let Err(error) = self.store.delete(&key).await {
            tracing::debug!("{}", error.chain());
        }
        Ok(None)
    }

    async fn stored_to(&self, id: &ReplicationId) -> Result<u64> {
        Ok(self.newest(id).await?.map_or(0, |newest| newest.piece.to))
    }

    async fn noted(&self, id: &ReplicationId) -> Result<Option<u64>> {
        let key = layout::commands_went_back(&self.source, id.as_str())?;
        let bytes = match self.store.get(&key, document::MAX_DOCUMENT_BYTES).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("read \"{key}\""))?,
        };
        let said = document::decode::<WentBack>(&bytes);
        let known = said.and_then(|said| said.known.parse::<Position>());
        if let Some(known) = known.ok().filter(|known| known.id == *id) {
            return Ok(Some(known.offset));
        }
        // Where it is damaged, it says all the same that the server went back: behind what is stored by now, which is written anew, so that
        // what comes to be stored behind that counts.
        let offset = self.stored_to(id).await?;
        tracing::warn!("\"{key}\" cannot be read, and is written anew: the server went back behind {id}:{offset}");
        self.write_note(id, offset).await?;
        Ok(Some(offset))
    }
}
