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
use crate::engines::FindingLevel;
use crate::engines::redis::log::held::HeldBytes;
use crate::engines::redis::log::position::Position;
use crate::engines::redis::log::replica::Replica;
use crate::engines::redis::session::counted;
use crate::engines::redis::{KIND, Method, RedisAddress, RedisOptions, RedisSpec};
use crate::operations::log::redis::attach::{self, Attached};
use crate::operations::log::redis::follow::Follower;
use crate::operations::log::redis::store::{PieceStore, StoredPiece};
use crate::operations::log::redis::stored::Streams;
use crate::operations::snapshots::open_to_change;
use crate::operations::{Report, Session, backup, document_of, options};
use crate::repository::Manifest;

/// How often the server is told what is stored, and a time mark is made.
const TICK: Duration = Duration::from_secs(1);

/// Pauses before another connection, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Pause before another snapshot where one failed.
const BASE_PAUSE: Duration = Duration::from_secs(60);

/// How long the store has at the end to take what is held.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What `log receive` did until it was ended. Its fields are the keys of the JSON document.
#[derive(Debug, Default, serde::Serialize)]
pub struct ReceiveReport {
    /// Name of the source.
    pub source: String,
    /// Replication ID and offset up to which all is stored, as ID:OFFSET.
    pub stored_to: Option<String>,
    /// Objects that were stored.
    pub objects: u64,
    /// Bytes of the stream that were stored.
    pub raw_bytes: u64,
    /// Bytes of the objects.
    pub stored_bytes: u64,
    /// Snapshots that were taken to begin with.
    pub snapshots: Vec<String>,
    /// What of the stream is lost, between two positions each.
    pub gaps: Vec<ReceiveGap>,
}

/// A part of a stream that the server did not have any more.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ReceiveGap {
    /// Where the stream should have gone on.
    pub from: String,
    /// Where it went on.
    pub to: String,
}

impl Report for ReceiveReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let to = self.stored_to.as_deref().unwrap_or("nothing");
        let mut text = format!(
            "{}: stored to {to}: {} of commands in {} objects\n",
            self.source,
            format_bytes(self.raw_bytes),
            self.objects
        );
        for gap in &self.gaps {
            text.push_str(&format!("gap from {} to {}\n", gap.from, gap.to));
        }
        text
    }
}

/// Work that the loop waits for beside others.
type Work<'a, T> = Option<Pin<Box<dyn Future<Output = T> + 'a>>>;

/// Awaits work, if there is some.
async fn done<T>(work: &mut Work<'_, T>) -> T {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// The connection to the server.
enum Link<'a> {
    /// There is none until then.
    Down(Instant),
    /// One is made.
    Attaching(Pin<Box<dyn Future<Output = Result<Attached>> + 'a>>),
    /// It brings another history: what is held of the one before goes first.
    Waiting(Box<Attached>),
    /// The stream comes.
    Up(Box<Replica>),
}

/// What came of the link.
enum Event {
    /// It is time for another connection.
    Retry,
    Attached(Box<Result<Attached>>),
    /// Bytes came, or the connection ended.
    Came(Result<()>),
}

impl Link<'_> {
    async fn next(&mut self) -> Event {
        match self {
            Self::Down(until) => {
                tokio::time::sleep_until((*until).into()).await;
                Event::Retry
            }
            Self::Attaching(attaching) => Event::Attached(Box::new(attaching.await)),
            Self::Waiting(_) => pending().await,
            Self::Up(replica) => Event::Came(replica.wait().await),
        }
    }
}

/// Returns whether the source is one of these servers.
pub fn is_meant(session: &Session, options: &options::LogReceive) -> bool {
    source_of(session, &options.source).is_ok_and(|source| source.kind.spec().kind() == KIND)
}

