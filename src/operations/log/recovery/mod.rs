//! Which base backup leads to a moment, and how a server goes on from it through the stored log.
//!
//! A server that does not find its recovery target ends with an error, hours later. So the target is looked for here, before the first write: on the
//! line of timelines that the server will follow, behind the end of the base, without a hole in between. What cannot be reached is refused with
//! what can.

mod base;
mod command;
mod course;
mod ending;
mod proof;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::moment::local;
use crate::engines::postgres::physical::KIND;
use crate::engines::postgres::physical::flags::WantedTimeline;
pub(crate) use crate::engines::postgres::physical::recovery::Recovery;
use crate::engines::postgres::physical::recovery::{RecoveryTarget, TargetAction};
use crate::engines::postgres::wal::Lsn;
use crate::operations::choose::{self, Purpose};
use crate::operations::destination::select;
use crate::operations::options::{self, At, RestoreBase};
use crate::operations::show::local_time;
use crate::operations::{Session, session::quoted};
use crate::repository::{Manifest, ManifestSource, Repository, Selector, Suits, is_ahead};
use base::Base;
use course::{Course, StoredLog};
use ending::{Ending, Points};
pub(crate) use proof::{Proven, prove};

/// Where a restore is to come to, beside what a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// The newest stored position.
    Newest,
    Moment(Timestamp),
    Lsn(Lsn),
    Name(String),
}

impl Wanted {
    fn of(options: &options::Restore, flags: &RestoreBase) -> Option<Self> {
        let at = match options.at {
            Some(At::Latest) => Some(Self::Newest),
            Some(At::Moment(moment)) => Some(Self::Moment(moment)),
            None => None,
        };
        at.or(flags.lsn.map(Self::Lsn))
            .or_else(|| flags.name.clone().map(Self::Name))
    }

    fn text(&self) -> String {
        match self {
            Self::Newest => "the end of the log".to_owned(),
            Self::Moment(moment) => local(*moment),
            Self::Lsn(lsn) => lsn.to_string(),
            Self::Name(name) => format!("restore point {name:?}"),
        }
    }
}

/// A snapshot, and the options of its restore with what is planned for its logs.
#[derive(Debug)]
pub(crate) struct Aimed {
    pub(crate) manifest: Manifest,
    pub(crate) options: options::Restore,
}

/// Returns the flags that say where a restore is to come to, with a blank before them.
pub(crate) fn flags(options: &options::Restore) -> String {
    let own: RestoreBase = options.engines.of();
    let flag = |name: &str, value: Option<String>| value.map(|value| format!(" --{name} {}", quoted(&value)));
    let at = options.at.map(|at| match at {
        At::Latest => "latest".to_owned(),
        At::Moment(moment) => moment.to_string(),
    });
    let timeline = own.timeline.map(|timeline| match timeline {
        WantedTimeline::Latest => "latest".to_owned(),
        WantedTimeline::Current => "current".to_owned(),
        WantedTimeline::Number(number) => number.to_string(),
    });
    let action = own.target_action.map(|action| action.word().to_owned());
    let all = [
        flag("at", at),
        flag("lsn", own.lsn.map(|lsn| lsn.to_string())),
        flag("name", own.name),
        flag("timeline", timeline),
        flag("target-action", action),
    ];
    all.into_iter().flatten().collect()
}

/// Finds the snapshot that is restored, and plans how each base of it goes on. Without a target that is the one that the name means.
pub(crate) async fn aim(session: &Session, repository: &Repository, options: &options::Restore) -> Result<Aimed> {
    let flags: RestoreBase = options.engines.of();
    let Some(wanted) = Wanted::of(options, &flags) else {
        let chosen = choose::snapshot(session, repository, &options.snapshot, &options.source, Purpose::Write);
        return Ok(Aimed {
            manifest: chosen.await?.manifest,
            options: options.clone(),
        });
    };
    if let Wanted::Moment(moment) = wanted {
        let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
        if is_ahead(moment, now) {
            let message = format!("{} has not come yet", wanted.text());
            return Err(Error::invalid(message).with_hint("Is its time zone the one that was meant?"));
        }
    }
    let aim = Aim {
        session,
        repository,
        options,
        flags,
        wanted,
        points: Points::default(),
    };
    aim.run().await
}

/// Returns whether a source is a base backup.
pub(crate) fn is_base(source: &ManifestSource) -> bool {
    source.kind == KIND.word()
}

/// Returns the system identifier of the server of a base backup.
pub(crate) fn system_of(source: &ManifestSource) -> Result<u64> {
    Base::of(source).map(|base| base.system)
}

/// How a source goes on by its log, and the moment that it comes to.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) recovery: Recovery,
    /// The one that was asked for; of all that is stored, the end of the last transaction.
    pub(crate) at: Option<Timestamp>,
}

