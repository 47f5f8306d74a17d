//! Joins the stream of a server where what is stored, or was received, ends.

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::RedisAddress;
use crate::engines::redis::log::described::{Gap, GapCause};
use crate::engines::redis::log::marks::Mark;
use crate::engines::redis::log::position::Position;
use crate::engines::redis::log::replica::{Answer, History, Replica};
use crate::engines::redis::log::tail::Tail;
use crate::operations::log::redis::claim::{Claim, Other};
use crate::operations::log::redis::resume::{self, Branch, Known, Wish};
use crate::operations::log::redis::stored::Streams;

/// What is known where a connection is made.
#[derive(Debug, Clone)]
pub(super) struct Attaching {
    pub(super) streams: Streams,
    pub(super) address: RedisAddress,
    pub(super) claim: Claim,
    /// What came over the connections before.
    pub(super) known: Option<Known>,
    /// Up to where a history is stored, or held, of which the server has other bytes.
    pub(super) rolled_back: Option<Position>,
}

/// What a connection met.
#[derive(Debug)]
pub(super) enum Met {
    /// The stream comes.
    Stream(Box<Attached>),
    /// The server is where it was before: it went back to an older state of the history that is known up to there.
    RolledBack { server: Position, known: Position },
}

/// A stream that comes.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) replica: Replica,
    pub(super) branch: Branch,
    /// The offset of the first byte that comes.
    pub(super) begins: u64,
    /// Where it is to be looked at: a command begins there, unless it goes on in the middle of what came before.
    pub(super) from: u64,
    /// What lies before is stored already.
    pub(super) hold_from: u64,
    /// Whether it goes on exactly where it was interrupted.
    pub(super) goes_on: bool,
    /// What is known of it: the server must send the same.
    pub(super) tail: Tail,
    /// The last time mark.
    pub(super) mark: Option<Mark>,
    /// What was expected and is lost, if something is. It ends where the branch begins.
    pub(super) gap: Option<Gap>,
    /// Whether the server did not go on where it was asked to.
    pub(super) is_resynchronized: bool,
    /// Whether it was asked for more than is missing, to compare it.
    is_asked_early: bool,
    /// Bytes that the server keeps for those who come again, as far as it says so.
    pub(super) backlog_bytes: Option<u64>,
}

/// Connects, and asks for what follows; takes what there is if the server does not have that any more.
pub(super) async fn attach(asked: Attaching) -> Result<Met> {
    match once(&asked, true).await? {
        // What was asked for to compare may have been too early for it.
        Met::Stream(stream) if stream.is_resynchronized && stream.is_asked_early => {
            drop(stream);
            once(&asked, false).await
        }
        met => Ok(met),
    }
}

async fn once(asked: &Attaching, compares: bool) -> Result<Met> {
    let (mut replica, history) = Replica::connect(&asked.address).await?;
    is_followed(&replica, &asked.address)?;
    let others = match (&asked.known, &asked.rolled_back) {
        (Some(_), None) => Vec::new(),
        _ => asked.claim.others().await?,
    };
    for other in others.iter().filter(|_| asked.known.is_none()) {
        other.is_of(&history, &asked.streams.source)?;
    }
    let rolled_back = rolled_back(asked, &history, &others).await?;
    let known = asked.known.as_ref().filter(|_| rolled_back.is_none());
    let wish = match known.and_then(|known| resume::of_known(known, &history)) {
        None if rolled_back.is_none() => resume::of_stored(&asked.streams, &history).await?,
        wish => wish,
    };
    let at = wish.as_ref().map_or(&history.now, |wish| &wish.at).clone();
    let known_to = wish.as_ref().map_or(0, |wish| wish.hold_from).max(at.offset);
    if at.id == history.now.id && known_to > history.now.offset {
        let known = Position {
            id: at.id,
            offset: known_to,
        };
        if replica.server().replica() == Some(false) {
            let server = history.now;
            return Ok(Met::RolledBack { server, known });
        }
        let message = format!("the server is at {}, behind {known}, which was received", history.now);
        return Err(Error::new(ErrorKind::Unavailable, message)
            .with_hint("A replica that lags catches up; the log goes on then."));
    }
    let expected = match (&rolled_back, &wish, &asked.known) {
        (Some(known), ..) => Some(known.clone()),
        (_, Some(wish), _) => Some(wish.at.clone()),
        (_, _, Some(known)) => Some(known.position()),
        (None, None, None) => stored_of(&asked.streams, &others).await?,
    };
    let why = match (&rolled_back, &wish) {
        (Some(_), _) => GapCause::RolledBack,
        (_, Some(wish)) => wish.cause,
        (None, None) => GapCause::UnknownHistory,
    };
    let gap = expected.map(|from| Gap { from, why });
    let from = match &wish {
        Some(wish) if compares => wish.asked_from(replica.backlog_from()),
        _ => at.offset,
    };
    let answer = replica
        .synchronize(&Position {
            id: at.id.clone(),
            offset: from,
        })
        .await?;
    if let Answer::Continued(id) = &answer
        && *id != history.now.id
    {
        // Where its commands end in the history before it is what INFO says: it must be asked again.
        let message = format!(
            "the server became {id} while it was asked where it is, at {}",
            history.now
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint("The next try asks anew."));
    }
    Ok(Met::Stream(Box::new(joined(replica, answer, wish, (at, from), gap))))
}

