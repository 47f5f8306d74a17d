//! Writes keys by ordinary commands where the target refuses their payloads: too long for one argument, or of an
//! encoding that it does not know.
//!
//! A key is written under a temporary name and renamed in one transaction with its expiry, so nobody ever sees a part
//! of it. The temporary key expires by itself, ten minutes after the last batch: if this process dies, nothing of it
//! stays. Memory: two batches of commands, one element, and the pending entries of one consumer group.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio_util::sync::CancellationToken;

use super::load::{Conflict, META_ADVICE, Tally, WITHOUT_META, WITHOUT_PRODUCERS};
use super::pipeline::{MOVED, advice};
use super::route::Nodes;
use super::transcode::ServerDialect;
use crate::archive::ChunkStream;
use crate::base::error::{Context, Result};
use crate::base::exact;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::stored::stop_if;
use crate::engines::redis::wire::glob;
use crate::engines::redis::wire::key_name::name;
use crate::engines::redis::wire::rdb::decode::{Decoder, Element, Elements, Next, StreamId};
use crate::engines::redis::wire::rdb::walk;
use crate::engines::redis::wire::rdb::walk::KeyHeader;
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

/// Arguments of one command at most.
const ARGUMENTS: usize = 512;

/// Bytes of one command, and of commands that are sent at once.
const COMMAND_BYTES: usize = 64 << 10;
const BATCH_BYTES: usize = 256 << 10;

/// A key that is longer than this is not held by a walk, in bytes.
const LONG_BYTES: usize = walk::MAX_COLLECTED_BYTES;

/// How long a temporary key stays after the last batch, in milliseconds.
const TEMPORARY_MS: &[u8] = b"600000";

/// Pending entries of one group that are held; a group with more does not come back by commands.
const MAX_PENDING: usize = 300_000;

/// What is written again, and how.
#[derive(Debug)]
pub(crate) struct ReplayOptions<'a> {
    /// Numbers of the keys in the file; `None` for all that are selected.
    pub(crate) ordinals: Option<HashSet<u64>>,
    /// Keys that match none of these are left out, if there are any.
    pub(crate) patterns: Vec<Vec<u8>>,
    pub(crate) conflict: Option<Conflict>,
    pub(crate) target: ServerDialect,
    /// The database that all keys go into, if not each into the one of its number.
    pub(crate) into: Option<u32>,
    /// Fields that expired before this are left out, in milliseconds since the epoch.
    pub(crate) now_ms: i64,
    pub(crate) cancel: &'a CancellationToken,
}

