//! What a restore would refuse of a tree, found out by reading it alone: for `verify` at level `content`.
//!
//! Paths may not climb, must ascend, and none may lie below something that is no directory; a link has a target, a further
//! name of a file follows the file; the map of a sparse file fits its data. The restore asks the same functions.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::beneath::{self, show};
use super::compare::Layout;
use super::restore::root_meta;
use super::stage::below;
use super::walk::{OWN_PREFIX, OWN_PREVIOUS_PREFIX};
use super::{TreeFacts, TreeOrder};
use crate::archive::{ArchiveReader, EntryKind, EntryMeta};
use crate::base::error::{Error, Result};

/// Files that are remembered, by a hash of their path, as what further names may follow; beyond, the index is asked.
const MAX_KNOWN: usize = 1 << 18;

/// The paths of a backup in their order, each judged by those before it.
#[derive(Debug, Default)]
pub(super) struct PathOrder {
    pub(super) order: TreeOrder,
    /// The last path, as it sorts.
    pub(super) last: Vec<u8>,
    /// Entries that are no directories and whose paths begin the present one.
    not_dirs: Vec<Vec<u8>>,
}

impl PathOrder {
    /// Checks an entry's path against everything before it, and returns it without a trailing slash.
    pub(super) fn judge(&mut self, meta: &EntryMeta) -> Result<Vec<u8>> {
        let path = beneath::checked(&meta.path)?.to_vec();
        let is_dir = meta.kind == EntryKind::Directory;
        let sorted = self.order.key(&path, is_dir);
        if sorted <= self.last {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" is out of order or repeated",
                show(&path)
            )));
        }
        if path.starts_with(OWN_PREFIX) || path.starts_with(OWN_PREVIOUS_PREFIX) {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" is reserved for wirevault",
                show(&path)
            )));
        }
        while self.not_dirs.last().is_some_and(|above| !path.starts_with(above)) {
            self.not_dirs.pop();
        }
        if self
            .not_dirs
            .iter()
            .any(|above| path.get(above.len()).is_none_or(|b| *b == b'/'))
        {
            return Err(Error::corrupt(format!(
                "the backup's path \"{}\" is below something that is not a directory",
                show(&path)
            ))
            .with_hint("Nothing was written. wirevault never writes such a path; do not trust this backup."));
        }
        if !is_dir {
            self.not_dirs.push(path.clone());
        }
        self.last = sorted;
        Ok(path)
    }
}

/// Returns the target of a symbolic link.
pub(super) fn link_target<'a>(meta: &'a EntryMeta, path: &[u8]) -> Result<&'a [u8]> {
    let target = meta.link.as_deref().filter(|l| !l.is_empty() && !l.contains(&0));
    target.ok_or_else(|| Error::corrupt(format!("the symbolic link \"{}\" has no target", show(path))))
}

/// The error of a sparse file whose data end too soon.
pub(super) fn ends_in_map(path: &[u8]) -> Error {
    Error::corrupt(format!("the sparse member \"{}\" ends within its map", show(path)))
}

/// Returns an entry as one of the tree below `prefix`; `None` if it belongs to something else of the archive.
pub(super) fn within(mut meta: EntryMeta, prefix: &[u8]) -> Result<Option<EntryMeta>> {
    if prefix.is_empty() {
        return Ok(Some(meta));
    }
    let Some(path) = below(&meta.path, prefix) else {
        return Ok(None);
    };
    meta.path = path.to_vec();
    if meta.kind == EntryKind::Hardlink {
        let link = meta.link.as_deref().and_then(|link| below(link, prefix));
        let link = link.ok_or_else(|| {
            Error::corrupt(format!(
                "\"{}\" is a hard link to a file outside its tree",
                show(&meta.path)
            ))
        })?;
        meta.link = Some(link.to_vec());
    }
    Ok(Some(meta))
}

/// Judges one tree of an archive, as all of the archive is read.
#[derive(Debug)]
pub struct Judge {
    prefix: Vec<u8>,
    paths: PathOrder,
    known: HashSet<u64>,
    hasher: RandomState,
    open: Option<(Vec<u8>, Layout)>,
}

impl Judge {
    /// Opens the tree of a stream; its entries lie below `prefix`, which is empty or ends in a slash.
    pub async fn open(reader: &ArchiveReader, stream: &str, prefix: Vec<u8>) -> Result<Self> {
        let facts: TreeFacts = super::restore::facts_of(reader, stream).await?;
        root_meta(&facts)?;
        facts.patterns()?;
        Ok(Self {
            prefix,
            paths: PathOrder {
                order: facts.order,
                ..PathOrder::default()
            },
            known: HashSet::new(),
            hasher: RandomState::new(),
            open: None,
        })
    }

    /// Judges the next entry of the archive.
    pub async fn begin(&mut self, meta: &EntryMeta, reader: &ArchiveReader) -> Result<()> {
        self.open = None;
        if below(&meta.path, &self.prefix).is_none() && !self.prefix.is_empty() {
            return Ok(());
        }
        let Some(meta) = within(meta.clone(), &self.prefix)? else {
            return Ok(());
        };
        let path = self.paths.judge(&meta)?;
        match meta.kind {
            EntryKind::File => {
                if self.known.len() < MAX_KNOWN {
                    self.known.insert(self.hasher.hash_one(&path));
                }
                self.open = Some((path, Layout::new(&meta)?));
            }
            EntryKind::Symlink => {
                link_target(&meta, &path)?;
            }
            EntryKind::Hardlink => self.first_name(&meta, &path, reader).await?,
            _ => {}
        }
        Ok(())
    }

    /// A further name needs its file, and after it.
    async fn first_name(&self, meta: &EntryMeta, path: &[u8], reader: &ArchiveReader) -> Result<()> {
        let target = beneath::checked(meta.link.as_deref().unwrap_or_default())?;
        if self.known.contains(&self.hasher.hash_one(target)) {
            return Ok(());
        }
        let is_before = self.paths.order.key(target, false) < self.paths.last;
        if self.known.len() >= MAX_KNOWN && is_before {
            let stored = [self.prefix.as_slice(), target].concat();
            let found = reader.find(&stored).await?;
            if found.is_some_and(|found| found.kind == EntryKind::File) {
                return Ok(());
            }
        }
        Err(Error::corrupt(format!(
            "the backup does not contain the file \"{}\" that \"{}\" is a hard link to",
            show(target),
            show(path)
        )))
    }

    /// Judges the next data of the entry.
    pub fn data(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.open {
            Some((_, layout)) => layout.place(data, &mut |_, _| Ok(())),
            None => Ok(()),
        }
    }

    /// Judges the end of the entry.
    pub fn end(&mut self) -> Result<()> {
        match self.open.take() {
            Some((path, layout)) if layout.in_map() => Err(ends_in_map(&path)),
            _ => Ok(()),
        }
    }
}
