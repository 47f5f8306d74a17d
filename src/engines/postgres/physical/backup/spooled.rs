//! Bytes whose number has to be known before they are stored: the backup manifest, which the server sends without its length.
//!
//! Up to a bound they are held in memory; a larger manifest, of some ten thousand files, goes through a file of the spool directory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::archive::{EntryMeta, SequentialWriter};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::unnamed_file::unnamed_file;

/// Bytes that are held in memory.
const MOST_IN_MEMORY: usize = 2 << 20;

/// What came so far.
#[derive(Debug)]
pub(super) struct Spooled {
    directory: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    bytes: u64,
}

impl Spooled {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            memory: Vec::new(),
            file: None,
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += exact::u64_from(bytes.len());
        if self.file.is_none() {
            if self.memory.len() + bytes.len() <= MOST_IN_MEMORY {
                self.memory.extend_from_slice(bytes);
                return Ok(());
            }
            let mut file = unnamed_file(&self.directory)?;
            let begun = std::mem::take(&mut self.memory);
            file.write_all(&begun).context("write to the spool file")?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes).context("write to the spool file"),
            None => Ok(()),
        }
    }

    /// Stores it as an entry; returns its bytes.
    pub(super) fn store(self, mut meta: EntryMeta, writer: &mut SequentialWriter) -> Result<u64> {
        meta.size_bytes = self.bytes;
        writer.begin_entry(&meta)?;
        let Some(file) = self.file else {
            writer.write(&self.memory)?;
            writer.finish_entry(false)?;
            return Ok(self.bytes);
        };
        let mut at = 0;
        while at < self.bytes {
            let read = file.read_at(writer.space()?, at).context("read from the spool file")?;
            if read == 0 {
                return Err(Error::corrupt("the spool file is shorter than what was written to it"));
            }
            writer.advance(read)?;
            at += exact::u64_from(read);
        }
        writer.finish_entry(false)?;
        Ok(self.bytes)
    }
}
