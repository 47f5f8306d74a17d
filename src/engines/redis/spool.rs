//! Bytes that wait on disk because a store has stalled: first in, first out.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::base::error::{Context, Result};
use crate::base::exact;
use crate::base::unnamed_file::unnamed_file;

/// The file has no name: it is gone with the process.
#[derive(Debug)]
pub(crate) struct Spool {
    file: std::fs::File,
    written: u64,
    drained: u64,
}

impl Spool {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        Ok(Self {
            file: unnamed_file(directory)?,
            written: 0,
            drained: 0,
        })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(bytes).context("write to the spool file")?;
        self.written += exact::u64_from(bytes.len());
        Ok(())
    }

    /// Fills a buffer as far as there is something; returns how many bytes those are.
    pub(crate) fn pull(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let left = exact::usize_from(self.waiting());
        self.file.seek(SeekFrom::Start(self.drained))?;
        let buffer = exact::first_mut(buffer, left);
        let want = buffer.len();
        self.file.read_exact(buffer).context("read from the spool file")?;
        self.drained += exact::u64_from(want);
        if self.drained == self.written {
            // Empty: it begins anew, so that the limit is one on what waits. What was read is not lost for room that is not given back.
            (self.written, self.drained) = (0, 0);
            if let Err(error) = self.file.set_len(0) {
                tracing::debug!("the spool file keeps its room: {error}");
            }
        }
        Ok(want)
    }

    /// Returns where the file ends: what was pulled of it takes room until it is empty.
    pub(crate) fn end(&self) -> u64 {
        self.written
    }

    /// Returns the bytes that were not pulled yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.written - self.drained
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.drained == self.written
    }
}
