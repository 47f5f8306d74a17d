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

/// Column access without panics. Columns are named as the queries of the `.sql` files name them.
pub(super) trait Columns {
    /// Returns a column by its name.
    fn col<'a, T: FromSql<'a>>(&'a self, name: &str) -> Result<T>;

    /// Returns a text column that is never null.
    fn text(&self, name: &str) -> Result<String> {
        Ok(self.col::<RawText>(name)?.0)
    }

    /// Returns a text column.
    fn opt(&self, name: &str) -> Result<Option<String>> {
        Ok(self.col::<Option<RawText>>(name)?.map(|text| text.0))
    }

    /// Returns an oid column.
    fn oid(&self, name: &str) -> Result<u32> {
        self.col(name)
    }

    /// Returns a boolean column that is never null.
    fn flag(&self, name: &str) -> Result<bool> {
        self.col(name)
    }

    /// Returns a text array; null is empty.
    fn list(&self, name: &str) -> Result<Vec<String>> {
        let list = self.col::<Option<Vec<RawText>>>(name)?.unwrap_or_default();
        Ok(list.into_iter().map(|text| text.0).collect())
    }
}

impl Columns for Row {
    fn col<'a, T: FromSql<'a>>(&'a self, name: &str) -> Result<T> {
        self.try_get(name)
            .map_err(|e| Error::corrupt(format!("unexpected catalog row, column \"{name}\"")).with_cause(e))
    }
}
