//! Replication connections: a WAL sender of the server, which takes a few commands and no SQL.
//!
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

use super::connection::{Connection, CopyEnd, CopyOut, data_row};
use super::url::ConnectOptions;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::sql::quote::quote_ident;
use crate::engines::postgres::wire::server_error::{server_error, sqlstate};

/// Bound on the rows in front of a base backup, in bytes: a tablespace is a row.
const MAX_ROWS_BYTES: usize = 4 << 20;

/// Rows of text; `None` is NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// What [`Replication::stream`] began.
#[derive(Debug)]
pub(crate) enum Begun<'a> {
    /// The WAL comes, and status messages go the other way.
    Copy(CopyOut<'a>),
    /// There is none from there on: the row that says on which timeline it goes on.
    Ended(Rows),
}

/// A connection to a WAL sender.
#[derive(Debug)]
pub(crate) struct Replication(Connection);

/// Who the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The same for a primary and its standbys, and for no other cluster.
    pub(crate) system_id: u64,
    pub(crate) timeline: u32,
    /// The end of what is flushed, as the server writes it.
    pub(crate) position: String,
}

impl Replication {
    /// Dials and logs in. What the server refuses comes with what has to be changed there.
    pub(crate) async fn open(options: &ConnectOptions) -> Result<Self> {
        let mut options = options.clone();
        options.is_replication = true;
        match Connection::open(&options).await {
            Ok(connection) => Ok(Self(connection)),
            Err(error) => Err(advised(error, &options)),
        }
    }

    /// Returns a parameter that the server reported at login.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.0.parameter(name)
    }

    /// Returns whether the connection is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.is_tls()
    }

    /// Asks for a setting.
    pub(crate) async fn show(&mut self, name: &str) -> Result<String> {
        let found = self.0.query(&format!("SHOW {name}")).await;
        let found = found.with_context(|| format!("ask for {name}"))?;
        let value = found.scalar().map(str::to_owned);
        value.ok_or_else(|| Error::corrupt(format!("the server says nothing of {name}")))
    }

    /// Asks who the server is.
    pub(crate) async fn identify(&mut self) -> Result<Identity> {
        let found = self.0.query("IDENTIFY_SYSTEM").await.context("identify the system")?;
        let row = found.rows.first().map_or(&[][..], Vec::as_slice);
        match row {
            [Some(system_id), Some(timeline), Some(position), ..] => {
                let broken = |_| Error::corrupt("the server's answer to IDENTIFY_SYSTEM has no numbers");
                Ok(Identity {
                    system_id: system_id.parse().map_err(broken)?,
                    timeline: timeline.parse().map_err(broken)?,
                    position: position.clone(),
                })
            }
            _ => Err(Error::corrupt(
                "the server's answer to IDENTIFY_SYSTEM is no row of three",
            )),
        }
    }

    /// Makes a physical slot that keeps the WAL from now on, and ends with this connection. Its name is made up of what it is for.
    pub(crate) async fn keep_wal(&mut self, purpose: &str) -> Result<()> {
        let name = format!("wirevault_{purpose}_{:016x}", rand::random::<u64>());
        let command = format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY PHYSICAL RESERVE_WAL");
        self.0.query(&command).await.map(drop)
    }

    /// Makes a physical slot that keeps the WAL from the last checkpoint on, until it is dropped.
    pub(crate) async fn make_slot(&mut self, name: &str) -> Result<()> {
        let command = format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", quote_ident(name));
        self.0.query(&command).await.map(drop)
    }

    /// Drops a slot.
    pub(crate) async fn drop_slot(&mut self, name: &str) -> Result<()> {
        let command = format!("DROP_REPLICATION_SLOT {}", quote_ident(name));
        self.0.query(&command).await.map(drop)
    }

    /// Asks for a slot: its type, where its WAL begins, and on which timeline; all NULL where there is none. Since PostgreSQL 15.
    pub(crate) async fn read_slot(&mut self, name: &str) -> Result<Rows> {
        let found = self
            .0
            .query(&format!("READ_REPLICATION_SLOT {}", quote_ident(name)))
            .await;
        found
            .map(|found| found.rows)
            .with_context(|| format!("look for the replication slot \"{name}\""))
    }

    /// Asks for the history file of a timeline: its name, and its bytes.
    pub(crate) async fn timeline_history(&mut self, timeline: u32) -> Result<Rows> {
        let found = self.0.query(&format!("TIMELINE_HISTORY {timeline}")).await;
        found
            .map(|found| found.rows)
            .with_context(|| format!("ask for the history of timeline {timeline}"))
    }

    /// Begins `START_REPLICATION` of a physical slot: a copy that goes both ways, or at once what follows the timeline.
    pub(crate) async fn stream(&mut self, slot: &str, from: &str, timeline: u32) -> Result<Begun<'_>> {
        let slot = quote_ident(slot);
        let connection = &mut self.0;
        let command = format!("START_REPLICATION SLOT {slot} PHYSICAL {from} TIMELINE {timeline}");
        connection.send_query(&command).await?;
        let mut rows = Vec::new();
        loop {
            let (tag, body) = connection.read_message().await?;
            match tag {
                b'W' => return Ok(Begun::Copy(CopyOut::new(connection, CopyEnd::Data))),
                b'D' if rows.is_empty() => rows.push(connection.or_give_up(data_row(&body))?),
                b'Z' => return Ok(Begun::Ended(rows)),
                b'E' => return Err(connection.refused(&body).await?),
                b'T' | b'C' | b'N' | b'A' => {}
                other => return Err(connection.give_up(other)),
            }
        }
    }

    /// Ends a stream that the server has ended; returns what it says follows.
    pub(crate) async fn end_of_stream(&mut self) -> Result<Rows> {
        self.0.end_copy_both().await.map(|found| found.rows)
    }

    /// Begins `BASE_BACKUP` with these options, of PostgreSQL 15 and later. Returns the rows that come first, and the copy.
    pub(crate) async fn base_backup(&mut self, options: &str) -> Result<(Rows, CopyOut<'_>)> {
        let connection = &mut self.0;
        connection.send_query(&format!("BASE_BACKUP ({options})")).await?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        loop {
            let (tag, body) = connection.read_message().await?;
            match tag {
                b'H' => return Ok((rows, CopyOut::new(connection, CopyEnd::Data))),
                b'D' if bytes < MAX_ROWS_BYTES => {
                    bytes += body.len();
                    rows.push(connection.or_give_up(data_row(&body))?);
                }
                b'E' => return Err(connection.refused(&body).await?),
                b'T' | b'C' | b'N' | b'A' => {}
                other => return Err(connection.give_up(other)),
            }
        }
    }

    /// Returns what the server says behind the data of a base backup, and whether it takes that back: it has counted by then which
    /// pages are damaged.
    pub(crate) async fn end_of_backup(&mut self) -> Result<(Rows, Option<Error>)> {
        let (result, failure) = self.0.collect_until_rest().await?;
        Ok((result.rows, failure))
    }

    /// Says good-bye and closes.
    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

