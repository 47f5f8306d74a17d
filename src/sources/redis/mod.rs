//! Redis and Valkey: the RDB of a full synchronisation, as it comes over the wire, and keys put back by RESTORE.
//!
//! A backup poses as a replica (`REPLCONF rdb-only 1`, `PSYNC`), stores the RDB byte for byte as the chunks of
//! `dump.rdb`, and walks it in passing: its CRC64 is checked, keys are counted by database and type. `docs/redis.md`
//! tells what is stored beside it and how it goes back.

mod address;
mod compare;
mod connection;
mod digest;
mod ends;
mod glob;
mod incoming;
mod live;
mod load;
mod nodes;
mod pipeline;
mod psync;
pub mod rdb;
mod receive;
mod replay;
mod resp;
pub mod restore;
mod scan;
mod seen;
mod server;
mod settings;
pub mod stored;
mod transcode;
mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

pub use address::{Method, Place, Reading, RedisAddress};
pub use compare::{RedisScratch, RestoredReport, decode_all, verify_restored};
pub use load::{Conflict, FailedKey, Tally};
pub use restore::{RedisPlan, RedisRestore, RedisRestoreOptions};

use crate::archive::StreamRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::Note;
use crate::sources::{BackupContext, Finding, FindingLevel, Notes, Source, SourceOutcome};
use connection::Connection;
use receive::Bounds;
use server::Server;

/// Name of the stream that holds the RDB.
pub const STREAM: &str = "dump.rdb";

/// Options of a Redis source.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The server.
    pub address: RedisAddress,
    /// How long the server may wait for a store that has stalled; it drops a silent replica after 60 s.
    pub max_hold: Duration,
    /// Bytes that may go through a spool file after that; 0 fails instead.
    pub spool_limit: u64,
}

impl RedisOptions {
    /// Makes the usual options for a server.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            max_hold: address.reading.max_hold.unwrap_or(Duration::from_secs(20)),
            spool_limit: address.reading.spool_limit.unwrap_or(4 << 30),
            address,
        }
    }
}

/// What the archive says of the RDB; in the facts of the stream record [`STREAM`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RdbFacts {
    /// `redis` or `valkey`.
    pub product: String,
    /// Version of the server.
    pub server_version: String,
    /// RDB version of the file.
    pub rdb_version: u16,
    /// Whether the file's magic is Valkey's.
    pub valkey_magic: bool,
    /// Replication ID.
    pub replid: String,
    /// Replication offset.
    pub offset: u64,
    /// What it holds; up to what was not understood, if something was not.
    pub census: rdb::Census,
    /// `psync`, or `scan`: then there is no single moment that it stands for.
    #[serde(default = "psync_method")]
    pub method: String,
    /// What was not understood. Such an RDB goes back as a file only.
    #[serde(default)]
    pub unknown: Option<String>,
}

fn psync_method() -> String {
    "psync".to_owned()
}

/// A Redis or Valkey server.
#[derive(Debug)]
pub struct RedisSource {
    options: RedisOptions,
}

