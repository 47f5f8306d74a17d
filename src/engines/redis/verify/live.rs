//! Reads the content of a key from a live server by ordinary commands, large ones by ranges.

use std::borrow::Cow;

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::wire::digest::{Content, Digest};
use crate::engines::redis::wire::rdb::decode::{StreamFacts, StreamId, number};
use crate::engines::redis::wire::resp::Reply;

/// Elements that are asked for at once, at most.
pub(crate) const RANGE: u64 = 1000;

/// Bytes of a string that are asked for at once.
const STRING_BYTES: u64 = 4 << 20;

/// Returns the command that reads a whole small value; `None` for types that need several.
pub(crate) fn whole<'a>(kind: &str, key: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    Some(match kind {
        "string" => vec![b"GET", key],
        "list" => vec![b"LRANGE", key, b"0", b"-1"],
        "set" => vec![b"SMEMBERS", key],
        "zset" => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        "hash" => vec![b"HGETALL", key],
        _ => return None,
    })
}

/// Takes what such a command answers.
pub(crate) fn take(kind: &str, reply: &Reply, digest: &mut Digest) -> Result<()> {
    let bytes = |reply: &Reply| reply.bytes().map(<[u8]>::to_vec).unwrap_or_default();
    match kind {
        "string" => digest.piece(&bytes(reply)),
        "list" => reply.elements().iter().for_each(|item| digest.item(&bytes(item))),
        "set" => reply.elements().iter().for_each(|item| digest.set_member(&bytes(item))),
        "zset" => {
            for pair in reply.elements().chunks(2) {
                let [member, score] = pair else { return Err(odd()) };
                digest.member(&bytes(member), number(&bytes(score))?);
            }
        }
        _ => {
            for pair in reply.elements().chunks(2) {
                let [name, value] = pair else { return Err(odd()) };
                digest.field(&bytes(name), &bytes(value), None);
            }
        }
    }
    Ok(())
}

/// Reads a value of any size.
pub(crate) async fn read(
    connection: &mut Connection,
    kind: &str,
    key: &[u8],
    range: u64,
    digest: &mut Digest,
) -> Result<Content> {
    match kind {
        "string" => {
            let mut from = 0;
            loop {
                let (first, last) = (from.to_string(), (from + STRING_BYTES - 1).to_string());
                let reply = connection
                    .call(&[b"GETRANGE", key, first.as_bytes(), last.as_bytes()])
                    .await?;
                let bytes = reply.bytes().unwrap_or_default();
                digest.piece(bytes);
                from += STRING_BYTES;
                if exact::u64_from(bytes.len()) < STRING_BYTES {
                    break;
                }
            }
        }
        "list" | "zset" => {
            let mut from = 0;
            loop {
                let (first, last) = (from.to_string(), (from + range - 1).to_string());
                let (word, scores): (&[u8], _) = if kind == "list" {
                    (b"LRANGE", None)
                } else {
                    (b"ZRANGE", Some(&b"WITHSCORES"[..]))
                };
                let mut command = vec![word, key, first.as_bytes(), last.as_bytes()];
                command.extend(scores);
                let reply = connection.call(&command).await?;
                take(kind, &reply, digest)?;
                from += range;
                let each = 1 + u64::from(scores.is_some());
                if exact::u64_from(reply.elements().len()) < range * each {
                    break;
                }
            }
        }
        "set" | "hash" => scanned(connection, kind, key, range, digest).await?,
        "stream" => stream(connection, key, range, digest).await?,
        _ => {}
    }
    Ok(digest.finish())
}

/// Reads a set or hash by its cursor. Nobody else uses the server, so nothing comes twice.
async fn scanned(connection: &mut Connection, kind: &str, key: &[u8], range: u64, digest: &mut Digest) -> Result<()> {
    let word: &[u8] = if kind == "set" { b"SSCAN" } else { b"HSCAN" };
    let count = range.to_string();
    let mut cursor = b"0".to_vec();
    let mut expiries = true;
    loop {
        let reply = connection
            .call(&[word, key, &cursor, b"COUNT", count.as_bytes()])
            .await?;
        let [next, page] = reply.elements() else {
            return Err(odd());
        };
        if kind == "set" {
            take(kind, page, digest)?;
        } else {
            let names: Vec<&[u8]> = page.elements().iter().step_by(2).filter_map(Reply::bytes).collect();
            let count = names.len().to_string();
            let mut command: Vec<&[u8]> = vec![b"HPEXPIRETIME", key, b"FIELDS", count.as_bytes()];
            command.extend(&names);
            let mut at = Reply::Array(Vec::new());
            if expiries && !names.is_empty() {
                match connection.ask(&command).await? {
                    // It knows no fields that expire.
                    Reply::Error(text) if text.contains("unknown command") => expiries = false,
                    reply => at = reply.checked()?,
                }
            }
            for (n, pair) in page.elements().chunks(2).enumerate() {
                let [name, value] = pair else { return Err(odd()) };
                let expires = match at.elements().get(n) {
                    Some(Reply::Integer(ms)) => u64::try_from(*ms).ok().filter(|ms| *ms > 0),
                    _ => None,
                };
                digest.field(
                    name.bytes().unwrap_or_default(),
                    value.bytes().unwrap_or_default(),
                    expires,
                );
            }
        }
        cursor = next.bytes().unwrap_or_default().to_vec();
        if cursor == b"0" {
            return Ok(());
        }
    }
}

