//! Walks an RDB as its bytes pass: finds each key and where its value begins and ends, and checks the CRC64.
//!
//! The walk is a small machine over a stack of what is still to come (so many strings, so many raw bytes), fed with
//! pieces of any size. It allocates nothing that a length in the file could make large: values are skipped by count and
//! handed on as ranges of the caller's piece, only keys, aux fields and functions are collected, each within a bound.
//! A type or opcode it does not know cannot be skipped: it then becomes opaque, and only the framing around the RDB
//! tells where it ends. So it does where a value of a young type has not the form that it should have, or what follows it:
//! then nothing from the first such value on is believed.

use std::collections::HashMap;
use std::sync::Arc;

use super::Crc64;
use super::lzf;
use super::packed;
use super::types;
use super::types::{Flavour, Shape, ValueType};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;

/// A string longer than this is taken for a forged length, in bytes. Servers allow 512 MiB unless configured otherwise.
const MAX_STRING_BYTES: u64 = 1 << 38;

/// Bytes of a key, an aux field or a function library that are collected at most.
pub const MAX_COLLECTED_BYTES: usize = 4 << 20;

/// Bytes of the metadata of one key, and of the field names of all hash templates, that are kept at most.
const MAX_META_BYTES: usize = 1 << 20;
pub(super) const MAX_TEMPLATE_BYTES: usize = 16 << 20;

/// What a field name costs beside its bytes.
pub(super) const NAME_COST_BYTES: usize = 48;

/// Databases at most: `databases` of a server is a 32-bit number, but each has a row of counts here.
const MAX_DATABASE: u64 = 1 << 20;

/// What stands before a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyHeader {
    /// Database.
    pub database: u32,
    /// Type number.
    pub type_number: u8,
    /// The key; see also [`KeyHeader::too_long`].
    pub key: Vec<u8>,
    /// When it expires, in milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    /// Seconds since it was last used.
    pub idle_seconds: Option<u64>,
    /// Frequency counter of LFU.
    pub frequency: Option<u8>,
    /// The key is longer than can be collected; `key` is empty.
    pub too_long: bool,
    /// What modules attach to the key, as it stands before its type; in the payload of the key it stands there too.
    pub meta: Vec<u8>,
    /// There is more of that than is kept.
    pub meta_too_long: bool,
}

/// Names of the fields of hashes that refer to them by a number.
pub type Template = Arc<Vec<Vec<u8>>>;

/// What the walk tells. Every method may end it by an error.
pub trait Sink {
    /// A value follows.
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()>;
    /// The next bytes of the value, without its type byte.
    fn value(&mut self, bytes: &[u8]) -> Result<()>;
    /// The value is complete.
    fn value_end(&mut self) -> Result<()>;
    /// An auxiliary field.
    fn aux(&mut self, _name: &[u8], _value: &[u8]) -> Result<()> {
        Ok(())
    }
    /// Source of a function library.
    fn function(&mut self, _code: &[u8]) -> Result<()> {
        Ok(())
    }
    /// Data that a module keeps beside the keys; the number of the type stands for the module.
    fn module_data(&mut self, _type_id: u64) -> Result<()> {
        Ok(())
    }
    /// Field names of hashes that follow.
    fn template(&mut self, _number: u64, _names: &Template) -> Result<()> {
        Ok(())
    }
    /// The first value of a young type follows.
    fn young(&mut self) {}
    /// What was told since then is not believed any more.
    fn distrust(&mut self) {}
}

/// What is still to come, innermost last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// File magic and version.
    Magic,
    /// So many raw bytes.
    Skip(u64),
    /// So many strings.
    Strings(u64),
    /// So many lengths that are only read over.
    Lengths(u64),
    /// A length that says how often `Each` follows.
    Count(Each),
    /// So many times.
    Repeat(u64, Each),
    /// The length byte of a score as text.
    TextScoreLength,
    /// How many elements an array has; whether it has a place for the next one; what an element is.
    ArrayCount,
    ArrayNext,
    ArrayTag,
    /// How the names of fields are written; whether as many values follow.
    FieldNames(bool),
    /// How many names follow, with as many values if so.
    FieldCount(bool),
    /// The number of a template whose values follow.
    TemplateNumber,
    /// The number of a template that is defined, and how many names it has.
    TemplateBegin,
    TemplateCount,
    /// So many names of it are still to come.
    TemplateNames(u64),
    /// Opcodes of a module's value.
    Module,
    /// Number of the type whose module keeps data beside the keys.
    ModuleId,
    /// Opcodes of such data; whether there was one.
    ModuleData(bool),
    /// A string that is collected, for whom.
    Collect(For),
    /// Bytes that are collected.
    Collecting(u64, Kind, For),
    /// Bytes of a string that is too long to be collected.
    Passing(u64, For),
    /// The value is over.
    ValueEnd,
    /// CRC64 after the end.
    Footer,
}

