//! Schemas and extensions. Members of an extension come with `CREATE EXTENSION`.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::quote_ident;

const SCHEMAS: &str = include_str!("sql/schemas.sql");
const EXTENSIONS: &str = include_str!("sql/extensions.sql");

/// `public` exists in every new database, owned by this role from 15 on.
const PUBLIC_OWNER: &str = "pg_database_owner";
const PUBLIC_COMMENT: &str = "standard public schema";

pub(super) async fn schemas(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "schemas", SCHEMAS, &[&oids]).await? {
        let (name, owner, text) = (row.text("name")?, row.text("owner")?, row.opt("comment")?);
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
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn extensions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "extensions", EXTENSIONS, &[&oids]).await? {
        let what = format!("EXTENSION {}", quote_ident(&row.text("name")?));
        let mut sql = format!(
            "CREATE {} WITH SCHEMA {};\n",
            what.replacen("EXTENSION", "EXTENSION IF NOT EXISTS", 1),
            quote_ident(&row.text("schema")?)
        );
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
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
