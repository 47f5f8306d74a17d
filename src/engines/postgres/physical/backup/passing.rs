//! A file of a base as its bytes pass: its checksum, its pages, and how a segment of WAL begins.

use super::server::ServerFacts;
use crate::base::exact;
use crate::engines::postgres::physical::ManifestChecksums;
use crate::engines::postgres::physical::stored::is_segment;
use crate::engines::postgres::physical::stored::wal::grow_head;
use crate::engines::postgres::physical::wire::digest::FileDigest;
use crate::engines::postgres::physical::wire::page::{PageChecker, first_block, main_fork_segment};
use crate::engines::postgres::wal::Lsn;

/// The file whose bytes are coming.
pub(super) struct Passing {
    pub(super) path: Vec<u8>,
    size: u64,
    /// None of a segment of WAL, which no manifest names.
    digest: Option<FileDigest>,
    pages: Option<PageChecker>,
    head: Vec<u8>,
}

/// A file that came whole.
pub(super) struct Passed {
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    pub(super) sum: Sum,
    /// What is wrong with its pages.
    pub(super) damage: Option<String>,
}

/// What is known of its content.
pub(super) enum Sum {
    /// Its checksum, as the manifest has it.
    Digest(Vec<u8>),
    /// How a segment of WAL begins: it is judged once it is known which are needed.
    Head(Vec<u8>),
}

impl Passing {
    /// Begins a file. Pages are checked of main forks, but for those that recovery writes anew from `start` on.
    pub(super) fn new(
        path: Vec<u8>,
        size: u64,
        server: &ServerFacts,
        (algorithm, start): (ManifestChecksums, Lsn),
    ) -> Self {
        let segment = main_fork_segment(&path).filter(|_| server.has_checksums);
        let first = segment.and_then(|segment| first_block(segment, server.relation_segment_bytes, server.page_bytes));
        let page_bytes = exact::usize_from(server.page_bytes);
        Self {
            digest: (!is_segment(&path)).then(|| FileDigest::new(algorithm)),
            pages: first.map(|first| PageChecker::new(page_bytes, start.0, first)),
            path,
            size,
            head: Vec::new(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn data(&mut self, data: &[u8]) {
        match &mut self.digest {
            Some(digest) => digest.update(data),
            None => grow_head(&mut self.head, data),
        }
        if let Some(pages) = &mut self.pages {
            pages.push(data);
        }
    }

    /// Ends it.
    pub(super) fn finish(self) -> Passed {
        Passed {
            path: self.path,
            size: self.size,
            sum: match self.digest {
                Some(digest) => Sum::Digest(digest.finish()),
                None => Sum::Head(self.head),
            },
            damage: self.pages.and_then(PageChecker::finish),
        }
    }
}
