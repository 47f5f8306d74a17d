//! Queries with errors in our words, and typed columns without panics.

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use crate::base::error::{Error, Result};
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::wire::raw_text::RawText;
use crate::engines::postgres::wire::server_error::server_error;

/// Maps a server or connection error; concurrent DDL gets the hint it deserves.
pub(super) fn failed(act: &str, cause: tokio_postgres::Error) -> Error {
    let cause = client_error(cause);
    let concurrent = server_error(&cause)
        .is_some_and(|e| e.message.contains("cache lookup failed") || e.message.contains("could not open relation"));
    let error = Error::new(cause.kind(), format!("unable to read {act}")).with_cause(cause);
    if concurrent {
        return error.with_hint("The schema was changed while it was read; run the backup again.");
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
        Ok(self.col::<RawText>(at)?.0)
    }

    /// Returns a text column.
    fn opt(&self, at: usize) -> Result<Option<String>> {
        Ok(self.col::<Option<RawText>>(at)?.map(|text| text.0))
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
        let list = self.col::<Option<Vec<RawText>>>(at)?.unwrap_or_default();
        Ok(list.into_iter().map(|text| text.0).collect())
    }
}

impl Columns for Row {
    fn col<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T> {
        self.try_get(at)
            .map_err(|e| Error::corrupt(format!("unexpected catalog row, column {at}")).with_cause(e))
    }
}
