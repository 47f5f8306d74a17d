//! `log receive redis://…`: follows a server as a lasting replica, and stores its command stream.
//!
//! One loop does everything: it reads what comes, hands one object after another to the store, and acknowledges what the store has.
//! What is not acknowledged is still with the server (its backlog) or comes again, so the process may end at any moment. While the
//! store is away, what comes is held in memory, then in a spool file, then the server waits: its `client-output-buffer-limit`
//! ends the connection, and its backlog is what is left.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::units::format_bytes;
use crate::config::SourceConfig;
use crate::engines::redis::log::described::GapCause;
use crate::engines::redis::log::held::HeldBytes;
use crate::engines::redis::log::position::Position;
use crate::engines::redis::log::replica::History;
use crate::engines::redis::{RedisAddress, RedisOptions};
use crate::operations::log::progress::Watched;
use crate::operations::log::redis::attach::{self, Attached, Attaching, Lost, Met};
use crate::operations::log::redis::backoff::Backoff;
use crate::operations::log::redis::bases::Base;
use crate::operations::log::redis::claim::{self, Claim, Other};
use crate::operations::log::redis::follow::Follower;
use crate::operations::log::redis::health::Counted;
use crate::operations::log::redis::link::{Event, Incoming, Link};
pub use crate::operations::log::redis::meant::is_meant;
pub(crate) use crate::operations::log::redis::meant::is_of;
use crate::operations::log::redis::meant::{address_of, source_of, warn};
use crate::operations::log::redis::report::ReceiveGap;
pub use crate::operations::log::redis::report::ReceiveReport;
use crate::operations::log::redis::store::{PieceStore, StoredPiece};
use crate::operations::log::redis::stored::Streams;
use crate::operations::snapshots::open_to_change;
use crate::operations::{Session, options};
use crate::repository::{Manifest, Repository, Survey};

/// How often the server is told what is stored, and a time mark is made.
const TICK: Duration = Duration::from_millis(500);

/// Pauses before another connection, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Pauses after a full resynchronization, before another one may follow: each costs the server a fork.
const RESYNC_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Pauses between snapshots to begin with: each costs the server a fork, and the store a copy of all data.
const BASE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// How long the store has at the end to take what is held.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long it may take after that to say there that the receiver has ended.
const LAST_CLAIM: Duration = Duration::from_secs(2);

