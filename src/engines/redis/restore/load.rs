//! Turns the keys of an RDB into RESTORE commands, while it is walked.
//!
//! A DUMP payload is the type byte, the value as it stands in the RDB, the RDB version and a CRC64; so no value is
//! decoded. It is stamped with the lowest version that knows its type, so every server that can read it takes it. Small
//! values are collected; a large one is sent while it is read, for the backup noted its length. Into an empty target short strings go many at a time, by MSETNX.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use xxhash_rust::xxh3::xxh3_128;

use super::route::Routes;
use super::transcode;
use super::transcode::ServerDialect;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::wire::glob;
use crate::engines::redis::wire::key_name::{NAMED_BYTES, name};
use crate::engines::redis::wire::rdb::types::ValueType;
use crate::engines::redis::wire::rdb::walk::{KeyHeader, Sink, Template};
use crate::engines::redis::wire::rdb::{Crc64, Flavour, lzf, module, walk};
use crate::engines::redis::wire::resp;

/// Bytes of a payload beside the value: type, version, CRC64.
const FRAME_BYTES: u64 = 11;

/// What becomes of keys that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// The backup's key replaces it
    Replace,
    /// It stays as it is
    Skip,
    /// It stays, and is reported as failed
    Fail,
}

/// What a reply belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// A key: database, its first bytes, to name it in a report, and its number in the file.
    Key(u32, Vec<u8>, u64),
    /// Keys that are set together, all or none.
    Group(Box<Group>),
    /// A function library: its name, and the number of the node that it goes to.
    Function(String, usize),
    /// SELECT: without it, keys would go into the wrong database.
    Select(u32),
    /// ASKING: the key that follows goes to a node that is taking its slot over.
    Asking,
}

impl Sent {
    /// Returns how many keys it stands for.
    pub(crate) fn keys(&self) -> usize {
        match self {
            Self::Key(..) => 1,
            Self::Group(group) => group.ordinals.len(),
            Self::Function(..) | Self::Select(_) | Self::Asking => 0,
        }
    }
}

/// Strings that are set by one MSETNX.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Group {
    pub(crate) database: u32,
    /// The first bytes of the keys, to name them in a report; where each ends; their numbers in the file.
    names: Vec<u8>,
    ends: Vec<usize>,
    ordinals: Vec<u64>,
}

impl Group {
    fn push(&mut self, key: &[u8], ordinal: u64) {
        self.names.extend_from_slice(exact::first(key, NAMED_BYTES));
        self.ends.push(self.names.len());
        self.ordinals.push(ordinal);
    }

    pub(crate) fn len(&self) -> u64 {
        exact::u64_from(self.ordinals.len())
    }

    /// Returns the first bytes of each key, and its number in the file.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut from = 0;
        self.ends.iter().zip(&self.ordinals).map(move |(&end, &ordinal)| {
            let name = exact::part(
                &self.names,
                from..end,
                "each end is one of its time, and none is before another",
            );
            from = end;
            (name, ordinal)
        })
    }
}

/// Strings that are set together at most, and bytes of them.
const GROUP_KEYS: usize = 64;
const GROUP_BYTES: usize = 48 << 10;

/// A longer string goes by RESTORE, which the server reads without copying it, in bytes.
const SHORT_BYTES: u64 = 16 << 10;

/// One key that did not come back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedKey {
    /// `key`, or `function`.
    pub kind: String,
    /// Database and name; bytes that are no printable ASCII are escaped.
    pub name: String,
    /// Why.
    pub error: String,
    /// What can be done.
    pub advice: String,
}

/// Failures that are named; the rest is counted.
const NAMED_FAILURES: usize = 100;

/// Keys that are written by ordinary commands at most; their numbers are held.
const AGAIN: usize = 1 << 20;

