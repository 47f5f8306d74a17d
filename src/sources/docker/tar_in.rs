//! The tar of the archive API into entries of ours, as it comes.
//!
//! The engine writes ustar with pax records (Go's `archive/tar`); the first member is the directory itself, all others lie
//! below its name, component by component in byte order. Where a file changes while the engine reads it, its tar breaks
//! off without the two blocks of zeros that end it: that is an error here, never a short backup.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::archive::header::{self, BLOCK};
use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::docker::TarBody;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::SharedReporter;
use crate::sources::files::read::Totals;
use crate::sources::files::{self, TreeFacts, TreeOrder};

/// Extended header records of one member are at most this long, in bytes.
const MAX_RECORDS: usize = 2 << 20;

/// Where a tree goes.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) stream: String,
    pub(super) reporter: SharedReporter,
    pub(super) task: String,
    pub(super) cancel: CancellationToken,
    pub(super) runtime: Handle,
}

/// Reads members from a tar body. The calls block and must come from a blocking thread.
#[derive(Debug)]
pub(super) struct Members {
    body: TarBody,
    runtime: Handle,
}

impl Members {
    pub(super) fn new(body: TarBody, runtime: Handle) -> Self {
        Self { body, runtime }
    }

    /// Returns the next member; its data must be read before the one after. `None` at the end of a whole tar.
    pub(super) fn next(&mut self) -> Result<Option<EntryMeta>> {
        let mut head = vec![0; BLOCK];
        if !self.runtime.block_on(self.body.fill(&mut head))? {
            return Err(broken_off());
        }
        if head.iter().all(|byte| *byte == 0) {
            // Whatever follows is padding.
            let mut rest = [0; BLOCK];
            while self.runtime.block_on(self.body.read(&mut rest))? > 0 {}
            return Ok(None);
        }
        if head.get(156) == Some(&b'x') {
            let size = usize::try_from(header::size_field(&head)?).unwrap_or(usize::MAX);
            if size > MAX_RECORDS {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    "a member's extended header is too long",
                ));
            }
            let more = size.next_multiple_of(BLOCK) + BLOCK;
            let from = head.len();
            head.resize(from + more, 0);
            let space = head.get_mut(from..).unwrap_or_default();
            if !self.runtime.block_on(self.body.fill(space))? {
                return Err(broken_off());
            }
        }
        header::parse_foreign(&head)
            .map(Some)
            .context("read a member of the engine's tar")
    }

    /// Reads data of the present member into a buffer; 0 only if the buffer is empty.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.runtime.block_on(self.body.read(into))?;
        if read == 0 && !into.is_empty() {
            return Err(broken_off());
        }
        Ok(read)
    }

    /// Skips bytes: padding, or data that nobody wants.
    pub(super) fn skip(&mut self, mut bytes: u64) -> Result<()> {
        let mut space = [0; 4096];
        while bytes > 0 {
            let take = usize::try_from(bytes).unwrap_or(usize::MAX).min(space.len());
            let read = self.read(space.get_mut(..take).unwrap_or_default())?;
            bytes -= u64::try_from(read).unwrap_or(0);
        }
        Ok(())
    }
}

fn broken_off() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine's tar broke off").with_hint(
        "A file changed while the engine read it. Name the containers that write into the volume in `quiesce`, or run \
         where the volume's mount point is visible.",
    )
}

impl Tree {
    /// Stores everything of a tar and returns what it was.
    pub(super) fn store(&self, body: TarBody, writer: &mut SequentialWriter) -> Result<Totals> {
        let mut members = Members::new(body, self.runtime.clone());
        let prefix = format!("{}/", self.stream).into_bytes();
        let root = members.next()?.filter(|meta| meta.kind == EntryKind::Directory);
        let root = root.ok_or_else(|| Error::corrupt("the engine's tar does not begin with the directory"))?;
        let facts = TreeFacts {
            root: self.stream.clone(),
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            exclude_if_present: Vec::new(),
            exclude_caches: false,
            single_file: false,
            mode: root.mode,
            uid: root.uid,
            gid: root.gid,
            mtime: root.mtime,
            order: TreeOrder::Components,
            attributes: None,
        };
        super::read::store_root(writer, &prefix, &facts)?;
        let mut own = root.path.clone();
        if own.last() != Some(&b'/') {
            own.push(b'/');
        }
        let (mut last, mut totals) = (Vec::new(), Totals::default());
        while let Some(mut meta) = members.next()? {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
            let path = below(&meta.path, &own)?;
            let is_dir = meta.kind == EntryKind::Directory;
            let key = TreeOrder::Components.key(path.strip_suffix(b"/").unwrap_or(&path), is_dir);
            if key <= last {
                return Err(Error::unsupported(
                    "the engine's tar is not in the order of a walk, so it could not be restored",
                )
                .with_hint("Run where the volume's mount point is visible."));
            }
            last = key;
            meta.path = [prefix.as_slice(), &path].concat();
            if is_dir && meta.path.last() != Some(&b'/') {
                meta.path.push(b'/');
            }
            if meta.kind == EntryKind::Hardlink {
                let link = below(meta.link.as_deref().unwrap_or_default(), &own)?;
                meta.link = Some([prefix.as_slice(), &link].concat());
            }
            self.copy(&mut members, &meta, writer)?;
            totals.bytes += meta.size_bytes;
            totals.items += 1;
            self.reporter.advance(&self.task, 0, 1);
        }
        files::finish_record(writer, &self.stream, &facts, totals)?;
        Ok(totals)
    }

    fn copy(&self, members: &mut Members, meta: &EntryMeta, writer: &mut SequentialWriter) -> Result<()> {
        writer.begin_entry(meta)?;
        let mut left = meta.size_bytes;
        while left > 0 {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
            let read = members.read(writer.space()?)?;
            writer.advance(read)?;
            let read = u64::try_from(read).unwrap_or(0);
            left -= read.min(left);
            self.reporter.advance(&self.task, read, 0);
        }
        writer.finish_entry(false)?;
        members.skip(u64::try_from(header::padding(meta.size_bytes)).unwrap_or(0))
    }
}

fn below(path: &[u8], own: &[u8]) -> Result<Vec<u8>> {
    let rest = path.strip_prefix(own).filter(|rest| !rest.is_empty());
    rest.map(<[u8]>::to_vec)
        .ok_or_else(|| Error::corrupt("a member of the engine's tar lies outside its directory"))
}
