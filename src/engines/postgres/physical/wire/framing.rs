//! What `BASE_BACKUP` sends as COPY data, from PostgreSQL 15 on: messages that begin with a letter.
//!
//! `n` begins an archive (its name, and where its tablespace lies), `m` the backup manifest; `d` are bytes of either; `p` says how
//! many bytes are done. <https://www.postgresql.org/docs/current/protocol-replication.html>

use crate::base::error::{Error, Result};
use crate::base::raw_text::from_bytes;
use crate::engines::postgres::wire::copy_out::RowPiece;

/// Bytes of a message other than `d` at most: a name and a path.
const MOST_BYTES: usize = 16 << 10;

/// A message, or a piece of one with data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'p> {
    /// An archive begins.
    Archive {
        /// `base.tar`, or the OID of a tablespace with `.tar`.
        name: String,
    },
    /// The backup manifest begins.
    Manifest,
    /// Bytes of what began last.
    Data(&'p [u8]),
}

/// Reads the letters in front of messages, which come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    letter: u8,
    body: Vec<u8>,
}

impl Framing {
    /// Takes the next piece of a message.
    pub(crate) fn take<'p>(&mut self, piece: &RowPiece<'p>) -> Result<Option<Part<'p>>> {
        let mut bytes = piece.bytes;
        if piece.starts.is_some() {
            let (letter, rest) = bytes.split_first().ok_or_else(|| broken("an empty message"))?;
            (self.letter, bytes) = (*letter, rest);
            self.body.clear();
        }
        if self.letter == b'd' {
            return Ok((!bytes.is_empty()).then_some(Part::Data(bytes)));
        }
        if self.body.len().saturating_add(bytes.len()) > MOST_BYTES {
            return Err(broken("a message that is too long"));
        }
        self.body.extend_from_slice(bytes);
        if !piece.ends {
            return Ok(None);
        }
        match self.letter {
            b'n' => {
                let mut parts = self.body.split(|byte| *byte == 0);
                // Where a tablespace lies stands in the rows in front.
                let (Some(name), Some(_), Some([]), None) = (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    return Err(broken("an archive without a name"));
                };
                Ok(Some(Part::Archive {
                    name: from_bytes(name).into_owned(),
                }))
            }
            b'm' => Ok(Some(Part::Manifest)),
            // Bytes that are done; they are counted here.
            b'p' => Ok(None),
            other => Err(broken(&format!("a message '{}'", other.escape_ascii()))),
        }
    }
}

fn broken(what: &str) -> Error {
    Error::corrupt(format!("the server's base backup has {what}"))
        .with_hint("The connection is damaged, or the peer is not PostgreSQL. Nothing of this base is stored.")
}

/// Returns the OID in the name of an archive, and nothing for the data directory's.
pub(crate) fn tablespace_of(name: &str) -> Result<Option<u32>> {
    let stem = name.strip_suffix(".tar");
    match stem {
        Some("base") => Ok(None),
        Some(stem) if !stem.starts_with(['+', '0']) => stem.parse().ok().map(Some).ok_or_else(|| strange(name)),
        _ => Err(strange(name)),
    }
}

fn strange(name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    broken(&format!("an archive called \"{}\"", shown.escape_debug()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn take(messages: &[&[u8]], step: usize) -> Result<Vec<String>> {
        let mut framing = Framing::default();
        let (mut found, mut data) = (Vec::new(), String::new());
        for message in messages {
            let mut at = 0;
            loop {
                let end = (at + step).min(message.len());
                let piece = RowPiece {
                    bytes: &message[at..end],
                    starts: (at == 0).then_some(message.len()),
                    ends: end == message.len(),
                };
                match framing.take(&piece)? {
                    Some(Part::Data(bytes)) => data.push_str(std::str::from_utf8(bytes).unwrap()),
                    Some(other) => found.push(format!("{}{other:?}", std::mem::take(&mut data))),
                    None => {}
                }
                at = end;
                if at == message.len() {
                    break;
                }
            }
        }
        found.push(data);
        Ok(found)
    }

    #[test]
    fn messages_are_read_in_pieces() {
        let messages: [&[u8]; 7] = [
            b"n16385.tar\0/mnt/fast\0",
            b"dabc",
            b"d",
            b"p\0\0\0\0\0\0\0\x03",
            b"ddef",
            b"m",
            b"d{ }",
        ];
        for step in 1..30 {
            let found = take(&messages, step).unwrap();
            assert_eq!(found.len(), 3);
            assert!(found[0].contains("16385.tar"));
            assert_eq!((found[1].as_str(), found[2].as_str()), ("abcdefManifest", "{ }"));
        }
        let long = "n".repeat(20_000);
        for bad in [
            &b"x"[..],
            b"",
            b"nbase.tar",
            b"nbase.tar\0",
            b"na\0b\0c\0",
            long.as_bytes(),
        ] {
            assert!(take(&[bad], 50).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn archives_are_of_the_data_directory_or_of_a_tablespace() {
        assert_eq!(tablespace_of("base.tar").unwrap(), None);
        assert_eq!(tablespace_of("16385.tar").unwrap(), Some(16385));
        for bad in ["", "base", "x.tar", "../1.tar", "+1.tar", "01.tar", "99999999999.tar"] {
            assert!(tablespace_of(bad).is_err(), "{bad}");
        }
    }
}
