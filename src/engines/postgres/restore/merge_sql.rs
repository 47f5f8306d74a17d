//! What a person does next with tables that stand beside the living ones: SQL that works with every kind of key.
//!
//! Missing rows are those whose key the living table does not have; without a key, those that it does not have at all. Generated
//! columns compute themselves; identity columns keep their values.

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};
use crate::engines::postgres::sql::template::with_names;

const COLUMNS: &str = include_str!("sql/common_columns.sql");

/// Returns the statement that copies a table's missing rows into the living one; none if the living one is not there, or has no
/// column in common.
pub(crate) async fn merge(
    connection: &mut Connection,
    (schema, name): (&str, &str),
    beside: &str,
) -> Result<Option<String>> {
    let (living, twin) = (qualified(schema, name), qualified(beside, name));
    let names = [("twin", &literal(&twin)), ("living", &literal(&living))];
    let sql = with_names(COLUMNS, &names.map(|(name, value)| (name, value.as_str())));
    let found = connection
        .query(&sql)
        .await
        .with_context(|| format!("inspect table {living}"))?;
    let (mut all, mut has_identity, mut key) = (Vec::new(), false, Vec::new());
    for row in found.named() {
        let name = row.text("name")?;
        all.push(name);
        has_identity |= row.flag("is_identity")?;
        if row.flag("in_key")? {
            key.push(name);
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let list = all.join(", ");
    let overriding = if has_identity { " OVERRIDING SYSTEM VALUE" } else { "" };
    let missing = if key.is_empty() {
        let row = |of: &str| {
            let columns: Vec<String> = all.iter().map(|c| format!("{of}.{c}")).collect();
            format!("ROW({})::text", columns.join(", "))
        };
        format!(
            "AS n WHERE NOT EXISTS (SELECT FROM {living} AS o WHERE {} = {})",
            row("o"),
            row("n")
        )
    } else {
        format!("AS n ON CONFLICT ({}) DO NOTHING", key.join(", "))
    };
    Ok(Some(format!(
        "INSERT INTO {living} ({list}){overriding} SELECT {list} FROM {twin} {missing};"
    )))
}

/// Returns the statement that takes the twins away.
pub(crate) fn drop_twins(beside: &str) -> String {
    format!("DROP SCHEMA {} CASCADE;", quote_ident(beside))
}
