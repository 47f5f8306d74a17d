//! Changed rights of objects that this backup does not create: built-in ones and members of extensions. What counts is the
//! difference from the rights they had when they were made (`pg_init_privs`, else the built-in default).
//!
//! Also security labels: they name their object in the server's words.

use crate::engines::postgres::sql::quote::quote_ident;
use std::collections::{BTreeMap, HashMap};

use super::acl::{All, Entry, add_row, difference};
use super::node::class;
use super::rows::{Columns, query};
use super::write::Context;
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;

const LABELS: &str = include_str!("sql/security_labels.sql");

/// Catalogs whose rights are all alike: class, catalog, prefix of its columns, letter of `acldefault`, the object as GRANT names it.
const PLAIN: [(u32, &str, &str, &str, &str); 5] = [
    (
        class::PROC,
        "pg_proc",
        "pro",
        "f",
        "'ROUTINE ' || o.oid::pg_catalog.regprocedure::text",
    ),
    (
        class::TYPE,
        "pg_type",
        "typ",
        "T",
        "'TYPE ' || pg_catalog.format_type(o.oid, NULL)",
    ),
    (
        class::LANGUAGE,
        "pg_language",
        "lan",
        "l",
        "'LANGUAGE ' || pg_catalog.quote_ident(o.lanname)",
    ),
    (
        class::FDW,
        "pg_foreign_data_wrapper",
        "fdw",
        "F",
        "'FOREIGN DATA WRAPPER ' || pg_catalog.quote_ident(o.fdwname)",
    ),
    (
        class::SERVER,
        "pg_foreign_server",
        "srv",
        "S",
        "'FOREIGN SERVER ' || pg_catalog.quote_ident(o.srvname)",
    ),
];

const OF_SCHEMAS: &str = include_str!("sql/system_rights/schemas.sql");
const OF_RELATIONS: &str = include_str!("sql/system_rights/relations.sql");
const OF_COLUMNS: &str = include_str!("sql/system_rights/columns.sql");
const OF_CATALOG: &str = include_str!("sql/system_rights/of_catalog.sql");

/// One object, or one column of it.
#[derive(Default)]
struct Changed {
    owner: String,
    on: String,
    column: String,
    base: Vec<Entry>,
    wanted: Vec<Entry>,
}

/// Returns the queries, each with the class of its objects.
fn queries() -> Vec<(u32, String)> {
    let plain = PLAIN.map(|(class, catalog, prefix, letter, object)| {
        let names = [
            ("catalog", catalog),
            ("owner_column", &format!("{prefix}owner")),
            ("acl_column", &format!("{prefix}acl")),
            ("letter", &literal(letter)),
            ("object", object),
        ];
        (class, with_names(OF_CATALOG, &names))
    });
    let mut list = vec![(class::NAMESPACE, OF_SCHEMAS.to_owned())];
    list.extend(plain);
    list.push((class::RELATION, OF_RELATIONS.to_owned()));
    list.push((class::RELATION, OF_COLUMNS.to_owned()));
    list
}

/// Writes what was changed: one item an object, the rights to its columns after its own. A right that is taken from a table is
/// taken from its columns, too.
pub(super) async fn write(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut objects: Vec<(String, String)> = Vec::new();
    for (class, sql) in queries() {
        let mut changed: BTreeMap<(u32, i32), Changed> = BTreeMap::new();
        for row in query(context.client, "rights of built-in objects", &sql, &[]).await? {
            if context.graph.excludes(class, row.oid("oid")?) {
                continue;
            }
            let object = changed.entry((row.oid("oid")?, row.col("sub")?)).or_default();
            object.owner = row.text("owner")?;
            object.on = row.text("object")?;
            object.column = row.text("column_name")?;
            add_row(&row, &mut object.base, &mut object.wanted)?;
        }
        for object in changed.into_values() {
            let columns = match object.column.as_str() {
                "" => String::new(),
                column => format!("({column})"),
            };
            let sql = difference(
                &object.base,
                &object.wanted,
                &object.owner,
                "",
                &object.on,
                All::never(),
                &columns,
            );
            if sql.is_empty() {
                continue;
            }
            let place = *places.entry(object.on.clone()).or_insert(objects.len());
            match objects.get_mut(place) {
                Some((_, all)) => all.push_str(&sql),
                None => objects.push((object.on, sql)),
            }
        }
    }
    for (on, sql) in objects {
        sink.item(item(context, "ACL", on), &sql).await?;
    }
    Ok(())
}

/// Security labels of this database's objects (those of roles are with the globals).
pub(super) async fn labels(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    for row in query(context.client, "security labels", LABELS, &[]).await? {
        context.graph.note_labels(1);
        if context.graph.excludes(row.oid("class")?, row.oid("oid")?) {
            continue;
        }
        let on = format!(
            "{} {}",
            row.text("object_type")?.to_uppercase(),
            row.text("object_name")?
        );
        let sql = format!(
            "SECURITY LABEL FOR {} ON {on} IS {};\n",
            quote_ident(&row.text("provider")?),
            literal(&row.text("label")?)
        );
        sink.item(item(context, "SECURITY LABEL", on), &sql).await?;
    }
    Ok(())
}

fn item(context: &Context<'_>, kind: &str, name: String) -> TocItem {
    TocItem::new(context.graph.take_item_id(), Section::PostData, kind, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::sql::template::missing_names;

    #[test]
    fn every_query_has_its_names() {
        for (_, query) in queries() {
            assert!(missing_names(&query).is_empty(), "{query}");
        }
    }
}