/// Work that the loop waits for beside others.
pub(super) type Work<'a, T> = Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// Awaits work, if there is some.
async fn done<T>(work: &mut Work<'_, T>) -> T {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// Follows a server until a signal ends it.
pub async fn run(session: &Session, options: &options::LogReceive) -> Result<ReceiveReport> {
    let source = source_of(session, options)?;
    follow(session, &source, options, Watched::default()).await
}

/// As [`run`], of a source that is known; tells `watched` how it is getting on.
pub async fn follow(
    session: &Session,
    source: &SourceConfig,
    options: &options::LogReceive,
    watched: Watched,
) -> Result<ReceiveReport> {
    let address = address_of(source)?;
    // What is under way when a signal comes is stored all the same.
    let lasting = Session {
        cancel: CancellationToken::new(),
        ..session.clone()
    };
    let repository = session.or_cancelled(Box::pin(open_to_change(&lasting))).await?;
    warn(session, &address).await?;
    let streams = Streams {
        store: repository.store().clone(),
        source: source.name.clone(),
    };
    let limits = RedisOptions::new(address.clone());
    let mut receiver = Receiver {
        session,
        options,
        repository: &repository,
        has_looked: false,
        claim: Claim::new(
            streams.store.clone(),
            &source.name,
            session.host(),
            &source.kind.spec().place(),
        )?,
        store: PieceStore {
            streams,
            pipeline: session.pipeline.clone(),
            level: options.level,
            turn: options.turn.clone(),
        },
        held: Some(HeldBytes::new(session.spool_dir.clone(), limits.spool_limit)),
        address,
        follower: None,
        link: Link::Down(Instant::now()),
        pause: PAUSES.0,
        resynchronized: Backoff::new(RESYNC_PAUSES.0, RESYNC_PAUSES.1),
        bases: Backoff::new(BASE_PAUSES.0, BASE_PAUSES.1),
        shown: None,
        history: None,
        has_met_another: false,
        told_quarters: 0,
        is_refused: false,
        is_refusal_told: false,
        lost: None,
        was_up: false,
        baseless: None,
        last_error: None,
        before: Counted::of(&watched),
        watched,
        reconnects: 0,
        report: ReceiveReport {
            source: source.name.clone(),
            ..ReceiveReport::default()
        },
        source: source.clone(),
    };
    let ended = receiver.follow().await;
    ended.map(|()| receiver.report)
}

/// Follows one server.
pub(super) struct Receiver<'a> {
    pub(super) session: &'a Session,
    pub(super) options: &'a options::LogReceive,
    pub(super) repository: &'a Repository,
    /// Whether it was looked for the snapshot that begins what is stored.
    pub(super) has_looked: bool,
    claim: Claim,
    store: PieceStore,
    pub(super) source: SourceConfig,
    address: RedisAddress,
    /// Before the first connection.
    held: Option<HeldBytes>,
    pub(super) follower: Option<Follower>,
    pub(super) link: Link<'a>,
    /// Before another connection.
    pause: Duration,
    /// The server did not go on where it was asked to.
    resynchronized: Backoff,
    /// Snapshots to begin with.
    pub(super) bases: Backoff,
    /// When it was last shown who receives.
    shown: Option<Instant>,
    /// What the server said of its history with the last connection.
    history: Option<History>,
    /// Whether another receiver followed another server when that was last looked at.
    has_met_another: bool,
    told_quarters: u64,
    /// The spool file did not take what came: nothing more is read for a moment.
    is_refused: bool,
    is_refusal_told: bool,
    /// What is known, and does not lead to what the server writes.
    pub(super) lost: Option<Lost>,
    pub(super) was_up: bool,
    /// Since when no snapshot begins the log.
    pub(super) baseless: Option<Instant>,
    /// Why the stream does not come.
    pub(super) last_error: Option<String>,
    pub(super) watched: Watched,
    /// What earlier receivers have told `watched`.
    pub(super) before: Counted,
    pub(super) reconnects: u64,
    pub(super) report: ReceiveReport,
}

/// What is under way beside the link.
#[derive(Default)]
struct UnderWay<'a> {
    storing: Work<'a, Storing>,
    base: Work<'a, Result<Manifest>>,
    looking: Work<'a, Result<Survey<Vec<Base>>>>,
    showing: Work<'a, Result<Vec<Other>>>,
}

/// An object that is being stored: where it ends, where its last whole command ends, and what came of it.
type Storing = (u64, u64, Result<StoredPiece>);

impl<'a> Receiver<'a> {
    /// Follows until a signal, or an error that another try would not mend; then what is held is stored as far as that is possible.
    async fn follow(&mut self) -> Result<()> {
        let mut work = UnderWay::default();
        let ended = self.work(&mut work).await;
        // What the server has written since is not known where it was not read.
        if !matches!(self.link, Link::Up(_)) || !self.has_room() {
            self.report.backlog_bytes = None;
        }
        self.link = Link::Down(Instant::now());
        // A snapshot that is interrupted takes back what it has begun.
        let UnderWay { storing, mut base, .. } = work;
        let interrupted = async {
            if base.is_some() {
                drop(done(&mut base).await);
            }
        };
        let last = futures_util::future::join(self.last_words(storing), interrupted);
        if tokio::time::timeout(LAST_WORDS, last).await.is_err() {
            tracing::warn!("the store did not take the last of the log in time");
        }
        if let Some(stored_to) = self.stored_to() {
            self.report.stored_to = Some(stored_to.to_string());
            let shown = self.claim.clone().end(stored_to);
            if !matches!(tokio::time::timeout(LAST_CLAIM, shown).await, Ok(Ok(()))) {
                tracing::debug!("the end of this receiver is not in the repository");
            }
        }
        self.report.unstored_bytes = self.follower.as_ref().map_or(0, Follower::unstored);
        if self.report.unstored_bytes > 0 {
            tracing::error!("the log of \"{}\": {}", self.source.name, self.report.unstored());
        }
        self.report.problems = self.problems();
        for problem in &self.report.problems {
            tracing::error!("the log of \"{}\": {problem}", self.source.name);
        }
        self.watch(|_| {});
        ended
    }

