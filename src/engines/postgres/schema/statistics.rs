//! Planner statistics as calls of `pg_restore_relation_stats` and `pg_restore_attribute_stats`, which servers from 18 on have
//! (<https://www.postgresql.org/docs/18/functions-admin.html>). They are read from any version, through `pg_stats`.
//!
//! One item a table, with the expressions of its indexes; its weight is the count of rows that the statistics know of. A table
//! whose statistics we may not see in full, or that was never analysed, has no item: a restore analyses it. Values are
//! streamed, because those of one column may take megabytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::node::{Kind, flag};
use super::rows::{Columns, failed, query};
use super::{Graph, Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::quote::{literal, qualified};

/// Tables in one query.
const PAGE: usize = 500;

/// Columns of `pg_stats` as arguments: name, type, and the first version that has it.
const VALUES: [(&str, &str, i32); 14] = [
    ("inherited", "boolean", 0),
    ("null_frac", "real", 0),
    ("avg_width", "integer", 0),
    ("n_distinct", "real", 0),
    ("most_common_vals", "text", 0),
    ("most_common_freqs", "real[]", 0),
    ("histogram_bounds", "text", 0),
    ("correlation", "real", 0),
    ("most_common_elems", "text", 0),
    ("most_common_elem_freqs", "real[]", 0),
    ("elem_count_histogram", "real[]", 0),
    ("range_length_histogram", "text", 170_000),
    ("range_empty_frac", "real", 170_000),
    ("range_bounds_histogram", "text", 170_000),
];

/// Tables of the page and their indexes.
const WANTED: &str = "WITH wanted(tab, rel) AS (SELECT t, t FROM pg_catalog.unnest($1::oid[]) t \
    UNION ALL SELECT x.indrelid, x.indexrelid FROM pg_catalog.pg_index x WHERE x.indrelid = ANY($1::oid[]))";

/// A table that was analysed.
struct Table {
    schema: String,
    name: String,
    rows: i64,
    partitioned: bool,
    /// Columns that statistics are kept of.
    columns: i64,
}

/// Writes the statistics of every table that may have rows.
pub async fn write_statistics(graph: &Graph, client: &Client, sink: &mut dyn SqlSink) -> Result<()> {
    let filled = graph.tables().iter().filter(|t| !t.empty && t.filter.is_none());
    let mut oids: Vec<u32> = filled.map(|t| t.oid).collect();
    let parents = graph
        .nodes
        .iter()
        .filter(|n| n.kind == Kind::Table && !n.has(flag::DATA | flag::EXCLUDED))
        .filter(|n| !graph.options.excluded.rows.contains(&n.oid));
    oids.extend(parents.map(|n| n.oid));
    for page in oids.chunks(PAGE) {
        write_page(graph, client, page, sink).await?;
    }
    Ok(())
}

async fn write_page(graph: &Graph, client: &Client, oids: &[u32], sink: &mut dyn SqlSink) -> Result<()> {
    let tables = tables(graph, client, oids).await?;
    if tables.is_empty() {
        return Ok(());
    }
    let analysed: Vec<u32> = tables.keys().copied().collect();
    let parameters: [&(dyn ToSql + Sync); 1] = [&analysed];
    let sql = values_query(graph.server_version());
    let rows = client.query_raw(&sql, parameters).await;
    let rows = rows.map_err(|e| failed("planner statistics", e))?;
    tokio::pin!(rows);
    let mut current: Option<(u32, String, i64)> = None;
    while let Some(row) = rows.try_next().await.map_err(|e| failed("planner statistics", e))? {
        let table = row.oid(0)?;
        if current.as_ref().is_none_or(|(of, ..)| *of != table) {
            end(graph, &tables, current.take(), sink).await?;
            current = Some((table, String::new(), 0));
        }
        if let Some((_, sql, columns)) = current.as_mut() {
            let of = tables.get(&table).map_or("", |t| t.schema.as_str());
            sql.push_str(&column(graph.server_version(), of, &row)?);
            // Of a table with children a column has two rows: with the children's values, and without.
            let own = row.oid(1)? == table && (tables.get(&table).is_some_and(|t| t.partitioned) || !row.flag(5)?);
            *columns += i64::from(own);
        }
    }
    end(graph, &tables, current, sink).await
}

async fn tables(graph: &Graph, client: &Client, oids: &[u32]) -> Result<BTreeMap<u32, Table>> {
    // Before 14 a table that was never analysed has 0 rows instead of -1.
    let generated = if graph.server_version() >= 180_000 {
        " AND a.attgenerated <> 'v'"
    } else {
        ""
    };
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.reltuples::int8, c.relkind = 'p', \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND COALESCE(a.attstattarget, -1) <> 0{generated}) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = ANY($1::oid[]) AND c.relkind IN ('r', 'p') AND c.reltuples > 0 \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid)"
    );
    let mut tables = BTreeMap::new();
    for row in query(client, "planner statistics", &sql, &[&oids]).await? {
        let table = Table {
            schema: row.text(1)?,
            name: row.text(2)?,
            rows: row.col(3)?,
            partitioned: row.flag(4)?,
            columns: row.col(5)?,
        };
        tables.insert(row.oid(0)?, table);
    }
    Ok(tables)
}

