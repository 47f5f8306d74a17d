//! Repeats calls that may succeed when they are repeated, within a bound on tries and on time.
//!
//! All tries fold into one message: the first error, how many tries, how long. Every call of the trait may be repeated
//! safely; a completion whose reply was lost is resolved by the store itself.

use std::ops::Range;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use jiff::Timestamp;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::error::{Error, ErrorKind, Result};
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    SharedStore, ThawSpeed, UploadId,
};

/// Bounds of the retries of one call.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// Repetitions after the first try.
    pub max_retries: usize,
    /// First pause; each is twice the one before, with jitter.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// All tries and pauses of one call together: less than the lease of a run.
    pub longest_total: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        // 0.25 + 0.5 + 1 + 2 + 4 + 8 + 16 s: half a minute of trouble is ridden out, a store that refuses is told within a minute.
        Self {
            max_retries: 7,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
            longest_total: Duration::from_secs(300),
        }
    }
}

/// A call that failed so often is told of: by then somebody who waits wonders why.
const TOLD_AFTER: u32 = 4;

/// Between two warnings about one store.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Calls that were repeated since the process began.
static REPEATED: AtomicU64 = AtomicU64::new(0);

/// Returns how many calls of all stores were repeated since the process began.
pub fn repeated_calls() -> u64 {
    REPEATED.load(Ordering::Relaxed)
}

/// A store whose calls are repeated.
#[derive(Debug)]
pub struct RetryStore {
    inner: SharedStore,
    options: RetryOptions,
    /// When it was told last that calls fail.
    warned: Mutex<Option<Instant>>,
}

impl RetryStore {
    /// Wraps a store.
    pub fn new(inner: SharedStore, options: RetryOptions) -> Self {
        Self {
            inner,
            options,
            warned: Mutex::new(None),
        }
    }

    /// Says that a call fails and goes on, at most once a minute for all calls of the store.
    fn warn(&self, error: &Error, pause: Duration) {
        let mut warned = self.warned.lock().expect("no panic happens under this lock");
        if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!("{}; next try in {} s", error.chain(), pause.as_secs().max(1));
        }
    }

    async fn retry<T, F: Future<Output = Result<T>> + Send>(&self, call: impl FnMut() -> F + Send) -> Result<T> {
        let begun = Instant::now();
        let first: Mutex<Option<Error>> = Mutex::new(None);
        let tries = Mutex::new(1_u32);
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.options.first_pause)
            .with_max_delay(self.options.longest_pause)
            .with_max_times(self.options.max_retries);
        let repeated = call
            .retry(backoff)
            .when(|error: &Error| {
                let again = error.is_retryable();
                if again {
                    tracing::debug!(error = %error.chain(), "store call failed, will be repeated");
                }
                again
            })
            .notify(|error, pause| {
                REPEATED.fetch_add(1, Ordering::Relaxed);
                let mut tries = tries.lock().expect("no panic happens under this lock");
                if *tries >= TOLD_AFTER {
                    self.warn(error, pause);
                }
                *tries += 1;
                let mut first = first.lock().expect("no panic happens under this lock");
                if first.is_none() {
                    let copy = Error::new(error.kind(), error.chain());
                    *first = Some(match error.hint() {
                        Some(hint) => copy.with_hint(hint),
                        None => copy,
                    });
                }
            });
        let result = tokio::time::timeout(self.options.longest_total, repeated)
            .await
            .unwrap_or_else(|_| {
                let seconds = self.options.longest_total.as_secs();
                Err(Error::new(ErrorKind::TimedOut, format!("no answer within {seconds} s")))
            });
        let tries = *tries.lock().expect("no panic happens under this lock");
        match (result, first.into_inner().expect("no panic happens under this lock")) {
            (Err(last), Some(first)) if last.is_retryable() => {
                let seconds = begun.elapsed().as_secs();
                Err(first.context(format!("gave up after {tries} tries in {seconds} s")))
            }
            (result, _) => result,
        }
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()> {
        self.retry(|| self.inner.put(key, body.clone(), mode, options)).await
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        // The buffer is lent to one try at a time; a failed try has restored its length.
        let buffer = tokio::sync::Mutex::new(buffer);
        let read = || self.retry(|| async { self.inner.read_range(key, range.clone(), *buffer.lock().await).await });
        match read().await {
            // An answer of another length may have been cut on the way; the object is what it is.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                REPEATED.fetch_add(1, Ordering::Relaxed);
                read().await
            }
            done => done,
        }
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        self.retry(|| self.inner.get(key, max_bytes)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.retry(|| self.inner.head(key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.retry(|| self.inner.delete(key)).await
    }

    async fn thaw(&self, key: &ObjectKey, speed: ThawSpeed, days: u32) -> Result<()> {
        self.retry(|| self.inner.thaw(key, speed, days)).await
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        self.retry(|| self.inner.list(prefix, next.clone())).await
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        self.retry(|| self.inner.create_upload(key, options)).await
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        self.retry(|| self.inner.put_part(key, upload, number, body.clone()))
            .await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        self.retry(|| self.inner.complete_upload(key, upload, parts, mode))
            .await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.retry(|| self.inner.abort_upload(key, upload)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        self.retry(|| self.inner.list_uploads(prefix)).await
    }

    async fn probe(&self, key: &ObjectKey) -> Result<Capabilities> {
        self.retry(|| self.inner.probe(key)).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.retry(|| self.inner.remove_leftovers(before)).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.retry(|| self.inner.now()).await
    }
}
