//! The tar of the archive API into entries of ours, as it comes.
//!
//! The first member is the directory itself, all others lie below its name, component by component in byte order. Where a
//! file changes or vanishes while the engine reads it, its tar breaks off without the two blocks of zeros that end it: the
//! tree is asked for again and goes on behind what was stored, and after several tries that is an error, never a short
//! backup.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::Notes;
use crate::engines::docker::api::TarBody;
use crate::engines::docker::members::{Members, broken_off};
use crate::engines::files::beneath::show;
use crate::engines::files::read::Totals;
use crate::engines::files::{self, TreeFacts, TreeOrder};

/// Where a tree goes.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) stream: String,
    pub(super) notes: Arc<Notes>,
    pub(super) reporter: SharedReporter,
    pub(super) task: String,
    pub(super) cancel: CancellationToken,
    pub(super) runtime: Handle,
}

/// So often is a tree read through the engine when its tar breaks off.
const TRIES: u32 = 12;
/// Before the next try, times their number: whoever writes may rest meanwhile.
const PAUSE: Duration = Duration::from_millis(50);
/// A file of this length is held in memory until it came whole, so that one that changed is simply read again.
const HELD_BYTES: u64 = 1 << 20;
/// What comes of a larger file before its entry is begun.
const FIRST_BYTES: usize = 64 << 10;

