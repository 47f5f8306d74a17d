//! Puts keys back whose payloads are stored beside the RDB: see [`crate::engines::redis::backup::payloads`].

use tokio_util::sync::CancellationToken;

use super::load::{Conflict, Tally};
use super::pipeline::advice;
use super::route::Nodes;
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::redis::backup::payloads::{Head, head, piece};
use crate::engines::redis::stored::stop_if;
use crate::engines::redis::wire::glob;
use crate::engines::redis::wire::key_name::name;
use crate::engines::redis::wire::rdb::pull::{Input, Pieces};
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

/// What is restored, and how.
#[derive(Debug)]
pub(crate) struct PayloadOptions<'a> {
    pub(crate) records: u64,
    /// Keys that match none of these are left out, if there are any.
    pub(crate) patterns: Vec<Vec<u8>>,
    pub(crate) conflict: Option<Conflict>,
    /// The database that all keys go into, if not each into the one of its number.
    pub(crate) into: Option<u32>,
    /// `proto-max-bulk-len` of the target, in bytes.
    pub(crate) max_bulk_bytes: u64,
    pub(crate) now_ms: i64,
    pub(crate) cancel: &'a CancellationToken,
}

/// Sends the payloads one after another.
pub(crate) async fn restore<P: Pieces>(
    nodes: &mut Nodes,
    pieces: P,
    how: PayloadOptions<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut input = Input::new(pieces);
    for number in 0..how.records {
        stop_if(how.cancel)?;
        let mut head = head(&mut input).await?;
        head.database = how.into.unwrap_or(head.database);
        let shown = name(head.database, &head.key);
        let matches = |pattern: &Vec<u8>| glob::matches(pattern, &head.key);
        if !how.patterns.is_empty() && !how.patterns.iter().any(matches) {
            tally.not_selected += 1;
            input.pass(head.payload_bytes).await?;
            continue;
        }
        if head.expires_ms.is_some_and(|at| at <= how.now_ms) {
            tally.expired += 1;
            input.pass(head.payload_bytes).await?;
            continue;
        }
        if head.payload_bytes > how.max_bulk_bytes {
            input.pass(head.payload_bytes).await?;
            let bytes = head.payload_bytes;
            let error = format!("its payload of {bytes} bytes is longer than proto-max-bulk-len of the target");
            tally.fail("key", shown, error, "Raise it there: CONFIG SET proto-max-bulk-len.");
            continue;
        }
        match send(nodes, &mut input, &head, how.conflict).await? {
            Reply::Error(text) if text.starts_with("BUSYKEY") && how.conflict == Some(Conflict::Skip) => {
                tally.skipped += 1;
            }
            Reply::Error(text) => {
                if text.starts_with("BUSYKEY") {
                    tally.taken(number);
                }
                let advice = advice(&text);
                tally.fail("key", shown, text, advice);
            }
            _ => {
                if let Some(at) = head.expires_ms {
                    tally.expires(at, how.now_ms);
                }
                tally.restored += 1;
            }
        }
    }
    Ok(())
}

/// Sends one payload as it is read; returns what the server says.
async fn send<P: Pieces>(
    nodes: &mut Nodes,
    input: &mut Input<P>,
    head: &Head,
    conflict: Option<Conflict>,
) -> Result<Reply> {
    let connection = nodes.for_key(head.database, &head.key).await?;
    let replaces = conflict == Some(Conflict::Replace);
    let at = head.expires_ms.unwrap_or(0).to_string();
    let arguments = 4 + usize::from(head.expires_ms.is_some()) + usize::from(replaces);
    let mut out = Vec::new();
    resp::header(b'*', arguments, &mut out);
    for argument in [&b"RESTORE"[..], &head.key, at.as_bytes()] {
        resp::header(b'$', argument.len(), &mut out);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    resp::header(b'$', exact::usize_from(head.payload_bytes), &mut out);
    connection.send_encoded(&out).await?;
    let mut left = head.payload_bytes;
    while left > 0 {
        let piece = piece(input, left).await?;
        connection.send_encoded(piece).await?;
        let used = piece.len();
        left -= exact::u64_from(used);
        input.skip(used);
    }
    out.clear();
    out.extend_from_slice(b"\r\n");
    if head.expires_ms.is_some() {
        out.extend_from_slice(b"$6\r\nABSTTL\r\n");
    }
    if replaces {
        out.extend_from_slice(b"$7\r\nREPLACE\r\n");
    }
    connection.send_encoded(&out).await?;
    connection.reply().await
}
