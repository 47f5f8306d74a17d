//! One way into several stores: what is written arrives in each, byte for byte, from one read of the source.
//!
//! A part is handed to every store at once (its bytes are shared, not copied). Once one of them has it, the others may
//! keep a few parts on their way, their share of the part buffers; beyond that, whoever writes waits for them. How long it
//! waited for a store is added up, and when that reaches `max_stall`, or a call to it fails that another store carried
//! out, the store is detached: it gets nothing more, and the others go on. What no store carries out is the caller's
//! failure, and nobody is detached for it.

mod branch;
mod member;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use branch::{Branch, Slot};
use member::{Member, Waiting};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    SharedStore, ThawSpeed, UploadId, UploadJournal,
};

/// One of the stores.
#[derive(Debug)]
pub struct MirrorTarget {
    /// The store.
    pub store: SharedStore,
    /// Storage class of its objects.
    pub storage_class: Option<String>,
    /// Who must know of its open uploads.
    pub journal: Option<Arc<dyn UploadJournal>>,
}

/// Several stores that are written as one.
#[derive(Debug)]
pub struct MirrorStore {
    members: Vec<Arc<Member>>,
    uploads: Mutex<Uploads>,
    number: AtomicU64,
    /// Wakes whoever waits for room behind a slow store.
    moved: Arc<Notify>,
}

/// An upload in each store that takes part in it.
type Branches = Arc<Vec<Option<Arc<Branch>>>>;

/// Uploads by the name that they have here.
type Uploads = BTreeMap<UploadId, Branches>;

/// A call to one store.
type Call = futures_util::future::BoxFuture<'static, Result<()>>;

impl MirrorStore {
    /// Joins stores. `share` parts may be on their way to each beyond those that the writer waits for.
    pub fn new(targets: Vec<MirrorTarget>, share: usize, max_stall: Duration) -> Self {
        let member = |target| Arc::new(Member::new(target, share, max_stall));
        Self {
            members: targets.into_iter().map(member).collect(),
            uploads: Mutex::default(),
            number: AtomicU64::new(0),
            moved: Arc::default(),
        }
    }

    /// Why a store was detached; `None` while it takes part.
    pub fn detached(&self, at: usize) -> Option<Error> {
        self.members.get(at).and_then(|member| member.why())
    }

    /// Takes a store out, for a reason that its calls do not show.
    pub fn detach(&self, at: usize, why: Error) {
        if let Some(member) = self.members.get(at) {
            member.detach(why);
        }
    }

    /// How long the others have waited for a store so far.
    pub fn stalled(&self, at: usize) -> Duration {
        self.members.get(at).map_or(Duration::ZERO, |member| member.stalled())
    }