/// Refuses a server whose stream cannot be a log.
fn is_followed(replica: &Replica, address: &RedisAddress) -> Result<()> {
    let server = replica.server();
    if server.is_cluster() && !address.reading.only_node {
        return Err(
            Error::unsupported("the server is a node of a cluster, and a log is that of one server").with_hint(
                "Receive from each shard on its own: redis://NODE?cluster=no, each under a name of its own.",
            ),
        );
    }
    if server.product() == "redis" && server.major().is_some_and(|major| major < 7) {
        let version = server.version();
        return Err(Error::unsupported(format!(
            "the stream of Redis {version} does not say when keys expire, but after how long"
        ))
        .with_hint("A log needs Redis 7.0 or later, or Valkey."));
    }
    Ok(())
}

/// Returns up to where a history is taken that the server, or the one that it continues, has with other bytes. What it writes
/// can be stored only behind that, for the names before it are those of what was there.
async fn rolled_back(asked: &Attaching, history: &History, others: &[Other]) -> Result<Option<Position>> {
    let Some(known) = &asked.rolled_back else {
        return Ok(None);
    };
    // Both may be right, each of its own server: what they store must not be mixed.
    if let Some(other) = others.iter().find(|other| other.is_at_work_on(&known.id)) {
        let message = format!(
            "{} stores another stream of {} under the same name",
            other.place, known.id
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
            "Is one server a copy of the other? Then end one of the two receivers, and give it a name or a repository of its own.",
        ));
    }
    if history.before.as_ref().is_some_and(|before| before.id == known.id) {
        return Ok(Some(known.clone()));
    }
    if known.id != history.now.id {
        return Ok(None);
    }
    let stored = asked
        .streams
        .newest(&known.id)
        .await?
        .map_or(0, |newest| newest.piece.to);
    let taken = known.offset.max(stored);
    if history.now.offset < taken {
        let message = format!(
            "the server is at {}, and offsets up to {taken} are stored of what it wrote before it went back",
            history.now
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
            "What it writes until then is in no log. A restart of the server that keeps its data, or a failover, gives it a new history at once.",
        ));
    }
    Ok(Some(known.clone()))
}

/// Returns where what is stored of the source ends, whoever received it.
async fn stored_of(streams: &Streams, others: &[Other]) -> Result<Option<Position>> {
    let theirs = others.iter().filter_map(|other| other.stored_to.as_ref());
    streams.latest(theirs.map(|theirs| theirs.id.clone()).collect()).await
}

/// Puts together what comes, by what the server answered.
fn joined(
    replica: Replica,
    answer: Answer,
    wish: Option<Wish>,
    (at, asked_from): (Position, u64),
    gap: Option<Gap>,
) -> Attached {
    let backlog_bytes = replica.server().number("repl_backlog_size");
    let is_asked_early = asked_from < at.offset;
    match (answer, wish) {
        (Answer::Continued(id), Some(wish)) => {
            let is_same = id == at.id;
            let branch = if is_same {
                wish.branch
            } else {
                // The server has become a primary: a history that continues the other one.
                wish.branch.left_for(id, at.offset)
            };
            Attached {
                replica,
                branch,
                begins: asked_from,
                from: at.offset,
                hold_from: if is_same { wish.hold_from } else { at.offset },
                goes_on: is_same && wish.goes_on,
                tail: wish.tail,
                mark: wish.mark,
                gap: None,
                is_resynchronized: false,
                is_asked_early,
                backlog_bytes,
            }
        }
        (answer, _) => {
            let (position, is_resynchronized) = match answer {
                Answer::Continued(id) => (Position { id, ..at }, false),
                Answer::Resynchronized(position) => (position, true),
            };
            let gap = gap.filter(|gap| gap.from != position);
            Attached {
                replica,
                begins: position.offset,
                from: position.offset,
                hold_from: position.offset,
                goes_on: false,
                tail: Tail::at(position.offset),
                mark: None,
                branch: Branch::begun(position, gap.clone()),
                gap,
                is_resynchronized,
                is_asked_early,
                backlog_bytes,
            }
        }
    }
}
