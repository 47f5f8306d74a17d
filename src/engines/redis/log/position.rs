//! Places in the histories of servers.

use std::fmt;
use std::str::FromStr;

use crate::base::error::{Error, Result};

/// The name of one history of a server: 40 hex digits. A server gets a new one when it becomes a primary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct ReplicationId(String);

impl ReplicationId {
    /// Returns it as the server prints it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ReplicationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 40 && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        let text: String = text.chars().take(64).collect();
        Err(
            Error::corrupt(format!("\"{}\" is no replication ID", text.escape_debug()))
                .with_hint("A replication ID has 40 hex digits; INFO replication shows it as master_replid."),
        )
    }
}

/// A place in a history: so many bytes of its stream lie before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    /// The history.
    pub(crate) id: ReplicationId,
    /// Bytes before it.
    pub(crate) offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.offset)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::corrupt("it is no replication ID and offset, as ID:OFFSET");
        let (id, offset) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            id: id.parse()?,
            offset: offset_of(offset)?,
        })
    }
}

/// Reads an offset: decimal digits alone. The largest is that of the server's signed numbers.
pub(crate) fn offset_of(text: &str) -> Result<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = text.parse().ok().filter(|offset| *offset <= MAX_OFFSET && digits);
    let text: String = text.chars().take(64).collect();
    offset.ok_or_else(|| Error::corrupt(format!("\"{}\" is no replication offset", text.escape_debug())))
}

/// Offsets are signed numbers in the server.
const MAX_OFFSET: u64 = i64::MAX.cast_unsigned();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_go_both_ways_and_others_are_refused() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let position: Position = format!("{id}:42").parse().unwrap();
        assert_eq!((position.id.as_str(), position.offset), (id, 42));
        assert_eq!(position.to_string(), format!("{id}:42"));
        for wrong in [
            "",
            id,
            &format!("{id}:"),
            &format!("{id}:-1"),
            &format!("{id}:+1"),
            &format!("{id}:9223372036854775808"),
            &format!("{}:1", id.to_uppercase()),
            &format!("../{id}:1"),
        ] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
