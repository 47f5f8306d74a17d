//! Recognises a connection pooler between us and the server.
//!
//! A pooler makes up the process number that it announces at login, so the server's own answer differs from it. One that
//! lends a server session for a whole client session does no harm. One that lends it for a transaction or a statement only would
//! hand our session settings on to strangers, and theirs to us, and no session could import the snapshot of another: it is known
//! by two clients of ours getting the same server process while both are connected, or one client getting two. One that lends
//! fewer sessions than a backup needs lets the others wait without a word: it is known by a client that gets no answer.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::sessions::{PATIENCE, TOO_MANY};
use super::url::{ConnectOptions, Host};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::wire::server_error::sqlstate;

/// What stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing, or nothing that is to be seen.
    None,
    /// A pooler that lends sessions: at least so many at once; another was not to be had within this time.
    Session(usize, Duration),
    /// A pooler that lends transactions.
    Transaction,
    /// A pooler that lends statements.
    Statement,
}

/// Sessions that a backup has at the least: the one with the snapshot, one that looks for tables, one that watches for whoever
/// waits behind it, and one reader.
const NEEDED: usize = 4;

/// Sessions that are asked of a pooler; if it lends them, its size does not matter.
const TRIED: usize = 8;

/// How long a client of a pooler waits at the least for its turn before it is taken as one too many.
const TURN: Duration = Duration::from_secs(5);

/// How many times the first client's wait another one waits: a login over a long way, or into a pooler that has to open a
/// session of the server first, takes its time.
const TURN_FACTOR: u32 = 4;

/// Looks through a first connection, and through others if it is not the server's own.
pub(crate) async fn look(options: &ConnectOptions) -> Result<Pooler> {
    if is_known(options) {
        return Ok(Pooler::Transaction);
    }
    let from = Instant::now();
    let mut first = Connection::open(options).await?;
    let announced = first.process_id();
    let own = process(&mut first).await?;
    let turn = turn_after(from.elapsed());
    if announced == 0 || own == announced {
        first.close().await;
        return Ok(Pooler::None);
    }
    let mut others = Vec::new();
    let found = look_at(options, &mut first, (own, turn), &mut others).await;
    first.close().await;
    for other in others {
        other.close().await;
    }
    found
}

/// Returns how long a client waits for its turn, by what the first one took.
fn turn_after(first: Duration) -> Duration {
    TURN.max(first.saturating_mul(TURN_FACTOR))
}

async fn look_at(
    options: &ConnectOptions,
    first: &mut Connection,
    (own, turn): (i32, Duration),
    others: &mut Vec<Connection>,
) -> Result<Pooler> {
    let mut seen = vec![own];
    while seen.len() < TRIED {
        let taken = if others.is_empty() {
            take_first_turn(options, first, (own, turn)).await?
        } else {
            take_turn(options, turn).await?
        };
        let (other, process) = match taken {
            Turn::Taken(other, process) => (*other, process),
            Turn::Waits => break,
            Turn::OfFirst => return Ok(Pooler::Transaction),
        };
        others.push(other);
        if seen.contains(&process) {
            return Ok(kind_of_loan(others, turn).await);
        }
        seen.push(process);
    }
    // While another client is in a transaction, the pooler may have to lend this one another server session.
    if let Some(other) = others.first_mut() {
        if other.execute("BEGIN READ ONLY").await.is_err() {
            return Ok(Pooler::Statement);
        }
        let busy = process(other).await?;
        let now = tokio::time::timeout(turn, process(first)).await;
        let is_lent = now.is_err() || now.is_ok_and(|now| now.is_ok_and(|now| now == busy || now != own));
        if is_lent {
            return Ok(Pooler::Transaction);
        }
        other.execute("COMMIT").await?;
    }
    Ok(Pooler::Session(seen.len(), turn))
}

