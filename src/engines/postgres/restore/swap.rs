//! Puts one database in the place of another: both are renamed in one transaction, so that whoever is killed in the middle has
//! left the live one where it was, open to its users.
//!
//! A rename needs the database for itself. While it waits it holds the lock behind which new sessions wait, and another
//! session of ours ends those that are there.

use std::collections::HashSet;
use std::time::Duration;

use super::create_database::Made;
use super::database_settings;
use super::plan::LEAVE_TIMEOUT;
use super::replace::names_of;
use super::statements::FailedItem;
use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::marks::{Why, can_say, comment_of, comment_sql, comment_within, unmarked};
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::wire::server_error::sqlstate;

const SUBSCRIPTIONS: &str = include_str!("sql/subscriptions.sql");

/// Longest identifier in bytes.
const NAME_BYTES: usize = 63;

/// How often sessions that are in the way are ended.
const BEAT: Duration = Duration::from_millis(100);

/// How a database gives way to another one.
#[derive(Debug)]
pub(crate) struct Swap<'a> {
    /// The name that is taken, and whoever has it.
    pub(crate) old: &'a str,
    /// The database that gets it.
    pub(crate) new: &'a str,
    /// The name under which the old one stays.
    pub(crate) kept: &'a str,
    /// When, for its mark; none leaves it without.
    pub(crate) stamp: Option<&'a str>,
    /// Whether the new one takes over what belongs to the database itself.
    pub(crate) inherits: bool,
    /// How long sessions that are in the way are waited for.
    pub(crate) timeout: Duration,
}

/// What a swap did.
#[derive(Debug, Default)]
pub(crate) struct Swapped {
    /// Sessions of the old database that were ended, by their processes: one that takes its time is told more than once.
    pub(crate) ended: HashSet<String>,
    /// Properties of the database that could not be taken over.
    pub(crate) failed: Vec<FailedItem>,
}

impl Swap<'_> {
    /// Swaps. On an error both have the names that they had.
    pub(crate) async fn run(&self, admin: &mut Connection, server: &ConnectOptions) -> Result<Swapped> {
        let mut done = Swapped::default();
        let deadline = tokio::time::Instant::now() + self.timeout;
        let (old_oid, comment) = comment_of(admin, self.old).await?;
        let (new_oid, new_comment) = comment_of(admin, self.new).await?;
        let comment = comment.as_deref().and_then(unmarked);
        let kept_comment = match self.stamp {
            Some(stamp) => Some(marks::marked(comment.as_deref(), Why::Kept, old_oid, self.old, stamp)),
            None => comment.clone(),
        };
        let new_comment = if self.inherits {
            comment
        } else {
            new_comment.as_deref().and_then(unmarked)
        };
        let mut statements = Vec::new();
        if self.inherits {
            statements = database_settings::statements(admin, self.old).await?;
        }
        // A role that may have one session ends the others before it renames.
        let mut killer = Connection::open(&server.with_database(admin.database())).await.ok();
        while let Err(error) = self.rename(admin, killer.as_mut(), (old_oid, new_oid), &mut done).await {
            if admin.is_dead() {
                return Err(error);
            }
            admin.execute("ROLLBACK").await?;
            let busy = sqlstate(&error) == Some("55006");
            if !busy || tokio::time::Instant::now() >= deadline {
                return Err(error.context(format!("swap database \"{}\"", self.old)));
            }
        }
        // A comment that this session cannot say is set from within its database, after the swap. What counts for others, that the
        // new database is not half and the old one is kept, stands at once.
        let kept_mark = self
            .stamp
            .map(|stamp| marks::marked(None, Why::Kept, old_oid, self.old, stamp));
        let comments = [(self.kept, kept_comment, kept_mark), (self.old, new_comment, None)];
        let later: Vec<_> = comments
            .iter()
            .filter(|(_, comment, _)| !can_say(admin, comment.as_deref()))
            .collect();
        for (name, comment, bare) in &comments {
            let said = if can_say(admin, comment.as_deref()) {
                comment
            } else {
                bare
            };
            if let Err(error) = behind_savepoint(admin, &comment_sql(name, said.as_deref())).await? {
                done.failed.push(without_comment(name, &error));
            }
        }
        for sql in &statements {
            if let Err(error) = behind_savepoint(admin, sql).await? {
                done.failed.push(FailedItem {
                    excuse: None,
                    kind: "DATABASE PROPERTIES".to_owned(),
                    name: self.old.to_owned(),
                    error: error.chain(),
                    advice: format!("Run it as a role that may: {sql};"),
                });
            }
        }
        admin.execute("COMMIT").await.context("swap the databases")?;
        for (name, comment, _) in later {
            if let Err(error) = comment_within(&server.with_database(name), comment.as_deref()).await {
                done.failed.push(without_comment(name, &error));
            }
        }
        if let Some(killer) = killer {
            killer.close().await;
        }
        Ok(done)
    }

    /// Begins the transaction and renames in it, ending the sessions that are in the way.
    async fn rename(
        &self,
        admin: &mut Connection,
        mut killer: Option<&mut Connection>,
        (old, new): (u32, u32),
        done: &mut Swapped,
    ) -> Result<()> {
        done.ended.extend(terminate(admin, old).await?);
        terminate(admin, new).await?;
        let sql = format!(
            "BEGIN; ALTER DATABASE {} RENAME TO {}; ALTER DATABASE {} RENAME TO {}",
            quote_ident(self.old),
            quote_ident(self.kept),
            quote_ident(self.new),
            quote_ident(self.old)
        );
        let renamed = admin.execute(&sql);
        tokio::pin!(renamed);
        loop {
            tokio::select! {
                biased;
                renamed = &mut renamed => return renamed,
                () = tokio::time::sleep(BEAT) => {
                    if let Some(killer) = killer.as_mut().filter(|k| !k.is_dead()) {
                        done.ended.extend(terminate(killer, old).await.unwrap_or_default());
                        let _ = terminate(killer, new).await;
                    }
                }
            }
        }
    }
}

