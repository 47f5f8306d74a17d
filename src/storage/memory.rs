//! A store in memory, with a clock that tests can move.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    Readiness, ThawSpeed, UploadId, archived,
};

/// Objects in a map. What was put is whole or absent, like everywhere else.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    ids: AtomicU64,
    page_size: usize,
    capabilities: Capabilities,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, (Bytes, Timestamp)>,
    uploads: HashMap<UploadId, Upload>,
    completed: HashMap<UploadId, ObjectKey>,
    locked: HashMap<ObjectKey, Timestamp>,
    cold: HashMap<ObjectKey, Readiness>,
    offset: SignedDuration,
}

#[derive(Debug)]
struct Upload {
    key: ObjectKey,
    initiated: Timestamp,
    parts: BTreeMap<u32, Bytes>,
}

impl State {
    fn now(&self) -> Timestamp {
        Timestamp::now().checked_add(self.offset).unwrap_or(Timestamp::MAX)
    }

    fn readable(&self, key: &ObjectKey) -> Result<()> {
        match self.cold.get(key) {
            Some(Readiness::Cold { class } | Readiness::Thawing { class }) => Err(archived(key.as_str(), class)),
            _ => Ok(()),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Makes an empty store with pages of 1,000 objects.
    pub fn new() -> Self {
        let capabilities = Capabilities {
            max_parts: None,
            min_part_bytes: 1,
            conditional_create: Some(true),
            lists_uploads: true,
            deletes: true,
        };
        Self {
            state: Mutex::default(),
            ids: AtomicU64::new(1),
            page_size: 1000,
            capabilities,
        }
    }

    /// Sets the size of listing pages, to test paging without thousands of objects.
    #[must_use]
    pub fn with_page_size(mut self, page_size: usize) -> Self {
        self.page_size = page_size.max(1);
        self
    }

    /// Replaces the capabilities, e.g. to bound parts or to ignore conditions.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Moves the store's clock forward.
    pub fn advance(&self, by: SignedDuration) {
        let mut state = self.lock();
        state.offset = state.offset.saturating_add(by);
    }

    /// Locks an object, as a bucket with object lock does: until then it cannot be removed.
    pub fn lock_object(&self, key: ObjectKey, until: Timestamp) {
        self.lock().locked.insert(key, until);
    }

    /// Says whether an object can be read, as a class of the store would have it.
    pub fn set_readiness(&self, key: ObjectKey, readiness: Readiness) {
        self.lock().cold.insert(key, readiness);
    }

    /// Returns how many uploads are open.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under this lock")
    }

    fn honours_conditions(&self) -> bool {
        self.capabilities.conditional_create != Some(false)
    }
}

fn not_found(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("no object \"{key}\""))
}

