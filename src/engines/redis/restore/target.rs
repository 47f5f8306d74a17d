//! What a server into which keys go says of itself: before the first write, and after the last.
//!
//! A server may drop keys while it is loaded: it evicts them where `maxmemory` is too small. So what it evicted is asked
//! before and after, and its keys are counted.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use super::load::{Tally, hash};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::holdings::{Keys, Libraries};
use crate::engines::redis::session::server::Server;
use crate::engines::redis::wire::resp::Reply;

/// `proto-max-bulk-len` where the server does not tell, in bytes.
const DEFAULT_MAX_BULK_BYTES: u64 = 512 << 20;

/// `client-query-buffer-limit` where the server does not tell, in bytes, and what of it is left to all but the payload.
const DEFAULT_QUERY_BYTES: u64 = 1 << 30;
const COMMAND_BYTES: u64 = 16 << 20;

/// What one server of the target says.
#[derive(Debug)]
pub(crate) struct TargetFacts {
    pub(crate) keys: Keys,
    pub(crate) libraries: Libraries,
    pub(crate) memory: Memory,
    /// It is known to be no replica.
    pub(crate) is_primary: bool,
    pub(crate) max_bulk_bytes: u64,
    pub(crate) by_commands: bool,
    pub(crate) sets_together: bool,
}

/// Asks one server what it takes and holds. Each of the databases is tried now: later a refusal would stop the restore half-way.
pub(crate) async fn ask(address: &RedisAddress, databases: &[u32]) -> Result<TargetFacts> {
    let client = Client::open(address).await?;
    let server = Server::ask(&client).await?;
    if server.is_replica() {
        return Err(Error::new(ErrorKind::Denied, "the target is a replica")
            .with_hint("Restore into its primary; INFO replication names it as master_host."));
    }
    server.refuse_backup()?;
    let max_bulk = number(&client, "proto-max-bulk-len").await?;
    // A server closes a connection whose command is longer than this.
    let query = number(&client, "client-query-buffer-limit").await?;
    let most_bytes = query.unwrap_or(DEFAULT_QUERY_BYTES).saturating_sub(COMMAND_BYTES);
    let by_commands = match client.ask(&[b"RESTORE", b"wirevault", b"-1", b""]).await? {
        // A time to live below zero is refused whatever the rights; nothing is written.
        Reply::Error(text) => text.contains("permissions to run") || text.contains("unknown command"),
        _ => false,
    };
    // Refused for its count of arguments, after rights; a cluster's node refuses it for its keys. Nothing is written.
    let sets_together = match client.ask(&[b"MSETNX", b"wirevault", b"", b"wirevault:"]).await? {
        Reply::Error(text) => text.contains("wrong number of arguments"),
        _ => false,
    };
    for number in databases {
        let selected = client.select(*number).await;
        selected.with_context(|| format!("choose database {number} of the target"))?;
    }
    Ok(TargetFacts {
        keys: Keys::count_in(&client, &server, address.database).await?,
        libraries: Libraries::ask(&client, &server).await?,
        memory: Memory::ask(&client, &server).await?,
        is_primary: server.replica() == Some(false),
        max_bulk_bytes: max_bulk.unwrap_or(DEFAULT_MAX_BULK_BYTES).min(most_bytes),
        by_commands,
        sets_together: sets_together && !server.is_cluster(),
    })
}

/// Asks for a parameter of the configuration.
pub(crate) async fn parameter(client: &Client, name: &str) -> Result<Option<String>> {
    let reply = client.ask(&[b"CONFIG", b"GET", name.as_bytes()]).await?;
    Ok(reply.elements().get(1).and_then(Reply::text))
}

async fn number(client: &Client, name: &str) -> Result<Option<u64>> {
    Ok(parameter(client, name).await?.and_then(|text| text.parse().ok()))
}

/// How much a server may hold, and what it does then; as far as it tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// `maxmemory` in bytes; 0 for no limit.
    limit: Option<u64>,
    policy: Option<String>,
    used: Option<u64>,
}

impl Memory {
    async fn ask(client: &Client, server: &Server) -> Result<Self> {
        let limit = match server.number("maxmemory") {
            Some(limit) => Some(limit),
            None => number(client, "maxmemory").await?,
        };
        let policy = match server.get("maxmemory_policy") {
            Some(policy) => Some(policy.to_owned()),
            None => parameter(client, "maxmemory-policy").await?,
        };
        Ok(Self {
            limit,
            policy,
            used: server.number("used_memory"),
        })
    }

