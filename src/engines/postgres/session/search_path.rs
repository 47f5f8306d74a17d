//! Names that a definition leaves to `search_path`: a check, a generated column or an index may call a function whose body
//! names another one without its schema.
//!
//! Everything that a backup holds is qualified, so a restore runs with an empty path. What the server refuses then, and may
//! refuse for that reason, is tried once more with the path that the source's own sessions had; a path that the operator
//! names holds for the whole restore instead.

use crate::base::error::{Context as _, Error, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::wire::server_error::sqlstate;

/// The path of a server where nobody set another one.
pub(crate) const BUILT_IN: &str = "\"$user\", public";

/// Returns whether a refusal may come from a name that was not found in an empty path: it was not, a check or a function
/// was of another opinion without it.
pub(crate) fn may_rely_on_it(error: &Error) -> bool {
    matches!(
        sqlstate(error),
        Some("42883" | "42P01" | "42703" | "42704" | "3F000" | "42P02" | "23514" | "P0001")
    )
}

/// Returns the value of `search_path` that names these schemas.
pub(crate) fn of_schemas(schemas: &[String]) -> String {
    let schemas: Vec<String> = schemas.iter().map(|s| quote_ident(s)).collect();
    schemas.join(", ")
}

/// Sets the path of a session; within a transaction until that is rolled back.
pub(crate) async fn set(connection: &mut Connection, path: &str) -> Result<()> {
    let sql = format!("SELECT pg_catalog.set_config('search_path', {}, false)", literal(path));
    connection.execute(&sql).await.context("set search_path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_quoted_one_by_one() {
        let schemas = ["public", "My App", "$user"].map(str::to_owned);
        assert_eq!(of_schemas(&schemas), "\"public\", \"My App\", \"$user\"");
    }
}
