//! The content of a key as one number that does not depend on how it is encoded.
//!
//! What has an order (bytes of a string, elements of a list, entries of a stream) is hashed in order; of what has none
//! (members, fields, groups) each part is hashed, and the hashes are added. XXH3 of 128 bits: it finds damage and
//! mistakes, it does not guard against someone who wants two values to look alike.

use std::borrow::Cow;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::wire::rdb::decode::{Element, Elements, StreamFacts, StreamId};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Content {
    pub(crate) ordered: u128,
    pub(crate) unordered: u128,
    /// Elements, fields, members, entries; bytes of a string.
    pub(crate) count: u64,
    /// Of a stream: its last id, and what was ever added and deleted where that is known.
    pub(crate) last: StreamId,
    pub(crate) counted: Option<(StreamId, u64)>,
}

impl Content {
    /// Returns whether both are the same, as far as both sides know.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let counted = self.counted.is_none() || other.counted.is_none() || self.counted == other.counted;
        counted
            && Self { counted: None, ..*self }
                == Self {
                    counted: None,
                    ..*other
                }
    }
}

/// Takes the elements of one value.
pub(crate) struct Digest {
    ordered: Box<Xxh3>,
    /// Something was hashed in order since the last value.
    has_order: bool,
    content: Content,
    scratch: Vec<u8>,
    group: Vec<u8>,
    consumer: Vec<u8>,
    /// Fields that expire before this are left out, in milliseconds since the epoch.
    pub(crate) until_ms: u64,
    /// Bytes of all elements.
    pub(crate) bytes: u64,
    /// The earliest expiry of a field that is still to come.
    pub(crate) field_expires_ms: Option<u64>,
    /// Something in it cannot be compared.
    pub(crate) opaque: Option<&'static str>,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({:?})", self.content)
    }
}

impl Digest {
    pub(crate) fn new(until_ms: u64) -> Self {
        Self {
            ordered: Box::default(),
            has_order: false,
            content: Content::default(),
            scratch: Vec::new(),
            group: Vec::new(),
            consumer: Vec::new(),
            until_ms,
            bytes: 0,
            field_expires_ms: None,
            opaque: None,
        }
    }

    /// Ends the value; the next may follow.
    pub(crate) fn finish(&mut self) -> Content {
        let mut content = std::mem::take(&mut self.content);
        if std::mem::take(&mut self.has_order) {
            content.ordered = self.ordered.digest128();
            self.ordered.reset();
        }
        self.bytes = 0;
        self.field_expires_ms = None;
        self.opaque = None;
        content
    }

    fn in_order(&mut self, bytes: &[u8]) {
        // An RDB has no piece of an empty string, and a server answers with one.
        self.has_order |= !bytes.is_empty();
        self.ordered.update(bytes);
    }

    /// Adds the hash of some parts, each with its length before it.
    fn add(&mut self, kind: u8, parts: &[&[u8]]) {
        self.scratch.clear();
        self.scratch.push(kind);
        for part in parts {
            self.scratch.extend_from_slice(&length(part));
            self.scratch.extend_from_slice(part);
        }
        self.content.unordered = self.content.unordered.wrapping_add(xxh3_128(&self.scratch));
    }

    fn counted(&mut self, bytes: usize) {
        self.content.count += 1;
        self.bytes = self.bytes.saturating_add(exact::u64_from(bytes));
    }

