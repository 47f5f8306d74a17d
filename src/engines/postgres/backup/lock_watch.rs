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
    // The column with the time of waiting came with 14; before, the statement's age has to do.
    let sql = format!(
        "SELECT DISTINCT ON (l.pid) l.pid, a.usename, a.application_name, pg_catalog.left(a.query, 120), l.relation::pg_catalog.regclass::text, \
         pg_catalog.floor(1000 * EXTRACT(epoch FROM pg_catalog.clock_timestamp() \
            - COALESCE((pg_catalog.to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start)))::bigint \
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE NOT l.granted AND l.locktype = 'relation' AND {leader} = ANY (pg_catalog.pg_blocking_pids(l.pid)) ORDER BY l.pid LIMIT 20"
    );
    let result = open.query(&sql).await?;
    let make = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        Waiter {
            pid: text(0).parse().unwrap_or(0),
            who: format!(
                "process {} (role \"{}\", application \"{}\") on {}: {}",
                text(0),
                text(1),
                text(2),
                text(4),
                text(3)
            ),
            waited: Duration::from_millis(text(5).parse().unwrap_or(0)),
        }
    };
    Ok(result.rows.iter().map(make).collect())
}
