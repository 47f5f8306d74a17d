//! The link to a primary, or to a replica that hands its primary's stream on.
//!
//! We are a replica that wants no data: should the server insist on a full resynchronization, we ask for one with nothing in it
//! (`REPLCONF rdb-filter-only ""`, 7.0 and every Valkey), and read over it. The data of a snapshot come over a connection of
//! their own. No port is announced.

use std::time::{Duration, Instant};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::backup::psync::{self, Framing};
use crate::engines::redis::log::position::{Position, ReplicationId, offset_of};
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::connection::{Connection, silent};
use crate::engines::redis::session::nodes;
use crate::engines::redis::session::server::Server;

/// What a server says of its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Where its stream is.
    pub(crate) now: Position,
    /// The history that it continues, and where that ended for it; None where it has had one alone.
    pub(crate) before: Option<Position>,
}

impl History {
    /// Reads what INFO says. `second_repl_offset` is the first byte, counted from 1, that is no part of both histories.
    fn of(server: &Server) -> Result<Self> {
        let field = |name: &str| server.get(name).map(str::trim).filter(|text| !text.is_empty());
        let missing =
            || Error::new(ErrorKind::Denied, "INFO does not show the replication ID").with_hint("Give the user +info.");
        let now = Position {
            id: field("master_replid").ok_or_else(missing)?.parse()?,
            offset: offset_of(field("master_repl_offset").ok_or_else(missing)?)?,
        };
        let none = "0000000000000000000000000000000000000000";
        let id = field("master_replid2").filter(|id| *id != none);
        let ended = field("second_repl_offset").and_then(|text| offset_of(text).ok());
        let before = match (id, ended.and_then(|ended| ended.checked_sub(1))) {
            (Some(id), Some(offset)) => Some(Position {
                id: id.parse()?,
                offset,
            }),
            _ => None,
        };
        Ok(Self { now, before })
    }
}

/// What the server answered to PSYNC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The stream goes on where it was asked for, in this history.
    Continued(ReplicationId),
    /// It does not: it goes on from here. What lies between is lost.
    Resynchronized(Position),
}

/// A connection on which the stream comes, once it is synchronized.
#[derive(Debug)]
pub(crate) struct Replica {
    connection: Connection,
    server: Server,
    /// When bytes last came.
    heard: Instant,
}

impl Replica {
    /// Connects, and asks for the history.
    pub(crate) async fn connect(address: &RedisAddress) -> Result<(Self, History)> {
        let address = nodes::for_backup(address).await?;
        let mut connection = Connection::open(&address).await?;
        let said = connection.call(&[b"INFO"]).await?;
        let server = Server::parse(&said.text().unwrap_or_default());
        server.refuse_backup()?;
        let history = History::of(&server)?;
        let replica = Self {
            connection,
            server,
            heard: Instant::now(),
        };
        Ok((replica, history))
    }

    /// Returns what the server says of itself.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Returns the first offset from which the server still has its stream, as far as it says so.
    pub(crate) fn backlog_from(&self) -> Option<u64> {
        self.server
            .number("repl_backlog_active")
            .filter(|active| *active == 1)?;
        // It counts bytes from 1.
        self.server.number("repl_backlog_first_byte_offset")?.checked_sub(1)
    }

    /// Asks for the stream from a position on.
    pub(crate) async fn synchronize(&mut self, from: &Position) -> Result<Answer> {
        let connection = &mut self.connection;
        // A server that does not know it sends all its data.
        connection.ask(&[b"REPLCONF", b"rdb-filter-only", b""]).await?;
        psync::announce(connection, &self.server).await?;
        let next = from.offset.saturating_add(1).to_string();
        connection
            .send(&[b"PSYNC", from.id.as_str().as_bytes(), next.as_bytes()])
            .await?;
        let line = psync::line(connection).await.context("wait for the answer to PSYNC")?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["+CONTINUE", id] => Answer::Continued(id.parse()?),
            ["+CONTINUE"] => Answer::Continued(from.id.clone()),
            ["+FULLRESYNC", id, offset] => Answer::Resynchronized(Position {
                id: id.parse()?,
                offset: offset_of(offset)?,
            }),
            _ => return Err(psync::unexpected(&line)),
        };
        if let Answer::Resynchronized(position) = &answer {
            let header = psync::line(connection).await.context("wait for the RDB")?;
            discard(connection, psync::framing(&header)?).await?;
            tracing::debug!("a full resynchronization at {position}");
            // Only after this the server sends what it holds for us. Nothing of it is stored.
            self.acknowledge(0).await?;
        }
        self.hear();
        Ok(answer)
    }

    /// Waits for bytes. Cancelling it loses nothing.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        if self.connection.waiting().is_empty() {
            self.connection.fill().await?;
        }
        self.hear();
        Ok(())
    }

    /// Returns the bytes that came.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.connection.waiting()
    }

    /// Takes bytes that came.
    pub(crate) fn take(&mut self, count: usize) {
        self.connection.take(count);
    }

    /// Tells the primary up to where all is stored.
    pub(crate) async fn acknowledge(&mut self, offset: u64) -> Result<()> {
        let offset = offset.to_string();
        self.connection.send(&[b"REPLCONF", b"ACK", offset.as_bytes()]).await
    }

    /// Takes note that nothing is read on purpose.
    pub(crate) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Fails if nothing came for too long: a primary shows every ten seconds (`repl-ping-replica-period`) that it is there.
    pub(crate) fn is_heard(&self) -> Result<()> {
        let most: Duration = self.connection.read_timeout();
        if self.heard.elapsed() > most {
            return Err(silent(most));
        }
        Ok(())
    }
}

/// Reads over an RDB.
async fn discard(connection: &mut Connection, framing: Framing) -> Result<()> {
    match framing {
        Framing::Length(mut left) => {
            while left > 0 {
                let count = connection.piece(left).await?.len();
                connection.take(count);
                left = left.saturating_sub(exact::u64_from(count));
            }
        }
        Framing::Mark(mark) => loop {
            let waiting = connection.waiting();
            if let Some(at) = waiting.windows(mark.len()).position(|window| window == mark) {
                connection.take(at.saturating_add(mark.len()));
                break;
            }
            // The mark may have begun.
            let sure = waiting.len().saturating_sub(mark.len() - 1);
            connection.take(sure);
            connection.fill().await?;
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn histories_are_read() {
        let (one, two) = ("a".repeat(40), "b".repeat(40));
        let text = |second: &str, offset: &str| {
            format!(
                "master_replid:{one}\r\nmaster_replid2:{second}\r\nmaster_repl_offset:500\r\nsecond_repl_offset:{offset}\r\n"
            )
        };
        let read = |second: &str, offset: &str| History::of(&Server::parse(&text(second, offset))).unwrap().before;
        assert_eq!(read(&"0".repeat(40), "-1"), None);
        assert_eq!(read(&two, "-1"), None);
        let before = read(&two, "101").unwrap();
        assert_eq!((before.id.as_str(), before.offset), (two.as_str(), 100));
        assert!(History::of(&Server::parse("role:master\r\n")).is_err());
    }
}
