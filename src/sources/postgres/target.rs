//! The database that a restore fills: always a new one, beside the live one, swapped in when it is whole.
//!
//! The live database is touched once, by two renames in one transaction. Whatever fails before leaves it as it was;
//! what this run created is dropped. The old database is kept under a dated name.

use std::time::Duration;

use super::connection::Connection;
use super::schema::{literal, quote_ident};
use super::server_error::sqlstate;
use super::snapshot::ServerFacts;
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, ErrorKind, Result};

/// Where a restore writes.
#[derive(Debug)]
pub(super) struct Target {
    /// Connection to a database that is not the target: renames and drops need it.
    admin: Connection,
    wanted: ConnectOptions,
    /// The database being filled, created by this run.
    pub(super) filling: ConnectOptions,
    /// Whether the wanted name is taken by an existing database that is to be swapped out.
    replaces: bool,
    was_empty: bool,
}

/// How [`Target::finish`] left the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Finished {
    /// Name under which the old database was kept.
    pub(super) kept: Option<String>,
}

/// What there is under the wanted name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) exists: bool,
    /// Whether it holds no object of a user.
    pub(super) empty: bool,
    /// Its size.
    pub(super) bytes: u64,
}

/// Looks whether the database exists; returns the maintenance connection too.
pub(super) async fn look(wanted: &ConnectOptions) -> Result<(Connection, Look)> {
    let mut admin = open_admin(wanted).await?;
    let found = admin
        .query(&format!(
            "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = {}",
            literal(&wanted.database)
        ))
        .await?;
    let exists = found.scalar().is_some();
    let bytes = found.scalar().and_then(|n| n.parse().ok()).unwrap_or(0);
    let empty = exists && is_empty(wanted).await?;
    Ok((admin, Look { exists, empty, bytes }))
}

