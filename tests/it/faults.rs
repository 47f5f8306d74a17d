//! A store whose n-th call fails, dies, or is preceded by something else: crashes and interleavings by number.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use wirevault::base::error::{Error, ErrorKind, Result};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    UploadId,
};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Fails,
    /// It has its effect, and the reply is lost.
    LosesReply,
    /// The process dies before it: this call and all later ones have no effect.
    DiesBefore,
    /// The process dies after it.
    DiesAfter,
}

pub(crate) const FAULTS: [Fault; 4] = [Fault::Fails, Fault::LosesReply, Fault::DiesBefore, Fault::DiesAfter];

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// Wraps a memory store.
pub(crate) struct FaultStore {
    inner: Arc<MemoryStore>,
    calls: AtomicUsize,
    fault: Mutex<Option<(usize, Fault)>>,
    hook: Mutex<Option<(usize, Hook)>>,
    dead: AtomicBool,
    /// `head` is denied, as with credentials that may only put.
    pub(crate) denies_head: AtomicBool,
    /// Markers cannot be written.
    pub(crate) refuses_markers: AtomicBool,
    /// Objects cannot be read.
    pub(crate) refuses_reads: AtomicBool,
    /// Open uploads cannot be listed.
    pub(crate) hides_uploads: AtomicBool,
}

impl std::fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultStore after {} calls", self.calls())
    }
}

impl FaultStore {
    pub(crate) fn new(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            calls: AtomicUsize::new(0),
            fault: Mutex::new(None),
            hook: Mutex::new(None),
            dead: AtomicBool::new(false),
            denies_head: AtomicBool::new(false),
            refuses_markers: AtomicBool::new(false),
            refuses_reads: AtomicBool::new(false),
            hides_uploads: AtomicBool::new(false),
        })
    }

    /// The call with this number, counted from 0 from now on, meets the fault.
    pub(crate) fn fail_at(&self, call: usize, fault: Fault) {
        *self.fault.lock().unwrap() = Some((self.calls() + call, fault));
    }

    /// Before the call with this number, counted from 0 from now on, something else happens.
    pub(crate) fn before(&self, call: usize, hook: Hook) {
        *self.hook.lock().unwrap() = Some((self.calls() + call, hook));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn call<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let hook = {
            let mut hook = self.hook.lock().unwrap();
            if hook.as_ref().is_some_and(|(at, _)| *at == call) {
                hook.take()
            } else {
                None
            }
        };
        if let Some((_, hook)) = hook {
            hook().await;
        }
        let lost = || {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("injected fault at call {call}"),
            ))
        };
        if self.dead.load(Ordering::SeqCst) {
            return lost();
        }
        let fault = self
            .fault
            .lock()
            .unwrap()
            .filter(|(at, _)| *at == call)
            .map(|(_, fault)| fault);
        match fault {
            None => work.await,
            Some(Fault::Fails) => lost(),
            Some(Fault::LosesReply) => {
                let _ = work.await;
                lost()
            }
            Some(Fault::DiesBefore) => {
                self.dead.store(true, Ordering::SeqCst);
                lost()
            }
            Some(Fault::DiesAfter) => {
                let _ = work.await;
                self.dead.store(true, Ordering::SeqCst);
                lost()
            }
        }
    }
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
        if self.refuses_markers.load(Ordering::SeqCst) && key.as_str().starts_with("runs/") {
            return Err(Error::new(ErrorKind::Unavailable, "injected: no markers"));
        }
        self.call(self.inner.put(key, body, mode, options)).await
    }
    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        self.call(self.inner.read_range(key, range, buffer)).await
    }
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        if self.refuses_reads.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "injected: no reads"));
        }
        self.call(self.inner.get(key, max_bytes)).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        if self.denies_head.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Denied, "injected: no HEAD"));
        }
        self.call(self.inner.head(key)).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(self.inner.delete(key)).await
    }
    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        self.call(self.inner.list(prefix, next)).await
    }
    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        self.call(self.inner.create_upload(key, options)).await
    }
    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        self.call(self.inner.put_part(key, upload, number, body)).await
    }
    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        self.call(self.inner.complete_upload(key, upload, parts, mode)).await
    }
    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.call(self.inner.abort_upload(key, upload)).await
    }
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        if self.hides_uploads.load(Ordering::SeqCst) {
            return Err(Error::unsupported("injected: uploads are not listed"));
        }
        self.call(self.inner.list_uploads(prefix)).await
    }
    async fn now(&self) -> Result<Timestamp> {
        self.call(self.inner.now()).await
    }
}