/// Follows a server until a signal ends it.
pub async fn run(session: &Session, options: &options::LogReceive) -> Result<ReceiveReport> {
    let source = source_of(session, &options.source)?;
    let address = address_of(&source)?;
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
        store: PieceStore {
            streams,
            pipeline: session.pipeline.clone(),
            level: options.level,
        },
        held: Some(HeldBytes::new(session.spool_dir.clone(), limits.spool_limit)),
        address,
        follower: None,
        link: Link::Down(Instant::now()),
        pause: PAUSES.0,
        told_quarters: 0,
        was_up: false,
        base_at: Instant::now(),
        report: ReceiveReport {
            source: source.name.clone(),
            ..ReceiveReport::default()
        },
        source,
    };
    let ended = receiver.follow().await;
    if let Some(follower) = &receiver.follower {
        let position = Position {
            id: follower.branch.id.clone(),
            offset: follower.stored(),
        };
        receiver.report.stored_to = Some(position.to_string());
    }
    ended.map(|()| receiver.report)
}

/// Finds a source by its name in the configuration, or by its URL.
fn source_of(session: &Session, given: &str) -> Result<SourceConfig> {
    let configured = session.config.sources.iter().find(|source| source.name == given);
    configured.cloned().map_or_else(|| session.source_of_url(given), Ok)
}

/// Returns the server, if its stream can be followed.
fn address_of(source: &SourceConfig) -> Result<RedisAddress> {
    let spec: &RedisSpec = source.kind.spec().of_engine(KIND)?;
    let address = spec.address()?;
    if address.database.is_some() {
        return Err(
            Error::unsupported("a log is that of a whole server, and the URL names one database")
                .with_hint("Remove the number from the URL."),
        );
    }
    if address.reading.method == Method::Scan {
        return Err(Error::unsupported("a log needs PSYNC, and the URL says method=scan")
            .with_hint("Remove method=scan from the URL."));
    }
    Ok(address)
}

