//! Large objects as SQL: made with their OIDs, owners and comments before their content, rights after it.
//!
//! Objects are read in keyset pages and written as one item a page, so nothing here grows with their number.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::acl::{All, Entry, add_row, difference};
use super::rows::{Columns, query};
use super::{Graph, Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::sql::template::with_names;

const OBJECTS: &str = include_str!("sql/large_objects.sql");
const LISTED_OBJECTS: &str = include_str!("sql/large_objects_with_rights.sql");
const RIGHTS: &str = include_str!("sql/rights/large_objects.sql");

/// The condition that the role may read the content of a large object, `:readable` of queries.
pub(crate) const READABLE: &str = include_str!("sql/readable_large_object.sql");

/// Objects of one item: changing an owner takes a lock each.
const PAGE: i64 = 500;

fn item(graph: &Graph, kind: &str, section: Section, oids: &[u32]) -> TocItem {
    let name = match oids {
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last} ({})", oids.len()),
        [] => String::new(),
    };
    TocItem::new(graph.take_item_id(), section, kind, name)
}

fn list(oids: &[u32]) -> String {
    let texts: Vec<String> = oids.iter().map(u32::to_string).collect();
    texts.join(", ")
}

/// Writes what makes the objects: empty, with owner and comment. With `readable_only`, those whose content is stored.
pub async fn write_large_objects(
    graph: &Graph,
    client: &Client,
    readable_only: bool,
    sink: &mut dyn SqlSink,
) -> Result<()> {
    let sql = with_names(OBJECTS, &[("readable", READABLE)]);
    let mut after = 0u32;
    loop {
        let rows = query(client, "large objects", &sql, &[&after, &readable_only, &PAGE]).await?;
        let oids: Vec<u32> = rows.iter().map(|r| r.oid("oid")).collect::<Result<_>>()?;
        let Some(&last) = oids.last() else { return Ok(()) };
        after = last;
        let mut text = format!(
            "SELECT pg_catalog.count(pg_catalog.lo_create(o)) FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) t(o);\n",
            list(&oids)
        );
        for row in &rows {
            let oid = row.oid("oid")?;
            if !graph.options.no_owner {
                text.push_str(&format!(
                    "ALTER LARGE OBJECT {oid} OWNER TO {};\n",
                    quote_ident(&row.text("owner")?)
                ));
            }
            if let Some(comment) = row.opt("comment")? {
                text.push_str(&format!("COMMENT ON LARGE OBJECT {oid} IS {};\n", literal(&comment)));
            }
        }
        sink.item(item(graph, "LARGE OBJECTS", Section::Data, &oids), &text)
            .await?;
        graph.note_large_objects(oids.len());
    }
}

/// Writes the rights of the objects that have other than the built-in ones, grouped by owner and access list.
pub async fn write_large_object_rights(
    graph: &Graph,
    client: &Client,
    readable_only: bool,
    sink: &mut dyn SqlSink,
) -> Result<()> {
    if graph.options.no_acl {
        return Ok(());
    }
    let listed = with_names(LISTED_OBJECTS, &[("readable", READABLE)]);
    let mut after = 0u32;
    loop {
        let rows = query(
            client,
            "rights of large objects",
            &listed,
            &[&after, &readable_only, &PAGE],
        )
        .await?;
        let mut groups: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        for row in &rows {
            after = row.oid("oid")?;
            groups
                .entry((row.text("owner")?, row.text("list")?))
                .or_default()
                .push(after);
        }
        if groups.is_empty() {
            return Ok(());
        }
        // One object stands for its group.
        let heads: Vec<u32> = groups.values().filter_map(|oids| oids.first().copied()).collect();
        let mut sides: BTreeMap<u32, [Vec<Entry>; 2]> = BTreeMap::new();
        for row in query(client, "rights of large objects", RIGHTS, &[&heads]).await? {
            let [base, wanted] = sides.entry(row.oid("oid")?).or_default();
            add_row(&row, base, wanted)?;
        }
        for ((owner, _), oids) in groups {
            let Some([base, wanted]) = oids.first().and_then(|head| sides.remove(head)) else {
                continue;
            };
            let on = format!("LARGE OBJECT {}", list(&oids));
            let sql = difference(&base, &wanted, &owner, "", &on, All::of(2), "");
            if !sql.is_empty() {
                sink.item(item(graph, "LARGE OBJECT ACL", Section::PostData, &oids), &sql)
                    .await?;
            }
        }
    }
}
