//! Options that a server stores with columns, tables, views and indexes as `name=value`: which ones a backup carries.
//!
//! A server may keep records of its own among them: 15.20 notes a version of every column as `pg_attver`, which pg_dump leaves
//! out and no other server accepts. So options are carried by list. One that the list does not know is named and not written: the table
//! comes back without it, which is better than no table at all.

use super::write::Context;
use crate::engines::postgres::sql::clean::COLUMN_OPTIONS;
use crate::engines::postgres::sql::quote::options_list;

/// What the options belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A column of a table: <https://www.postgresql.org/docs/current/sql-altertable.html>.
    Column,
    /// A table, materialized view, or the TOAST table of one: <https://www.postgresql.org/docs/current/sql-createtable.html>.
    Table,
    /// A view: <https://www.postgresql.org/docs/current/sql-createview.html>.
    View,
    /// The B-tree of a key: <https://www.postgresql.org/docs/current/sql-createindex.html>.
    Key,
}

/// Options of tables beside those that begin with [`AUTOVACUUM`]; those of every version from 13 on.
const TABLE_OPTIONS: [&str; 9] = [
    "fillfactor",
    "log_autoanalyze_min_duration",
    "log_autovacuum_min_duration",
    "parallel_workers",
    "toast_tuple_target",
    "user_catalog_table",
    "vacuum_index_cleanup",
    "vacuum_max_eager_freeze_failure_rate",
    "vacuum_truncate",
];

const AUTOVACUUM: &str = "autovacuum_";

const VIEW_OPTIONS: [&str; 3] = ["check_option", "security_barrier", "security_invoker"];

/// The last one is of 13 alone.
const KEY_OPTIONS: [&str; 3] = ["deduplicate_items", "fillfactor", "vacuum_cleanup_index_scale_factor"];

/// Records of the server's own, which nobody set and nobody misses.
const INTERNAL: [&str; 1] = ["pg_attver"];

impl Of {
    fn knows(self, name: &str) -> bool {
        match self {
            Self::Column => COLUMN_OPTIONS.contains(&name),
            Self::Table => TABLE_OPTIONS.contains(&name) || name.starts_with(AUTOVACUUM),
            Self::View => VIEW_OPTIONS.contains(&name),
            Self::Key => KEY_OPTIONS.contains(&name),
        }
    }
}

/// Splits stored options into those that are carried and the names of those that have to be told.
fn split(of: Of, stored: Vec<String>) -> (Vec<String>, Vec<String>) {
    let name = |option: &str| option.split_once('=').map_or(option, |(name, _)| name).to_owned();
    let (known, unknown): (Vec<String>, Vec<String>) = stored.into_iter().partition(|o| of.knows(&name(o)));
    let told = unknown
        .iter()
        .map(|o| name(o))
        .filter(|n| !INTERNAL.contains(&n.as_str()));
    (known, told.collect())
}

/// Returns the options that are carried; tells the others of `object`.
pub(super) fn known(context: &Context<'_>, of: Of, stored: Vec<String>, object: &str) -> Vec<String> {
    let (known, unknown) = split(of, stored);
    for name in unknown {
        context.graph.note_collector.add(
            "unknown-option",
            format!("option \"{name}\" is not a PostgreSQL option and is not in this backup"),
            object,
        );
    }
    known
}

/// Returns the options of a table or materialized view and of its TOAST table, as they stand within `WITH (…)`; empty for none.
pub(super) fn of_table(context: &Context<'_>, own: Vec<String>, toast: Vec<String>, object: &str) -> String {
    let mut lists = vec![
        options_list(&known(context, Of::Table, own, object), ""),
        of_toast(context, toast, object),
    ];
    lists.retain(|l| !l.is_empty());
    lists.join(", ")
}

/// Returns the options of a TOAST table as the table that it belongs to names them; empty for none.
pub(super) fn of_toast(context: &Context<'_>, toast: Vec<String>, object: &str) -> String {
    options_list(&known(context, Of::Table, toast, object), "toast.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_keeps_for_itself_is_dropped_and_what_nobody_knows_is_told() {
        let stored = ["pg_attver=22158912", "n_distinct=-0.5", "colour=red"].map(str::to_owned);
        let (known, unknown) = split(Of::Column, stored.to_vec());
        assert_eq!(known, ["n_distinct=-0.5"]);
        assert_eq!(unknown, ["colour"]);
        let stored = ["autovacuum_enabled=off", "fillfactor=70", "pg_relver=1"].map(str::to_owned);
        let (known, unknown) = split(Of::Table, stored.to_vec());
        assert_eq!(known.len(), 2);
        assert_eq!(unknown, ["pg_relver"]);
    }
}
