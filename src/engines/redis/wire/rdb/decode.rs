//! Decodes an RDB: every key with the elements of its value, whatever they are packed in.
//!
//! It pulls bytes as it needs them and holds one string or one packed node at a time, so memory does not depend on how
//! large a value is. A string longer than [`MAX_HELD_BYTES`](super::pull::MAX_HELD_BYTES) comes in pieces where it is a
//! value of its own; within a collection it is passed over and told as [`Element::TooLong`].

use std::borrow::Cow;
use std::collections::HashMap;

use super::packed;
use super::packed::{Entries, damaged};
use super::pull::{Input, Pieces};
use super::types;
use super::types::{Flavour, Shape, ValueType};
use super::walk::{KeyHeader, MAX_TEMPLATE_BYTES, NAME_COST_BYTES, Template};
use crate::base::error::{Error, Result};
use crate::base::exact;

/// A part of a value.
#[derive(Debug)]
pub enum Element<'a> {
    /// The next bytes of a string value.
    Piece(&'a [u8]),
    /// The next element of a list, or a member of a set.
    Item(&'a [u8]),
    /// A member of a sorted set, with its score.
    Member(&'a [u8], f64),
    /// A field of a hash: name, value, when it expires in milliseconds since the epoch.
    Field(&'a [u8], &'a [u8], Option<u64>),
    /// An entry of a stream: names and values in turns.
    Entry(StreamId, &'a [Cow<'a, [u8]>]),
    /// What a stream says of itself; after its entries.
    Stream(StreamFacts),
    /// A group of a stream. What follows, up to the next, is of this group.
    Group(&'a [u8], StreamId, Option<i64>),
    /// An entry that a consumer did not acknowledge: when it was delivered, and how often.
    Pending(StreamId, u64, u64),
    /// A consumer of the group. What follows is pending with it.
    Consumer(&'a [u8]),
    /// An entry that is pending with the consumer.
    Owned(StreamId),
    /// A string within a collection was too long to be held.
    TooLong,
    /// An entry that a consumer gave back; it is pending with nobody.
    GivenBack(StreamId),
    /// Producers whose entries a stream takes only once are known to it.
    Producers(u64),
    /// The value of a module, which only the module understands.
    Module,
    /// An array, whose elements are not taken apart.
    Array,
}

/// Id of a stream's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId(pub u64, pub u64);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// What a stream says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamFacts {
    /// Entries.
    pub length: u64,
    /// The last id that was given.
    pub last: StreamId,
    /// From RDB version 10 on: the highest id that was deleted, and entries that were ever added.
    pub counted: Option<(StreamId, u64)>,
}

/// Takes the elements of a value.
pub trait Elements: Send {
    /// Takes the next one.
    fn element(&mut self, element: Element<'_>) -> impl Future<Output = Result<()>> + Send;
}

/// Takes nothing.
#[derive(Debug, Default)]
pub struct Nobody;

impl Elements for Nobody {
    async fn element(&mut self, _: Element<'_>) -> Result<()> {
        Ok(())
    }
}

/// What comes next in an RDB.
#[derive(Debug)]
pub enum Next {
    /// A key; its value must be taken by [`Decoder::value`].
    Key(ValueType),
    /// The source of a function library.
    Function(Vec<u8>),
    /// The end.
    End,
}

/// Decodes one RDB, which was walked before: its CRC64 is not looked at again.
#[derive(Debug)]
pub struct Decoder<P: Pieces> {
    input: Input<P>,
    flavour: Flavour,
    /// What stands before the value at hand.
    pub header: KeyHeader,
    began: bool,
    first: Vec<u8>,
    second: Vec<u8>,
    templates: HashMap<u64, Template>,
    /// Bytes of the names of all of them.
    template_bytes: usize,
    /// Keys that are still to come, where not all of them are understood.
    most: Option<u64>,
}

/// Bytes of the names of fields of one hash that are held at most.
const MAX_NAMES_BYTES: usize = 16 << 20;

impl<P: Pieces> Decoder<P> {
    /// Nothing is read yet. `most` is how many keys are understood, if not all of them are.
    pub fn new(pieces: P, most: Option<u64>) -> Self {
        Self {
            input: Input::new(pieces),
            flavour: Flavour::Redis,
            header: KeyHeader::default(),
            began: false,
            first: Vec::new(),
            second: Vec::new(),
            templates: HashMap::new(),
            template_bytes: 0,
            most,
        }
    }

    /// Reads up to the next key or function library.
    pub async fn next(&mut self) -> Result<Next> {
        if !self.began {
            let magic: [u8; 9] = self.input.chunk().await?;
            if magic.starts_with(b"VALKEY") {
                self.flavour = Flavour::Valkey;
            }
            self.began = true;
        }
        (self.header.expires_ms, self.header.idle_seconds, self.header.frequency) = (None, None, None);
        self.header.meta_too_long = false;
        loop {
            if self.most == Some(0) {
                return Ok(Next::End);
            }
            match self.input.byte().await? {
                255 => return Ok(Next::End),
                254 => {
                    let database = self.input.length().await?;
                    self.header.database = u32::try_from(database).map_err(|_| damaged())?;
                }
                253 => {
                    let seconds = i32::from_le_bytes(self.input.chunk().await?);
                    self.header.expires_ms = Some(i64::from(seconds) * 1000);
                }
                252 => self.header.expires_ms = Some(i64::from_le_bytes(self.input.chunk().await?)),
                251 => {
                    self.input.length().await?;
                    self.input.length().await?;
                }
                250 => {
                    self.input.string(&mut self.first).await?;
                    self.input.string(&mut self.first).await?;
                }
                249 => self.header.frequency = Some(self.input.byte().await?),
                248 => self.header.idle_seconds = Some(self.input.length().await?),
                247 => {
                    self.input.length().await?;
                    self.module().await?;
                }
                245 => {
                    let mut code = Vec::new();
                    self.input.string(&mut code).await?;
                    return Ok(Next::Function(code));
                }
                244 => {
                    for _ in 0..3 {
                        self.input.length().await?;
                    }
                }
                243 if self.flavour == Flavour::Valkey => {
                    self.input.string(&mut self.first).await?;
                    for _ in 0..self.input.length().await? {
                        self.input.length().await?;
                        self.input.length().await?;
                    }
                }
                243 => {
                    for _ in 0..self.input.length().await? {
                        self.input.pass(4).await?;
                        self.module().await?;
                    }
                    // Ordinary commands do not attach it.
                    self.header.meta_too_long = true;
                }
                242 if self.flavour == Flavour::Redis => {
                    let number = self.input.length().await?;
                    let count = self.input.length().await?;
                    let names = self.names(count).await?;
                    let bytes = names.iter().map(|name| name.len() + NAME_COST_BYTES);
                    self.template_bytes = bytes.fold(self.template_bytes, usize::saturating_add);
                    if self.template_bytes > MAX_TEMPLATE_BYTES {
                        return Err(damaged());
                    }
                    self.templates.insert(number, Template::new(names));
                }
                number => {
                    let value = types::value_type(self.flavour, number)
                        .ok_or_else(|| Error::unsupported(format!("type or opcode {number} of an RDB")))?;
                    self.header.type_number = number;
                    self.header.too_long = !self.input.string(&mut self.header.key).await?;
                    self.most = self.most.map(|most| most - 1);
                    return Ok(Next::Key(value));
                }
            }
        }
    }

    /// Passes over the value of the key that came last.
    pub async fn pass(&mut self, value: ValueType) -> Result<()> {
        self.input.passing = true;
        let result = self.value(value, &mut Nobody).await;
        self.input.passing = false;
        result
    }

    /// Takes the value of the key that came last.
    pub async fn value(&mut self, value: ValueType, to: &mut impl Elements) -> Result<()> {
        match (self.header.type_number, value.shape) {
            (0, _) => self.input.pieces(to).await,
            (30, Shape::String) => {
                if !self.input.string(&mut self.first).await? {
                    return to.element(Element::TooLong).await;
                }
                let values = packed::listpack(&self.first)?;
                let number = values.first().and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
                let names = number
                    .and_then(|number| self.templates.get(&number))
                    .ok_or_else(damaged)?;
                named(names, values.get(1..).ok_or_else(damaged)?, to).await
            }
            (_, Shape::TemplateValues) => {
                let number = self.input.length().await?;
                let names = self.templates.get(&number).cloned().ok_or_else(damaged)?;
                self.named_strings(&names, to).await
            }
            (_, Shape::NamedPacked) => {
                let names = self.field_names().await?;
                if !self.input.string(&mut self.first).await? {
                    return to.element(Element::TooLong).await;
                }
                let values = packed::listpack(&self.first)?;
                named(&names, values.get(1..).ok_or_else(damaged)?, to).await
            }
            (_, Shape::NamedValues) => {
                let names = self.field_names().await?;
                self.named_strings(&names, to).await
            }
            (_, Shape::Array) => {
                let count = self.input.length().await?;
                if self.input.length().await? == 1 {
                    self.input.length().await?;
                }
                for _ in 0..count {
                    self.input.length().await?;
                    match self.input.length().await? {
                        0 | 3 => {
                            let mut nobody = Nobody;
                            self.input.pieces(&mut nobody).await?;
                        }
                        1 | 2 => self.input.pass(8).await?,
                        _ => return Err(damaged()),
                    }
                }
                to.element(Element::Array).await
            }
            (_, Shape::String) => {
                let number = self.header.type_number;
                if !self.input.string(&mut self.first).await? {
                    return to.element(Element::TooLong).await;
                }
                unpack(number, &self.first, to).await
            }
            (number @ 14, Shape::Strings(_)) => {
                for _ in 0..self.input.length().await? {
                    if self.input.string(&mut self.first).await? {
                        unpack(number, &self.first, to).await?;
                    } else {
                        to.element(Element::TooLong).await?;
                    }
                }
                Ok(())
            }
            (_, Shape::Strings(1)) => {
                for _ in 0..self.input.length().await? {
                    self.item(to).await?;
                }
                Ok(())
            }
            (_, Shape::Strings(_)) => {
                for _ in 0..self.input.length().await? {
                    let held = self.pair().await?;
                    self.field(held, None, to).await?;
                }
                Ok(())
            }
            (_, Shape::TextScores | Shape::Fixed { strings: 1, .. }) => {
                for _ in 0..self.input.length().await? {
                    let held = self.input.string(&mut self.first).await?;
                    let score = match value.shape {
                        Shape::TextScores => self.text_score().await?,
                        _ => f64::from_bits(self.input.number().await?),
                    };
                    if held {
                        to.element(Element::Member(&self.first, score)).await?;
                    } else {
                        to.element(Element::TooLong).await?;
                    }
                }
                Ok(())
            }
            (_, Shape::Fixed { .. }) => {
                for _ in 0..self.input.length().await? {
                    let held = self.pair().await?;
                    // -1 stands for never.
                    let expires = i64::from_le_bytes(self.input.chunk().await?);
                    self.field(held, u64::try_from(expires).ok(), to).await?;
                }
                Ok(())
            }
            (_, Shape::Containers) => {
                for _ in 0..self.input.length().await? {
                    let plain = self.input.length().await? == 1;
                    if plain {
                        self.item(to).await?;
                    } else if self.input.string(&mut self.first).await? {
                        unpack(18, &self.first, to).await?;
                    } else {
                        to.element(Element::TooLong).await?;
                    }
                }
                Ok(())
            }
            (_, Shape::Stream(version)) => self.stream(version, to).await,
            (_, Shape::Module) => {
                self.input.length().await?;
                self.module().await?;
                to.element(Element::Module).await
            }
            (_, Shape::FieldExpiries) => {
                let earliest = self.input.number().await?;
                for _ in 0..self.input.length().await? {
                    // 0 stands for never; otherwise it is one more than what follows the earliest.
                    let after = self.input.length().await?.checked_sub(1);
                    let held = self.pair().await?;
                    let expires = after.map(|after| earliest.saturating_add(after));
                    self.field(held, expires, to).await?;
                }
                Ok(())
            }
            (_, Shape::StampedString) => {
                self.input.number().await?;
                if !self.input.string(&mut self.first).await? {
                    return to.element(Element::TooLong).await;
                }
                unpack(self.header.type_number, &self.first, to).await
            }
        }
    }

    /// Reads names of fields.
    async fn names(&mut self, count: u64) -> Result<Vec<Vec<u8>>> {
        let (mut names, mut bytes) = (Vec::new(), 0);
        let passing = std::mem::take(&mut self.input.passing);
        for _ in 0..count {
            let mut name = Vec::new();
            let held = self.input.string(&mut name).await?;
            bytes += name.len() + NAME_COST_BYTES;
            if !held || bytes > MAX_NAMES_BYTES {
                return Err(damaged());
            }
            names.push(name);
        }
        self.input.passing = passing;
        Ok(names)
    }

    /// Reads the names that stand before the values of a hash.
    async fn field_names(&mut self) -> Result<Vec<Vec<u8>>> {
        match self.input.length().await? {
            0 => {
                let packed = self.names(1).await?;
                let packed = packed.first().ok_or_else(damaged)?;
                Ok(packed::listpack(packed)?.into_iter().map(Cow::into_owned).collect())
            }
            1 => {
                let count = self.input.length().await?;
                self.names(count).await
            }
            _ => Err(damaged()),
        }
    }

    /// Reads the values that belong to names.
    async fn named_strings(&mut self, names: &[Vec<u8>], to: &mut impl Elements) -> Result<()> {
        for name in names {
            let held = self.input.string(&mut self.second).await?;
            self.first.clear();
            self.first.extend_from_slice(name);
            self.field(held, None, to).await?;
        }
        Ok(())
    }

    async fn item(&mut self, to: &mut impl Elements) -> Result<()> {
        if self.input.string(&mut self.first).await? {
            to.element(Element::Item(&self.first)).await
        } else {
            to.element(Element::TooLong).await
        }
    }

    /// Reads two strings; returns whether both could be held.
    async fn pair(&mut self) -> Result<bool> {
        let first = self.input.string(&mut self.first).await?;
        Ok(self.input.string(&mut self.second).await? && first)
    }

    async fn field(&mut self, held: bool, expires: Option<u64>, to: &mut impl Elements) -> Result<()> {
        if held {
            to.element(Element::Field(&self.first, &self.second, expires)).await
        } else {
            to.element(Element::TooLong).await
        }
    }

    async fn text_score(&mut self) -> Result<f64> {
        let length = match self.input.byte().await? {
            255 => return Ok(f64::NEG_INFINITY),
            254 => return Ok(f64::INFINITY),
            253 => return Ok(f64::NAN),
            length => usize::from(length),
        };
        self.input.want(length).await?;
        let score = number(exact::range(self.input.here(), ..length, "the RDB at hand")?);
        self.input.skip(length);
        score
    }

    async fn module(&mut self) -> Result<()> {
        loop {
            match self.input.length().await? {
                0 => return Ok(()),
                1 | 2 => {
                    self.input.length().await?;
                }
                3 => self.input.pass(4).await?,
                4 => self.input.pass(8).await?,
                5 => {
                    let mut nobody = Nobody;
                    self.input.pieces(&mut nobody).await?;
                }
                _ => return Err(damaged()),
            }
        }
    }

    async fn id(&mut self) -> Result<StreamId> {
        Ok(StreamId(self.input.length().await?, self.input.length().await?))
    }

    async fn raw_id(&mut self) -> Result<StreamId> {
        let ms = u64::from_be_bytes(self.input.chunk().await?);
        Ok(StreamId(ms, u64::from_be_bytes(self.input.chunk().await?)))
    }

    /// Reads over what producers sent, which tells a stream what it has already.
    async fn producers(&mut self, to: &mut impl Elements) -> Result<()> {
        self.id().await?;
        let producers = self.input.length().await?;
        for _ in 0..producers {
            self.input.string(&mut self.first).await?;
            for _ in 0..self.input.length().await? {
                self.input.string(&mut self.first).await?;
                self.id().await?;
            }
        }
        self.id().await?;
        if producers > 0 {
            to.element(Element::Producers(producers)).await?;
        }
        Ok(())
    }

    async fn stream(&mut self, version: u8, to: &mut impl Elements) -> Result<()> {
        for _ in 0..self.input.length().await? {
            self.input.string(&mut self.first).await?;
            let id: [u8; 16] = match self.first.as_slice().try_into() {
                Err(_) if !self.input.passing => return Err(damaged()),
                id => id.unwrap_or_default(),
            };
            if !self.input.string(&mut self.first).await? {
                to.element(Element::TooLong).await?;
                continue;
            }
            let (ms, sequence) = id.split_at(8);
            let big = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged());
            entries(StreamId(big(ms)?, big(sequence)?), &self.first, to).await?;
        }
        let mut facts = StreamFacts {
            length: self.input.length().await?,
            last: self.id().await?,
            counted: None,
        };
        if version >= 2 {
            self.id().await?;
            facts.counted = Some((self.id().await?, self.input.length().await?));
        }
        to.element(Element::Stream(facts)).await?;
        for _ in 0..self.input.length().await? {
            if !self.input.string(&mut self.first).await? && !self.input.passing {
                return Err(damaged());
            }
            let last = self.id().await?;
            let read = match version {
                1 => None,
                // Unknown is stored as -1.
                _ => Some(i64::from_le_bytes(self.input.length().await?.to_le_bytes())).filter(|read| *read >= 0),
            };
            to.element(Element::Group(&self.first, last, read)).await?;
            for _ in 0..self.input.length().await? {
                let (id, at) = (self.raw_id().await?, self.input.number().await?);
                let times = self.input.length().await?;
                to.element(Element::Pending(id, at, times)).await?;
            }
            for _ in 0..self.input.length().await? {
                if !self.input.string(&mut self.first).await? && !self.input.passing {
                    return Err(damaged());
                }
                self.input.pass(if version >= 3 { 16 } else { 8 }).await?;
                to.element(Element::Consumer(&self.first)).await?;
                for _ in 0..self.input.length().await? {
                    let id = self.raw_id().await?;
                    to.element(Element::Owned(id)).await?;
                }
            }
            if version >= 5 {
                for _ in 0..self.input.length().await? {
                    let id = self.raw_id().await?;
                    to.element(Element::GivenBack(id)).await?;
                }
            }
        }
        if version >= 4 {
            self.producers(to).await?;
        }
        Ok(())
    }
}

/// Hands the entries of a packed value on.
async fn unpack(type_number: u8, blob: &[u8], to: &mut impl Elements) -> Result<()> {
    let entries = match type_number {
        9 => packed::zipmap(blob)?,
        11 => packed::intset(blob)?,
        10 | 12 | 13 | 14 => packed::ziplist(blob)?,
        _ => packed::listpack(blob)?,
    };
    match type_number {
        9 | 13 | 16 => {
            for pair in entries.chunks(2) {
                let [name, value] = pair else { return Err(damaged()) };
                to.element(Element::Field(name, value, None)).await?;
            }
        }
        12 | 17 => {
            for pair in entries.chunks(2) {
                let [member, score] = pair else { return Err(damaged()) };
                to.element(Element::Member(member, number(score)?)).await?;
            }
        }
        25 => {
            for triple in entries.chunks(3) {
                let [name, value, expires] = triple else {
                    return Err(damaged());
                };
                let expires = std::str::from_utf8(expires).ok().and_then(|text| text.parse().ok());
                let expires = expires.ok_or_else(damaged)?;
                let field = Element::Field(name, value, Some(expires).filter(|at| *at > 0));
                to.element(field).await?;
            }
        }
        _ => {
            for entry in &entries {
                to.element(Element::Item(entry)).await?;
            }
        }
    }
    Ok(())
}

/// Hands on the fields of a hash whose names and values stand apart.
async fn named(names: &[Vec<u8>], values: &[Cow<'_, [u8]>], to: &mut impl Elements) -> Result<()> {
    if names.len() != values.len() {
        return Err(damaged());
    }
    for (name, value) in names.iter().zip(values) {
        to.element(Element::Field(name, value, None)).await?;
    }
    Ok(())
}

/// Reads a number as the server writes it.
pub fn number(text: &[u8]) -> Result<f64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(damaged)
}

/// Hands on the entries of one node of a stream: `t_stream.c` of Redis tells its form.
async fn entries(first: StreamId, node: &[u8], to: &mut impl Elements) -> Result<()> {
    let items = packed::listpack(node)?;
    let mut items = items.into_iter();
    let mut next = || items.next().ok_or_else(damaged);
    let whole = |text: &Cow<'_, [u8]>| -> Result<i64> {
        let text = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        text.ok_or_else(damaged)
    };
    let (live, deleted) = (whole(&next()?)?, whole(&next()?)?);
    let count = whole(&next()?)?;
    let mut names: Entries<'_> = Vec::new();
    for _ in 0..count {
        names.push(next()?);
    }
    next()?;
    for _ in 0..live.saturating_add(deleted) {
        let flags = whole(&next()?)?;
        let (ms, sequence) = (whole(&next()?)?, whole(&next()?)?);
        let mut fields: Entries<'_> = Vec::new();
        if flags & 2 != 0 {
            for name in &names {
                fields.extend([name.clone(), next()?]);
            }
        } else {
            for _ in 0..whole(&next()?)? {
                fields.extend([next()?, next()?]);
            }
        }
        next()?;
        if flags & 1 == 0 {
            let id = StreamId(first.0.wrapping_add_signed(ms), first.1.wrapping_add_signed(sequence));
            to.element(Element::Entry(id, &fields)).await?;
        }
    }
    if items.next().is_some() {
        return Err(damaged());
    }
    Ok(())
}
