//! Schemas and extensions. Members of an extension come with `CREATE EXTENSION`.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::quote_ident;

/// `public` exists in every new database, owned by this role from 15 on.
const PUBLIC_OWNER: &str = "pg_database_owner";
const PUBLIC_COMMENT: &str = "standard public schema";

pub(super) async fn schemas(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT n.oid, n.nspname::text, pg_catalog.pg_get_userbyid(n.nspowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = n.oid AND ds.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_namespace n WHERE n.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "schemas", sql, &[&oids]).await? {
        let (name, owner, text) = (row.text(1)?, row.text(2)?, row.opt(3)?);
        let what = format!("SCHEMA {}", quote_ident(&name));
        let mut sql = String::new();
        if name == "public" {
            if owner != PUBLIC_OWNER {
                context.owner(&mut sql, &what, &owner);
            }
            match text.as_deref() {
                Some(PUBLIC_COMMENT) => {}
                None => sql.push_str(&format!("COMMENT ON {what} IS NULL;\n")),
                text => comment(&mut sql, &what, text),
            }
        } else {
            sql.push_str(&format!("CREATE {what};\n"));
            context.owner(&mut sql, &what, &owner);
            comment(&mut sql, &what, text.as_deref());
        }
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn extensions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT e.oid, e.extname::text, n.nspname::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = e.oid AND ds.classoid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "extensions", sql, &[&oids]).await? {
        let what = format!("EXTENSION {}", quote_ident(&row.text(1)?));
        let mut sql = format!(
            "CREATE {} WITH SCHEMA {};\n",
            what.replacen("EXTENSION", "EXTENSION IF NOT EXISTS", 1),
            quote_ident(&row.text(2)?)
        );
        comment(&mut sql, &what, row.opt(3)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

/// A column of a query: the extensions that the object with this oid depends on by `ALTER … DEPENDS ON EXTENSION`.
pub(super) fn needed_column(class: u32, oid: &str) -> String {
    format!(
        "ARRAY(SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
         WHERE d.classid = {class} AND d.objid = {oid} AND d.deptype = 'x' AND d.refclassid = 3079 ORDER BY 1)"
    )
}

/// Appends `ALTER what DEPENDS ON EXTENSION` for each.
pub(super) fn needs(sql: &mut String, what: &str, extensions: &[String]) {
    for extension in extensions {
        sql.push_str(&format!(
            "ALTER {what} DEPENDS ON EXTENSION {};\n",
            quote_ident(extension)
        ));
    }
}
