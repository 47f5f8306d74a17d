//! What belongs to the server and not to one database: roles, memberships, settings of roles, tablespaces, rights to
//! parameters. A restore runs what concerns roles if it is asked to make those that are missing; all of it is SQL to read.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::acl::{All, EXPLODED, add, difference};
use super::comments::comment;
use super::graph::server_version;
use super::note_collector::NoteCollector;
use super::rows::{Columns, query};
use super::{Section, SqlSink, TocItem};
use crate::base::error::Result;
use crate::base::report::Note;
use crate::engines::postgres::sql::quote::{literal, options_list, quote_ident, setting};

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
        let sees = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
        let passwords = query(self.client, "roles", sees, &[])
            .await?
            .first()
            .map_or(Ok(false), |r| r.flag(0))?;
        let (catalog, password) = if passwords && wanted {
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
            // Whether a role has a password cannot be seen either. Without LOGIN it is of no use.
            if wanted && !passwords && row.flag(5)? {
                self.note_collector
                    .add("hidden-passwords", HIDDEN_PASSWORDS, raw.as_str());
            }
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
        let sql = "SELECT r.rolname::text, s.setconfig FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
                   WHERE s.setdatabase = 0 ORDER BY 1";
        for row in query(self.client, "settings of roles", sql, &[]).await? {
            let role = row.text(0)?;
            let name = quote_ident(&role);
            let list = row.list(1)?;
            let statements = list.iter().map(|s| format!("ALTER ROLE {name} SET {};\n", setting(s)));
            let sql: String = statements.collect();
            self.item("ROLE PROPERTIES", &role, &sql).await?;
        }
        Ok(())
    }

    async fn tablespaces(&mut self) -> Result<()> {
        let sql = format!(
            "SELECT o.oid, pg_catalog.pg_get_userbyid(o.spcowner)::text, o.spcname::text, {EXPLODED}, pg_catalog.pg_tablespace_location(o.oid), \
             o.spcoptions, pg_catalog.shobj_description(o.oid, 'pg_tablespace') FROM pg_catalog.pg_tablespace o, \
             LATERAL (SELECT 0 AS what, 0 AS sub, '' AS column_name, pg_catalog.acldefault('t', o.spcowner) AS list \
             UNION ALL SELECT 1, 0, '', COALESCE(o.spcacl, pg_catalog.acldefault('t', o.spcowner))) l \
             LEFT JOIN LATERAL pg_catalog.aclexplode(l.list) WITH ORDINALITY x(grantor, grantee, privilege_type, is_grantable, place) ON true \
             WHERE o.oid >= 16384 ORDER BY o.spcname, l.what, x.place"
        );
        let rows = query(self.client, "tablespaces", &sql, &[]).await?;
        let mut at = 0;
        while let Some(first) = rows.get(at) {
            let (oid, owner, raw) = (first.oid(0)?, first.text(1)?, first.text(2)?);
            let (mut base, mut wanted) = (Vec::new(), Vec::new());
            while let Some(row) = rows.get(at).filter(|r| r.oid(0).ok() == Some(oid)) {
                let side = if row.col::<i32>(7)? == 0 {
                    &mut base
                } else {
                    &mut wanted
                };
                if let Some(privilege) = row.opt(5)? {
                    add(side, row.opt(3)?, row.text(4)?, (privilege, row.flag(6)?));
                }
                at += 1;
            }
            let name = quote_ident(&raw);
            // One in the data directory has a relative path, which CREATE TABLESPACE takes as empty.
            let location = first.text(10)?;
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
            let options = first.list(11)?;
            if !options.is_empty() {
                sql.push_str(&format!("ALTER {what} SET ({});\n", options_list(&options, "")));
            }
            sql.push_str(&difference(&base, &wanted, &owner, "", &what, All::never(), ""));
            comment(&mut sql, &what, first.opt(12)?.as_deref());
            self.item("TABLESPACE", &raw, &sql).await?;
        }
        Ok(())
    }

    /// Rights to set parameters [15].
    async fn parameters(&mut self) -> Result<()> {
        if server_version(self.client).await? < 150_000 {
            return Ok(());
        }
        let sql = "SELECT p.parname, x.privilege_type, x.is_grantable, CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END \
                   FROM pg_catalog.pg_parameter_acl p, pg_catalog.aclexplode(p.paracl) x WHERE x.grantee <> 10 ORDER BY p.parname";
        for row in query(self.client, "rights to parameters", sql, &[]).await? {
            let parameter = row.text(0)?;
            let whom = row.opt(3)?.map_or("PUBLIC".to_owned(), |r| quote_ident(&r));
            let quoted: Vec<String> = parameter.split('.').map(quote_ident).collect();
            let option = if row.flag(2)? { " WITH GRANT OPTION" } else { "" };
            let sql = format!(
                "GRANT {} ON PARAMETER {} TO {whom}{option};\n",
                row.text(1)?,
                quoted.join(".")
            );
            self.item("PARAMETER ACL", &parameter, &sql).await?;
        }
        Ok(())
    }

    async fn labels(&mut self) -> Result<()> {
        let sql = "SELECT r.rolname::text, l.provider, l.label FROM pg_catalog.pg_shseclabel l JOIN pg_catalog.pg_roles r ON r.oid = l.objoid \
                   WHERE l.classoid = 1260 ORDER BY 1, 2";
        for row in query(self.client, "security labels of roles", sql, &[]).await? {
            let role = row.text(0)?;
            let sql = format!(
                "SECURITY LABEL FOR {} ON ROLE {} IS {};\n",
                quote_ident(&row.text(1)?),
                quote_ident(&role),
                literal(&row.text(2)?)
            );
            self.item("ROLE PROPERTIES", &role, &sql).await?;
        }
        Ok(())
    }
}