    /// Gives up what detached stores have open, within a few seconds; what is left stands in their journals.
    pub async fn give_up_detached(&self, within: Duration) {
        let uploads: Vec<_> = self.lock().values().cloned().collect();
        let given_up = async {
            for upload in uploads {
                let branches = self.members.iter().zip(upload.iter());
                for (member, branch) in branches.filter(|(member, _)| member.is_detached()) {
                    if let Some(branch) = branch {
                        branch.settled().await;
                        let _ = branch.abort(member).await;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(within, given_up).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Uploads> {
        self.uploads.lock().expect("no panic happens under this lock")
    }

    fn attached(&self) -> impl Iterator<Item = (usize, &Arc<Member>)> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, member)| !member.is_detached())
    }

    fn first(&self) -> Result<&SharedStore> {
        let first = self.attached().next();
        first.map(|(_, member)| &member.store).ok_or_else(|| self.none_left())
    }

    /// The error once every store is detached.
    fn none_left(&self) -> Error {
        let why = self.members.iter().find_map(|member| member.why());
        why.unwrap_or_else(|| Error::invalid("there is no store to write to"))
    }

    fn branches(&self, upload: &UploadId) -> Result<Branches> {
        let found = self.lock().get(upload).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no upload \"{}\"", upload.0)))
    }

    /// Carries a call out in each store, and waits for all of them as long as their stall allows. With `lagging`, the
    /// call goes on behind the writer's back where there is room.
    async fn each(&self, calls: Vec<(usize, Call)>, branches: Option<&[Option<Arc<Branch>>]>) -> Result<()> {
        let (sender, mut ended) = mpsc::unbounded_channel();
        let mut pending: BTreeMap<usize, (Arc<Slot>, Option<Waiting>)> = BTreeMap::new();
        for (at, call) in calls {
            let Some(member) = self.members.get(at) else { continue };
            let slot = Arc::new(Slot::default());
            let task = run(
                at,
                Arc::clone(member),
                call,
                Arc::clone(&slot),
                sender.clone(),
                Arc::clone(&self.moved),
            );
            match branches.and_then(|branches| branches.get(at)?.as_ref()) {
                Some(branch) => branch.spawn(task),
                None => drop(tokio::spawn(task)),
            }
            pending.insert(at, (slot, None));
        }
        drop(sender);
        let (mut arrived, mut failures) = (false, Vec::new());
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if arrived {
                for (at, error) in failures.drain(..) {
                    self.detach(at, error);
                }
                pending.retain(|at, (slot, waiting)| {
                    let Some(member) = self.members.get(*at).filter(|member| !member.is_detached()) else {
                        return false;
                    };
                    if branches.is_some() && member.lets_go(slot) {
                        return false;
                    }
                    waiting.get_or_insert_with(|| Waiting::begin(member));
                    true
                });
            }
            if pending.is_empty() {
                break;
            }
            let members = pending.keys().filter_map(|at| self.members.get(*at));
            let patience = members.map(|member| member.patience()).min().filter(|_| arrived);
            tokio::select! {
                biased;
                Some((at, result)) = ended.recv() => {
                    pending.remove(&at);
                    match result {
                        Ok(()) => arrived = true,
                        Err(error) => failures.push((at, error)),
                    }
                }
                () = moved => {}
                () = tokio::time::sleep(patience.unwrap_or(Duration::MAX)), if patience.is_some() => {
                    for member in pending.keys().filter_map(|at| self.members.get(*at)) {
                        member.detach_if_spent();
                    }
                }
            }
        }
        match failures.into_iter().next() {
            _ if arrived => Ok(()),
            Some((_, error)) => Err(error),
            None => Err(self.none_left()),
        }
    }

    fn calls(&self, mut call: impl FnMut(usize, &Arc<Member>) -> Option<Call>) -> Vec<(usize, Call)> {
        self.attached()
            .filter_map(|(at, member)| Some((at, call(at, member)?)))
            .collect()
    }
}

/// One call to its end, or until its store is detached.
async fn run(
    at: usize,
    member: Arc<Member>,
    call: Call,
    slot: Arc<Slot>,
    ended: mpsc::UnboundedSender<(usize, Result<()>)>,
    moved: Arc<Notify>,
) {
    let result = tokio::select! {
        biased;
        () = member.gone.cancelled() => Err(Error::new(ErrorKind::Cancelled, "the store was detached")),
        result = call => result,
    };
    // Nobody waits for a call that was let go: its failure is the store's.
    if slot.end()
        && let Err(error) = result
    {
        member.detach(error);
    } else {
        let _ = ended.send((at, result));
    }
    moved.notify_waiters();
}

#[async_trait]
impl ObjectStore for MirrorStore {
    fn location(&self) -> String {
        let all: Vec<String> = self.attached().map(|(_, member)| member.store.location()).collect();
        all.join(" and ")
    }

