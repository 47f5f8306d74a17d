//! Reads keys by SCAN, PEXPIRETIME and DUMP where a server refuses PSYNC, and writes them as an RDB.
//!
//! A DUMP payload is a type byte, the value as an RDB holds it, the version and a CRC64; so what is stored is an
//! ordinary RDB, and everything that reads one (restore, verify, a stock server) works as it does otherwise. There is no
//! single moment: each key is as it was when it was read. Memory: one page of keys, the filter and the names of
//! [`key_journal`](super::key_journal); payloads pass through as they come, so the size of a value does not matter here. The server
//! makes each payload in its own memory, one group of at most [`GROUP_BYTES`] or one larger value at a time.

use std::time::Instant;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::key_journal::KeyJournal;
use super::payloads;
use super::payloads::{PAYLOADS, Waiting};
use super::receive::Chunks;
use crate::archive::ArchiveWriter;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::base::unnamed_file::unnamed_file;
use crate::engines::redis::PayloadFacts;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::holdings::{Keys, Libraries};
use crate::engines::redis::session::server::Server;
use crate::engines::redis::stored::stop_if;
use crate::engines::redis::wire::rdb::encode;
use crate::engines::redis::wire::rdb::pull::{Input, Pieces};
use crate::engines::redis::wire::rdb::types;
use crate::engines::redis::wire::rdb::types::ValueType;
use crate::engines::redis::wire::rdb::walk::{State, is_value, meta_at};
use crate::engines::redis::wire::rdb::{Census, Counter, Crc64, Flavour, Walker};
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

/// Keys that are asked for at once.
const PAGE: &[u8] = b"512";

/// Values whose payloads are asked for at once: so many, and about so many bytes by MEMORY USAGE.
const GROUP_KEYS: usize = 128;
const GROUP_BYTES: u64 = 4 << 20;

/// What a key is taken to need where the server does not say, in bytes.
const UNKNOWN_BYTES: u64 = 128 << 10;

/// Bytes behind the value of a payload: version and CRC64.
const FOOTER: u64 = 10;

/// How it is read, and for whom.
#[derive(Debug)]
pub(crate) struct ScanOptions<'a> {
    pub(crate) writer: &'a ArchiveWriter,
    /// Name of the stream.
    pub(crate) prefix: &'a str,
    /// The database that alone is wanted.
    pub(crate) only: Option<u32>,
    /// Keys that are read in a second at most.
    pub(crate) keys_per_second: Option<u64>,
    /// Where the list of keys that were read is kept, and payloads; how many bytes of those at most.
    pub(crate) spool_dir: &'a std::path::Path,
    pub(crate) spool_limit: u64,
    /// Name towards the reporter.
    pub(crate) task: &'a str,
    pub(crate) reporter: &'a SharedReporter,
    pub(crate) cancel: &'a CancellationToken,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) bytes: u64,
    pub(crate) chunks: u32,
    pub(crate) census: Census,
    pub(crate) version: u16,
    pub(crate) valkey: bool,
    pub(crate) unknown: Option<String>,
    pub(crate) payloads: Option<Payloads>,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// Keys that SCAN named and that were gone when they were read.
    pub(crate) vanished: u64,
    /// Keys of other databases, as far as they are known, where one alone is wanted.
    pub(crate) others: u64,
    /// Why function libraries were not read.
    pub(crate) no_functions: Option<String>,
    /// Why databases may be missing.
    pub(crate) no_databases: Option<String>,
}

/// Keys that were stored as payloads.
#[derive(Debug)]
pub(crate) struct Payloads {
    pub(crate) stream: String,
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// Those whose values are too long to have their form looked at.
    pub(crate) long: u64,
    pub(crate) facts: PayloadFacts,
    /// What is unknown of the first.
    what: String,
}

/// Returns the name of the payloads beside an RDB.
pub(crate) fn payloads_stream(rdb: &str) -> String {
    let directory = rdb.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{PAYLOADS}").trim_start_matches('/').to_owned()
}

/// Writes an RDB from its parts.
struct Composer<'a> {
    chunks: Chunks<'a>,
    walker: Walker,
    counter: Counter,
    crc: Crc64,
    bytes: u64,
}

