//! When the server refuses the rows of one table, or they are damaged in the backup.
//!
//! They are tried once more with the source's `search_path` where that may be the reason. What fails then costs only its
//! table if the restore is to keep going: the table stays empty, is named, and everything else comes back.

use super::load::{Loaded, TableData, Unit, load};
use super::locale_override::is_untranslatable;
use super::statements::FailedItem;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::report::{Note, SharedReporter};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::search_path;
use crate::engines::postgres::session::search_path::may_rely_on_it;
use crate::engines::postgres::stored::large_objects;
use crate::engines::postgres::stored::text::Contents;
use crate::engines::postgres::wire::server_error::sqlstate;

/// Where a transaction of the caller is rolled back to.
const SAVEPOINT: &str = "\"wirevault rows\"";

/// Kind of a failed item that is the rows of a table.
pub(crate) const ROWS: &str = "TABLE DATA";

/// Loads a unit; after a refusal that may come from an empty `search_path`, once more with the source's. After an error the
/// connection is as it was before, unless it is dead.
pub(crate) async fn load_rows(
    connection: &mut Connection,
    contents: &Contents,
    table: &TableData,
    unit: &Unit,
    loaded: &Loaded,
    (reporter, task): (&SharedReporter, &str),
) -> Result<u64> {
    let within = connection.in_transaction();
    if within {
        connection.execute(&format!("SAVEPOINT {SAVEPOINT}")).await?;
    }
    let mut done = load(connection, contents, table, unit, loaded, reporter, task).await;
    if done.is_err() {
        take_back(connection, table, within).await?;
    }
    let path = contents.search_path.as_deref().filter(|_| table.pieces.is_none());
    if let (Err(first), Some(path)) = (&done, path)
        && may_rely_on_it(first)
        && !connection.is_dead()
    {
        search_path::set(connection, path).await?;
        let again = load(connection, contents, table, unit, loaded, reporter, task).await;
        if again.is_err() {
            take_back(connection, table, within).await?;
        }
        if !connection.is_dead() {
            search_path::set(connection, "").await?;
        }
        match again {
            Ok(rows) => {
                if loaded.relied_on_path(unit.table) {
                    let text = format!("rows were loaded with search_path {path}, on which its definitions rely");
                    reporter.note(task, Note::new("search-path", table.qualified(), text));
                }
                done = Ok(rows);
            }
            // What is still not found says less than where the search began.
            Err(second) if !may_rely_on_it(&second) || connection.is_dead() => done = Err(second),
            Err(_) => {}
        }
    }
    if within && !connection.is_dead() {
        connection.execute(&format!("RELEASE SAVEPOINT {SAVEPOINT}")).await?;
    }
    done
}

/// Ends what a failed load left open.
async fn take_back(connection: &mut Connection, table: &TableData, within: bool) -> Result<()> {
    if connection.is_dead() {
        return Ok(());
    }
    if within {
        return connection.execute(&format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}")).await;
    }
    if connection.in_transaction() {
        connection.execute("ROLLBACK").await?;
    }
    if table.pieces.is_some() {
        let sql = format!("DROP TABLE IF EXISTS {}", large_objects::STAGING);
        connection.execute(&sql).await?;
    }
    Ok(())
}

/// Returns whether a load failed for a reason of its table, so that others can still be loaded.
pub(crate) fn costs_only_its_table(error: &Error, connection: &Connection) -> bool {
    !connection.is_dead() && is_of_the_table(error)
}

fn is_of_the_table(error: &Error) -> bool {
    match sqlstate(error) {
        // A server without disk or memory, or one that ends: the next table would fare no better.
        Some(code) => !(code.starts_with("53") || code.starts_with("57") || code == "58030"),
        None => matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound),
    }
}

