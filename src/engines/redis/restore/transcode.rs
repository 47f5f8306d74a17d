//! Writes a value in an encoding that an older or another server knows.
//!
//! Redis 8 keeps small sets and streams in forms that 7.0 refuses, and Redis and Valkey each have their own form of
//! hashes whose fields expire. The content is the same: packed entries become plain strings, additional fields of a
//! stream are left out, expiries of fields move. What a server cannot hold at all (fields that expire, before Redis 7.4
//! and Valkey 9) is an error that names it. A value is held as a whole meanwhile.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::wire::rdb::encode;
use crate::engines::redis::wire::rdb::lzf;
use crate::engines::redis::wire::rdb::packed::{damaged, listpack};
use crate::engines::redis::wire::rdb::types::{Flavour, ValueType};
use crate::engines::redis::wire::rdb::walk::Template;

/// Bytes of a value that is written anew at most.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// The RDB version since which the payload of a key may hold what modules attach to it.
pub(crate) const META_SINCE: u16 = 13;

/// A value in another encoding.
#[derive(Debug)]
pub(crate) struct Transcoded {
    /// Type number, and the RDB version that knows it.
    pub(crate) number: u8,
    pub(crate) since: u16,
    pub(crate) value: Vec<u8>,
    /// What a stream knew of its producers was left out.
    pub(crate) without_producers: bool,
}

/// What a server can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerDialect {
    /// The highest RDB version of Redis that it knows.
    redis: u16,
    /// Whether it knows the forms of Valkey 9.
    valkey: bool,
}

impl ServerDialect {
    /// Finds out by product and version.
    pub(crate) fn of(product: &str, version: &str) -> Self {
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let valkey = product == "valkey" && version >= (9, 0);
        let redis = match version {
            // Valkey began as Redis 7.2 and went its own way.
            _ if product == "valkey" => 11,
            version if version >= (8, 10) => 15,
            version if version >= (8, 8) => 14,
            version if version >= (8, 6) => 13,
            version if version >= (7, 4) => 12,
            version if version >= (7, 2) => 11,
            version if version >= (7, 0) => 10,
            // Nothing is known of it: it refuses what it cannot read.
            (0, 0) => 15,
            _ => 9,
        };
        Self { redis, valkey }
    }

    /// Returns whether fields of a hash can expire there.
    pub(crate) fn expires_fields(self) -> bool {
        self.valkey || self.redis >= 12
    }

    /// Returns whether it takes what modules attach to keys.
    pub(crate) fn keeps_meta(self) -> bool {
        !self.valkey && self.redis >= META_SINCE
    }

    /// Returns whether its streams count what was added, deleted and read.
    pub(crate) fn counts_streams(self) -> bool {
        self.redis >= 10
    }

    /// Returns whether it loads an RDB of this version, whose magic is Valkey's or not.
    pub(crate) fn reads(self, version: u16, valkey_magic: bool) -> bool {
        if valkey_magic {
            self.valkey
        } else {
            version <= self.redis
        }
    }

    /// Returns whether it reads values of this type.
    pub(crate) fn knows(self, _source: Flavour, value: ValueType) -> bool {
        value.since <= self.redis || (value.since == 80 && self.valkey)
    }
}

