//! Views over tables that are replaced: read as the server prints them, and made again with all that belongs to them.

use std::collections::{HashMap, HashSet};

use super::replace::rows;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;

/// A view that is taken away and made again.
#[derive(Debug)]
pub(crate) struct View {
    /// Its qualified and quoted name.
    pub(crate) name: String,
    create: String,
    /// Owner, defaults, rules, triggers, comments, rights: each a statement.
    rest: Vec<String>,
}

/// Why a view cannot be made again as it is: what only a superuser, or its extension, could do.
const UNREPEATABLE: &str = "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 1259 AND d.objid = c.oid AND d.deptype IN ('e', 'x')) \
    OR EXISTS (SELECT FROM pg_catalog.pg_seclabel s WHERE s.classoid = 1259 AND s.objoid = c.oid) \
    OR EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) x WHERE x.grantor <> c.relowner) \
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) x WHERE a.attrelid = c.oid AND x.grantor <> c.relowner)";

/// Returns those of the views that cannot be made again.
pub(crate) async fn unrepeatable(connection: &mut Connection, views: &str) -> Result<Vec<Vec<String>>> {
    let sql = format!(
        "SELECT pg_catalog.pg_describe_object(1259, c.oid, 0) FROM pg_catalog.pg_class c WHERE c.oid = ANY ({views}) AND ({UNREPEATABLE}) ORDER BY 1"
    );
    rows(connection, &sql).await
}

/// Reads views, each after those it reads from. `views` is an array of OIDs.
pub(crate) async fn read(connection: &mut Connection, views: &str) -> Result<Vec<View>> {
    let sql = format!(
        "SELECT c.oid, c.oid::pg_catalog.regclass, pg_catalog.format('CREATE VIEW %s%s AS %s', c.oid::pg_catalog.regclass, \
         ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', pg_catalog.pg_get_viewdef(c.oid)) \
         FROM pg_catalog.pg_class c WHERE c.oid = ANY ({views}) ORDER BY c.oid"
    );
    let mut found = HashMap::new();
    let mut order = Vec::new();
    for row in rows(connection, &sql).await.context("read the views")? {
        if let [oid, name, create] = row.as_slice() {
            order.push(oid.clone());
            let view = View {
                name: name.clone(),
                create: create.clone(),
                rest: Vec::new(),
            };
            found.insert(oid.clone(), view);
        }
    }
    for row in rows(connection, &rest_sql(views))
        .await
        .context("read what belongs to the views")?
    {
        if let [oid, _, _, statement] = row.as_slice()
            && let Some(view) = found.get_mut(oid)
        {
            view.rest.push(statement.clone());
        }
    }
    let sql = format!(
        "SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid \
         AND d.refclassid = 1259 WHERE r.rulename = '_RETURN' AND r.ev_class <> d.refobjid AND r.ev_class = ANY ({views}) AND d.refobjid = ANY ({views})"
    );
    let mut needs: HashMap<String, HashSet<String>> = HashMap::new();
    for row in rows(connection, &sql).await? {
        if let [view, other] = row.as_slice() {
            needs.entry(view.clone()).or_default().insert(other.clone());
        }
    }
    let mut sorted = Vec::new();
    while !order.is_empty() {
        let waits = |oid: &String| needs.get(oid).is_some_and(|n| n.iter().any(|o| order.contains(o)));
        let (rest, mut ready): (Vec<String>, Vec<String>) = order.iter().cloned().partition(waits);
        order = rest;
        if ready.is_empty() {
            // Views that read from each other: the server will say so.
            ready = std::mem::take(&mut order);
        }
        sorted.extend(ready.iter().filter_map(|oid| found.remove(oid)));
    }
    Ok(sorted)
}

