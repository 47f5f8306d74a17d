//! Bringing a base back into a data directory: where to, how, and what is said of it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, Result};
use crate::base::report::Note;
use crate::engines::beside::beside;
use crate::engines::postgres::physical::KIND;
use crate::engines::postgres::physical::flags::RestoreBase;
use crate::engines::postgres::physical::recovery::Recovery;
use crate::engines::postgres::physical::restore::fill::{Filled, Placement, fill};
use crate::engines::postgres::physical::restore::report::{BasePlan, BaseRestored, BaseUndone, MovedTablespace};
use crate::engines::postgres::physical::restore::swap;
use crate::engines::postgres::physical::restore::tablespaces::{Assigned, assign};
use crate::engines::postgres::physical::restore::target::{
    Found, Fresh, Owner, STAGING, check_space, free_bytes, look, owner, refuse_mount_point, refuse_running, resolved,
};
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::physical::stored::judge::survey;
use crate::engines::restorer::occupied;
use crate::engines::{RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, TargetPlan, Tools};

/// Brings a base back.
#[derive(Debug)]
pub(super) struct BaseRestorer {
    /// Without links: where one was given, what it leads to is replaced.
    directory: PathBuf,
    task: String,
    clean: bool,
    flags: RestoreBase,
    /// How the server goes on behind the end of the base.
    recovery: Option<Recovery>,
    tools: Tools,
}

impl BaseRestorer {
    pub(super) fn new(request: RestoreRequest) -> Result<Self> {
        let hint = "Name a data directory that is new or empty: --into DIRECTORY, or data_directory in [source.NAME].";
        let wrong = |what: &str| {
            Error::invalid(format!("source \"{}\" is a base backup, which {what}", request.source)).with_hint(hint)
        };
        let own = request.place.as_ref().and_then(|place| place.local_path());
        let path = match (&request.into, own) {
            (None, Some(own)) => own.to_owned(),
            (None, None) => return Err(wrong("goes into a directory and not back into its server")),
            (Some(given), _) => {
                let path = given.path();
                let path = path.ok_or_else(|| wrong("goes into a directory and into no URL"))?;
                if request.is_one_of_several {
                    path.join(&request.source)
                } else {
                    path
                }
            }
        };
        let mut flags: RestoreBase = request.options.engines.of();
        Ok(Self {
            directory: resolved(&path)?,
            recovery: flags.recoveries.remove(&request.source),
            task: request.source,
            clean: request.options.clean,
            flags,
            tools: request.tools,
        })
    }

    /// Refuses whatever can be refused before the first write.
    async fn look(&self, reader: &ArchiveReader) -> Result<(BaseFacts, Vec<Assigned>, BasePlan)> {
        let found = self.found()?;
        let facts = BaseFacts::of(reader).await?;
        if let Some(recovery) = &self.recovery {
            recovery.check(&facts)?;
        }
        let assigned = assign(
            &facts,
            (&self.flags.tablespace, self.flags.tablespaces_of_several),
            &self.directory,
        )?;
        let stored = survey(reader, &facts).await?;
        let replaces = found == Found::Occupied;
        let data = self.place(replaces);
        let mut places = vec![(data.as_path(), stored.bytes)];
        for (tablespace, bytes) in facts.tablespaces.iter().zip(stored.tablespace_bytes) {
            let beside = assigned.iter().find(|one| one.tablespace.oid == tablespace.oid);
            if let Some(one) = beside
                && look(&one.into)? == Found::Occupied
            {
                return Err(not_empty(&one.into));
            }
            places.push((beside.map_or(&data, |one| &one.into), bytes));
        }
        check_space(&places)?;
        let plan = BasePlan {
            bytes: places.iter().fold(0, |all, (_, bytes)| all.saturating_add(*bytes)),
            files: stored.files,
            free_bytes: free_bytes(&data)?,
            replaces,
            major: facts.major,
            tablespaces: moved(&assigned),
            recovery: self.recovery.clone(),
        };
        Ok((facts, assigned, plan))
    }

    fn found(&self) -> Result<Found> {
        let found = look(&self.directory)?;
        if found == Found::Occupied {
            if !self.clean {
                return Err(occupied(&self.directory, "is not empty"));
            }
            refuse_running(&self.directory)?;
            refuse_mount_point(&self.directory)?;
        }
        Ok(found)
    }

