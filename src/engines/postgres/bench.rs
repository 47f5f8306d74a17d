//! What the benchmarks of `benches/` reach and nobody else needs. No interface: it changes without notice.

use super::wire::copy_out::{CopyDecoder, Event};
use crate::base::error::Result;
use crate::base::exact;

/// Takes the rows out of what a server sends, handed over in reads of at most `read_bytes`. Returns the rows and their bytes.
pub fn strip_copy(messages: &[u8], read_bytes: usize) -> Result<(u64, u64)> {
    let mut decoder = CopyDecoder::new();
    let (mut rows, mut bytes) = (0, 0);
    for mut input in messages.chunks(read_bytes.max(1)) {
        while !input.is_empty() {
            let (used, event) = decoder.step(input)?;
            if let Some(Event::Row { range, ends, .. }) = event {
                rows += u64::from(ends);
                bytes += exact::u64_from(range.len());
            }
            input = exact::part(input, used.., "no more is used than there is");
        }
    }
    Ok((rows, bytes))
}