/// What became of another client.
enum Turn {
    /// It has a server process.
    Taken(Box<Connection>, i32),
    /// The pooler lets it wait, or the server has no room for it.
    Waits,
    /// The pooler lets it wait, and the first client, which had a session, with it.
    OfFirst,
}

/// Opens the session of the second client, on which all depends: a slow login proves nothing, so it is waited for as long as a
/// login may take. If then it gets no answer, the first one does, unless its session is lent to somebody else in between.
async fn take_first_turn(
    options: &ConnectOptions,
    first: &mut Connection,
    (own, turn): (i32, Duration),
) -> Result<Turn> {
    let mut other = match Connection::open(options).await {
        Ok(other) => other,
        Err(error) if is_full(&error) => return Ok(Turn::Waits),
        Err(error) => {
            let act = "log in a second time, to see whether a connection pooler provides whole sessions";
            let hint = "Connect directly to the server, or raise connect_timeout if logins are slow.";
            return Err(match error.kind() {
                ErrorKind::TimedOut => error.context(act).with_hint_instead(hint),
                _ => error.context(act),
            });
        }
    };
    let answered = {
        let asked = process(&mut other);
        tokio::pin!(asked);
        let Ok(answered) = tokio::time::timeout(turn, &mut asked).await else {
            // It goes on waiting meanwhile: a pooler serves whoever comes in order.
            let now = tokio::time::timeout(turn, process(first)).await;
            let keeps = now.is_ok_and(|now| now.is_ok_and(|now| now == own));
            return Ok(if keeps { Turn::Waits } else { Turn::OfFirst });
        };
        answered
    };
    match answered {
        Ok(process) => Ok(Turn::Taken(Box::new(other), process)),
        Err(error) if is_full(&error) => Ok(Turn::Waits),
        Err(error) => Err(error),
    }
}

/// Opens a session and asks for its server process.
async fn take_turn(options: &ConnectOptions, turn: Duration) -> Result<Turn> {
    let opened = async {
        let mut connection = Connection::open(options).await?;
        let process = process(&mut connection).await?;
        Ok((connection, process))
    };
    match tokio::time::timeout(turn, opened).await {
        Err(_) => Ok(Turn::Waits),
        Ok(Ok((connection, process))) => Ok(Turn::Taken(Box::new(connection), process)),
        Ok(Err(error)) if is_full(&error) => Ok(Turn::Waits),
        Ok(Err(error)) => Err(error),
    }
}

/// Returns whether the server, or the pooler, says that there are too many: `query_wait_timeout`, `max_client_conn`.
fn is_full(error: &Error) -> bool {
    matches!(sqlstate(error), Some(TOO_MANY | "08P01"))
}

/// Tells transactions from statements, of a pooler that lent one server session to two clients.
async fn kind_of_loan(others: &mut [Connection], turn: Duration) -> Pooler {
    let Some(other) = others.last_mut() else {
        return Pooler::Transaction;
    };
    match tokio::time::timeout(turn, other.execute("BEGIN READ ONLY")).await {
        Ok(Err(_)) => Pooler::Statement,
        _ => Pooler::Transaction,
    }
}

/// Returns whether the name of the host is that of a pooler in transaction mode.
fn is_known(options: &ConnectOptions) -> bool {
    let names = options.servers();
    names.iter().any(|server| match &server.host {
        Host::Tcp(name) => is_neon_pooler(name) || (is_supabase_pooler(name) && server.port == SUPABASE_TRANSACTIONS),
        Host::Unix(_) => false,
    })
}

/// Port of Supabase's pooler that lends transactions; the same host lends sessions on 5432.
const SUPABASE_TRANSACTIONS: u16 = 6543;

/// `ep-cool-name-123456-pooler.eu-central-1.aws.neon.tech`
fn is_neon_pooler(host: &str) -> bool {
    let first = host.split('.').next().unwrap_or_default();
    first.ends_with("-pooler") && (host.ends_with(".neon.tech") || host.ends_with(".neon.build"))
}