fn exists(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("object \"{key}\" already exists"))
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, _options: &ObjectOptions) -> Result<()> {
        let mut state = self.lock();
        if mode == PutMode::Create && self.honours_conditions() && state.objects.contains_key(key) {
            return Err(exists(key));
        }
        let now = state.now();
        state.objects.insert(key.clone(), (body, now));
        Ok(())
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        let state = self.lock();
        let (body, _) = state.objects.get(key).ok_or_else(|| not_found(key))?;
        state.readable(key)?;
        let slice = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| body.get(start..end))
            .ok_or_else(|| {
                let size = body.len();
                Error::corrupt(format!(
                    "object \"{key}\" has {size} bytes, not the range {}..{}",
                    range.start, range.end
                ))
            })?;
        buffer.extend_from_slice(slice);
        Ok(())
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        let state = self.lock();
        let (body, _) = state.objects.get(key).ok_or_else(|| not_found(key))?;
        state.readable(key)?;
        if exact::u64_from(body.len()) > max_bytes {
            let message = format!(
                "object \"{key}\" has {} bytes, more than the expected {max_bytes}",
                body.len()
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        Ok(body.clone())
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let state = self.lock();
        let (body, modified) = state.objects.get(key).ok_or_else(|| not_found(key))?;
        Ok(ObjectMeta {
            key: key.clone(),
            size_bytes: exact::u64_from(body.len()),
            modified: *modified,
            locked_until: state.locked.get(key).copied(),
            readiness: state.cold.get(key).cloned().unwrap_or_default(),
        })
    }

    async fn thaw(&self, key: &ObjectKey, _: ThawSpeed, _: u32) -> Result<()> {
        let mut state = self.lock();
        if let Some(readiness) = state.cold.get_mut(key)
            && let Readiness::Cold { class } = readiness
        {
            *readiness = Readiness::Thawing {
                class: std::mem::take(class),
            };
        }
        Ok(())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let mut state = self.lock();
        if state.locked.get(key).is_some_and(|until| *until > state.now()) {
            return Err(Error::new(ErrorKind::Denied, format!("object \"{key}\" is locked")));
        }
        state.objects.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        let state = self.lock();
        let mut page = ListPage::default();
        for (key, (body, modified)) in &state.objects {
            if !key.as_str().starts_with(prefix) || next.as_deref().is_some_and(|after| key.as_str() <= after) {
                continue;
            }
            if page.objects.len() == self.page_size {
                page.next = page.objects.last().map(|last| last.key.as_str().to_owned());
                break;
            }
            let size_bytes = exact::u64_from(body.len());
            page.objects.push(ObjectMeta {
                key: key.clone(),
                size_bytes,
                modified: *modified,
                locked_until: None,
                readiness: Readiness::Ready,
            });
        }
        Ok(page)
    }

    async fn create_upload(&self, key: &ObjectKey, _options: &ObjectOptions) -> Result<UploadId> {
        let id = UploadId(format!("upload-{}", self.ids.fetch_add(1, Ordering::Relaxed)));
        let mut state = self.lock();
        let initiated = state.now();
        state.uploads.insert(
            id.clone(),
            Upload {
                key: key.clone(),
                initiated,
                parts: BTreeMap::new(),
            },
        );
        Ok(id)
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        let mut state = self.lock();
        let open = state
            .uploads
            .get_mut(upload)
            .filter(|open| open.key == *key)
            .ok_or_else(|| no_upload(upload))?;
        let size_bytes = exact::u64_from(body.len());
        // The caller may reuse its buffer: keep a copy of our own.
        open.parts.insert(number, Bytes::copy_from_slice(&body));
        Ok(PartReceipt {
            number,
            etag: format!("part-{number}"),
            size_bytes,
            checksum: None,
        })
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        let mut state = self.lock();
        // A repetition after a lost reply.
        if state.completed.get(upload) == Some(key) && state.objects.contains_key(key) {
            return Ok(());
        }
        if mode == PutMode::Create && self.honours_conditions() && state.objects.contains_key(key) {
            return Err(exists(key));
        }
        let open = state
            .uploads
            .get(upload)
            .filter(|open| open.key == *key)
            .ok_or_else(|| no_upload(upload))?;
        let mut body = Vec::new();
        for receipt in parts {
            let missing = || {
                Error::new(
                    ErrorKind::Invalid,
                    format!("part {} of upload {} is missing", receipt.number, upload.0),
                )
            };
            body.extend_from_slice(open.parts.get(&receipt.number).ok_or_else(missing)?);
        }
        let now = state.now();
        state.objects.insert(key.clone(), (Bytes::from(body), now));
        state.uploads.remove(upload);
        state.completed.insert(upload.clone(), key.clone());
        Ok(())
    }

    async fn abort_upload(&self, _key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.lock().uploads.remove(upload);
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let state = self.lock();
        let ours = state
            .uploads
            .iter()
            .filter(|(_, open)| open.key.as_str().starts_with(prefix));
        let mut found: Vec<_> = ours
            .map(|(id, open)| OpenUpload {
                key: open.key.clone(),
                id: id.clone(),
                initiated: open.initiated,
            })
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.lock().now())
    }
}

fn no_upload(upload: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no open upload \"{}\"", upload.0))
}
