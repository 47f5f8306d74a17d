//! Rows of COPY: out of the server's messages, and into the digest of a table.

use std::hint::black_box;

use wirevault::engines::postgres::{RowDigest, bench};

use crate::Case;
use crate::inputs::{self, MIB};

/// As much as a socket gives at once.
const READ_BYTES: usize = 64 << 10;

/// Takes 32 MiB of rows out of their CopyData messages.
pub(crate) fn strip_copy() -> Case {
    let rows = inputs::rows(32 * MIB);
    let mut messages = Vec::new();
    for row in &rows {
        messages.push(b'd');
        messages.extend_from_slice(&(row.len() as u32 + 4).to_be_bytes());
        messages.extend_from_slice(row);
    }
    let expected = rows.len() as u64;
    Case::new(messages.len(), move || {
        let (found, bytes) = bench::strip_copy(black_box(&messages), READ_BYTES).unwrap();
        assert_eq!(found, expected);
        black_box(bytes);
    })
}

/// Digests 32 MiB of rows.
pub(crate) fn row_digest() -> Case {
    let rows = inputs::rows(32 * MIB);
    let bytes = rows.iter().map(Vec::len).sum();
    Case::new(bytes, move || {
        let mut digest = RowDigest::default();
        for row in black_box(&rows) {
            digest.add(&row[..row.len() - 1]);
        }
        black_box(digest.hex());
    })
}