/// `aws-0-eu-central-1.pooler.supabase.com`; the direct host has the pooler's port, too.
fn is_supabase_pooler(host: &str) -> bool {
    host.ends_with(".pooler.supabase.com") || (host.starts_with("db.") && host.ends_with(".supabase.co"))
}

/// Refuses a pooler through which no backup can be made; returns how many tables may be read at once where one lends few
/// sessions.
pub(crate) async fn refuse(options: &ConnectOptions) -> Result<Option<usize>> {
    let found = look(options).await?;
    match (refusal(found, options), found) {
        (Some(error), _) => Err(error),
        (None, Pooler::Session(sessions, _)) => {
            // What a look has closed is not the pooler's at once.
            wait_for_room(options).await?;
            Ok((sessions < TRIED).then(|| sessions + 1 - NEEDED))
        }
        (None, _) => Ok(None),
    }
}

/// Refuses to restore through a pooler that does not lend sessions; `session` is one of the same server.
pub(crate) async fn refuse_lent(session: &mut Connection, options: &ConnectOptions) -> Result<()> {
    let from = Instant::now();
    let own = process(session).await?;
    let turn = turn_after(from.elapsed());
    let announced = session.process_id();
    let found = if is_known(options) {
        Pooler::Transaction
    } else if announced == 0 || own == announced {
        Pooler::None
    } else {
        let mut others = Vec::new();
        let options = options.with_database(session.database());
        let found = look_at(&options, session, (own, turn), &mut others).await;
        for other in others {
            other.close().await;
        }
        found?
    };
    match found {
        // However few: a restore makes do with one.
        Pooler::None | Pooler::Session(..) => Ok(()),
        Pooler::Transaction | Pooler::Statement => refusal(found, options).map_or(Ok(()), Err),
    }
}

/// Waits until the pooler has taken back what was closed: it serves whoever comes in order.
async fn wait_for_room(options: &ConnectOptions) -> Result<()> {
    let opened = async {
        let mut connection = Connection::open(options).await?;
        process(&mut connection).await?;
        connection.close().await;
        Ok(())
    };
    let opened = tokio::time::timeout(PATIENCE, opened).await;
    opened.map_err(|_| {
        Error::new(
            ErrorKind::TimedOut,
            "connected through a connection pooler that provides no session",
        )
    })?
}

/// The error for a pooler through which no backup can be made.
pub(crate) fn refusal(found: Pooler, options: &ConnectOptions) -> Option<Error> {
    let message = match found {
        Pooler::None => return None,
        Pooler::Session(sessions, _) if sessions >= NEEDED => return None,
        Pooler::Session(sessions, turn) => format!(
            "connected through a connection pooler that provides only {sessions} session{} at once (no other within \
             {} s); a backup needs {NEEDED}",
            if sessions == 1 { "" } else { "s" },
            turn.as_secs_f64().ceil()
        ),
        Pooler::Transaction => {
            "connected through a connection pooler in transaction mode: session settings get lost, and sessions \
             cannot share a snapshot"
                .to_owned()
        }
        Pooler::Statement => {
            "connected through a connection pooler in statement mode, which allows no transactions".to_owned()
        }
    };
    Some(Error::new(ErrorKind::PreconditionFailed, message).with_hint(hint(found, options)))
}

fn hint(found: Pooler, options: &ConnectOptions) -> &'static str {
    let Some(Host::Tcp(host)) = options.servers().into_iter().next().map(|server| server.host) else {
        return GENERAL;
    };
    if is_neon_pooler(&host) {
        return "Use Neon's direct host: the same name without \"-pooler\".";
    }
    if is_supabase_pooler(&host) && !matches!(found, Pooler::Session(..)) {
        return "Use Supabase's session pooler (the same host and user on port 5432), or the direct host db.PROJECT.supabase.co.";
    }
    match found {
        Pooler::Session(..) => {
            "Raise the pool's size (pgbouncer: default_pool_size, pool_size), or connect directly to the server."
        }
        _ => GENERAL,
    }
}

