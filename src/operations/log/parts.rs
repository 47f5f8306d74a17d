//! Parts of a segment that is still being written: what a receiver stores every few seconds, until it has the whole.

use crate::archive::log::LogReader;
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::engines::postgres::wal::{SegmentName, SegmentSize, segment_facts};
use crate::repository::{ListedLog, Repository, layout};
use crate::storage::ObjectKey;

/// A stored part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The object that holds it.
    pub(super) key: ObjectKey,
    /// The offset in its segment at which it begins.
    pub(super) from: u64,
    /// The offset at which it ends.
    pub(super) to: u64,
}

impl Part {
    /// Names a part of a segment by its offsets.
    pub(super) fn of(system: u64, segment: &SegmentName, from: u64, to: u64) -> Result<Self> {
        let offset = |at: u64| {
            let number = u32::try_from(at);
            number.map_err(|e| Error::invalid("no segment is so large").with_cause(e))
        };
        let range = (offset(from)?, offset(to)?);
        let key = layout::wal_part(system, segment.timeline.0, &segment.to_string(), range)?;
        Ok(Self { key, from, to })
    }

    /// Returns what a listing says of a part; `None` for another object.
    pub(super) fn listed(log: ListedLog) -> Option<Self> {
        let (from, to) = log.part?;
        Some(Self {
            key: log.key,
            from: from.into(),
            to: to.into(),
        })
    }
}

/// Lists the parts of a segment, and chooses those that follow one another from its beginning on.
pub(super) async fn parts_of(repository: &Repository, system: u64, segment: &SegmentName) -> Result<Vec<Part>> {
    let listed = repository
        .log_parts(system, segment.timeline.0, &segment.to_string())
        .await?;
    Ok(chain(listed.into_iter().filter_map(Part::listed).collect()))
}

/// Chooses parts that follow one another from the beginning on and reach as far as any such do.
pub(super) fn chain(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| (part.from, part.to));
    let (mut chosen, mut end) = (Vec::<Part>::new(), 0);
    let mut next: Option<Part> = None;
    for part in parts {
        if part.from > end {
            // Nothing further begins where the chain can be continued.
            let Some(longest) = next.take() else { break };
            end = longest.to;
            chosen.push(longest);
            if part.from > end {
                break;
            }
        }
        if part.to > end && next.as_ref().is_none_or(|next| part.to > next.to) {
            next = Some(part);
        }
    }
    chosen.extend(next);
    chosen
}

/// Joins parts; `out` gets each byte of the segment once, from the first on. Returns how many they are, and the size of a whole
/// segment.
pub(super) async fn join(
    repository: &Repository,
    parts: &[Part],
    out: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
) -> Result<(u64, SegmentSize)> {
    let (mut end, mut size) = (0, None);
    for part in parts {
        let reader = LogReader::open(repository.store(), &part.key).await?;
        let wrong = || format!("part \"{}\"", part.key);
        let descriptor = reader.descriptor();
        let (said, _) = segment_facts(descriptor).with_context(wrong)?;
        let bytes = part.to.saturating_sub(part.from);
        if descriptor.raw_bytes != bytes || part.to > said.bytes() || size.is_some_and(|size| size != said) {
            return Err(Error::corrupt("it is not what its name says")).with_context(wrong);
        }
        size = Some(said);
        // What the one before it has, too, is passed over.
        let mut skip = exact::usize_from(end - part.from.min(end));
        let mut rest = |bytes: &[u8]| {
            let passed = skip.min(bytes.len());
            skip -= passed;
            match exact::range(bytes, passed.., "a part")? {
                [] => Ok(()),
                rest => out(rest),
            }
        };
        reader.read(&mut rest).await?;
        end = part.to;
    }
    let size = size.ok_or_else(|| Error::corrupt("a segment of no parts"))?;
    Ok((end, size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn part(from: u32, to: u32) -> Part {
        Part {
            key: layout::wal_part(7, 1, "000000010000000000000003", (from, to)).unwrap(),
            from: from.into(),
            to: to.into(),
        }
    }

    fn chained(ranges: &[(u32, u32)]) -> Vec<(u64, u64)> {
        let parts = ranges.iter().map(|(from, to)| part(*from, *to)).collect();
        chain(parts).into_iter().map(|part| (part.from, part.to)).collect()
    }

    #[test]
    fn parts_follow_one_another_from_the_beginning_on() {
        assert_eq!(chained(&[]), []);
        assert_eq!(chained(&[(8, 16)]), []);
        assert_eq!(chained(&[(0, 8), (8, 16), (24, 32)]), [(0, 8), (8, 16)]);
        // Two receivers, or one that was killed and began anew.
        assert_eq!(
            chained(&[(0, 8), (0, 12), (8, 16), (12, 20), (16, 18)]),
            [(0, 12), (12, 20)]
        );
        assert_eq!(chained(&[(0, 20), (4, 8), (8, 16)]), [(0, 20)]);
        assert_eq!(chained(&[(0, 8), (4, 10), (9, 12)]), [(0, 8), (4, 10), (9, 12)]);
    }
}