/// Writes a value anew. `templates` are the names of fields that it may refer to.
pub(crate) fn transcode(
    (source, number): (Flavour, u8),
    value: &[u8],
    target: ServerDialect,
    templates: &HashMap<u64, Template>,
) -> Result<Transcoded> {
    let mut input = Input(value);
    let mut out = Vec::with_capacity(value.len());
    let mut without_producers = false;
    let (number, since) = match (number, source) {
        (16, _) => {
            let blob = input.string()?;
            let entries = listpack(&blob)?;
            encode::count(entries.len() / 2, &mut out);
            put_strings(&entries, &mut out);
            (4, 6)
        }
        (17, _) => {
            let blob = input.string()?;
            let entries = listpack(&blob)?;
            encode::count(entries.len() / 2, &mut out);
            for pair in entries.chunks(2) {
                let [member, score] = pair else { return Err(damaged()) };
                encode::string(member, &mut out);
                let score = std::str::from_utf8(score)
                    .ok()
                    .and_then(|score| score.parse::<f64>().ok());
                out.extend_from_slice(&score.ok_or_else(damaged)?.to_le_bytes());
            }
            (5, 8)
        }
        (18, _) => {
            list(&mut input, &mut out)?;
            (1, 6)
        }
        (20, _) => {
            let blob = input.string()?;
            let entries = listpack(&blob)?;
            encode::count(entries.len(), &mut out);
            put_strings(&entries, &mut out);
            (2, 6)
        }
        (19, _) => {
            stream(&mut input, 2, 1, &mut out)?;
            (15, 9)
        }
        (21, _) | (26 | 27, Flavour::Redis) => {
            let from = match number {
                21 => 3,
                26 => 4,
                _ => 5,
            };
            let (to, number, since) = match target.redis {
                13.. => (4, 26, 13),
                11.. => (3, 21, 11),
                10 => (2, 19, 10),
                _ => (1, 15, 9),
            };
            without_producers = stream(&mut input, from, to.min(from - 1), &mut out)?;
            (number, since)
        }
        (22, Flavour::Valkey) | (24 | 25, Flavour::Redis) => {
            let fields = fields(&mut input, number)?;
            return put_fields(&fields, target);
        }
        (29..=32, Flavour::Redis) => {
            named_fields(&mut input, number, templates, &mut out)?;
            (4, 6)
        }
        (other, _) => {
            return Err(Error::unsupported(format!(
                "the target does not know values of type {other}"
            )));
        }
    };
    input.finish()?;
    Ok(Transcoded {
        number,
        since,
        value: out,
        without_producers,
    })
}

/// A hash whose names and values stand apart, as a plain one.
fn named_fields(
    input: &mut Input<'_>,
    number: u8,
    templates: &HashMap<u64, Template>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let own: Vec<Vec<u8>>;
    let known = |number: u64| templates.get(&number).ok_or_else(damaged);
    let (names, values): (&[Vec<u8>], Option<Cow<'_, [u8]>>) = match number {
        30 => {
            let values = input.string()?;
            let first = listpack(&values)?.into_iter().next().ok_or_else(damaged)?;
            let number = std::str::from_utf8(&first).ok().and_then(|text| text.parse().ok());
            (known(number.ok_or_else(damaged)?)?, Some(values))
        }
        32 => (known(input.length()?)?, None),
        _ => {
            own = match input.length()? {
                0 => {
                    let packed = input.string()?;
                    listpack(&packed)?.into_iter().map(Cow::into_owned).collect()
                }
                1 => {
                    let count = input.length()?;
                    (0..count)
                        .map(|_| input.string().map(Cow::into_owned))
                        .collect::<Result<_>>()?
                }
                _ => return Err(damaged()),
            };
            let packed = if number == 29 { Some(input.string()?) } else { None };
            (&own, packed)
        }
    };
    encode::count(names.len(), out);
    let Some(packed) = values else {
        for name in names {
            encode::string(name, out);
            encode::string(&input.string()?, out);
        }
        return Ok(());
    };
    // The first entry is the number of a template.
    let values = listpack(&packed)?;
    let values = values.get(1..).ok_or_else(damaged)?;
    if values.len() != names.len() {
        return Err(damaged());
    }
    for (name, value) in names.iter().zip(values) {
        encode::string(name, out);
        encode::string(value, out);
    }
    Ok(())
}

