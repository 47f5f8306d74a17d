//! What a scratch server answers: how far it came, and whether its databases can be read.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::said::of_host;
use super::settings::{PORT, SESSION};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::Tools;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::url::{ConnectOptions, Host};
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wal::Lsn;
use crate::engines::postgres::wire::server_error::sqlstate;

const POSITION: &str = include_str!("sql/position.sql");
const DATABASES: &str = include_str!("sql/databases.sql");
const TABLES: &str = include_str!("sql/tables.sql");

/// Tables of each database that are read beside its catalog, and the largest size of one.
const MOST_TABLES: &str = "50";
const MOST_BYTES: &str = "1073741824";

/// How long tables are read in all.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long the server may be silent; a statement ends before.
const SILENCE: Duration = Duration::from_secs(120);

/// Databases that a cluster usually has: one of them is asked which there are.
const USUAL: [&str; 2] = ["template1", "postgres"];

/// Lines that are told of one kind, at most.
const LINES: usize = 20;

/// SQLSTATE of a statement that took too long.
const CANCELED: &str = "57014";

/// The SQLSTATE of a table that the session may not read: a database or a role may have settings that take the right away.
const DENIED: &str = "42501";

/// Where the recovery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) recovers: bool,
    pub(super) reached: Option<Lsn>,
    pub(super) last_transaction: Option<Timestamp>,
    pub(super) timeline: Option<u32>,
}

/// What was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) databases: u64,
    pub(super) closed: u64,
    pub(super) catalog_tables: u64,
    pub(super) tables: u64,
    pub(super) rows: u64,
    /// What was not read, and why that says nothing against the backup.
    pub(super) unread: Vec<String>,
    /// What could not be read.
    pub(super) wrong: Vec<String>,
}

/// The sessions of one server.
#[derive(Debug)]
pub(super) struct Sessions {
    options: ConnectOptions,
    begun: Instant,
}

impl Sessions {
    /// Logs in as the first of these roles that the server takes.
    pub(super) async fn open(socket: &Path, roles: &[String]) -> Result<(Self, Connection)> {
        let mut options = ConnectOptions::from_url_with("postgresql://scratch/template1", None, &|_| None)?;
        options.host = Host::Unix(socket.to_owned());
        options.port = PORT;
        options.startup_options = Some(SESSION.to_owned());
        options.read_timeout = SILENCE;
        let mut first = None;
        for (role, database) in roles.iter().flat_map(|role| USUAL.map(|database| (role, database))) {
            options.user.clone_from(role);
            database.clone_into(&mut options.database);
            match Connection::open(&options).await {
                Ok(connection) => {
                    let begun = Instant::now();
                    return Ok((Self { options, begun }, connection));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::invalid("no role is known")))
    }

    /// Reads something of every database that can be opened.
    pub(super) async fn look(&self, first: &mut Connection, tools: &Tools) -> Result<Looked> {
        let mut looked = Looked::default();
        let databases = tools.or_cancelled(first.query(DATABASES)).await?;
        for row in databases.named() {
            if row.flag("is_open")? {
                let name = row.text("name")?;
                self.database(name, tools, &mut looked).await?;
            } else {
                looked.closed += 1;
            }
        }
        Ok(looked)
    }

    async fn database(&self, name: &str, tools: &Tools, looked: &mut Looked) -> Result<()> {
        let options = self.options.with_database(name);
        let act = || format!("database \"{name}\"");
        let opened = tools.or_cancelled(Connection::open(&options)).await;
        let Some(mut connection) = looked.judge(opened, act)? else {
            return Ok(());
        };
        let query = with_names(TABLES, &[("bytes", MOST_BYTES), ("tables", MOST_TABLES)]);
        let tables = tools.or_cancelled(connection.query(&query)).await;
        let Some(tables) = looked.judge(tables, act)? else {
            return Ok(());
        };
        looked.databases += 1;
        for row in tables.named() {
            let (table, is_catalog) = (row.text("name")?, row.flag("is_catalog")?);
            if self.begun.elapsed() > LIMIT {
                note(
                    &mut looked.unread,
                    format!("{}: not all tables, for lack of time", act()),
                );
                break;
            }
            let count = format!("SELECT pg_catalog.count(*) AS rows FROM ONLY {table}");
            let count = tools.or_cancelled(connection.query(&count)).await;
            let Some(count) = looked.judge(count, || format!("{} table {table}", act()))? else {
                if connection.is_dead() {
                    break;
                }
                continue;
            };
            let rows = count.only()?.number("rows")?;
            if is_catalog {
                looked.catalog_tables += 1;
            } else {
                looked.tables += 1;
                looked.rows = looked
                    .rows
                    .saturating_add(rows.ok_or_else(|| Error::corrupt("a count is null"))?);
            }
        }
        Ok(())
    }
}

impl Looked {
    /// Takes what a statement came to: none where it failed, which is noted for what it is.
    fn judge<T>(&mut self, done: Result<T>, act: impl Fn() -> String) -> Result<Option<T>> {
        let error = match done {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => error,
        };
        let (act, said) = (act(), error.chain());
        match of_host(&said) {
            Some(why) => note(&mut self.unread, format!("{act}: {why} ({said})")),
            None if sqlstate(&error) == Some(DENIED) => note(&mut self.unread, format!("{act}: {said}")),
            None if sqlstate(&error) == Some(CANCELED) => note(&mut self.unread, format!("{act}: took too long")),
            None => note(&mut self.wrong, format!("{act}: {said}")),
        }
        Ok(None)
    }
}

/// Returns whether a server that works lets nobody in: its SQLSTATE is none of damaged data.
pub(super) fn is_refused_login(error: &Error) -> bool {
    sqlstate(error).is_some_and(|code| !code.starts_with("XX"))
}

/// Adds a line where there is room.
fn note(lines: &mut Vec<String>, line: String) {
    if lines.len() < LINES {
        lines.push(line);
    }
}

/// Asks where the recovery has ended.
pub(super) async fn position(connection: &mut Connection) -> Result<Position> {
    let answer = connection.query(POSITION).await?;
    let row = answer.only()?;
    let time = row.opt("last_transaction")?.map(str::parse).transpose();
    let last_transaction = time.map_err(|error| Error::corrupt("read a time of the server").with_cause(error))?;
    let file = row.opt("file")?.and_then(|file| file.get(..8));
    let timeline = file.map(|digits| u32::from_str_radix(digits, 16)).transpose();
    Ok(Position {
        recovers: row.flag("recovers")?,
        reached: row
            .opt("reached")?
            .map(str::parse)
            .transpose()
            .context("read a position of the server")?,
        last_transaction,
        timeline: timeline.map_err(|error| Error::corrupt("read a timeline of the server").with_cause(error))?,
    })
}
