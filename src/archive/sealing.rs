//! How the bytes of an object are sealed before they are stored: for now, not at all.
//!
//! Every offset of the index counts bytes of the compressed plain text, and so do frame digests: they mean the same with
//! and without encryption. Only here are they turned into places of the stored object, so a reader need not know. An age
//! file is a header, a nonce of 16 bytes and a payload of chunks: 65,536 plain bytes, stored with their tag as 65,552.
//! Chunk `i` lies at header + 16 + `i` × 65,552, so a plain range is stored in the chunks that cover it, and what is read
//! in excess is cut off once they are opened. A writer seals chunk by chunk between the frames and the parts.

use std::ops::Range;

use crate::base::error::Result;
use crate::storage::upload::ObjectWriter;

/// How one object is sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sealing {
    /// Stored as it is.
    #[default]
    None,
}

impl Sealing {
    /// Returns the bytes of the stored object that hold a range of the plain text.
    pub fn stored_range(self, plain: Range<u64>) -> Range<u64> {
        match self {
            Self::None => plain,
        }
    }

    /// Writes plain bytes to the object they are stored in.
    pub(crate) async fn write(self, object: &mut ObjectWriter, plain: &[u8]) -> Result<()> {
        match self {
            Self::None => object.write(plain).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_sealing_the_plain_bytes_are_the_stored_bytes() {
        for range in [0..0, 0..1, 65_535..65_553, u64::MAX - 1..u64::MAX] {
            assert_eq!(Sealing::None.stored_range(range.clone()), range);
        }
    }
}