impl RedisSource {
    /// Nothing is connected yet.
    pub fn new(options: RedisOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Source for RedisSource {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn location(&self) -> String {
        self.options.address.location()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let address = nodes::for_backup(&self.options.address).await?;
        let mut connection = Connection::open(&address).await?;
        let server = Server::ask(&mut connection).await?;
        let mut findings = server.findings();
        if let Err(error) = server.refuse_backup() {
            findings.push(Finding {
                level: FindingLevel::Error,
                message: error.chain(),
                hint: error.hint().map(str::to_owned),
            });
        }
        if self.options.address.reading.method == Method::Scan {
            return Ok(findings);
        }
        match connection.ask(&[b"REPLCONF", b"rdb-only", b"1"]).await?.checked() {
            Err(error)
                if self.options.address.reading.method == Method::Auto
                    && matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported)
                    && connection
                        .ask(&[b"SCAN", b"0", b"COUNT", b"1"])
                        .await?
                        .checked()
                        .is_ok() =>
            {
                findings.push(Finding {
                    level: FindingLevel::Warning,
                    message: format!(
                        "no full synchronisation: {}; keys are read by SCAN and DUMP",
                        error.chain()
                    ),
                    hint: Some(
                        "Each key is then stored as it is when it is read; +psync +replconf give one moment."
                            .to_owned(),
                    ),
                });
            }
            Err(error) if error.kind() == ErrorKind::Other => findings.push(Finding {
                level: FindingLevel::Warning,
                message: "the server is older than 7.0 and keeps commands for a backup while it is read".to_owned(),
                hint: Some("Raise client-output-buffer-limit for replicas if a backup is cut short.".to_owned()),
            }),
            Err(error) => findings.push(Finding {
                level: FindingLevel::Error,
                message: error.context("ask for an RDB alone (REPLCONF)").chain(),
                hint: Some("Give the user +psync +replconf +ping +info.".to_owned()),
            }),
            Ok(_) => {}
        }
        Ok(findings)
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        self.read(context)
            .await
            .with_context(|| format!("back up \"{}\"", self.options.address.location()))
    }
}

impl RedisSource {
    async fn read(&self, context: BackupContext) -> Result<SourceOutcome> {
        let notes = Notes::new(context.name.clone(), context.reporter.clone());
        let address = nodes::for_backup(&self.options.address).await?;
        let mut connection = Connection::open(&address).await?;
        let server = Server::ask(&mut connection).await?;
        server.refuse_backup()?;
        for finding in server.findings() {
            if finding.level == FindingLevel::Warning {
                let hint = finding.hint.unwrap_or_default();
                notes.add(Note::new(
                    "server",
                    self.location(),
                    format!("{} ({hint})", finding.message),
                ));
            }
        }
        settings::store(&mut connection, &context.writer, &notes).await?;
        let method = self.options.address.reading.method;
        let mut refusal = None;
        let data = if method == Method::Scan {
            None
        } else {
            context.reporter.phase(&context.name, "synchronisation");
            match psync::start(&mut connection, &server).await {
                Ok(sync) => Some(self.synchronised(connection, &server, sync, &context, &notes).await?),
                Err(error) if method == Method::Auto && psync::is_refusal(&error) => {
                    refusal = Some(error);
                    None
                }
                Err(error) => return Err(error),
            }
        };
        let data = match data {
            Some(data) => data,
            None => self.scanned(&address, &server, refusal, &context, &notes).await?,
        };
        if let Some(unknown) = &data.facts.unknown {
            let message = format!("{unknown}: stored as it is, but it goes back as a file only");
            notes.add(Note::new("rdb-not-understood", STREAM, message));
        }
        let facts = data.facts;
        context
            .writer
            .finish_stream(StreamRecord {
                stream: STREAM.to_owned(),
                prefixes: vec![STREAM.to_owned()],
                chunks: data.chunks.into(),
                bytes: data.bytes,
                rows: None,
                row_digest: None,
                facts: serde_json::to_value(&facts)
                    .map_err(|e| Error::new(ErrorKind::Other, "write the facts of the RDB").with_cause(e))?,
            })
            .await?;
        let mut position = position(&facts, data.has_crc);
        position.extend(data.position);
        if address != self.options.address {
            position.insert("node".to_owned(), address.location());
        }
        Ok(SourceOutcome {
            versions: BTreeMap::from([
                (facts.product.clone(), facts.server_version.clone()),
                ("rdb".to_owned(), facts.rdb_version.to_string()),
            ]),
            position,
            consistent_at: data.at,
            raw_bytes: data.bytes,
            items: facts.census.keys(),
            note_counts: notes.counts(),
            archives: context.writer.finish().await?,
        })
    }

    /// Takes the RDB of a full synchronisation.
    async fn synchronised(
        &self,
        connection: Connection,
        server: &Server,
        sync: psync::FullSync,
        context: &BackupContext,
        notes: &Notes,
    ) -> Result<Data> {
        if !sync.rdb_only {
            let message = "the server keeps commands for us while the RDB is read, and may cut it short";
            notes.add(Note::new("server", self.location(), message));
        }
        let hold = Bounds {
            max_hold: self.options.max_hold,
            spool_limit: self.options.spool_limit,
            spool_dir: context.spool_dir.clone(),
        };
        context.reporter.phase(&context.name, "data");
        let task = (context.name.as_str(), &context.reporter);
        let (writer, cancel) = (&context.writer, &context.cancel);
        let received = receive::receive(connection, sync.framing, writer, STREAM, &hold, task, cancel).await?;
        if received.spooled > 0 {
            tracing::info!("{} bytes went through the spool file", received.spooled);
        }
        Ok(Data {
            bytes: received.bytes,
            chunks: received.chunks,
            at: sync.at,
            has_crc: received.has_crc,
            position: BTreeMap::new(),
            facts: RdbFacts {
                product: server.product().to_owned(),
                server_version: server.version().to_owned(),
                rdb_version: received.version,
                valkey_magic: received.valkey,
                replid: sync.replid,
                offset: sync.offset,
                census: received.census,
                method: psync_method(),
                unknown: received.unknown,
            },
        })
    }

