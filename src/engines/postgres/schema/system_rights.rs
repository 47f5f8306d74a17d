//! Changed rights of objects that this backup does not create: built-in ones and members of extensions. What counts is the
//! difference from the rights they had when they were made (`pg_init_privs`, else the built-in default).
//!
//! Also security labels: they name their object in the server's words.

use crate::engines::postgres::sql::quote::quote_ident;
use std::collections::{BTreeMap, HashMap};

use super::acl::{All, EXPLODED, Entry, add, difference};
use super::node::class;
use super::rows::{Columns, query};
use super::write::Context;
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::literal;

/// Catalogs with rights: class, catalog, prefix of its columns, letter of `acldefault`, the object as GRANT names it.
const CATALOGS: [(u32, &str, &str, &str, &str); 7] = [
    (
        2615,
        "pg_namespace",
        "nsp",
        "'n'",
        "'SCHEMA ' || pg_catalog.quote_ident(o.nspname)",
    ),
    (
        1255,
        "pg_proc",
        "pro",
        "'f'",
        "'ROUTINE ' || o.oid::pg_catalog.regprocedure::text",
    ),
    (
        1247,
        "pg_type",
        "typ",
        "'T'",
        "'TYPE ' || pg_catalog.format_type(o.oid, NULL)",
    ),
    (
        2612,
        "pg_language",
        "lan",
        "'l'",
        "'LANGUAGE ' || pg_catalog.quote_ident(o.lanname)",
    ),
    (
        2328,
        "pg_foreign_data_wrapper",
        "fdw",
        "'F'",
        "'FOREIGN DATA WRAPPER ' || pg_catalog.quote_ident(o.fdwname)",
    ),
    (
        1417,
        "pg_foreign_server",
        "srv",
        "'S'",
        "'FOREIGN SERVER ' || pg_catalog.quote_ident(o.srvname)",
    ),
    (
        1259,
        "pg_class",
        "rel",
        "(CASE WHEN o.relkind = 'S' THEN 's' ELSE 'r' END)",
        "(CASE WHEN o.relkind = 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END) || pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(o.relname)",
    ),
];

/// One object, or one column of it.
#[derive(Default)]
struct Changed {
    owner: String,
    on: String,
    column: String,
    base: Vec<Entry>,
    wanted: Vec<Entry>,
}

/// Returns the catalog's rows that this backup does not create. They are chosen before anything else is looked at, and by one
/// pass over the dependencies: with very many tables the rest costs more.
fn members(catalog: &str, class: u32) -> String {
    format!(
        "(SELECT m.* FROM pg_catalog.{catalog} m WHERE m.oid < 16384 \
         OR m.oid IN (SELECT e.objid FROM pg_catalog.pg_depend e WHERE e.classid = {class} AND e.deptype = 'e') OFFSET 0) o"
    )
}

