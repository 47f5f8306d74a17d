//! What belongs to the server and not to one database: roles, memberships, and this database's settings.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::comments::comment;
use super::graph::server_version;
use super::quote::{literal, quote_ident, setting};
use super::rows::{Columns, query};
use super::{Section, SqlSink, TocItem};
use crate::error::Result;

/// Writes roles (with passwords only where the reader may see them), memberships and settings.
pub async fn write_globals(client: &Client, sink: &mut dyn SqlSink) -> Result<()> {
    let mut writer = Writer { client, sink, next: 0 };
    writer.roles().await?;
    writer.memberships().await?;
    writer.settings().await
}

struct Writer<'a> {
    client: &'a Client,
    sink: &'a mut dyn SqlSink,
    next: u32,
}

impl Writer<'_> {
    async fn item(&mut self, kind: &str, name: &str, sql: &str) -> Result<()> {
        let item = TocItem {
            id: self.next,
            section: Section::PreData,
            kind: kind.to_owned(),
            schema: None,
            name: name.to_owned(),
            depends_on: Vec::new(),
            locks: Vec::new(),
            weight: 0,
            sql_bytes: 0,
        };
        self.next += 1;
        self.sink.item(item, sql).await
    }

    async fn roles(&mut self) -> Result<()> {
        let sees = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
        let passwords = query(self.client, "roles", sees, &[])
            .await?
            .first()
            .map_or(Ok(false), |r| r.flag(0))?;
        let (catalog, password) = if passwords {
            ("pg_authid", "r.rolpassword")
        } else {
            ("pg_roles", "NULL::text")
        };
        let sql = format!(
            "SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, \
             r.rolconnlimit, {password}, r.rolvaliduntil::text, pg_catalog.shobj_description(r.oid, 'pg_authid') \
             FROM pg_catalog.{catalog} r WHERE r.rolname !~ '^pg_' ORDER BY 1"
        );
        for row in query(self.client, "roles", &sql, &[]).await? {
            let raw = row.text(0)?;
            let name = quote_ident(&raw);
            let mut sql = format!("CREATE ROLE {name};\nALTER ROLE {name} WITH");
            for (at, word) in [
                (1, "SUPERUSER"),
                (2, "INHERIT"),
                (3, "CREATEROLE"),
                (4, "CREATEDB"),
                (5, "LOGIN"),
                (6, "REPLICATION"),
                (7, "BYPASSRLS"),
            ] {
                sql.push_str(if row.flag(at)? { " " } else { " NO" });
                sql.push_str(word);
            }
            let limit: i32 = row.col(8)?;
            if limit != -1 {
                sql.push_str(&format!(" CONNECTION LIMIT {limit}"));
            }
            for (at, word) in [(9, "PASSWORD"), (10, "VALID UNTIL")] {
                if let Some(text) = row.opt(at)? {
                    sql.push_str(&format!(" {word} {}", literal(&text)));
                }
            }
            sql.push_str(";\n");
            comment(&mut sql, &format!("ROLE {name}"), row.opt(11)?.as_deref());
            self.item("ROLE", &raw, &sql).await?;
        }
        Ok(())
    }

    /// A grant can be issued once its grantor is the bootstrap superuser or has the admin option: repeat passes.
    async fn memberships(&mut self) -> Result<()> {
        let new = server_version(self.client).await? >= 160_000;
        let options = if new {
            "m.inherit_option, m.set_option"
        } else {
            "NULL::bool, NULL::bool"
        };
        let sql = format!(
            "SELECT r.rolname::text, u.rolname::text, g.rolname::text, m.admin_option, {options}, COALESCE(g.oid = 10, true) FROM pg_catalog.pg_auth_members m \
             JOIN pg_catalog.pg_roles r ON r.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member LEFT JOIN pg_catalog.pg_roles g ON g.oid = m.grantor \
             WHERE NOT (r.rolname ~ '^pg_' AND u.rolname ~ '^pg_') ORDER BY 1, 2, 3"
        );
        let mut open = query(self.client, "memberships", &sql, &[]).await?;
        let mut admins: BTreeSet<(String, String)> = BTreeSet::new();
        let mut forced = !new;
        while !open.is_empty() {
            let before = open.len();
            let mut later = Vec::new();
            for row in open {
                let (role, member, grantor) = (row.text(0)?, row.text(1)?, row.opt(2)?);
                let ready = forced
                    || row.flag(6)?
                    || grantor
                        .as_ref()
                        .is_some_and(|g| admins.contains(&(role.clone(), g.clone())));
                if !ready {
                    later.push(row);
                    continue;
                }
                let admin = row.flag(3)?;
                let mut with = Vec::new();
                if admin {
                    with.push("ADMIN OPTION");
                    admins.insert((role.clone(), member.clone()));
                }
                if let (Some(inherit), Some(set)) = (row.col::<Option<bool>>(4)?, row.col::<Option<bool>>(5)?) {
                    with.push(if inherit { "INHERIT TRUE" } else { "INHERIT FALSE" });
                    if !set {
                        with.push("SET FALSE");
                    }
                }
                let mut sql = format!("GRANT {} TO {}", quote_ident(&role), quote_ident(&member));
                if !with.is_empty() {
                    sql.push_str(&format!(" WITH {}", with.join(", ")));
                }
                if let (true, Some(grantor)) = (new, grantor) {
                    sql.push_str(&format!(" GRANTED BY {}", quote_ident(&grantor)));
                }
                sql.push_str(";\n");
                self.item("ROLE MEMBERSHIP", &role, &sql).await?;
            }
            forced = forced || later.len() == before;
            open = later;
        }
        Ok(())
    }

    /// Settings of roles, of this database, and of roles in this database.
    async fn settings(&mut self) -> Result<()> {
        let sql = "SELECT d.datname::text, r.rolname::text, s.setconfig FROM pg_catalog.pg_db_role_setting s \
                   LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
                   WHERE s.setdatabase = 0 OR d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2 NULLS FIRST";
        for row in query(self.client, "settings of roles and databases", sql, &[]).await? {
            let (database, role) = (row.opt(0)?, row.opt(1)?);
            let target = match (&database, &role) {
                (Some(database), None) => format!("DATABASE {}", quote_ident(database)),
                (None, Some(role)) => format!("ROLE {}", quote_ident(role)),
                (Some(database), Some(role)) => {
                    format!("ROLE {} IN DATABASE {}", quote_ident(role), quote_ident(database))
                }
                (None, None) => continue,
            };
            let statements: Vec<String> = row
                .list(2)?
                .iter()
                .map(|s| format!("ALTER {target} SET {};\n", setting(s)))
                .collect();
            let kind = if database.is_some() {
                "DATABASE PROPERTIES"
            } else {
                "ROLE PROPERTIES"
            };
            self.item(kind, &role.or(database).unwrap_or_default(), &statements.concat())
                .await?;
        }
        Ok(())
    }
}
