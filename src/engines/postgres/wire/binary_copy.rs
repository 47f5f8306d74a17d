//! The two formats of COPY, and what frames the rows in the binary one.
//!
//! The server sends the file header in one message with the first row (or with the trailer, if there is no row), and
//! the trailer as a message of its own. [`RowImages`] takes both away and checks them, so that what is stored, counted
//! and digested are rows. The archive puts one header before a table's first row and one trailer after its last.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>

use super::copy_out::RowPiece;
use crate::base::error::{Error, Result};
use crate::base::exact;

/// Signature, flags and length of the (empty) extension area.
pub(crate) const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A field count of -1.
pub(crate) const TRAILER: [u8; 2] = [0xff; 2];

/// How COPY writes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CopyFormat {
    /// Lines with escapes: readable everywhere.
    #[default]
    Text,
    /// Types' own binary images: only for columns of the allow-list.
    Binary,
}

impl CopyFormat {
    /// Returns what stands behind `TO STDOUT` or `FROM STDIN`; `more` holds further options.
    pub(crate) fn options(self, more: &[&str]) -> String {
        let mut options: Vec<&str> = more.to_vec();
        if self == Self::Binary {
            options.insert(0, "FORMAT binary");
        }
        if options.is_empty() {
            String::new()
        } else {
            format!(" WITH ({})", options.join(", "))
        }
    }
}

/// Takes rows out of what COPY OUT sends.
#[derive(Debug)]
pub(crate) struct RowImages {
    format: CopyFormat,
    /// Bytes of the header that have arrived.
    header: usize,
    /// Length of the row that is to begin, if the header came before it in the same message.
    begins: Option<usize>,
    /// Bytes of the trailer that have arrived; none if this is not the trailer.
    trailer: Option<usize>,
    ended: bool,
}

impl RowImages {
    pub(crate) fn new(format: CopyFormat) -> Self {
        Self {
            format,
            header: 0,
            begins: None,
            trailer: None,
            ended: false,
        }
    }

    /// Returns the rows' share of a piece: none if it was header or trailer.
    pub(crate) fn take<'a>(&mut self, piece: RowPiece<'a>) -> Result<Option<RowPiece<'a>>> {
        if self.format == CopyFormat::Text {
            return Ok(Some(piece));
        }
        let RowPiece {
            mut bytes,
            starts,
            ends,
        } = piece;
        if let Some(mut length) = starts {
            if self.ended {
                return Err(Error::corrupt("binary COPY goes on after its trailer"));
            }
            if self.header < HEADER.len() {
                length = length
                    .checked_sub(HEADER.len())
                    .ok_or_else(|| Error::corrupt("binary COPY does not begin with its header"))?;
            }
            // The shortest row with a column is longer; tables without columns are copied as text.
            match length {
                0 if self.header < HEADER.len() => {}
                2 => self.trailer = Some(0),
                _ => self.begins = Some(length),
            }
        }
        if self.header < HEADER.len() {
            let expected = exact::part(&HEADER, self.header.., "no more of it came than there is");
            let (head, rest) = bytes.split_at(bytes.len().min(expected.len()));
            if !expected.starts_with(head) {
                return Err(Error::unsupported("the server's binary COPY has another header"));
            }
            self.header += head.len();
            bytes = rest;
            if bytes.is_empty() {
                return Ok(None);
            }
        }
        if let Some(have) = self.trailer {
            if !exact::part(&TRAILER, have.., "what came is how it begins").starts_with(bytes) {
                return Err(Error::corrupt("binary COPY ends with another trailer"));
            }
            self.trailer = Some(have + bytes.len());
            self.ended = ends && have + bytes.len() == TRAILER.len();
            return Ok(None);
        }
        let starts = self.begins.take();
        Ok(Some(RowPiece { bytes, starts, ends }))
    }

    /// Checks that nothing is missing.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.format == CopyFormat::Binary && !self.ended {
            return Err(Error::corrupt("binary COPY ended without its trailer"));
        }
        Ok(())
    }

    /// Returns the piece's share of the row's image: the line without its newline in text format, all of it in binary.
    pub(crate) fn image<'a>(&self, piece: &RowPiece<'a>) -> Result<&'a [u8]> {
        if self.format == CopyFormat::Binary || !piece.ends {
            return Ok(piece.bytes);
        }
        piece
            .bytes
            .strip_suffix(b"\n")
            .ok_or_else(|| Error::corrupt("a row of COPY in text format does not end with a newline"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Gives messages to a reader, each in pieces of `size` bytes; returns the rows.
    fn rows(messages: &[Vec<u8>], size: usize) -> Result<Vec<Vec<u8>>> {
        let mut images = RowImages::new(CopyFormat::Binary);
        let (mut rows, mut row, mut announced) = (Vec::new(), Vec::new(), None);
        for message in messages {
            let count = message.len().div_ceil(size);
            for (at, bytes) in message.chunks(size).enumerate() {
                let piece = RowPiece {
                    bytes,
                    starts: (at == 0).then_some(message.len()),
                    ends: at + 1 == count,
                };
                let Some(piece) = images.take(piece)? else { continue };
                if piece.starts.is_some() {
                    assert!(row.is_empty());
                    announced = piece.starts;
                }
                row.extend_from_slice(images.image(&piece)?);
                if piece.ends {
                    assert_eq!(announced, Some(row.len()));
                    rows.push(std::mem::take(&mut row));
                }
            }
        }
        images.finish()?;
        Ok(rows)
    }

    #[test]
    fn header_and_trailer_are_taken_away_however_the_bytes_arrive() {
        let row = b"\0\x01\0\0\0\x04\xff\xff\xff\xff".to_vec();
        let first = [&HEADER[..], &row].concat();
        let trailer = TRAILER.to_vec();
        let lone = [&HEADER[..], &TRAILER].concat();
        for size in [1, 2, 7, 18, 19, 20, 1000] {
            let messages = [first.clone(), row.clone(), trailer.clone()];
            assert_eq!(rows(&messages, size).unwrap(), [row.clone(), row.clone()], "{size}");
            assert!(rows(std::slice::from_ref(&lone), size).unwrap().is_empty());
            assert!(
                rows(&messages[..2], size).is_err(),
                "without the trailer something is missing"
            );
            assert!(rows(&messages[1..], size).is_err(), "without the header too");
        }
    }
}