/// A list of nodes, packed or plain, as one list of strings.
fn list(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<()> {
    let nodes = input.length()?;
    let (mut count, mut strings) = (0, Vec::new());
    for _ in 0..nodes {
        let container = input.length()?;
        let node = input.string()?;
        if container == 1 {
            encode::string(&node, &mut strings);
            count += 1;
            continue;
        }
        for entry in listpack(&node)? {
            encode::string(&entry, &mut strings);
            count += 1;
        }
    }
    encode::count(count, out);
    out.extend_from_slice(&strings);
    Ok(())
}

/// A stream of one version as one of a lower version. Returns whether it knew producers that were left out.
fn stream(input: &mut Input<'_>, from: u8, to: u8, out: &mut Vec<u8>) -> Result<bool> {
    let mut copy = |input: &mut Input<'_>, what: &dyn Fn(&mut Input<'_>) -> Result<()>, keep: bool| -> Result<()> {
        let before = input.0;
        what(input)?;
        if keep {
            out.extend_from_slice(exact::part(
                before,
                ..before.len() - input.0.len(),
                "an input only becomes shorter",
            ));
        }
        Ok(())
    };
    let lengths = |count: u64| move |input: &mut Input<'_>| (0..count).try_for_each(|_| input.length().map(|_| ()));
    let strings = |count: u64| move |input: &mut Input<'_>| (0..count).try_for_each(|_| input.skip_string());
    let raw = |count: usize| move |input: &mut Input<'_>| input.raw(count).map(|_| ());
    let counted = |input: &Input<'_>| Input(input.0).length();
    let nodes = counted(input)?;
    copy(input, &lengths(1), true)?;
    for _ in 0..nodes {
        copy(input, &strings(2), true)?;
    }
    copy(input, &lengths(3), true)?;
    copy(input, &lengths(if from >= 2 { 5 } else { 0 }), to >= 2)?;
    let groups = counted(input)?;
    copy(input, &lengths(1), true)?;
    for _ in 0..groups {
        copy(input, &strings(1), true)?;
        copy(input, &lengths(2), true)?;
        copy(input, &lengths(u64::from(from >= 2)), to >= 2)?;
        let pending = counted(input)?;
        copy(input, &lengths(1), true)?;
        for _ in 0..pending {
            copy(input, &raw(24), true)?;
            copy(input, &lengths(1), true)?;
        }
        let consumers = counted(input)?;
        copy(input, &lengths(1), true)?;
        for _ in 0..consumers {
            copy(input, &strings(1), true)?;
            copy(input, &raw(8), true)?;
            copy(input, &raw(if from >= 3 { 8 } else { 0 }), to >= 3)?;
            let pending = counted(input)?;
            copy(input, &lengths(1), true)?;
            for _ in 0..pending {
                copy(input, &raw(16), true)?;
            }
        }
        // The target would find entries that are pending with nobody, and refuse them.
        if from >= 5 && input.length()? > 0 {
            return Err(Error::unsupported(
                "consumers gave entries of the stream back, which the target does not know",
            ));
        }
    }
    if from < 4 {
        return Ok(false);
    }
    copy(input, &lengths(2), to >= 4)?;
    let producers = counted(input)?;
    copy(input, &lengths(1), to >= 4)?;
    for _ in 0..producers {
        copy(input, &strings(1), to >= 4)?;
        let entries = counted(input)?;
        copy(input, &lengths(1), to >= 4)?;
        for _ in 0..entries {
            copy(input, &strings(1), to >= 4)?;
            copy(input, &lengths(2), to >= 4)?;
        }
    }
    copy(input, &lengths(2), to >= 4)?;
    Ok(producers > 0 && to < 4)
}

/// One field of a hash, with the time at which it expires, in milliseconds since the epoch.
struct Field {
    name: Vec<u8>,
    value: Vec<u8>,
    expires_ms: Option<u64>,
}