/// Decodes a stored RDB once more and writes the keys that are wanted.
pub(crate) async fn replay(
    nodes: &mut Nodes,
    (chunks, most): (ChunkStream, Option<u64>),
    mut how: ReplayOptions<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut decoder = Decoder::new(chunks, most);
    let random = rand::random::<u64>();
    let mut ordinal = 0;
    while how.ordinals.as_ref().is_none_or(|left| !left.is_empty()) {
        let value = match decoder.next().await? {
            Next::End => break,
            Next::Function(_) => continue,
            Next::Key(value) => value,
        };
        stop_if(how.cancel)?;
        let wanted = match &mut how.ordinals {
            Some(ordinals) => ordinals.remove(&ordinal),
            None => selected(&how, &decoder.header),
        };
        let number = ordinal;
        ordinal += 1;
        // A long key could not be compared with the patterns before.
        let long = decoder.header.too_long || decoder.header.key.len() > LONG_BYTES;
        if !wanted || (long && !decoder.header.too_long && !matched(&how, &decoder.header)) {
            tally.not_selected += u64::from(wanted);
            decoder.pass(value).await?;
            continue;
        }
        if decoder.header.too_long {
            let shown = format!("number {number} of the RDB");
            tally.fail(
                "key",
                shown,
                "it is longer than 32 MiB".to_owned(),
                "Restore into a file: --into file:dump.rdb.",
            );
            decoder.pass(value).await?;
            continue;
        }
        let mut header = decoder.header.clone();
        header.database = how.into.unwrap_or(header.database);
        let temporary = nodes.temporary(&header.key, random);
        let connection = nodes.for_key(header.database, &header.key).await?;
        let shown = name(header.database, &header.key);
        if matches!(how.conflict, Some(Conflict::Skip | Conflict::Fail))
            && connection.ask(&[b"EXISTS", &header.key]).await? == Reply::Integer(1)
        {
            taken(&how, (shown, number), tally);
            decoder.pass(value).await?;
            continue;
        }
        if header.meta_too_long {
            tally.lose_once("metadata", "of keys", WITHOUT_META, META_ADVICE);
        }
        let mut writing = Writing::new(connection, &how, &temporary, value.name);
        let decoded = decoder.value(value, &mut writing).await;
        decoded.with_context(|| format!("decode key {shown}"))?;
        if writing.producers {
            tally.lose(
                "producers",
                &format!("of stream {shown}"),
                WITHOUT_PRODUCERS.to_owned(),
                META_ADVICE,
            );
        }
        match writing.finish(&header.key, header.expires_ms).await? {
            Written::Whole => {
                tally.restored += 1;
                tally.replayed += 1;
            }
            Written::Expired => tally.expired += 1,
            Written::Taken => taken(&how, (shown, number), tally),
            Written::Refused(why) => {
                let moved = why.starts_with("MOVED") || why.starts_with("ASK");
                let advice = if moved {
                    MOVED
                } else {
                    "Restore into a file: --into file:dump.rdb."
                };
                tally.fail("key", shown, why, advice);
            }
            Written::Without(entries) => {
                tally.restored += 1;
                tally.replayed += 1;
                let why = format!(
                    "{entries} pending entries are no longer in the stream, or have no consumer, and were not restored"
                );
                tally.fail("pending entries of", shown, why, "The rest of the key is there.");
            }
        }
    }
    Ok(())
}

/// Returns whether a key is to be written. Those that are not were counted before.
fn selected(how: &ReplayOptions<'_>, header: &KeyHeader) -> bool {
    let live = header.expires_ms.is_none_or(|at| at > how.now_ms);
    live && (header.too_long || header.key.len() > LONG_BYTES || matched(how, header))
}

/// Returns whether a key matches what is asked for.
fn matched(how: &ReplayOptions<'_>, header: &KeyHeader) -> bool {
    let matches = |pattern: &Vec<u8>| glob::matches(pattern, &header.key);
    how.patterns.is_empty() || how.patterns.iter().any(matches)
}

/// Counts a key that the target has.
fn taken(how: &ReplayOptions<'_>, (shown, ordinal): (String, u64), tally: &mut Tally) {
    if how.conflict == Some(Conflict::Skip) {
        tally.skipped += 1;
    } else {
        tally.taken(ordinal);
        let error = "BUSYKEY Target key name already exists.".to_owned();
        let advice = advice(&error);
        tally.fail("key", shown, error, advice);
    }
}

/// What became of a key.
#[derive(Debug)]
enum Written {
    Whole,
    /// Nothing of it is left by now.
    Expired,
    /// The target got a key of this name meanwhile.
    Taken,
    Refused(String),
    /// It is there, but for so many pending entries.
    Without(u64),
}

/// What a reply must be.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Anything,
    /// 1 or 2 for each field.
    Fields,
    /// The id, or nothing if the entry is gone.
    Claimed,
}

/// A key that is being written.
#[derive(Debug)]
struct Writing<'a> {
    connection: &'a mut Connection,
    temporary: &'a [u8],
    target: ServerDialect,
    conflict: Option<Conflict>,
    now_ms: u64,
    /// The command that takes the elements of this type.
    verb: &'static [u8],
    /// It is a string, which may have no bytes at all.
    string: bool,
    /// Arguments that were not put into a command yet.
    arguments: Vec<u8>,
    count: usize,
    /// Fields that expire at the same time.
    expires_ms: u64,
    expiring: Vec<u8>,
    expiring_count: usize,
    /// Commands that were not sent yet.
    out: Vec<u8>,
    expected: VecDeque<Expected>,
    /// How many of the expected replies belong to commands in `out`.
    unsent: usize,
    began: bool,
    refused: Option<String>,
    group: Vec<u8>,
    consumer: Vec<u8>,
    pending: HashMap<StreamId, (u64, u64)>,
    gone: u64,
    /// The stream knows producers, which no command brings back.
    producers: bool,
}

