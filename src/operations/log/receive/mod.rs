//! `log receive`: follows the log of a server, and stores it as it comes.
//!
//! A slot of the server keeps what is not confirmed, and confirmed is what the store has. Bytes go into the spool directory first, a
//! file without a name for each segment; every few seconds what is new becomes a *part* in the store, and a full segment takes the
//! place of its parts. One thing is stored at a time, in order, so memory is that of one upload; while the store is away the spool
//! takes a few segments, and then the server keeps the rest. Nothing is remembered outside of the repository and the slot: a receiver that
//! begins anew goes on at the beginning of the segment behind those that are stored, and stores no part twice.

mod report;
mod resume;
mod segment;
mod store;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::base::cancel::cancelled;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::base::units::format_bytes;
use crate::config::SourceConfig;
use crate::engines::postgres::receiver::{
    LogServer, LogSession, LogStream, NextTimeline, Said, Started, StreamFacts, is_in_use, is_invalidated, is_removed,
};
use crate::engines::postgres::wal::{Lsn, SegmentName, SegmentSize, Timeline, TimelineHistory};
use crate::operations::log::parts::{Part, parts_of};
use crate::operations::log::progress::{Progress, Watched};
use crate::operations::snapshots::open_to_change;
use crate::operations::{Session, options};
use crate::repository::{ListedLog, Repository};
pub use report::ReceiveReport;
use resume::{Line, Stored};
use segment::OpenSegment;
use store::{Seen, Storing, Work, is_final};

/// How often the server is told what is kept.
const CONFIRMED_EVERY: Duration = Duration::from_secs(1);
/// A server that says nothing for so long is asked to.
const ASKED_AFTER: Duration = Duration::from_secs(10);
/// And is given up, if it still says nothing after this.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Of an idle server it is stored that often that nothing came.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Bytes of full segments that wait in the spool for the store, at most; two segments may wait whatever they have.
const WAITING_BYTES: u64 = 256 << 20;

/// Waits between two attempts to connect: from the first to the longest, doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// As [`FIRST_WAIT`].
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Receives until a signal ends it.
pub async fn run(session: &Session, options: &options::LogReceive) -> Result<ReceiveReport> {
    if options.name.is_some() {
        return Err(Error::invalid(
            "--source is for Redis and Valkey: the log of PostgreSQL has the name of its system",
        )
        .with_hint("Leave it out."));
    }
    let source = source(session, &options.source)?;
    follow(session, &source, options, Watched::default()).await
}

/// As [`run`], of a source that is known; tells `watched` how it is getting on.
pub async fn follow(
    session: &Session,
    source: &SourceConfig,
    options: &options::LogReceive,
    watched: Watched,
) -> Result<ReceiveReport> {
    let server = LogServer::of(source.kind.spec())?;
    let repository = open_to_change(session).await?;
    let mut receiver = Receiver::new(session, server, repository, options, watched);
    let act = format!("receive the log of \"{}\"", receiver.server.location());
    let received = receiver.run().await;
    received.context(act)?;
    Ok(receiver.report)
}

/// Finds the source: a URL, or one that the configuration names.
fn source(session: &Session, named: &str) -> Result<SourceConfig> {
    if named.contains(':') {
        return session.source_of_url(named);
    }
    let found = session
        .config
        .sources
        .iter()
        .find(|source| source.name == named)
        .cloned();
    found.ok_or_else(|| {
        Error::invalid(format!("no source of the configuration is called \"{named}\""))
            .with_hint("Name one, or give its URL: postgres-physical://user@host:port.")
    })
}

/// How a stream came to its end.
enum Ended {
    /// A signal.
    Stopped,
    /// Its timeline; another one follows.
    Timeline(NextTimeline),
}