fn fields(input: &mut Input<'_>, number: u8) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    match number {
        22 => {
            for _ in 0..input.length()? {
                let (name, value) = (input.string()?.into_owned(), input.string()?.into_owned());
                // -1 stands for never.
                let expires_ms = u64::try_from(i64::from_le_bytes(input.eight()?)).ok();
                fields.push(Field {
                    name,
                    value,
                    expires_ms,
                });
            }
        }
        24 => {
            let earliest = u64::from_le_bytes(input.eight()?);
            for _ in 0..input.length()? {
                // 0 stands for never; otherwise it is one more than what follows the earliest.
                let after = input.length()?.checked_sub(1);
                let expires_ms = after.map(|after| earliest.saturating_add(after));
                fields.push(Field {
                    name: input.string()?.into_owned(),
                    value: input.string()?.into_owned(),
                    expires_ms,
                });
            }
        }
        _ => {
            input.eight()?;
            let blob = input.string()?;
            for triple in listpack(&blob)?.chunks(3) {
                let [name, value, expires] = triple else {
                    return Err(damaged());
                };
                let expires = std::str::from_utf8(expires)
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok());
                fields.push(Field {
                    name: name.to_vec(),
                    value: value.to_vec(),
                    expires_ms: Some(expires.ok_or_else(damaged)?).filter(|at| *at > 0),
                });
            }
        }
    }
    input.finish()?;
    Ok(fields)
}

fn put_fields(fields: &[Field], target: ServerDialect) -> Result<Transcoded> {
    let done = |number, since, value| Transcoded {
        number,
        since,
        value,
        without_producers: false,
    };
    let mut out = Vec::new();
    let earliest = fields.iter().filter_map(|field| field.expires_ms).min();
    if target.valkey && earliest.is_some() {
        encode::count(fields.len(), &mut out);
        for field in fields {
            encode::string(&field.name, &mut out);
            encode::string(&field.value, &mut out);
            let expires = field.expires_ms.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
            out.extend_from_slice(&expires.to_le_bytes());
        }
        return Ok(done(22, 80, out));
    }
    match earliest {
        None => {
            encode::count(fields.len(), &mut out);
            for field in fields {
                encode::string(&field.name, &mut out);
                encode::string(&field.value, &mut out);
            }
            Ok(done(4, 6, out))
        }
        Some(earliest) if target.redis >= 12 => {
            out.extend_from_slice(&earliest.to_le_bytes());
            encode::count(fields.len(), &mut out);
            for field in fields {
                let after = |at: u64| at.saturating_sub(earliest).saturating_add(1);
                encode::length(field.expires_ms.map_or(0, after), &mut out);
                encode::string(&field.name, &mut out);
                encode::string(&field.value, &mut out);
            }
            Ok(done(24, 12, out))
        }
        Some(_) => Err(Error::unsupported(
            "fields of the hash expire, which the target does not know",
        )),
    }
}