/// A session in a database that is none of those to be renamed, which may have been made for that moment.
#[derive(Debug)]
pub(crate) struct Apart {
    pub(crate) admin: Connection,
    helper: Option<String>,
}

impl Apart {
    /// Leaves the databases that are to be renamed: the current database of a session cannot be.
    pub(crate) async fn of(mut admin: Connection, server: &ConnectOptions, renamed: [&str; 2]) -> Result<Self> {
        if !renamed.contains(&admin.database()) {
            return Ok(Self { admin, helper: None });
        }
        let name = format!("wirevault_maintenance_{:08x}", rand::random::<u32>());
        Made::default().create(&mut admin, &name).await?;
        admin.close().await;
        let opened = settings::open_as_stored(&server.with_database(&name)).await;
        Ok(Self {
            admin: opened.with_context(|| format!("connect to \"{name}\", a temporary database for the swap"))?,
            helper: Some(name),
        })
    }

    /// Drops what was made, from the database that has the wanted name now; returns a session, and what could not be dropped.
    pub(crate) async fn end(self, wanted: &ConnectOptions) -> Result<(Connection, Option<FailedItem>)> {
        let Some(name) = self.helper else {
            return Ok((self.admin, None));
        };
        self.admin.close().await;
        let mut admin = settings::open_as_stored(wanted).await?;
        let dropped = drop_database(&mut admin, wanted, &name, LEAVE_TIMEOUT).await;
        let left = dropped.err().map(|error| FailedItem {
            excuse: None,
            kind: "DATABASE".to_owned(),
            name: name.clone(),
            error: error.chain(),
            advice: format!(
                "It was a temporary database for the swap: DROP DATABASE {};",
                quote_ident(&name)
            ),
        });
        Ok((admin, left))
    }
}

fn without_comment(name: &str, error: &Error) -> FailedItem {
    FailedItem {
        excuse: None,
        kind: "DATABASE COMMENT".to_owned(),
        name: name.to_owned(),
        error: error.chain(),
        advice: format!("Set it from within: COMMENT ON DATABASE {} IS …;", quote_ident(name)),
    }
}

/// Runs a statement of a transaction that goes on if it is refused.
async fn behind_savepoint(admin: &mut Connection, sql: &str) -> Result<std::result::Result<(), Error>> {
    admin.execute("SAVEPOINT \"wirevault\"").await?;
    let done = admin.execute(sql).await;
    if let Err(error) = &done {
        if admin.is_dead() {
            return done.map(Ok);
        }
        tracing::debug!("refused: {}", error.chain());
        admin.execute("ROLLBACK TO SAVEPOINT \"wirevault\"").await?;
    }
    admin.execute("RELEASE SAVEPOINT \"wirevault\"").await?;
    Ok(done)
}