/// Follows one server.
struct Receiver<'a> {
    session: &'a Session,
    server: LogServer,
    repository: Repository,
    slot: String,
    /// Whether its name was given.
    is_named_slot: bool,
    flush: Duration,
    level: i32,
    watched: Watched,
    turn: Option<Arc<Semaphore>>,
    /// The server's, once it was reached.
    system: Option<(u64, SegmentSize)>,
    stored: Option<Stored>,
    /// How far the server's log goes, as far as it has said.
    server_end: Lsn,
    /// What is to be stored, in order.
    waiting: VecDeque<Work>,
    /// What is being stored.
    storing: Option<JoinHandle<Result<u64>>>,
    /// What that is. One that failed comes first again: what is behind it must not be stored without it.
    work: Option<Work>,
    report: ReceiveReport,
}

impl<'a> Receiver<'a> {
    fn new(
        session: &'a Session,
        server: LogServer,
        repository: Repository,
        options: &options::LogReceive,
        watched: Watched,
    ) -> Self {
        // Two repositories have two receivers, each with a slot of its own.
        let id: String = repository
            .id()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(8)
            .collect();
        let slot = options.slot.clone();
        Self {
            is_named_slot: slot.is_some(),
            slot: slot.unwrap_or_else(|| format!("wirevault_{}", id.to_ascii_lowercase())),
            report: ReceiveReport::of(server.location().to_owned()),
            session,
            server,
            repository,
            flush: options.flush,
            watched,
            turn: options.turn.clone(),
            level: options.level,
            system: None,
            stored: None,
            server_end: Lsn(0),
            waiting: VecDeque::new(),
            storing: None,
            work: None,
        }
    }

    /// Connects, receives, and connects again.
    async fn run(&mut self) -> Result<()> {
        let task = self.server.location().to_owned();
        self.session.reporter.begin(&task, None);
        let done = self.follow().await;
        self.session.reporter.end(&task, done.is_ok());
        done
    }

