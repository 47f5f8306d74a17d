//! Proof of a restore: a scratch server is loaded, and every key of the backup is compared with what the server says.
//!
//! One side is decoded from the stored RDB, the other is read by ordinary commands, so a mistake of the decoder shows as
//! well as one of the server. The scratch server must be proven to hold nothing before, and what was loaded is deleted
//! afterwards. Memory: one batch of small keys with their replies, or one range of a large one.

pub(crate) mod live;
pub(super) mod proof;
pub(crate) mod scratch;

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::archive::{ArchiveReader, ChunkStream};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::engines::redis::restore::load::FailedKey;
use crate::engines::redis::restore::{RedisPlan, RedisRestore, RedisRestoreOptions};
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::holdings::{Keys, Libraries, refuse_unknown_cluster};
use crate::engines::redis::session::server::Server;
use crate::engines::redis::stored;
use crate::engines::redis::stored::{Verified, stop_if};
use crate::engines::redis::wire::digest::{Content, Digest, Of};
use crate::engines::redis::wire::key_name::name;
use crate::engines::redis::wire::rdb::decode::{Decoder, Next, Nobody};
use crate::engines::redis::wire::rdb::walk;
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

/// Small keys that are asked for at once.
const BATCH: usize = 256;

/// Bytes of values that are asked for at once.
const BATCH_BYTES: u64 = 1 << 20;

/// A value above this many bytes or elements is read by ranges.
const SMALL_BYTES: u64 = 128 << 10;
const SMALL_COUNT: u64 = 2000;

/// What expires within this time of now is not compared, in milliseconds: it may go at any moment.
const MARGIN_MS: u64 = 60_000;

/// Differences that are named; the rest is counted.
const NAMED: usize = 100;

/// A scratch server and the backup that is proven in it.
#[derive(Debug)]
pub struct RedisScratch {
    /// The server; it must hold nothing.
    pub address: RedisAddress,
    /// The archives of the source.
    pub reader: ArchiveReader,
    /// Name towards the reporter.
    pub task: String,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Ends the work early.
    pub cancel: CancellationToken,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct RestoredReport {
    /// Keys whose type, expiry and content are equal.
    pub keys: u64,
    /// Bytes of their elements.
    pub bytes: u64,
    /// Function libraries that are equal.
    pub functions: u64,
    /// Keys that expired or are about to.
    pub expired: u64,
    /// Keys that cannot be compared, and why.
    pub not_compared: BTreeMap<String, u64>,
    /// Keys that the server refused; the first of them are named.
    pub failed: Vec<FailedKey>,
    /// How many of those there are.
    pub failed_keys: u64,
    /// What beside single keys did not come back, or could not be found out.
    pub losses: Vec<FailedKey>,
    /// Differences; the first of them are named.
    pub differing: Vec<String>,
    /// How many of those there are.
    pub differing_keys: u64,
    /// How long all of it took.
    pub seconds: f64,
}

impl RestoredReport {
    fn differs(&mut self, what: String) {
        self.differing_keys += 1;
        if self.differing.len() < NAMED {
            self.differing.push(what);
        }
    }
}

/// Decodes every key of the stored RDBs. Returns how many there are.
pub async fn decode_all(reader: &ArchiveReader, cancel: &CancellationToken) -> Result<u64> {
    let (mut keys, mut nobody) = (0, Nobody);
    for rdb in stored::server_rdbs(reader).await? {
        let mut decoder = Decoder::new(stored::open(reader, &rdb).await?, rdb.facts.understood());
        loop {
            let value = match decoder.next().await? {
                Next::End => break,
                Next::Function(_) => continue,
                Next::Key(value) => value,
            };
            stop_if(cancel)?;
            let taken = decoder.value(value, &mut nobody).await;
            let header = &decoder.header;
            taken.with_context(|| format!("decode key {}", name(header.database, &header.key)))?;
            keys += 1;
        }
    }
    Ok(keys)
}

/// Loads the scratch server, compares, and empties it again.
pub async fn verify_restored(mut scratch: RedisScratch) -> Result<RestoredReport> {
    let began = std::time::Instant::now();
    // The server is proven to hold nothing at all, so each key goes into the database of its number.
    scratch.address.database = None;
    let client = Client::open(&scratch.address).await?;
    let server = Server::ask(&client).await?;
    if !scratch.address.reading.only_node {
        refuse_unknown_cluster(&server, "the scratch server")?;
    }
    if server.is_cluster() {
        return Err(Error::unsupported("the scratch server is a node of a cluster")
            .with_hint("Use a single server: it receives the keys of all shards."));
    }
    prove_empty(&client, &server).await?;
    let restore = RedisRestore {
        address: scratch.address.clone(),
        reader: scratch.reader.clone(),
        options: RedisRestoreOptions::default(),
        task: scratch.task.clone(),
        reporter: scratch.reporter.clone(),
        cancel: scratch.cancel.clone(),
    };
    let unknown = stored::server_rdbs(&scratch.reader)
        .await?
        .into_iter()
        .filter(|rdb| !rdb.is_whole())
        .find_map(|rdb| rdb.facts.unknown);
    if let Some(unknown) = unknown {
        return Err(Error::unsupported(format!("the stored RDB holds {unknown}"))
            .with_hint("Restore it as a file (--into file:dump.rdb), for a server of its version."));
    }
    let plan = restore.plan().await?;
    let verified = restore.verify().await?;
    let result = load_and_compare(&scratch, &restore, (plan, verified)).await;
    // Also after an error: what was loaded is ours.
    let foreign = result
        .as_ref()
        .map_or_else(|_| Foreign::default(), |(_, foreign)| foreign.clone());
    let emptied = scratch::remove_loaded(&scratch, &foreign).await;
    let (mut report, _) = result?;
    emptied.context("empty the scratch server")?;
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Refuses a server that holds something, or that does not let us see that it holds nothing: it is emptied afterwards.
async fn prove_empty(client: &Client, server: &Server) -> Result<()> {
    let keys = Keys::count(client, server).await?;
    let libraries = Libraries::ask(client, server).await?;
    let (found, functions) = (keys.least(), libraries.all().len());
    if found > 0 || functions > 0 {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("the scratch server holds {found} keys and {functions} function libraries"),
        )
        .with_hint("Use an empty server: it is loaded, compared and emptied."));
    }
    let why = match (keys.unknown(), &libraries) {
        (Some(why), _) => format!("holds keys: {why}"),
        (None, Libraries::Unknown(why)) => format!("holds function libraries: {why}"),
        (None, Libraries::Known(_)) => return Ok(()),
    };
    Err(Error::new(
        ErrorKind::Denied,
        format!("unable to determine whether the scratch server {why}"),
    )
    .with_hint("It is emptied afterwards. Give the user +info, or +select and +dbsize, and +function|list."))
}

