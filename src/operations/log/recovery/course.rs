//! The stored log behind a base: which segments a server will ask for, and what stands in them.

use jiff::Timestamp;

use super::base::Base;
use crate::archive::log::{Descriptor, LogReader, Span, Times};
use crate::base::error::{Context, Error, ErrorKind, Result, if_there};
use crate::base::exact;
use crate::base::moment::local;
use crate::engines::postgres::physical::flags::WantedTimeline;
use crate::engines::postgres::wal::{
    End, FileName, HEADER_BYTES, Lsn, Mark, Scan, SegmentName, SegmentReader, SegmentSize, Timeline,
};
use crate::operations::Session;
use crate::operations::log::key_of;
use crate::operations::log::parts::{join, parts_of};
use crate::operations::log::show::Look;
use crate::operations::log::show::found::Found;
use crate::policy::log::{Branches, Line};
use crate::repository::{Repository, is_ahead};

/// What is stored of one server's log.
pub(super) struct StoredLog<'a> {
    session: &'a Session,
    repository: &'a Repository,
    system: u64,
    pub(super) size: SegmentSize,
    branches: Branches,
}

impl<'a> StoredLog<'a> {
    /// Lists what there is, as `log show` does; None where there is no segment of it.
    pub(super) async fn open(session: &'a Session, repository: &'a Repository, system: u64) -> Result<Option<Self>> {
        let mut found = Found::default();
        let mut each = |log| {
            found.add(&log);
            true
        };
        session
            .or_cancelled(repository.for_each_log(Some(system), &mut each))
            .await?;
        let mut look = Look::new(session, repository, system);
        let Some((size, _)) = look.facts(&found).await? else {
            return Ok(None);
        };
        let (branches, _) = look.branches(&found, (size, 0)).await?;
        Ok(Some(Self {
            session,
            repository,
            system,
            size,
            branches,
        }))
    }

    /// Follows the log from a base on, on the line to a timeline.
    pub(super) fn course(&self, base: &Base, wanted: WantedTimeline) -> Result<Course<'_>> {
        if self.size != base.size {
            return Err(Error::corrupt(format!(
                "the stored log has segments of {} bytes, and the base is of a server with {}",
                self.size.bytes(),
                base.size.bytes()
            )));
        }
        let timeline = match wanted {
            WantedTimeline::Current => base.timeline,
            WantedTimeline::Number(number) => Timeline(number),
            WantedTimeline::Latest => self.timelines_of(base).last().unwrap_or(base.timeline),
        };
        let course = self.on(base, timeline);
        if !course.line.passes(base.timeline.0, base.end.0) {
            let known: Vec<String> = self.timelines_of(base).map(|one| one.to_string()).collect();
            return Err(Error::invalid(format!(
                "timeline {timeline} does not go through the base, which ended at {} on timeline {}",
                base.end, base.timeline
            ))
            .with_hint(format!("Timelines that do: {}.", known.join(", "))));
        }
        Ok(course)
    }

    fn on(&self, base: &Base, timeline: Timeline) -> Course<'_> {
        let line = Line::to(&self.branches, timeline.0);
        let bytes = self.size.bytes();
        let is_held = line.holding(&self.branches, base.end.0, bytes).is_some();
        // What the log lacks of the segment in which the base ended is in the base.
        let from = if is_held { base.end } else { base.own_log };
        let end = Lsn(line.reach(&self.branches, from.0, bytes));
        Course {
            log: self,
            base: *base,
            timeline,
            line,
            from,
            end,
        }
    }

    /// Returns the timelines that go through a base, in order.
    fn timelines_of(&self, base: &Base) -> impl Iterator<Item = Timeline> {
        let own = std::iter::once(base.timeline.0).filter(|own| !self.branches.contains_key(own));
        let (timeline, end) = (base.timeline.0, base.end.0);
        let known = self.branches.keys().copied().chain(own);
        let mut through: Vec<u32> = known
            .filter(|number| Line::to(&self.branches, *number).passes(timeline, end))
            .collect();
        through.sort_unstable();
        through.into_iter().map(Timeline)
    }
}

