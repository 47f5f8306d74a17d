//! Queries with errors in our words, and typed columns without panics.

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use crate::error::{Error, ErrorKind, Result};

/// Maps a server or connection error; concurrent DDL gets the hint it deserves.
pub(super) fn failed(act: &str, cause: tokio_postgres::Error) -> Error {
    let text = cause
        .as_db_error()
        .map(|e| format!("{} ({})", e.message(), e.code().code()));
    let concurrent = text
        .as_deref()
        .is_some_and(|t| t.contains("cache lookup failed") || t.contains("could not open relation"));
    let denied = cause.code().is_some_and(|c| c.code() == "42501");
    let kind = match (denied, cause.is_closed() || cause.as_db_error().is_none()) {
        (true, _) => ErrorKind::Denied,
        (_, true) => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    let mut error = Error::new(kind, format!("unable to read {act}"));
    error = match text {
        Some(text) => error.with_cause(Error::new(kind, text).with_cause(cause)),
        None => error.with_cause(cause),
    };
    if concurrent {
        error = error.with_hint("The schema was changed while it was read; run the backup again.");
    }
    error
}

/// Runs a query and collects its rows.
pub(super) async fn query(client: &Client, act: &str, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    client.query(sql, params).await.map_err(|e| failed(act, e))
}

/// Column access without panics.
pub(super) trait Columns {
    /// Returns column `at`.
    fn col<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T>;

    /// Returns a text column that is never null.
    fn text(&self, at: usize) -> Result<String> {
        self.col(at)
    }

    /// Returns a text column.
    fn opt(&self, at: usize) -> Result<Option<String>> {
        self.col(at)
    }

    /// Returns an oid column.
    fn oid(&self, at: usize) -> Result<u32> {
        self.col(at)
    }

    /// Returns a boolean column that is never null.
    fn flag(&self, at: usize) -> Result<bool> {
        self.col(at)
    }

    /// Returns a text array; null is empty.
    fn list(&self, at: usize) -> Result<Vec<String>> {
        Ok(self.col::<Option<Vec<String>>>(at)?.unwrap_or_default())
    }
}

impl Columns for Row {
    fn col<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T> {
        self.try_get(at)
            .map_err(|e| Error::corrupt(format!("unexpected catalog row, column {at}")).with_cause(e))
    }
}