impl Target {
    /// Creates the database to fill. `id` makes its name unique where the wanted one is taken; a comment is put on it
    /// before anything else.
    pub(super) async fn create(
        wanted: &ConnectOptions,
        facts: Option<&ServerFacts>,
        clean: bool,
        id: &str,
        comment: Option<&str>,
    ) -> Result<Self> {
        let (mut admin, look) = look(wanted).await?;
        let name = &wanted.database;
        let (replaces, was_empty) = (look.exists, look.empty);
        if replaces && !was_empty && !clean {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("database \"{name}\" exists and is not empty"),
            )
            .with_hint("Name another database with --into, or give --clean to restore beside it and swap."));
        }
        // An identifier has at most 63 bytes.
        let filling = if replaces {
            format!("{}_restore_{id}", head(name, 40))
        } else {
            name.clone()
        };
        admin
            .execute(&create_sql(&filling, facts))
            .await
            .map_err(|e| explain_create(e, &filling))?;
        if let Some(comment) = comment {
            let sql = format!("COMMENT ON DATABASE {} IS {}", quote_ident(&filling), literal(comment));
            admin.execute(&sql).await.context("mark the new database")?;
        }
        let filling = wanted.with_database(&filling);
        Ok(Self {
            admin,
            wanted: wanted.clone(),
            filling,
            replaces,
            was_empty,
        })
    }

    /// Drops what was created. The live database was not touched.
    pub(super) async fn discard(mut self) -> Result<()> {
        let name = &self.filling.database;
        if self.admin.is_dead() {
            self.admin = open_admin(&self.wanted).await?;
        }
        // A database with subscriptions cannot be dropped. One that cannot be looked at says why below.
        let _ = drop_subscriptions(&self.filling).await;
        terminate(&mut self.admin, name).await?;
        self.admin
            .execute(&format!("DROP DATABASE IF EXISTS {}", quote_ident(name)))
            .await
            .context("drop the unfinished database")
    }

    /// Puts the filled database under the wanted name.
    pub(super) async fn finish(mut self, stamp: &str, drop_old: bool, swap_timeout: Duration) -> Result<Finished> {
        if !self.replaces {
            self.admin.close().await;
            return Ok(Finished::default());
        }
        if self.admin.is_dead() {
            self.admin = open_admin(&self.wanted).await?;
        }
        let (old, new) = (self.wanted.database.clone(), self.filling.database.clone());
        let kept = format!("{}_before_{stamp}", head(&old, 40));
        inherit_settings(&mut self.admin, &old, &new)
            .await
            .context("carry the database's owner, rights and settings over")?;
        self.swap(&old, &new, &kept, swap_timeout).await?;
        if drop_old || self.was_empty {
            self.admin
                .execute(&format!("DROP DATABASE {}", quote_ident(&kept)))
                .await
                .context("drop the old database")?;
            return Ok(Finished::default());
        }
        self.admin
            .execute(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quote_ident(&kept)))
            .await?;
        Ok(Finished { kept: Some(kept) })
    }

    /// Gives `new` the name `old`, and what had it the name `kept`; tried for `timeout` while sessions are in the way.
    async fn swap(&mut self, old: &str, new: &str, kept: &str, timeout: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + timeout;
        while let Err(error) = self.try_swap(old, new, kept).await {
            let busy = sqlstate(&error) == Some("55006");
            if !busy || tokio::time::Instant::now() >= deadline {
                let hint = format!(
                    "The other database stands beside as \"{new}\". To finish: ALTER DATABASE {} RENAME TO {}; ALTER DATABASE {} RENAME TO {};",
                    quote_ident(old),
                    quote_ident(kept),
                    quote_ident(new),
                    quote_ident(old)
                );
                return Err(error.context(format!("swap database \"{old}\"")).with_hint(hint));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn try_swap(&mut self, old: &str, new: &str, kept: &str) -> Result<()> {
        let (old_name, new_name, kept_name) = (quote_ident(old), quote_ident(new), quote_ident(kept));
        self.admin
            .execute(&format!("ALTER DATABASE {old_name} ALLOW_CONNECTIONS false"))
            .await?;
        let swap = async {
            terminate(&mut self.admin, old).await?;
            terminate(&mut self.admin, new).await?;
            let sql = format!(
                "BEGIN; ALTER DATABASE {old_name} RENAME TO {kept_name}; ALTER DATABASE {new_name} RENAME TO {old_name}; COMMIT"
            );
            self.admin.execute(&sql).await
        };
        let swapped = swap.await;
        if swapped.is_err() && !self.admin.is_dead() {
            if self.admin.in_transaction() {
                self.admin.execute("ROLLBACK").await?;
            }
            self.admin
                .execute(&format!("ALTER DATABASE {old_name} ALLOW_CONNECTIONS true"))
                .await?;
        }
        swapped
    }
}

/// What [`undo`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Undone {
    /// The database that has its old content again.
    pub database: String,
    /// Name under which that was kept.
    pub was_kept_as: String,
    /// Name under which what the restore had brought is kept, if it was still there.
    pub restored_kept_as: Option<String>,
}

/// Puts back the database that the last restore with `--clean` replaced. Nothing is dropped: what the restore had brought is
/// kept under a dated name.
pub async fn undo(wanted: &ConnectOptions, timeout: Duration) -> Result<Undone> {
    let (mut admin, found) = look(wanted).await?;
    let name = wanted.database.clone();
    let prefix = format!("{}_before_", head(&name, 40));
    let sql = format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, {}) ORDER BY datname DESC",
        literal(&prefix)
    );
    let kept = admin.query(&sql).await?;
    let is_stamp = |rest: &str| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'T' || b == b'Z');
    let mut names = kept.rows.iter().filter_map(|r| r.first()?.clone());
    let Some(kept) = names.find(|n| n.strip_prefix(&prefix).is_some_and(is_stamp)) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no database that a restore replaced is kept for \"{name}\""),
        )
        .with_hint("Only a restore with --clean over a database that was not empty keeps one, as NAME_before_TIME; --drop-old keeps none."));
    };
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let undone = format!("{}_undone_{stamp}", head(&name, 40));
    let mut target = Target {
        admin,
        wanted: wanted.clone(),
        filling: wanted.with_database(&kept),
        replaces: found.exists,
        was_empty: false,
    };
    if !found.exists {
        terminate(&mut target.admin, &kept).await?;
        let sql = format!("ALTER DATABASE {} RENAME TO {}", quote_ident(&kept), quote_ident(&name));
        target.admin.execute(&sql).await.context("put the old database back")?;
        target.admin.close().await;
        return Ok(Undone {
            database: name,
            was_kept_as: kept,
            restored_kept_as: None,
        });
    }
    target.swap(&name, &kept, &undone, timeout).await?;
    let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quote_ident(&undone));
    target.admin.execute(&sql).await?;
    target.admin.close().await;
    Ok(Undone {
        database: name,
        was_kept_as: kept,
        restored_kept_as: Some(undone),
    })
}

pub(super) async fn open_admin(wanted: &ConnectOptions) -> Result<Connection> {
    let mut first = None;
    for name in ["postgres", "template1"] {
        if name == wanted.database {
            continue;
        }
        match Connection::open(&wanted.with_database(name)).await {
            Ok(connection) => return Ok(connection),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "no maintenance database to connect to")))
}

async fn is_empty(options: &ConnectOptions) -> Result<bool> {
    let mut connection = Connection::open(options).await?;
    let sql = "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384 AND relnamespace::pg_catalog.regnamespace::text !~ '^pg_') \
        + (SELECT count(*) FROM pg_catalog.pg_proc WHERE oid >= 16384) + (SELECT count(*) FROM pg_catalog.pg_type WHERE oid >= 16384) \
        + (SELECT count(*) FROM pg_catalog.pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_') + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)";
    let count = connection
        .query(sql)
        .await
        .context("look whether the target is empty")?;
    connection.close().await;
    Ok(count.scalar() == Some("0"))
}

