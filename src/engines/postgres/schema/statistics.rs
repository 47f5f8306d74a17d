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
use crate::engines::postgres::sql::template::for_version;

const ANALYSED: &str = include_str!("sql/analysed_tables.sql");
const VALUES_OF_COLUMNS: &str = include_str!("sql/column_statistics.sql");

/// Tables in one query.
const PAGE: usize = 500;

/// Columns of `pg_stats` as arguments: name and type.
const VALUES: [(&str, &str); 13] = [
    ("null_frac", "real"),
    ("avg_width", "integer"),
    ("n_distinct", "real"),
    ("most_common_vals", "text"),
    ("most_common_freqs", "real[]"),
    ("histogram_bounds", "text"),
    ("correlation", "real"),
    ("most_common_elems", "text"),
    ("most_common_elem_freqs", "real[]"),
    ("elem_count_histogram", "real[]"),
    ("range_length_histogram", "text"),
    ("range_empty_frac", "real"),
    ("range_bounds_histogram", "text"),
];

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
    let sql = for_version(VALUES_OF_COLUMNS, graph.server_version());
    let rows = client.query_raw(&sql, parameters).await;
    let rows = rows.map_err(|e| failed("planner statistics", e))?;
    tokio::pin!(rows);
    let mut current: Option<(u32, String, i64)> = None;
    while let Some(row) = rows.try_next().await.map_err(|e| failed("planner statistics", e))? {
        let table = row.oid("table_oid")?;
        if current.as_ref().is_none_or(|(of, ..)| *of != table) {
            end(graph, &tables, current.take(), sink).await?;
            current = Some((table, String::new(), 0));
        }
        if let Some((_, sql, columns)) = current.as_mut() {
            let of = tables.get(&table).map_or("", |t| t.schema.as_str());
            sql.push_str(&column(graph.server_version(), of, &row)?);
            // Of a table with children a column has two rows: with the children's values, and without.
            let own = row.oid("relation")? == table
                && (tables.get(&table).is_some_and(|t| t.partitioned) || !row.flag("inherited")?);
            *columns += i64::from(own);
        }
    }
    end(graph, &tables, current, sink).await
}

async fn tables(graph: &Graph, client: &Client, oids: &[u32]) -> Result<BTreeMap<u32, Table>> {
    let sql = for_version(ANALYSED, graph.server_version());
    let mut tables = BTreeMap::new();
    for row in query(client, "planner statistics", &sql, &[&oids]).await? {
        let table = Table {
            schema: row.text("schema")?,
            name: row.text("name")?,
            rows: row.col("rows")?,
            partitioned: row.flag("partitioned")?,
            columns: row.col("columns")?,
        };
        tables.insert(row.oid("oid")?, table);
    }
    Ok(tables)
}

/// Returns the call for one column; columns of an index have a number instead of a name.
fn column(version: i32, schema: &str, row: &Row) -> Result<String> {
    let (table, relation) = (row.oid("table_oid")?, row.oid("relation")?);
    let mut sql = String::from("SELECT pg_catalog.pg_restore_attribute_stats(\n    ");
    let _ = write!(
        sql,
        "'version', {version}::integer, 'schemaname', {}, 'relname', {}, ",
        literal(schema),
        literal(&row.text("name")?)
    );
    if table == relation {
        let _ = write!(sql, "'attname', {}", literal(&row.text("column_name")?));
    } else {
        let _ = write!(sql, "'attnum', {}::smallint", row.col::<i16>("number")?);
    }
    let inherited = if row.flag("inherited")? { "true" } else { "false" };
    let _ = write!(sql, ", 'inherited', {inherited}::boolean");
    for (name, kind) in VALUES {
        if let Some(value) = row.opt(name)? {
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