    async fn follow(&mut self) -> Result<()> {
        let mut wait = FIRST_WAIT;
        loop {
            let streamed = self.report.streamed_bytes;
            let error = match self.session_once().await {
                Ok(()) => return self.finish().await,
                Err(error) if error.kind() != ErrorKind::Cancelled && is_final(&error) => return Err(error),
                Err(error) if self.session.cancel.is_cancelled() => {
                    tracing::debug!("{}", error.chain());
                    return self.finish().await;
                }
                // Whoever has never received anything is told why, and need not wait; but for another receiver, or what is left of one.
                Err(error) if self.report.from.is_none() && !is_in_use(&error) => return Err(error),
                Err(error) => error,
            };
            if self.report.streamed_bytes > streamed {
                wait = FIRST_WAIT;
            }
            // Whoever has the slot stores meanwhile: what is stored then is looked at anew.
            if is_in_use(&error) {
                self.stored = None;
            }
            self.report.reconnects += 1;
            self.watch().lost(Some(error.chain()));
            tracing::warn!("connecting again in {} s: {}", wait.as_secs(), error.chain());
            let slept = self.meanwhile(async {
                tokio::time::sleep(wait).await;
                Ok(())
            });
            if slept.await.is_err() && self.session.cancel.is_cancelled() {
                return self.finish().await;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One connection, over as many timelines as there are.
    async fn session_once(&mut self) -> Result<()> {
        let server = self.server.clone();
        let mut log = self.meanwhile(server.connect()).await?;
        let facts = log.facts().clone();
        self.is_the_same(&facts)?;
        self.server_end = facts.flushed;
        self.watched.lock().server_keeps = facts.slot_bytes;
        let line = self.line(&mut log, facts.timeline).await?;
        let (mut timeline, mut at) = self.begin(&mut log, &facts, &line).await?;
        loop {
            let ended = match self.stream(&mut log, timeline, at).await {
                Ok(ended) => ended,
                // What the slot does not keep is gone: the log goes on where the slot begins.
                Err(error) if is_invalidated(&error) && self.is_ours() => {
                    tracing::warn!("the replication slot \"{}\" is made anew: {}", self.slot, error.chain());
                    let slot = self.slot.clone();
                    self.meanwhile(log.drop_slot(&slot)).await?;
                    self.slot_begins(&mut log).await?;
                    continue;
                }
                Err(error) if is_removed(&error) => {
                    let (from_timeline, from) = self.slot_begins(&mut log).await?;
                    if (from_timeline, from) <= (timeline, at) {
                        return Err(error);
                    }
                    self.gap(timeline, at, from, &error);
                    (timeline, at) = (from_timeline, from);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match ended {
                Ended::Stopped => {
                    log.close().await;
                    return Ok(());
                }
                Ended::Timeline(next) => {
                    self.line(&mut log, next.timeline).await?;
                    let stored = self.stored.as_ref().and_then(|stored| stored.end(next.timeline));
                    timeline = next.timeline;
                    self.server_end = next.from;
                    // The segment in which one timeline was left begins the other, too.
                    at = stored.unwrap_or(facts.segment.start_of(next.from));
                    self.tell("timeline", format!("the log goes on on timeline {timeline} from {at}"));
                }
            }
        }
    }

    /// Refuses another cluster under the same address.
    fn is_the_same(&mut self, facts: &StreamFacts) -> Result<()> {
        let now = (facts.system, facts.segment);
        match self.system {
            Some(before) if before != now => Err(Error::invalid(format!(
                "the server is another cluster now: system {}, and {} before",
                now.0, before.0
            ))
            .with_hint("It was made anew under the same address. Start the receiver again; what is stored of the old one stays.")),
            Some(_) => Ok(()),
            None => {
                self.system = Some(now);
                self.watched.lock().system = Some(now.0);
                self.report.system = now.0.to_string();
                self.report.slot.clone_from(&self.slot);
                if facts.slot_bytes.is_none() {
                    tracing::info!(
                        "max_slot_wal_keep_size is not set: while nothing is received, the server keeps its WAL until its disk is full"
                    );
                }
                Ok(())
            }
        }
    }

    /// Asks for the way to a timeline, and has it stored.
    async fn line(&mut self, log: &mut LogSession, timeline: Timeline) -> Result<Line> {
        if timeline == Timeline(1) {
            return Ok(Line::of(timeline, None));
        }
        let text = self.meanwhile(log.history(timeline)).await?;
        let history = TimelineHistory::parse(timeline, &text)
            .with_context(|| format!("read the history of timeline {timeline} from the server"))?;
        let line = Line::of(timeline, Some(&history));
        self.waiting.push_back(Work::History { timeline, text });
        Ok(line)
    }

    /// Finds out where to begin, with a slot that is there.
    async fn begin(&mut self, log: &mut LogSession, facts: &StreamFacts, line: &Line) -> Result<(Timeline, Lsn)> {
        if self.stored.is_none() {
            self.stored = Some(self.look(facts).await?);
        }
        let later = self.stored.as_ref().and_then(|stored| stored.later(facts.timeline));
        if let Some(later) = later {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("the server is on timeline {}, and timeline {later} is stored", facts.timeline),
            )
            .with_hint("Another server was promoted since: this one is the old primary, or a standby that does not follow yet."));
        }
        let slot = self.slot_begins(log).await?;
        let resumed = self.stored.as_ref().and_then(|stored| stored.resume(line, slot));
        let Some((timeline, at)) = resumed else {
            let (timeline, from) = slot;
            self.tell("began", format!("the log begins with timeline {timeline} at {from}"));
            return Ok(slot);
        };
        if timeline == facts.timeline && at > facts.flushed && !facts.is_standby {
            return Err(Error::invalid(format!(
                "the server's log ends at {}, and is stored up to {at} already",
                facts.flushed
            ))
            .with_hint("The server was brought back from an older copy of its disk. Receive it into another repository, or promote it: a timeline of its own keeps the two apart."));
        }
        Ok((timeline, at))
    }

    /// Looks at what is stored of the server's log.
    async fn look(&mut self, facts: &StreamFacts) -> Result<Stored> {
        let mut stored = Stored::new(facts.segment);
        let mut add = |log: ListedLog| {
            stored.add(&log);
            true
        };
        let repository = self.repository.clone();
        let listed = repository.for_each_log(Some(facts.system), &mut add);
        self.session.or_cancelled(listed).await?;
        let left_over = std::mem::take(&mut stored.left_over);
        if !left_over.is_empty() {
            self.waiting.push_back(Work::Remove(left_over));
        }
        Ok(stored)
    }

    /// Returns where what the slot keeps begins, at the beginning of a segment; makes the slot where it is missing, or keeps nothing
    /// any more.
    async fn slot_begins(&mut self, log: &mut LogSession) -> Result<(Timeline, Lsn)> {
        let slot = self.slot.clone();
        let mut found = self.meanwhile(log.slot(&slot)).await?;
        if found.is_some_and(|found| found.keeps_from.is_none()) {
            if !self.is_ours() {
                return Err(Error::invalid(format!("the replication slot \"{slot}\" keeps no WAL")).with_hint(
                    "It was made without reserving any, or has lost it. Drop it (pg_drop_replication_slot), and it is made anew; or choose another: --slot NAME.",
                ));
            }
            tracing::warn!(
                "the replication slot \"{slot}\" has lost its WAL (max_slot_wal_keep_size): it is made anew"
            );
            self.meanwhile(log.drop_slot(&slot)).await?;
            found = None;
        }
        if found.is_none() {
            self.meanwhile(log.make_slot(&slot)).await?;
            self.tell("slot", format!("made the replication slot \"{slot}\""));
            found = self.meanwhile(log.slot(&slot)).await?;
        }
        let keeps = found.and_then(|found| found.keeps_from);
        let (timeline, at) = keeps.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("the replication slot \"{slot}\" keeps no WAL"),
            )
        })?;
        let size = log.facts().segment;
        Ok((timeline, size.start_of(at)))
    }

