//! Rows of the simple query protocol, by the names of their columns.

use std::str::FromStr;

use crate::base::error::{Error, Result};
use crate::base::raw_text::from_bytes;

/// One row of text. Columns are named as the query names them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextRow<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl<'a> TextRow<'a> {
    pub(crate) fn new(columns: &'a [String], values: &'a [Option<String>]) -> Self {
        Self { columns, values }
    }

    /// Returns a column that may be null.
    pub(crate) fn opt(&self, name: &str) -> Result<Option<&'a str>> {
        let value = self
            .columns
            .iter()
            .position(|column| column == name)
            .and_then(|at| self.values.get(at));
        Ok(value.ok_or_else(|| unexpected(name))?.as_deref())
    }

    /// Returns a column; null is an empty text.
    pub(crate) fn text(&self, name: &str) -> Result<&'a str> {
        Ok(self.opt(name)?.unwrap_or_default())
    }

    /// Returns a boolean column; null is false, and what is neither `t` nor `f` an error.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        match self.opt(name)? {
            Some("t") => Ok(true),
            Some("f") | None => Ok(false),
            Some(_) => Err(unexpected(name)),
        }
    }

    /// Returns a column of a number; none for null.
    pub(crate) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>> {
        let Some(text) = self.opt(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| unexpected(name))
    }
}

fn unexpected(name: &str) -> Error {
    Error::corrupt(format!("unexpected row from the server, column \"{name}\""))
}

/// Reads the names of a RowDescription message: a count of two bytes; each column is a name that ends with a zero byte, and 18 bytes about
/// its origin and type (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
pub(crate) fn column_names(body: &[u8]) -> Result<Vec<String>> {
    let broken = || Error::corrupt("a description of rows from the server has wrong lengths");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
    let mut names = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|&byte| byte == 0).ok_or_else(broken)?;
        let (name, tail) = rest.split_at_checked(end).ok_or_else(broken)?;
        names.push(from_bytes(name).into_owned());
        let (_, tail) = tail.split_first_chunk::<19>().ok_or_else(broken)?;
        rest = tail;
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn names_are_read_and_whatever_is_cut_is_an_error() {
        let body = [b"\0\x02oid\0".as_slice(), &[7; 18], b"n\0", &[0; 18]].concat();
        assert_eq!(column_names(&body).unwrap(), ["oid", "n"]);
        for length in 0..body.len() {
            let error = column_names(body.get(..length).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
        }
    }

    #[test]
    fn a_column_is_found_by_its_name_and_an_error_says_which() {
        let columns = ["oid", "name", "open"].map(str::to_owned);
        let values = [Some("12".to_owned()), None, Some("t".to_owned())];
        let row = TextRow::new(&columns, &values);
        assert_eq!(row.number::<u32>("oid").unwrap(), Some(12));
        assert_eq!(row.opt("name").unwrap(), None);
        assert_eq!(row.text("name").unwrap(), "");
        assert!(row.flag("open").unwrap());
        assert!(!row.flag("name").unwrap());
        assert!(row.flag("oid").is_err());
        let missing = row.text("owner").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Corrupt);
        assert!(missing.to_string().contains("\"owner\""), "{missing}");
        assert!(row.number::<u32>("open").is_err());
    }
}
