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
    /// What is stored, or held, and does not lead to what the server writes.
    pub(super) lost: Option<Lost>,
}

/// A history that does not lead to what the server writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// Up to here it is known.
    pub(super) known: Position,
    pub(super) why: GapCause,
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
    /// What the server says of its history.
    pub(super) history: History,
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

impl Attached {
    /// The offset at which the server was when the link was made: what comes before that is older.
    pub(super) fn server_at(&self) -> u64 {
        let now = &self.history.now;
        if now.id == self.branch.id {
            now.offset
        } else {
            self.from
        }
    }
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
    // Whoever comes next must know it, even if this server is another one by then.
    if let Some(lost) = asked.lost.as_ref().filter(|lost| lost.why == GapCause::RolledBack) {
        asked.streams.note_went_back(&lost.known).await?;
    }
    let (mut replica, history) = Replica::connect(&asked.address).await?;
    is_followed(&replica, &asked.address)?;
    let others = match (&asked.known, &asked.lost) {
        (Some(_), None) => Vec::new(),
        _ => asked.claim.others().await?,
    };
    for other in others.iter().filter(|_| asked.known.is_none()) {
        other.is_of(&history, &asked.streams.source)?;
    }
    let lost = match &asked.lost {
        None if asked.known.is_none() => noted(&asked.streams, &history).await?,
        lost => lost.clone(),
    };
    let lost = lost_of(asked, lost, &history, &others).await?;
    let known = asked.known.as_ref().filter(|_| lost.is_none());
    let wish = match known.and_then(|known| resume::of_known(known, &history)) {
        None if lost.is_none() => resume::of_stored(&asked.streams, &history).await?,
        wish => wish,
    };
    let asked_from = |wish: &Wish| {
        if compares {
            wish.asked_from(replica.backlog_from())
        } else {
            wish.at.offset
        }
    };
    let (lost, wish) = match wish {
        Some(wish) if wish.is_unsure(&history.now.id, asked_from(&wish)) => {
            tracing::warn!(
                "the server continues {}, and does not have what came before that any more, to compare it with what is stored",
                wish.at
            );
            let (known, why) = (wish.at, GapCause::Backlog);
            (Some(Lost { known, why }), None)
        }
        wish => (lost, wish),
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
    let expected = match (&lost, &wish, &asked.known) {
        (Some(lost), ..) => Some(lost.known.clone()),
        (_, Some(wish), _) => Some(wish.at.clone()),
        (_, _, Some(known)) => Some(known.position()),
        (None, None, None) => stored_of(&asked.streams, &others).await?,
    };
    let why = match (&lost, &wish) {
        (Some(lost), _) => lost.why,
        (_, Some(wish)) => wish.cause,
        (None, None) => GapCause::UnknownHistory,
    };
    let gap = expected.map(|from| Gap { from, why });
    let from = wish.as_ref().map_or(at.offset, asked_from);
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
    let joined = joined((replica, history), answer, wish, (at, from), gap);
    Ok(Met::Stream(Box::new(joined)))
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

/// Returns what a receiver before this one has noted.
async fn noted(streams: &Streams, history: &History) -> Result<Option<Lost>> {
    let Some(known) = streams.went_back(history).await? else {
        return Ok(None);
    };
    tracing::warn!("the server went back while {known} was known, and nothing that it wrote since is stored");
    let why = GapCause::RolledBack;
    Ok(Some(Lost { known, why }))
}

/// Returns up to where a history is taken that does not lead to what the server writes, be it its own or the one that it continues.
/// What it writes can be stored only behind that, for the names before it are those of what was there.
async fn lost_of(asked: &Attaching, lost: Option<Lost>, history: &History, others: &[Other]) -> Result<Option<Lost>> {
    let Some(lost) = lost else {
        return Ok(None);
    };
    let (known, went_back) = (&lost.known, lost.why == GapCause::RolledBack);
    // Both may be right, each of its own server: what they store must not be mixed.
    let mut others = others.iter().filter(|_| went_back);
    if let Some(other) = others.find(|other| other.is_at_work_on(&known.id)) {
        let message = format!(
            "{} stores another stream of {} under the same name",
            other.place, known.id
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
            "Is one server a copy of the other? Then end one of the two receivers, and give it a name or a repository of its own.",
        ));
    }
    if history.before.as_ref().is_some_and(|before| before.id == known.id) {
        return Ok(Some(lost));
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
    // Where both meet, one byte more must be missing: what follows must not seem to continue what is stored.
    if history.now.offset < taken || (went_back && history.now.offset == taken) {
        let message = format!(
            "the server is at {}, and offsets up to {taken} are stored of what it wrote before it went back",
            history.now
        );
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
            "What it writes until then is in no log. A restart of the server that keeps its data, or a failover, gives it a new history at once.",
        ));
    }
    Ok(Some(lost))
}

/// Returns where what is stored of the source ends, whoever received it.
async fn stored_of(streams: &Streams, others: &[Other]) -> Result<Option<Position>> {
    let theirs = others.iter().filter_map(|other| other.stored_to.as_ref());
    streams.latest(theirs.map(|theirs| theirs.id.clone()).collect()).await
}

/// Puts together what comes, by what the server answered.
fn joined(
    (replica, history): (Replica, History),
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
                history,
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
                history,
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
