//! Puts keys back into a live server.
//!
//! All stored bytes of the RDB are compared with their digests before the first write; the backup walked these very bytes
//! to their end. Then keys are sent as RESTORE commands in a pipeline, short strings many at a time where the target
//! holds nothing. A key is in one command, so it comes back as a whole or not at all; one that the target refuses is
//! named, and the rest goes on. A server that holds keys is refused unless it is said what becomes
//! of them. Memory: one slice, one small value, one buffer of commands, the window of replies.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::RdbFacts;
use super::address::RedisAddress;
use super::connection::Connection;
use super::load::{Conflict, How, Loader, Sent, Tally};
use super::pipeline::Pipeline;
use super::rdb::walk::State;
use super::rdb::{Flavour, Walker};
use super::replay;
use super::resp::Reply;
use super::server::Server;
use super::stored::{self, SLICE_BYTES, Verified};
use super::transcode::Target;
use crate::archive::ArchiveReader;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::report::SharedReporter;

/// `proto-max-bulk-len` where the server does not tell, in bytes.
const DEFAULT_MAX_BULK_BYTES: u64 = 512 << 20;

/// `client-query-buffer-limit` where the server does not tell, in bytes, and what of it is left to all but the payload.
const DEFAULT_QUERY_BYTES: u64 = 1 << 30;
const COMMAND_BYTES: u64 = 16 << 20;

/// Options of a restore.
#[derive(Debug, Clone, Default)]
pub struct RedisRestoreOptions {
    /// Empties the target first.
    pub clean: bool,
    /// What becomes of keys that the target has.
    pub conflict: Option<Conflict>,
    /// Only keys that match one of these patterns.
    pub keys: Vec<String>,
}

/// A restore into a live server.
#[derive(Debug)]
pub struct RedisRestore {
    /// Where it goes.
    pub address: RedisAddress,
    /// The archives of the source.
    pub reader: ArchiveReader,
    /// How.
    pub options: RedisRestoreOptions,
    /// Name towards the reporter.
    pub task: String,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Ends the work early.
    pub cancel: CancellationToken,
}

/// What was found out before the first write.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RedisPlan {
    /// Product and version of the backup.
    pub from: String,
    /// Product and version of the target.
    pub to: String,
    /// Keys of the backup, by database.
    pub databases: BTreeMap<u32, u64>,
    /// Keys the target holds now.
    pub target_keys: u64,
    #[serde(skip)]
    target: Target,
    #[serde(skip)]
    max_bulk_bytes: u64,
    /// The target takes no RESTORE, so keys are written by ordinary commands.
    pub by_commands: bool,
    /// The target takes MSETNX.
    #[serde(skip)]
    sets_together: bool,
    #[serde(skip)]
    facts: RdbFacts,
}

impl RedisRestore {
    /// Looks at backup and target; refuses what cannot work or was not allowed.
    pub async fn plan(&self) -> Result<RedisPlan> {
        if self.options.clean && !self.options.keys.is_empty() {
            return Err(
                Error::invalid("--clean empties the whole server, but --key brings only some keys back")
                    .with_hint("Use --conflict replace with --key: other keys stay as they are."),
            );
        }
        let facts = stored::facts(&self.reader).await?;
        if let Some(unknown) = &facts.unknown {
            return Err(Error::unsupported(format!("the stored RDB holds {unknown}"))
                .with_hint("It goes back as a file: --into file:dump.rdb, on a server of its own version."));
        }
        let mut connection = Connection::open(&self.address).await?;
        let server = Server::ask(&mut connection).await?;
        self.refuse(&server)?;
        let config = |reply: &Reply| {
            reply
                .elements()
                .get(1)
                .and_then(Reply::text)
                .and_then(|text| text.parse().ok())
        };
        let max_bulk = connection.ask(&[b"CONFIG", b"GET", b"proto-max-bulk-len"]).await?;
        // A server closes a connection whose command is longer than this.
        let query = connection
            .ask(&[b"CONFIG", b"GET", b"client-query-buffer-limit"])
            .await?;
        let most_bytes = config(&query)
            .unwrap_or(DEFAULT_QUERY_BYTES)
            .saturating_sub(COMMAND_BYTES);
        let by_commands = match connection.ask(&[b"RESTORE", b"wirevault", b"-1", b""]).await? {
            // A time to live below zero is refused whatever the rights; nothing is written.
            Reply::Error(text) => text.contains("permissions to run") || text.contains("unknown command"),
            _ => false,
        };
        // Refused for its count of arguments, after rights; a cluster's node refuses it for its keys. Nothing is written.
        let sets_together = match connection.ask(&[b"MSETNX", b"wirevault", b"", b"wirevault:"]).await? {
            Reply::Error(text) => text.contains("wrong number of arguments"),
            _ => false,
        };
        let databases: BTreeMap<u32, u64> = facts
            .census
            .databases
            .iter()
            .map(|(number, database)| (*number, database.types.values().map(|counts| counts.keys).sum()))
            .collect();
        // Each is tried now: later a refusal would stop the restore half-way.
        for number in databases.keys() {
            let number = number.to_string();
            connection
                .call(&[b"SELECT", number.as_bytes()])
                .await
                .with_context(|| format!("choose database {number} of the target"))
                .map_err(|e| e.with_hint("Raise `databases` in its configuration; a cluster has database 0 only."))?;
        }
        Ok(RedisPlan {
            from: format!("{} {}", facts.product, facts.server_version),
            to: format!("{} {}", server.product(), server.version()),
            databases,
            target_keys: server.keys(),
            target: Target::of(server.product(), server.version()),
            max_bulk_bytes: config(&max_bulk).unwrap_or(DEFAULT_MAX_BULK_BYTES).min(most_bytes),
            by_commands,
            sets_together,
            facts,
        })
    }