    fn capabilities(&self) -> Capabilities {
        let all = self.members.iter().map(|member| member.store.capabilities());
        let none = Capabilities {
            max_parts: None,
            min_part_bytes: 0,
            conditional_create: Some(false),
            lists_uploads: false,
            deletes: true,
        };
        all.fold(none, |sum, one| Capabilities {
            max_parts: match (sum.max_parts, one.max_parts) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            min_part_bytes: sum.min_part_bytes.max(one.min_part_bytes),
            ..sum
        })
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()> {
        let calls = self.calls(|_, member| {
            let (store, key, body, options) = (
                Arc::clone(&member.store),
                key.clone(),
                body.clone(),
                member.options(options),
            );
            Some(Box::pin(async move { store.put(&key, body, mode, &options).await }))
        });
        self.each(calls, None).await
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        let branches: Vec<_> = self
            .members
            .iter()
            .map(|member| (!member.is_detached()).then(|| Arc::new(Branch::new(key.clone()))))
            .collect();
        let branches = Arc::new(branches);
        let upload = UploadId(format!("mirror-{}", self.number.fetch_add(1, Ordering::Relaxed)));
        // Known before it is begun: whoever is detached in between is given up as well.
        self.lock().insert(upload.clone(), Arc::clone(&branches));
        let calls = self.calls(|at, member| {
            let branch = branches.get(at)?.clone()?;
            let (member, options) = (Arc::clone(member), member.options(options));
            Some(Box::pin(async move { branch.begin(&member, &options).await }))
        });
        self.each(calls, None).await?;
        Ok(upload)
    }

    async fn put_part(&self, _: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        let branches = self.branches(upload)?;
        let size_bytes = exact::u64_from(body.len());
        let calls = self.calls(|at, member| {
            let (branch, member, body) = (branches.get(at)?.clone()?, Arc::clone(member), body.clone());
            Some(Box::pin(async move { branch.part(&member, number, body).await }))
        });
        drop(body);
        self.each(calls, Some(&branches)).await?;
        Ok(PartReceipt {
            number,
            etag: String::new(),
            size_bytes,
            checksum: None,
        })
    }

    async fn complete_upload(
        &self,
        _: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        let branches = self.branches(upload)?;
        let parts = parts.len();
        let calls = self.calls(|at, member| {
            let (branch, member) = (branches.get(at)?.clone()?, Arc::clone(member));
            Some(Box::pin(async move { branch.complete(&member, parts, mode).await }))
        });
        self.each(calls, None).await?;
        // What was detached meanwhile still has to be given up.
        if branches.iter().flatten().all(|branch| branch.is_closed()) {
            self.lock().remove(upload);
        }
        Ok(())
    }

    async fn abort_upload(&self, _: &ObjectKey, upload: &UploadId) -> Result<()> {
        let branches = self.branches(upload)?;
        let calls = self.calls(|at, member| {
            let (branch, member) = (branches.get(at)?.clone()?, Arc::clone(member));
            Some(Box::pin(async move {
                branch.settled().await;
                branch.abort(&member).await
            }))
        });
        let none = calls.is_empty();
        let done = self.each(calls, None).await;
        if branches.iter().flatten().all(|branch| branch.is_closed()) {
            self.lock().remove(upload);
        }
        if none { Ok(()) } else { done }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let calls = self.calls(|_, member| {
            let (store, key) = (Arc::clone(&member.store), key.clone());
            Some(Box::pin(async move { store.delete(&key).await }))
        });
        self.each(calls, None).await
    }

    // Reading has nothing to do with several stores: one of them answers.

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        self.first()?.read_range(key, range, buffer).await
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        self.first()?.get(key, max_bytes).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.first()?.head(key).await
    }

    async fn thaw(&self, key: &ObjectKey, speed: ThawSpeed, days: u32) -> Result<()> {
        self.first()?.thaw(key, speed, days).await
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        self.first()?.list(prefix, next).await
    }

    async fn list_uploads(&self, _: &str) -> Result<Vec<OpenUpload>> {
        Err(Error::unsupported("uploads of several stores are not listed as one"))
    }

    async fn now(&self) -> Result<Timestamp> {
        self.first()?.now().await
    }
}