/// Returns the query for what belongs to views: OID, kind, place, statement. The server makes the statements, so that names are
/// quoted by its own rules.
fn rest_sql(views: &str) -> String {
    let of = format!("FROM pg_catalog.pg_class c WHERE c.oid = ANY ({views})");
    let columns = "JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped";
    let whom = "CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END, \
                CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)";
    let state = |column: &str, what: &str| {
        format!(
            "(VALUES ('D', 'DISABLE {what}'), ('A', 'ENABLE ALWAYS {what}'), ('R', 'ENABLE REPLICA {what}')) s(state, word) ON s.state = {column}::text"
        )
    };
    let parts = [
        format!(
            "SELECT c.oid, 0, 0, pg_catalog.format('ALTER VIEW %s OWNER TO %I', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner)) {of}"
        ),
        format!(
            "SELECT c.oid, 1, a.attnum, pg_catalog.format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', c.oid::pg_catalog.regclass, a.attname, \
             pg_catalog.pg_get_expr(d.adbin, d.adrelid)) FROM pg_catalog.pg_class c {columns} JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
             WHERE c.oid = ANY ({views})"
        ),
        format!(
            "SELECT r.ev_class, 2, r.oid::pg_catalog.int8, pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY ({views})"
        ),
        format!(
            "SELECT r.ev_class, 3, 0, pg_catalog.format('ALTER TABLE %s %s %I', r.ev_class::pg_catalog.regclass, s.word, r.rulename) \
             FROM pg_catalog.pg_rewrite r JOIN {} WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY ({views})",
            state("r.ev_enabled", "RULE")
        ),
        format!(
            "SELECT t.tgrelid, 4, t.oid::pg_catalog.int8, pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgrelid = ANY ({views})"
        ),
        format!(
            "SELECT t.tgrelid, 5, 0, pg_catalog.format('ALTER TABLE %s %s %I', t.tgrelid::pg_catalog.regclass, s.word, t.tgname) \
             FROM pg_catalog.pg_trigger t JOIN {} WHERE NOT t.tgisinternal AND t.tgrelid = ANY ({views})",
            state("t.tgenabled", "TRIGGER")
        ),
        format!(
            "SELECT c.oid, 6, 0, pg_catalog.format('COMMENT ON VIEW %s IS %L', c.oid::pg_catalog.regclass, pg_catalog.obj_description(c.oid, 'pg_class')) {of} AND pg_catalog.obj_description(c.oid, 'pg_class') IS NOT NULL"
        ),
        format!(
            "SELECT c.oid, 7, a.attnum, pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', c.oid::pg_catalog.regclass, a.attname, pg_catalog.col_description(c.oid, a.attnum)) \
             FROM pg_catalog.pg_class c {columns} WHERE c.oid = ANY ({views}) AND pg_catalog.col_description(c.oid, a.attnum) IS NOT NULL"
        ),
        format!(
            "SELECT r.ev_class, 8, 0, pg_catalog.format('COMMENT ON RULE %I ON %s IS %L', r.rulename, r.ev_class::pg_catalog.regclass, pg_catalog.obj_description(r.oid, 'pg_rewrite')) \
             FROM pg_catalog.pg_rewrite r WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY ({views}) AND pg_catalog.obj_description(r.oid, 'pg_rewrite') IS NOT NULL"
        ),
        format!(
            "SELECT t.tgrelid, 9, 0, pg_catalog.format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, t.tgrelid::pg_catalog.regclass, pg_catalog.obj_description(t.oid, 'pg_trigger')) \
             FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgrelid = ANY ({views}) AND pg_catalog.obj_description(t.oid, 'pg_trigger') IS NOT NULL"
        ),
        format!(
            "SELECT c.oid, 10, 0, pg_catalog.format('REVOKE ALL ON %s FROM %I', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner)) {of} AND c.relacl IS NOT NULL"
        ),
        format!(
            "SELECT c.oid, 11, x.place, pg_catalog.format('GRANT %s ON %s TO %s%s', x.privilege_type, c.oid::pg_catalog.regclass, {whom} FROM pg_catalog.pg_class c, \
             LATERAL pg_catalog.aclexplode(c.relacl) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) WHERE c.oid = ANY ({views})"
        ),
        format!(
            "SELECT c.oid, 12, a.attnum * 1000 + x.place, pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', x.privilege_type, a.attname, c.oid::pg_catalog.regclass, {whom} \
             FROM pg_catalog.pg_class c {columns}, LATERAL pg_catalog.aclexplode(a.attacl) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) \
             WHERE c.oid = ANY ({views})"
        ),
    ];
    format!("{} ORDER BY 1, 2, 3", parts.join(" UNION ALL "))
}

/// Makes views again.
pub(crate) async fn make_again(connection: &mut Connection, views: &[View]) -> Result<()> {
    for view in views {
        connection.execute(&view.create).await.map_err(|e| {
            e.context(format!("create view {} again", view.name)).with_hint(
                "It does not match the backup's table. Restore the table next to the existing one (without --into) \
                 and copy what you need.",
            )
        })?;
        plain_rights(connection, std::slice::from_ref(&view.name)).await?;
        for sql in &view.rest {
            let done = connection.execute(sql).await;
            done.with_context(|| format!("create what belongs to view {} again", view.name))?;
        }
    }
    Ok(())
}

/// Takes from new relations what the target's default privileges gave: their rights are those of the backup, or those that they had.
pub(crate) async fn plain_rights(connection: &mut Connection, names: &[String]) -> Result<()> {
    for names in names.chunks(1000) {
        let list: Vec<String> = names
            .iter()
            .map(|n| format!("pg_catalog.to_regclass({})", literal(n)))
            .collect();
        // The statements are made by the server, so that names are quoted by its own rules.
        let sql = format!(
            "SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', c.oid::pg_catalog.regclass,              CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END)              FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) x WHERE c.oid = ANY (ARRAY[{0}]::pg_catalog.oid[]) AND x.grantee <> c.relowner              UNION ALL SELECT pg_catalog.format('GRANT ALL ON %s TO %I', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner))              FROM pg_catalog.pg_class c WHERE c.relacl IS NOT NULL AND c.oid = ANY (ARRAY[{0}]::pg_catalog.oid[])",
            list.join(", ")
        );
        for row in rows(connection, &sql).await? {
            if let Some(sql) = row.first() {
                connection.execute(sql).await.context("revoke default privileges")?;
            }
        }
    }
    Ok(())
}
