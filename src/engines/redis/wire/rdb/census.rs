//! Counts what an RDB holds while it is walked: keys per database and type, sizes, expiries, the largest keys.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::Xxh3;

use super::module;
use super::types::ValueType;
use super::walk::{KeyHeader, Sink, Template};
use crate::base::error::Result;
use crate::base::exact;

/// Largest keys that are named.
const LARGEST: usize = 16;

/// Bytes of a key that are named.
const NAMED_BYTES: usize = 256;

/// Databases that are counted one by one; a forged file could name very many.
const MAX_DATABASES: usize = 4096;

/// A value longer than this is listed with its length: it is sent while it is read, which needs the length beforehand.
pub const LARGE_BYTES: u64 = 1 << 20;

/// Values that are listed so at most, which bounds the line of the index they stand in.
const MAX_LARGE: usize = 8192;

/// Counts of one type in one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct TypeCounts {
    /// Keys.
    pub keys: u64,
    /// Bytes of their values, as stored in the RDB.
    pub bytes: u64,
}

/// Counts of one database.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct DatabaseCounts {
    /// By type: `string`, `list`, `set`, `zset`, `hash`, `stream`, `array`, `module`.
    pub types: BTreeMap<String, TypeCounts>,
    /// Keys that expire.
    pub expiring: u64,
}

/// One of the largest keys.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LargeKey {
    /// Database.
    pub database: u32,
    /// The key, bytes that are no printable ASCII escaped; cut after 256 bytes.
    pub key: String,
    /// Its type.
    pub kind: String,
    /// Bytes of its value, as stored in the RDB.
    pub bytes: u64,
}

/// Types of modules that are named at most.
const MAX_MODULE_TYPES: usize = 64;

/// What an RDB holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Census {
    /// By database.
    pub databases: BTreeMap<u32, DatabaseCounts>,
    /// Function libraries.
    pub functions: u64,
    /// Auxiliary fields of the file: version of the writer, its time, its replication position.
    pub aux: BTreeMap<String, String>,
    /// The largest keys, largest first.
    pub largest: Vec<LargeKey>,
    /// Values longer than [`LARGE_BYTES`], in order: number of the key in the file, and bytes of its value. Nothing if there
    /// are too many of them, and in backups of versions that did not list them.
    #[serde(default)]
    pub large: Option<Vec<(u64, u64)>>,
    /// What stands for all keys with their expiries and values, and for the function libraries, in whatever order they are; not
    /// for how a key was used last. Hexadecimal. Nothing if not all of it is understood, and in backups of versions that did
    /// not compute it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Types of the modules that keep data beside the keys, which no command brings into a live server. Nothing in backups of
    /// versions that did not look for them.
    #[serde(default)]
    pub module_data: Option<BTreeSet<String>>,
}

impl DatabaseCounts {
    /// Returns the keys of all types.
    pub fn keys(&self) -> u64 {
        let each = self.types.values().map(|counts| counts.keys);
        each.fold(0, u64::saturating_add)
    }
}

impl Census {
    /// Returns what no RDB at all holds, to be merged with others.
    pub fn of_none() -> Self {
        Self {
            module_data: Some(BTreeSet::new()),
            ..Self::default()
        }
    }

    /// Returns the keys of all databases.
    pub fn keys(&self) -> u64 {
        let each = self.databases.values().map(DatabaseCounts::keys);
        each.fold(0, u64::saturating_add)
    }

    /// Returns the keys that expire.
    pub fn expiring(&self) -> u64 {
        let each = self.databases.values().map(|database| database.expiring);
        each.fold(0, u64::saturating_add)
    }

    /// Returns the keys by type, over all databases.
    pub fn by_type(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::<_, u64>::new();
        for (name, counts) in self.types() {
            let keys = found.entry(name.to_owned()).or_default();
            *keys = keys.saturating_add(counts.keys);
        }
        found
    }

    /// Adds the counts of another shard, whose function libraries are the same ones.
    pub fn merge(&mut self, other: &Self) {
        for (number, from) in &other.databases {
            let into = self.databases.entry(*number).or_default();
            into.expiring = into.expiring.saturating_add(from.expiring);
            for (name, counts) in &from.types {
                let types = into.types.entry(name.clone()).or_default();
                types.keys = types.keys.saturating_add(counts.keys);
                types.bytes = types.bytes.saturating_add(counts.bytes);
            }
        }
        self.functions = self.functions.max(other.functions);
        // What is not known of one of them is not known of all.
        self.module_data = match (self.module_data.take(), &other.module_data) {
            (Some(mut own), Some(other)) => {
                own.extend(other.iter().cloned());
                Some(own)
            }
            _ => None,
        };
        self.largest.extend(other.largest.iter().cloned());
        self.largest.sort_by_key(|key| std::cmp::Reverse(key.bytes));
        self.largest.truncate(LARGEST);
    }

    fn types(&self) -> impl Iterator<Item = (&str, &TypeCounts)> {
        let databases = self.databases.values();
        databases.flat_map(|database| database.types.iter().map(|(name, counts)| (name.as_str(), counts)))
    }
}

