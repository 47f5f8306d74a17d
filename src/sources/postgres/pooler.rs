//! Recognises a connection pooler between us and the server.
//!
//! A pooler makes up the process number that it announces at login, so the server's own answer differs from it. One that
//! lends a server session for a whole client session does no harm. One that lends it for a transaction only would hand
//! our session settings on to strangers, and theirs to us: it is known by two clients of ours getting the same
//! server process while both are connected, or one client getting two.

use super::connection::Connection;
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, ErrorKind, Result};

/// What stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooler {
    /// Nothing, or nothing that is to be seen.
    None,
    /// A pooler that lends sessions.
    Session,
    /// A pooler that lends transactions.
    Transaction,
}

/// Looks through a first connection, and through others if it is not the server's own.
pub(super) async fn look(options: &ConnectOptions) -> Result<Pooler> {
    let mut first = Connection::open(options).await?;
    let announced = first.process_id();
    let mut seen = vec![process(&mut first).await?];
    if announced == 0 || seen.first() == Some(&announced) {
        first.close().await;
        return Ok(Pooler::None);
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = Connection::open(options).await?;
        seen.push(process(&mut other).await?);
        others.push(other);
    }
    // While another client is in a transaction, the pooler has to lend this one another server session.
    let mut lent = false;
    if let Some(other) = others.first_mut() {
        other.execute("BEGIN READ ONLY").await?;
        let (busy, own) = (process(other).await?, process(&mut first).await?);
        lent = busy == own || seen.first() != Some(&own);
        other.execute("COMMIT").await?;
    }
    first.close().await;
    for other in others {
        other.close().await;
    }
    let clients = seen.len();
    seen.sort_unstable();
    seen.dedup();
    Ok(if lent || seen.len() < clients {
        Pooler::Transaction
    } else {
        Pooler::Session
    })
}

/// Refuses a pooler that lends transactions.
pub(super) async fn refuse(options: &ConnectOptions) -> Result<()> {
    match look(options).await? {
        Pooler::Transaction => Err(refusal()),
        Pooler::None | Pooler::Session => Ok(()),
    }
}

/// The error for a pooler that lends transactions.
pub(super) fn refusal() -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "a connection pooler in transaction mode stands between: a session is not one's own for longer than a transaction",
    )
    .with_hint("Connect to the server itself, or to a pool in session mode.")
}

async fn process(connection: &mut Connection) -> Result<i32> {
    let answer = connection.query("SELECT pg_catalog.pg_backend_pid()").await;
    let answer = answer.context("look for a pooler")?;
    Ok(answer.scalar().and_then(|pid| pid.parse().ok()).unwrap_or(0))
}