/// Says what the server takes us for.
async fn warn(session: &Session, address: &RedisAddress) -> Result<()> {
    let findings = session.or_cancelled(counted::findings(address)).await;
    match findings {
        Ok(findings) => {
            for finding in findings {
                let hint = finding.hint.unwrap_or_default();
                if finding.level == FindingLevel::Warning {
                    tracing::warn!("{}. {hint}", finding.message);
                } else {
                    tracing::info!("{}. {hint}", finding.message);
                }
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
        // The connection itself says what is wrong.
        Err(error) => {
            tracing::debug!("{}", error.chain());
            Ok(())
        }
    }
}

struct Receiver<'a> {
    session: &'a Session,
    options: &'a options::LogReceive,
    store: PieceStore,
    source: SourceConfig,
    address: RedisAddress,
    /// Before the first connection.
    held: Option<HeldBytes>,
    follower: Option<Follower>,
    link: Link<'a>,
    pause: Duration,
    told_quarters: u64,
    was_up: bool,
    /// When a snapshot may be tried.
    base_at: Instant,
    report: ReceiveReport,
}

impl<'a> Receiver<'a> {
    async fn follow(&mut self) -> Result<()> {
        let (session, mut tick) = (self.session, tokio::time::interval(TICK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut storing: Work<'a, (u64, u64, Result<StoredPiece>)> = None;
        let mut base: Work<'a, Result<Manifest>> = None;
        loop {
            if storing.is_none() {
                let waits = matches!(self.link, Link::Waiting(_));
                storing = self.next_object(waits, waits)?;
            }
            if storing.is_none() {
                self.begin_history()?;
            }
            if base.is_none() && self.wants_base() {
                let source = self.source.clone();
                base = Some(Box::pin(backup::snapshot_of(session, source)));
            }
            let due = self.follower.as_ref().and_then(|follower| follower.due(self.flush()));
            let due = due.filter(|_| storing.is_none());
            let has_room = self.follower.as_ref().is_none_or(|follower| follower.held().has_room());
            tokio::select! {
                biased;
                () = session.cancel.cancelled() => break,
                (to, commands_to, stored) = done(&mut storing), if storing.is_some() => {
                    storing = None;
                    self.is_stored(to, commands_to, stored?).await;
                }
                taken = done(&mut base), if base.is_some() => {
                    base = None;
                    self.is_taken(taken);
                }
                _ = tick.tick() => self.tick(has_room).await,
                () = until(due), if due.is_some() => {}
                event = self.link.next(), if has_room => self.event(event).await?,
            }
        }
        self.link = Link::Down(Instant::now());
        // A snapshot that is interrupted takes back what it has begun.
        let interrupted = async {
            if base.is_some() {
                drop(done(&mut base).await);
            }
        };
        let last = futures_util::future::join(self.last_words(storing), interrupted);
        if tokio::time::timeout(LAST_WORDS, last).await.is_err() {
            tracing::warn!("the store did not take the last of the log in time; it comes again from the server");
        }
        Ok(())
    }

    fn flush(&self) -> Duration {
        self.options.flush
    }

    /// Begins to store the next object, if one is due, or whatever is held.
    fn next_object(&mut self, now: bool, all: bool) -> Result<Work<'a, (u64, u64, Result<StoredPiece>)>> {
        let flush = self.flush();
        let Some(follower) = &mut self.follower else {
            return Ok(None);
        };
        let due = follower.due(flush).is_some_and(|due| due <= Instant::now());
        if follower.held().len() == 0 || !(due || now) {
            return Ok(None);
        }
        let (piece, bytes) = tokio::task::block_in_place(|| follower.next_piece(Timestamp::now(), all))?;
        let (store, id) = (self.store.clone(), follower.branch.id.clone());
        let (from, to, commands_to) = (piece.from, piece.to, piece.commands_to);
        self.report.raw_bytes = self.report.raw_bytes.saturating_add(to.saturating_sub(from));
        Ok(Some(Box::pin(async move {
            (to, commands_to, store.store(id, piece, bytes).await)
        })))
    }

    async fn is_stored(&mut self, to: u64, commands_to: u64, stored: StoredPiece) {
        self.report.objects = self.report.objects.saturating_add(stored.objects);
        self.report.stored_bytes = self.report.stored_bytes.saturating_add(stored.stored_bytes);
        if let Some(follower) = &mut self.follower {
            follower.is_stored(to, commands_to);
        }
        self.acknowledge().await;
    }

    /// Stores what is held, once a signal has come.
    async fn last_words(&mut self, mut storing: Work<'a, (u64, u64, Result<StoredPiece>)>) {
        loop {
            if storing.is_none() {
                match self.next_object(true, true) {
                    Ok(Some(next)) => storing = Some(next),
                    _ => return,
                }
            }
            let (to, commands_to, stored) = done(&mut storing).await;
            storing = None;
            match stored {
                Ok(stored) => self.is_stored(to, commands_to, stored).await,
                Err(error) => return tracing::error!("{}", error.chain_and_hint()),
            }
        }
    }

    /// Tells the server what is stored. Where that fails, the link shows it.
    async fn acknowledge(&mut self) {
        let stored = self.follower.as_ref().map(Follower::stored);
        let told = match (&mut self.link, stored) {
            (Link::Up(replica), Some(stored)) => replica.acknowledge(stored).await,
            (Link::Waiting(attached), _) => attached.replica.acknowledge(attached.hold_from).await,
            _ => Ok(()),
        };
        if let Err(error) = told {
            self.is_down(&error);
        }
    }

    async fn tick(&mut self, has_room: bool) {
        if let Link::Up(replica) = &mut self.link {
            let heard = replica.is_heard();
            match heard {
                // Nothing is read while nothing more can be held.
                _ if !has_room => replica.hear(),
                Ok(()) => {}
                Err(error) => self.is_down(&error),
            }
        }
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
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Retry => {
                let known = self.follower.as_ref().map(Follower::known);
                let attaching = attach::attach(self.store.streams.clone(), self.address.clone(), known);
                self.link = Link::Attaching(Box::pin(attaching));
            }
            Event::Attached(attached) => match *attached {
                Ok(attached) => self.is_attached(attached),
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
        let (Link::Up(replica), Some(follower)) = (&mut self.link, &mut self.follower) else {
            return Ok(());
        };
        let bytes = replica.bytes();
        let count = bytes.len();
        let asked = tokio::task::block_in_place(|| follower.take(bytes))?;
        replica.take(count);
        self.pause = PAUSES.0;
        if asked {
            self.acknowledge().await;
        }
        Ok(())
    }

    fn is_attached(&mut self, attached: Attached) {
        if let Some((from, to)) = &attached.gap {
            tracing::error!(
                "a gap in the log of \"{}\" from {from} to {to}: the server does not have what lies between any more; a new snapshot is taken. Raise repl-backlog-size",
                self.source.name
            );
            self.report.gaps.push(ReceiveGap {
                from: from.to_string(),
                to: to.to_string(),
            });
            self.base_at = Instant::now();
        }
        self.was_up = true;
        tracing::info!(
            "the log of \"{}\" comes from {}:{} on",
            self.source.name,
            attached.branch.id,
            attached.from
        );
        self.link = if attached.goes_on {
            Link::Up(Box::new(attached.replica))
        } else {
            Link::Waiting(Box::new(attached))
        };
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
        let Attached {
            replica,
            branch,
            from,
            hold_from,
            ..
        } = *attached;
        self.follower = Some(Follower::new(branch, from, hold_from, held));
        self.link = Link::Up(Box::new(replica));
        Ok(())
    }

    fn is_down(&mut self, error: &Error) {
        tracing::warn!(
            "the log of \"{}\" does not come: {}; the next try is in {} ms",
            self.source.name,
            error.chain_and_hint(),
            self.pause.as_millis()
        );
        self.link = Link::Down(Instant::now() + self.pause);
        self.pause = PAUSES.1.min(self.pause * 2);
    }

    /// Returns whether a snapshot is missing from which a restore could begin.
    fn wants_base(&self) -> bool {
        let lacks = self
            .follower
            .as_ref()
            .is_some_and(|follower| follower.branch.base.is_none());
        lacks && matches!(self.link, Link::Up(_)) && self.base_at <= Instant::now()
    }

    fn is_taken(&mut self, taken: Result<Manifest>) {
        let Some(follower) = &mut self.follower else { return };
        let position = taken.and_then(|manifest| {
            self.report.snapshots.push(manifest.id.to_string());
            base_of(&manifest, &self.source.name)
        });
        match position {
            Ok(position) if position.id == follower.branch.id && position.offset >= follower.branch.since => {
                tracing::info!("a snapshot at {position} begins the log of \"{}\"", self.source.name);
                follower.branch.base = Some(position);
            }
            Ok(position) => {
                let branch = &follower.branch;
                tracing::warn!(
                    "the snapshot at {position} does not lie on the log, which is stored from {}:{} on; another one is taken",
                    branch.id,
                    branch.since
                );
                self.base_at = Instant::now() + TICK;
            }
            Err(error) => {
                tracing::error!(
                    "no snapshot to begin the log of \"{}\": {}; the next try is in {} s",
                    self.source.name,
                    error.chain_and_hint(),
                    BASE_PAUSE.as_secs()
                );
                self.base_at = Instant::now() + BASE_PAUSE;
            }
        }
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

/// Returns where a snapshot of the source lies in its history.
fn base_of(manifest: &Manifest, source: &str) -> Result<Position> {
    let none = || Error::unsupported("the snapshot has no replication ID and offset, because it was read key by key");
    let source = manifest
        .sources
        .iter()
        .find(|one| one.name == source)
        .ok_or_else(none)?;
    super::lineage::position_of(source.outcome.as_ref()).ok_or_else(none)
}