/// The log behind a base on one line, as far as it goes without a hole.
pub(super) struct Course<'a> {
    log: &'a StoredLog<'a>,
    pub(super) base: Base,
    pub(super) timeline: Timeline,
    line: Line,
    /// Where it begins: the end of the base, or of what the base has of the log.
    from: Lsn,
    /// Where it ends; `from` where nothing is stored behind the base.
    pub(super) end: Lsn,
}

impl Course<'_> {
    /// Returns the number of segments that hold it.
    pub(super) fn segments(&self) -> u64 {
        let bytes = self.log.size.bytes();
        if self.end <= self.from {
            return 0;
        }
        self.end.0.div_ceil(bytes).saturating_sub(self.from.0 / bytes)
    }

    /// Returns whether the log ends where a timeline was left of whose successor nothing is stored. A server falls back to what the older one has
    /// of the segment, though that is another history.
    pub(super) fn ends_at_fork(&self) -> bool {
        self.line.forks_at(self.end.0)
    }

    /// Returns the place of the segment, among them, that holds a position.
    pub(super) fn place_of(&self, at: Lsn) -> u64 {
        let bytes = self.log.size.bytes();
        (at.0 / bytes).saturating_sub(self.from.0 / bytes)
    }

    /// Returns the name under which a server asks for a segment.
    fn name(&self, place: u64) -> Result<(SegmentName, Lsn)> {
        let (log, bytes) = (self.log, self.log.size.bytes());
        let start = Lsn((self.from.0 / bytes + place) * bytes);
        // The first may be held from its middle on.
        let held = self.line.holding(&log.branches, start.0.max(self.from.0), bytes);
        let held = held.ok_or_else(|| Error::corrupt(format!("no segment that holds {start} is stored")))?;
        Ok((SegmentName::holding(Timeline(held.branch), start, log.size), start))
    }

    /// Reads what the end of a segment says of it.
    pub(super) async fn described(&self, place: u64) -> Result<Descriptor> {
        let (name, start) = self.name(place)?;
        let key = key_of(self.log.system, &FileName::Segment(name))?;
        let read = async {
            match if_there(LogReader::look(self.log.repository.store(), &key).await)? {
                Some(reader) => Ok(reader.into_descriptor()),
                None => self.described_parts(&name, start).await,
            }
        };
        let read = self.log.session.or_cancelled(read).await;
        let described = read.with_context(|| format!("look at segment {name}"))?;
        let fits = described.about.span.is_some_and(|span| span.from == start.0);
        if !fits || described.raw_bytes != self.log.size.bytes() {
            return Err(Error::corrupt(format!(
                "segment {name} is of another place or size than its name says"
            )));
        }
        Ok(described)
    }

    /// Returns what the parts of a segment say together, as if it were one that is cut off.
    async fn described_parts(&self, name: &SegmentName, start: Lsn) -> Result<Descriptor> {
        let log = self.log;
        let parts = parts_of(log.repository, log.system, name).await?;
        let (mut all, mut times, mut end): (Option<Descriptor>, Option<Times>, u64) = (None, None, 0);
        for part in &parts {
            let described = LogReader::look(log.repository.store(), &part.key)
                .await?
                .into_descriptor();
            if let Some(told) = described.about.times {
                let known = times.unwrap_or(told);
                times = Some(Times {
                    first: known.first.min(told.first),
                    last: known.last.max(told.last),
                });
            }
            end = part.to;
            all = Some(described);
        }
        let mut all = all.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("segment {name} is not stored")))?;
        all.raw_bytes = log.size.bytes();
        all.about.times = times;
        all.about.span = Some(Span {
            from: start.0,
            to: start.0.saturating_add(end),
        });
        Ok(all)
    }

    pub(super) async fn times(&self, place: u64) -> Result<Option<Times>> {
        Ok(self.described(place).await?.about.times)
    }

    /// Finds the first segment in which something ended later than a moment, by what the ends of segments say. A server's clock goes forward, so some
    /// dozen are looked at; where it was set back, it is the first at which the search comes by.
    pub(super) async fn first_later(&self, moment: Timestamp) -> Result<Option<u64>> {
        let (mut low, mut high, mut found) = (0, self.segments(), None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_time(middle, high).await? {
                Some((place, times)) if times.last > moment => {
                    found = Some(place);
                    high = middle;
                }
                Some((place, _)) => low = place + 1,
                None => high = middle,
            }
        }
        Ok(found)
    }

    async fn next_time(&self, from: u64, to: u64) -> Result<Option<(u64, Times)>> {
        for place in from..to {
            if let Some(times) = self.times(place).await? {
                return Ok(Some((place, times)));
            }
        }
        Ok(None)
    }

    /// Returns the earliest end of a transaction, of those that the ends of segments tell.
    pub(super) async fn first_time(&self) -> Result<Option<Timestamp>> {
        let first = self.next_time(0, self.segments()).await?;
        Ok(first.map(|(_, times)| times.first))
    }

    /// Finds the last segment before a place in which something ended, and when.
    pub(super) async fn last_time(&self, before: u64) -> Result<Option<(u64, Timestamp)>> {
        for place in (0..before).rev() {
            if let Some(times) = self.times(place).await? {
                return Ok(Some((place, times.last)));
            }
        }
        Ok(None)
    }

    /// Returns the moment up to which the log is known to be all that the server had written, beside what stands in it: whoever
    /// receives it says so.
    pub(super) async fn seen(&self, end: Lsn) -> Result<Option<Timestamp>> {
        let log = self.log;
        let clock = async { Ok(log.repository.clock().await) };
        let now = log.session.or_cancelled(clock).await?;
        let not_ahead = |what: &str, at: Timestamp| {
            let ahead = is_ahead(at, now);
            let why = || Error::corrupt(format!("{what} says {}, which has not come yet", local(at)));
            if ahead { Err(why()) } else { Ok(at) }
        };
        let mut seen = None;
        if let Some(place) = self.segments().checked_sub(1) {
            let described = self.described(place).await?;
            let is_whole = described.about.span.is_some_and(|span| span.to <= end.0);
            let (name, _) = self.name(place)?;
            if let Some(at) = described.about.facts.get(SENT_AT).filter(|_| is_whole) {
                let read = at.parse().map_err(|error| {
                    Error::corrupt(format!("segment {name} says {at:?} for its {SENT_AT}")).with_cause(error)
                });
                seen = Some(not_ahead(&format!("{SENT_AT} of segment {name}"), read?)?);
            }
        }
        if let Some(document) = log.session.or_cancelled(log.repository.seen_log(log.system)).await? {
            let read = document.lsn.parse::<Lsn>();
            let lsn =
                read.map_err(|_| Error::corrupt(format!("seen.json of the log says position {:?}", document.lsn)))?;
            let at = not_ahead("seen.json of the log", document.at)?;
            // What it was seen to have sent, and is not stored, may be anything.
            if lsn <= end && self.line.passes(document.timeline, lsn.0) {
                seen = seen.max(Some(at));
            }
        }
        Ok(seen)
    }

    /// The error for what this does not reach. `last` is the last end of a transaction before `end`.
    pub(super) fn short(&self, what: &str, end: Lsn, last: Option<Timestamp>) -> Error {
        let last_text = last.map_or_else(|| "no commit".to_owned(), |last| format!("last commit {}", local(last)));
        let recoverable = match last {
            Some(last) => format!("--at '{last}' recovers to the last commit, --at latest to the end"),
            None => "--at latest recovers to the end".to_owned(),
        };
        if let Some(next) = self.line.next_behind(&self.log.branches, end.0) {
            let message = format!(
                "{what} cannot be recovered from this base: a gap in the log goes from {end} ({last_text} before it) to {}",
                Lsn(next)
            );
            return Error::new(ErrorKind::NotFound, message).with_hint(format!(
                "Nearest recoverable moments: {recoverable} before the gap; what is behind it needs a base backup that was taken there."
            ));
        }
        let message = format!("{what} cannot be recovered: the log ends at {end}, {last_text}");
        let mut hint = format!("On timeline {}, {recoverable}.", self.timeline);
        let others = self.log.timelines_of(&self.base);
        for other in others.filter(|other| *other != self.timeline) {
            let end = self.log.on(&self.base, other).end;
            hint.push_str(&format!(" Timeline {other} goes to {end}: --timeline {other}."));
        }
        Error::new(ErrorKind::NotFound, message).with_hint(hint)
    }
}

