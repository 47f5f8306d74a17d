//! What belongs to the database itself: owner, rights, comment, connection limit, settings. Said of
//! `current_database()`, because a restore may give it another name.

use super::acl::{All, EXPLODED, add, difference};
use super::rows::{Columns, query};
use super::write::Context;
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::engines::postgres::sql::current_database::{NAME, here};
use crate::engines::postgres::sql::quote::{literal, quote_ident, setting};

/// Writes the database's properties, last of all.
pub(super) async fn write(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    properties(context, sink).await?;
    if !context.graph.options.no_acl {
        rights(context, sink).await?;
    }
    labels(context, sink).await
}

async fn properties(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let sql = "SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.shobj_description(d.oid, 'pg_database'), \
               d.datconnlimit, d.datistemplate FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
    let mut name = String::new();
    let mut statements = Vec::new();
    for row in query(context.client, "the database", sql, &[]).await? {
        name = row.text(0)?;
        if !context.graph.options.no_owner {
            statements.push(format!("ALTER DATABASE {NAME} OWNER TO {}", quote_ident(&row.text(1)?)));
        }
        if let Some(comment) = row.opt(2)? {
            statements.push(format!("COMMENT ON DATABASE {NAME} IS {}", literal(&comment)));
        }
        let limit: i32 = row.col(3)?;
        if limit > -1 {
            statements.push(format!("ALTER DATABASE {NAME} CONNECTION LIMIT {limit}"));
        }
        if row.flag(4)? {
            statements.push(format!("ALTER DATABASE {NAME} IS_TEMPLATE true"));
        }
    }
    let sql = "SELECT r.rolname::text, s.setconfig FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE d.datname = pg_catalog.current_database() \
               AND (s.setrole = 0 OR r.oid IS NOT NULL) ORDER BY 1 NULLS FIRST";
    let mut all = vec![("DATABASE", statements)];
    for row in query(context.client, "settings of the database", sql, &[]).await? {
        let target = match row.opt(0)? {
            Some(role) => format!("ROLE {} IN DATABASE {NAME}", quote_ident(&role)),
            None => format!("DATABASE {NAME}"),
        };
        let list = row.list(1)?;
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
    let sql = format!(
        "SELECT o.oid, pg_catalog.pg_get_userbyid(o.datdba)::text, o.datname::text, {EXPLODED} FROM pg_catalog.pg_database o, \
         LATERAL (SELECT 0 AS what, 0 AS sub, '' AS column_name, pg_catalog.acldefault('d', o.datdba) AS list \
         UNION ALL SELECT 1, 0, '', COALESCE(o.datacl, pg_catalog.acldefault('d', o.datdba))) l \
         LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true \
         WHERE o.datname = pg_catalog.current_database() ORDER BY l.what, x.place"
    );
    let (mut base, mut wanted) = (Vec::new(), Vec::new());
    let (mut owner, mut name) = (String::new(), String::new());
    for row in query(context.client, "rights of the database", &sql, &[]).await? {
        owner = row.text(1)?;
        name = row.text(2)?;
        let side = if row.col::<i32>(7)? == 0 {
            &mut base
        } else {
            &mut wanted
        };
        if let Some(privilege) = row.opt(5)? {
            add(side, row.opt(3)?, row.text(4)?, (privilege, row.flag(6)?));
        }
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
    let sql = "SELECT l.provider, l.label, d.datname::text FROM pg_catalog.pg_shseclabel l JOIN pg_catalog.pg_database d ON d.oid = l.objoid \
               WHERE l.classoid = 1262 AND d.datname = pg_catalog.current_database() ORDER BY 1";
    for row in query(context.client, "security labels of the database", sql, &[]).await? {
        let statement = format!(
            "SECURITY LABEL FOR {} ON DATABASE {NAME} IS {}",
            quote_ident(&row.text(0)?),
            literal(&row.text(1)?)
        );
        sink.item(item(context, "DATABASE PROPERTIES", &row.text(2)?), &here(&statement))
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
