//! Joins the stream of a server where what is stored, or was received, ends.

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::RedisAddress;
use crate::engines::redis::log::described::Piece;
use crate::engines::redis::log::position::{Position, ReplicationId};
use crate::engines::redis::log::replica::{Answer, History, Replica};
use crate::operations::log::redis::stored::Streams;

/// A history that is being stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) id: ReplicationId,
    /// It is stored from here on without a hole.
    pub(super) since: u64,
    /// Where the history that it continues was left.
    pub(super) follows: Option<Position>,
    /// A snapshot from which a restore can begin.
    pub(super) base: Option<Position>,
}

/// What has come of a stream.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) branch: Branch,
    /// Up to here it came.
    pub(super) received: u64,
    /// The end of the last whole command before that.
    pub(super) commands_to: u64,
}

/// A stream that comes.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) replica: Replica,
    pub(super) branch: Branch,
    /// Where it begins: a command does so too, unless it goes on in the middle of what came before.
    pub(super) from: u64,
    /// What lies before is stored already.
    pub(super) hold_from: u64,
    /// Whether it goes on exactly where it was interrupted.
    pub(super) goes_on: bool,
    /// What was expected and is lost: it lies between the two.
    pub(super) gap: Option<(Position, Position)>,
}

/// Where the stream should go on.
struct Wish {
    branch: Branch,
    at: Position,
    hold_from: u64,
    goes_on: bool,
}

/// Connects, and asks for what follows; takes what there is if the server does not have that any more.
pub(super) async fn attach(streams: Streams, address: RedisAddress, known: Option<Known>) -> Result<Attached> {
    let (mut replica, history) = Replica::connect(&address).await?;
    if replica.server().is_cluster() && !address.reading.only_node {
        return Err(
            Error::unsupported("the server is a node of a cluster, and a log is that of one server").with_hint(
                "Receive from each shard on its own: redis://NODE?cluster=no, each under a name of its own.",
            ),
        );
    }
    let server = replica.server();
    if server.product() == "redis" && server.major().is_some_and(|major| major < 7) {
        let version = server.version();
        return Err(Error::unsupported(format!(
            "the stream of Redis {version} does not say when keys expire, but after how long"
        ))
        .with_hint("A log needs Redis 7.0 or later, or Valkey."));
    }
    let wish = match known.as_ref().and_then(|known| of_known(known, &history)) {
        Some(wish) => Some(wish),
        None => of_stored(&streams, &history).await?,
    };
    let at = wish.as_ref().map_or(&history.now, |wish| &wish.at);
    if at.id == history.now.id && at.offset > history.now.offset {
        let message = format!("the server is at {}, behind {at}, which was received", history.now);
        return Err(Error::new(ErrorKind::Unavailable, message)
            .with_hint("A replica that lags catches up; the log goes on then."));
    }
    let answer = replica.synchronize(at).await?;
    let begun = |id: ReplicationId, offset: u64| Branch {
        id,
        since: offset,
        follows: None,
        base: None,
    };
    let at = at.clone();
    Ok(match (answer, wish) {
        (Answer::Continued(id), Some(wish)) if id == wish.at.id => Attached {
            replica,
            branch: wish.branch,
            from: wish.at.offset,
            hold_from: wish.hold_from,
            goes_on: wish.goes_on,
            gap: None,
        },
        // The server has become a primary: a history that continues the other one.
        (Answer::Continued(id), Some(wish)) => Attached {
            replica,
            branch: Branch {
                id,
                since: at.offset,
                base: wish.branch.base,
                follows: Some(at.clone()),
            },
            from: at.offset,
            hold_from: at.offset,
            goes_on: false,
            gap: None,
        },
        (Answer::Continued(id), None) => Attached {
            replica,
            branch: begun(id, at.offset),
            from: at.offset,
            hold_from: at.offset,
            goes_on: false,
            gap: None,
        },
        (Answer::Resynchronized(position), wish) => Attached {
            replica,
            branch: begun(position.id.clone(), position.offset),
            from: position.offset,
            hold_from: position.offset,
            goes_on: false,
            gap: wish
                .map(|wish| wish.at)
                .or(known.map(|known| Position {
                    id: known.branch.id,
                    offset: known.received,
                }))
                .map(|expected| (expected, position)),
        },
    })
}

/// Returns where to go on, if the server knows the history that was received.
fn of_known(known: &Known, history: &History) -> Option<Wish> {
    let branch = known.branch.clone();
    if branch.id == history.now.id {
        return Some(Wish {
            at: Position {
                id: branch.id.clone(),
                offset: known.received,
            },
            branch,
            hold_from: known.received,
            goes_on: true,
        });
    }
    let before = history.before.as_ref().filter(|before| before.id == branch.id)?;
    Some(continued(branch, known.commands_to, before))
}

/// Returns where to go on by what is stored of the server's history, or of the one that it continues.
async fn of_stored(streams: &Streams, history: &History) -> Result<Option<Wish>> {
    let branch = |id: &ReplicationId, piece: &Piece| Branch {
        id: id.clone(),
        since: piece.since,
        follows: piece.follows.clone(),
        base: piece.base.clone(),
    };
    let id = &history.now.id;
    if let Some(piece) = streams.newest(id).await? {
        return Ok(Some(Wish {
            branch: branch(id, &piece),
            // The rest of a command that is stored in part is read once more, to know where it ends.
            at: Position {
                id: id.clone(),
                offset: piece.commands_to,
            },
            hold_from: piece.to,
            goes_on: false,
        }));
    }
    let Some(before) = &history.before else {
        return Ok(None);
    };
    let newest = streams.newest(&before.id).await?;
    Ok(newest.map(|piece| continued(branch(&before.id, &piece), piece.commands_to, before)))
}

/// Goes on in the history that continues another one. What of that one came behind its end for this server was never there.
fn continued(branch: Branch, commands_to: u64, before: &Position) -> Wish {
    let offset = commands_to.min(before.offset);
    if commands_to > before.offset {
        tracing::warn!(
            "the new primary continues {before}; what the old one wrote behind that, up to {commands_to}, is kept as a dead branch"
        );
    }
    Wish {
        at: Position {
            id: branch.id.clone(),
            offset,
        },
        branch,
        hold_from: offset,
        goes_on: false,
    }
}