    /// Warns if so many bytes more find no room.
    pub(crate) fn warning(&self, bytes: u64, emptied: bool) -> Option<String> {
        let limit = self.limit.filter(|limit| *limit > 0)?;
        let used = if emptied { 0 } else { self.used.unwrap_or(0) };
        if used.saturating_add(bytes) <= limit {
            return None;
        }
        let then = match self.policy.as_deref() {
            Some("noeviction") => "it will refuse keys".to_owned(),
            Some(policy) => format!("it will evict keys because maxmemory-policy is {policy}"),
            None => "it will refuse or evict keys".to_owned(),
        };
        let size = crate::base::units::format_bytes;
        let beside = if used > 0 {
            format!(" in addition to {} in use", size(used))
        } else {
            String::new()
        };
        Some(format!(
            "maxmemory of the target is {}, the keys need about {}{beside}: {then}",
            size(limit),
            size(bytes)
        ))
    }
}

/// Hashes of the libraries that each server has as they are.
pub(crate) fn common_libraries(said: &[TargetFacts]) -> HashSet<u128> {
    let mut servers = said.iter().map(|said| {
        let libraries = said.libraries.all().iter();
        libraries.map(|(_, code)| hash(code)).collect::<HashSet<_>>()
    });
    let first = servers.next().unwrap_or_default();
    servers.fold(first, |common, other| common.intersection(&other).copied().collect())
}

/// Empties a server of what is in a snapshot. Where there were no keys none was taken, and those that came since stay; so do
/// libraries that could not be read.
pub(crate) async fn empty(
    address: &RedisAddress,
    keys: bool,
    libraries: Option<usize>,
    tally: &mut Tally,
) -> Result<()> {
    let client = Client::open(address).await?;
    if let Some(number) = address.database {
        // What else the server holds is not meant.
        if keys {
            client.select(number).await?;
            let act = || format!("empty database {number} of the target");
            client.call(&[b"FLUSHDB"]).await.with_context(act)?;
        }
        return Ok(());
    }
    if keys {
        client.call(&[b"FLUSHALL"]).await.context("empty the target")?;
    }
    let why = match libraries {
        Some(0) => return Ok(()),
        None => "they could not be read, so no snapshot holds them".to_owned(),
        Some(_) => match client.ask(&[b"FUNCTION", b"FLUSH"]).await? {
            Reply::Error(text) => text,
            _ => return Ok(()),
        },
    };
    tally.lose(
        "function libraries",
        "of the target",
        format!("they were not changed: {why}"),
        "Give the user +function|list +function|flush, or check FUNCTION LIST of the target.",
    );
    Ok(())
}

/// What to do about keys that the target did not keep.
const ADVICE: &str =
    "Raise maxmemory of the target, set maxmemory-policy to noeviction, and restore again with --conflict skip.";

/// Keys of the target and what it evicted, at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    keys: Option<u64>,
    /// Of each server.
    evicted: Vec<Option<u64>>,
    why: Option<String>,
}

impl Count {
    /// Counts over all servers.
    pub(crate) async fn take(nodes: &[RedisAddress]) -> Result<Self> {
        let each = nodes.iter().map(|address| async {
            let client = Client::open(address).await?;
            let server = Server::ask(&client).await?;
            let keys = Keys::count_in(&client, &server, address.database).await?;
            Ok::<_, Error>((keys, server.number("evicted_keys")))
        });
        let each = try_join_all(each).await.context("count the keys of the target")?;
        Ok(Self {
            keys: each.iter().map(|(keys, _)| keys.total()).sum(),
            evicted: each.iter().map(|(_, evicted)| *evicted).collect(),
            why: each.iter().find_map(|(keys, _)| keys.unknown().map(str::to_owned)),
        })
    }

    /// Names what is not there although it was restored, or that this cannot be told. `now_ms` is when `after` was taken.
    pub(crate) fn compare(&self, after: &Self, now_ms: i64, tally: &mut Tally) {
        // A count that was set back says nothing; nor does that of a node that joined meanwhile.
        let each = self.evicted.iter().zip(&after.evicted);
        let evicted: Option<u64> = each.map(|(before, after)| (*after)?.checked_sub((*before)?)).sum();
        let due = tally.due_by(now_ms);
        let missing = after
            .keys
            .map(|keys| tally.restored.saturating_sub(due).saturating_sub(keys));
        match (evicted, missing, after.keys) {
            (Some(evicted), _, _) if evicted > 0 => {
                let holds = after
                    .keys
                    .map_or(String::new(), |keys| format!(", it holds {keys} now"));
                tally.lose(
                    "keys",
                    "of the target",
                    format!("it evicted {evicted} while it was loaded{holds}"),
                    ADVICE,
                );
            }
            (_, Some(missing), Some(keys)) if missing > 0 => {
                let restored = tally.restored;
                let error = format!("{restored} were restored, but it holds {keys} now");
                tally.lose("keys", "of the target", error, ADVICE);
            }
            (None, None, _) if tally.restored > 0 => {
                let why = after.why.as_deref().unwrap_or("unknown");
                let error = format!("unable to determine whether it kept all of them: {why}");
                tally.lose(
                    "keys",
                    "of the target",
                    error,
                    "Give the user +info, or +select and +dbsize.",
                );
            }
            _ => {}
        }
    }
}
