//! Finds the server behind an address: the primary or a replica that a Sentinel names, or a replica of the server itself.
//!
//! A backup takes a replica that is in sync where there is one; everything else goes to the primary.

use std::time::{Duration, Instant};

use super::address::{Endpoint, RedisAddress};
use super::client::Client;
use super::server::Server;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::wire::resp::Reply;

/// How long a primary is waited for, unless the URL says so, and the pause between two questions.
const FAILOVER_WAIT: Duration = Duration::from_secs(60);
const FAILOVER_PAUSE: Duration = Duration::from_millis(500);

/// Returns the address of the primary. Without a Sentinel it is the address itself.
///
/// While a failover goes on, the Sentinel still names the old primary, which is down, cut off from the others, or a replica
/// by now: it is not taken, and the new one is waited for.
pub(crate) async fn primary(address: &RedisAddress) -> Result<RedisAddress> {
    let Some(name) = &address.reading.sentinel else {
        return Ok(address.clone());
    };
    let bound = address.reading.failover_wait.unwrap_or(FAILOVER_WAIT);
    let began = Instant::now();
    let mut told = false;
    loop {
        let found = named_primary(address, name).await?;
        let why = match found {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if began.elapsed() >= bound {
            let message = format!("no reachable primary \"{name}\" at the Sentinel: {}", why.chain());
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
                "Try again after the failover (SENTINEL MASTER shows its flags), or set ?failover_wait=SECONDS to \
                 wait longer.",
            ));
        }
        if !told {
            told = true;
            tracing::warn!(
                "{}; waiting up to {} s for the Sentinel to report another primary \"{name}\"",
                why.chain(),
                bound.as_secs()
            );
        }
        tokio::time::sleep(FAILOVER_PAUSE).await;
    }
}

/// Asks the Sentinel once which server is the primary now, without waiting for another one. The inner error is why it is not
/// taken.
pub(crate) async fn primary_now(address: &RedisAddress) -> Result<Result<RedisAddress>> {
    match &address.reading.sentinel {
        Some(name) => named_primary(address, name).await,
        None => Ok(Ok(address.clone())),
    }
}

/// Asks the Sentinel for the primary, and that server whether it is one. The inner error is why it is not taken now.
async fn named_primary(address: &RedisAddress, name: &str) -> Result<Result<RedisAddress>> {
    let sentinel = connect(address).await?;
    let ask = [&b"SENTINEL"[..], b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()];
    let reply = sentinel.call(&ask).await.with_context(|| act(name))?;
    let found = match reply.elements() {
        [host, port] => at(address, host, port).ok_or_else(|| odd(name))?,
        _ => return Err(unknown(name)),
    };
    // Whoever may not ask this learns by the role alone.
    let facts = sentinel.ask(&[b"SENTINEL", b"MASTER", name.as_bytes()]).await?;
    let flags = named(&facts, "flags").and_then(Reply::text).unwrap_or_default();
    let fails = ["o_down", "failover_in_progress"];
    if flags.split(',').any(|flag| fails.contains(&flag)) {
        let message = format!(
            "the Sentinel reports that primary \"{}\" is down ({flags})",
            found.location()
        );
        return Ok(Err(Error::new(ErrorKind::Unavailable, message)));
    }
    Ok(match state(&found).await {
        Err(error) if error.kind() == ErrorKind::Denied => return Err(error),
        Err(error) => Err(error),
        Ok(Some(State::Replica { .. })) => {
            let message = format!("\"{}\" is reported as the primary, but is a replica", found.location());
            Err(Error::new(ErrorKind::Unavailable, message))
        }
        Ok(Some(State::Primary) | None) => Ok(found),
    })
}

/// What a server says of its role.
enum State {
    Primary,
    Replica { in_sync: bool },
}

/// Asks a server for its role; nothing where it keeps that to itself.
async fn state(address: &RedisAddress) -> Result<Option<State>> {
    let server = Server::ask(&Client::open(address).await?).await?;
    Ok(server.replica().map(|replica| {
        if replica {
            State::Replica {
                in_sync: server.is_in_sync(),
            }
        } else {
            State::Primary
        }
    }))
}

/// Returns the address to back up: of a replica in sync, where one is asked for and there.
pub(crate) async fn for_backup(address: &RedisAddress) -> Result<RedisAddress> {
    if let Some(name) = &address.reading.sentinel {
        let sentinel = connect(address).await?;
        let ask = [&b"SENTINEL"[..], b"REPLICAS", name.as_bytes()];
        let replicas = match sentinel.ask(&ask).await? {
            Reply::Error(text) if text.contains("No such master") => return Err(unknown(name)),
            // Before Sentinel 5.
            Reply::Error(text) if text.contains("nknown sentinel subcommand") => {
                let ask = [&b"SENTINEL"[..], b"SLAVES", name.as_bytes()];
                sentinel.call(&ask).await.with_context(|| act(name))?
            }
            reply => reply.checked().with_context(|| act(name))?,
        };
        let mut usable: Vec<&Reply> = replicas.elements().iter().filter(|one| is_usable(one)).collect();
        usable.sort_by_key(|replica| std::cmp::Reverse(number(replica, "slave-repl-offset")));
        for replica in usable {
            let found = named(replica, "ip").zip(named(replica, "port"));
            let Some(found) = found.and_then(|(host, port)| at(address, host, port)) else {
                continue;
            };
            // What the Sentinel knows may be some seconds old.
            match state(&found).await {
                Ok(Some(State::Replica { in_sync: true })) => return Ok(found),
                Ok(_) => tracing::warn!("skipping replica \"{}\": it is no longer in sync", found.location()),
                Err(error) if error.kind() == ErrorKind::Denied => return Err(error),
                Err(error) => tracing::warn!("skipping replica \"{}\": {}", found.location(), error.chain()),
            }
        }
        return primary(address).await;
    }
    replica_of(address).await
}