impl Composer<'_> {
    async fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.walker.feed(bytes, &mut self.counter)?;
        if self.walker.state() == State::Opaque {
            self.walker.feed_opaque(bytes);
        }
        self.bytes = self.bytes.saturating_add(size(bytes));
        self.chunks.put(bytes).await
    }

    async fn string(&mut self, bytes: &[u8]) -> Result<()> {
        let mut head = Vec::new();
        encode::length(size(bytes), &mut head);
        self.put(&head).await?;
        self.put(bytes).await
    }

    /// Writes the end.
    async fn end(&mut self) -> Result<()> {
        let mut end = Vec::new();
        encode::end(&mut self.crc, &mut end);
        self.write(&end).await?;
        self.walker.end(&mut self.counter)
    }
}

fn size(bytes: &[u8]) -> u64 {
    exact::u64_from(bytes.len())
}

/// Reads all databases.
pub(crate) async fn scan(
    client: Client,
    connection: &mut Connection,
    server: &Server,
    how: ScanOptions<'_>,
) -> Result<Scanned> {
    let from = Timestamp::now();
    // Refusals show before anything is written.
    let scanned = connection.call(&[b"SCAN", b"0", b"COUNT", b"1"]).await;
    if scanned.context("read keys (SCAN)")?.elements().len() != 2 {
        return Err(odd().context("read keys (SCAN)"));
    }
    match connection.ask(&[b"DUMP", b"wirevault"]).await? {
        // A node of a cluster looks at the rights before it says who has the key.
        Reply::Error(text) if text.starts_with("MOVED") || text.starts_with("ASK") => {}
        reply => drop(reply.checked().context("read keys (DUMP)")?),
    }
    let found = Keys::count(&client, server).await?;
    let (databases, closed) = match how.only {
        Some(number) => (vec![number], None),
        None => found.to_read(),
    };
    let others = how.only.map_or(0, |only| found.beside(only));
    let version = version(&client, connection, server, &databases).await?;
    let valkey = version >= 80;
    let how_only = how.only;
    let mut reading = ScanSession {
        composer: Composer {
            chunks: Chunks::new(how.writer, how.prefix),
            walker: Walker::new(),
            counter: Counter::default(),
            crc: Crc64::new(),
            bytes: 0,
        },
        key_journal: KeyJournal::new(how.spool_dir)?,
        how,
        began: Instant::now(),
        read: 0,
        vanished: 0,
        sizes: true,
        times: true,
        database: None,
        waiting: None,
        walked: 0,
    };
    let flavour = if valkey { Flavour::Valkey } else { Flavour::Redis };
    let mut head = encode::magic(flavour, version);
    let ctime = from.as_second().to_string();
    let product: &[u8] = if valkey { b"valkey-ver" } else { b"redis-ver" };
    for (name, value) in [(product, server.version()), (b"ctime", ctime.as_str())] {
        encode::aux(name, value.as_bytes(), &mut head);
    }
    reading.composer.put(&head).await?;
    let libraries = match how_only {
        // They are of the whole server.
        Some(_) => Libraries::Known(Vec::new()),
        None => Libraries::ask(&client, server).await?,
    };
    // Nothing more is asked: a connection that rests while all keys are read may not outlive that.
    drop(client);
    for (_, code) in libraries.all() {
        let mut library = Vec::new();
        encode::function(code, &mut library);
        reading.composer.put(&library).await?;
    }
    for database in databases {
        let selected = connection.select(database).await;
        selected.with_context(|| format!("choose database {database}"))?;
        reading.database(connection, database).await?;
    }
    reading.put_waiting().await?;
    reading.composer.end().await?;
    reading.all_walked()?;
    let composer = reading.composer;
    let chunks = composer.chunks.finish().await?;
    let mut payloads = None;
    if let Some(mut waiting) = reading.waiting.take() {
        let stream = payloads_stream(reading.how.prefix);
        let mut chunks = Chunks::new(reading.how.writer, &stream);
        while let Some(piece) = Pieces::next(&mut &mut waiting).await? {
            chunks.put(&piece).await?;
        }
        let chunks = chunks.finish().await?;
        payloads = Some(Payloads {
            chunks,
            stream,
            bytes: waiting.bytes,
            records: waiting.records,
            long: waiting.long,
            facts: waiting.facts,
            what: format!(
                "{} in an RDB of version {version}",
                waiting.what.as_deref().unwrap_or("something unknown")
            ),
        });
    }
    Ok(Scanned {
        bytes: composer.bytes,
        chunks,
        version,
        valkey: composer.walker.flavour() == Flavour::Valkey,
        unknown: payloads.as_ref().map(|payloads| payloads.what.clone()),
        payloads,
        census: composer.counter.finish(),
        from,
        to: Timestamp::now(),
        vanished: reading.vanished,
        others,
        no_functions: match libraries {
            Libraries::Known(_) => None,
            Libraries::Unknown(why) => Some(why),
        },
        no_databases: closed.map(str::to_owned),
    })
}