/// What is known of the keys in the scratch server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Foreign {
    /// Those that came by somebody else, and whether there are more of them than are known.
    pub(crate) keys: std::collections::HashSet<(usize, u64)>,
    pub(crate) too_many: bool,
    /// The same of keys that went as payloads: number of the RDB, number of the record.
    pub(crate) payloads: std::collections::HashSet<(usize, u64)>,
}

async fn load_and_compare(
    scratch: &RedisScratch,
    restore: &RedisRestore,
    (plan, verified): (RedisPlan, Vec<Verified>),
) -> Result<(RestoredReport, Foreign)> {
    let tally = restore.run(plan, verified).await?;
    scratch.reporter.phase(&scratch.task, "comparison");
    let foreign = Foreign {
        keys: tally.foreign,
        too_many: tally.too_many_taken,
        payloads: tally.foreign_payloads,
    };
    let mut comparison = Comparison {
        scratch,
        connection: Connection::open(&scratch.address).await?,
        report: RestoredReport {
            failed: tally.failed,
            failed_keys: tally.failed_keys,
            losses: tally.losses,
            ..RestoredReport::default()
        },
        batch: Vec::new(),
        batch_bytes: 0,
        database: 0,
        libraries: Vec::new(),
        live: Digest::new(0),
        expire_times: true,
    };
    let probe = comparison.connection.ask(&[b"PEXPIRETIME", b"wirevault"]).await?;
    comparison.expire_times = !matches!(probe, Reply::Error(_));
    for rdb in stored::server_rdbs(&scratch.reader).await? {
        if rdb.facts.payloads > 0 {
            let why = "a value that is stored as DUMP gave it".to_owned();
            *comparison.report.not_compared.entry(why).or_default() += rdb.facts.payloads;
        }
        comparison
            .run(Decoder::new(
                stored::open(&scratch.reader, &rdb).await?,
                rdb.facts.understood(),
            ))
            .await?;
    }
    comparison.functions().await?;
    comparison.surplus().await?;
    Ok((comparison.report, foreign))
}

