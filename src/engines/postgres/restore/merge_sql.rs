//! What a person does next with tables that stand beside the living ones: SQL that works with every kind of key.
//!
//! Missing rows are those whose key the living table does not have; without a key, those that it does not have at all. Generated
//! columns compute themselves; identity columns keep their values.

use super::replace::rows;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

/// Returns the statement that copies a table's missing rows into the living one; none if the living one is not there, or has no
/// column in common.
pub(crate) async fn merge(
    connection: &mut Connection,
    (schema, name): (&str, &str),
    beside: &str,
) -> Result<Option<String>> {
    let (living, twin) = (qualified(schema, name), qualified(beside, name));
    let sql = format!(
        "SELECT pg_catalog.quote_ident(a.attname), a.attidentity <> '', EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid \
         AND i.indisprimary AND i.indimmediate AND i.indisvalid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute t ON t.attname = a.attname AND t.attrelid = pg_catalog.to_regclass({}) \
         AND t.attnum > 0 AND NOT t.attisdropped WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.attgenerated = '' ORDER BY a.attnum",
        literal(&twin),
        literal(&living)
    );
    let columns = rows(connection, &sql)
        .await
        .with_context(|| format!("inspect table {living}"))?;
    let named = |at: usize| -> Vec<&str> {
        let wanted = columns
            .iter()
            .filter(|c| at == 0 || c.get(at).is_some_and(|v| v == "t"));
        wanted.filter_map(|c| c.first()).map(String::as_str).collect()
    };
    let (all, identity, key) = (named(0), named(1), named(2));
    if all.is_empty() {
        return Ok(None);
    }
    let list = all.join(", ");
    let overriding = if identity.is_empty() {
        ""
    } else {
        " OVERRIDING SYSTEM VALUE"
    };
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