fn argument(bytes: &[u8], out: &mut Vec<u8>) {
    resp::header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

impl<'a> Writing<'a> {
    fn new(connection: &'a mut Connection, how: &ReplayOptions<'_>, temporary: &'a [u8], kind: &str) -> Self {
        Self {
            connection,
            temporary,
            target: how.target,
            conflict: how.conflict,
            now_ms: exact::saturating_u64(how.now_ms),
            verb: match kind {
                "list" => b"RPUSH",
                "set" => b"SADD",
                "zset" => b"ZADD",
                _ => b"HSET",
            },
            string: kind == "string",
            arguments: Vec::new(),
            count: 0,
            expires_ms: 0,
            expiring: Vec::new(),
            expiring_count: 0,
            out: Vec::new(),
            expected: VecDeque::new(),
            unsent: 0,
            began: false,
            refused: None,
            group: Vec::new(),
            consumer: Vec::new(),
            pending: HashMap::new(),
            gone: 0,
            producers: false,
        }
    }

    fn refuse(&mut self, why: &str) {
        self.refused.get_or_insert_with(|| why.to_owned());
    }

    fn command(&mut self, arguments: &[&[u8]], expected: Expected) {
        resp::encode(arguments, &mut self.out);
        self.expected.push_back(expected);
        self.unsent += 1;
        self.began = true;
    }

    /// Adds elements to the command at hand.
    async fn add(&mut self, elements: &[&[u8]]) -> Result<()> {
        for element in elements {
            argument(element, &mut self.arguments);
        }
        self.count += elements.len();
        if self.count >= ARGUMENTS || self.arguments.len() >= COMMAND_BYTES {
            self.close();
        }
        self.send_if_full().await
    }

    /// Ends the command at hand, and the one that lets its fields expire.
    fn close(&mut self) {
        if self.count > 0 {
            resp::header(b'*', self.count + 2, &mut self.out);
            argument(self.verb, &mut self.out);
            argument(self.temporary, &mut self.out);
            self.out.append(&mut self.arguments);
            self.expected.push_back(Expected::Anything);
            (self.count, self.began) = (0, true);
            self.unsent += 1;
        }
        if self.expiring_count > 0 {
            resp::header(b'*', self.expiring_count + 5, &mut self.out);
            let (at, count) = (self.expires_ms.to_string(), self.expiring_count.to_string());
            for one in [
                b"HPEXPIREAT",
                self.temporary,
                at.as_bytes(),
                b"FIELDS",
                count.as_bytes(),
            ] {
                argument(one, &mut self.out);
            }
            self.out.append(&mut self.expiring);
            self.expected.push_back(Expected::Fields);
            self.expiring_count = 0;
            self.unsent += 1;
        }
    }

    async fn send_if_full(&mut self) -> Result<()> {
        if self.out.len() < BATCH_BYTES {
            return Ok(());
        }
        self.command(&[b"PEXPIRE", self.temporary, TEMPORARY_MS], Expected::Anything);
        self.send().await
    }

    /// Sends what is ready, and takes the replies of what was sent before.
    async fn send(&mut self) -> Result<()> {
        if self.refused.is_some() {
            // The rest of a key that is given up is not worth sending.
            let sent = self.expected.len() - self.unsent;
            self.expected.truncate(sent);
            self.out.clear();
        } else {
            self.connection.send_encoded(&self.out).await?;
            self.out.clear();
        }
        let keep = std::mem::take(&mut self.unsent).min(self.expected.len());
        while self.expected.len() > keep {
            self.reply().await?;
        }
        Ok(())
    }

    /// Takes one reply.
    async fn reply(&mut self) -> Result<Reply> {
        let reply = self.connection.reply().await?;
        let expected = self.expected.pop_front().unwrap_or(Expected::Anything);
        let wrong = |code: &Reply| !matches!(code, Reply::Integer(1 | 2));
        match (expected, &reply) {
            (_, Reply::Error(text)) => {
                let text = text.clone();
                self.refuse(&text);
            }
            (Expected::Fields, reply) if reply.elements().iter().any(wrong) => {
                self.refuse("the server did not take the expiry of a field");
            }
            (Expected::Claimed, reply) if reply.elements().is_empty() => self.gone += 1,
            _ => {}
        }
        Ok(reply)
    }

    /// Gives the key its expiry and its name.
    async fn finish(mut self, key: &[u8], expires_ms: Option<i64>) -> Result<Written> {
        self.close();
        if !self.began && self.string {
            let temporary = self.temporary;
            self.command(&[b"SET", temporary, b"", b"PX", TEMPORARY_MS], Expected::Anything);
        }
        if !self.began && self.refused.is_none() {
            return Ok(Written::Expired);
        }
        self.send().await?;
        while !self.expected.is_empty() {
            self.reply().await?;
        }
        if let Some(why) = self.refused.take() {
            self.connection.ask(&[b"DEL", self.temporary]).await?;
            return Ok(Written::Refused(why));
        }
        let at = expires_ms.unwrap_or(0).to_string();
        let keeps = matches!(self.conflict, Some(Conflict::Skip | Conflict::Fail));
        let rename: &[u8] = if keeps { b"RENAMENX" } else { b"RENAME" };
        let mut out = Vec::new();
        resp::encode(&[b"MULTI"], &mut out);
        match expires_ms {
            Some(_) => resp::encode(&[b"PEXPIREAT", self.temporary, at.as_bytes()], &mut out),
            None => resp::encode(&[b"PERSIST", self.temporary], &mut out),
        }
        resp::encode(&[rename, self.temporary, key], &mut out);
        resp::encode(&[b"EXEC"], &mut out);
        self.connection.send_encoded(&out).await?;
        for _ in 0..3 {
            self.reply().await?;
        }
        let done = self.reply().await?;
        let renamed = done.elements().get(1).cloned();
        match (self.refused.take(), renamed) {
            (None, Some(Reply::Integer(0))) => {
                self.connection.ask(&[b"DEL", self.temporary]).await?;
                Ok(Written::Taken)
            }
            // Its time came while it was written.
            (None, Some(Reply::Error(text))) if text.contains("no such key") => Ok(Written::Expired),
            (None, Some(Reply::Simple(_) | Reply::Integer(_))) if self.gone == 0 => Ok(Written::Whole),
            (None, Some(Reply::Simple(_) | Reply::Integer(_))) => Ok(Written::Without(self.gone)),
            (why, renamed) => {
                self.connection.ask(&[b"DEL", self.temporary]).await?;
                let said = match renamed {
                    Some(Reply::Error(text)) => text,
                    _ => "the server did not rename it".to_owned(),
                };
                Ok(Written::Refused(why.unwrap_or(said)))
            }
        }
    }

    async fn field(&mut self, name: &[u8], value: &[u8], expires: Option<u64>) -> Result<()> {
        let Some(at) = expires else {
            return self.add(&[name, value]).await;
        };
        if at <= self.now_ms {
            return Ok(());
        }
        if !self.target.expires_fields() {
            self.refuse("fields of the hash expire, which the target does not know");
            return Ok(());
        }
        if self.expiring_count > 0 && self.expires_ms != at {
            self.close();
        }
        self.expires_ms = at;
        argument(name, &mut self.expiring);
        self.expiring_count += 1;
        self.add(&[name, value]).await
    }

    fn stream(&mut self, facts: crate::engines::redis::wire::rdb::decode::StreamFacts) {
        if facts.length == 0 {
            // Only a group makes a stream without entries.
            let temporary = self.temporary;
            let made: [&[u8]; 6] = [b"XGROUP", b"CREATE", temporary, b"wirevault", b"0", b"MKSTREAM"];
            self.command(&made, Expected::Anything);
            self.command(&[b"XGROUP", b"DESTROY", temporary, b"wirevault"], Expected::Anything);
        }
        let last = facts.last.to_string();
        match facts.counted.filter(|_| self.target.counts_streams()) {
            None => self.command(&[b"XSETID", self.temporary, last.as_bytes()], Expected::Anything),
            Some((deleted, added)) => {
                let (deleted, added) = (deleted.to_string(), added.to_string());
                let counted: [&[u8]; 7] = [
                    b"XSETID",
                    self.temporary,
                    last.as_bytes(),
                    b"ENTRIESADDED",
                    added.as_bytes(),
                    b"MAXDELETEDID",
                    deleted.as_bytes(),
                ];
                self.command(&counted, Expected::Anything);
            }
        }
    }

    fn group(&mut self, name: &[u8], last: StreamId, read: Option<i64>) {
        self.group = name.to_vec();
        self.pending.clear();
        let last = last.to_string();
        let read = read
            .filter(|_| self.target.counts_streams())
            .map(|read| read.to_string());
        let mut command: Vec<&[u8]> = vec![b"XGROUP", b"CREATE", self.temporary, name, last.as_bytes()];
        if let Some(read) = &read {
            command.extend([&b"ENTRIESREAD"[..], read.as_bytes()]);
        }
        self.command(&command, Expected::Anything);
    }

    fn owned(&mut self, id: StreamId) {
        let (at, times) = self.pending.remove(&id).unwrap_or_default();
        let (group, consumer) = (std::mem::take(&mut self.group), std::mem::take(&mut self.consumer));
        let (id, at, times) = (id.to_string(), at.to_string(), times.to_string());
        let claim: [&[u8]; 12] = [
            b"XCLAIM",
            self.temporary,
            &group,
            &consumer,
            b"0",
            id.as_bytes(),
            b"TIME",
            at.as_bytes(),
            b"RETRYCOUNT",
            times.as_bytes(),
            b"FORCE",
            b"JUSTID",
        ];
        self.command(&claim, Expected::Claimed);
        (self.group, self.consumer) = (group, consumer);
    }
}

impl Elements for Writing<'_> {
    async fn element(&mut self, element: Element<'_>) -> Result<()> {
        match element {
            Element::Piece(bytes) => self.command(&[b"APPEND", self.temporary, bytes], Expected::Anything),
            Element::Item(item) => return self.add(&[item]).await,
            Element::Member(member, score) => {
                let score = format!("{score:e}");
                return self.add(&[score.as_bytes(), member]).await;
            }
            Element::Field(name, value, expires) => return self.field(name, value, expires).await,
            Element::Entry(id, fields) => {
                let id = id.to_string();
                let mut command: Vec<&[u8]> = vec![b"XADD", self.temporary, id.as_bytes()];
                command.extend(fields.iter().map(|part| &**part));
                self.command(&command, Expected::Anything);
            }
            Element::Stream(facts) => self.stream(facts),
            Element::Group(name, last, read) => self.group(name, last, read),
            Element::Pending(id, at, times) => {
                if self.pending.len() >= MAX_PENDING {
                    self.refuse("a group of the stream has more than 300000 pending entries");
                } else {
                    self.pending.insert(id, (at, times));
                }
            }
            Element::Consumer(name) => {
                self.consumer = name.to_vec();
                let group = std::mem::take(&mut self.group);
                if self.target.counts_streams() {
                    let made: [&[u8]; 5] = [b"XGROUP", b"CREATECONSUMER", self.temporary, &group, name];
                    self.command(&made, Expected::Anything);
                }
                self.group = group;
            }
            Element::Owned(id) => self.owned(id),
            Element::TooLong => self.refuse("it holds an element of more than 32 MiB"),
            Element::Module => self.refuse("it is the value of a module, which the target does not take"),
            Element::Array => self.refuse("it is an array, which the target does not take"),
            // It stays among the pending ones that nobody claims.
            Element::GivenBack(_) => self.gone += 1,
            Element::Producers(_) => self.producers = true,
        }
        self.send_if_full().await
    }
}