fn queries() -> Vec<String> {
    let mut list: Vec<String> = CATALOGS
        .iter()
        .map(|&(class, catalog, prefix, letter, on)| {
            let default = format!("pg_catalog.acldefault({letter}::\"char\", o.{prefix}owner)");
            // `public` is an object of the backup's own.
            let extra = match class {
                2615 => "AND o.nspname <> 'public'",
                // The rights of the information schema are given when a cluster is made, but not noted as initial ones.
                1259 => "AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND rn.nspname <> 'information_schema'",
                _ => "",
            };
            // The use that everybody has of the information schema is given when a cluster is made, but not noted as initial.
            let base = if class == 2615 {
                format!(
                    "{default} || CASE o.nspname WHEN 'information_schema' THEN ARRAY[pg_catalog.makeaclitem(0, o.nspowner, 'USAGE', false)] \
                     ELSE '{{}}'::pg_catalog.aclitem[] END"
                )
            } else {
                default.clone()
            };
            let join = if class == 1259 {
                "JOIN pg_catalog.pg_namespace rn ON rn.oid = o.relnamespace"
            } else {
                ""
            };
            format!(
                "SELECT o.oid, pg_catalog.pg_get_userbyid(o.{prefix}owner)::text, {on}, {EXPLODED} FROM {} {join} \
                 LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid = {class} AND i.objoid = o.oid AND i.objsubid = 0, \
                 LATERAL (SELECT 0 AS what, 0 AS sub, ''::text AS column_name, COALESCE(i.initprivs, {base}) AS list \
                 UNION ALL SELECT 1, 0, '', COALESCE(o.{prefix}acl, {default})) l \
                 LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true \
                 WHERE o.{prefix}acl::text IS DISTINCT FROM i.initprivs::text {extra} ORDER BY o.oid, l.what, x.place",
                members(catalog, class)
            )
        })
        .collect();
    list.push(format!(
        "SELECT o.oid, pg_catalog.pg_get_userbyid(o.relowner)::text, 'TABLE ' || pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(o.relname), \
         {EXPLODED} FROM {} JOIN pg_catalog.pg_attribute a ON o.oid = a.attrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = o.relnamespace \
         LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid = 1259 AND i.objoid = o.oid AND i.objsubid = a.attnum, \
         LATERAL (SELECT 0 AS what, a.attnum::int4 AS sub, pg_catalog.quote_ident(a.attname) AS column_name, i.initprivs AS list \
         UNION ALL SELECT 1, a.attnum::int4, pg_catalog.quote_ident(a.attname), a.attacl) l \
         LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true \
         WHERE a.attacl::text IS DISTINCT FROM i.initprivs::text AND NOT a.attisdropped ORDER BY o.oid, l.sub, l.what, x.place",
        members("pg_class", 1259)
    ));
    list
}

/// Writes what was changed: one item an object, the rights to its columns after its own. A right that is taken from a table is
/// taken from its columns, too.
pub(super) async fn write(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut objects: Vec<(String, String)> = Vec::new();
    let classes = CATALOGS.iter().map(|c| c.0).chain([class::RELATION]);
    for (class, sql) in classes.zip(queries()) {
        let mut changed: BTreeMap<(u32, i32), Changed> = BTreeMap::new();
        for row in query(context.client, "rights of built-in objects", &sql, &[]).await? {
            if context.graph.excludes(class, row.oid(0)?) {
                continue;
            }
            let object = changed.entry((row.oid(0)?, row.col(8)?)).or_default();
            object.owner = row.text(1)?;
            object.on = row.text(2)?;
            object.column = row.text(9)?;
            let side = if row.col::<i32>(7)? == 0 {
                &mut object.base
            } else {
                &mut object.wanted
            };
            if let Some(privilege) = row.opt(5)? {
                add(side, row.opt(3)?, row.text(4)?, (privilege, row.flag(6)?));
            }
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
    let sql = "SELECT l.objtype, l.objname, l.provider, l.label, l.classoid, l.objoid FROM pg_catalog.pg_seclabels l \
               WHERE l.classoid NOT IN (1213, 1260, 1262) ORDER BY l.classoid, l.objoid, l.objsubid, l.provider";
    for row in query(context.client, "security labels", sql, &[]).await? {
        context.graph.note_labels(1);
        if context.graph.excludes(row.oid(4)?, row.oid(5)?) {
            continue;
        }
        let on = format!("{} {}", row.text(0)?.to_uppercase(), row.text(1)?);
        let sql = format!(
            "SECURITY LABEL FOR {} ON {on} IS {};\n",
            quote_ident(&row.text(2)?),
            literal(&row.text(3)?)
        );
        sink.item(item(context, "SECURITY LABEL", on), &sql).await?;
    }
    Ok(())
}

fn item(context: &Context<'_>, kind: &str, name: String) -> TocItem {
    TocItem::new(context.graph.take_item_id(), Section::PostData, kind, name)
}