/// Keys that one node sends on to another at most.
const MOVED: usize = 1 << 17;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// What became of the keys. A field that an earlier release did not write is as of a restore that had nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Keys that came back.
    pub restored: u64,
    /// Keys that expired meanwhile.
    pub expired: u64,
    /// Keys left as they were, because the target has them.
    pub skipped: u64,
    /// Keys that no `--key` pattern matches.
    pub not_selected: u64,
    /// Function libraries that came back.
    pub functions: u64,
    /// Users that came back.
    pub users: u64,
    /// They are not in a file of the server: it has none, or does not let us save it.
    pub users_in_memory: bool,
    /// Keys that went in another encoding, because the target does not know theirs.
    pub transcoded: u64,
    /// Keys that went by ordinary commands, because the target refuses their payloads.
    pub replayed: u64,
    /// Numbers, in the file, of keys that are still to go so.
    #[serde(skip)]
    pub(crate) again: Vec<u64>,
    /// Numbers, in the file, of keys that another node of the cluster takes.
    #[serde(skip)]
    pub(crate) moved: Vec<u64>,
    /// Numbers, in the file, of keys that the target has by somebody else.
    #[serde(skip)]
    pub(crate) taken: Vec<u64>,
    /// There are more of those than can be held.
    #[serde(skip)]
    pub(crate) too_many_taken: bool,
    /// Those of all files: number of the file, number of the key.
    #[serde(skip)]
    pub(crate) foreign: HashSet<(usize, u64)>,
    /// The same of keys that go as payloads of DUMP: number of the RDB that they stand beside, number of the record.
    #[serde(skip)]
    pub(crate) foreign_payloads: HashSet<(usize, u64)>,
    /// Types of modules that keep data beside the keys.
    #[serde(skip)]
    pub(crate) module_data: BTreeSet<String>,
    /// Keys that expire within a day, by the minute.
    #[serde(skip)]
    pub(crate) due: BTreeMap<i64, u64>,
    /// Keys that did not come back.
    pub failed_keys: u64,
    /// The first of them.
    pub failed: Vec<FailedKey>,
    /// What beside single keys is not as the backup has it, or could not be found out.
    pub losses: Vec<FailedKey>,
}

impl Tally {
    pub(crate) fn fail(&mut self, kind: &str, name: String, error: String, advice: &str) {
        self.failed_keys += 1;
        if self.failed.len() < NAMED_FAILURES {
            self.failed.push(FailedKey {
                kind: kind.to_owned(),
                name,
                error,
                advice: advice.to_owned(),
            });
        }
    }

    /// Names what is not as it should be and is no key.
    pub(crate) fn lose(&mut self, kind: &str, name: &str, error: String, advice: &str) {
        if self.losses.len() < NAMED_FAILURES {
            self.losses.push(FailedKey {
                kind: kind.to_owned(),
                name: name.to_owned(),
                error,
                advice: advice.to_owned(),
            });
        }
    }

    /// Names it, unless it was named already.
    pub(crate) fn lose_once(&mut self, kind: &str, name: &str, error: &str, advice: &str) {
        if self.losses.iter().all(|loss| loss.kind != kind || loss.name != name) {
            self.lose(kind, name, error.to_owned(), advice);
        }
    }

    /// Notes when a key expires; see [`Tally::due_by`].
    pub(crate) fn expires(&mut self, at_ms: i64, now_ms: i64) {
        if at_ms.saturating_sub(now_ms) < DAY_MS {
            *self.due.entry(at_ms / MINUTE_MS).or_default() += 1;
        }
    }

    /// Returns how many keys have expired by a time, or may have in the minute of it.
    pub(crate) fn due_by(&self, now_ms: i64) -> u64 {
        self.due.range(..=now_ms / MINUTE_MS).map(|(_, keys)| keys).sum()
    }

    /// Leaves a key to be written by ordinary commands.
    pub(crate) fn again(&mut self, ordinal: u64) -> bool {
        let room = self.again.len() < AGAIN;
        if room {
            self.again.push(ordinal);
        }
        room
    }

    /// Leaves a key to be sent to another node.
    pub(crate) fn moved(&mut self, ordinal: u64) -> bool {
        let room = self.moved.len() < MOVED;
        if room {
            self.moved.push(ordinal);
        }
        room
    }

