//! Where objects live: S3, a directory, or memory, behind one trait.
//!
//! An object is immutable bytes under a key. A store never shows a torn object: an object appears whole, by one
//! [`ObjectStore::put`] or by [`ObjectStore::complete_upload`], or not at all. Nothing here knows what the bytes mean.
//! Wrappers add retries, rate limits and faults; every store and every wrapper passes the same contract suite
//! (`tests/it/storage.rs`).

pub mod directory;
pub mod fault;
pub mod limit;
pub mod memory;
pub mod mirror;
pub mod open;
pub mod retry;
pub mod s3;
pub mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};

/// The key of an object relative to the repository's root: UTF-8, `/`-separated, no empty, `.` or `..` segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks and wraps a key. Keys come out of manifests too, so this is a boundary: a key that climbs is refused.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        let bad_segment = |s: &str| s.is_empty() || s == "." || s == "..";
        if key.len() > 900 || key.split('/').any(bad_segment) || key.chars().any(|c| c.is_control() || c == '\\') {
            return Err(Error::new(ErrorKind::Invalid, format!("invalid object key {key:?}")));
        }
        Ok(Self(key))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ObjectKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The store's own name of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The key.
    pub key: ObjectKey,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Last modification by the store's clock.
    pub modified: Timestamp,
    /// Until when the store itself refuses to remove it (object lock; the end of time under a legal hold). Only
    /// [`ObjectStore::head`] tells; a listing does not know.
    pub locked_until: Option<Timestamp>,
    /// Whether it can be read now. Only [`ObjectStore::head`] tells.
    pub readiness: Readiness,
}

/// Whether an object can be read now: stores have cold classes, whose objects must be thawed first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    /// It can be read.
    #[default]
    Ready,
    /// It lies in a cold class.
    Cold {
        /// The class by the store's name.
        class: String,
    },
    /// A readable copy was asked for and is not there yet.
    Thawing {
        /// The class by the store's name.
        class: String,
    },
}

/// How fast an object is thawed; what that means, and costs, is the store's affair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ThawSpeed {
    /// Some minutes, where the class allows it
    Expedited,
    /// Some hours
    #[default]
    Standard,
    /// Up to two days, for the least
    Bulk,
}

/// What can be done about an object in a cold class.
pub(crate) const THAW: &str = "Run the command again with --thaw to request a readable copy and wait for it, or with \
                               --thaw=ask to request it without waiting. The store may charge for it.";

/// The error of an object that must be thawed before it can be read.
pub(crate) fn archived(key: &str, class: &str) -> Error {
    let class = if class.is_empty() {
        "a cold storage class"
    } else {
        class
    };
    let message = format!("object \"{key}\" is in {class} and cannot be read");
    Error::new(ErrorKind::Archived, message).with_hint(THAW)
}

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects in key order.
    pub objects: Vec<ObjectMeta>,
    /// Pass it to the next call; `None` when this was the last page.
    pub next: Option<String>,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// Key the object would get.
    pub key: ObjectKey,
    /// The store's id of the upload.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub initiated: Timestamp,
}

/// A part the store has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// 1-based number.
    pub number: u32,
    /// Entity tag as the store returned it.
    pub etag: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Further per-part values the store wants back at completion (name, value), e.g. a checksum.
    pub checksum: Option<(String, String)>,
}

/// How [`ObjectStore::put`] and [`ObjectStore::complete_upload`] treat an object that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replace it.
    Overwrite,
    /// Fail with [`ErrorKind::AlreadyExists`] where the store honours conditions ([`Capabilities::conditional_create`]);
    /// elsewhere it is replaced, so correctness must never rest on this.
    Create,
}

/// Options of a newly created object; they only mean something to some stores.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectOptions {
    /// Storage class by the store's name, e.g. `STANDARD_IA`; the store's default when `None`.
    pub storage_class: Option<String>,
    /// Size of every part of an upload but the last, in bytes; a store may place parts by it. Required for uploads.
    pub part_bytes: usize,
}

/// What a store can do. `None` in an optional bound means unbounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Parts per upload at most.
    pub max_parts: Option<u32>,
    /// Every part but the last must have at least this size, in bytes.
    pub min_part_bytes: usize,
    /// Whether `PutMode::Create` fails on an existing object; `None` if it was not probed.
    pub conditional_create: Option<bool>,
    /// Whether [`ObjectStore::list_uploads`] works.
    pub lists_uploads: bool,
    /// Whether objects may be deleted; true if it was not probed.
    pub deletes: bool,
}

