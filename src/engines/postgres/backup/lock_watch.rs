//! Watches whether statements of others wait behind the snapshot's table locks.
//!
//! ACCESS SHARE hinders nobody but DDL; yet a waiting DDL statement makes everyone behind it wait as well. So whoever
//! waits is named, and a backup that may not hinder for longer than it was told gives way.

use std::collections::HashSet;
use std::time::Duration;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::report::Note;
use crate::engines::Notes;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::text_row::TextRow;

const WAITERS: &str = include_str!("sql/lock_waiters.sql");

/// How long someone waits before it is worth a note.
const WORTH_A_NOTE: Duration = Duration::from_secs(15);

/// Returns once a statement has waited for longer than `max_block`; without one it never returns, but tells.
pub(crate) async fn watch(options: &ConnectOptions, leader: i32, max_block: Option<Duration>, notes: &Notes) -> Error {
    let pause = max_block.map_or(WORTH_A_NOTE, |limit| limit / 4);
    let pause = pause.clamp(Duration::from_millis(200), WORTH_A_NOTE);
    let mut connection: Option<Connection> = None;
    let mut told = HashSet::new();
    loop {
        tokio::time::sleep(pause).await;
        let waiters = match waiters(&mut connection, options, leader).await {
            Ok(waiters) => waiters,
            Err(error) => {
                // The readers have connections of their own: they say what is wrong with the server.
                tracing::debug!("unable to look for waiting sessions: {}", error.chain());
                connection = None;
                continue;
            }
        };
        for waiter in waiters {
            if max_block.is_some_and(|limit| waiter.waited > limit) {
                return Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "{} has been blocked by the backup for {} s",
                        waiter.who,
                        waiter.waited.as_secs()
                    ),
                )
                .with_hint("The backup was aborted to unblock it: run it again later, or raise --max-block.");
            }
            if waiter.waited >= WORTH_A_NOTE && told.insert(waiter.pid) {
                notes.add(Note::new(
                    "blocking",
                    format!("process {}", waiter.pid),
                    format!(
                        "{} is blocked by the backup and blocks others; --max-block would abort the backup",
                        waiter.who
                    ),
                ));
            }
        }
    }
}

struct Waiter {
    pid: i64,
    who: String,
    waited: Duration,
}

async fn waiters(connection: &mut Option<Connection>, options: &ConnectOptions, leader: i32) -> Result<Vec<Waiter>> {
    let open = match connection {
        Some(open) => open,
        none => {
            let mut new = settings::open(options, Session::Asking).await?;
            settings::in_own_encoding(&mut new).await?;
            new.execute("SET statement_timeout = '30s'").await?;
            none.insert(new)
        }
    };
    let sql = with_names(WAITERS, &[("leader", &leader.to_string())]);
    let result = open.query(&sql).await?;
    let make = |row: TextRow<'_>| {
        let (role, application) = (row.text("role")?, row.text("application")?);
        let (relation, statement) = (row.text("relation")?, row.text("statement")?);
        let pid: i64 = row.number("pid")?.unwrap_or(0);
        Ok(Waiter {
            pid,
            who: format!("process {pid} (role \"{role}\", application \"{application}\") on {relation}: {statement}"),
            waited: Duration::from_millis(row.number("waited_ms")?.unwrap_or(0)),
        })
    };
    result.named().map(make).collect()
}
