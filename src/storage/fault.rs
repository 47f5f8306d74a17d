//! A store that fails on purpose, and remembers its calls: for tests of everything above.
//!
//! A fault names an operation, a part of the key, how many such calls pass first and how many it strikes. It strikes
//! before the effect (the request never arrived), after it (the reply was lost), late, or not until it is released.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::base::error::{Error, ErrorKind, Result};
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    SharedStore, ThawSpeed, UploadId,
};

/// A call of the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is named after its method")]
pub enum Operation {
    Put,
    ReadRange,
    Get,
    Head,
    Delete,
    List,
    CreateUpload,
    PutPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    RemoveLeftovers,
    Now,
}

/// What happens to a call that is struck.
#[derive(Debug, Clone)]
pub enum Effect {
    /// It fails and nothing was done.
    FailBefore(ErrorKind),
    /// It is done, and fails nevertheless: the reply was lost.
    FailAfter(ErrorKind),
    /// It is done after a pause.
    Delay(Duration),
    /// Its bytes change on the way: those of a put, or those that are read.
    Flip,
    /// It waits for a permit of the semaphore, then is done.
    Hang(Arc<Semaphore>),
}

/// Which calls are struck, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The call; every one when `None`.
    pub operation: Option<Operation>,
    /// Text the key (or the prefix of a listing) contains; empty fits every key.
    pub key_contains: String,
    /// Fitting calls that pass first.
    pub skip: usize,
    /// Fitting calls that are struck after those.
    pub count: usize,
    /// What happens to them.
    pub effect: Effect,
}

impl Fault {
    /// Strikes the next such call.
    pub fn once(operation: Operation, key_contains: impl Into<String>, effect: Effect) -> Self {
        Self {
            operation: Some(operation),
            key_contains: key_contains.into(),
            skip: 0,
            count: 1,
            effect,
        }
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub operation: Operation,
    /// Key, or prefix of a listing; empty for the clock.
    pub key: String,
}

/// A store with faults.
#[derive(Debug)]
pub struct FaultStore {
    inner: SharedStore,
    faults: Mutex<Vec<Fault>>,
    calls: Mutex<Vec<Call>>,
}

impl FaultStore {
    /// Wraps a store; it has no faults yet.
    pub fn new(inner: SharedStore) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Adds a fault. Where several fit a call, the oldest strikes.
    pub fn inject(&self, fault: Fault) {
        self.faults
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(fault);
    }

    /// Returns the calls so far, in the order they were begun.
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Returns how often an operation was called.
    pub fn count(&self, operation: Operation) -> usize {
        self.calls().iter().filter(|call| call.operation == operation).count()
    }

    /// Records a call and returns what strikes it.
    fn strike(&self, operation: Operation, key: &str) -> Option<Effect> {
        let call = Call {
            operation,
            key: key.to_owned(),
        };
        self.calls
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(call);
        let mut faults = self.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fits = |fault: &&mut Fault| {
            fault.count > 0 && fault.operation.is_none_or(|o| o == operation) && key.contains(&fault.key_contains)
        };
        let fault = faults.iter_mut().find(fits)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.count -= 1;
        Some(fault.effect.clone())
    }

    async fn call<T: Send>(
        &self,
        operation: Operation,
        key: &str,
        done: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let struck = self.strike(operation, key);
        Self::carry_out(struck, operation, key, done).await
    }

    async fn carry_out<T: Send>(
        struck: Option<Effect>,
        operation: Operation,
        key: &str,
        done: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let injected = |kind, when| Error::new(kind, format!("injected fault {when} {operation:?} of \"{key}\""));
        match struck {
            None | Some(Effect::Flip) => done.await,
            Some(Effect::FailBefore(kind)) => Err(injected(kind, "before")),
            Some(Effect::FailAfter(kind)) => {
                done.await?;
                Err(injected(kind, "after"))
            }
            Some(Effect::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                done.await
            }
            Some(Effect::Hang(gate)) => {
                // A closed gate is an open one.
                if let Ok(permit) = gate.acquire().await {
                    permit.forget();
                }
                done.await
            }
        }
    }
}

/// Returns the bytes with another one after a quarter of those from `start` on: within an index, in its directory.
fn flipped(mut bytes: Vec<u8>, start: usize) -> Vec<u8> {
    let at = start + bytes.len().saturating_sub(start) / 4;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

#[async_trait]
impl ObjectStore for FaultStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()> {
        let struck = self.strike(Operation::Put, key.as_str());
        let body = if matches!(struck, Some(Effect::Flip)) {
            Bytes::from(flipped(body.to_vec(), 0))
        } else {
            body
        };
        let done = self.inner.put(key, body, mode, options);
        Self::carry_out(struck, Operation::Put, key.as_str(), done).await
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        let before = buffer.len();
        let struck = self.strike(Operation::ReadRange, key.as_str());
        let flips = matches!(struck, Some(Effect::Flip));
        let done = self.inner.read_range(key, range, buffer);
        let result = Self::carry_out(struck, Operation::ReadRange, key.as_str(), done).await;
        if result.is_err() {
            buffer.truncate(before);
        } else if flips {
            *buffer = flipped(std::mem::take(buffer), before);
        }
        result
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        let struck = self.strike(Operation::Get, key.as_str());
        let flips = matches!(struck, Some(Effect::Flip));
        let done = self.inner.get(key, max_bytes);
        let bytes = Self::carry_out(struck, Operation::Get, key.as_str(), done).await?;
        Ok(if flips {
            Bytes::from(flipped(bytes.to_vec(), 0))
        } else {
            bytes
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.call(Operation::Head, key.as_str(), self.inner.head(key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(Operation::Delete, key.as_str(), self.inner.delete(key)).await
    }

    async fn thaw(&self, key: &ObjectKey, speed: ThawSpeed, days: u32) -> Result<()> {
        self.inner.thaw(key, speed, days).await
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        self.call(Operation::List, prefix, self.inner.list(prefix, next)).await
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        let done = self.inner.create_upload(key, options);
        self.call(Operation::CreateUpload, key.as_str(), done).await
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        let done = self.inner.put_part(key, upload, number, body);
        self.call(Operation::PutPart, key.as_str(), done).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        let done = self.inner.complete_upload(key, upload, parts, mode);
        self.call(Operation::CompleteUpload, key.as_str(), done).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let done = self.inner.abort_upload(key, upload);
        self.call(Operation::AbortUpload, key.as_str(), done).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        self.call(Operation::ListUploads, prefix, self.inner.list_uploads(prefix))
            .await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.call(Operation::RemoveLeftovers, "", self.inner.remove_leftovers(before))
            .await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.call(Operation::Now, "", self.inner.now()).await
    }
}