    fn refuse(&self, server: &Server) -> Result<()> {
        if server.is_replica() {
            return Err(Error::new(ErrorKind::Denied, "the target is a replica")
                .with_hint("Restore into its primary; INFO replication names it as master_host."));
        }
        server.refuse_backup()?;
        if server.is_cluster() {
            return Err(Error::unsupported("the target is a node of a cluster")
                .with_hint("This version restores into single servers, or into a file: --into file:dump.rdb."));
        }
        let keys = server.keys();
        if keys > 0 && !self.options.clean && self.options.conflict.is_none() {
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("the target holds {keys} keys")).with_hint(
                    "Add --clean to replace all of them (a snapshot of them is taken first), or --conflict \
                     replace, skip or fail to add the keys of the backup to them.",
                ),
            );
        }
        Ok(())
    }

    /// Proves all of the stored RDB.
    pub async fn verify(&self) -> Result<Verified> {
        self.reporter.phase(&self.task, "verification");
        stored::prove(&self.reader, &self.cancel).await
    }

    /// Empties the target if that was asked for, then sends the keys.
    pub async fn run(&self, plan: RedisPlan, verified: Verified) -> Result<Tally> {
        let mut connection = Connection::open(&self.address).await?;
        if self.options.clean {
            connection.call(&[b"FLUSHALL"]).await.context("empty the target")?;
            // Servers before 7.0 have no functions.
            connection.ask(&[b"FUNCTION", b"FLUSH"]).await?;
        }
        self.reporter.phase(&self.task, "data");
        let conflict = if self.options.clean {
            None
        } else {
            self.options.conflict
        };
        let how = How {
            patterns: self.options.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            conflict,
            target: plan.target,
            by_commands: plan.by_commands,
            // Keys that the target may hold are each decided by themselves.
            grouped: plan.sets_together && conflict.is_none(),
            max_bulk_bytes: plan.max_bulk_bytes,
            source: if plan.facts.valkey_magic {
                Flavour::Valkey
            } else {
                Flavour::Redis
            },
            functions: self.options.keys.is_empty(),
            now_ms: jiff::Timestamp::now().as_millisecond(),
        };
        let mut loader = Loader::new(how, verified.large);
        let mut pipeline = Pipeline::start(connection, conflict)?;
        let mut walker = Walker::new();
        let mut chunks = stored::open(&self.reader).await?;
        while let Some((_, data)) = chunks.next().await? {
            for slice in data.chunks(SLICE_BYTES) {
                stored::stop_if(&self.cancel)?;
                walker.feed(slice, &mut loader)?;
                let keys = u64::try_from(loader.sent.iter().map(Sent::keys).sum::<usize>()).unwrap_or(0);
                pipeline.send(&mut loader.out, &mut loader.sent).await?;
                self.reporter
                    .advance(&self.task, u64::try_from(slice.len()).unwrap_or(0), keys);
            }
        }
        if walker.state() != State::Done {
            return Err(Error::corrupt("the stored RDB ends before its last key"));
        }
        loader.close_group();
        pipeline.send(&mut loader.out, &mut loader.sent).await?;
        let mut tally = pipeline.finish().await?;
        tally.merge(std::mem::take(&mut loader.tally));
        if plan.by_commands || !tally.again.is_empty() {
            Box::pin(self.replay(&plan, conflict, &mut tally)).await?;
        }
        Ok(tally)
    }

    /// Writes the keys whose payloads the target refuses by ordinary commands.
    async fn replay(&self, plan: &RedisPlan, conflict: Option<Conflict>, tally: &mut Tally) -> Result<()> {
        let how = replay::How {
            reader: &self.reader,
            ordinals: (!plan.by_commands).then(|| std::mem::take(&mut tally.again).into_iter().collect()),
            patterns: self.options.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            // What the target got since it was found empty is not overwritten.
            conflict: conflict.or((!plan.by_commands).then_some(Conflict::Fail)),
            target: plan.target,
            now_ms: jiff::Timestamp::now().as_millisecond(),
            cancel: &self.cancel,
        };
        self.reporter.phase(&self.task, "keys that go by commands");
        let mut connection = Connection::open(&self.address).await?;
        let replayed = replay::replay(&mut connection, how, tally).await;
        replayed.context("write keys by ordinary commands")
    }
}