const GENERAL: &str = "Connect directly to the server, or to a pool in session mode (pgbouncer: pool_mode = session).";

async fn process(connection: &mut Connection) -> Result<i32> {
    let answer = connection.query("SELECT pg_catalog.pg_backend_pid()").await;
    let answer = answer.context("look for a pooler")?;
    Ok(answer.scalar().and_then(|pid| pid.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn poolers_of_hosting_companies_are_known_by_their_names() {
        let known = |text: &str| {
            let options = ConnectOptions::from_url_with(text, None, &|_| None).unwrap();
            let error = is_known(&options).then(|| refusal(Pooler::Transaction, &options).unwrap());
            error.map(|error| error.hint().unwrap().to_owned()).unwrap_or_default()
        };
        assert!(known("postgres://u@ep-a-1-pooler.eu-central-1.aws.neon.tech/x").contains("without \"-pooler\""));
        assert!(known("postgres://u.ref@aws-0-eu-central-1.pooler.supabase.com:6543/postgres").contains("5432"));
        assert!(known("postgres://u@db.ref.supabase.co:6543/postgres").contains("5432"));
        for direct in [
            "postgres://u@ep-a-1.eu-central-1.aws.neon.tech/x",
            "postgres://u.ref@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
            "postgres://u@db.ref.supabase.co:5432/postgres",
            "postgres://u@my-pooler.example/x",
            "postgres://u@127.0.0.1:6543/x",
        ] {
            assert_eq!(known(direct), "", "{direct}");
        }
    }

    /// A pooler that lets everybody log in, and whose one server session is somebody else's behind the first query.
    async fn lends_transactions(listener: tokio::net::TcpListener) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for number in 1_u8.. {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                // The startup message, then one query after another.
                if client.read(&mut bytes).await? > 0 {
                    let ready = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0@\0\0\0\0Z\0\0\0\x05I";
                    let announced = ready.map(|byte| if byte == b'@' { 100 + number } else { byte });
                    client.write_all(&announced).await?;
                }
                if number == 1 && client.read(&mut bytes).await? > 0 {
                    let row = b"D\0\0\0\x0b\0\x01\0\0\0\x017C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
                    client.write_all(row).await?;
                }
                while client.read(&mut bytes).await? > 0 {}
                std::io::Result::Ok(())
            });
        }
    }

    #[tokio::test]
    async fn a_login_that_takes_longer_than_a_turn_is_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/x?sslmode=disable", listener.local_addr().unwrap());
        let pooler = tokio::spawn(lends_transactions(listener));
        let options = ConnectOptions::from_url_with(&url, None, &|_| None).unwrap();
        let mut first = Connection::open(&options).await.unwrap();
        assert_eq!((process(&mut first).await.unwrap(), first.process_id()), (7, 101));
        // Every login is longer than no time at all; one that was not waited for would be a session that waits.
        let found = look_at(&options, &mut first, (7, Duration::ZERO), &mut Vec::new()).await;
        assert_eq!(found.unwrap(), Pooler::Transaction);
        pooler.abort();
    }

    #[test]
    fn a_small_pool_is_told_with_its_size() {
        let options = ConnectOptions::from_url_with("postgres://u@h/x", None, &|_| None).unwrap();
        assert!(
            refusal(Pooler::Session(NEEDED, TURN), &options).is_none() && refusal(Pooler::None, &options).is_none()
        );
        let one = refusal(Pooler::Session(1, turn_after(Duration::from_millis(1600))), &options).unwrap();
        let said = one.chain();
        assert!(said.contains("1 session at once (no other within 7 s)"), "{said}");
        assert_eq!(turn_after(Duration::from_secs(1)), TURN);
        assert!(one.hint().unwrap().contains("pool_size"));
    }
}
