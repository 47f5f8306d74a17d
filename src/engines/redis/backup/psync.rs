//! Asks a server for a full synchronisation, up to the first byte of the RDB.
//!
//! With `REPLCONF rdb-only 1` (7.0 on, every Valkey) the server keeps no buffer of commands for us, so its memory does
//! not depend on how fast the RDB is taken; older ones close the connection when `client-output-buffer-limit` is
//! reached. Newlines keep the connection alive before `+FULLRESYNC` and between it and the RDB.
//!
//! Protocol: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/> and `replication.c`.

use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::server::Server;
use crate::engines::redis::wire::resp::{Reply, keeps_to_itself, server_error};

/// How the end of the RDB is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Exactly so many bytes.
    Length(u64),
    /// These forty bytes follow it.
    Mark([u8; 40]),
}

/// A full synchronisation whose RDB comes next on the connection.
#[derive(Debug)]
pub(crate) struct FullSync {
    /// Replication ID.
    pub(crate) replid: String,
    /// Replication offset the RDB stands for.
    pub(crate) offset: u64,
    /// How the end is told.
    pub(crate) framing: Framing,
    /// Whether the server keeps commands for us meanwhile.
    pub(crate) rdb_only: bool,
    /// When the server said so: its state of this moment is in the RDB.
    pub(crate) at: Timestamp,
}

/// A line longer than this is none of the protocol's, in bytes.
const MAX_LINE_BYTES: usize = 1024;

/// Asks for a full synchronisation.
pub(crate) async fn start(connection: &mut Connection, server: &Server) -> Result<FullSync> {
    let rdb_only = match connection.ask(&[b"REPLCONF", b"rdb-only", b"1"]).await? {
        Reply::Error(text) if keeps_to_itself(&text) => {
            return Err(refused(server_error(&text)));
        }
        reply => !matches!(reply, Reply::Error(_)),
    };
    announce(connection, server).await?;
    connection.send(&[b"PSYNC", b"?", b"-1"]).await?;
    let line = line(connection).await.context("wait for the full resynchronization")?;
    let at = Timestamp::now();
    let Some(words) = line.strip_prefix("+FULLRESYNC ") else {
        return Err(unexpected(&line));
    };
    let (replid, offset) = words.split_once(' ').unwrap_or((words, "0"));
    let offset = offset.trim().parse().map_err(|_| {
        Error::corrupt(format!(
            "the offset of the resynchronization is \"{}\"",
            offset.escape_debug()
        ))
    })?;
    let replid = replid.to_owned();
    let header = self::line(connection).await.context("wait for the RDB")?;
    Ok(FullSync {
        replid,
        offset,
        framing: framing(&header)?,
        rdb_only,
        at,
    })
}

/// Says what we understand. What a server does not know it ignores or refuses; either is fine.
pub(crate) async fn announce(connection: &mut Connection, server: &Server) -> Result<()> {
    connection
        .ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"])
        .await?;
    let version = match (server.product(), server.version()) {
        // It may be a Valkey, which then writes its own newest version; Redis does not know the option.
        (_, "unknown") => Some("255.255.255"),
        ("valkey", version) => Some(version),
        _ => None,
    };
    if let Some(version) = version {
        // Without it Valkey 9 writes an RDB of version 11, which cannot hold all that it has.
        connection.ask(&[b"REPLCONF", b"version", version.as_bytes()]).await?;
    }
    Ok(())
}

/// Returns whether the server does not let us synchronise, so that another way may be tried.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported)
}

/// The error of an answer to PSYNC that is none of those awaited.
pub(crate) fn unexpected(line: &str) -> Error {
    match line.strip_prefix('-') {
        Some(text) => refused(server_error(text)),
        None => Error::corrupt(format!("the answer to PSYNC is \"{}\"", line.escape_debug())),
    }
}

/// Adds what to do where a service keeps PSYNC to itself.
pub(crate) fn refused(error: Error) -> Error {
    let error = error.context("request a full resynchronization (PSYNC)");
    if error.kind() == ErrorKind::Unsupported {
        return error.with_hint(
            "The service does not offer PSYNC, as many managed ones do not; use its own snapshots for this server.",
        );
    }
    error
}

pub(crate) fn framing(header: &str) -> Result<Framing> {
    if let Some(text) = header.strip_prefix('-') {
        return Err(server_error(text));
    }
    let wrong = || Error::corrupt(format!("the RDB is announced by \"{}\"", header.escape_debug()));
    let value = header.strip_prefix('$').ok_or_else(wrong)?;
    match value.strip_prefix("EOF:") {
        Some(mark) => mark.as_bytes().try_into().map(Framing::Mark).map_err(|_| wrong()),
        None => value.parse().map(Framing::Length).map_err(|_| wrong()),
    }
}

/// Reads a line; empty ones only keep the connection alive.
pub(crate) async fn line(connection: &mut Connection) -> Result<String> {
    loop {
        let waiting = connection.waiting();
        if let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line = exact::part(waiting, ..end, "it was found there");
            let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
            connection.take(end + 1);
            if line.is_empty() {
                continue;
            }
            return Ok(line);
        }
        if waiting.len() > MAX_LINE_BYTES {
            return Err(Error::corrupt("a line of the replication protocol is not terminated"));
        }
        connection.fill().await?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_framings_are_read_and_nothing_else() {
        assert_eq!(framing("$175").unwrap(), Framing::Length(175));
        let mark = "0123456789abcdef0123456789abcdef01234567";
        assert!(matches!(framing(&format!("$EOF:{mark}")).unwrap(), Framing::Mark(bytes) if bytes == mark.as_bytes()));
        for wrong in ["$-1", "$EOF:short", "hello", "$99999999999999999999", "-ERR no"] {
            assert!(framing(wrong).is_err(), "{wrong}");
        }
    }
}