fn create_sql(name: &str, facts: Option<&ServerFacts>) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", quote_ident(name));
    if let Some(facts) = facts {
        sql.push_str(&format!(
            " ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            literal(&facts.encoding),
            literal(&facts.collate),
            literal(&facts.ctype)
        ));
        // The template's provider may be another one.
        match facts.locale_provider.as_str() {
            "c" => sql.push_str(" LOCALE_PROVIDER libc"),
            "i" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(&facts.locale))),
            "b" => sql.push_str(&format!(
                " LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
                literal(&facts.locale)
            )),
            _ => {}
        }
        if !facts.locale_rules.is_empty() {
            sql.push_str(&format!(" ICU_RULES {}", literal(&facts.locale_rules)));
        }
    }
    sql
}

fn explain_create(error: Error, name: &str) -> Error {
    let hint = match sqlstate(&error) {
        Some("42501") => Some("The role needs CREATEDB."),
        Some("22023" | "42809") => Some(
            "The server lacks the locale of the source: install it, or create the database by hand and restore into it.",
        ),
        _ => None,
    };
    let error = error.context(format!("create database \"{name}\""));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Drops the subscriptions of a database that a restore made. Their slots belong to the original: they are let go first, so
/// that no publisher is asked to drop them.
async fn drop_subscriptions(database: &ConnectOptions) -> Result<()> {
    let mut connection = Connection::open(database).await?;
    let sql = "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
               WHERE d.datname = pg_catalog.current_database()";
    let found = connection.query(sql).await?;
    for name in found.rows.iter().filter_map(|r| r.first()?.as_deref()) {
        let name = quote_ident(name);
        for act in ["ALTER", "DROP"] {
            let rest = if act == "ALTER" { " SET (slot_name = NONE)" } else { "" };
            connection.execute(&format!("{act} SUBSCRIPTION {name}{rest}")).await?;
        }
    }
    connection.close().await;
    Ok(())
}

async fn terminate(admin: &mut Connection, database: &str) -> Result<()> {
    let sql = format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
        literal(database)
    );
    admin.execute(&sql).await.context("end the sessions of the database")
}

/// Gives the new database what belongs to the database itself: owner, limit, comment, rights, settings.
async fn inherit_settings(admin: &mut Connection, old: &str, new: &str) -> Result<()> {
    let (source, target) = (literal(old), quote_ident(new));
    let target_literal = literal(&target);
    // The statements are made by the server, so that names and values are quoted by its own rules.
    let sql = format!(
        "SELECT 1, pg_catalog.format('ALTER DATABASE %s OWNER TO %I', {target_literal}, pg_catalog.pg_get_userbyid(datdba)) \
           FROM pg_catalog.pg_database WHERE datname = {source} \
         UNION ALL SELECT 2, pg_catalog.format('ALTER DATABASE %s CONNECTION LIMIT %s', {target_literal}, datconnlimit) \
           FROM pg_catalog.pg_database WHERE datname = {source} AND datconnlimit >= -1 \
         UNION ALL SELECT 3, pg_catalog.format('COMMENT ON DATABASE %s IS %L', {target_literal}, pg_catalog.shobj_description(oid, 'pg_database')) \
           FROM pg_catalog.pg_database WHERE datname = {source} AND pg_catalog.shobj_description(oid, 'pg_database') IS NOT NULL \
         UNION ALL SELECT 4, pg_catalog.format('REVOKE ALL ON DATABASE %s FROM PUBLIC', {target_literal}) \
           FROM pg_catalog.pg_database WHERE datname = {source} AND datacl IS NOT NULL \
         UNION ALL SELECT 5, pg_catalog.format('GRANT %s ON DATABASE %s TO %s%s', a.privilege_type, {target_literal}, \
             CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END, \
             CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
           FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a WHERE d.datname = {source} \
         UNION ALL SELECT 6, pg_catalog.format(CASE WHEN s.setrole = 0 THEN 'ALTER DATABASE %2$s SET %3$I TO %4$s' ELSE 'ALTER ROLE %1$I IN DATABASE %2$s SET %3$I TO %4$s' END, \
             pg_catalog.pg_get_userbyid(s.setrole), {target_literal}, pg_catalog.split_part(c, '=', 1), \
             CASE WHEN pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) IN ('search_path', 'temp_tablespaces', 'session_preload_libraries', 'local_preload_libraries', 'shared_preload_libraries', 'unix_socket_directories') \
               THEN pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) ELSE pg_catalog.quote_literal(pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)) END) \
           FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, pg_catalog.unnest(s.setconfig) c \
           WHERE d.datname = {source} \
         ORDER BY 1"
    );
    let statements = admin.query(&sql).await?;
    for row in &statements.rows {
        if let Some(Some(statement)) = row.get(1) {
            admin.execute(statement).await?;
        }
    }
    Ok(())
}

/// Returns at most `bytes` bytes of a name, cut at a character.
fn head(name: &str, bytes: usize) -> &str {
    let mut end = name.len().min(bytes);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}
