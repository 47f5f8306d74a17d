//! Writes parts of an RDB: lengths, strings, opcodes, the end with its CRC64.
//!
//! Values are never made here: they are copied as they are, or written by whoever knows their type.

use super::{Crc64, Flavour};
use crate::base::exact;

/// What stands before something else than a value: <https://rdb.fnordig.de/file_format.html#op-codes>, and `rdb.h`.
const TEMPLATE: u8 = 242;
const FUNCTION: u8 = 245;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
const AUX: u8 = 250;
const EXPIRES_MS: u8 = 252;
const DATABASE: u8 = 254;
const END: u8 = 255;

/// Returns the first bytes of an RDB.
pub(in crate::engines::redis) fn magic(flavour: Flavour, version: u16) -> Vec<u8> {
    match flavour {
        Flavour::Redis => format!("REDIS{version:04}"),
        Flavour::Valkey => format!("VALKEY{version:03}"),
    }
    .into_bytes()
}

/// Appends a length.
pub(in crate::engines::redis) fn length(length: u64, out: &mut Vec<u8>) {
    match (u8::try_from(length), u32::try_from(length)) {
        (Ok(short @ 0..=63), _) => out.push(short),
        (_, Ok(length)) => {
            out.push(0x80);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a length that counts something in memory.
pub(in crate::engines::redis) fn count(count: usize, out: &mut Vec<u8>) {
    length(exact::u64_from(count), out);
}

/// Appends a string.
pub(in crate::engines::redis) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends an auxiliary field.
pub(in crate::engines::redis) fn aux(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(AUX);
    string(name, out);
    string(value, out);
}

/// Appends the source of a function library.
pub(in crate::engines::redis) fn function(code: &[u8], out: &mut Vec<u8>) {
    out.push(FUNCTION);
    string(code, out);
}

/// Appends the names of the fields of hashes that refer to them by a number.
pub(in crate::engines::redis) fn template(number: u64, names: &[Vec<u8>], out: &mut Vec<u8>) {
    out.push(TEMPLATE);
    length(number, out);
    count(names.len(), out);
    for name in names {
        string(name, out);
    }
}

/// Appends what says that the keys behind it are in a database.
pub(in crate::engines::redis) fn database(number: u32, out: &mut Vec<u8>) {
    out.push(DATABASE);
    length(number.into(), out);
}

/// Appends when the key behind it expires, in milliseconds since the epoch.
pub(in crate::engines::redis) fn expires_ms(at: i64, out: &mut Vec<u8>) {
    out.push(EXPIRES_MS);
    out.extend_from_slice(&at.to_le_bytes());
}

/// Appends for how many seconds the key behind it was not used.
pub(in crate::engines::redis) fn idle(seconds: u64, out: &mut Vec<u8>) {
    out.push(IDLE);
    length(seconds, out);
}

/// Appends how often the key behind it was used.
pub(in crate::engines::redis) fn frequency(frequency: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FREQUENCY, frequency]);
}

/// Appends the end; `crc` has all bytes before it.
pub(in crate::engines::redis) fn end(crc: &mut Crc64, out: &mut Vec<u8>) {
    crc.update(&[END]);
    out.push(END);
    out.extend_from_slice(&crc.value().to_le_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::types::ValueType;
    use super::super::walk::{KeyHeader, Sink, State, Template, Walker};
    use super::*;
    use crate::base::error::Result;

    /// Notes what a walk finds.
    #[derive(Default)]
    struct Found {
        headers: Vec<KeyHeader>,
        values: Vec<u8>,
        others: Vec<String>,
    }

    impl Sink for Found {
        fn key(&mut self, header: &KeyHeader, _: ValueType) -> Result<()> {
            self.headers.push(header.clone());
            Ok(())
        }
        fn value(&mut self, bytes: &[u8]) -> Result<()> {
            self.values.extend_from_slice(bytes);
            Ok(())
        }
        fn value_end(&mut self) -> Result<()> {
            Ok(())
        }
        fn aux(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
            self.others
                .push(format!("{} {}", name.escape_ascii(), value.escape_ascii()));
            Ok(())
        }
        fn function(&mut self, code: &[u8]) -> Result<()> {
            self.others.push(code.escape_ascii().to_string());
            Ok(())
        }
        fn template(&mut self, number: u64, names: &Template) -> Result<()> {
            self.others.push(format!("{number} {}", names.len()));
            Ok(())
        }
    }

    #[test]
    fn what_is_written_is_what_a_walk_finds() {
        for (flavour, version) in [(Flavour::Redis, 15), (Flavour::Valkey, 80)] {
            let mut rdb = magic(flavour, version);
            aux(b"redis-ver", b"8.0", &mut rdb);
            function(b"#!lua name=x", &mut rdb);
            if flavour == Flavour::Redis {
                template(1 << 40, &[b"a".to_vec(), b"b".to_vec()], &mut rdb);
            }
            database(70_000, &mut rdb);
            expires_ms(1_900_000_000_000, &mut rdb);
            idle(64, &mut rdb);
            frequency(7, &mut rdb);
            rdb.push(0);
            string(b"key", &mut rdb);
            let from = rdb.len();
            string(&[b'v'; 100], &mut rdb);
            let value = rdb[from..].to_vec();
            let mut crc = Crc64::new();
            crc.update(&rdb);
            end(&mut crc, &mut rdb);
            let (mut walker, mut found) = (Walker::new(), Found::default());
            assert_eq!(walker.feed(&rdb, &mut found).unwrap(), rdb.len());
            assert_eq!(
                (walker.state(), walker.flavour(), walker.version()),
                (State::Done, flavour, version)
            );
            walker.finish().unwrap();
            assert_ne!(walker.stored_crc(), 0);
            let header = &found.headers[0];
            assert_eq!((header.database, &header.key[..]), (70_000, &b"key"[..]));
            assert_eq!(
                (header.expires_ms, header.idle_seconds, header.frequency),
                (Some(1_900_000_000_000), Some(64), Some(7))
            );
            assert_eq!(found.values, value);
            let others = ["redis-ver 8.0", "#!lua name=x", "1099511627776 2"];
            let written = if flavour == Flavour::Redis { 3 } else { 2 };
            assert_eq!(found.others, others[..written]);
        }
    }
}