/// A place for objects. All calls may be repeated safely; dropping a future leaves either nothing or a whole object,
/// or an open upload that [`ObjectStore::abort_upload`] removes.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Returns the location for people (no secrets): `s3://bucket/prefix`, `file:///path`.
    fn location(&self) -> String;

    /// Returns what this store can do, as far as it is known now.
    fn capabilities(&self) -> Capabilities;

    /// Stores a whole object. Durable on return.
    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()>;

    /// Appends exactly the bytes `range` of the object to `buffer`. A range that ends past the object's end is
    /// [`ErrorKind::Corrupt`]; a missing object is [`ErrorKind::NotFound`]. On error, `buffer` has its former length.
    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()>;

    /// Reads a whole small object; one larger than `max_bytes` is [`ErrorKind::LimitExceeded`].
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes>;

    /// Returns size and time of an object; [`ErrorKind::NotFound`] if there is none.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta>;

    /// Asks for a readable copy of an object in a cold class, for so many days; it is there some hours later
    /// ([`Readiness`]). One that is being thawed already is no error.
    async fn thaw(&self, key: &ObjectKey, _speed: ThawSpeed, _days: u32) -> Result<()> {
        Err(Error::unsupported(format!("the store cannot thaw \"{key}\"")))
    }

    /// Removes an object; a missing one is no error.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Lists objects whose key starts with `prefix` (a plain string prefix), in key order, a page per call.
    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage>;

    /// Begins a multipart upload.
    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId>;

    /// Stores part `number` (from 1). Repeating a number replaces the part.
    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt>;

    /// Makes the object out of its parts, in the order given. Durable on return. A lost reply is resolved by looking
    /// at what is there, so an error means that the object was not made by this upload.
    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()>;

    /// Gives up an upload and its parts; one that is not there is no error.
    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()>;

    /// Lists open uploads under `prefix`; [`ErrorKind::Unsupported`] where the store cannot.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>>;

    /// Removes what processes that died left in the store's own working space before `before`, and what is neither an
    /// object nor an open upload: temporary files of a directory. Returns how many.
    async fn remove_leftovers(&self, _before: Timestamp) -> Result<u64> {
        Ok(0)
    }

    /// Returns the time by the store's own clock.
    async fn now(&self) -> Result<Timestamp>;

    /// Finds out by trying what the store can do, with an object of the caller's key that is removed again: whether it
    /// returns what it was given, reads ranges, honours `PutMode::Create`, and lists uploads.
    async fn probe(&self, key: &ObjectKey) -> Result<Capabilities> {
        let (body, options) = (
            Bytes::from_static(b"wirevault probes this store\n"),
            ObjectOptions::default(),
        );
        self.put(key, body.clone(), PutMode::Overwrite, &options)
            .await
            .context("write a probe object")?;
        let second = self.put(key, body.clone(), PutMode::Create, &options).await;
        let read = async {
            let whole = self.get(key, 1024).await?;
            let mut piece = Vec::new();
            self.read_range(key, 5..16, &mut piece).await?;
            Ok::<_, Error>((whole, piece))
        };
        let read = read.await.context("read the probe object");
        let deletes = match self.delete(key).await {
            Ok(()) => true,
            // Credentials that can only add protect what is there; backups need no more.
            Err(error) if error.kind() == ErrorKind::Denied => false,
            Err(error) => return Err(error.context("remove the probe object")),
        };
        let (whole, piece) = read?;
        if whole != body || Some(piece.as_slice()) != body.get(5..16) {
            return Err(Error::corrupt("the store returned different data than was written")
                .with_hint("Do not use this store for backups."));
        }
        let honours = match second {
            Ok(()) => false,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => true,
            Err(error) if error.kind() == ErrorKind::Unsupported => false,
            Err(error) => return Err(error.context("try a conditional write")),
        };
        let lists = match self.list_uploads(key.as_str()).await {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => false,
            Err(error) => return Err(error.context("list open uploads")),
        };
        Ok(Capabilities {
            conditional_create: Some(honours),
            lists_uploads: lists,
            deletes,
            ..self.capabilities()
        })
    }
}

/// A shared store.
pub type SharedStore = Arc<dyn ObjectStore>;

/// Told of every upload that is begun, before its first part is sent, so that a later sweep can abort it even on a
/// store that does not list uploads. The run marker of a job implements it.
#[async_trait]
pub trait UploadJournal: Send + Sync + fmt::Debug {
    /// An upload was begun; durable on return.
    async fn opened(&self, key: &ObjectKey, upload: &UploadId) -> Result<()>;
    /// The upload was completed or aborted.
    async fn closed(&self, key: &ObjectKey, upload: &UploadId) -> Result<()>;
}
