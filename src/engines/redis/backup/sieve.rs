//! Cuts one database out of an RDB while it passes: what comes out is an RDB of that database alone.
//!
//! Function libraries and what modules keep beside the keys belong to the whole server, and stay out. Memory: the bytes that
//! one piece of the RDB leaves.

use crate::base::error::{Error, Result};
use crate::engines::redis::wire::rdb::encode;
use crate::engines::redis::wire::rdb::types::ValueType;
use crate::engines::redis::wire::rdb::walk::{KeyHeader, Sink, Template};
use crate::engines::redis::wire::rdb::{Counter, Crc64, Flavour};

/// Auxiliary fields that say something of the whole server.
const OF_THE_SERVER: &[&[u8]] = &[b"used-mem"];

/// Counts what passes, and keeps of it what belongs to one database.
#[derive(Debug)]
pub(crate) struct Sieve {
    only: u32,
    pub(crate) counter: Counter,
    /// Bytes that are ready.
    out: Vec<u8>,
    crc: Crc64,
    began: bool,
    chosen: bool,
    /// The database at hand.
    at: Option<u32>,
    /// Keys of other databases.
    pub(crate) others: u64,
}

impl Sieve {
    pub(crate) fn new(only: u32) -> Self {
        Self {
            only,
            counter: Counter::default(),
            out: Vec::new(),
            crc: Crc64::new(),
            began: false,
            chosen: false,
            at: None,
            others: 0,
        }
    }

    /// Returns whether the key at hand belongs to the database.
    fn keeps(&self) -> bool {
        self.at == Some(self.only)
    }

    /// Takes what is ready; the magic stands before the first of it, and the end behind the last.
    pub(crate) fn ready(&mut self, flavour: Flavour, version: u16, over: bool) -> Vec<u8> {
        let mut ready = std::mem::take(&mut self.out);
        if !self.began && version > 0 {
            self.began = true;
            ready.splice(0..0, encode::magic(flavour, version));
        }
        self.crc.update(&ready);
        if over {
            encode::end(&mut self.crc, &mut ready);
        }
        ready
    }
}

impl Sink for Sieve {
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()> {
        self.at = Some(header.database);
        if !self.keeps() {
            self.others += 1;
            return Ok(());
        }
        if header.too_long || header.meta_too_long {
            return Err(
                Error::unsupported("one database cannot be cut out of an RDB with a key longer than 4 MiB")
                    .with_hint("?method=scan reads its keys one by one."),
            );
        }
        self.counter.key(header, value)?;
        if !self.chosen {
            self.chosen = true;
            encode::database(self.only, &mut self.out);
        }
        if let Some(at) = header.expires_ms {
            encode::expires_ms(at, &mut self.out);
        }
        if let Some(idle) = header.idle_seconds {
            encode::idle(idle, &mut self.out);
        }
        if let Some(frequency) = header.frequency {
            encode::frequency(frequency, &mut self.out);
        }
        self.out.extend_from_slice(&header.meta);
        self.out.push(header.type_number);
        encode::string(&header.key, &mut self.out);
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        if self.keeps() {
            self.out.extend_from_slice(bytes);
            self.counter.value(bytes)?;
        }
        Ok(())
    }

    fn value_end(&mut self) -> Result<()> {
        if self.keeps() {
            self.counter.value_end()?;
        }
        Ok(())
    }

    fn aux(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        if OF_THE_SERVER.contains(&name) {
            return Ok(());
        }
        encode::aux(name, value, &mut self.out);
        self.counter.aux(name, value)
    }

    fn module_data(&mut self, type_id: u64) -> Result<()> {
        // It stays out, and is counted all the same: keys that belong to it are not whole without it.
        self.counter.module_data(type_id)
    }

    fn template(&mut self, number: u64, names: &Template) -> Result<()> {
        encode::template(number, names, &mut self.out);
        self.counter.template(number, names)
    }

    fn young(&mut self) {
        self.counter.young();
    }

    fn distrust(&mut self) {
        self.counter.distrust();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::redis::wire::rdb::Walker;
    use crate::engines::redis::wire::rdb::walk::State;

    #[test]
    fn one_database_comes_out_as_an_rdb_of_its_own() {
        let key = |name: &[u8], value: &[u8], out: &mut Vec<u8>| {
            out.push(0);
            encode::string(name, out);
            encode::string(value, out);
        };
        let mut rdb = b"REDIS0011".to_vec();
        encode::aux(b"used-mem", b"1000", &mut rdb);
        encode::function(b"#!lua name=x", &mut rdb);
        for database in [0_u8, 3, 5, 9] {
            rdb.extend([254, database, 251, 2, 1]);
            for n in 0..2 {
                if n == 1 {
                    encode::expires_ms(1_900_000_000_000, &mut rdb);
                    encode::idle(7, &mut rdb);
                }
                let name = format!("{database}:{n}");
                key(name.as_bytes(), &[b'v'; 100], &mut rdb);
            }
        }
        let mut crc = Crc64::new();
        crc.update(&rdb);
        encode::end(&mut crc, &mut rdb);
        for piece in [1, 7, 64, rdb.len()] {
            let (mut walker, mut sieve, mut cut) = (Walker::new(), Sieve::new(5), Vec::new());
            for piece in rdb.chunks(piece) {
                walker.feed(piece, &mut sieve).unwrap();
                let over = walker.state() == State::Done;
                cut.extend(sieve.ready(walker.flavour(), walker.version(), over));
            }
            assert_eq!((sieve.others, sieve.counter.keys()), (6, 2));
            let (mut walker, mut again) = (Walker::new(), Sieve::new(5));
            assert_eq!(walker.feed(&cut, &mut again).unwrap(), cut.len());
            assert_eq!(walker.state(), State::Done);
            walker.finish().unwrap();
            assert_eq!((again.others, again.counter.keys()), (0, 2));
            let (first, second) = (sieve.counter.finish(), again.counter.finish());
            assert_eq!(first.content, second.content);
            assert_eq!((second.functions, second.aux.len(), second.expiring()), (0, 0, 1));
        }
    }
}