    /// Notes a key that the target has by somebody else.
    pub(crate) fn taken(&mut self, ordinal: u64) {
        if self.taken.len() < AGAIN {
            self.taken.push(ordinal);
        } else {
            self.too_many_taken = true;
        }
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.restored += other.restored;
        self.expired += other.expired;
        self.skipped += other.skipped;
        self.not_selected += other.not_selected;
        self.functions += other.functions;
        self.users += other.users;
        self.users_in_memory |= other.users_in_memory;
        self.transcoded += other.transcoded;
        self.replayed += other.replayed;
        self.again.extend(other.again);
        self.moved.extend(other.moved);
        self.taken.extend(other.taken);
        self.too_many_taken |= other.too_many_taken;
        for (minute, keys) in other.due {
            *self.due.entry(minute).or_default() += keys;
        }
        for loss in other.losses {
            // Each pass over an RDB finds the same again.
            if !self.losses.contains(&loss) {
                self.losses.push(loss);
            }
        }
        self.foreign.extend(other.foreign);
        self.module_data.extend(other.module_data);
        self.failed_keys += other.failed_keys;
        let room = NAMED_FAILURES.saturating_sub(self.failed.len());
        self.failed.extend(other.failed.into_iter().take(room));
    }
}

/// What is loaded, and how.
#[derive(Debug)]
pub(crate) struct LoadOptions {
    pub(crate) patterns: Vec<Vec<u8>>,
    /// `None` for a target without keys.
    pub(crate) conflict: Option<Conflict>,
    pub(crate) target: ServerDialect,
    /// The target takes no RESTORE: all keys go by ordinary commands afterwards.
    pub(crate) by_commands: bool,
    /// Strings may be set together by MSETNX.
    pub(crate) grouped: bool,
    /// `proto-max-bulk-len` of the target, in bytes.
    pub(crate) max_bulk_bytes: u64,
    pub(crate) source: Flavour,
    /// Whether function libraries are loaded too.
    pub(crate) functions: bool,
    /// The database that all keys go into, if not each into the one of its number.
    pub(crate) into: Option<u32>,
    /// Hashes of the libraries that every server of the target has as they are.
    pub(crate) libraries: HashSet<u128>,
    /// Types of modules that keep data beside the keys, which does not come back: keys that belong to it stay out.
    pub(crate) module_data: BTreeSet<String>,
    /// What to do about those keys.
    pub(crate) module_advice: &'static str,
    /// Keys that expired before this are left out, in milliseconds since the epoch.
    pub(crate) now_ms: i64,
    /// Numbers, in the file, of the only keys that are sent; the others were counted before.
    pub(crate) only: Option<HashSet<u64>>,
}

/// What happens to the value at hand.
#[derive(Debug)]
enum Mode {
    /// It is read over.
    Pass,
    /// It is collected and sent at its end.
    Collect,
    /// It is sent as it comes.
    Stream(Box<Crc64>),
    /// It is collected until its type of a module is known; its length if it is large.
    Module(Option<u64>),
}

/// Commands to a node of a cluster that is not at hand.
#[derive(Debug, Default)]
struct Parked {
    out: Vec<u8>,
    sent: Vec<Sent>,
    cuts: Vec<usize>,
    database: u32,
}

/// Collects commands; whoever drives the walk sends them.
#[derive(Debug)]
pub(crate) struct Loader {
    how: LoadOptions,
    /// Where keys go in a cluster; the node whose commands are at hand, and those of the others.
    pub(crate) routes: Routes,
    node: usize,
    parked: Vec<Parked>,
    asking: bool,
    large: VecDeque<(u64, u64)>,
    ordinal: u64,
    mode: Mode,
    header: KeyHeader,
    value_type: Option<ValueType>,
    value: Vec<u8>,
    database: u32,
    /// Strings that are set together, with their arguments, and a string at hand without its compression.
    group: Group,
    arguments: Vec<u8>,
    plain: Vec<u8>,
    /// Names of the fields of hashes that refer to them.
    templates: HashMap<u64, Template>,
    /// Commands to be sent.
    pub(crate) out: Vec<u8>,
    /// What their replies belong to.
    pub(crate) sent: Vec<Sent>,
    /// Where commands end whose replies must be there before anything follows.
    pub(crate) cuts: Vec<usize>,
    /// What was decided without the server.
    pub(crate) tally: Tally,
}