/// Returns the replica of a server that lags least, or the server itself, if none is wanted or in sync.
pub(crate) async fn replica_of(address: &RedisAddress) -> Result<RedisAddress> {
    if !address.reading.replica {
        return Ok(address.clone());
    }
    let server = Server::ask(&Client::open(address).await?).await?;
    if !server.replicas_are_known() {
        let error = Error::new(ErrorKind::Denied, "unable to determine which replicas the server has");
        return Err(error.with_hint("Give the user +info or +role, or remove replica=yes to read the server itself."));
    }
    Ok(of_server(address, &server).unwrap_or_else(|| address.clone()))
}

/// Returns the replica of a primary that lags least.
fn of_server(address: &RedisAddress, server: &Server) -> Option<RedisAddress> {
    let mut best: Option<(u64, RedisAddress)> = None;
    for n in 0..64 {
        let Some(line) = server.get(&format!("slave{n}")) else {
            break;
        };
        let field = |name: &str| {
            line.split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let offset = field("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
        if field("state") != Some("online") || best.as_ref().is_some_and(|(other, _)| *other >= offset) {
            continue;
        }
        let (host, port) = (field("ip")?, field("port")?.parse().ok()?);
        // Whoever announces no port is no server: a receiver of the log, a backup.
        if port > 0 {
            best = Some((offset, moved(address, host, port)));
        }
    }
    best.map(|(_, address)| address)
}

/// Connects to the Sentinel; it has a password of its own, the same one, or none.
async fn connect(address: &RedisAddress) -> Result<Client> {
    let mut plain = address.clone();
    plain.reading.sentinel = None;
    let open = if address.password.is_none() {
        Client::open(&plain).await
    } else {
        let without = RedisAddress {
            user: None,
            password: None,
            ..plain.clone()
        };
        match Client::open(&without).await {
            Err(error) if error.kind() == ErrorKind::Denied => Client::open(&plain).await,
            result => result,
        }
    };
    open.context("connect to the Sentinel")
}

/// Returns the address of another server that the same user may log in to.
pub(crate) fn moved(address: &RedisAddress, host: &str, port: u16) -> RedisAddress {
    let tls = matches!(address.place, Endpoint::Tcp { tls: true, .. });
    let mut found = address.clone();
    found.reading.sentinel = None;
    found.place = Endpoint::Tcp {
        host: host.to_owned(),
        port,
        tls,
    };
    found
}

fn at(address: &RedisAddress, host: &Reply, port: &Reply) -> Option<RedisAddress> {
    Some(moved(address, &host.text()?, port.text()?.parse().ok()?))
}

/// Returns whether a replica is up and in sync.
fn is_usable(replica: &Reply) -> bool {
    let text = |name| named(replica, name).and_then(Reply::text).unwrap_or_default();
    let flags = text("flags");
    let down = ["s_down", "o_down", "disconnected"];
    text("master-link-status") == "ok" && !flags.split(',').any(|flag| down.contains(&flag))
}

fn number(replica: &Reply, name: &str) -> u64 {
    let text = named(replica, name).and_then(Reply::text);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns a value of a reply whose names and values come in turns.
pub(crate) fn named<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    let mut pairs = reply.elements().chunks(2);
    pairs.find_map(|pair| match pair {
        [key, value] if key.bytes() == Some(name.as_bytes()) => Some(value),
        _ => None,
    })
}

fn act(name: &str) -> String {
    format!("ask the Sentinel for \"{name}\"")
}

fn unknown(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("the Sentinel has no primary named \"{name}\""),
    )
    .with_hint("Its configuration names them: sentinel monitor NAME HOST PORT QUORUM.")
}

fn odd(name: &str) -> Error {
    Error::unsupported(format!("the Sentinel's answer for \"{name}\" has an unknown form"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_replica_that_lags_least_is_taken() {
        let address = RedisAddress::from_url("rediss://primary:1", None, None, &|_| None).unwrap();
        let text = "role:master\r\nslave0:ip=10.0.0.1,port=6380,state=online,offset=5,lag=1\r\n\
                    slave1:ip=10.0.0.2,port=6381,state=online,offset=9,lag=0\r\n\
                    slave2:ip=10.0.0.3,port=6382,state=wait_bgsave,offset=0,lag=0\r\n\
                    slave3:ip=10.0.0.4,port=0,state=online,offset=99,lag=0\r\n";
        let found = of_server(&address, &Server::parse(text)).unwrap();
        assert_eq!(found.location(), "rediss://10.0.0.2:6381");
        assert!(of_server(&address, &Server::parse("role:master\r\n")).is_none());
    }
}
