//! Publications and subscriptions. A restored subscription is never enabled and never touches its publisher: two
//! databases that apply changes from one slot would each lose half of them.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered, relation};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

const PUBLICATION_SCHEMAS: &str = include_str!("sql/publication_schemas.sql");
const PUBLICATIONS: &str = include_str!("sql/publications.sql");
const PUBLICATION_TABLES: &str = include_str!("sql/publication_tables.sql");
const SUBSCRIPTIONS: &str = include_str!("sql/subscriptions.sql");

pub(super) async fn publications(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "publications", &context.sql(PUBLICATIONS), &[&oids]).await? {
        let what = format!("PUBLICATION {}", quote_ident(&row.text("name")?));
        let all = if row.flag("all_tables")? { " FOR ALL TABLES" } else { "" };
        let mut published = Vec::new();
        let operations = [
            ("inserts", "insert"),
            ("updates", "update"),
            ("deletes", "delete"),
            ("truncates", "truncate"),
        ];
        for (column, word) in operations {
            if row.flag(column)? {
                published.push(word);
            }
        }
        let mut with = format!("publish = '{}'", published.join(", "));
        if row.flag("via_root")? {
            with.push_str(", publish_via_partition_root = true");
        }
        if row.text("generated_columns")? == "s" {
            with.push_str(", publish_generated_columns = stored");
        }
        let mut sql = format!("CREATE {what}{all} WITH ({with});\n");
        context.owner(&mut sql, &what, &row.text("owner")?);
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn tables(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(
        context.client,
        "tables of publications",
        &context.sql(PUBLICATION_TABLES),
        &[&oids],
    )
    .await?
    {
        let Some(table) = relation(context, row.oid("relation")?) else {
            continue;
        };
        let mut sql = format!(
            "ALTER PUBLICATION {} ADD TABLE ONLY {table}",
            quote_ident(&row.text("publication")?)
        );
        let columns: Vec<String> = row.list("columns")?.iter().map(|c| quote_ident(c)).collect();
        if !columns.is_empty() {
            sql.push_str(&format!(" ({})", columns.join(", ")));
        }
        if let Some(filter) = row.opt("filter")? {
            sql.push_str(&format!(" WHERE ({filter})"));
        }
        sql.push_str(";\n");
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn schemas(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "schemas of publications", PUBLICATION_SCHEMAS, &[&oids]).await? {
        let sql = format!(
            "ALTER PUBLICATION {} ADD TABLES IN SCHEMA {};\n",
            quote_ident(&row.text("publication")?),
            quote_ident(&row.text("schema")?)
        );
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}

pub(super) async fn subscriptions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let mut rendered = Rendered::new();
    for row in query(context.client, "subscriptions", &context.sql(SUBSCRIPTIONS), &[&oids]).await? {
        let what = format!("SUBSCRIPTION {}", quote_ident(&row.text("name")?));
        let publications: Vec<String> = row.list("publications")?.iter().map(|p| quote_ident(p)).collect();
        let slot = row.opt("slot")?.map_or("NONE".to_owned(), |s| literal(&s));
        let mut with = vec!["connect = false".to_owned(), format!("slot_name = {slot}")];
        with.extend(row.list("options")?);
        with.extend(row.opt("origin")?.map(|o| format!("origin = {}", literal(&o))));
        let commit = row.text("synchronous_commit")?;
        if commit != "off" {
            with.push(format!("synchronous_commit = {}", literal(&commit)));
        }
        let mut sql = format!(
            "CREATE {what} CONNECTION {} PUBLICATION {} WITH ({});\n",
            literal(&row.text("connection")?),
            publications.join(", "),
            with.join(", ")
        );
        context.owner(&mut sql, &what, &row.text("owner")?);
        // Before 16 the owner of a subscription was always who applied its changes; from there on that is an option.
        if !context.at_least(16) {
            let statement = literal(&format!("ALTER {what} SET (run_as_owner = true)"));
            let block = format!(
                "BEGIN IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 THEN EXECUTE {statement}; END IF; END"
            );
            sql.push_str(&format!("DO LANGUAGE plpgsql {};\n", literal(&block)));
        }
        comment(&mut sql, &what, row.opt("comment")?.as_deref());
        rendered.insert(row.oid("oid")?, sql);
    }
    Ok(rendered)
}