/// Finds the RDB version that the server writes: at the end of any payload, else by what is known of it.
async fn version(client: &Client, connection: &mut Connection, server: &Server, databases: &[u32]) -> Result<u16> {
    if let Some(version) = version_of_functions(client).await? {
        return Ok(version);
    }
    for database in databases {
        let selected = connection.select(*database).await;
        selected.with_context(|| format!("choose database {}", *database))?;
        if let Reply::Bulk(Some(key)) = connection.ask(&[b"RANDOMKEY"]).await?
            && let Some([low, high, ..]) = last_ten(connection, &key).await?
        {
            return Ok(u16::from_le_bytes([low, high]));
        }
    }
    Ok(usual_version(server))
}

/// Finds the RDB version as well as it can be found without keys.
pub(crate) async fn likely_version(client: &Client, server: &Server) -> Result<u16> {
    Ok(match version_of_functions(client).await? {
        Some(version) => version,
        None => usual_version(server),
    })
}

/// Returns the version that the server writes at the end of its function libraries, if it shows them.
async fn version_of_functions(client: &Client) -> Result<Option<u16>> {
    let Reply::Bulk(Some(payload)) = client.ask(&[b"FUNCTION", b"DUMP"]).await? else {
        return Ok(None);
    };
    let end = payload.len().checked_sub(10).and_then(|at| payload.get(at..));
    Ok(match end {
        Some([low, high, ..]) => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    })
}

/// Returns the version that a server of this product and version is known to write.
fn usual_version(server: &Server) -> u16 {
    let mut numbers = server.version().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        version if server.product() == "valkey" && version >= (9, 0) => 80,
        version if server.product() == "valkey" || ((7, 2)..(7, 4)).contains(&version) => 11,
        version if version >= (8, 10) => 15,
        version if version >= (8, 8) => 14,
        version if version >= (8, 6) => 13,
        version if version >= (7, 4) => 12,
        version if version >= (7, 0) => 10,
        _ => 9,
    }
}

/// Returns the last bytes of a key's payload.
async fn last_ten(connection: &mut Connection, key: &[u8]) -> Result<Option<[u8; 10]>> {
    connection.send(&[b"DUMP", key]).await?;
    let Some(mut left) = connection.bulk_header().await? else {
        return Ok(None);
    };
    let mut last: Vec<u8> = Vec::new();
    while left > 0 {
        let piece = connection.piece(left).await?;
        let used = piece.len();
        last.extend_from_slice(exact::last(piece, 10));
        last.drain(..last.len().saturating_sub(10));
        connection.take(used);
        left -= exact::u64_from(used);
    }
    connection.end_of_bulk().await?;
    Ok(last.try_into().ok())
}

/// A read of all databases.
struct ScanSession<'a> {
    composer: Composer<'a>,
    key_journal: KeyJournal,
    how: ScanOptions<'a>,
    began: Instant,
    read: u64,
    vanished: u64,
    /// The server knows MEMORY USAGE, and PEXPIRETIME.
    sizes: bool,
    times: bool,
    database: Option<u32>,
    /// Keys that are stored as payloads, if there are some.
    waiting: Option<Waiting>,
    /// Keys that were put into the RDB to be walked.
    walked: u64,
}

/// What stands before the metadata of a key.
const KEY_META: u8 = 243;