    /// Returns whether the slot is one that this receiver has made or used, or of a name that nobody else makes.
    fn is_ours(&self) -> bool {
        !self.is_named_slot || self.report.from.is_some()
    }

    /// Receives one timeline.
    async fn stream(&mut self, log: &mut LogSession, timeline: Timeline, at: Lsn) -> Result<Ended> {
        let size = log.facts().segment;
        let mut open = self.open(timeline, at, size).await?;
        if let Some(stored) = &mut self.stored {
            stored.begins(timeline, at);
        }
        match self.stream_into(log, &mut open, timeline, at).await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            Err(error) => {
                // The server may be gone for good: what came counts.
                self.waiting.extend(open.part());
                return Err(error);
            }
        }
        let next = self.meanwhile(log.next_timeline(timeline)).await?;
        // A recovery along this timeline asks for the segment, which parts stand for.
        self.waiting.extend(open.part());
        self.waiting.extend(open.partial()?);
        Ok(Ended::Timeline(next))
    }

    /// Streams into a segment and those that follow it; None where the timeline has ended, and the server is to say what follows.
    async fn stream_into(
        &mut self,
        log: &mut LogSession,
        open: &mut OpenSegment,
        timeline: Timeline,
        at: Lsn,
    ) -> Result<Option<Ended>> {
        let (slot, size) = (self.slot.clone(), log.facts().segment);
        // What a standby has is what it got, and an older timeline is over: neither says what had not happened yet.
        let tells_time = !log.is_standby() && timeline >= log.facts().timeline;
        let mut stream = match self.meanwhile(log.start(&slot, timeline, at)).await? {
            Started::Ended(next) => return Ok(Some(Ended::Timeline(next))),
            Started::Streaming(stream) => stream,
        };
        self.report.timeline = Some(timeline);
        self.report.from.get_or_insert(at);
        let phase = format!("timeline {timeline}");
        self.session.reporter.phase(self.server.location(), &phase);
        if self.receive(&mut stream, open, (size, tells_time)).await? {
            return Ok(None);
        }
        self.waiting.extend(open.part());
        self.drain(Some(open)).await?;
        // The slot then begins where the next receiver does.
        stream.confirm(open.received(), self.kept(open), false).await?;
        Ok(Some(Ended::Stopped))
    }

    /// Receives until the timeline ends, which it returns, or a signal comes.
    async fn receive(
        &mut self,
        stream: &mut LogStream<'_>,
        open: &mut OpenSegment,
        (size, tells_time): (SegmentSize, bool),
    ) -> Result<bool> {
        let most = exact::usize_from(WAITING_BYTES / size.bytes()).max(2);
        let mut ticks = interval(CONFIRMED_EVERY.min(self.flush));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.session.cancel.clone();
        let mut clock = Clock::new(tells_time);
        loop {
            self.store_next();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(false),
                done = storing(&mut self.storing) => self.done(done, Some(open))?,
                _ = ticks.tick() => self.tick(stream, open, &mut clock).await?,
                ready = stream.ready(), if self.waiting.len() < most => {
                    ready?;
                    let wants_answer = self.take(stream, open, &mut clock)?;
                    if wants_answer {
                        stream.confirm(open.received(), self.kept(open), false).await?;
                    }
                    if stream.has_ended() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Takes what came; returns whether the server wants an answer.
    fn take(&mut self, stream: &mut LogStream<'_>, open: &mut OpenSegment, clock: &mut Clock) -> Result<bool> {
        let mut wants = false;
        clock.heard = Instant::now();
        clock.asked = false;
        let mut taken = 0;
        while let Some(said) = stream.take()? {
            match said {
                Said::Log {
                    at,
                    mut bytes,
                    sent,
                    end,
                } => {
                    clock.news = Instant::now();
                    self.server_end = self.server_end.max(end);
                    let last = at.0.saturating_add(exact::u64_from(bytes.len()));
                    // What is sent later than it was written tells nothing of the time between.
                    let sent = (clock.tells_time && last >= end.0).then_some(sent);
                    taken += exact::u64_from(bytes.len());
                    while !bytes.is_empty() {
                        let count = open.take(bytes, sent)?;
                        bytes = exact::range(bytes, count.., "a message of the server")?;
                        if open.is_full() {
                            self.next_segment(open)?;
                        }
                    }
                }
                Said::Alive {
                    end,
                    sent,
                    wants_answer,
                } => {
                    self.server_end = self.server_end.max(end);
                    wants |= wants_answer;
                    clock.seen = Some((end, sent));
                }
            }
        }
        self.report.streamed_bytes += taken;
        self.session.reporter.advance(self.server.location(), taken, 0);
        Ok(wants)
    }

    /// Hands a full segment on, and begins the one behind it.
    fn next_segment(&mut self, open: &mut OpenSegment) -> Result<()> {
        let (system, size) = self.known()?;
        let place = (system, open.name.timeline, open.end());
        let next = OpenSegment::begin(place, size, Vec::new(), &self.session.spool_dir)?;
        let full = std::mem::replace(open, next);
        if let Some(stored) = &mut self.stored {
            stored.holds(full.name.timeline, full.start());
        }
        self.waiting.push_back(full.whole()?);
        Ok(())
    }

    async fn tick(&mut self, stream: &mut LogStream<'_>, open: &mut OpenSegment, clock: &mut Clock) -> Result<()> {
        let silent = clock.heard.elapsed();
        if silent > SILENT_FOR && self.waiting.is_empty() {
            return Err(Error::new(
                ErrorKind::TimedOut,
                format!("the server has said nothing for {} s", silent.as_secs()),
            ));
        }
        // Parts wait until what was before them is stored.
        if clock.flushed.elapsed() >= self.flush && self.waiting.is_empty() && self.storing.is_none() {
            clock.flushed = Instant::now();
            self.waiting.extend(open.part().or_else(|| open.comparison()));
        }
        let kept = self.kept(open);
        let written = self.server_end.max(open.received());
        {
            let mut progress = self.watch();
            progress.reached(open.name.timeline.to_string(), written.0, kept.0, kept.to_string());
            progress.complaint = slot_fills_up(&progress);
        }
        let is_quiet = clock.news.elapsed() >= SEEN_EVERY && clock.told.elapsed() >= SEEN_EVERY;
        let idle = is_quiet && clock.tells_time;
        if let Some((end, at)) = clock.seen.filter(|(end, _)| idle && *end <= kept && self.is_idle()) {
            clock.told = Instant::now();
            self.waiting
                .push_back(Work::Seen(Seen::new(open.name.timeline, end, at)));
        }
        let asks = silent > ASKED_AFTER && !clock.asked;
        clock.asked |= asks;
        // An idle server is asked where it ends before that is stored.
        let asks =
            asks || (clock.news.elapsed() >= SEEN_EVERY && clock.told.elapsed() + CONFIRMED_EVERY * 2 >= SEEN_EVERY);
        stream.confirm(open.received(), kept, asks).await
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.storing.is_none()
    }

    /// Begins a segment, with what is stored of it in parts.
    async fn open(&mut self, timeline: Timeline, at: Lsn, size: SegmentSize) -> Result<OpenSegment> {
        let (system, _) = self.known()?;
        let place = (system, timeline, at);
        let spool = &self.session.spool_dir;
        let name = SegmentName::holding(timeline, at, size);
        let repository = self.repository.clone();
        // Without them what an earlier receiver stored would not be compared with what comes.
        let parts = self.meanwhile(parts_of(&repository, system, &name)).await?;
        OpenSegment::begin(place, size, parts, spool)
    }

    fn known(&self) -> Result<(u64, SegmentSize)> {
        self.system
            .ok_or_else(|| Error::invalid("the server was not reached yet"))
    }

    /// Returns how far the log is kept: up to the first thing that waits, else up to the last part.
    fn kept(&self, open: &OpenSegment) -> Lsn {
        let waiting = self.waiting.iter().filter_map(Work::kept);
        let storing = self.work.as_ref().and_then(Work::kept);
        waiting.chain(storing).fold(open.kept(), Lsn::min)
    }

    /// Begins to store the next thing, unless something is being stored.
    fn store_next(&mut self) {
        if self.storing.is_some() {
            return;
        }
        let Some(work) = self.waiting.pop_front() else {
            return;
        };
        let Some((system, _)) = self.system else { return };
        self.work = Some(work.clone());
        let storing = Storing {
            store: self.repository.store().clone(),
            pipeline: self.session.pipeline.clone(),
            level: self.level,
            system,
            cancel: self.session.cancel.clone(),
            watched: self.watched.clone(),
            turn: self.turn.clone(),
        };
        self.storing = Some(tokio::spawn(storing.patiently(work)));
    }

    /// Takes note of what was stored: so many bytes.
    fn done(&mut self, done: Result<u64>, open: Option<&mut OpenSegment>) -> Result<()> {
        self.storing = None;
        let work = self.work.take();
        let stored_bytes = match done {
            Ok(stored_bytes) => stored_bytes,
            Err(error) => {
                if let Some(work) = work {
                    self.waiting.push_front(work);
                }
                return Err(error);
            }
        };
        self.report.stored_bytes += stored_bytes;
        match work {
            Some(Work::Part { piece, name, .. }) => {
                self.report.parts += 1;
                self.report
                    .reached(name.timeline, Lsn(piece.start.0.saturating_add(piece.to)));
                // One of the connection before is not compared with what this one sends.
                if let Some(open) = open.filter(|open| open.is_of(&piece)) {
                    let (system, _) = self.known()?;
                    open.stored(Part::of(system, &name, piece.from, piece.to)?);
                }
            }
            Some(Work::Whole { piece, name, .. }) => {
                self.report.segments += 1;
                self.session.reporter.advance(self.server.location(), 0, 1);
                self.report
                    .reached(name.timeline(), Lsn(piece.start.0.saturating_add(piece.to)));
            }
            Some(Work::Compare { piece, .. }) => {
                if let Some(open) = open.filter(|open| open.is_of(&piece)) {
                    open.is_compared();
                }
            }
            Some(Work::History { .. } | Work::Seen(_) | Work::Remove(_)) | None => {}
        }
        Ok(())
    }

    /// Waits for something, while what waits is stored; fails where a signal comes first, or something cannot be stored.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        let cancel = self.session.cancel.clone();
        loop {
            self.store_next();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(cancelled()),
                done = storing(&mut self.storing) => self.done(done, None)?,
                done = &mut work => return done,
            }
        }
    }

    /// Stores what waits.
    async fn drain(&mut self, mut open: Option<&mut OpenSegment>) -> Result<()> {
        loop {
            self.store_next();
            if self.storing.is_none() {
                return Ok(());
            }
            let done = storing(&mut self.storing).await;
            self.done(done, open.as_deref_mut())?;
        }
    }

    /// Ends as a signal asks: what came is stored, if the store takes it at once.
    async fn finish(&mut self) -> Result<()> {
        match self.drain(None).await {
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                self.waiting.clear();
                let (what, why) = ("what is not stored yet comes again from the server", error.chain());
                tracing::warn!("{what}: {why}");
                Ok(())
            }
            done => done,
        }
    }

    /// Brings what is counted up to date for whoever watches.
    fn watch(&self) -> std::sync::MutexGuard<'_, Progress> {
        let mut progress = self.watched.lock();
        progress.reconnects = self.report.reconnects;
        progress.gaps = self.report.gaps;
        progress.stored_bytes = self.report.stored_bytes;
        progress
    }

    fn gap(&mut self, timeline: Timeline, from: Lsn, to: Lsn, why: &Error) {
        self.report.gaps += 1;
        let message = format!(
            "the server does not have timeline {timeline} from {from} to {to} any more: recovery past {to} needs a base backup taken after it ({})",
            why.chain()
        );
        tracing::warn!("{message}");
        self.tell("gap", message);
    }

    fn tell(&self, code: &str, message: String) {
        let task = self.server.location();
        self.session.reporter.note(task, Note::new(code, task, message));
    }
}

