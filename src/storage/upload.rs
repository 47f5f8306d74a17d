//! Writes one object of unknown length: equal parts, a bound on parts in flight, one running SHA-256.
//!
//! An object smaller than one part is a single put. Part buffers are a fixed reserve: `parts_in_flight + 1` of
//! `part_bytes`; a buffer is filled again once the store has confirmed the part that was in it. The upload begins with
//! the first full part, and its id is journaled before that part is sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, JoinSet};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{ObjectKey, ObjectOptions, PartReceipt, PutMode, SharedStore, UploadId, UploadJournal};

/// Options of an [`ObjectWriter`].
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// Size of every part but the last, in bytes.
    pub part_bytes: usize,
    /// Parts being sent at once, beside the one being filled.
    pub parts_in_flight: usize,
    /// Options of the object.
    pub object: ObjectOptions,
    /// What happens when the key is taken. Data keys are unique per run, and with `Create` a repetition after a lost reply
    /// would meet its own object.
    pub mode: PutMode,
    /// Who must know of open uploads.
    pub journal: Option<Arc<dyn UploadJournal>>,
}

impl Default for UploadOptions {
    fn default() -> Self {
        let object = ObjectOptions::default();
        Self {
            part_bytes: 8 << 20,
            parts_in_flight: 4,
            object,
            mode: PutMode::Overwrite,
            journal: None,
        }
    }
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, lowercase hex.
    pub sha256: String,
}

/// Objects up to this size do not take a whole part buffer.
const SMALL_BYTES: usize = 256 << 10;

/// A part on its way: its buffer comes back with the receipt.
type PartTask = (Option<BytesMut>, Result<PartReceipt>);

/// Writes one object part by part.
///
/// Dropping it without [`ObjectWriter::finish`] or [`ObjectWriter::abort`] leaves an open upload behind, which the run
/// marker names and a sweep removes.
#[derive(Debug)]
pub struct ObjectWriter {
    store: SharedStore,
    key: ObjectKey,
    options: UploadOptions,
    digest: Sha256,
    written_bytes: u64,
    filling: BytesMut,
    idle: Vec<BytesMut>,
    upload: Option<UploadId>,
    /// The call that begins the upload. It runs on when a cancelled caller is dropped, so that the abort knows its
    /// upload.
    beginning: Option<JoinHandle<Result<UploadId>>>,
    sending: JoinSet<PartTask>,
    next_number: u32,
    receipts: Vec<PartReceipt>,
    /// Once a part failed the object can only be given up.
    failed: bool,
}

impl ObjectWriter {
    /// Opens a writer; nothing is sent before the first part is full.
    pub fn create(store: SharedStore, key: ObjectKey, options: UploadOptions) -> Self {
        Self {
            store,
            key,
            options,
            digest: Sha256::new(),
            written_bytes: 0,
            filling: BytesMut::new(),
            idle: Vec::new(),
            upload: None,
            beginning: None,
            sending: JoinSet::new(),
            next_number: 1,
            receipts: Vec::new(),
            failed: false,
        }
    }

