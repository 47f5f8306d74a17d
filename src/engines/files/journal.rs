//! The steps of a restore, written before the first of them is done, so that it can be finished or undone.
//!
//! A record is its length (32 bits, little endian), JSON, and the length again: it is read forwards to finish and
//! backwards to undo, with one record in memory. The restore's directory holds `journal`, the staged files by number, and, once
//! everything is staged and verified, `commit`. Without `commit` the live tree was not touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::base::error::{Context, Error, Result};

/// A record at most, in bytes (a path, a link, attributes of a directory).
const MAX_RECORD: u32 = 8 << 20;

/// Mode, owner and time of a directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct DirMeta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    #[serde(default)]
    pub(super) pax: BTreeMap<String, Vec<u8>>,
    /// Whether `pax` has all attributes, so that others go. Journals without it do not know.
    #[serde(default)]
    pub(super) exact: bool,
}

/// What is done at a path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    /// The staged file of this number takes the path.
    Place(u64),
    /// A hard link to this path takes it.
    Link(Vec<u8>),
    /// A directory, with what it gets and what it had.
    Directory { new: DirMeta, old: Option<DirMeta> },
    /// What is there is moved away.
    Remove,
    /// The directory is removed if it is empty.
    RemoveDir(DirMeta),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Step {
    pub(super) path: Vec<u8>,
    /// Whether something stood at the path before.
    pub(super) existed: bool,
    pub(super) action: Action,
}

/// Writes steps; or forgets them, where a restore is only looked at.
#[derive(Debug)]
pub(super) struct JournalWriter(Option<BufWriter<File>>);

impl JournalWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::options().write(true).create_new(true).open(path);
        Ok(Self(Some(BufWriter::new(file.context("create the journal")?))))
    }

    /// Makes one that forgets every step.
    pub(super) fn forgetful() -> Self {
        Self(None)
    }

    pub(super) fn add(&mut self, step: &Step) -> Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let json = serde_json::to_vec(step).map_err(|e| Error::invalid("write the journal").with_cause(e))?;
        let len = u32::try_from(json.len())
            .ok()
            .filter(|n| *n <= MAX_RECORD)
            .ok_or_else(|| Error::corrupt("a step is too large"))?;
        let len = len.to_le_bytes();
        file.write_all(&len)
            .and_then(|()| file.write_all(&json))
            .and_then(|()| file.write_all(&len))
            .context("write the journal")
    }

    pub(super) fn finish(self) -> Result<()> {
        let Some(file) = self.0 else { return Ok(()) };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()
            .context("write the journal to disk")
    }
}

/// Calls `visit` with every step, forwards.
pub(super) fn forwards(path: &Path, visit: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
    let mut file = BufReader::new(File::open(path).context("open the journal")?);
    let mut left = file.get_ref().metadata()?.len();
    while left > 0 {
        let len = read_len(&mut file)?;
        visit(read_step(&mut file, len)?)?;
        read_len(&mut file)?;
        left = left.saturating_sub(u64::from(len) + 8);
    }
    Ok(())
}

/// Calls `visit` with every step, backwards.
pub(super) fn backwards(path: &Path, visit: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
    let mut file = File::open(path).context("open the journal")?;
    let mut end = file.metadata()?.len();
    while end > 0 {
        file.seek(SeekFrom::Start(end.checked_sub(4).ok_or_else(torn)?))?;
        let len = read_len(&mut file)?;
        end = end.checked_sub(u64::from(len) + 8).ok_or_else(torn)?;
        file.seek(SeekFrom::Start(end + 4))?;
        visit(read_step(&mut file, len)?)?;
    }
    Ok(())
}

fn torn() -> Error {
    Error::corrupt("the journal of the restore is torn")
}

fn read_len(file: &mut impl Read) -> Result<u32> {
    let mut len = [0; 4];
    file.read_exact(&mut len)?;
    Some(u32::from_le_bytes(len))
        .filter(|n| *n <= MAX_RECORD)
        .ok_or_else(torn)
}

fn read_step(file: &mut impl Read, len: u32) -> Result<Step> {
    let mut json = vec![0; usize::try_from(len).map_err(|_| torn())?];
    file.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(|e| torn().with_cause(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_come_back_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut writer = JournalWriter::create(&path).unwrap();
        let steps: Vec<Step> = (0..100u64)
            .map(|n| Step {
                path: vec![b'a'; usize::try_from(n).unwrap()],
                existed: n % 2 == 0,
                action: Action::Place(n),
            })
            .collect();
        for step in &steps {
            writer.add(step).unwrap();
        }
        writer.finish().unwrap();
        let (mut there, mut back) = (Vec::new(), Vec::new());
        forwards(&path, &mut |s| {
            there.push(s);
            Ok(())
        })
        .unwrap();
        backwards(&path, &mut |s| {
            back.push(s);
            Ok(())
        })
        .unwrap();
        back.reverse();
        assert_eq!(there, steps);
        assert_eq!(back, steps);
    }
}