/// Plans how one source of a snapshot goes on to a moment. `None` for what has no log, or none in this repository: it comes back as it was stored.
pub(crate) async fn to_moment(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    at: At,
) -> Result<Option<Moment>> {
    if !is_base(source) {
        return Ok(None);
    }
    let base = Base::of(source)?;
    let Some(log) = StoredLog::open(session, repository, base.system).await? else {
        return Ok(None);
    };
    let options = options::Restore::default();
    let aim = Aim {
        session,
        repository,
        options: &options,
        flags: RestoreBase::default(),
        wanted: match at {
            At::Latest => Wanted::Newest,
            At::Moment(moment) => Wanted::Moment(moment),
        },
        points: Points::default(),
    };
    let (recovery, last) = Box::pin(aim.plan_over(&log, &base, None)).await?;
    let at = match at {
        At::Latest => last,
        At::Moment(moment) => Some(moment),
    };
    Ok(Some(Moment { recovery, at }))
}

/// Says how a server goes on from the base of a course to an ending.
fn planned(session: &Session, course: &Course<'_>, ending: &Ending, action: TargetAction) -> Result<Recovery> {
    let (base, size) = (&course.base, course.base.size.bytes());
    let from = base.start;
    Ok(Recovery {
        action,
        timeline: course.timeline,
        from,
        to: ending.to,
        segments: (ending.to.0.saturating_sub(1) / size).saturating_sub(from.0 / size) + 1,
        bytes: ending.to.0.saturating_sub(from.0),
        until: ending.until,
        restore_command: command::restore_command(session, base.system, ending.until)?,
        needs: command::needs(session)?,
        base: base.planned(),
        target: ending.target.clone(),
    })
}

struct Aim<'a> {
    session: &'a Session,
    repository: &'a Repository,
    options: &'a options::Restore,
    flags: RestoreBase,
    wanted: Wanted,
    /// The restore points that were come by.
    points: Points,
}

