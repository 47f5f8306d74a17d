//! How a source comes to a moment by its log: a server of PostgreSQL replays it, one of Redis loads the commands.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::base::error::Result;
use crate::operations::Session;
use crate::operations::log::recovery::{self, Recovery};
use crate::operations::log::redis::restore::{self as commands, RestoredMoment};
use crate::operations::options::{self, At};
use crate::operations::places::Resolver;
use crate::repository::{Manifest, ManifestSource, Repository, Selector, SnapshotId};

/// A way to a moment, planned out of the stored log.
#[derive(Debug, Clone)]
pub(super) enum Course {
    /// The server recovers by itself once it is started.
    Replayed { recovery: Recovery, at: Option<Timestamp> },
    /// The commands are written for a server to load.
    Commands(Box<Commands>),
}

/// A restore by a log of commands.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    pub(super) options: options::Restore,
    pub(super) plan: RestoredMoment,
}

impl Course {
    /// The moment that the source comes to; None where nothing says it.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Replayed { at, .. } => *at,
            Self::Commands(commands) => commands.plan.at,
        }
    }

    /// The snapshot that it begins with, where that is another than the source was chosen from.
    pub(super) fn snapshot(&self) -> Option<&SnapshotId> {
        match self {
            Self::Replayed { .. } => None,
            Self::Commands(commands) => Some(&commands.plan.snapshot),
        }
    }

    /// Says what is replayed, for the plan: lines that are indented by two blanks.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Replayed { recovery, .. } => recovery.text(),
            Self::Commands(commands) => commands.plan.lines(),
        }
    }

    /// The object of the plan.
    pub(super) fn document(&self) -> serde_json::Value {
        match self {
            Self::Replayed { recovery, .. } => crate::operations::document_of(recovery),
            Self::Commands(commands) => crate::operations::document_of(&commands.plan),
        }
    }
}

/// Plans how a source of a snapshot goes on; None for what has no log, or no place for it on this host: it comes back as it was stored.
pub(super) async fn of(
    session: &Session,
    repository: &Repository,
    (manifest, source): (&Manifest, &ManifestSource),
    (at, options): (At, &options::Recover),
) -> Result<Option<Course>> {
    if source.kind != commands::kind() {
        let moment = recovery::to_moment(session, repository, source, at).await?;
        return Ok(moment.map(|moment| Course::Replayed {
            recovery: moment.recovery,
            at: moment.at,
        }));
    }
    let resolver = Resolver {
        session,
        manifest,
        accept: options.accept_places,
    };
    let Some(into) = data_directory(&resolver, source, options)? else {
        return Ok(None);
    };
    if !commands::has_log(session, repository, &source.name).await? {
        return Ok(None);
    }
    let options = options::Restore {
        snapshot: match Selector::parse(&options.snapshot) {
            Selector::Latest { .. } => "latest".to_owned(),
            Selector::Prefix(_) => manifest.id.to_string(),
        },
        source: vec![source.name.clone()],
        into: Some(into.display().to_string()),
        at: Some(at),
        clean: options.clean,
        thaw: options.thaw.clone(),
        ..options::Restore::default()
    };
    // What an earlier attempt has written is no reason not to plan; the step itself looks again.
    let looked_at = options::Restore {
        clean: true,
        ..options.clone()
    };
    let plan = commands::plan(session, &looked_at).await?;
    Ok(Some(Course::Commands(Box::new(Commands { options, plan }))))
}

/// Returns the data directory of a server: by the word of the command line, or of the configuration, and of nobody else.
pub(super) fn data_directory(
    resolver: &Resolver<'_>,
    source: &ManifestSource,
    options: &options::Recover,
) -> Result<Option<PathBuf>> {
    if let Some((_, path)) = options.data_directory.iter().find(|(name, _)| *name == source.name) {
        return Ok(Some(PathBuf::from(path)));
    }
    let place = resolver.place(source)?;
    Ok(place.and_then(|place| place.spec.local_path().map(Path::to_owned)))
}