    /// Returns the object's key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Appends bytes; waits while all parts are in flight. After an error only [`ObjectWriter::abort`] makes sense.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let result = self.fill(bytes).await;
        self.failed |= result.is_err();
        result
    }

    fn check(&self) -> Result<()> {
        if self.failed {
            return Err(Error::new(
                ErrorKind::Other,
                format!("the upload of \"{}\" failed before", self.key),
            ));
        }
        Ok(())
    }

    async fn fill(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        self.written_bytes += exact::u64_from(bytes.len());
        while !bytes.is_empty() {
            let room = self.options.part_bytes.saturating_sub(self.filling.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            // Small objects stay small; a larger one takes its whole part buffer at once instead of doubling past it.
            if self.filling.len() + now.len() > SMALL_BYTES && self.filling.capacity() < self.options.part_bytes {
                self.filling
                    .reserve(self.options.part_bytes.saturating_sub(self.filling.len()));
            }
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() >= self.options.part_bytes && !bytes.is_empty() {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Returns the bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Sends what is left and makes the object. Durable on return.
    pub async fn finish(mut self) -> Result<StoredObject> {
        match self.finish_object().await {
            Ok(()) => {
                let sha256 = hex::encode(self.digest.finalize());
                Ok(StoredObject {
                    key: self.key,
                    size_bytes: self.written_bytes,
                    sha256,
                })
            }
            Err(error) => {
                // The first error is the one to tell; an upload that could not be aborted is in the journal.
                if let Err(abort) = self.abort().await {
                    tracing::debug!(error = %abort.chain(), "abort upload after a failed finish");
                }
                Err(error)
            }
        }
    }

    /// Gives the object up: stops parts in flight and aborts the upload.
    pub async fn abort(mut self) -> Result<()> {
        // A part that is still being stored would outlive the abort on some stores, so they end first; each ends by its
        // own timeout.
        while self.sending.join_next().await.is_some() {}
        if let Some(beginning) = self.beginning.take() {
            self.upload = beginning.await.ok().and_then(Result::ok);
        }
        let Some(upload) = self.upload.take() else {
            return Ok(());
        };
        self.store
            .abort_upload(&self.key, &upload)
            .await
            .with_context(|| format!("abort upload of \"{}\"", self.key))?;
        match &self.options.journal {
            Some(journal) => journal.closed(&self.key, &upload).await,
            None => Ok(()),
        }
    }

    async fn finish_object(&mut self) -> Result<()> {
        self.check()?;
        if self.upload.is_none() {
            let body = std::mem::take(&mut self.filling).freeze();
            let put = self
                .store
                .put(&self.key, body, self.options.mode, &self.options.object)
                .await;
            return put.with_context(|| format!("write object \"{}\"", self.key));
        }
        if !self.filling.is_empty() {
            self.send_part().await?;
        }
        while !self.sending.is_empty() {
            self.reap().await?;
        }
        self.receipts.sort_by_key(|receipt| receipt.number);
        let Some(upload) = self.upload.clone() else {
            return Ok(());
        };
        let complete = self
            .store
            .complete_upload(&self.key, &upload, &self.receipts, self.options.mode)
            .await;
        complete.with_context(|| format!("complete upload of \"{}\"", self.key))?;
        self.upload = None;
        if let Some(journal) = &self.options.journal {
            journal.closed(&self.key, &upload).await?;
        }
        Ok(())
    }

    /// Sends the part that is being filled, and takes up an idle or new buffer.
    async fn send_part(&mut self) -> Result<()> {
        let upload = self.begin_upload().await?;
        while self.sending.len() >= self.options.parts_in_flight.max(1) {
            self.reap().await?;
        }
        let number = self.next_number;
        if self.store.capabilities().max_parts.is_some_and(|max| number > max) {
            let message = format!("object \"{}\" needs more than {} parts", self.key, number - 1);
            return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Raise the repository's part size."));
        }
        self.next_number += 1;
        let fresh = self
            .idle
            .pop()
            .unwrap_or_else(|| BytesMut::with_capacity(self.options.part_bytes));
        let full = std::mem::replace(&mut self.filling, fresh).freeze();
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        self.sending.spawn(async move {
            let receipt = store.put_part(&key, &upload, number, full.clone()).await;
            (
                recycle(full),
                receipt.with_context(|| format!("upload part {number} of \"{key}\"")),
            )
        });
        Ok(())
    }

    async fn begin_upload(&mut self) -> Result<UploadId> {
        if let Some(upload) = &self.upload {
            return Ok(upload.clone());
        }
        let object = ObjectOptions {
            part_bytes: self.options.part_bytes,
            ..self.options.object.clone()
        };
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let beginning = self.beginning.insert(tokio::spawn(async move {
            let begun = store.create_upload(&key, &object).await;
            begun.with_context(|| format!("begin upload of \"{key}\""))
        }));
        let begun = beginning.await;
        self.beginning = None;
        let lost = |error| Error::new(ErrorKind::Other, "the task that begins an upload ended early").with_cause(error);
        let upload = begun.map_err(lost)??;
        self.upload = Some(upload.clone());
        if let Some(journal) = &self.options.journal {
            journal.opened(&self.key, &upload).await?;
        }
        Ok(upload)
    }

    /// Waits for one part to be confirmed.
    async fn reap(&mut self) -> Result<()> {
        let Some(done) = self.sending.join_next().await else {
            return Ok(());
        };
        let lost = |error| Error::new(ErrorKind::Other, "the task of a part ended early").with_cause(error);
        let (buffer, receipt) = done.map_err(lost)?;
        self.idle.extend(buffer);
        self.receipts.push(receipt?);
        Ok(())
    }
}

/// Gets the buffer of a confirmed part back, if the store has let go of it; otherwise it is freed when it does.
fn recycle(part: Bytes) -> Option<BytesMut> {
    let mut buffer = part.try_into_mut().ok()?;
    buffer.clear();
    Some(buffer)
}