/// Says of a slot that it keeps more than half of what it may.
fn slot_fills_up(progress: &Progress) -> Option<String> {
    let (keeps, behind) = (progress.server_keeps?, progress.behind_bytes());
    (behind > keeps / 2).then(|| {
        format!(
            "the slot keeps {} that are not stored, and at most {} (max_slot_wal_keep_size): what is beyond is a gap",
            format_bytes(behind),
            format_bytes(keeps)
        )
    })
}

/// When what was last done, and heard.
struct Clock {
    /// When a part was begun.
    flushed: Instant,
    /// When the server last said anything.
    heard: Instant,
    /// When the log last went on.
    news: Instant,
    /// When it was last stored that it did not.
    told: Instant,
    /// Where the server's log ended, and when it said so.
    seen: Option<(Lsn, Timestamp)>,
    /// Whether the server was asked to say something.
    asked: bool,
    /// Whether what the server has not sent by a moment had not happened by then.
    tells_time: bool,
}

impl Clock {
    fn new(tells_time: bool) -> Self {
        let now = Instant::now();
        Self {
            flushed: now,
            heard: now,
            news: now,
            told: now,
            seen: None,
            asked: false,
            tells_time,
        }
    }
}

/// Waits for what is being stored; for ever where nothing is.
async fn storing(storing: &mut Option<JoinHandle<Result<u64>>>) -> Result<u64> {
    match storing {
        None => std::future::pending().await,
        Some(handle) => match handle.await {
            Ok(done) => done,
            Err(error) => Err(Error::new(ErrorKind::Other, "a task ended early").with_cause(error)),
        },
    }
}