    /// Returns where a base is written. The old directory stays where it is until the new one is whole.
    fn place(&self, replaces: bool) -> PathBuf {
        if replaces {
            beside(&self.directory, STAGING)
        } else {
            self.directory.clone()
        }
    }

    /// Writes a base into directories that are new or empty, and which are that again unless they are kept.
    fn fill(
        &self,
        reader: &ArchiveReader,
        facts: BaseFacts,
        tablespaces: Vec<Assigned>,
        replaces: bool,
    ) -> Result<(Filled, Vec<Fresh>)> {
        let directory = self.place(replaces);
        let owner = owner(&self.directory)?.unwrap_or_else(|user| {
            let message = format!(
                "its files belong to whoever restores, and the directory to user {user}: give them to the server's user (chown -R), with mode 0700"
            );
            let note = Note::new("owner-not-set", self.directory.display().to_string(), message);
            self.tools.reporter.note(&self.task, note);
            Owner::Oneself
        });
        let mut fresh = vec![if replaces {
            Fresh::claim_staging(&directory)?
        } else {
            Fresh::claim(&directory)?
        }];
        for one in &tablespaces {
            fresh.push(Fresh::claim(&one.into)?);
        }
        let placement = Placement {
            directory,
            tablespaces,
            owner,
        };
        let settings = self.recovery.as_ref().map(Recovery::settings);
        let runtime = tokio::runtime::Handle::current();
        let filled = fill(
            reader,
            facts,
            &placement,
            settings.as_deref(),
            (&self.task, &self.tools),
        );
        Ok((runtime.block_on(filled)?, fresh))
    }
}

/// The error for the directory of a tablespace: unlike a data directory, it is never replaced.
fn not_empty(path: &Path) -> Error {
    occupied(path, "is not empty")
        .with_hint("A tablespace goes into a new or empty directory: --tablespace OLD=DIRECTORY.")
}

fn moved(assigned: &[Assigned]) -> Vec<MovedTablespace> {
    let moved = |one: &Assigned| MovedTablespace {
        oid: one.tablespace.oid,
        was: one.tablespace.location.clone(),
        into: one.into.clone(),
    };
    assigned.iter().map(moved).collect()
}

#[async_trait(?Send)]
impl Restorer for BaseRestorer {
    fn target(&self) -> String {
        self.directory.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        self.found().map(drop)
    }

    async fn plan(&mut self, reader: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        let (_, _, plan) = self.look(reader).await?;
        Ok(Some(Box::new(plan)))
    }

    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        let (facts, assigned, plan) = self.look(&reader).await?;
        let (tablespaces, replaces) = (moved(&assigned), plan.replaces);
        let act = format!("restore \"{}\"", self.directory.display());
        let done = blocking(move || {
            let (filled, fresh) = self.fill(&reader, facts, assigned, replaces)?;
            let keep = || fresh.into_iter().for_each(Fresh::keep);
            let previous = if replaces {
                Some(swap::swap(&self.place(true), &self.directory, keep)?)
            } else {
                keep();
                None
            };
            Ok((self.directory.clone(), previous, filled))
        });
        let (directory, previous, filled) = done.await.context(act)?;
        Ok(Box::new(BaseRestored {
            directory,
            bytes: filled.bytes,
            files: filled.files,
            previous,
            major: filled.facts.major,
            server_version: filled.facts.server_version,
            start_lsn: filled.facts.start_lsn,
            end_lsn: filled.facts.end_lsn,
            timeline: filled.facts.end_timeline,
            tablespaces,
            left_out: filled.left_out,
            has_configuration: filled.has_configuration,
            damaged_files: filled.facts.damaged_files,
            recovery: plan.recovery,
        }))
    }

    async fn settle(self: Box<Self>, how: Settle, _: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        if how == Settle::Finish {
            return Err(how.is_not_done(KIND.word()));
        }
        let directory = self.directory.clone();
        let (previous, kept) = blocking(move || swap::undo(&directory)).await?;
        Ok(Box::new(BaseUndone {
            into: self.directory,
            previous,
            kept,
        }))
    }
}