/// What is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    Strings(u64),
    Fixed { strings: u64, bytes: u64 },
    TextScore,
    Container,
    FieldExpiry,
    Lengths(u64),
    ArrayElement,
    Producer,
    ProducerEntry,
    KeyMeta,
    StreamGroup(u8),
    PendingEntry,
    StreamConsumer(u8),
}

/// Whom a collected string is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Key,
    AuxName,
    AuxValue,
    Function,
    /// Names of fields in one string, behind which as many values follow.
    PackedNames,
    /// One name of a template.
    TemplateName,
}

/// How a collected string is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Integer(u8),
    /// With its length after decompression.
    Compressed(u64),
}

/// What one token was; with the bytes it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Used(usize),
    /// What is young, beside types.
    Young(usize, &'static str),
    Key(usize),
    ValueEnd,
    Aux(usize),
    Function(usize),
    ModuleData(usize),
    Template(usize),
    Eof(usize),
}

/// A length, or a special encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Plain(u64),
    Integer(u8),
    Compressed,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Within the file.
    Walking,
    /// At the end; the CRC64 was right, or is not kept by the server.
    Done,
    /// At something unknown; the bytes are no longer understood.
    Opaque,
}

/// Walks one RDB.
#[derive(Debug)]
pub struct Walker {
    ops: Vec<Op>,
    state: State,
    /// The beginning of a token that was cut by the end of a piece.
    carry: Vec<u8>,
    crc: Crc64,
    /// The CRC before the footer, once the end was seen.
    end_crc: Option<u64>,
    flavour: Flavour,
    version: u16,
    header: KeyHeader,
    value: Option<ValueType>,
    in_value: bool,
    collected: Vec<u8>,
    aux_name: Vec<u8>,
    module_id: u64,
    unknown: Option<String>,
    /// The bytes at hand are metadata of the key that follows.
    in_meta: bool,
    templates: HashMap<u64, Template>,
    template_bytes: usize,
    template: (u64, Vec<Vec<u8>>),
    /// Keys that were complete.
    keys: u64,
    /// Keys before the first of a young type, and what that was.
    young: Option<(u64, String)>,
    /// The CRC over all bytes, whatever they seem to mean, since the piece with that one.
    young_crc: Option<Crc64>,
    /// The last eight bytes since then.
    tail: Vec<u8>,
    /// Keys after which nothing is to be understood.
    most: Option<u64>,
    /// Where in the piece the file ends but for its CRC64.
    eof_at: Option<usize>,
    /// CRC64 in the file; 0 where the server keeps none.
    stored_crc: u64,
}

/// Tokens are at most this long: a compressed string's encoding byte and its two lengths.
const LONGEST_TOKEN: usize = 32;

impl Default for Walker {
    fn default() -> Self {
        Self::new()
    }
}

impl Walker {
    /// Begins at the magic.
    pub fn new() -> Self {
        Self {
            ops: vec![Op::Magic],
            state: State::Walking,
            carry: Vec::with_capacity(2 * LONGEST_TOKEN),
            crc: Crc64::new(),
            end_crc: None,
            flavour: Flavour::Redis,
            version: 0,
            header: KeyHeader::default(),
            value: None,
            in_value: false,
            collected: Vec::new(),
            aux_name: Vec::new(),
            module_id: 0,
            unknown: None,
            in_meta: false,
            templates: HashMap::new(),
            template_bytes: 0,
            template: (0, Vec::new()),
            keys: 0,
            young: None,
            young_crc: None,
            tail: Vec::new(),
            most: None,
            eof_at: None,
            stored_crc: 0,
        }
    }

    /// Understands nothing after so many keys, as an earlier walk did.
    pub fn trusting(most: Option<u64>) -> Self {
        Self { most, ..Self::new() }
    }

    /// Understands nothing from here on.
    pub fn stop(&mut self) {
        self.most = Some(self.keys);
    }

    /// Returns where the walk is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns whose file it is.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Returns the RDB version of the file, once its first bytes passed.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Returns how many keys were understood.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Returns what could not be understood, in opaque state.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }

    /// Returns the CRC64 that the file holds, once it is done; 0 if the server keeps none.
    pub fn stored_crc(&self) -> u64 {
        self.stored_crc
    }

