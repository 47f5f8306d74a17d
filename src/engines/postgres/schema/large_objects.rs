//! Large objects as SQL: made with their OIDs, owners and comments before their content, rights after it.
//!
//! Objects are read in keyset pages and written as one item a page, so nothing here grows with their number.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::acl::{All, EXPLODED, Entry, add, difference};
use super::rows::{Columns, query};
use super::{Graph, Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

/// Objects of one item: changing an owner takes a lock each.
const PAGE: i64 = 500;

/// Condition on `o` (`pg_largeobject_metadata`) that the session may read the object's content.
pub const READABLE_SQL: &str = "(pg_catalog.current_setting('lo_compat_privileges') = 'on' \
     OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) \
     OR EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(o.lomacl, pg_catalog.acldefault('L', o.lomowner))) x \
     WHERE x.privilege_type = 'SELECT' AND CASE WHEN x.grantee = 0 THEN true ELSE pg_catalog.pg_has_role(x.grantee, 'USAGE') END))";

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
    let condition = if readable_only { READABLE_SQL } else { "true" };
    let sql = format!(
        "SELECT o.oid, pg_catalog.pg_get_userbyid(o.lomowner)::text, d.description FROM pg_catalog.pg_largeobject_metadata o \
         LEFT JOIN pg_catalog.pg_description d ON d.classoid = 2613 AND d.objoid = o.oid AND d.objsubid = 0 \
         WHERE o.oid > $1 AND {condition} ORDER BY o.oid LIMIT {PAGE}"
    );
    let mut after = 0u32;
    loop {
        let rows = query(client, "large objects", &sql, &[&after]).await?;
        let oids: Vec<u32> = rows.iter().map(|r| r.oid(0)).collect::<Result<_>>()?;
        let Some(&last) = oids.last() else { return Ok(()) };
        after = last;
        let mut text = format!(
            "SELECT pg_catalog.count(pg_catalog.lo_create(o)) FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) t(o);\n",
            list(&oids)
        );
        for row in &rows {
            let oid = row.oid(0)?;
            if !graph.options.no_owner {
                text.push_str(&format!(
                    "ALTER LARGE OBJECT {oid} OWNER TO {};\n",
                    quote_ident(&row.text(1)?)
                ));
            }
            if let Some(comment) = row.opt(2)? {
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
    let condition = if readable_only { READABLE_SQL } else { "true" };
    let page = format!(
        "SELECT o.oid, pg_catalog.pg_get_userbyid(o.lomowner)::text, o.lomacl::text FROM pg_catalog.pg_largeobject_metadata o \
         WHERE o.lomacl IS NOT NULL AND o.oid > $1 AND {condition} ORDER BY o.oid LIMIT {PAGE}"
    );
    let lists = format!(
        "SELECT o.oid, '', '', {EXPLODED} FROM pg_catalog.pg_largeobject_metadata o, \
         LATERAL (SELECT 0 AS what, 0 AS sub, '' AS column_name, pg_catalog.acldefault('L', o.lomowner) AS list \
         UNION ALL SELECT 1, 0, '', o.lomacl) l \
         LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true \
         WHERE o.oid = ANY($1::oid[]) ORDER BY o.oid, l.what, x.place"
    );
    let mut after = 0u32;
    loop {
        let rows = query(client, "rights of large objects", &page, &[&after]).await?;
        let mut groups: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        for row in &rows {
            after = row.oid(0)?;
            groups.entry((row.text(1)?, row.text(2)?)).or_default().push(after);
        }
        if groups.is_empty() {
            return Ok(());
        }
        // One object stands for its group.
        let heads: Vec<u32> = groups.values().filter_map(|oids| oids.first().copied()).collect();
        let mut sides: BTreeMap<u32, [Vec<Entry>; 2]> = BTreeMap::new();
        for row in query(client, "rights of large objects", &lists, &[&heads]).await? {
            let [base, wanted] = sides.entry(row.oid(0)?).or_default();
            let side = if row.col::<i32>(7)? == 0 { base } else { wanted };
            if let Some(privilege) = row.opt(5)? {
                add(side, row.opt(3)?, row.text(4)?, (privilege, row.flag(6)?));
            }
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
