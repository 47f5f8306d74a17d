//! What belongs to the server and not to one database: roles, memberships, settings of roles, tablespaces, rights to
//! parameters. A restore runs what concerns roles if it is asked to make those that are missing; all of it is SQL to read.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::acl::{All, add_row, difference};
use super::comments::comment;
use super::graph::server_version;
use super::note_collector::NoteCollector;
use super::rows::{Columns, query};
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::base::report::Note;
use crate::engines::postgres::sql::quote::{literal, options_list, quote_ident, setting};
use crate::engines::postgres::sql::template::for_version;

const ROLE_SETTINGS: &str = include_str!("sql/role_settings.sql");
const PARAMETER_RIGHTS: &str = include_str!("sql/rights/parameters.sql");
const ROLE_LABELS: &str = include_str!("sql/role_labels.sql");
const ROLES: &str = include_str!("sql/roles.sql");
const ROLES_WITH_PASSWORDS: &str = include_str!("sql/roles_with_passwords.sql");
const MEMBERSHIPS: &str = include_str!("sql/memberships.sql");
const TABLESPACES: &str = include_str!("sql/tablespaces.sql");

/// Writes roles (with passwords if they are wanted and the reader may see them), memberships and settings.
///
/// Returns what the reader may not see and the backup lacks.
pub async fn write_globals(client: &Client, passwords: bool, sink: &mut dyn SqlSink) -> Result<Vec<Note>> {
    let mut writer = Writer {
        client,
        sink,
        next: 0,
        note_collector: NoteCollector::default(),
    };
    writer.roles(passwords).await?;
    writer.memberships().await?;
    writer.settings().await?;
    writer.tablespaces().await?;
    writer.parameters().await?;
    writer.labels().await?;
    Ok(writer.note_collector.take())
}

const HIDDEN_PASSWORDS: &str = "the passwords of these roles, if any, are not in this backup: the backup role has no \
                                permission to read them \
     (GRANT SELECT ON pg_catalog.pg_authid, or back up as a superuser)";

struct Writer<'a> {
    client: &'a Client,
    sink: &'a mut dyn SqlSink,
    next: u32,
    note_collector: NoteCollector,
}