    /// Takes a piece. Returns how many bytes of it belong to the RDB: all, unless the end lies in it. Once it is opaque
    /// nothing of a piece is taken (not even of the one in which it became so): the caller finds the end by other
    /// means and gives every byte from that piece on to [`Walker::feed_opaque`].
    pub fn feed(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize> {
        if self.state != State::Walking {
            return Ok(0);
        }
        let before = self.crc.clone();
        let taken = match self.advance(input, sink) {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.distrust(sink, &before) => {
                self.carry.clear();
                return Ok(0);
            }
            result => result?,
        };
        let eof = self.eof_at.take();
        match (self.state, eof) {
            (State::Opaque, _) => {
                self.carry.clear();
                // What is unknown may as well be the middle of a value that was taken for shorter than it is.
                let unknown = self.unknown.take();
                if self.most.is_none() {
                    self.distrust(sink, &before);
                }
                self.unknown = unknown;
                return Ok(0);
            }
            (_, Some(eof)) => {
                self.crc.update(exact::range(input, ..eof, "the piece of the RDB")?);
                self.end_crc = Some(self.crc.value());
            }
            (_, None) if self.end_crc.is_none() => self.crc.update(input),
            (_, None) => {}
        }
        if self.state == State::Done
            && let Err(error) = compare(self.end_crc.unwrap_or_default(), self.stored_crc)
        {
            // What looked like the end may have been within a value.
            if self.distrust(sink, &before) {
                self.carry.clear();
                return Ok(0);
            }
            return Err(error);
        }
        if self.young.is_some() {
            self.young_crc.get_or_insert(before).update(input);
            self.tail.extend_from_slice(exact::last(input, 8));
            self.tail.drain(..self.tail.len().saturating_sub(8));
        }
        Ok(taken)
    }

    /// Stops to believe what came since the first value of a young type. Returns whether there was one.
    fn distrust(&mut self, sink: &mut impl Sink, before: &Crc64) -> bool {
        let Some((keys, what)) = self.young.take() else {
            return false;
        };
        self.crc = self.young_crc.take().unwrap_or_else(|| before.clone());
        self.end_crc = None;
        self.eof_at = None;
        self.state = State::Opaque;
        self.keys = keys;
        self.most = Some(keys);
        self.unknown = Some(format!("{what} of an unknown form"));
        sink.distrust();
        true
    }

    /// Takes bytes that are not understood: only their CRC64 counts.
    pub fn feed_opaque(&mut self, input: &[u8]) {
        // The last eight bytes may be the footer: they wait.
        self.carry.extend_from_slice(exact::last(input, 8));
        let ready = self.carry.len().saturating_sub(8);
        let older = ready.min(self.carry.len() - input.len().min(8));
        self.crc.update(exact::first(&self.carry, older));
        self.crc.update(exact::first(input, input.len().saturating_sub(8)));
        let why = "what is ready is in the carry, and so is what is older";
        self.crc.update(exact::part(&self.carry, older..ready, why));
        self.carry.drain(..ready);
    }

    /// As [`Walker::finish`], for a walk that may have taken values of young types for longer than they are.
    pub fn end(&mut self, sink: &mut impl Sink) -> Result<()> {
        let Some(crc) = self.young_crc.as_ref().filter(|_| self.state == State::Walking) else {
            return self.finish();
        };
        let whole = crc.value();
        let Ok(footer) = <[u8; 8]>::try_from(self.tail.as_slice()) else {
            return self.finish();
        };
        let stored = u64::from_le_bytes(footer);
        // The CRC over bytes and their own CRC is nothing.
        if stored != 0 && whole != 0 {
            return self.finish();
        }
        let before = self.crc.clone();
        self.distrust(sink, &before);
        self.stored_crc = stored;
        Ok(())
    }

    /// Says that no more bytes come: fails if the RDB was cut short or, where it is opaque, if its CRC64 is wrong.
    pub fn finish(&mut self) -> Result<()> {
        match self.state {
            State::Done => Ok(()),
            State::Walking => Err(Error::corrupt("the RDB was cut short")),
            State::Opaque => {
                let footer: [u8; 8] = self
                    .carry
                    .as_slice()
                    .try_into()
                    .map_err(|_| Error::corrupt("the RDB was cut short"))?;
                self.stored_crc = u64::from_le_bytes(footer);
                compare(self.crc.value(), self.stored_crc)
            }
        }
    }

    /// Walks as far as the piece reaches; returns how far, and keeps the beginning of a token that the piece cuts.
    fn advance(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize> {
        let mut at = 0;
        if !self.carry.is_empty() {
            // A token was cut: its missing bytes are put behind its beginning, and the walk goes on in the piece
            // where that token ended.
            let carried = self.carry.len();
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(exact::first(input, LONGEST_TOKEN));
            let used = self.run(&joined, carried, sink)?;
            if used < carried {
                joined.drain(..used);
                self.carry = joined;
                return Ok(input.len());
            }
            at = used - carried;
        }
        if self.state == State::Walking {
            let rest = exact::range(input, at.., "the piece of the RDB")?;
            let used = self.run(rest, rest.len(), sink)?;
            self.eof_at = self.eof_at.map(|eof| eof + at);
            at += used;
            if self.state == State::Walking {
                self.carry
                    .extend_from_slice(exact::range(input, at.., "the piece of the RDB")?);
                return Ok(input.len());
            }
        }
        Ok(at)
    }

    /// Walks over `buf` until `stop` is reached or a token is cut.
    fn run(&mut self, buf: &[u8], stop: usize, sink: &mut impl Sink) -> Result<usize> {
        let mut at = 0;
        let mut value_from = 0;
        while at < stop && self.state == State::Walking {
            let rest = exact::part(buf, at.., "no token is longer than what it was read from");
            let Some(used) = self.step(rest)? else { break };
            match used {
                Step::Used(used) => {
                    if self.in_meta {
                        self.keep_meta(exact::range(rest, ..used, "the piece of the RDB")?);
                    }
                    at += used;
                }
                Step::Young(used, what) => {
                    if self.in_meta {
                        self.keep_meta(exact::range(rest, ..used, "the piece of the RDB")?);
                    }
                    at += used;
                    if self.young.is_none() {
                        self.begin_young(what, sink);
                    }
                }
                Step::Key(used) => {
                    at += used;
                    if self.most.is_some_and(|most| self.keys >= most) {
                        self.unknown = Some("values whose form is not known".to_owned());
                        self.state = State::Opaque;
                        break;
                    }
                    self.in_value = true;
                    value_from = at;
                    if let Some(value) = self.value {
                        if value.young && self.young.is_none() {
                            self.begin_young(&format!("type {}", self.header.type_number), sink);
                        }
                        sink.key(&self.header, value)?;
                    }
                }
                Step::ValueEnd => {
                    sink.value(exact::range(buf, value_from..at, "the piece of the RDB")?)?;
                    sink.value_end()?;
                    self.in_value = false;
                    self.keys += 1;
                    (self.header.expires_ms, self.header.idle_seconds, self.header.frequency) = (None, None, None);
                    self.header.meta.clear();
                    self.header.meta_too_long = false;
                }
                Step::Aux(used) => {
                    at += used;
                    sink.aux(&self.aux_name, &self.collected)?;
                }
                Step::Function(used) => {
                    at += used;
                    sink.function(&self.collected)?;
                }
                Step::ModuleData(used) => {
                    at += used;
                    sink.module_data(self.module_id)?;
                }
                Step::Template(used) => {
                    at += used;
                    self.end_template(sink)?;
                }
                Step::Eof(used) => {
                    at += used;
                    self.eof_at = Some(at);
                }
            }
        }
        if self.in_value && at > value_from {
            sink.value(exact::range(buf, value_from..at, "the piece of the RDB")?)?;
        }
        Ok(at)
    }

    /// Keeps metadata of the key that follows, as it stands there.
    fn keep_meta(&mut self, bytes: &[u8]) {
        if self.header.meta.len().saturating_add(bytes.len()) > MAX_META_BYTES {
            self.header.meta.clear();
            self.header.meta_too_long = true;
        } else if !self.header.meta_too_long {
            self.header.meta.extend_from_slice(bytes);
        }
        self.in_meta = !self.ops.is_empty();
    }

    /// Notes what is believed whatever comes of the first value of a young type.
    fn begin_young(&mut self, what: &str, sink: &mut impl Sink) {
        self.young = Some((self.keys, format!("{what} in an RDB of version {}", self.version)));
        sink.young();
    }

    /// Keeps a template whose last name has come.
    fn end_template(&mut self, sink: &mut impl Sink) -> Result<()> {
        let (number, names) = std::mem::take(&mut self.template);
        let names = Template::new(names);
        sink.template(number, &names)?;
        self.templates.insert(number, names);
        Ok(())
    }

    /// Takes a name of a template. Returns whether that was the last.
    fn template_name(&mut self) -> Result<bool> {
        let name = std::mem::take(&mut self.collected);
        self.template_bytes = self.template_bytes.saturating_add(name.len() + NAME_COST_BYTES);
        if self.template_bytes > MAX_TEMPLATE_BYTES {
            return Err(Error::corrupt(
                "the field names of hash templates are longer than 16 MiB",
            ));
        }
        self.template.1.push(name);
        Ok(!matches!(self.ops.last(), Some(Op::TemplateNames(1..))))
    }

    /// Takes one token. `None`: it is cut.
    fn step(&mut self, rest: &[u8]) -> Result<Option<Step>> {
        let Some(op) = self.ops.pop() else {
            return self.opcode(rest);
        };
        let step = self.take(op, rest)?;
        if step.is_none() {
            self.ops.push(op);
        }
        Ok(step)
    }

    fn take(&mut self, op: Op, rest: &[u8]) -> Result<Option<Step>> {
        let used = match op {
            Op::Magic => match rest.first_chunk::<9>() {
                None => return Ok(None),
                Some(magic) => {
                    self.magic(magic)?;
                    9
                }
            },
            Op::Skip(left) => {
                let used = exact::usize_from(left).min(rest.len());
                let left = left - exact::u64_from(used);
                if left > 0 {
                    self.ops.push(Op::Skip(left));
                }
                used
            }
            Op::Strings(0) | Op::Lengths(0) | Op::Repeat(0, _) | Op::TemplateNames(0) => 0,
            Op::Strings(n) => {
                let Some(string) = string_header_at(rest)? else {
                    return Ok(None);
                };
                if n > 1 {
                    self.ops.push(Op::Strings(n - 1));
                }
                // Most strings lie wholly in the piece.
                let body = exact::usize_from(string.stored);
                match rest.len().checked_sub(string.used) {
                    Some(room) if room >= body => string.used + body,
                    _ => {
                        self.ops.push(Op::Skip(string.stored));
                        string.used
                    }
                }
            }
            Op::Lengths(n) => {
                let Some((_, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                if n > 1 {
                    self.ops.push(Op::Lengths(n - 1));
                }
                used
            }
            Op::Count(each) => {
                let Some((n, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                match each {
                    Each::Strings(k) => self.ops.push(Op::Strings(n.checked_mul(k).ok_or_else(forged)?)),
                    each => self.ops.push(Op::Repeat(n, each)),
                }
                used
            }
            Op::Repeat(n, each) => {
                if n > 1 {
                    self.ops.push(Op::Repeat(n - 1, each));
                }
                self.push_each(each);
                0
            }
            Op::TextScoreLength => {
                let Some(&length) = rest.first() else { return Ok(None) };
                // 253, 254 and 255 stand for not-a-number and the infinities.
                if length < 253 {
                    self.ops.push(Op::Skip(length.into()));
                }
                1
            }
            Op::ArrayCount => {
                let Some((n, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                self.ops.push(Op::Repeat(n, Each::ArrayElement));
                self.ops.push(Op::ArrayNext);
                used
            }
            Op::ArrayNext => {
                let Some((known, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                match known {
                    0 => {}
                    1 => self.ops.push(Op::Lengths(1)),
                    _ => return Err(forged()),
                }
                used
            }
            Op::ArrayTag => {
                let Some((tag, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                self.ops.push(match tag {
                    0 | 3 => Op::Strings(1),
                    1 | 2 => Op::Skip(8),
                    _ => return Err(forged()),
                });
                used
            }
            Op::FieldNames(values) => {
                let Some((form, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                self.ops.push(match (form, values) {
                    (0, true) => Op::Collect(For::PackedNames),
                    (0, false) => Op::Strings(1),
                    (1, values) => Op::FieldCount(values),
                    _ => return Err(forged()),
                });
                used
            }
            Op::FieldCount(values) => {
                let Some((n, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                let strings = n.checked_mul(1 + u64::from(values)).ok_or_else(forged)?;
                self.ops.push(Op::Strings(strings));
                used
            }
            Op::TemplateNumber => {
                let Some((number, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                let names = self.templates.get(&number).ok_or_else(forged)?;
                self.ops.push(Op::Strings(exact::u64_from(names.len())));
                used
            }
            Op::TemplateBegin => {
                let Some((number, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                self.template = (number, Vec::new());
                self.ops.push(Op::TemplateCount);
                used
            }
            Op::TemplateCount => {
                let Some((n, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                if n == 0 {
                    return Err(forged());
                }
                self.ops.push(Op::TemplateNames(n));
                used
            }
            Op::TemplateNames(n) => {
                self.ops.push(Op::TemplateNames(n - 1));
                self.ops.push(Op::Collect(For::TemplateName));
                0
            }
            Op::Module => {
                let Some((opcode, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                if opcode != 0 {
                    self.ops.push(Op::Module);
                    self.ops.push(module_op(opcode)?);
                }
                used
            }
            Op::ModuleId => {
                let Some((id, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                self.module_id = id;
                used
            }
            Op::ModuleData(some) => {
                let Some((opcode, used)) = length_at(rest)? else {
                    return Ok(None);
                };
                if opcode != 0 {
                    self.ops.push(Op::ModuleData(true));
                    self.ops.push(module_op(opcode)?);
                } else if some {
                    return Ok(Some(Step::ModuleData(used)));
                }
                used
            }
            Op::Collect(whom) => {
                let Some(string) = string_header_at(rest)? else {
                    return Ok(None);
                };
                self.collected.clear();
                let bytes = exact::usize_from(string.stored.max(string.raw.unwrap_or(0)));
                let too_long = bytes > MAX_COLLECTED_BYTES;
                self.header_too_long(whom, too_long)?;
                let (kind, left) = (
                    string.integer.map(Kind::Integer).or(string.raw.map(Kind::Compressed)),
                    string.stored,
                );
                self.ops.push(if too_long {
                    Op::Passing(left, whom)
                } else {
                    Op::Collecting(left, kind.unwrap_or(Kind::Plain), whom)
                });
                // An empty string has no bytes to wait for, but the next token has.
                string.used
            }
            Op::Passing(left, whom) => {
                let used = exact::usize_from(left).min(rest.len());
                let left = left - exact::u64_from(used);
                if left == 0 {
                    return Ok(Some(self.collected(whom, used)?));
                }
                self.ops.push(Op::Passing(left, whom));
                used
            }
            Op::Collecting(left, kind, whom) => {
                let piece = exact::first(rest, exact::usize_from(left));
                self.collected.extend_from_slice(piece);
                let used = piece.len();
                let left = left - exact::u64_from(used);
                if left == 0 {
                    self.decode_collected(kind)?;
                    return Ok(Some(self.collected(whom, used)?));
                }
                self.ops.push(Op::Collecting(left, kind, whom));
                used
            }
            Op::ValueEnd => return Ok(Some(Step::ValueEnd)),
            Op::Footer => match rest.first_chunk::<8>() {
                None => return Ok(None),
                Some(footer) => {
                    self.stored_crc = u64::from_le_bytes(*footer);
                    self.state = State::Done;
                    8
                }
            },
        };
        Ok(Some(Step::Used(used)))
    }

    fn magic(&mut self, magic: &[u8; 9]) -> Result<()> {
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        let (flavour, version) = if let Some(digits) = magic.strip_prefix(b"REDIS") {
            (Flavour::Redis, number(digits))
        } else if let Some(digits) = magic.strip_prefix(b"VALKEY") {
            (Flavour::Valkey, number(digits))
        } else {
            (Flavour::Redis, None)
        };
        self.flavour = flavour;
        self.version = version
            .filter(|version| *version >= 5)
            .ok_or_else(|| Error::corrupt(format!("\"{}\" is not the start of an RDB", magic.escape_ascii())))?;
        Ok(())
    }

    fn push_each(&mut self, each: Each) {
        // Pushed in reverse: the last one comes first.
        let ops: &[Op] = match each {
            Each::Strings(k) => &[Op::Strings(k)],
            Each::Fixed { strings, bytes } => &[Op::Skip(bytes), Op::Strings(strings)],
            Each::TextScore => &[Op::TextScoreLength, Op::Strings(1)],
            Each::Container => &[Op::Strings(1), Op::Lengths(1)],
            Each::FieldExpiry => &[Op::Strings(2), Op::Lengths(1)],
            Each::Lengths(k) => &[Op::Lengths(k)],
            Each::ArrayElement => &[Op::ArrayTag, Op::Lengths(1)],
            Each::Producer => &[Op::Count(Each::ProducerEntry), Op::Strings(1)],
            Each::ProducerEntry => &[Op::Lengths(2), Op::Strings(1)],
            Each::KeyMeta => &[Op::Module, Op::Skip(4)],
            Each::PendingEntry => &[Op::Lengths(1), Op::Skip(24)],
            Each::StreamGroup(version) => &[
                // Entries that consumers gave back.
                if version >= 5 {
                    Op::Count(Each::Fixed { strings: 0, bytes: 16 })
                } else {
                    Op::Strings(0)
                },
                Op::Count(Each::StreamConsumer(version)),
                Op::Count(Each::PendingEntry),
                Op::Lengths(if version >= 2 { 3 } else { 2 }),
                Op::Strings(1),
            ],
            Each::StreamConsumer(version) => &[
                Op::Count(Each::Fixed { strings: 0, bytes: 16 }),
                Op::Skip(if version >= 3 { 16 } else { 8 }),
                Op::Strings(1),
            ],
        };
        self.ops.extend_from_slice(ops);
    }

    fn push_value(&mut self, shape: Shape) {
        self.ops.push(Op::ValueEnd);
        let ops: &[Op] = match shape {
            Shape::String => &[Op::Strings(1)],
            Shape::Strings(k) => &[Op::Count(Each::Strings(k))],
            Shape::TextScores => &[Op::Count(Each::TextScore)],
            Shape::Fixed { strings, bytes } => &[Op::Count(Each::Fixed {
                strings: strings.into(),
                bytes: bytes.into(),
            })],
            Shape::Containers => &[Op::Count(Each::Container)],
            Shape::Stream(version) => &[
                // What producers sent, so that nothing is added twice: two settings, producers, two counts.
                Op::Lengths(if version >= 4 { 2 } else { 0 }),
                if version >= 4 {
                    Op::Count(Each::Producer)
                } else {
                    Op::Strings(0)
                },
                Op::Lengths(if version >= 4 { 2 } else { 0 }),
                Op::Count(Each::StreamGroup(version)),
                Op::Lengths(if version >= 2 { 8 } else { 3 }),
                Op::Count(Each::Strings(2)),
            ],
            Shape::Module => &[Op::Module, Op::Lengths(1)],
            Shape::FieldExpiries => &[Op::Count(Each::FieldExpiry), Op::Skip(8)],
            Shape::StampedString => &[Op::Strings(1), Op::Skip(8)],
            Shape::Array => &[Op::ArrayCount],
            Shape::NamedPacked => &[Op::Strings(1), Op::FieldNames(false)],
            Shape::NamedValues => &[Op::FieldNames(true)],
            Shape::TemplateValues => &[Op::TemplateNumber],
        };
        self.ops.extend_from_slice(ops);
    }

    /// Takes an opcode with its operands, or the type of the next value.
    fn opcode(&mut self, rest: &[u8]) -> Result<Option<Step>> {
        let Some((&opcode, operands)) = rest.split_first() else {
            return Ok(None);
        };
        let used = match opcode {
            255 => {
                self.ops.push(Op::Footer);
                return Ok(Some(Step::Eof(1)));
            }
            254 => {
                let Some((database, used)) = length_at(operands)? else {
                    return Ok(None);
                };
                if database > MAX_DATABASE {
                    return Err(forged());
                }
                self.header.database = u32::try_from(database).map_err(|_| forged())?;
                used
            }
            253 => {
                let Some(seconds) = operands.first_chunk::<4>() else {
                    return Ok(None);
                };
                self.header.expires_ms = Some(i64::from(i32::from_le_bytes(*seconds)) * 1000);
                4
            }
            252 => {
                let Some(milliseconds) = operands.first_chunk::<8>() else {
                    return Ok(None);
                };
                self.header.expires_ms = Some(i64::from_le_bytes(*milliseconds));
                8
            }
            251 => {
                self.ops.push(Op::Lengths(2));
                0
            }
            250 => {
                self.ops.push(Op::Collect(For::AuxValue));
                self.ops.push(Op::Collect(For::AuxName));
                0
            }
            249 => {
                let Some(&frequency) = operands.first() else {
                    return Ok(None);
                };
                self.header.frequency = Some(frequency);
                1
            }
            248 => {
                let Some((idle, used)) = length_at(operands)? else {
                    return Ok(None);
                };
                self.header.idle_seconds = Some(idle);
                used
            }
            247 => {
                // Id, when it is to be loaded (an opcode and a number), then the data.
                self.ops.push(Op::ModuleData(false));
                self.ops.push(Op::Lengths(2));
                self.ops.push(Op::ModuleId);
                0
            }
            245 => {
                self.ops.push(Op::Collect(For::Function));
                0
            }
            244 => {
                self.ops.push(Op::Lengths(3));
                0
            }
            // Slots that a node of a cluster is taking over: a name, then ranges.
            243 if self.flavour == Flavour::Valkey => {
                self.ops.push(Op::Count(Each::Lengths(2)));
                self.ops.push(Op::Strings(1));
                0
            }
            // What modules attach to the key that follows.
            243 => {
                self.ops.push(Op::Count(Each::KeyMeta));
                self.in_meta = true;
                return Ok(Some(Step::Young(1, "metadata of modules")));
            }
            242 if self.flavour == Flavour::Redis => {
                self.ops.push(Op::TemplateBegin);
                return Ok(Some(Step::Young(1, "a hash template")));
            }
            number => {
                let Some(value) = types::value_type(self.flavour, number) else {
                    self.unknown = Some(format!("type or opcode {number} in an RDB of version {}", self.version));
                    self.state = State::Opaque;
                    return Ok(None);
                };
                self.value = Some(value);
                self.header.type_number = number;
                self.ops.push(Op::Collect(For::Key));
                0
            }
        };
        Ok(Some(Step::Used(used + 1)))
    }

    fn header_too_long(&mut self, whom: For, too_long: bool) -> Result<()> {
        match whom {
            For::Key => self.header.too_long = too_long,
            For::PackedNames | For::TemplateName if too_long => return Err(forged()),
            _ => {}
        }
        Ok(())
    }

    fn decode_collected(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Plain => {}
            Kind::Compressed(raw) => {
                let raw = usize::try_from(raw).map_err(|_| forged())?;
                self.collected = lzf::decompress(&self.collected, raw)?;
            }
            Kind::Integer(_) => {
                let number = integer(&self.collected)?;
                self.collected.clear();
                self.collected.extend_from_slice(number.to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// Hands a collected string to whom it is for.
    fn collected(&mut self, whom: For, used: usize) -> Result<Step> {
        Ok(match whom {
            For::AuxName => {
                std::mem::swap(&mut self.aux_name, &mut self.collected);
                Step::Used(used)
            }
            For::AuxValue => Step::Aux(used),
            For::Function => Step::Function(used),
            For::PackedNames => {
                let names = packed::listpack(&self.collected)?.len();
                self.ops.push(Op::Strings(exact::u64_from(names)));
                Step::Used(used)
            }
            For::TemplateName => {
                if self.template_name()? {
                    Step::Template(used)
                } else {
                    Step::Used(used)
                }
            }
            For::Key => {
                std::mem::swap(&mut self.header.key, &mut self.collected);
                if let Some(value) = self.value {
                    self.push_value(value.shape);
                }
                Step::Key(used)
            }
        })
    }
}

/// Returns whether bytes are exactly one value of a type, as far as its form tells that.
pub fn is_value(flavour: Flavour, number: u8, bytes: &[u8]) -> bool {
    /// Keys, bytes of their values, and how many of those ended.
    #[derive(Default, PartialEq)]
    struct Found(u64, usize, u64);
    impl Sink for Found {
        fn key(&mut self, _: &KeyHeader, _: ValueType) -> Result<()> {
            self.0 += 1;
            Ok(())
        }
        fn value(&mut self, bytes: &[u8]) -> Result<()> {
            self.1 += bytes.len();
            Ok(())
        }
        fn value_end(&mut self) -> Result<()> {
            self.2 += 1;
            Ok(())
        }
    }
    let magic: &[u8] = match flavour {
        Flavour::Redis => b"REDIS0016",
        Flavour::Valkey => b"VALKEY080",
    };
    let (mut walker, mut found) = (Walker::new(), Found::default());
    // A value is over where another opcode is looked for.
    let fed = [magic, &[number, 0], bytes, &[255]]
        .iter()
        .try_for_each(|part| walker.feed(part, &mut found).map(drop));
    fed.is_ok() && walker.state() == State::Walking && found == Found(1, bytes.len(), 1)
}

/// Returns how long what modules attach to a key is, at the beginning of its payload. `None`: it is cut.
pub fn meta_at(bytes: &[u8]) -> Result<Option<usize>> {
    let mut walker = Walker::new();
    walker.ops.clear();
    let mut at = 0;
    loop {
        let Some(step) = walker.step(exact::range(bytes, at.., "the metadata of a key")?)? else {
            return Ok(None);
        };
        let (Step::Used(used) | Step::Young(used, _)) = step else {
            return Err(forged());
        };
        at += used;
        if walker.ops.is_empty() {
            return Ok(Some(at));
        }
        if at >= bytes.len() {
            return Ok(None);
        }
    }
}

fn compare(counted: u64, stored: u64) -> Result<()> {
    if stored == 0 || counted == stored {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the CRC64 of the RDB is {counted:016x}, but its end says {stored:016x}"
    )))
}

/// Returns what follows an opcode of a module's data.
fn module_op(opcode: u64) -> Result<Op> {
    Ok(match opcode {
        1 | 2 => Op::Lengths(1),
        3 => Op::Skip(4),
        4 => Op::Skip(8),
        5 => Op::Strings(1),
        _ => return Err(Error::corrupt(format!("opcode {opcode} within the data of a module"))),
    })
}

/// Decodes a string that is stored as a number.
pub(in crate::engines::redis) fn integer(bytes: &[u8]) -> Result<i64> {
    match *bytes {
        [a] => Ok(i8::from_le_bytes([a]).into()),
        [a, b] => Ok(i16::from_le_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_le_bytes([a, b, c, d]).into()),
        _ => Err(forged()),
    }
}

fn forged() -> Error {
    Error::corrupt("a length in the RDB is forged or damaged")
}

/// A string's header: its own bytes, the bytes that follow, and how they are encoded.
#[derive(Debug, Clone, Copy)]
pub(in crate::engines::redis) struct StringHeader {
    pub(in crate::engines::redis) used: usize,
    pub(in crate::engines::redis) stored: u64,
    pub(in crate::engines::redis) raw: Option<u64>,
    pub(in crate::engines::redis) integer: Option<u8>,
}

/// Reads a length. `None`: it is cut.
fn length(buf: &[u8]) -> Result<Option<(Length, usize)>> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    Ok(match first >> 6 {
        0 => Some((Length::Plain(u64::from(first & 63)), 1)),
        1 => rest
            .first()
            .map(|&low| (Length::Plain(u64::from(first & 63) << 8 | u64::from(low)), 2)),
        2 => match first {
            0x80 => rest
                .first_chunk::<4>()
                .map(|bytes| (Length::Plain(u32::from_be_bytes(*bytes).into()), 5)),
            0x81 => rest
                .first_chunk::<8>()
                .map(|bytes| (Length::Plain(u64::from_be_bytes(*bytes)), 9)),
            _ => return Err(forged()),
        },
        _ => match first & 63 {
            0 => Some((Length::Integer(1), 1)),
            1 => Some((Length::Integer(2), 1)),
            2 => Some((Length::Integer(4), 1)),
            3 => Some((Length::Compressed, 1)),
            _ => return Err(forged()),
        },
    })
}

pub(in crate::engines::redis) fn length_at(buf: &[u8]) -> Result<Option<(u64, usize)>> {
    match length(buf)? {
        None => Ok(None),
        Some((Length::Plain(length), used)) => Ok(Some((length, used))),
        Some(_) => Err(forged()),
    }
}

pub(in crate::engines::redis) fn string_header_at(buf: &[u8]) -> Result<Option<StringHeader>> {
    let Some((first, mut used)) = length(buf)? else {
        return Ok(None);
    };
    let mut header = StringHeader {
        used,
        stored: 0,
        raw: None,
        integer: None,
    };
    match first {
        Length::Plain(stored) => header.stored = stored,
        Length::Integer(bytes) => {
            header.stored = bytes.into();
            header.integer = Some(bytes);
        }
        Length::Compressed => {
            let mut next = || -> Result<Option<u64>> {
                let Some((length, more)) = length_at(exact::range(buf, used.., "the piece of the RDB")?)? else {
                    return Ok(None);
                };
                used += more;
                Ok(Some(length))
            };
            let (Some(stored), Some(raw)) = (next()?, next()?) else {
                return Ok(None);
            };
            if !lzf::plausible(stored, raw) {
                return Err(forged());
            }
            (header.stored, header.raw, header.used) = (stored, Some(raw), used);
        }
    }
    if header.stored > MAX_STRING_BYTES || header.raw.is_some_and(|raw| raw > MAX_STRING_BYTES) {
        return Err(forged());
    }
    Ok(Some(header))
}