    async fn work(&mut self, work: &mut UnderWay<'a>) -> Result<()> {
        let (session, mut tick) = (self.session, tokio::time::interval(TICK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if work.storing.is_none() {
                let waits = matches!(self.link, Link::Waiting(_));
                work.storing = self.next_object(waits, waits)?;
            }
            if work.storing.is_none() {
                self.begin_history()?;
            }
            if work.base.is_none() && self.wants_base() {
                work.base = Some(self.take_base());
            }
            if work.looking.is_none() {
                work.looking = self.look_for_base();
            }
            if work.showing.is_none() {
                work.showing = self.show();
            }
            let due = self
                .follower
                .as_ref()
                .and_then(|follower| follower.due(self.options.flush));
            let due = due.filter(|_| work.storing.is_none());
            let has_room = self.has_room();
            tokio::select! {
                biased;
                () = session.cancel.cancelled() => return Ok(()),
                (to, commands_to, stored) = done(&mut work.storing), if work.storing.is_some() => {
                    work.storing = None;
                    match stored {
                        Ok(stored) => self.is_stored(to, commands_to, stored).await,
                        Err(error) => self.is_taken_by_other_bytes(&error).await,
                    }
                }
                taken = done(&mut work.base), if work.base.is_some() => {
                    work.base = None;
                    self.is_taken(taken);
                }
                found = done(&mut work.looking), if work.looking.is_some() => {
                    work.looking = None;
                    self.is_looked_for(found);
                }
                shown = done(&mut work.showing), if work.showing.is_some() => {
                    work.showing = None;
                    match shown {
                        Ok(others) => self.is_of_one_server(&others)?,
                        Err(error) => tracing::debug!("{}", error.chain()),
                    }
                }
                _ = tick.tick() => self.tick(has_room).await,
                () = until(due), if due.is_some() => {}
                event = self.link.next(), if has_room => self.event(event).await?,
            }
        }
    }

    /// Whether more may be read from the server.
    fn has_room(&self) -> bool {
        let held = self.follower.as_ref().map(Follower::held);
        !self.is_refused && held.is_none_or(HeldBytes::has_room)
    }

    /// Up to where all is stored.
    fn stored_to(&self) -> Option<Position> {
        self.follower.as_ref().map(|follower| Position {
            id: follower.branch.id.clone(),
            offset: follower.stored(),
        })
    }

    /// Begins to store the next object, if one is due, or whatever is held.
    fn next_object(&mut self, now: bool, all: bool) -> Result<Work<'a, Storing>> {
        let flush = self.options.flush;
        let Some(follower) = &mut self.follower else {
            return Ok(None);
        };
        let due = follower.due(flush).is_some_and(|due| due <= Instant::now());
        if follower.held().len() == 0 || !(due || now) {
            return Ok(None);
        }
        let (piece, bytes) = tokio::task::block_in_place(|| follower.next_piece(Timestamp::now(), all))?;
        let (store, id) = (self.store.clone(), follower.branch.id.clone());
        let (to, commands_to) = (piece.to, piece.commands_to);
        let watched = self.watched.clone();
        Ok(Some(Box::pin(async move {
            (to, commands_to, store.store(id, piece, bytes, &watched).await)
        })))
    }

