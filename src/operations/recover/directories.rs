//! Data directories of servers: they are looked at before the first write, as everything else is.

use super::choice::Choice;
use super::course::Course;
use super::flags;
use super::plan::{Plan, Tree};
use super::state::State;
use crate::base::error::{ErrorKind, Result};
use crate::engines::EngineFlags;
use crate::operations::log::redis::restore as commands;
use crate::operations::{Session, options, restore};

/// How a base goes into its data directory.
pub(super) fn flags_of((choice, options): (&Choice, &options::Recover), tree: &Tree, is_one: bool) -> options::Restore {
    let recovery = match &tree.course {
        Some(Course::Replayed { recovery, .. }) => Some((tree.name.clone(), recovery.clone())),
        _ => None,
    };
    let base = options::RestoreBase {
        tablespace: options.tablespace.clone(),
        tablespaces_of_several: !is_one,
        recoveries: recovery.into_iter().collect(),
        ..options::RestoreBase::default()
    };
    options::Restore {
        into: Some(format!("file:{}", tree.into.display())),
        ..flags(choice, options, &tree.name, EngineFlags::default().with(base))
    }
}

/// Looks at each data directory as its restore will; whatever that would refuse stops the recovery. What an earlier attempt has
/// begun may be replaced; what it has finished stays, and its server may run.
pub(super) async fn check(
    session: &Session,
    (choice, options): (&Choice, &options::Recover),
    plan: &mut Plan,
    earlier: Option<&State>,
) -> Result<()> {
    for (name, _) in &options.data_directory {
        let is_written = |tree: &Tree| tree.name == *name && tree.is_data_directory();
        if !plan.trees.iter().any(is_written) {
            plan.blockers.push(format!(
                "--data-directory {name}: it comes back in another way; a data directory is what base backups of PostgreSQL go into, and with --at a source of Redis or Valkey that has a log"
            ));
        }
    }
    let is_one = plan.bases() == 1;
    for tree in &plan.trees {
        let key = tree.key();
        if earlier.is_some_and(|state| state.is_done(&key)) {
            continue;
        }
        let clean = options.clean || earlier.is_some_and(|state| state.begun(&key));
        let checked = match &tree.course {
            Some(Course::Commands(own)) => {
                let mut own = own.options.clone();
                own.clean = clean;
                Box::pin(commands::plan(session, &own)).await.map(drop)
            }
            _ if tree.is_base() => {
                let mut own = flags_of((choice, options), tree, is_one);
                own.clean = clean;
                Box::pin(restore::check(session, &own)).await
            }
            _ => continue,
        };
        match checked {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => plan.blockers.push(format!("{}: {}", tree.name, error.chain_and_hint())),
            Ok(()) => {}
        }
    }
    Ok(())
}
