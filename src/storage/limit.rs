//! Bounds how fast bytes go to and come from a store.
//!
//! A token bucket in each direction: tokens arrive at the rate, and at most one second's worth gathers while nobody asks.
//! A call takes its bytes at once, even into debt, and waits until the debt is paid; so a body larger than the bucket
//! passes whole, and over any span the bytes stay within rate × time + one burst + the calls in flight. Uploads wait
//! before they are sent, reads wait before they are asked for.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    SharedStore, ThawSpeed, UploadId,
};

/// Objects up to this size are counted and do not wait: the marker by which a run shows that it is alive must not stand
/// behind megabytes of parts, or a low rate would cost the run its lease.
const SMALL_BYTES: u64 = 64 << 10;

/// Bytes per second in each direction; `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitOptions {
    /// Towards the store.
    pub upload_bytes_per_second: Option<u64>,
    /// From the store.
    pub download_bytes_per_second: Option<u64>,
}

/// When the bytes that were taken so far are paid for: a bucket in the form of one instant.
#[derive(Debug)]
pub(crate) struct Bucket {
    bytes_per_second: u64,
    paid_until: Mutex<Instant>,
}

impl Bucket {
    /// Tokens of this span gather at most.
    const BURST: Duration = Duration::from_secs(1);

    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_until: Mutex::new(Instant::now()),
        }
    }

    /// Returns the bytes per second.
    pub(crate) fn rate(&self) -> u64 {
        self.bytes_per_second
    }

    /// Takes `bytes` and waits until they are paid for, less one burst.
    pub(crate) async fn take(&self, bytes: u64) {
        tokio::time::sleep_until(self.charge(bytes)).await;
    }

    /// Takes `bytes` and returns when they will be paid for, less one burst.
    pub(crate) fn charge(&self, bytes: u64) -> Instant {
        let nanoseconds = i128::from(bytes) * 1_000_000_000 / i128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(exact::saturating_u64(nanoseconds));
        let mut paid = self.paid_until.lock().expect("no panic happens under this lock");
        let now = Instant::now();
        let from = now.checked_sub(Self::BURST).map_or(*paid, |floor| floor.max(*paid));
        *paid = from.checked_add(cost).unwrap_or(from);
        *paid
    }
}

/// A store behind a bound on bytes per second.
#[derive(Debug)]
pub struct LimitStore {
    inner: SharedStore,
    upload: Option<Bucket>,
    download: Option<Bucket>,
    cancel: CancellationToken,
}

impl LimitStore {
    /// Wraps a store.
    pub fn new(inner: SharedStore, options: LimitOptions) -> Self {
        Self {
            inner,
            upload: options.upload_bytes_per_second.map(Bucket::new),
            download: options.download_bytes_per_second.map(Bucket::new),
            cancel: CancellationToken::new(),
        }
    }

    /// Calls that wait for the rate end with [`ErrorKind::Cancelled`] when `cancel` says so: a run that is stopped need
    /// not pay for the parts that it queued.
    #[must_use]
    pub fn until(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    async fn upload(&self, bytes: u64) -> Result<()> {
        self.wait(self.upload.as_ref(), bytes).await
    }

    async fn download(&self, bytes: u64) -> Result<()> {
        self.wait(self.download.as_ref(), bytes).await
    }

    async fn wait(&self, bucket: Option<&Bucket>, bytes: u64) -> Result<()> {
        let Some(bucket) = bucket else { return Ok(()) };
        match self.cancel.run_until_cancelled(bucket.take(bytes)).await {
            Some(()) => Ok(()),
            // What tidies up after a stopped run is small, and has to be done.
            None if bytes <= SMALL_BYTES => Ok(()),
            None => Err(Error::new(
                ErrorKind::Cancelled,
                "stopped while it waited for the rate limit",
            )),
        }
    }
}

#[async_trait]
impl ObjectStore for LimitStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()> {
        let bytes = exact::u64_from(body.len());
        if bytes > SMALL_BYTES {
            self.upload(bytes).await?;
        } else if let Some(bucket) = &self.upload {
            bucket.charge(bytes);
        }
        self.inner.put(key, body, mode, options).await
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        self.download(range.end.saturating_sub(range.start)).await?;
        self.inner.read_range(key, range, buffer).await
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        // Small, and of unknown size before: paid for afterwards.
        let body = self.inner.get(key, max_bytes).await?;
        self.download(exact::u64_from(body.len())).await?;
        Ok(body)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn thaw(&self, key: &ObjectKey, speed: ThawSpeed, days: u32) -> Result<()> {
        self.inner.thaw(key, speed, days).await
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        self.inner.list(prefix, next).await
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        self.inner.create_upload(key, options).await
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        self.upload(exact::u64_from(body.len())).await?;
        self.inner.put_part(key, upload, number, body).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        self.inner.complete_upload(key, upload, parts, mode).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.inner.abort_upload(key, upload).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        self.inner.list_uploads(prefix).await
    }

    async fn probe(&self, key: &ObjectKey) -> Result<Capabilities> {
        self.inner.probe(key).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.inner.remove_leftovers(before).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }
}