    /// Reads key by key; `refusal` says why there is no full synchronisation.
    async fn scanned(
        &self,
        address: &RedisAddress,
        server: &Server,
        refusal: Option<Error>,
        context: &BackupContext,
        notes: &Notes,
    ) -> Result<Data> {
        let mut connection = Connection::open(address).await?;
        context.reporter.phase(&context.name, "keys");
        let how = scan::How {
            writer: &context.writer,
            prefix: STREAM,
            keys_per_second: self.options.address.reading.keys_per_second,
            spool_dir: &context.spool_dir,
            task: &context.name,
            reporter: &context.reporter,
            cancel: &context.cancel,
        };
        let scanned = match (scan::scan(&mut connection, server, how).await, refusal) {
            (Err(error), Some(refusal)) if psync::is_refusal(&error) => {
                let also = format!("keys cannot be read one by one either: {}", error.chain());
                return Err(refusal.context(also));
            }
            (result, refusal) => {
                if let Some(refusal) = refusal {
                    let message = format!(
                        "{}; keys were read by SCAN and DUMP, each at its own moment",
                        refusal.chain()
                    );
                    notes.add(Note::new("no-psync", self.location(), message));
                }
                result?
            }
        };
        if let Some(text) = &scanned.no_functions {
            let message = format!("not stored, the server says: {text}");
            notes.add(Note::new("not-shown", "functions", message));
        }
        Ok(Data {
            bytes: scanned.bytes,
            chunks: scanned.chunks,
            at: scanned.to,
            has_crc: true,
            position: BTreeMap::from([
                ("read_from".to_owned(), scanned.from.to_string()),
                ("read_to".to_owned(), scanned.to.to_string()),
                ("keys_gone_meanwhile".to_owned(), scanned.vanished.to_string()),
                ("consistency".to_owned(), SCAN_CONSISTENCY.to_owned()),
            ]),
            facts: RdbFacts {
                product: server.product().to_owned(),
                server_version: server.version().to_owned(),
                rdb_version: scanned.version,
                valkey_magic: scanned.valkey,
                replid: server.get("master_replid").unwrap_or_default().to_owned(),
                offset: server
                    .get("master_repl_offset")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
                census: scanned.census,
                method: "scan".to_owned(),
                unknown: scanned.unknown,
            },
        })
    }
}

/// What an RDB that was read by SCAN and DUMP stands for.
const SCAN_CONSISTENCY: &str = "each key as it was when it was read, between read_from and read_to; what was written, \
                                renamed or deleted meanwhile may be there in either state or be missing";

/// What was read, by either method.
struct Data {
    bytes: u64,
    chunks: u32,
    at: jiff::Timestamp,
    has_crc: bool,
    position: BTreeMap<String, String>,
    facts: RdbFacts,
}

/// What the manifest says: counts and positions, no name of a key.
fn position(facts: &RdbFacts, has_crc: bool) -> BTreeMap<String, String> {
    let mut position = BTreeMap::from([
        ("replication_id".to_owned(), facts.replid.clone()),
        ("replication_offset".to_owned(), facts.offset.to_string()),
        ("method".to_owned(), facts.method.clone()),
        ("keys".to_owned(), facts.census.keys().to_string()),
        ("keys_expiring".to_owned(), facts.census.expiring().to_string()),
        ("functions".to_owned(), facts.census.functions.to_string()),
        (
            "crc64".to_owned(),
            if has_crc { "checked" } else { "kept by no one" }.to_owned(),
        ),
        (
            "index".to_owned(),
            if facts.unknown.is_some() { "none" } else { "complete" }.to_owned(),
        ),
    ]);
    for (name, keys) in facts.census.by_type() {
        position.insert(format!("keys_{name}"), keys.to_string());
    }
    let databases = facts.census.databases.iter().map(|(number, database)| {
        let keys: u64 = database.types.values().map(|counts| counts.keys).sum();
        format!("{number}:{keys}")
    });
    position.insert(
        "keys_by_database".to_owned(),
        databases.take(64).collect::<Vec<_>>().join(" "),
    );
    position
}