    async fn is_stored(&mut self, to: u64, commands_to: u64, stored: StoredPiece) {
        self.report.objects = self.report.objects.saturating_add(stored.objects);
        self.report.raw_bytes = self.report.raw_bytes.saturating_add(stored.raw_bytes);
        self.report.stored_bytes = self.report.stored_bytes.saturating_add(stored.stored_bytes);
        if let Some(follower) = &mut self.follower {
            follower.is_stored(to, commands_to);
        }
        self.is_refused = false;
        if matches!(self.link, Link::Up(_)) {
            self.pause = PAUSES.0;
        }
        self.acknowledge().await;
    }

    /// What came is stored already, with other bytes, and nothing is replaced: what is held has no place, and the log goes on behind a
    /// gap.
    async fn is_taken_by_other_bytes(&mut self, error: &Error) {
        tracing::error!("ALARM: the log of \"{}\": {}", self.source.name, error.chain_and_hint());
        let Some(known) = self.stored_to() else { return };
        if let Some(follower) = self.follower.take() {
            self.report.dropped_bytes = self.report.dropped_bytes.saturating_add(follower.unstored());
            let mut held = follower.into_held();
            held.clear();
            self.held = Some(held);
        }
        self.link = Link::Down(Instant::now() + self.pause);
        self.is_lost(known, GapCause::RolledBack).await;
    }

    /// Takes note that what is known does not lead to what the server writes.
    async fn is_lost(&mut self, known: Position, why: GapCause) {
        // The next connection waits until that is in the store; here it is tried, should there be none.
        if why == GapCause::RolledBack {
            let noted = self.store.streams.note_went_back(&known);
            if !matches!(tokio::time::timeout(LAST_CLAIM, noted).await, Ok(Ok(()))) {
                tracing::debug!("that the server went back is not in the repository yet");
            }
        }
        self.lost = Some(Lost { known, why });
    }

    /// Stores what is held, once all else has ended.
    async fn last_words(&mut self, mut storing: Work<'a, Storing>) {
        loop {
            if storing.is_none() {
                match self.next_object(true, true) {
                    Ok(Some(next)) => storing = Some(next),
                    Ok(None) => return,
                    Err(error) => return tracing::error!("{}", error.chain_and_hint()),
                }
            }
            let (to, commands_to, stored) = done(&mut storing).await;
            storing = None;
            match stored {
                Ok(stored) => self.is_stored(to, commands_to, stored).await,
                Err(error) => {
                    tracing::error!("ALARM: {}", error.chain_and_hint());
                    if let Some(known) = self.stored_to() {
                        self.is_lost(known, GapCause::RolledBack).await;
                    }
                    return;
                }
            }
        }
    }

    /// Tells the server what is stored. Where that fails, the link shows it.
    async fn acknowledge(&mut self) {
        // What no snapshot leads to yet cannot be restored, so it is not acknowledged.
        let begun = self.follower.as_ref().filter(|follower| follower.branch.base.is_some());
        let stored = begun.map(Follower::stored);
        if let Err(error) = self.link.acknowledge(stored).await {
            self.is_down(&error);
        }
    }

