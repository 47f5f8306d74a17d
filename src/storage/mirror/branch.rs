//! An upload in one of several stores: its own id there, the receipts of its parts, the calls still on their way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

use super::member::Member;
use crate::base::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectKey, ObjectOptions, PartReceipt, PutMode, UploadId};

#[derive(Debug)]
pub(super) struct Branch {
    key: ObjectKey,
    id: Mutex<Option<UploadId>>,
    receipts: Mutex<Vec<PartReceipt>>,
    tasks: TaskTracker,
    closed: AtomicBool,
}

impl Branch {
    pub(super) fn new(key: ObjectKey) -> Self {
        Self {
            key,
            id: Mutex::default(),
            receipts: Mutex::default(),
            tasks: TaskTracker::new(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(task));
    }

    /// Waits for the calls on their way.
    pub(super) async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn id(&self) -> Result<UploadId> {
        let id = self.id.lock().expect("no panic happens under this lock").clone();
        id.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("the upload of \"{}\" was not begun", self.key),
            )
        })
    }

    pub(super) async fn begin(&self, member: &Member, options: &ObjectOptions) -> Result<()> {
        let id = member.store.create_upload(&self.key, options).await?;
        *self.id.lock().expect("no panic happens under this lock") = Some(id.clone());
        match &member.journal {
            Some(journal) => journal.opened(&self.key, &id).await,
            None => Ok(()),
        }
    }

    pub(super) async fn part(&self, member: &Member, number: u32, body: Bytes) -> Result<()> {
        let receipt = member.store.put_part(&self.key, &self.id()?, number, body).await?;
        self.receipts
            .lock()
            .expect("no panic happens under this lock")
            .push(receipt);
        Ok(())
    }

    pub(super) async fn complete(&self, member: &Member, parts: usize, mode: PutMode) -> Result<()> {
        self.settled().await;
        let mut receipts = self.receipts.lock().expect("no panic happens under this lock").clone();
        receipts.sort_by_key(|receipt| receipt.number);
        if receipts.len() != parts {
            let message = format!("{} of {parts} parts of \"{}\" arrived", receipts.len(), self.key);
            return Err(Error::new(ErrorKind::Other, message));
        }
        let id = self.id()?;
        member.store.complete_upload(&self.key, &id, &receipts, mode).await?;
        self.close(member, &id).await
    }

    pub(super) async fn abort(&self, member: &Member) -> Result<()> {
        let Ok(id) = self.id() else {
            self.closed.store(true, Ordering::Release);
            return Ok(());
        };
        if self.is_closed() {
            return Ok(());
        }
        member.store.abort_upload(&self.key, &id).await?;
        self.close(member, &id).await
    }

    async fn close(&self, member: &Member, id: &UploadId) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        match &member.journal {
            Some(journal) => journal.closed(&self.key, id).await,
            None => Ok(()),
        }
    }
}

/// What is shared between a call and whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    ended: bool,
    let_go: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Hands the call its permit to go on alone. One that has ended already is told by its result instead.
    pub(super) fn let_go(&self, permit: OwnedSemaphorePermit) -> bool {
        let mut state = self.0.lock().expect("no panic happens under this lock");
        if state.ended {
            return false;
        }
        state.permit = Some(permit);
        state.let_go = true;
        true
    }

    /// The call has ended. Returns whether nobody waits for it any more.
    pub(super) fn end(&self) -> bool {
        let mut state = self.0.lock().expect("no panic happens under this lock");
        state.ended = true;
        state.permit = None;
        state.let_go
    }
}