async fn stream(connection: &mut Connection, key: &[u8], range: u64, digest: &mut Digest) -> Result<()> {
    let mut from = b"-".to_vec();
    let mut length = 0;
    let count = range.to_string();
    loop {
        let reply = connection
            .call(&[b"XRANGE", key, &from, b"+", b"COUNT", count.as_bytes()])
            .await?;
        for entry in reply.elements() {
            let [id, fields] = entry.elements() else {
                return Err(odd());
            };
            let id = stream_id(id)?;
            let fields: Vec<_> = fields
                .elements()
                .iter()
                .map(|part| Cow::Borrowed(part.bytes().unwrap_or_default()))
                .collect();
            digest.entry(id, &fields);
            from = after(id).into_bytes();
            length += 1;
        }
        if exact::u64_from(reply.elements().len()) < range {
            break;
        }
    }
    let facts = connection.call(&[b"XINFO", b"STREAM", key]).await?;
    let counted = match (named(&facts, "max-deleted-entry-id"), named(&facts, "entries-added")) {
        (Some(id), Some(Reply::Integer(added))) => Some((stream_id(id)?, exact::count(*added, "entries-added")?)),
        _ => None,
    };
    digest.stream(StreamFacts {
        length,
        last: named(&facts, "last-generated-id").map_or(Ok(StreamId::default()), stream_id)?,
        counted,
    });
    let groups = connection.call(&[b"XINFO", b"GROUPS", key]).await?;
    for group in groups.elements() {
        let name = named(group, "name").and_then(Reply::bytes).ok_or_else(odd)?;
        digest.group(
            name,
            named(group, "last-delivered-id").map_or_else(|| Err(odd()), stream_id)?,
        );
        let consumers = connection.call(&[b"XINFO", b"CONSUMERS", key, name]).await?;
        for consumer in consumers.elements() {
            let consumer = named(consumer, "name").and_then(Reply::bytes).ok_or_else(odd)?;
            digest.consumer(consumer);
            let mut from = b"-".to_vec();
            loop {
                let pending = connection
                    .call(&[b"XPENDING", key, name, &from, b"+", count.as_bytes(), consumer])
                    .await?;
                for one in pending.elements() {
                    let [id, _, _, Reply::Integer(times)] = one.elements() else {
                        return Err(odd());
                    };
                    let id = stream_id(id)?;
                    digest.pending(id, exact::count(*times, "the number of deliveries")?);
                    digest.owned(id);
                    from = after(id).into_bytes();
                }
                if exact::u64_from(pending.elements().len()) < range {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn after(id: StreamId) -> String {
    match id.1.checked_add(1) {
        Some(sequence) => StreamId(id.0, sequence),
        None => StreamId(id.0.saturating_add(1), 0),
    }
    .to_string()
}

/// Returns a value of a reply whose names and values come in turns.
fn named<'a>(reply: &'a Reply, name: &str) -> Option<&'a Reply> {
    let mut pairs = reply.elements().chunks(2);
    pairs.find_map(|pair| match pair {
        [key, value] if key.bytes() == Some(name.as_bytes()) => Some(value),
        _ => None,
    })
}

fn stream_id(reply: &Reply) -> Result<StreamId> {
    let text = reply.text().unwrap_or_default();
    let (ms, sequence) = text.split_once('-').ok_or_else(odd)?;
    Ok(StreamId(
        ms.parse().map_err(|_| odd())?,
        sequence.parse().map_err(|_| odd())?,
    ))
}

fn odd() -> Error {
    Error::unsupported("the server's answer has an unknown form")
}