impl Loader {
    pub(crate) fn new(how: LoadOptions, routes: Routes, large: VecDeque<(u64, u64)>) -> Self {
        Self {
            how,
            routes,
            node: 0,
            parked: Vec::new(),
            asking: false,
            large,
            ordinal: 0,
            mode: Mode::Pass,
            header: KeyHeader::default(),
            value_type: None,
            value: Vec::new(),
            database: 0,
            group: Group::default(),
            arguments: Vec::new(),
            plain: Vec::new(),
            templates: HashMap::new(),
            out: Vec::new(),
            sent: Vec::new(),
            cuts: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Returns what becomes of keys that the target has.
    pub(crate) fn conflict(&self) -> Option<Conflict> {
        self.how.conflict
    }

    /// Returns the node whose commands are at hand.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Returns whether the command that was begun last is still to be ended.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Stream(_))
    }

    /// Takes the commands to another node at hand.
    pub(crate) fn turn_to(&mut self, node: usize) {
        if node == self.node {
            return;
        }
        let most = node.max(self.node);
        if self.parked.len() <= most {
            self.parked.resize_with(most + 1, Parked::default);
        }
        for turned in [self.node, node] {
            if let Some(parked) = self.parked.get_mut(turned) {
                std::mem::swap(&mut parked.out, &mut self.out);
                std::mem::swap(&mut parked.sent, &mut self.sent);
                std::mem::swap(&mut parked.cuts, &mut self.cuts);
                std::mem::swap(&mut parked.database, &mut self.database);
            }
        }
        self.node = node;
    }

    fn name(&self) -> String {
        name(self.header.database, &self.header.key)
    }

    fn fail(&mut self, error: &str, advice: &str) {
        let name = self.name();
        self.tally.fail("key", name, error.to_owned(), advice);
    }

    /// Decides about a key before its value is seen.
    fn decide(&mut self, value: ValueType) -> Mode {
        let large = self
            .large
            .front()
            .filter(|(ordinal, _)| *ordinal == self.ordinal)
            .map(|(_, bytes)| *bytes);
        if large.is_some() {
            self.large.pop_front();
        }
        if self.how.only.as_ref().is_some_and(|only| !only.contains(&self.ordinal)) {
            return Mode::Pass;
        }
        let patterns = &self.how.patterns;
        let matches = |pattern: &Vec<u8>| glob::matches(pattern, &self.header.key);
        if !patterns.is_empty() && !self.header.too_long && !patterns.iter().any(matches) {
            self.tally.not_selected += 1;
            return Mode::Pass;
        }
        if self.header.expires_ms.is_some_and(|at| at <= self.how.now_ms) {
            self.tally.expired += 1;
            return Mode::Pass;
        }
        if self.header.too_long {
            // It is not held here, but by whoever decodes the RDB once more.
            if !self.how.by_commands && !self.tally.again(self.ordinal) {
                self.fail(
                    "the key is longer than 4 MiB, and too many keys need ordinary commands",
                    "Restore into a file: --into file:dump.rdb.",
                );
            }
            return Mode::Pass;
        }
        if let Some(at) = self.header.expires_ms {
            self.tally.expires(at, self.how.now_ms);
        }
        let keeps_meta = self.how.target.keeps_meta() && !self.how.by_commands;
        if self.header.meta_too_long || (!self.header.meta.is_empty() && !keeps_meta) {
            self.header.meta.clear();
            self.tally.lose_once("metadata", "of keys", WITHOUT_META, META_ADVICE);
        }
        if self.how.by_commands {
            return Mode::Pass;
        }
        if value.name == "module" && !self.how.module_data.is_empty() {
            return Mode::Module(large);
        }
        self.place(value, large)
    }

    /// Decides about the value of a module, once its type is known.
    fn decide_module(&mut self, large: Option<u64>) -> Result<()> {
        let Some((id, _)) = walk::length_at(&self.value)? else {
            self.mode = Mode::Module(large);
            return Ok(());
        };
        let name = module::type_name(id);
        let whole = module::is_whole(&name, self.how.module_data.iter().map(String::as_str));
        let placed = self.value_type.filter(|_| whole).map(|value| self.place(value, large));
        if !whole {
            let why = format!("its type {name} belongs to a module whose data outside keys cannot be restored");
            self.fail(&why, self.how.module_advice);
        }
        self.mode = placed.unwrap_or(Mode::Pass);
        let begun = std::mem::take(&mut self.value);
        self.value(&begun)
    }

    /// Finds the node that a key goes to, and whether its value can be sent as it comes.
    fn place(&mut self, value: ValueType, large: Option<u64>) -> Mode {
        let (node, asking) = self.routes.of(&self.header.key);
        self.turn_to(node);
        self.asking = asking;
        let Some(bytes) = large else { return Mode::Collect };
        let too_long = bytes.saturating_add(FRAME_BYTES) > self.how.max_bulk_bytes;
        if too_long && value.name == "string" {
            self.fail(
                &format!("its value of {bytes} bytes is longer than proto-max-bulk-len of the target"),
                "Raise it there (CONFIG SET proto-max-bulk-len), or restore into a file: --into file:dump.rdb.",
            );
            return Mode::Pass;
        }
        let known = self.how.target.knows(self.how.source, value);
        if !known && bytes <= transcode::MAX_BYTES {
            return Mode::Collect;
        }
        if too_long || !known {
            if !self.tally.again(self.ordinal) {
                self.fail(
                    "too many keys are refused as they are",
                    "Restore into a server of the version of the backup or later.",
                );
            }
            return Mode::Pass;
        }
        self.begin(bytes.saturating_add(FRAME_BYTES));
        let mut crc = Crc64::new();
        self.push_type(self.header.type_number, &mut crc);
        Mode::Stream(Box::new(crc))
    }

    fn push(&mut self, bytes: &[u8], crc: &mut Crc64) {
        crc.update(bytes);
        self.out.extend_from_slice(bytes);
    }

    /// Appends the metadata of the key and the type of its value.
    fn push_type(&mut self, number: u8, crc: &mut Crc64) {
        let from = self.out.len();
        self.out.extend_from_slice(&self.header.meta);
        self.out.push(number);
        crc.update(exact::part(&self.out, from.., "it was longer since"));
    }

    /// Appends a command up to the payload, whose length is given but for the metadata of the key.
    fn begin(&mut self, payload_bytes: u64) {
        let meta_bytes = exact::u64_from(self.header.meta.len());
        let payload_bytes = payload_bytes.saturating_add(meta_bytes);
        self.select();
        if self.asking {
            resp::encode(&[b"ASKING"], &mut self.out);
            self.sent.push(Sent::Asking);
        }
        let header = &self.header;
        let ttl = header.expires_ms.unwrap_or(0).to_string();
        let arguments = 4
            + usize::from(header.expires_ms.is_some())
            + usize::from(self.replaces())
            + 2 * usize::from(self.used().is_some());
        resp::header(b'*', arguments, &mut self.out);
        for argument in [&b"RESTORE"[..], &header.key, ttl.as_bytes()] {
            string(argument, &mut self.out);
        }
        resp::header(b'$', exact::usize_from(payload_bytes), &mut self.out);
        let named = exact::first(&header.key, NAMED_BYTES);
        let sent = Sent::Key(header.database, named.to_vec(), self.ordinal);
        self.sent.push(sent);
    }

    /// Appends what chooses the database of the key at hand.
    fn select(&mut self) {
        let database = self.header.database;
        if database != self.database {
            self.close_group();
            self.database = database;
            resp::encode(&[b"SELECT", database.to_string().as_bytes()], &mut self.out);
            self.sent.push(Sent::Select(database));
            self.cuts.push(self.out.len());
        }
    }

    /// Adds the string at hand to those that are set together, if it can go so. It needs no payload then, no CRC64 of it
    /// and no reply of its own, which together cost a server more than the string.
    fn grouped(&mut self, value: &[u8]) -> bool {
        let fits = self.how.grouped && self.header.expires_ms.is_none() && self.used().is_none();
        let fits = fits && self.header.meta.is_empty();
        // A string that cannot be decoded is left to the server, which refuses that one key.
        if !fits || !self.decode_short(value).unwrap_or(false) {
            return false;
        }
        self.select();
        self.group.database = self.header.database;
        self.group.push(&self.header.key, self.ordinal);
        string(&self.header.key, &mut self.arguments);
        string(&self.plain, &mut self.arguments);
        if self.group.ordinals.len() >= GROUP_KEYS || self.arguments.len() >= GROUP_BYTES {
            self.close_group();
        }
        true
    }

    /// Decodes the string at hand, unless it is long.
    fn decode_short(&mut self, value: &[u8]) -> Result<bool> {
        let Some(header) = walk::string_header_at(value)? else {
            return Ok(false);
        };
        if header.stored.max(header.raw.unwrap_or(0)) > SHORT_BYTES {
            return Ok(false);
        }
        let stored = exact::range(value, header.used.., "a string")?;
        self.plain.clear();
        match (header.integer, header.raw) {
            (Some(_), _) => {
                let number = walk::integer(stored)?;
                self.plain.extend_from_slice(number.to_string().as_bytes());
            }
            (None, Some(raw)) => lzf::decompress_into(stored, exact::usize_from(raw), &mut self.plain)?,
            (None, None) => self.plain.extend_from_slice(stored),
        }
        Ok(true)
    }

    /// Appends the command that sets the strings of the group. To be called after the last key too.
    pub(crate) fn close_group(&mut self) {
        let keys = self.group.ordinals.len();
        if keys > 0 {
            resp::header(b'*', 1 + 2 * keys, &mut self.out);
            string(b"MSETNX", &mut self.out);
            self.out.append(&mut self.arguments);
            self.sent.push(Sent::Group(Box::new(std::mem::take(&mut self.group))));
        }
    }

    fn replaces(&self) -> bool {
        self.how.conflict == Some(Conflict::Replace)
    }

    /// Returns how the key was used last, as arguments of RESTORE.
    fn used(&self) -> Option<(&'static str, u64)> {
        match (self.header.frequency, self.header.idle_seconds) {
            (Some(frequency), _) => Some(("FREQ", frequency.into())),
            (None, Some(idle)) => Some(("IDLETIME", idle)),
            (None, None) => None,
        }
    }

    /// Appends what follows the value: version, CRC64, the other arguments.
    fn end(&mut self, since: u16, crc: &mut Crc64) {
        let since = if self.header.meta.is_empty() {
            since
        } else {
            since.max(transcode::META_SINCE)
        };
        self.push(&since.to_le_bytes(), crc);
        let crc = crc.value().to_le_bytes();
        self.out.extend_from_slice(&crc);
        self.out.extend_from_slice(b"\r\n");
        if self.header.expires_ms.is_some() {
            string(b"ABSTTL", &mut self.out);
        }
        if self.replaces() {
            string(b"REPLACE", &mut self.out);
        }
        if let Some((word, number)) = self.used() {
            string(word.as_bytes(), &mut self.out);
            string(number.to_string().as_bytes(), &mut self.out);
        }
    }

    fn send_collected(&mut self, value_type: ValueType) {
        let mut value = std::mem::take(&mut self.value);
        if value_type.name == "string" && self.grouped(&value) {
            // It goes with others.
        } else if self.how.target.knows(self.how.source, value_type) {
            self.send(self.header.type_number, &value, value_type.since);
        } else {
            let from = (self.how.source, self.header.type_number);
            match transcode::transcode(from, &value, self.how.target, &self.templates) {
                Ok(other) => {
                    self.tally.transcoded += 1;
                    if other.without_producers {
                        let stream = format!("of stream {}", self.name());
                        self.tally
                            .lose("producers", &stream, WITHOUT_PRODUCERS.to_owned(), META_ADVICE);
                    }
                    self.send(other.number, &other.value, other.since);
                }
                // The decoder may know better; so do commands that bring all of a stream but what was given back.
                Err(error)
                    if (error.kind() == ErrorKind::Corrupt || value_type.name == "stream")
                        && self.tally.again(self.ordinal) => {}
                Err(error) => {
                    let advice = "Restore into a server of the version of the backup or later.";
                    self.fail(&error.chain(), advice);
                }
            }
        }
        value.clear();
        self.value = value;
    }

    fn send(&mut self, type_number: u8, value: &[u8], since: u16) {
        self.begin(exact::u64_from(value.len()).saturating_add(FRAME_BYTES));
        let mut crc = Crc64::new();
        self.push_type(type_number, &mut crc);
        self.push(value, &mut crc);
        self.end(since, &mut crc);
    }
}

/// What is said of metadata and producers that do not come back, and what to do about it.
pub(crate) const WITHOUT_META: &str =
    "modules attach it to keys, and the target does not support it: the keys are restored without it";
pub(crate) const WITHOUT_PRODUCERS: &str =
    "the target does not support its producers' state: entries that a producer resends are added again";
pub(crate) const META_ADVICE: &str = "Restore into a server of the version of the backup, with the same modules.";

/// What to do about keys and data that no command brings back.
pub(crate) const FILE_ADVICE: &str = "Restore into a file: --into file:dump.rdb, for a server with the same modules.";

/// The same where the backup is of one database, without those data.
pub(crate) const WHOLE_ADVICE: &str = "The data are not in a backup of one database: back up the whole server, without the number in the URL, and restore \
     that into a file.";

/// Returns the name of a function library: its first line is `#!ENGINE name=NAME`.
fn library_name(code: &[u8]) -> String {
    let line = code.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace);
    let name = words.find_map(|word| word.strip_prefix(b"name=")).unwrap_or_default();
    exact::first(name, NAMED_BYTES).escape_ascii().to_string()
}