impl Writer<'_> {
    async fn item(&mut self, kind: &str, name: &str, sql: &str) -> Result<()> {
        let item = self.new_item(kind, name);
        self.sink.item(item, sql).await
    }

    fn new_item(&mut self, kind: &str, name: &str) -> TocItem {
        self.next += 1;
        TocItem::new(self.next - 1, Section::PreData, kind, name)
    }

    async fn roles(&mut self, wanted: bool) -> Result<()> {
        let sees = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS allowed";
        let passwords = query(self.client, "roles", sees, &[])
            .await?
            .first()
            .map_or(Ok(false), |r| r.flag("allowed"))?;
        let sql = if passwords && wanted {
            ROLES_WITH_PASSWORDS
        } else {
            ROLES
        };
        for row in query(self.client, "roles", sql, &[]).await? {
            let raw = row.text("name")?;
            let name = quote_ident(&raw);
            // Whether a role has a password cannot be seen either. Without LOGIN it is of no use.
            if wanted && !passwords && row.flag("logs_in")? {
                self.note_collector
                    .add("hidden-passwords", HIDDEN_PASSWORDS, raw.as_str());
            }
            let mut sql = format!("CREATE ROLE {name};\nALTER ROLE {name} WITH");
            for (column, word) in [
                ("superuser", "SUPERUSER"),
                ("inherits", "INHERIT"),
                ("creates_roles", "CREATEROLE"),
                ("creates_databases", "CREATEDB"),
                ("logs_in", "LOGIN"),
                ("replicates", "REPLICATION"),
                ("bypasses_row_security", "BYPASSRLS"),
            ] {
                sql.push_str(if row.flag(column)? { " " } else { " NO" });
                sql.push_str(word);
            }
            let limit: i32 = row.col("connection_limit")?;
            if limit != -1 {
                sql.push_str(&format!(" CONNECTION LIMIT {limit}"));
            }
            for (column, word) in [("password", "PASSWORD"), ("valid_until", "VALID UNTIL")] {
                if let Some(text) = row.opt(column)? {
                    sql.push_str(&format!(" {word} {}", literal(&text)));
                }
            }
            sql.push_str(";\n");
            comment(&mut sql, &format!("ROLE {name}"), row.opt("comment")?.as_deref());
            self.item("ROLE", &raw, &sql).await?;
        }
        Ok(())
    }

    /// A grant can be issued once its grantor is the bootstrap superuser or has the admin option: repeat passes.
    async fn memberships(&mut self) -> Result<()> {
        let version = server_version(self.client).await?;
        let new = version >= 160_000;
        let sql = for_version(MEMBERSHIPS, version);
        let mut open = query(self.client, "memberships", &sql, &[]).await?;
        let mut admins: BTreeSet<(String, String)> = BTreeSet::new();
        let mut forced = !new;
        while !open.is_empty() {
            let before = open.len();
            let mut later = Vec::new();
            for row in open {
                let (role, member, grantor) = (row.text("role")?, row.text("member")?, row.opt("grantor")?);
                let ready = forced
                    || row.flag("by_bootstrap")?
                    || grantor
                        .as_ref()
                        .is_some_and(|g| admins.contains(&(role.clone(), g.clone())));
                if !ready {
                    later.push(row);
                    continue;
                }
                let admin = row.flag("admin")?;
                let mut with = Vec::new();
                if admin {
                    with.push("ADMIN OPTION");
                    admins.insert((role.clone(), member.clone()));
                }
                if let (Some(inherit), Some(set)) =
                    (row.col::<Option<bool>>("inherits")?, row.col::<Option<bool>>("sets")?)
                {
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
                let mut item = self.new_item("ROLE MEMBERSHIP", &member);
                // The role that is granted stands in front: a restore asks whether it made one of the two.
                item.schema = Some(role);
                self.sink.item(item, &sql).await?;
            }
            forced = forced || later.len() == before;
            open = later;
        }
        Ok(())
    }

    /// Settings of roles in every database (those in this one are written with it).
    async fn settings(&mut self) -> Result<()> {
        for row in query(self.client, "settings of roles", ROLE_SETTINGS, &[]).await? {
            let role = row.text("role")?;
            let name = quote_ident(&role);
            let list = row.list("settings")?;
            let statements = list.iter().map(|s| format!("ALTER ROLE {name} SET {};\n", setting(s)));
            let sql: String = statements.collect();
            self.item("ROLE PROPERTIES", &role, &sql).await?;
        }
        Ok(())
    }

    async fn tablespaces(&mut self) -> Result<()> {
        let rows = query(self.client, "tablespaces", TABLESPACES, &[]).await?;
        let mut at = 0;
        while let Some(first) = rows.get(at) {
            let (oid, owner, raw) = (first.oid("oid")?, first.text("owner")?, first.text("name")?);
            let (mut base, mut wanted) = (Vec::new(), Vec::new());
            while let Some(row) = rows.get(at).filter(|r| r.oid("oid").ok() == Some(oid)) {
                add_row(row, &mut base, &mut wanted)?;
                at += 1;
            }
            let name = quote_ident(&raw);
            // One in the data directory has a relative path, which CREATE TABLESPACE takes as empty.
            let location = first.text("location")?;
            let location = if location.starts_with('/') {
                location
            } else {
                String::new()
            };
            let what = format!("TABLESPACE {name}");
            let mut sql = format!(
                "CREATE {what} OWNER {} LOCATION {};\n",
                quote_ident(&owner),
                literal(&location)
            );
            let options = first.list("options")?;
            if !options.is_empty() {
                sql.push_str(&format!("ALTER {what} SET ({});\n", options_list(&options, "")));
            }
            sql.push_str(&difference(&base, &wanted, &owner, "", &what, All::never(), ""));
            comment(&mut sql, &what, first.opt("comment")?.as_deref());
            self.item("TABLESPACE", &raw, &sql).await?;
        }
        Ok(())
    }

    /// Rights to set parameters [15].
    async fn parameters(&mut self) -> Result<()> {
        if server_version(self.client).await? < 150_000 {
            return Ok(());
        }
        for row in query(self.client, "rights to parameters", PARAMETER_RIGHTS, &[]).await? {
            let parameter = row.text("parameter")?;
            let whom = row.opt("grantee")?.map_or("PUBLIC".to_owned(), |r| quote_ident(&r));
            let quoted: Vec<String> = parameter.split('.').map(quote_ident).collect();
            let option = if row.flag("grantable")? {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            let sql = format!(
                "GRANT {} ON PARAMETER {} TO {whom}{option};\n",
                row.text("privilege")?,
                quoted.join(".")
            );
            self.item("PARAMETER ACL", &parameter, &sql).await?;
        }
        Ok(())
    }

    async fn labels(&mut self) -> Result<()> {
        for row in query(self.client, "security labels of roles", ROLE_LABELS, &[]).await? {
            let role = row.text("role")?;
            let sql = format!(
                "SECURITY LABEL FOR {} ON ROLE {} IS {};\n",
                quote_ident(&row.text("provider")?),
                quote_ident(&role),
                literal(&row.text("label")?)
            );
            self.item("ROLE PROPERTIES", &role, &sql).await?;
        }
        Ok(())
    }
}
