//! Finds what was redefined behind a snapshot.
//!
//! The server prints definitions, and the labels of enums and the names of types within rows, from its newest catalogs. A catalog
//! row of the snapshot that somebody replaced or deleted meanwhile carries that transaction (`xmax`); whether it was rolled
//! back is seen by a session without the snapshot: the row is still there then.

use tokio_postgres::Client;

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::connection::Connection;

/// A catalog of which rows are compared.
struct Catalog {
    name: &'static str,
    /// Condition on its row `o`: objects of sessions come and go, and are in no backup.
    filter: &'static str,
    /// Whether the text of rows may change with it.
    rows: bool,
}

const NOT_TEMPORARY: &str =
    "NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^pg_(toast_)?temp_')";

/// Everything that is not held in place by the locks on tables.
const CATALOGS: [Catalog; 13] = [
    catalog("pg_namespace", "o.nspname !~ '^pg_'", false),
    catalog("pg_type", "o.typnamespace NOT_TEMPORARY", false),
    catalog("pg_enum", "true", true),
    catalog("pg_proc", "o.pronamespace NOT_TEMPORARY", false),
    catalog("pg_operator", "true", false),
    catalog("pg_collation", "true", false),
    catalog("pg_cast", "true", false),
    catalog("pg_extension", "true", false),
    catalog("pg_foreign_server", "true", false),
    // A matview that is refreshed has a row of its own anew, and so has a sequence that begins again: neither is redefined.
    catalog(
        "pg_class",
        "o.relkind IN ('v', 'f') AND o.relnamespace NOT_TEMPORARY",
        false,
    ),
    catalog("pg_class", "o.relkind = 'c' AND o.relnamespace NOT_TEMPORARY", true),
    catalog(
        "pg_attribute",
        "o.attrelid IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'c' AND c.relnamespace NOT_TEMPORARY)",
        true,
    ),
    catalog(
        "pg_rewrite",
        "o.ev_class IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace NOT_TEMPORARY)",
        false,
    ),
];

const fn catalog(name: &'static str, filter: &'static str, rows: bool) -> Catalog {
    Catalog { name, filter, rows }
}

impl Catalog {
    /// Returns what tells a row from all others, and from its later versions.
    fn key(&self) -> &'static str {
        if self.name == "pg_attribute" {
            "pg_catalog.concat_ws(' ', o.attrelid, o.attnum, o.xmin)"
        } else {
            "pg_catalog.concat_ws(' ', o.oid, o.xmin)"
        }
    }

    fn from(&self) -> String {
        let filter = self.filter.replace("NOT_TEMPORARY", NOT_TEMPORARY);
        format!("FROM pg_catalog.{} o WHERE {filter}", self.name)
    }
}

/// Returns the catalogs of which rows were replaced or deleted since the client's snapshot; with `of_rows` only those that the
/// text of rows rests on. The scout has no snapshot.
pub(crate) async fn moved(client: &Client, scout: &mut Connection, of_rows: bool) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for catalog in CATALOGS.iter().filter(|c| c.rows || !of_rows) {
        let act = || format!("look for changes in {}", catalog.name);
        let sql = format!("SELECT {} AS key {} AND o.xmax <> 0", catalog.key(), catalog.from());
        let rows = client.query(&sql, &[]).await.map_err(client_error).with_context(act)?;
        let keys: Vec<String> = rows
            .iter()
            .map(|row| row.try_get("key").map_err(client_error))
            .collect::<Result<_>>()?;
        for keys in keys.chunks(1000) {
            // Keys are numbers.
            let list: Vec<String> = keys.iter().map(|key| format!("'{key}'")).collect();
            let sql = format!(
                "SELECT pg_catalog.count(*) FROM pg_catalog.{} o WHERE {} IN ({})",
                catalog.name,
                catalog.key(),
                list.join(", ")
            );
            let still = scout.query(&sql).await.with_context(act)?;
            if still.scalar() != Some(keys.len().to_string().as_str()) {
                found.push(catalog.name);
                break;
            }
        }
    }
    found.dedup();
    Ok(found)
}