/// Takes the census.
pub struct Counter {
    census: Census,
    /// Counts of the database at hand, by type; written back when another begins.
    database: u32,
    types: Vec<(&'static str, TypeCounts)>,
    expiring: u64,
    header: KeyHeader,
    name: &'static str,
    bytes: u64,
    keys: u64,
    hasher: Box<Xxh3>,
    /// The sum over what was hashed: it does not depend on the order. Nothing if something could not be.
    content: Option<u128>,
    /// The census before the first value of a young type, and its keys.
    believed: Option<Box<(Census, u64)>>,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Counter({} keys)", self.keys)
    }
}

impl Default for Counter {
    fn default() -> Self {
        let census = Census {
            large: Some(Vec::new()),
            module_data: Some(BTreeSet::new()),
            ..Census::default()
        };
        Self {
            census,
            database: 0,
            types: Vec::new(),
            expiring: 0,
            header: KeyHeader::default(),
            name: "",
            bytes: 0,
            keys: 0,
            hasher: Box::default(),
            content: Some(0),
            believed: None,
        }
    }
}

impl Counter {
    /// Returns the keys so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Ends the count.
    pub fn finish(mut self) -> Census {
        self.write_back();
        self.census.content = self.content.map(|sum| format!("{sum:032x}"));
        self.census
    }

    /// Adds what was hashed.
    fn add_hashed(&mut self) {
        let hash = self.hasher.digest128();
        self.content = self.content.map(|sum| sum.wrapping_add(hash));
    }

    fn write_back(&mut self) {
        let full = self.census.databases.len() >= MAX_DATABASES;
        if !full || self.census.databases.contains_key(&self.database) {
            let database = self.census.databases.entry(self.database).or_default();
            for (name, counts) in &self.types {
                let sum = database.types.entry((*name).to_owned()).or_default();
                sum.keys += counts.keys;
                sum.bytes += counts.bytes;
            }
            database.expiring += self.expiring;
            if database.types.is_empty() {
                self.census.databases.remove(&self.database);
            }
        }
        self.types.clear();
        self.expiring = 0;
    }

    fn note_if_large(&mut self) {
        let largest = &mut self.census.largest;
        if largest.len() >= LARGEST && largest.last().is_none_or(|last| last.bytes >= self.bytes) {
            return;
        }
        let key = exact::first(&self.header.key, NAMED_BYTES);
        let at = largest.partition_point(|other| other.bytes >= self.bytes);
        largest.insert(
            at,
            LargeKey {
                database: self.header.database,
                key: key.escape_ascii().to_string(),
                kind: self.name.to_owned(),
                bytes: self.bytes,
            },
        );
        largest.truncate(LARGEST);
    }
}

impl Sink for Counter {
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()> {
        if header.database != self.database {
            self.write_back();
            self.database = header.database;
        }
        self.header.clone_from(header);
        self.name = value.name;
        self.bytes = 0;
        self.hasher.reset();
        let expires = header.expires_ms.unwrap_or(i64::MIN).to_le_bytes();
        let length = exact::u64_from(header.key.len()).to_le_bytes();
        for part in [
            &header.database.to_le_bytes()[..],
            &[header.type_number],
            &expires,
            &length,
            &header.key,
        ] {
            self.hasher.update(part);
        }
        self.hasher.update(&header.meta);
        if header.too_long || header.meta_too_long {
            self.content = None;
        }
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(exact::u64_from(bytes.len()));
        Ok(())
    }

    fn value_end(&mut self) -> Result<()> {
        if self.bytes > LARGE_BYTES {
            self.census.large = self.census.large.take().filter(|large| large.len() < MAX_LARGE);
            if let Some(large) = &mut self.census.large {
                large.push((self.keys, self.bytes));
            }
        }
        self.keys += 1;
        self.add_hashed();
        if self.header.expires_ms.is_some() {
            self.expiring += 1;
        }
        match self.types.iter_mut().find(|(name, _)| *name == self.name) {
            Some((_, counts)) => {
                counts.keys += 1;
                counts.bytes = counts.bytes.saturating_add(self.bytes);
            }
            None => self.types.push((
                self.name,
                TypeCounts {
                    keys: 1,
                    bytes: self.bytes,
                },
            )),
        }
        self.note_if_large();
        Ok(())
    }

    fn aux(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        if self.census.aux.len() < 32 && name.len() <= 64 && value.len() <= 256 {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            self.census.aux.insert(text(name), text(value));
        }
        Ok(())
    }

    fn function(&mut self, code: &[u8]) -> Result<()> {
        self.census.functions += 1;
        self.hasher.reset();
        self.hasher.update(b"function");
        self.hasher.update(code);
        self.add_hashed();
        Ok(())
    }

    fn template(&mut self, number: u64, names: &Template) -> Result<()> {
        self.hasher.reset();
        self.hasher.update(b"template");
        self.hasher.update(&number.to_le_bytes());
        for name in names.iter() {
            self.hasher.update(&exact::u64_from(name.len()).to_le_bytes());
            self.hasher.update(name);
        }
        self.add_hashed();
        Ok(())
    }

    fn young(&mut self) {
        self.write_back();
        self.believed = Some(Box::new((self.census.clone(), self.keys)));
    }

    fn distrust(&mut self) {
        if let Some(believed) = self.believed.take() {
            (self.census, self.keys) = *believed;
            self.types.clear();
            self.expiring = 0;
            self.content = None;
        }
    }

    fn module_data(&mut self, type_id: u64) -> Result<()> {
        self.content = None;
        if let Some(types) = &mut self.census.module_data
            && types.len() < MAX_MODULE_TYPES
        {
            types.insert(module::type_name(type_id));
        }
        Ok(())
    }
}