impl Aim<'_> {
    async fn run(&self) -> Result<Aimed> {
        let is_latest = matches!(Selector::parse(&self.options.snapshot), Selector::Latest { .. });
        // A name tells no position: bases are tried from the newest back, each up to where the one before began to look.
        let tries_older = is_latest && matches!(self.wanted, Wanted::Name(_));
        let (mut bound, mut not_found) = (None, None);
        loop {
            let manifest = match self.choose(bound).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_found.unwrap_or(error)),
                chosen => chosen?,
            };
            match self.plan_all(&manifest, bound).await {
                Err(error) if tries_older && error.kind() == ErrorKind::NotFound => {
                    bound = self.ends(&manifest)?;
                    not_found = Some(error);
                }
                planned => return Ok(self.aimed(manifest, planned?)),
            }
        }
    }

    fn aimed(&self, manifest: Manifest, recoveries: BTreeMap<String, Recovery>) -> Aimed {
        let flags = RestoreBase {
            recoveries,
            ..self.flags.clone()
        };
        let options = options::Restore {
            engines: self.options.engines.clone().with(flags),
            ..self.options.clone()
        };
        Aimed { manifest, options }
    }

    /// Returns the sources of a snapshot that are asked for.
    fn meant<'m>(&self, manifest: &'m Manifest) -> impl Iterator<Item = &'m ManifestSource> {
        let names = &self.options.source;
        let is_meant =
            |source: &&ManifestSource| names.is_empty() || names.iter().any(|name| manifest.means(name, source));
        let meant: Vec<_> = manifest.sources.iter().filter(is_meant).collect();
        meant.into_iter()
    }

    /// Returns the latest end of its bases, in the log.
    fn ends(&self, manifest: &Manifest) -> Result<Option<Lsn>> {
        let bases = self.meant(manifest).filter(|source| source.kind == KIND.word());
        let ends: Result<Vec<Lsn>> = bases.map(|source| Base::of(source).map(|base| base.end)).collect();
        Ok(ends?.into_iter().max())
    }

    /// Returns the moment that a snapshot holds.
    fn consistent_at(&self, manifest: &Manifest) -> Option<Timestamp> {
        let outcomes = self.meant(manifest).filter_map(|source| source.outcome.as_ref());
        outcomes.map(|outcome| outcome.consistent_at).max()
    }

    /// Chooses the snapshot: of those that `latest` may mean, the newest that ended before the target. `bound` is a position at which it
    /// has to have ended before.
    async fn choose(&self, bound: Option<Lsn>) -> Result<Manifest> {
        let (session, options) = (self.session, self.options);
        // The one that comes nearest where none suits.
        let oldest: Mutex<Option<Manifest>> = Mutex::new(None);
        let suits = |manifest: &Manifest| {
            let suits = self.suits(manifest, bound);
            let mut oldest = oldest.lock().unwrap_or_else(PoisonError::into_inner);
            if !suits && oldest.as_ref().is_none_or(|one| manifest.finished < one.finished) {
                *oldest = Some(manifest.clone());
            }
            suits
        };
        let (name, sources) = (&options.snapshot, &options.source);
        let suits = Some(Suits(&suits));
        let chosen = choose::suited(session, self.repository, name, sources, suits, Purpose::Write).await;
        let chosen = match chosen {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let oldest = oldest.into_inner().unwrap_or_else(PoisonError::into_inner);
                return Err(oldest.map_or(error, |oldest| self.before_all(&oldest)));
            }
            chosen => chosen?.manifest,
        };
        if self.suits(&chosen, bound) {
            return Ok(chosen);
        }
        let message = format!(
            "snapshot {} ended at {}, and {} is before that",
            chosen.id,
            self.end_text(&chosen),
            self.wanted.text()
        );
        Err(Error::invalid(message).with_hint("`latest` chooses the newest one that ended before it."))
    }

    fn suits(&self, manifest: &Manifest, bound: Option<Lsn>) -> bool {
        // One without a base, or whose position cannot be read, is not passed over: it is refused for what it is.
        let ends_by = |lsn: Lsn| !matches!(self.ends(manifest), Ok(Some(end)) if end > lsn);
        match &self.wanted {
            Wanted::Newest => true,
            Wanted::Moment(moment) => self.consistent_at(manifest).is_some_and(|end| end <= *moment),
            Wanted::Lsn(lsn) => ends_by(*lsn),
            Wanted::Name(_) => bound.is_none_or(|bound| bound.0 > 0 && ends_by(Lsn(bound.0 - 1))),
        }
    }

    fn end_text(&self, manifest: &Manifest) -> String {
        let time = self.consistent_at(manifest).map(local_time).unwrap_or_default();
        match self.ends(manifest) {
            Ok(Some(end)) => format!("{end}, {time}"),
            _ => time,
        }
    }

    /// The error for what lies before everything.
    fn before_all(&self, oldest: &Manifest) -> Error {
        let message = format!("no snapshot ended before {}", self.wanted.text());
        Error::new(ErrorKind::NotFound, message).with_hint(format!(
            "The oldest, {}, ended at {}: nothing before that can be recovered.",
            oldest.id,
            self.end_text(oldest)
        ))
    }

    /// Plans how each base of a snapshot goes on. Sources without a log come back as they were stored.
    async fn plan_all(&self, manifest: &Manifest, bound: Option<Lsn>) -> Result<BTreeMap<String, Recovery>> {
        let mut planned = BTreeMap::new();
        for source in select(&self.session.engines, manifest, self.options)? {
            if source.kind != KIND.word() {
                continue;
            }
            let base = Base::of(source)?;
            let recovery = Box::pin(self.plan(&base, bound)).await;
            let recovery = recovery.with_context(|| format!("plan the recovery of source \"{}\"", source.name))?;
            planned.insert(source.name.clone(), recovery);
        }
        Ok(planned)
    }

    async fn plan(&self, base: &Base, bound: Option<Lsn>) -> Result<Recovery> {
        let log = StoredLog::open(self.session, self.repository, base.system).await?;
        let log = log.ok_or_else(|| {
            let message = format!("the repository holds no log of system {}", base.system);
            Error::invalid(message).with_hint(
                "Without a target a base comes back as of its own end. Where several repositories are configured, --from names the one that has the log.",
            )
        })?;
        let (recovery, _) = self.plan_over(&log, base, bound).await?;
        Ok(recovery)
    }

    /// Plans over a log; returns the last end of a transaction as well, where all that is stored is asked for.
    async fn plan_over(
        &self,
        log: &StoredLog<'_>,
        base: &Base,
        bound: Option<Lsn>,
    ) -> Result<(Recovery, Option<Timestamp>)> {
        let mut course = log.course(base, self.flags.timeline.unwrap_or(WantedTimeline::Latest))?;
        if let Some(bound) = bound {
            course.end = course.end.min(bound);
        }
        let ending = self.ending(&course).await?;
        let action = self.flags.target_action.unwrap_or_default();
        if ending.target == RecoveryTarget::End && action != TargetAction::Promote {
            let message = format!(
                "--target-action {} needs a place to stop at, and nothing is stored behind {}",
                action.word(),
                self.wanted.text()
            );
            let last = ending.last.map_or_else(
                || "Leave it out.".to_owned(),
                |last| format!("Use --lsn {last}, where the last stored record begins."),
            );
            return Err(Error::invalid(message).with_hint(last));
        }
        let last = match self.wanted {
            Wanted::Newest => course.last_time(course.segments()).await?.map(|(_, time)| time),
            _ => None,
        };
        let recovery = planned(self.session, &course, &ending, action)?;
        Ok((recovery, last))
    }

    async fn ending(&self, course: &Course<'_>) -> Result<Ending> {
        match &self.wanted {
            Wanted::Newest => ending::newest(course).await,
            Wanted::Moment(moment) => ending::at_moment(course, *moment).await,
            Wanted::Lsn(lsn) => ending::at_lsn(course, *lsn).await,
            Wanted::Name(name) => ending::at_name(course, name, &self.points).await,
        }
    }
}