/// A key of the backup that is still to be compared.
#[derive(Debug)]
struct Expected {
    key: Vec<u8>,
    kind: &'static str,
    expires_ms: Option<i64>,
    content: Content,
    bytes: u64,
    /// Fields that expire before this are left out on both sides.
    until_ms: u64,
    /// It must be read by several commands.
    alone: bool,
}

struct Comparison<'a> {
    scratch: &'a RedisScratch,
    connection: Connection,
    report: RestoredReport,
    batch: Vec<Expected>,
    batch_bytes: u64,
    database: u32,
    libraries: Vec<Vec<u8>>,
    live: Digest,
    /// The server knows PEXPIRETIME.
    expire_times: bool,
}

fn now_ms() -> u64 {
    exact::saturating_u64(jiff::Timestamp::now().as_millisecond())
}

impl Comparison<'_> {
    async fn run(&mut self, mut decoder: Decoder<ChunkStream>) -> Result<()> {
        let refused: std::collections::HashSet<String> = self.report.failed.iter().map(|f| f.name.clone()).collect();
        let mut digest = Digest::new(0);
        loop {
            let value = match decoder.next().await? {
                Next::End => break,
                Next::Function(code) => {
                    self.libraries.push(code);
                    continue;
                }
                Next::Key(value) => value,
            };
            stop_if(&self.scratch.cancel)?;
            digest.until_ms = now_ms().saturating_add(MARGIN_MS);
            let mut of = Of {
                digest: &mut digest,
                set: value.name == "set",
            };
            let taken = decoder.value(value, &mut of).await;
            let header = &decoder.header;
            let shown = || name(header.database, &header.key);
            taken.with_context(|| format!("decode key {}", shown()))?;
            let (bytes, opaque, field_expires) = (digest.bytes, digest.opaque, digest.field_expires_ms);
            let content = digest.finish();
            if header.database != self.database {
                self.flush().await?;
                self.database = header.database;
                let selected = self.connection.select(header.database).await;
                selected.with_context(|| format!("choose database {}", header.database))?;
            }
            let soon = exact::saturating_i64(now_ms().saturating_add(MARGIN_MS));
            if header.expires_ms.is_some_and(|at| at <= soon) {
                self.report.expired += 1;
                continue;
            }
            let unlike = if header.too_long {
                Some("the name is longer than 32 MiB")
            } else {
                opaque
            };
            if let Some(why) = unlike {
                *self.report.not_compared.entry(why.to_owned()).or_default() += 1;
                continue;
            }
            if refused.contains(&shown()) {
                continue;
            }
            self.batch_bytes += bytes.saturating_add(exact::u64_from(header.key.len()));
            self.batch.push(Expected {
                key: header.key.clone(),
                kind: value.name,
                expires_ms: header.expires_ms,
                content,
                bytes,
                until_ms: digest.until_ms,
                alone: bytes > SMALL_BYTES
                    || (content.count > SMALL_COUNT && value.name != "string")
                    || value.name == "stream"
                    || field_expires.is_some()
                    || matches!(header.type_number, 22 | 24 | 25),
            });
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// Asks for all keys of the batch and compares them.
    async fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let long = batch.iter().filter(|one| one.key.len() > walk::MAX_COLLECTED_BYTES);
        let long: Vec<Vec<u8>> = long.map(|one| one.key.clone()).collect();
        let ask_expiry: &[u8] = if self.expire_times { b"PEXPIRETIME" } else { b"PTTL" };
        let mut out = Vec::new();
        for expected in &batch {
            resp::encode(&[b"TYPE", &expected.key], &mut out);
            resp::encode(&[ask_expiry, &expected.key], &mut out);
            if !expected.alone
                && let Some(command) = live::whole(expected.kind, &expected.key)
            {
                resp::encode(&command, &mut out);
            }
        }
        self.connection.send_encoded(&out).await?;
        let mut alone = Vec::new();
        for expected in batch {
            let kind = self.connection.reply().await?.text().unwrap_or_default();
            let expiry = self.connection.reply().await?;
            let same_kind = kind == expected.kind;
            let wrong = if same_kind {
                self.expiry(&expected, &expiry)
            } else {
                Some(format!("it is \"{kind}\" instead of \"{}\"", expected.kind))
            };
            let mut content = None;
            if !expected.alone {
                let reply = self.connection.reply().await?;
                if same_kind {
                    live::take(expected.kind, &reply.checked()?, &mut self.live)?;
                    content = Some(self.live.finish());
                }
            }
            match (wrong, content) {
                (Some(wrong), _) => self.differs(&expected.key, &wrong),
                (None, Some(content)) => self.compare(&expected, &content),
                (None, None) => alone.push(expected),
            }
        }
        for expected in alone {
            let each = expected.bytes / expected.content.count.max(1) + 1;
            let range = ((4 << 20) / each).clamp(1, live::RANGE);
            self.live.until_ms = expected.until_ms;
            let connection = &mut self.connection;
            let content = live::read(connection, expected.kind, &expected.key, range, &mut self.live).await;
            let content = content.with_context(|| format!("read key {}", name(self.database, &expected.key)))?;
            self.compare(&expected, &content);
        }
        self.delete_long(&long).await
    }

    fn expiry(&self, expected: &Expected, reply: &Reply) -> Option<String> {
        let found = match reply {
            Reply::Integer(number) => Some(*number).filter(|number| *number >= 0),
            _ => return Some("its expiry could not be read".to_owned()),
        };
        let equal = match (expected.expires_ms, found) {
            (None, None) => true,
            (Some(expected), Some(found)) if self.expire_times => expected == found,
            (Some(expected), Some(left)) => {
                let found = exact::saturating_i64(now_ms()).saturating_add(left);
                expected.abs_diff(found) < 10_000
            }
            _ => false,
        };
        (!equal).then(|| format!("it expires at {found:?} instead of {:?}", expected.expires_ms))
    }

    /// Deletes long keys that were compared, for whoever empties the server afterwards knows keys by a walk, which does not
    /// hold them.
    async fn delete_long(&mut self, keys: &[Vec<u8>]) -> Result<()> {
        for key in keys {
            self.connection.call(&[b"DEL", key]).await?;
        }
        Ok(())
    }

    fn compare(&mut self, expected: &Expected, found: &Content) {
        if expected.content.agrees(found) {
            self.report.keys += 1;
            self.report.bytes = self.report.bytes.saturating_add(expected.bytes);
            self.scratch.reporter.advance(&self.scratch.task, 0, 1);
        } else {
            let what = format!("{} of {} parts, other content", found.count, expected.content.count);
            self.differs(&expected.key, &what);
        }
    }

    fn differs(&mut self, key: &[u8], what: &str) {
        let line = format!("key {}: {what}", name(self.database, key));
        self.report.differs(line);
    }

    async fn functions(&mut self) -> Result<()> {
        let mut expected = std::mem::take(&mut self.libraries);
        if expected.is_empty() {
            return Ok(());
        }
        let client = Client::open(&self.scratch.address).await?;
        let found = Libraries::ask(&client, &Server::ask(&client).await?).await?;
        if let Libraries::Unknown(why) = &found {
            let line = format!("function libraries can no longer be listed: {why}");
            self.report.differs(line);
            return Ok(());
        }
        let mut found: Vec<_> = found.all().iter().map(|(_, code)| code.clone()).collect();
        // Every shard of a cluster has the same ones.
        expected.sort();
        expected.dedup();
        found.sort();
        for code in expected {
            if found.binary_search(&code).is_ok() {
                self.report.functions += 1;
            } else if self.report.failed.iter().all(|failed| failed.kind != "function") {
                let first =
                    String::from_utf8_lossy(code.split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
                self.report
                    .differs(format!("function library \"{first}\" is not there"));
            }
        }
        Ok(())
    }

    /// Nothing may be there that the backup does not hold.
    async fn surplus(&mut self) -> Result<()> {
        let client = Client::open(&self.scratch.address).await?;
        let keys = Keys::count(&client, &Server::ask(&client).await?).await?;
        if let Some(why) = keys.unknown() {
            let line = format!("keys of the server can no longer be counted: {why}");
            self.report.differs(line);
        }
        let found = keys.least();
        let report = &self.report;
        let most = report.keys + report.expired + report.differing_keys + report.not_compared.values().sum::<u64>();
        if found > most {
            let line = format!("the server holds {} keys that the backup does not", found - most);
            self.report.differs(line);
        }
        Ok(())
    }
}
