//! What belongs to the database itself: owner, rights, comment, connection limit, settings. Said of
//! `current_database()`, because a restore may give it another name.

use super::acl::{All, add_row, difference};
use super::rows::{Columns, query};
use super::write::Context;
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::current_database::{NAME, here};
use crate::engines::postgres::sql::quote::{literal, quote_ident, setting};

const DATABASE: &str = include_str!("sql/database.sql");
const SETTINGS: &str = include_str!("sql/database_settings.sql");
const LABELS: &str = include_str!("sql/database_labels.sql");
const RIGHTS: &str = include_str!("sql/rights/database.sql");

/// Writes the database's properties, last of all.
pub(super) async fn write(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    properties(context, sink).await?;
    if !context.graph.options.no_acl {
        rights(context, sink).await?;
    }
    labels(context, sink).await
}

async fn properties(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let mut name = String::new();
    let mut statements = Vec::new();
    for row in query(context.client, "the database", DATABASE, &[]).await? {
        name = row.text("name")?;
        if !context.graph.options.no_owner {
            statements.push(format!(
                "ALTER DATABASE {NAME} OWNER TO {}",
                quote_ident(&row.text("owner")?)
            ));
        }
        if let Some(comment) = row.opt("comment")? {
            statements.push(format!("COMMENT ON DATABASE {NAME} IS {}", literal(&comment)));
        }
        let limit: i32 = row.col("connection_limit")?;
        if limit > -1 {
            statements.push(format!("ALTER DATABASE {NAME} CONNECTION LIMIT {limit}"));
        }
        if row.flag("is_template")? {
            statements.push(format!("ALTER DATABASE {NAME} IS_TEMPLATE true"));
        }
    }
    let mut all = vec![("DATABASE", statements)];
    for row in query(context.client, "settings of the database", SETTINGS, &[]).await? {
        let target = match row.opt("role")? {
            Some(role) => format!("ROLE {} IN DATABASE {NAME}", quote_ident(&role)),
            None => format!("DATABASE {NAME}"),
        };
        let list = row.list("settings")?;
        let set = list.iter().map(|s| format!("ALTER {target} SET {}", setting(s)));
        all.push(("DATABASE PROPERTIES", set.collect()));
    }
    for (kind, statements) in all {
        // Each alone: an owner that is missing where it is restored does not cost the comment.
        for statement in statements {
            sink.item(item(context, kind, &name), &here(&statement)).await?;
        }
    }
    Ok(())
}

async fn rights(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let (mut base, mut wanted) = (Vec::new(), Vec::new());
    let (mut owner, mut name) = (String::new(), String::new());
    for row in query(context.client, "rights of the database", RIGHTS, &[]).await? {
        owner = row.text("owner")?;
        name = row.text("name")?;
        add_row(&row, &mut base, &mut wanted)?;
    }
    let on = format!("DATABASE {NAME}");
    let sql: String = difference(&base, &wanted, &owner, "", &on, All::never(), "")
        .split_inclusive(";\n")
        .map(|s| if s.contains(NAME) { here(s) } else { s.to_owned() })
        .collect();
    if !sql.is_empty() {
        sink.item(item(context, "DATABASE ACL", &name), &sql).await?;
    }
    Ok(())
}

async fn labels(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    for row in query(context.client, "security labels of the database", LABELS, &[]).await? {
        let statement = format!(
            "SECURITY LABEL FOR {} ON DATABASE {NAME} IS {}",
            quote_ident(&row.text("provider")?),
            literal(&row.text("label")?)
        );
        sink.item(
            item(context, "DATABASE PROPERTIES", &row.text("database")?),
            &here(&statement),
        )
        .await?;
    }
    Ok(())
}

fn item(context: &Context<'_>, kind: &str, name: &str) -> TocItem {
    TocItem::new(context.graph.take_item_id(), Section::PostData, kind, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::sql::current_database::change_here;

    #[test]
    fn a_statement_finds_its_database_whatever_stands_in_it() {
        let sql = here(&format!("ALTER DATABASE {NAME} SET \"a\" TO '50% it''s';\n"));
        assert_eq!(
            sql,
            "DO LANGUAGE plpgsql 'BEGIN EXECUTE pg_catalog.format(''ALTER DATABASE %1$I SET \"a\" TO ''''50%% it''''''''s'''''', \
             pg_catalog.current_database()); END';\n"
        );
    }

    #[test]
    fn a_statement_is_changed_where_it_stands() {
        let sql = here(&format!(
            "ALTER ROLE \"a%\" IN DATABASE {NAME} SET \"a\" TO E'50%\\\\ it''s'"
        ));
        let changed = change_here(&sql, &|s| Some(s.replace("\"a%\"", "\"b\"")));
        let wanted = here(&format!(
            "ALTER ROLE \"b\" IN DATABASE {NAME} SET \"a\" TO E'50%\\\\ it''s'"
        ));
        assert_eq!(changed, Some(wanted));
        assert_eq!(
            change_here("DO LANGUAGE plpgsql 'BEGIN END';", &|_| Some(String::new())),
            None
        );
    }
}
