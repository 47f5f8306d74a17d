//! `restore --resume` and `restore --undo`: what became of an earlier restore.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::PostgresSource;
use crate::engines::files::restore::{self as files, Settled};
use crate::engines::postgres::{self, RestoreOptions};
use crate::engines::sqlite::restore as sqlite;
use crate::operations::destination::{Destination, Target, destinations};
use crate::operations::options;
use crate::operations::restore::failed_items;
use crate::operations::said::said;
use crate::operations::snapshots::open_reader;
use crate::operations::{Outcome, Session, Status, open, volumes};
use crate::repository::{Manifest, ManifestSource, Repository};

/// What happened to one source, for programs and for people.
type Done = (Value, String);

/// Finishes or undoes the restores of the selected sources. One that fails does not keep the others from it.
pub(crate) async fn run(
    session: &Session,
    options: &options::Restore,
    repository: &Repository,
    manifest: &Manifest,
    selected: &[&ManifestSource],
) -> Outcome {
    let (mut done, mut text, mut errors) = (Vec::new(), String::new(), Vec::new());
    let verb = if options.undo { "undo" } else { "finish" };
    for place in destinations(session, manifest, selected, options)? {
        session.check_cancelled()?;
        let source = place.source;
        let settled = Box::pin(one(session, options, repository, place)).await;
        match settled {
            Ok((value, lines)) => {
                text.push_str(&lines);
                for line in failed_items(&value) {
                    text.push_str(&format!("failed: {}: {line}\n", source.name));
                    errors.push(format!("{}: {line}", source.name));
                }
                done.push(value);
            }
            Err(error) if selected.len() == 1 || error.kind() == ErrorKind::Cancelled => {
                return Err(error.context(format!("{verb} the restore of source \"{}\"", source.name)));
            }
            Err(error) => {
                text.push_str(&format!("failed: {}: {}\n", source.name, error.chain_and_hint()));
                errors.push(format!("{}: {}", source.name, error.chain()));
            }
        }
    }
    let status = match (done.is_empty(), errors.is_empty()) {
        (_, true) => Status::Done,
        (true, false) => Status::Failed,
        (false, false) => Status::Partial,
    };
    let key = if options.undo { "undone" } else { "finished" };
    said(
        json!({ "snapshot": manifest.id, key: done, "errors": errors }),
        text,
        status,
    )
}

async fn one(
    session: &Session,
    options: &options::Restore,
    repository: &Repository,
    place: Destination<'_>,
) -> Result<Done> {
    let source = place.source;
    match place.target {
        Target::Tree(root) => {
            let settled = settle_tree(session, options, &source.name, &root).await?;
            Ok(told(&source.name, &root, options.undo, &settled))
        }
        Target::Volumes(target) => {
            let reader = open_reader(session, repository.store(), source).await?;
            let mut how = volumes::options(session, source, &place.docker, options);
            how.task.clone_from(&source.name);
            let roots = volumes::settle(session, &reader, &target, &how, |root| {
                settle_tree_at(session, options, source.name.clone(), root)
            });
            let (mut values, mut text) = (Vec::new(), String::new());
            for (volume, root, settled) in roots.await? {
                let name = format!("{} volume {volume}", source.name);
                let (value, lines) = told(&name, &root, options.undo, &settled);
                values.push(value);
                text.push_str(&lines);
            }
            Ok((json!({ "source": source.name, "volumes": values }), text))
        }
        _ if options.resume => Err(
            Error::unsupported(format!("a restore of kind {} is not resumed", source.kind)).with_hint(
                "It never leaves anything half restored in place of the old: run it again without --resume.",
            ),
        ),
        Target::Database(server) => undo_database(session, &source.name, &server).await,
        Target::File(path) => undo_file(session, source, &path).await,
        Target::Redis(_) | Target::RdbFile(_) => Err(Error::unsupported(format!(
            "a restore of kind {} is not undone by --undo",
            source.kind
        ))
        .with_hint(
            "What a restore with --clean removed lies in a snapshot of its own, which it named: restore that one with \
             --clean.",
        )),
    }
}

async fn settle_tree_at(session: &Session, options: &options::Restore, task: String, root: PathBuf) -> Result<Settled> {
    settle_tree(session, options, &task, &root).await
}

async fn settle_tree(session: &Session, options: &options::Restore, task: &str, root: &Path) -> Result<Settled> {
    if options.undo {
        files::undo(root, None).await
    } else {
        files::finish(root, task, session.reporter.clone()).await
    }
}

fn told(name: &str, root: &Path, undone: bool, settled: &Settled) -> Done {
    let of = match settled.origin.as_str() {
        "" => String::new(),
        origin => format!(" of snapshot {origin}"),
    };
    let (did, kept) = if undone {
        ("is undone", "what stood in its place is kept in")
    } else {
        ("is finished", "what was there before is kept in")
    };
    let mut text = format!("{name}: the restore{of} into {} {did}\n", root.display());
    if let Some(path) = &settled.kept {
        text.push_str(&format!("  {kept} {}\n", path.display()));
    }
    (json!({ "source": name, "into": root, "report": settled }), text)
}

async fn undo_database(session: &Session, name: &str, server: &PostgresSource) -> Result<Done> {
    let wanted = open::postgres(server)?;
    let timeout = RestoreOptions::default().swap_timeout;
    let undone = session.or_cancelled(Box::pin(postgres::undo(&wanted, timeout))).await?;
    let mut text = format!("{} is database {} again\n", undone.was_kept_as, undone.database);
    if let Some(restored) = &undone.restored_kept_as {
        text.push_str(&format!("  what the restore had brought is kept as {restored}\n"));
    }
    text.push_str(&super::restore::ended_text(undone.ended_sessions));
    let value = json!({ "source": name, "into": crate::config::redact_url(&server.url), "report": undone });
    Ok((value, text))
}

async fn undo_file(session: &Session, source: &ManifestSource, path: &Path) -> Result<Done> {
    let previous = last_previous(path)?;
    let how = sqlite::SqliteRestoreOptions {
        task: source.name.clone(),
        ..Default::default()
    };
    let aside = session.or_cancelled(sqlite::undo(path, &previous, &how)).await?;
    let mut text = format!("{} is {} again\n", previous.display(), path.display());
    let aside = aside.exists().then_some(aside);
    if let Some(aside) = &aside {
        text.push_str(&format!(
            "  what the restore had brought is kept in {}\n",
            aside.display()
        ));
    }
    let value = json!({ "source": source.name, "into": path, "report": { "previous": previous, "kept": aside } });
    Ok((value, text))
}

/// Returns the last database that a restore kept beside a file.
fn last_previous(path: &Path) -> Result<PathBuf> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{name}.pre-restore-");
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new(".")))
        .with_context(|| format!("look beside \"{}\"", path.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let companion = ["-wal", "-shm", "-journal"].iter().any(|ending| name.ends_with(ending));
        if name.starts_with(&prefix) && !companion {
            found.push(name);
        }
    }
    let last = found.into_iter().max().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("no restore into \"{}\" can be undone", path.display()),
        )
        .with_hint(format!(
            "The database that a restore with --clean replaced is kept as \"{prefix}…\" beside it; there is none. \
             Nothing was changed."
        ))
    })?;
    Ok(path.with_file_name(last))
}
