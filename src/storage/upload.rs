//! Writes one object of unknown length: equal parts, a bound on parts in flight, one running SHA-256.
//!
//! An object smaller than one part is a single put. Part buffers are a fixed reserve: `parts_in_flight + 1` of
//! `part_bytes`, recycled as the store confirms parts.

use std::sync::Arc;

use crate::error::Result;
use crate::storage::{ObjectKey, ObjectOptions, SharedStore, UploadJournal};

/// Options of an [`ObjectWriter`].
#[derive(Debug, Clone)]
pub struct UploadOptions {
    /// Size of every part but the last, in bytes.
    pub part_bytes: usize,
    /// Parts being sent at once, beside the one being filled.
    pub parts_in_flight: usize,
    /// Options of the object.
    pub object: ObjectOptions,
    /// Who must know of open uploads.
    pub journal: Option<Arc<dyn UploadJournal>>,
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

/// Writes one object part by part.
#[derive(Debug)]
pub struct ObjectWriter {}

impl ObjectWriter {
    /// Opens a writer; nothing is sent before the first part is full.
    pub fn create(_store: SharedStore, _key: ObjectKey, _options: UploadOptions) -> Self {
        todo!()
    }

    /// Appends bytes; waits while all parts are in flight. After an error only [`ObjectWriter::abort`] makes sense.
    pub async fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }

    /// Returns the bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        todo!()
    }

    /// Sends what is left and makes the object. Durable on return.
    pub async fn finish(self) -> Result<StoredObject> {
        todo!()
    }

    /// Gives the object up: waits for parts in flight and aborts the upload.
    pub async fn abort(self) -> Result<()> {
        todo!()
    }
}