/// Empties a table that is loaded in part only; returns how many of its rows stay all the same.
pub(crate) async fn empty(connection: &mut Connection, table: &TableData, rows: u64) -> Result<u64> {
    // Elsewhere there are rows of others: of the extension, of other partitions.
    let own = table.pieces.is_none() && table.filter.is_none() && table.root.is_none();
    if !own {
        return Ok(rows);
    }
    match connection
        .execute(&format!("TRUNCATE TABLE ONLY {}", table.qualified()))
        .await
    {
        Ok(()) => Ok(0),
        Err(error) if connection.is_dead() => Err(error),
        Err(_) => Ok(rows),
    }
}

/// Says of rows that are not there, or not as they should be, what a person can do.
pub(crate) fn failed_rows(table: &TableData, error: &Error, rows: u64) -> FailedItem {
    let state = if rows == 0 {
        "None of its rows were restored.".to_owned()
    } else {
        format!("{rows} of its {} rows were restored.", table.record.rows.unwrap_or(0))
    };
    let why = if may_rely_on_it(error) {
        " If a function relies on search_path, restore again with --search-path SCHEMA,…;"
    } else {
        " After fixing the cause,"
    };
    let way = match table.pieces {
        Some(_) => "restore again into another database".to_owned(),
        None => format!(
            "load it by --data-only --clean --table '{}.{}'",
            table.schema, table.name
        ),
    };
    let (kind, name) = match table.pieces {
        Some(_) => ("LARGE OBJECTS", "large objects".to_owned()),
        None => (ROWS, format!("{}.{}", table.schema, table.name)),
    };
    FailedItem {
        kind: kind.to_owned(),
        name,
        error: error.chain(),
        advice: format!("{state}{why} {}{way}", if may_rely_on_it(error) { "or " } else { "" }),
        excuse: None,
    }
}

/// Names the ways on to whoever had a restore ended by one table; a table that could not be created is the reason why its
/// rows cannot be loaded.
pub(crate) fn ways_on(error: Error, failed: &[FailedItem]) -> Error {
    if !is_of_the_table(&error) {
        return error;
    }
    let mut hint = "--keep-going restores everything else and exits with code 2; --exclude-table-data TABLE leaves \
                    its rows out."
        .to_owned();
    if may_rely_on_it(&error) {
        hint.push_str(" Where a function relies on search_path: --search-path SCHEMA,…");
    }
    if is_untranslatable(sqlstate(&error)) {
        hint.push_str(" A database in the source's encoding takes every row.");
    }
    if let Some(first) = failed.first() {
        let (count, kind, name, why) = (failed.len(), &first.kind, &first.name, &first.error);
        hint.push_str(&format!(
            " {count} statements failed before the data, first {kind} {name}: {why}"
        ));
    }
    error.with_hint_instead(hint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::postgres::wire::server_error::ServerError;

    fn refusal(code: &str) -> Error {
        let error = ServerError {
            code: code.to_owned(),
            hint: Some("You might need to add explicit type casts.".to_owned()),
            ..ServerError::default()
        };
        error.into_error().context("load table \"public\".\"t\"")
    }

    #[test]
    fn a_full_disk_is_not_of_one_table() {
        assert!(is_of_the_table(&refusal("42883")) && is_of_the_table(&refusal("58P01")));
        assert!(!is_of_the_table(&refusal("53100")) && !is_of_the_table(&refusal("57P01")));
        assert!(is_of_the_table(&Error::corrupt("a chunk")));
        assert!(!is_of_the_table(&Error::new(ErrorKind::Unavailable, "the store")));
    }

    #[test]
    fn the_way_on_is_said_whatever_the_server_hints_at() {
        let error = ways_on(refusal("42883"), &[]);
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("--keep-going") && hint.contains("--search-path"),
            "{hint}"
        );
        let hint = ways_on(refusal("22P02"), &[]).hint().unwrap().to_owned();
        assert!(
            hint.contains("--keep-going") && !hint.contains("--search-path"),
            "{hint}"
        );
    }
}