/// Why a try ended early.
enum Stop {
    /// The engine's tar broke off: what was stored stands, and the rest may be tried again.
    BrokenOff(Error),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What the engine sends broke off, if it cannot be reached any more.
fn sent<T>(result: Result<T>) -> Result<T, Stop> {
    result.map_err(|error| match error.kind() {
        ErrorKind::Unavailable => Stop::BrokenOff(error),
        _ => Stop::Failed(error),
    })
}

/// What tries have stored so far.
#[derive(Debug, Default)]
struct Stored {
    facts: Option<TreeFacts>,
    /// How the last stored entry sorts. A further try begins behind it.
    last: Vec<u8>,
    totals: Totals,
}

/// Opens the engine's tar of a path below the tree's directory; the empty path is the directory itself.
type Open<'a> = &'a dyn Fn(&str) -> Result<TarBody>;

impl Tree {
    /// Stores everything that the engine sends and returns what it was. A tar that breaks off, for a file changed or
    /// vanished while the engine read it, is asked for again, and goes on behind what is stored.
    pub(super) fn store(&self, open: Open<'_>, writer: &mut SequentialWriter) -> Result<Totals> {
        let mut stored = Stored::default();
        for tries in 1.. {
            match self.read(open, &mut stored, writer) {
                Ok(()) => break,
                Err(Stop::BrokenOff(error)) if tries < TRIES => {
                    tracing::warn!("\"{}\": {}; trying again", self.stream, error.chain());
                    self.check_cancelled()?;
                    std::thread::sleep(PAUSE * tries);
                }
                Err(Stop::BrokenOff(error)) => return Err(error.context(format!("read it {TRIES} times"))),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        let facts = stored.facts.ok_or_else(broken_off)?;
        files::finish_record(writer, &self.stream, &facts, stored.totals)?;
        Ok(stored.totals)
    }

    fn read(&self, open: Open<'_>, stored: &mut Stored, writer: &mut SequentialWriter) -> Result<(), Stop> {
        let mut members = Members::new(sent(open(""))?, self.runtime.clone())?;
        let prefix = format!("{}/", self.stream).into_bytes();
        let root = sent(members.next())?.filter(|meta| meta.kind == EntryKind::Directory);
        let root = root.ok_or_else(|| Error::corrupt("the engine's tar does not begin with the directory"))?;
        if stored.facts.is_none() {
            let facts = facts_of(&self.stream, &root);
            super::read::store_root(writer, &prefix, &facts)?;
            stored.facts = Some(facts);
        }
        let mut own = root.path.clone();
        if own.last() != Some(&b'/') {
            own.push(b'/');
        }
        let (from, mut last) = (stored.last.clone(), Vec::new());
        while let Some(mut meta) = sent(members.next())? {
            self.check_cancelled()?;
            let path = below(&meta.path, &own)?;
            let is_dir = meta.kind == EntryKind::Directory;
            let key = TreeOrder::Components.key(path.strip_suffix(b"/").unwrap_or(&path), is_dir);
            if key <= last {
                return Err(Stop::Failed(
                    Error::unsupported("the engine's tar is not in the order of a walk, so it could not be restored")
                        .with_hint("Run where the volume's mount point is visible."),
                ));
            }
            last.clone_from(&key);
            if key <= from {
                continue;
            }
            meta.path = [prefix.as_slice(), &path].concat();
            if is_dir && meta.path.last() != Some(&b'/') {
                meta.path.push(b'/');
            }
            if meta.kind == EntryKind::Hardlink {
                let link = below(meta.link.as_deref().unwrap_or_default(), &own)?;
                if TreeOrder::Components.key(&link, false) <= from {
                    // Whether an earlier try stored it under that name is not known any more.
                    self.copy_link(open, (meta, &path), key, stored, writer)?;
                    continue;
                }
                meta.link = Some([prefix.as_slice(), &link].concat());
            }
            self.copy(&mut members, &meta, (&path, key), stored, writer)?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(())
    }

    /// Stores a further name of a file as a file of its own.
    fn copy_link(
        &self,
        open: Open<'_>,
        (meta, path): (EntryMeta, &[u8]),
        key: Vec<u8>,
        stored: &mut Stored,
        writer: &mut SequentialWriter,
    ) -> Result<(), Stop> {
        let named = std::str::from_utf8(path)
            .map_err(|_| Error::unsupported(format!("\"{}\" cannot be requested on its own", show(path))))?;
        let mut members = match open(named) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.note("vanished", path, "vanished before it was read".to_owned());
                return Ok(());
            }
            body => Members::new(sent(body)?, self.runtime.clone())?,
        };
        let Some(mut file) = sent(members.next())?.filter(|file| file.kind == EntryKind::File) else {
            self.note("vanished", path, "became something else before it was read".to_owned());
            return Ok(());
        };
        file.path = meta.path;
        self.note(
            "link-as-copy",
            path,
            "is a further name of a file that was stored before the engine's tar was cut short; it is stored as a copy"
                .to_owned(),
        );
        self.copy(&mut members, &file, (path, key), stored, writer)
    }

    fn note(&self, code: &str, path: &[u8], message: String) {
        self.notes.add(Note::new(code, show(path), message));
    }

    /// Copies one member. If the tar breaks off in a file that is not held in memory, the rest of it becomes zeros, as
    /// with a file that shrinks under a walk of ours.
    fn copy(
        &self,
        members: &mut Members<TarBody>,
        meta: &EntryMeta,
        (path, key): (&[u8], Vec<u8>),
        stored: &mut Stored,
        writer: &mut SequentialWriter,
    ) -> Result<(), Stop> {
        let held = meta.size_bytes <= HELD_BYTES;
        let size = exact::usize_from(meta.size_bytes);
        let mut first = vec![0; if held { size } else { FIRST_BYTES }];
        let mut filled = 0;
        while let Some(space) = first.get_mut(filled..).filter(|space| !space.is_empty()) {
            filled += sent(members.read(space))?;
        }
        writer.begin_entry(meta)?;
        writer.write(&first)?;
        let mut left = meta.size_bytes - exact::u64_from(filled);
        self.reporter.advance(&self.task, meta.size_bytes - left, 0);
        let mut broken = None;
        while left > 0 && broken.is_none() {
            self.check_cancelled()?;
            match sent(members.read(writer.space()?)) {
                Ok(read) => {
                    writer.advance(read)?;
                    let read = exact::u64_from(read);
                    left -= read.min(left);
                    self.reporter.advance(&self.task, read, 0);
                }
                Err(Stop::BrokenOff(error)) => broken = Some(error),
                Err(failed) => return Err(failed),
            }
        }
        writer.finish_entry(broken.is_some())?;
        stored.last = key;
        stored.totals.bytes += meta.size_bytes;
        stored.totals.items += 1;
        self.reporter.advance(&self.task, 0, 1);
        if let Some(error) = broken {
            let size = meta.size_bytes;
            self.note(
                "changed",
                path,
                format!("shrank while it was read; {size} bytes are stored"),
            );
            return Err(Stop::BrokenOff(error));
        }
        Ok(())
    }
}

fn facts_of(stream: &str, root: &EntryMeta) -> TreeFacts {
    TreeFacts {
        root: stream.to_owned(),
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
    }
}

fn below(path: &[u8], own: &[u8]) -> Result<Vec<u8>> {
    let rest = path.strip_prefix(own).filter(|rest| !rest.is_empty());
    rest.map(<[u8]>::to_vec)
        .ok_or_else(|| Error::corrupt("a member of the engine's tar is outside its directory"))
}