/// Gives a database another name, and its comment without a mark; returns what is wrong with the comment.
pub(crate) async fn rename(
    admin: &mut Connection,
    server: &ConnectOptions,
    from: &str,
    to: &str,
    timeout: Duration,
) -> Result<Option<FailedItem>> {
    let deadline = tokio::time::Instant::now() + timeout;
    let (oid, comment) = comment_of(admin, from).await?;
    let own = comment.as_deref().and_then(unmarked);
    // What this session cannot say is said from within, afterwards.
    let later = own != comment && !can_say(admin, own.as_deref());
    let commented = if own == comment {
        String::new()
    } else {
        let said = own.as_deref().filter(|_| !later);
        format!("{}; ", comment_sql(from, said))
    };
    let sql = format!(
        "BEGIN; {commented}ALTER DATABASE {} RENAME TO {}; COMMIT",
        quote_ident(from),
        quote_ident(to)
    );
    loop {
        terminate(admin, oid).await?;
        let Err(error) = admin.execute(&sql).await else {
            let failed = if later {
                comment_within(&server.with_database(to), own.as_deref()).await.err()
            } else {
                None
            };
            return Ok(failed.map(|error| without_comment(to, &error)));
        };
        if admin.is_dead() {
            return Err(error);
        }
        admin.execute("ROLLBACK").await?;
        if sqlstate(&error) != Some("55006") || tokio::time::Instant::now() >= deadline {
            return Err(error.context(format!("rename database \"{from}\" to \"{to}\"")));
        }
    }
}

/// Ends the sessions of a database that the role may end; returns their processes.
async fn terminate(admin: &mut Connection, oid: u32) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT pid AS name FROM pg_catalog.pg_stat_activity WHERE datid = {oid} AND pid <> pg_catalog.pg_backend_pid()"
    );
    let processes = names_of(admin, &sql).await;
    let mut ended = Vec::new();
    for pid in processes.context("look for sessions of the database")? {
        let sql = format!(
            "SELECT pg_catalog.pg_terminate_backend({})",
            pid.parse::<i32>().unwrap_or(0)
        );
        match admin.query(&sql).await {
            Ok(done) if done.scalar() == Some("t") => ended.push(pid),
            Ok(_) => {}
            // A session of a stronger role: whoever needs the database waits for its end.
            Err(error) if sqlstate(&error) == Some("42501") => {}
            Err(error) => return Err(error.context("end the sessions of the database")),
        }
    }
    Ok(ended)
}

/// Drops a database: its subscriptions' slots belong to the original and stay, a template is none any more.
pub(crate) async fn drop_database(
    admin: &mut Connection,
    server: &ConnectOptions,
    name: &str,
    patience: Duration,
) -> Result<()> {
    // A database with subscriptions cannot be dropped. One that cannot be looked at says why below.
    let _ = drop_subscriptions(&server.with_database(name)).await;
    let found = format!(
        "SELECT oid, datistemplate FROM pg_catalog.pg_database WHERE datname = {}",
        literal(name)
    );
    let found = admin.query(&found).await.context("look for the database")?;
    let Some(row) = found.named().next() else {
        return Ok(());
    };
    let oid: u32 = row.number("oid")?.unwrap_or(0);
    if row.flag("datistemplate")? {
        let sql = format!("ALTER DATABASE {} IS_TEMPLATE false", quote_ident(name));
        admin.execute(&sql).await?;
    }
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        terminate(admin, oid).await?;
        match admin.execute(&format!("DROP DATABASE {}", quote_ident(name))).await {
            Ok(()) => return Ok(()),
            Err(error) if sqlstate(&error) == Some("55006") && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(BEAT).await;
            }
            Err(error) => return Err(error.context(format!("drop database \"{name}\""))),
        }
    }
}

/// Drops the subscriptions of a database that a restore made. Their slots belong to the original: they are let go first, so
/// that no publisher is asked to drop them.
pub(crate) async fn drop_subscriptions(database: &ConnectOptions) -> Result<()> {
    let mut connection = settings::open(database, Session::Asking).await?;
    for name in names_of(&mut connection, SUBSCRIPTIONS).await? {
        let name = quote_ident(&name);
        for act in ["ALTER", "DROP"] {
            let rest = if act == "ALTER" { " SET (slot_name = NONE)" } else { "" };
            connection.execute(&format!("{act} SUBSCRIPTION {name}{rest}")).await?;
        }
    }
    connection.close().await;
    Ok(())
}

/// Returns a name that no database has: that of another one, a word and a time, cut at the name's end.
pub(crate) async fn free_name(admin: &mut Connection, name: &str, word: &str, stamp: &str) -> Result<String> {
    for number in 1..1000 {
        let more = if number == 1 {
            String::new()
        } else {
            format!("_{number}")
        };
        let tail = format!("_{word}_{stamp}{more}");
        let candidate = format!("{}{tail}", head(name, NAME_BYTES.saturating_sub(tail.len())));
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}",
            literal(&candidate)
        );
        if admin.query(&sql).await?.scalar().is_none() {
            return Ok(candidate);
        }
    }
    Err(Error::invalid(format!("no free name for database \"{name}\"")))
}

/// Returns at most `bytes` bytes of a name, cut at a character.
pub(crate) fn head(name: &str, bytes: usize) -> &str {
    let mut end = name.len().min(bytes);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    exact::text(name, ..end, "a character ends there")
}