/// What a descriptor calls the moment, by the server's clock, at which it had sent all of the object.
const SENT_AT: &str = "sent_at";

/// A walk over the records of a course, segment by segment.
pub(super) struct Walk<'a> {
    course: &'a Course<'a>,
    scan: Option<Scan>,
    end: Lsn,
    last: Option<Lsn>,
    tablespace: Option<String>,
    is_over: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn of(course: &'a Course<'a>) -> Self {
        Self {
            course,
            scan: None,
            end: course.from,
            last: None,
            tablespace: None,
            is_over: false,
        }
    }

    /// Returns whether what follows is not valid.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns where the last whole record begins that was walked over.
    pub(super) fn last_record(&self) -> Option<Lsn> {
        self.last
    }

    /// Returns where the first tablespace is made outside the data directory, of those that were walked over.
    pub(super) fn tablespace(&self) -> Option<&str> {
        self.tablespace.as_deref()
    }

    /// Returns where the valid part ends of what was walked over.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// Reads the next segment; tells of each record with a time that ends in it.
    pub(super) async fn step(&mut self, place: u64, tell: &mut (dyn FnMut(Mark) + Send)) -> Result<()> {
        let course = self.course;
        let (name, start) = course.name(place)?;
        let act = || format!("read segment {name}");
        let key = key_of(course.log.system, &FileName::Segment(name))?;
        let session = course.log.session;
        let opened =
            session.or_cancelled(async { if_there(LogReader::open(course.log.repository.store(), &key).await) });
        let reader = opened.await.with_context(act)?;
        let whole = course.log.size.bytes();
        let raw_bytes = reader.as_ref().map_or(whole, |reader| reader.descriptor().raw_bytes);
        // What lies behind a fork is another timeline's.
        let mut left = course.end.0.saturating_sub(start.0);
        let (mut scan, mut beginning) = (self.scan.take(), Vec::new());
        let mut is_known = false;
        let mut take = |bytes: &[u8]| -> Result<()> {
            let bytes = exact::first(bytes, exact::usize_from(left));
            left -= exact::u64_from(bytes.len());
            if let Some(scan) = scan.as_mut().filter(|_| is_known) {
                scan.feed(bytes, tell);
                return Ok(());
            }
            beginning.extend_from_slice(bytes);
            if beginning.len() >= HEADER_BYTES {
                let header = *SegmentReader::begin(&name, raw_bytes, &beginning)?.header();
                if header.system != course.log.system {
                    return Err(Error::corrupt(format!("it is of system {}", header.system)));
                }
                is_known = true;
                scan.get_or_insert_with(|| Scan::begin(header, course.timeline))
                    .feed(&beginning, tell);
            }
            Ok(())
        };
        let read = async {
            let Some(reader) = reader else {
                let repository = course.log.repository;
                let parts = parts_of(repository, course.log.system, &name).await?;
                return join(repository, &parts, &mut take).await.map(drop);
            };
            reader.read(&mut take).await
        };
        session.or_cancelled(read).await.with_context(act)?;
        if let Some(scan) = scan {
            self.last = self.last.max(scan.last_record());
            self.tablespace = self.tablespace.take().or_else(|| scan.tablespace().map(str::to_owned));
            self.go_on(scan);
        }
        Ok(())
    }

    /// Keeps a walk for the next segment, unless that begins another one.
    fn go_on(&mut self, scan: Scan) {
        match scan.ended() {
            None => {
                self.end = scan.position();
                self.scan = Some(scan);
            }
            Some(why) => {
                self.is_over = why != End::Switched;
                self.end = scan.finish().end;
            }
        }
    }
}