/// A value that is taken apart.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn raw(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn eight(&mut self) -> Result<[u8; 8]> {
        self.raw(8)?.try_into().map_err(|_| damaged())
    }

    fn length(&mut self) -> Result<u64> {
        match self.raw(1)? {
            [short @ 0..=63] => Ok(u64::from(*short)),
            [high @ 64..=127] => Ok(u64::from(high & 63) << 8 | u64::from(self.raw(1)?.first().copied().unwrap_or(0))),
            [0x80] => Ok(u32::from_be_bytes(self.raw(4)?.try_into().map_err(|_| damaged())?).into()),
            [0x81] => Ok(u64::from_be_bytes(self.eight()?)),
            _ => Err(damaged()),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        let size = |length: u64| usize::try_from(length).map_err(|_| damaged());
        Ok(match self.0.first().copied().ok_or_else(damaged)? {
            0xc0 => Cow::Owned(match self.raw(2)? {
                [_, byte] => i8::from_le_bytes([*byte]).to_string().into_bytes(),
                _ => return Err(damaged()),
            }),
            0xc1 => Cow::Owned(match self.raw(3)? {
                [_, a, b] => i16::from_le_bytes([*a, *b]).to_string().into_bytes(),
                _ => return Err(damaged()),
            }),
            0xc2 => Cow::Owned(match self.raw(5)? {
                [_, a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]).to_string().into_bytes(),
                _ => return Err(damaged()),
            }),
            0xc3 => {
                self.raw(1)?;
                let (stored, raw) = (size(self.length()?)?, self.length()?);
                if raw > 64 * MAX_BYTES {
                    return Err(damaged());
                }
                Cow::Owned(lzf::decompress(self.raw(stored)?, size(raw)?)?)
            }
            _ => {
                let length = size(self.length()?)?;
                Cow::Borrowed(self.raw(length)?)
            }
        })
    }

    fn skip_string(&mut self) -> Result<()> {
        if self.0.first() == Some(&0xc3) {
            self.raw(1)?;
            let stored = usize::try_from(self.length()?).map_err(|_| damaged())?;
            self.length()?;
            self.raw(stored)?;
        } else {
            self.string()?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

fn put_strings(strings: &[Cow<'_, [u8]>], out: &mut Vec<u8>) {
    for string in strings {
        encode::string(string, out);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn servers_know_what_their_version_tells() {
        let knows = |product, version, number, flavour| {
            let value = crate::engines::redis::wire::rdb::types::value_type(flavour, number).unwrap();
            ServerDialect::of(product, version).knows(flavour, value)
        };
        assert!(knows("redis", "7.0.15", 19, Flavour::Redis) && !knows("redis", "7.0.15", 20, Flavour::Redis));
        assert!(knows("redis", "8.0.6", 25, Flavour::Redis) && !knows("valkey", "9.1.2", 25, Flavour::Redis));
        assert!(knows("valkey", "9.1.2", 22, Flavour::Valkey) && !knows("redis", "8.0.6", 22, Flavour::Valkey));
        assert!(!knows("redis", "6.2.0", 16, Flavour::Redis) && knows("valkey", "7.2.5", 21, Flavour::Redis));
    }

    #[test]
    fn a_packed_set_becomes_plain_strings() {
        // "a", 5, -1 (13 bits), 300 (16 bits).
        let blob = [
            19, 0, 0, 0, 4, 0, 0x81, b'a', 2, 5, 1, 0xdf, 0xff, 2, 0xf1, 0x2c, 1, 3, 0xff,
        ];
        let value = [&[19][..], &blob].concat();
        let target = ServerDialect::of("redis", "7.0.0");
        let done = transcode((Flavour::Redis, 20), &value, target, &HashMap::new()).unwrap();
        assert_eq!((done.number, done.since), (2, 6));
        assert_eq!(done.value, b"\x04\x01a\x015\x02-1\x03300");
    }

    #[test]
    fn values_without_the_number_of_their_template_are_damaged() {
        // Of a hash of no fields nothing but that number is there.
        let empty: &[u8] = &[7, 0, 0, 0, 0, 0, 0xff];
        let number: &[u8] = &[9, 0, 0, 0, 1, 0, 0, 1, 0xff];
        let of = |values: &[u8]| {
            let mut value = vec![0];
            encode::string(empty, &mut value);
            encode::string(values, &mut value);
            transcode(
                (Flavour::Redis, 29),
                &value,
                ServerDialect::of("redis", "7.0.0"),
                &HashMap::new(),
            )
        };
        assert_eq!(of(number).unwrap().value, b"\0");
        let error = of(empty).unwrap_err();
        assert_eq!(error.kind(), crate::base::error::ErrorKind::Corrupt);
    }

    proptest! {
        #[test]
        fn noise_is_never_a_panic(value in proptest::collection::vec(any::<u8>(), 0..200), number in 14_u8..34) {
            let templates = HashMap::from([(0, Template::new(vec![b"a".to_vec()]))]);
            for flavour in [Flavour::Redis, Flavour::Valkey] {
                for version in ["6.0", "7.0", "8.6", "9.1"] {
                    for product in ["redis", "valkey"] {
                        let _ = transcode((flavour, number), &value, ServerDialect::of(product, version), &templates);
                    }
                }
            }
            let _ = listpack(&value);
        }
    }
}