/// Bytes of a payload that are held to look at its form; a longer one whose form must be looked at is kept as it is.
const HELD_BYTES: u64 = 4 << 20;

impl ScanSession<'_> {
    async fn database(&mut self, connection: &mut Connection, database: u32) -> Result<()> {
        let mut cursor = b"0".to_vec();
        loop {
            stop_if(self.how.cancel)?;
            let reply = connection.call(&[b"SCAN", &cursor, b"COUNT", PAGE]).await;
            let reply = reply.with_context(|| format!("read the keys of database {database} (SCAN)"))?;
            let [next, page] = reply.elements() else {
                return Err(Error::unsupported("the answer to SCAN has an unknown form"));
            };
            let mut keys = Vec::new();
            for key in page.elements() {
                if let Reply::Bulk(Some(key)) = key
                    && self.key_journal.first(key)?
                {
                    keys.push(key.clone());
                }
            }
            self.keys(connection, database, &keys).await?;
            cursor = next.bytes().unwrap_or_default().to_vec();
            let over = cursor == b"0";
            if over || self.key_journal.is_full() {
                let rest = self.key_journal.settle(over)?;
                self.keys(connection, database, &rest).await?;
            }
            if over {
                return Ok(());
            }
        }
    }

    async fn keys(&mut self, connection: &mut Connection, database: u32, keys: &[Vec<u8>]) -> Result<()> {
        let sizes = self.sizes(connection, keys).await?;
        let (mut from, mut bytes) = (0, 0_u64);
        for (at, size) in sizes.iter().enumerate() {
            if at > from && (at - from >= GROUP_KEYS || bytes.saturating_add(*size) > GROUP_BYTES) {
                self.group(
                    connection,
                    database,
                    exact::part(keys, from..at, "there is a size for each key"),
                )
                .await?;
                (from, bytes) = (at, 0);
            }
            bytes = bytes.saturating_add(*size);
        }
        self.group(
            connection,
            database,
            exact::part(keys, from.., "there is a size for each key"),
        )
        .await
    }

    /// Asks how much memory keys need.
    async fn sizes(&mut self, connection: &mut Connection, keys: &[Vec<u8>]) -> Result<Vec<u64>> {
        let mut sizes = vec![UNKNOWN_BYTES; keys.len()];
        if !self.sizes || keys.is_empty() {
            return Ok(sizes);
        }
        let mut out = Vec::new();
        for key in keys {
            resp::encode(&[b"MEMORY", b"USAGE", key], &mut out);
        }
        connection.send_encoded(&out).await?;
        for size in &mut sizes {
            match connection.reply().await? {
                Reply::Integer(bytes) => *size = exact::saturating_u64(bytes),
                Reply::Error(_) => self.sizes = false,
                _ => {}
            }
        }
        Ok(sizes)
    }

    /// Asks for the expiry and payload of each key, and stores them as they come.
    async fn group(&mut self, connection: &mut Connection, database: u32, keys: &[Vec<u8>]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        stop_if(self.how.cancel)?;
        let mut out = Vec::new();
        let ask_expiry: &[u8] = if self.times { b"PEXPIRETIME" } else { b"PTTL" };
        for key in keys {
            resp::encode(&[ask_expiry, key], &mut out);
            resp::encode(&[b"DUMP", key], &mut out);
        }
        connection.send_encoded(&out).await?;
        let mut again = false;
        for key in keys {
            let expires = match connection.reply().await? {
                Reply::Integer(ms) if ms < 0 => None,
                Reply::Integer(ms) if self.times => Some(ms),
                Reply::Integer(ms) => Some(Timestamp::now().as_millisecond().saturating_add(ms)),
                Reply::Error(text)
                    if self.times && (text.contains("unknown command") || text.starts_with("NOPERM")) =>
                {
                    again = true;
                    None
                }
                reply => return Err(reply.checked().err().unwrap_or_else(odd)),
            };
            let before = self.composer.bytes;
            if again {
                connection.discard_bulk().await?;
                continue;
            }
            self.key(connection, database, key, expires).await.with_context(|| {
                format!(
                    "read key {}",
                    crate::engines::redis::wire::key_name::name(database, key)
                )
            })?;
            let bytes = self.composer.bytes - before;
            self.how.reporter.advance(self.how.task, bytes, u64::from(bytes > 0));
        }
        if again {
            // A server before 7.0, or one that keeps it to itself: once more, by PTTL.
            self.times = false;
            return Box::pin(self.group(connection, database, keys)).await;
        }
        self.read += exact::u64_from(keys.len());
        self.slow_down().await;
        Ok(())
    }

    /// Stores one key, whose payload comes next.
    async fn key(
        &mut self,
        connection: &mut Connection,
        database: u32,
        key: &[u8],
        expires_ms: Option<i64>,
    ) -> Result<()> {
        let Some(payload) = connection.bulk_header().await? else {
            self.vanished += 1;
            return Ok(());
        };
        let mut left = payload.checked_sub(FOOTER).filter(|left| *left > 0).ok_or_else(odd)?;
        // The beginning of the payload: what modules attach to the key, its type, and all of a value whose form must be
        // looked at.
        let mut begun = taken(connection, left.min(1)).await?;
        if begun.first() == Some(&KEY_META) && self.composer.walker.flavour() == Flavour::Redis {
            begun.extend(taken(connection, (left - 1).min(HELD_BYTES)).await?);
        }
        let meta = match begun.first() {
            Some(&KEY_META) if self.composer.walker.flavour() == Flavour::Redis => meta_at(&begun).ok().flatten(),
            _ => Some(0),
        };
        let has_meta = meta != Some(0);
        let number = meta.and_then(|meta| begun.get(meta).copied());
        let value = number.and_then(|number| types::value_type(self.composer.walker.flavour(), number));
        if value.is_some_and(|value| value.young) {
            let held = size(&begun);
            let more = (left - held).min(HELD_BYTES.saturating_sub(held));
            begun.extend(taken(connection, more).await?);
        }
        left -= size(&begun);
        // Nothing of the value is at hand where the metadata are longer than what is held.
        let value_from = meta.map_or(0, |meta| meta + 1).min(begun.len());
        let (before, whole) = begun.split_at(value_from);
        let flavour = self.composer.walker.flavour();
        // What is guessed wrong would end the walk, and hide all keys behind it.
        let fits = |value: ValueType| {
            let guessed = value.young || has_meta;
            let held = left == 0 && value.since != types::NEVER;
            !guessed || held && is_value(flavour, number.unwrap_or(0), whole)
        };
        if !value.is_some_and(fits) {
            let long = value.is_some() && left > 0;
            let what = match number {
                None => "metadata of modules".to_owned(),
                Some(number) if long => format!("a value of type {number} above 4 MiB"),
                Some(number) => format!("type {number}"),
            };
            return self
                .keep_payload(connection, (database, key, expires_ms), (&begun, left), (what, long))
                .await;
        }
        let mut crc = Crc64::new();
        crc.update(&begun);
        let mut head = Vec::new();
        self.before_key(database, expires_ms, &mut head);
        head.extend_from_slice(before);
        self.composer.put(&head).await?;
        self.composer.string(key).await?;
        self.composer.put(whole).await?;
        while left > 0 {
            let piece = connection.piece(left).await?;
            crc.update(piece);
            let used = piece.len();
            self.composer.put(piece).await?;
            connection.take(used);
            left -= exact::u64_from(used);
        }
        let footer = taken(connection, FOOTER).await?;
        connection.end_of_bulk().await?;
        let (version, stored) = footer.split_at_checked(2).ok_or_else(odd)?;
        crc.update(version);
        self.walked += 1;
        check(stored, &crc)
    }

    /// Appends what stands before a key: the database that it is in, unless it is chosen already, and its expiry. Whoever calls
    /// this writes it, or the keys that follow are in the database of the one before.
    fn before_key(&mut self, database: u32, expires_ms: Option<i64>, out: &mut Vec<u8>) {
        if self.database != Some(database) {
            encode::database(database, out);
            self.database = Some(database);
        }
        if let Some(at) = expires_ms {
            encode::expires_ms(at, out);
        }
    }

    /// Fails if the walk did not find the keys that were put into the RDB.
    fn all_walked(&self) -> Result<()> {
        let found = self.composer.counter.keys();
        if found == self.walked {
            return Ok(());
        }
        let what = self.composer.walker.unknown().unwrap_or("something unknown");
        Err(Error::unsupported(format!(
            "of {} keys that were read, {found} are found in their RDB: it holds {what}",
            self.walked
        )))
    }

    /// Keeps a payload as it is, whose value cannot be put into an RDB that is walked.
    async fn keep_payload(
        &mut self,
        connection: &mut Connection,
        (database, key, expires_ms): (u32, &[u8], Option<i64>),
        (begun, left): (&[u8], u64),
        (what, long): (String, bool),
    ) -> Result<()> {
        if self.waiting.is_none() {
            self.waiting = Some(Waiting::new(unnamed_file(self.how.spool_dir)?, self.how.spool_limit));
        }
        let Some(waiting) = &mut self.waiting else {
            return Err(odd());
        };
        waiting.what.get_or_insert(what);
        waiting.long += u64::from(long);
        waiting
            .facts
            .count((database, key), begun.first().copied().unwrap_or_default());
        let payload = size(begun).saturating_add(left).saturating_add(FOOTER);
        waiting.begin((database, key), expires_ms, payload)?;
        waiting.put(begun)?;
        let mut crc = Crc64::new();
        crc.update(begun);
        let mut left = left.saturating_add(2);
        while left > 0 {
            let piece = connection.piece(left).await?;
            crc.update(piece);
            waiting.put(piece)?;
            let used = piece.len();
            connection.take(used);
            left -= exact::u64_from(used);
        }
        let stored = taken(connection, 8).await?;
        waiting.put(&stored)?;
        connection.end_of_bulk().await?;
        check(&stored, &crc)
    }

    /// Writes the keys that were kept as payloads behind all others, where the walk ends, for whoever reads the file.
    async fn put_waiting(&mut self) -> Result<()> {
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(());
        };
        self.composer.walker.stop();
        waiting.rewind()?;
        let records = waiting.records;
        let mut input = Input::new(&mut waiting);
        for _ in 0..records {
            let head = payloads::head(&mut input).await?;
            let mut left = head.payload_bytes.saturating_sub(FOOTER + 1);
            let first = input.byte().await?;
            if payloads::is_beside(first) {
                input.pass(left + FOOTER).await?;
                continue;
            }
            let mut out = Vec::new();
            self.before_key(head.database, head.expires_ms, &mut out);
            out.push(first);
            self.composer.put(&out).await?;
            self.composer.string(&head.key).await?;
            while left > 0 {
                let piece = payloads::piece(&mut input, left).await?;
                self.composer.put(piece).await?;
                let used = piece.len();
                left -= exact::u64_from(used);
                input.skip(used);
            }
            input.pass(FOOTER).await?;
        }
        drop(input);
        waiting.rewind()?;
        self.waiting = Some(waiting);
        Ok(())
    }

    /// Waits as long as the rate demands.
    async fn slow_down(&self) {
        if let Some(rate) = self.how.keys_per_second.filter(|rate| *rate > 0) {
            let due = std::time::Duration::from_millis(self.read.saturating_mul(1000) / rate);
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
    }
}

/// Takes so many bytes of a payload.
async fn taken(connection: &mut Connection, bytes: u64) -> Result<Vec<u8>> {
    let mut taken = Vec::new();
    while size(&taken) < bytes {
        let piece = connection.piece(bytes - size(&taken)).await?;
        taken.extend_from_slice(piece);
        let used = piece.len();
        connection.take(used);
    }
    Ok(taken)
}

/// Compares the CRC64 of a payload; a server may leave it out.
fn check(stored: &[u8], crc: &Crc64) -> Result<()> {
    let stored: [u8; 8] = stored.try_into().map_err(|_| odd())?;
    let stored = u64::from_le_bytes(stored);
    if stored != 0 && stored != crc.value() {
        return Err(Error::corrupt("the CRC64 of its payload is wrong"));
    }
    Ok(())
}

fn odd() -> Error {
    Error::new(ErrorKind::Unsupported, "the server's answer has an unknown form")
}
