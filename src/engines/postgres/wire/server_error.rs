//! What a server says when it refuses, and what a person can do about it.
//!
//! SQLSTATE classes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::fmt;

use crate::base::error::{Error, ErrorKind};
use crate::base::exact;
use crate::base::raw_text::{from_bytes, printable};

/// The fields of an ErrorResponse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Detail, if any.
    pub detail: Option<String>,
    /// The server's own hint.
    pub hint: Option<String>,
    /// Where it happened (COPY line, function).
    pub context: Option<String>,
}

impl ServerError {
    /// Reads the body of an ErrorResponse or NoticeResponse. Unknown fields are skipped, broken ones end the reading.
    pub fn parse(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut rest = body;
        while let Some((&kind, tail)) = rest.split_first() {
            let Some(end) = tail.iter().position(|&b| b == 0) else {
                break;
            };
            let (text, next) = tail.split_at(end);
            // Before login is complete the server does not know our encoding, so text may be anything.
            let text = || from_bytes(text).into_owned();
            match kind {
                0 => break,
                b'C' => error.code = text(),
                b'M' => error.message = text(),
                b'D' => error.detail = Some(text()),
                b'H' => error.hint = Some(text()),
                b'W' => error.context = Some(text()),
                _ => {}
            }
            rest = exact::part(next, 1.., "a zero was found there");
        }
        error
    }

    /// Turns it into this crate's error; the fields stay reachable through [`sqlstate`].
    pub fn into_error(self) -> Error {
        let (kind, ours) = classify(&self.code, &self.message);
        let hint = ours.map(str::to_owned).or_else(|| self.hint.clone());
        let error = Error::new(kind, format!("server refuses with SQLSTATE {}", self.code)).with_cause(self);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.message.clone()))?;
        if let Some(detail) = &self.detail {
            write!(f, " ({})", printable(detail.clone()))?;
        }
        if let Some(context) = &self.context {
            // The context of a COPY error quotes the line, which can be long: its head names the place.
            let head: String = context.lines().next().unwrap_or_default().chars().take(200).collect();
            write!(f, ", {}", printable(head))?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// Returns the SQLSTATE of the server's refusal in an error's chain, if there is one.
pub fn sqlstate(error: &Error) -> Option<&str> {
    server_error(error).map(|e| e.code.as_str())
}

/// Returns the server's refusal in an error's chain, if there is one.
pub fn server_error(error: &Error) -> Option<&ServerError> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<ServerError>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn classify(code: &str, message: &str) -> (ErrorKind, Option<&'static str>) {
    use ErrorKind as K;
    match code {
        "28P01" => (
            K::Denied,
            Some("The password is wrong: check PGPASSWORD, ~/.pgpass or password_file."),
        ),
        "28000" if message.contains("pg_hba") => (
            K::Denied,
            Some("The server has no pg_hba.conf line for this user, database, address and TLS mode."),
        ),
        "28000" => (K::Denied, Some("Check that the role exists and may log in.")),
        "3D000" => (K::NotFound, Some("Check the database name at the end of the URL.")),
        "42501" => (
            K::Denied,
            Some(
                "Grant the role pg_read_all_data and pg_read_all_settings (14 and newer), or SELECT on each table; tables with row security need their owner or BYPASSRLS.",
            ),
        ),
        "57P01" | "57P02" | "57P05" => (
            K::Unavailable,
            Some("The server ended the session, probably for a shutdown or restart."),
        ),
        "57P03" => (
            K::Unavailable,
            Some("The server is starting up or shutting down; try again in a moment."),
        ),
        "53300" => (
            K::Unavailable,
            Some("The server has no free connection: lower --parallel, or raise max_connections or the role's limit."),
        ),
        "53100" => (K::LimitExceeded, Some("The server's disk is full.")),
        "53200" if message.contains("max_locks_per_transaction") || message.contains("shared memory") => (
            K::LimitExceeded,
            Some("Raise max_locks_per_transaction on the server: every table takes one lock."),
        ),
        "54000" => (
            K::LimitExceeded,
            Some("A row is too large for the text format of COPY (1 GB after escaping)."),
        ),
        "40001" => (
            K::Unavailable,
            Some("A replica cancelled the query: turn on hot_standby_feedback or raise max_standby_streaming_delay."),
        ),
        "55P03" => (
            K::TimedOut,
            Some("Another session holds a lock that conflicts with ours."),
        ),
        "57014" => (K::Cancelled, None),
        "42P04" | "42P06" | "42P07" | "42710" | "42723" => (K::AlreadyExists, None),
        "42P01" | "42704" | "42883" | "3F000" => (K::NotFound, None),
        "0A000" => (K::Unsupported, None),
        "08P01" if message.contains("startup parameter") => (
            K::Denied,
            Some("A connection pooler rejects settings at login: remove options (PGOPTIONS)."),
        ),
        _ => match code.get(..2) {
            Some("08") => (K::Unavailable, None),
            Some("53") => (K::LimitExceeded, None),
            Some("58" | "XX") => (K::Corrupt, None),
            _ => (K::Other, None),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_become_kind_hint_and_cause() {
        let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0Fauth.c\0\0";
        let error = ServerError::parse(body).into_error();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(sqlstate(&error), Some("28P01"));
        assert_eq!(sqlstate(&error.context("log in")), Some("28P01"));
    }

    #[test]
    fn broken_bodies_are_read_as_far_as_they_go() {
        for body in [&b""[..], b"\0", b"M", b"Mno end", b"C42501\0Mhalf"] {
            let _ = ServerError::parse(body).into_error();
        }
    }
}