    /// The next bytes of a string.
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        self.in_order(bytes);
        let count = exact::u64_from(bytes.len());
        self.content.count += count;
        self.bytes = self.bytes.saturating_add(count);
    }

    /// The next element of a list.
    pub(crate) fn item(&mut self, item: &[u8]) {
        self.counted(item.len());
        self.in_order(&length(item));
        self.in_order(item);
    }

    /// A member of a set.
    pub(crate) fn set_member(&mut self, member: &[u8]) {
        self.counted(member.len());
        self.add(b's', &[member]);
    }

    /// A member of a sorted set.
    pub(crate) fn member(&mut self, member: &[u8], score: f64) {
        self.counted(member.len() + 8);
        // Both zeros are one.
        let bits = (score + 0.0).to_bits().to_le_bytes();
        self.add(b'z', &[member, &bits]);
    }

    /// A field of a hash.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], expires_ms: Option<u64>) {
        if expires_ms.is_some_and(|at| at <= self.until_ms) {
            return;
        }
        if let Some(at) = expires_ms {
            self.field_expires_ms = Some(self.field_expires_ms.map_or(at, |earlier| earlier.min(at)));
        }
        self.counted(name.len() + value.len());
        self.add(b'h', &[name, value, &expires_ms.unwrap_or(0).to_le_bytes()]);
    }

    /// An entry of a stream.
    pub(crate) fn entry(&mut self, id: StreamId, fields: &[Cow<'_, [u8]>]) {
        self.counted(16);
        self.in_order(id.to_string().as_bytes());
        for part in fields {
            self.bytes = self.bytes.saturating_add(exact::u64_from(part.len()));
            self.in_order(&length(part));
            self.in_order(part);
        }
    }

    pub(crate) fn stream(&mut self, facts: StreamFacts) {
        self.content.last = facts.last;
        self.content.counted = facts.counted;
    }

    pub(crate) fn group(&mut self, name: &[u8], last: StreamId) {
        self.group = name.to_vec();
        self.add(b'g', &[name, last.to_string().as_bytes()]);
    }

    pub(crate) fn pending(&mut self, id: StreamId, times: u64) {
        let group = std::mem::take(&mut self.group);
        self.add(b'p', &[&group, id.to_string().as_bytes(), &times.to_le_bytes()]);
        self.group = group;
    }

    pub(crate) fn consumer(&mut self, name: &[u8]) {
        let group = std::mem::take(&mut self.group);
        self.add(b'c', &[&group, name]);
        self.group = group;
        self.consumer = name.to_vec();
    }

    pub(crate) fn owned(&mut self, id: StreamId) {
        let (group, consumer) = (std::mem::take(&mut self.group), std::mem::take(&mut self.consumer));
        self.add(b'o', &[&group, &consumer, id.to_string().as_bytes()]);
        (self.group, self.consumer) = (group, consumer);
    }
}

fn length(part: &[u8]) -> [u8; 8] {
    exact::u64_from(part.len()).to_le_bytes()
}

/// Elements of a value whose type is known: items of a set have no order, those of a list have one.
#[derive(Debug)]
pub(crate) struct Of<'a> {
    pub(crate) digest: &'a mut Digest,
    pub(crate) set: bool,
}

impl Elements for Of<'_> {
    async fn element(&mut self, element: Element<'_>) -> Result<()> {
        let digest = &mut *self.digest;
        match element {
            Element::Piece(bytes) => digest.piece(bytes),
            Element::Item(item) if self.set => digest.set_member(item),
            Element::Item(item) => digest.item(item),
            Element::Member(member, score) => digest.member(member, score),
            Element::Field(name, value, expires) => digest.field(name, value, expires),
            Element::Entry(id, fields) => digest.entry(id, fields),
            Element::Stream(facts) => digest.stream(facts),
            Element::Group(name, last, _) => digest.group(name, last),
            Element::Pending(id, _, times) => digest.pending(id, times),
            Element::Consumer(name) => digest.consumer(name),
            Element::Owned(id) => digest.owned(id),
            Element::TooLong => digest.opaque = Some("an element of more than 32 MiB"),
            Element::Module => digest.opaque = Some("the value of a module"),
            Element::Array => digest.opaque = Some("an array"),
            Element::GivenBack(_) => digest.opaque = Some("a stream with entries that consumers gave back"),
            // No command shows them.
            Element::Producers(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_no_bytes_is_one_whether_it_comes_in_a_piece_or_in_none() {
        let mut digest = Digest::new(0);
        digest.piece(b"");
        let answered = digest.finish();
        assert!(digest.finish().agrees(&answered));
        // Empty elements of a list are elements.
        digest.item(b"");
        assert!(!digest.finish().agrees(&answered));
    }
}