/// Returns what stands for the code of a function library.
pub(crate) fn hash(code: &[u8]) -> u128 {
    xxh3_128(code)
}

/// Appends one argument.
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    resp::header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

impl Sink for Loader {
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()> {
        self.header.clone_from(header);
        self.header.database = self.how.into.unwrap_or(header.database);
        self.value_type = Some(value);
        self.value.clear();
        self.mode = self.decide(value);
        Ok(())
    }

    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.mode {
            Mode::Pass => {}
            Mode::Collect => {
                if self.value.len().saturating_add(bytes.len()) > exact::usize_from(transcode::MAX_BYTES) {
                    return Err(Error::corrupt("a value is longer than the backup noted"));
                }
                self.value.extend_from_slice(bytes);
            }
            Mode::Module(large) => {
                let large = *large;
                self.value.extend_from_slice(bytes);
                return self.decide_module(large);
            }
            Mode::Stream(crc) => {
                crc.update(bytes);
                self.out.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn value_end(&mut self) -> Result<()> {
        let Some(value_type) = self.value_type else {
            return Ok(());
        };
        match std::mem::replace(&mut self.mode, Mode::Pass) {
            Mode::Pass => {}
            Mode::Module(_) => return Err(Error::corrupt("the value of a module names no type")),
            Mode::Collect => self.send_collected(value_type),
            Mode::Stream(mut crc) => self.end(value_type.since, &mut crc),
        }
        self.ordinal += 1;
        Ok(())
    }

    fn template(&mut self, number: u64, names: &Template) -> Result<()> {
        self.templates.insert(number, Template::clone(names));
        Ok(())
    }

    fn module_data(&mut self, type_id: u64) -> Result<()> {
        if self.tally.module_data.len() < NAMED_FAILURES {
            self.tally.module_data.insert(module::type_name(type_id));
        }
        Ok(())
    }

    fn function(&mut self, code: &[u8]) -> Result<()> {
        if !self.how.functions || !self.routes.is_new_library(code) {
            return Ok(());
        }
        if self.how.libraries.contains(&hash(code)) {
            self.tally.functions += 1;
            return Ok(());
        }
        // Every primary has all of them. One that the target has is not replaced unasked, whether it holds keys or not.
        for node in 0..self.routes.nodes().len() {
            self.turn_to(node);
            let replace: &[&[u8]] = &[b"FUNCTION", b"LOAD", b"REPLACE", code];
            let keep: &[&[u8]] = &[b"FUNCTION", b"LOAD", code];
            resp::encode(if self.replaces() { replace } else { keep }, &mut self.out);
            self.sent.push(Sent::Function(library_name(code), node));
        }
        Ok(())
    }
}