fn values_query(version: i32) -> String {
    let values: Vec<String> = VALUES
        .iter()
        .skip(1)
        .map(|(name, _, since)| {
            if version >= *since {
                format!("s.{name}::text")
            } else {
                "NULL::text".to_owned()
            }
        })
        .collect();
    // The condition on names alone can be used before the view's own, which keeps foreign rows from us.
    format!(
        "{WANTED} SELECT w.tab, w.rel, c.relname::text, a.attname::text, a.attnum, s.inherited, {} \
         FROM wanted w JOIN pg_catalog.pg_class c ON c.oid = w.rel JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname \
         WHERE s.tablename = ANY(ARRAY(SELECT r.relname FROM wanted v JOIN pg_catalog.pg_class r ON r.oid = v.rel)) \
         ORDER BY w.tab, w.rel, a.attnum, s.inherited",
        values.join(", ")
    )
}

/// Returns the call for one column; columns of an index have a number instead of a name.
fn column(version: i32, schema: &str, row: &Row) -> Result<String> {
    let (table, relation) = (row.oid(0)?, row.oid(1)?);
    let mut sql = String::from("SELECT pg_catalog.pg_restore_attribute_stats(\n    ");
    let _ = write!(
        sql,
        "'version', {version}::integer, 'schemaname', {}, 'relname', {}, ",
        literal(schema),
        literal(&row.text(2)?)
    );
    if table == relation {
        let _ = write!(sql, "'attname', {}", literal(&row.text(3)?));
    } else {
        let _ = write!(sql, "'attnum', {}::smallint", row.col::<i16>(4)?);
    }
    let inherited = if row.flag(5)? { "true" } else { "false" };
    let _ = write!(sql, ", 'inherited', {inherited}::boolean");
    for (at, (name, kind, _)) in VALUES.iter().enumerate().skip(1) {
        if let Some(value) = row.opt(at + 5)? {
            let _ = write!(sql, ",\n    '{name}', {}::{kind}", one_line(&value));
        }
    }
    sql.push_str(");\n");
    Ok(sql)
}

/// Returns a literal without line ends: what is changed in SQL on its way back goes by lines, and a value is no statement.
fn one_line(value: &str) -> String {
    if !value.contains(['\n', '\r']) {
        return literal(value);
    }
    let escaped = value.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{}'", escaped.replace('\n', "\\n").replace('\r', "\\r"))
}

/// Writes the item of a table, if all its columns have come.
async fn end(
    graph: &Graph,
    tables: &BTreeMap<u32, Table>,
    read: Option<(u32, String, i64)>,
    sink: &mut dyn SqlSink,
) -> Result<()> {
    let Some((oid, columns, count)) = read else {
        return Ok(());
    };
    let Some(table) = tables.get(&oid).filter(|t| count >= t.columns) else {
        return Ok(());
    };
    let (schema, name) = (literal(&table.schema), literal(&table.name));
    // Pages are those of the restored table: a source full of dead rows would tell of too few rows on each.
    let pages = if table.partitioned {
        "-1".to_owned()
    } else {
        let relation = literal(&qualified(&table.schema, &table.name));
        format!(
            "(pg_catalog.pg_relation_size({relation}::regclass) / pg_catalog.current_setting('block_size')::bigint)"
        )
    };
    let mut sql = format!(
        "SELECT pg_catalog.pg_restore_relation_stats(\n    'version', {}::integer, 'schemaname', {schema}, 'relname', {name}, \
         'relpages', {pages}::integer, 'reltuples', {}::real);\n",
        graph.server_version(),
        table.rows
    );
    sql.push_str(&columns);
    let item = TocItem {
        schema: Some(table.schema.clone()),
        weight: exact::saturating_u64(table.rows),
        ..TocItem::new(
            graph.take_item_id(),
            Section::Statistics,
            "STATISTICS DATA",
            table.name.as_str(),
        )
    };
    sink.item(item, &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_line_ends_stays_on_one_line() {
        assert_eq!(one_line("{a'b}"), "'{a''b}'");
        assert_eq!(one_line("{a\\\\b}"), "E'{a\\\\\\\\b}'");
        assert_eq!(one_line("{\"a'\n\\\\b\r\"}"), "E'{\"a''\\n\\\\\\\\b\\r\"}'");
    }
}
