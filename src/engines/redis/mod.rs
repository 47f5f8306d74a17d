//! Redis and Valkey: the RDB of a full synchronisation, as it comes over the wire, and keys put back by RESTORE.
//!
//! A backup poses as a replica (`REPLCONF rdb-only 1`, `PSYNC`), stores the RDB byte for byte as the chunks of
//! `dump.rdb`, and walks it in passing: its CRC64 is checked, keys are counted by database and type. `docs/redis.md`
//! tells what is stored beside it and how it goes back.

pub(crate) mod backup;
mod engine;
pub mod flags;
pub mod keys;
pub(crate) mod log;
pub mod restore;
pub(crate) mod restorer;
mod secrets;
pub(crate) mod session;
pub mod source_url;
mod spec;
pub(crate) mod spool;
pub mod stored;
pub(crate) mod verify;
pub mod wire;

pub use engine::RedisEngine;
pub use restorer::{KeysRestored, RdbWritten};
pub use spec::RedisSpec;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

pub use restore::load::{Conflict, FailedKey, Tally};
pub use restore::{RedisPlan, RedisRestore, RedisRestoreOptions};
pub use session::address::{Endpoint, Identity, Method, ReadOptions, RedisAddress};
pub use verify::{RedisScratch, RestoredReport, decode_all, verify_restored};

use crate::base::error::{Context, Result};
use crate::engines::{BackupContext, EngineKind, Finding, Source, SourceOutcome};

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("redis", "Redis");

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

/// What the archive says of an RDB; in the facts of its stream record: [`STREAM`], or below `shard-0000` and so on for
/// each shard of a cluster.
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
    pub census: wire::rdb::Census,
    /// `psync`, or `scan`: then there is no single moment that it stands for.
    #[serde(default = "psync_method")]
    pub method: String,
    /// What was not understood. Such an RDB goes back as a file only.
    #[serde(default)]
    pub unknown: Option<String>,
    /// The database whose keys alone it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<u32>,
    /// Keys that are stored as payloads beside it; see [`payloads`].
    #[serde(default, skip_serializing_if = "is_none")]
    pub payloads: u64,
    /// What is known of those. Nothing if there are none, and in backups of versions that did not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_facts: Option<PayloadFacts>,
    /// Of a cluster, the shard whose keys it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardFacts>,
}

impl RdbFacts {
    /// Returns how many keys are understood, if not all of them are.
    pub fn understood(&self) -> Option<u64> {
        self.unknown.as_ref().map(|_| self.census.keys())
    }
}

/// What the archive says of the keys that are stored as payloads beside an RDB.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct PayloadFacts {
    /// How many there are, by database.
    pub databases: BTreeMap<u32, u64>,
    /// Those that are not in the RDB too: whoever reads the file does not get them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub beside: u64,
    /// The first of these: database and name, bytes that are no printable ASCII escaped; a name is cut after 200 bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside_named: Vec<String>,
}

/// What the archive says of a shard of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ShardFacts {
    /// ID of its primary.
    pub id: String,
    /// Slots it serves: `0-5460,9000`.
    pub slots: String,
    /// The node that was read.
    pub node: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_none(number: &u64) -> bool {
    *number == 0
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
    fn location(&self) -> String {
        self.options.address.location()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        backup::check(&self.options).await
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        backup::read(&self.options, context)
            .await
            .with_context(|| format!("back up \"{}\"", self.options.address.location()))
    }
}