/// Returns what a refused replication connection needs.
fn advised(error: Error, options: &ConnectOptions) -> Error {
    let said = server_error(&error)
        .map(|said| said.message.clone())
        .unwrap_or_default();
    let role = &options.user;
    match sqlstate(&error) {
        Some("28000") if said.contains("pg_hba") => error.with_hint_instead(format!(
            "Add a line to pg_hba.conf of the server and reload it: \"host replication {role} ADDRESS scram-sha-256\" with the \
             address of this host (\"all\" as database does not mean replication)."
        )),
        Some("42501") => error.with_hint_instead(format!("Give the role the right: ALTER ROLE \"{role}\" REPLICATION.")),
        Some("53300") if said.contains("max_wal_senders") => {
            error.with_hint_instead("All WAL senders are in use: raise max_wal_senders, or end a standby or backup that has one.")
        }
        Some("08P01") => error.with_hint_instead(
            "A connection pooler stands between, which gives no replication connections: name the server itself.",
        ),
        _ => error,
    }
}

/// Reads the size of a setting: `16MB`.
pub(crate) fn setting_bytes(text: &str) -> Result<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(at.map_or(text.len(), |at| at));
    let factor = match unit {
        "" | "B" => Some(1_u64),
        "kB" => Some(1 << 10),
        "MB" => Some(1 << 20),
        "GB" => Some(1 << 30),
        "TB" => Some(1 << 40),
        _ => None,
    };
    let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Error::new(ErrorKind::Corrupt, format!("\"{shown}\" is no size"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_of_settings_are_read() {
        for (text, bytes) in [
            ("8192", 8192),
            ("16MB", 16 << 20),
            ("1GB", 1 << 30),
            ("2TB", 2 << 40),
            ("64kB", 65_536),
        ] {
            assert_eq!(setting_bytes(text).unwrap(), bytes);
        }
        for bad in ["", "MB", "1PB", "x", "99999999999999999999"] {
            assert!(setting_bytes(bad).is_err(), "{bad}");
        }
    }
}