    /// Shows whoever would receive another server under this name that this receiver is at work.
    fn show(&mut self) -> Work<'a, Result<Vec<Other>>> {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= claim::SHOWN_EVERY);
        if !is_due || !self.link.is_sure() {
            return None;
        }
        let stored_to = self.stored_to()?;
        self.shown = Some(Instant::now());
        Some(Box::pin(self.claim.clone().show(stored_to)))
    }

    /// Fails if another receiver, that began before this one, follows another server under this name. One look says little: after a
    /// failover the other one may not know of it yet.
    fn is_of_one_server(&mut self, others: &[Other]) -> Result<()> {
        let Some(history) = &self.history else { return Ok(()) };
        let wrong = others
            .iter()
            .filter_map(|other| Some((other.is_elder, other.is_of(history, &self.source.name).err()?)));
        let met = wrong.max_by_key(|(is_elder, _)| *is_elder);
        let had_met = std::mem::replace(&mut self.has_met_another, met.is_some());
        match met {
            None => Ok(()),
            Some((true, error)) if had_met => Err(error),
            Some((_, error)) => {
                tracing::error!("{}", error.chain_and_hint());
                Ok(())
            }
        }
    }

    async fn tick(&mut self, has_room: bool) {
        if let Err(error) = self.link.is_heard(has_room) {
            self.is_down(&error);
        }
        // What the spool file did not take is tried again.
        self.is_refused = false;
        if let Some(follower) = &mut self.follower {
            follower.mark(Timestamp::now());
            let held = follower.held();
            let quarters = held.quarters();
            if quarters > self.told_quarters {
                tracing::error!(
                    "the store takes the log of \"{}\" more slowly than it comes: {} wait, the spool file is filled to {quarters} quarters of its limit; then the server has to wait, and drops the connection (client-output-buffer-limit)",
                    self.source.name,
                    format_bytes(held.len())
                );
            }
            self.told_quarters = quarters;
        }
        self.acknowledge().await;
        self.look_at_base();
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Retry => {
                let attaching = attach::attach(Attaching {
                    streams: self.store.streams.clone(),
                    address: self.address.clone(),
                    claim: self.claim.clone(),
                    known: self.follower.as_ref().map(Follower::known),
                    lost: self.lost.clone(),
                });
                self.link = Link::Attaching(Box::pin(attaching));
            }
            Event::Attached(met) => match *met {
                Ok(Met::Stream(attached)) => self.is_attached(attached),
                Ok(Met::RolledBack { server, known }) => {
                    let message = format!(
                        "the server is at {}, and offset {} was received of it",
                        server, known.offset
                    );
                    self.went_back(&Error::corrupt(message), known).await;
                }
                Err(error) if !self.was_up && is_final(&error) => return Err(error),
                Err(error) => self.is_down(&error),
            },
            Event::Came(Ok(())) => self.came().await?,
            Event::Came(Err(error)) => self.is_down(&error),
        }
        Ok(())
    }

    /// Takes what came.
    async fn came(&mut self) -> Result<()> {
        let (Link::Up(incoming), Some(follower)) = (&mut self.link, &mut self.follower) else {
            return Ok(());
        };
        let Some(bytes) = incoming.bytes(follower.received()) else {
            let offset = follower.received().max(follower.stored());
            let (id, error) = (
                follower.branch.id.clone(),
                Error::corrupt(format!(
                    "the server sends other bytes than before in front of offset {offset}"
                )),
            );
            let known = match &follower.branch.follows {
                // The place where the history before was left.
                Some(left) if offset <= follower.branch.since => left.clone(),
                _ => Position { id, offset },
            };
            self.went_back(&error, known).await;
            return Ok(());
        };
        let scanned = match follower.scan(bytes) {
            Err(error) if follower.is_doubted() => {
                let known = Position {
                    id: follower.branch.id.clone(),
                    offset: follower.received().max(follower.stored()),
                };
                tracing::error!(
                    "what is stored of the log of \"{}\" says of a place that a command begins there, and none does: {}. The log goes on behind a gap",
                    self.source.name,
                    error.chain()
                );
                self.is_lost(known, GapCause::Damaged).await;
                self.is_down(&error);
                return Ok(());
            }
            scanned => scanned?,
        };
        let count = bytes.len();
        let asked = match tokio::task::block_in_place(|| follower.take(bytes, scanned)) {
            Ok(asked) => asked,
            Err(error) => {
                self.is_full(&error);
                return Ok(());
            }
        };
        incoming.take(count);
        if std::mem::take(&mut self.is_refusal_told) {
            tracing::info!("what comes of the log of \"{}\" is held again", self.source.name);
        }
        if asked {
            self.acknowledge().await;
        }
        Ok(())
    }

    /// The spool file takes nothing: what came stays with the connection, and the server waits.
    fn is_full(&mut self, error: &Error) {
        self.is_refused = true;
        if !std::mem::replace(&mut self.is_refusal_told, true) {
            tracing::error!(
                "nothing more of the log of \"{}\" can be held until the store takes some, or there is room in \"{}\": {}; the server has to wait, and drops the connection beyond its client-output-buffer-limit",
                self.source.name,
                self.session.spool_dir.display(),
                error.chain_and_hint()
            );
        }
    }

    /// The server went back to an older state of a history that is known up to a position. Nothing of that is replaced: the log goes
    /// on behind a gap, as soon as there are names for what the server writes.
    async fn went_back(&mut self, error: &Error, known: Position) {
        tracing::error!(
            "ALARM: the log of \"{}\": {}: it went back to an older state, as a machine does that is brought back from a snapshot of it, or another server has the same replication ID. Nothing that is stored is replaced; the log goes on behind a gap",
            self.source.name,
            error.chain()
        );
        self.is_down(error);
        self.is_lost(known, GapCause::RolledBack).await;
    }

    fn is_attached(&mut self, attached: Box<Attached>) {
        if attached.is_resynchronized {
            self.resynchronized.happened(Instant::now());
        }
        self.was_up = true;
        self.history = Some(attached.history.clone());
        self.report.backlog_bytes = attached.backlog_bytes;
        self.watched.lock().server_keeps = attached.backlog_bytes;
        tracing::info!(
            "the log of \"{}\" comes from {}:{} on",
            self.source.name,
            attached.branch.id,
            attached.from
        );
        if !attached.goes_on {
            self.link = Link::Waiting(attached);
            return;
        }
        self.lost = None;
        if let Some(follower) = &mut self.follower {
            follower.is_linked(attached.server_at());
        }
        self.link = Link::Up(Box::new(Incoming::new(
            attached.replica,
            attached.begins,
            attached.tail,
        )));
    }

    /// Takes note of a gap in front of what comes.
    fn has_gap(&mut self, attached: &Attached) {
        let Some(gap) = &attached.gap else { return };
        let to = Position {
            id: attached.branch.id.clone(),
            offset: attached.branch.since,
        };
        tracing::error!(
            "a gap in the log of \"{}\" from {} to {to}: {}; a new snapshot is taken",
            self.source.name,
            gap.from,
            gap.why.told()
        );
        self.report.gaps.push(ReceiveGap::of(gap, &to));
    }

    /// Goes over to another history, once all of the one before is stored.
    fn begin_history(&mut self) -> Result<()> {
        let link = std::mem::replace(&mut self.link, Link::Down(Instant::now()));
        let Link::Waiting(attached) = link else {
            self.link = link;
            return Ok(());
        };
        let held = match (self.follower.take(), self.held.take()) {
            (Some(follower), _) => follower.into_held(),
            (None, Some(held)) => held,
            (None, None) => return Err(Error::invalid("a stream has nothing to be held in")),
        };
        self.has_gap(&attached);
        self.lost = None;
        let (offsets, server_at) = ((attached.from, attached.hold_from), attached.server_at());
        // What is known may reach into what comes again.
        let mut tail = attached.tail.clone();
        tail.cut(attached.hold_from);
        let known = (tail, attached.mark);
        let mut follower = Follower::new(attached.branch, offsets, known, held);
        follower.is_linked(server_at);
        self.follower = Some(follower);
        self.link = Link::Up(Box::new(Incoming::new(
            attached.replica,
            attached.begins,
            attached.tail,
        )));
        self.shown = None;
        Ok(())
    }

    fn is_down(&mut self, error: &Error) {
        let now = Instant::now();
        let until = (now + self.pause).max(self.resynchronized.again_at().unwrap_or(now));
        tracing::warn!(
            "the log of \"{}\" does not come: {}; the next try is in {} ms",
            self.source.name,
            error.chain_and_hint(),
            until.saturating_duration_since(now).as_millis()
        );
        self.link = Link::Down(until);
        self.pause = PAUSES.1.min(self.pause * 2);
        self.reconnects = self.reconnects.saturating_add(1);
        self.last_error = Some(error.chain());
        self.watch(|progress| progress.lost(Some(error.chain())));
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// Returns whether another try would end the same way.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Invalid
    )
}
