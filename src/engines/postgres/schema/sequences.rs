//! Sequences: definition before the data, values with the data (they are read outside the snapshot, as in any dump).

use super::comments::comment;
use super::node::{Kind, Node, class};
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, qualified, quote_ident};

const SEQUENCES: &str = include_str!("sql/sequences.sql");
const CONFIGURATION_SEQUENCES: &str = include_str!("sql/configuration_sequences.sql");

/// Sequences whose values one query reads.
const VALUES_PAGE: usize = 200;

pub(super) async fn sequences(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "sequences", SEQUENCES, &[&oids]).await? {
        let name = qualified(&row.text("schema")?, &row.text("name")?);
        let what = format!("SEQUENCE {name}");
        let unlogged = row.text("persistence")? == "u";
        let owner = row.text("owner")?;
        let owned = match (
            row.opt("ownership")?,
            row.opt("table_schema")?,
            row.opt("table_name")?,
            row.opt("column_name")?,
        ) {
            (Some(how), Some(schema), Some(table), Some(column)) => {
                Some((how == "i", qualified(&schema, &table), quote_ident(&column)))
            }
            _ => None,
        };
        let options = options(&row)?;
        let mut sql = String::new();
        if let Some((true, table, column)) = &owned {
            let when = if row.opt("identity")?.as_deref() == Some("d") {
                "BY DEFAULT"
            } else {
                "ALWAYS"
            };
            let logging = match (row.opt("table_persistence")?.as_deref(), unlogged) {
                (Some("p"), true) => "\n    UNLOGGED",
                (Some("u"), false) if context.at_least(15) => "\n    LOGGED",
                _ => "",
            };
            sql.push_str(&format!(
                "ALTER TABLE {table} ALTER COLUMN {column} ADD GENERATED {when} AS IDENTITY (\n    SEQUENCE NAME {name}{logging}{options}\n);\n"
            ));
        } else {
            let unlogged = if unlogged { "UNLOGGED " } else { "" };
            sql.push_str(&format!(
                "CREATE {unlogged}{what}\n    AS {}{options};\n",
                row.text("type")?
            ));
            context.owner(&mut sql, &what, &owner);
            if let Some((_, table, column)) = &owned {
                sql.push_str(&format!("ALTER {what} OWNED BY {table}.{column};\n"));
            }
        }
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

fn options(row: &tokio_postgres::Row) -> Result<String> {
    let (start, step, max, min, cache): (i64, i64, i64, i64, i64) = (
        row.col("start_value")?,
        row.col("increment")?,
        row.col("max_value")?,
        row.col("min_value")?,
        row.col("cache")?,
    );
    let (low, high) = match row.text("type")?.as_str() {
        "smallint" => (i64::from(i16::MIN), i64::from(i16::MAX)),
        "integer" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let (default_min, default_max) = if step > 0 { (1, high) } else { (low, -1) };
    let bound = |word: &str, value: i64, default: i64| {
        if value == default {
            format!("NO {word}")
        } else {
            format!("{word} {value}")
        }
    };
    let cycle = if row.flag("cycles")? { "\n    CYCLE" } else { "" };
    Ok(format!(
        "\n    START WITH {start}\n    INCREMENT BY {step}\n    {}\n    {}\n    CACHE {cache}{cycle}",
        bound("MINVALUE", min, default_min),
        bound("MAXVALUE", max, default_max)
    ))
}

/// Writes one `setval` for each sequence.
pub(super) async fn write_values(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let graph = context.graph;
    let all: Vec<&Node> = graph
        .order
        .iter()
        .filter_map(|&i| graph.node(i))
        .filter(|n| n.kind == Kind::Sequence && !graph.options.excluded.rows.contains(&n.oid))
        .collect();
    for page in all.chunks(VALUES_PAGE) {
        let selects: Vec<String> = page
            .iter()
            .map(|n| {
                format!(
                    "SELECT {}::oid AS oid, last_value, is_called FROM {}",
                    n.oid,
                    graph.qualified(n)
                )
            })
            .collect();
        let mut values = std::collections::HashMap::new();
        for row in query(context.client, "sequence values", &selects.join(" UNION ALL "), &[]).await? {
            values.insert(row.oid("oid")?, (row.col::<i64>("last_value")?, row.flag("is_called")?));
        }
        for node in page {
            let Some((value, called)) = values.get(&node.oid) else {
                let name = format!("SEQUENCE {}", graph.qualified(node));
                graph
                    .note_collector
                    .add("not-stored", "its value is not in this backup", name);
                continue;
            };
            let sql = format!(
                "SELECT pg_catalog.setval({}, {value}, {called});\n",
                literal(&graph.qualified(node))
            );
            sink.item(graph.plain_item(node, "SEQUENCE SET", Section::Data), &sql)
                .await?;
        }
    }
    configuration_values(context, sink).await
}

/// Writes the values of sequences that extensions ask to be dumped; the extensions make the sequences.
async fn configuration_values(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let act = "configuration sequences of extensions";
    for row in query(context.client, act, CONFIGURATION_SEQUENCES, &[]).await? {
        let (schema, name, oid) = (row.text("schema")?, row.text("name")?, row.oid("oid")?);
        if context.graph.excludes(class::RELATION, oid) || context.graph.options.excluded.rows.contains(&oid) {
            continue;
        }
        let sequence = qualified(&schema, &name);
        let value = format!("SELECT last_value, is_called FROM {sequence}");
        for row in query(context.client, act, &value, &[]).await? {
            let sql = format!(
                "SELECT pg_catalog.setval({}, {}, {});\n",
                literal(&sequence),
                row.col::<i64>("last_value")?,
                row.flag("is_called")?
            );
            let item = TocItem {
                schema: Some(schema.clone()),
                ..TocItem::new(
                    context.graph.take_item_id(),
                    Section::Data,
                    "SEQUENCE SET",
                    name.as_str(),
                )
            };
            sink.item(item, &sql).await?;
        }
    }
    Ok(())
}
