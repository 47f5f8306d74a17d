//! `restore --resume` and `restore --undo`: what became of an earlier restore.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::shown_path;
use crate::config::PostgresSource;
use crate::engines::files::restore::{self as files, Settled};
use crate::engines::postgres::{self, RestoreOptions, Undone};
use crate::engines::sqlite::restore as sqlite;
use crate::operations::destination::{Destination, Target, destinations};
use crate::operations::options;
use crate::operations::restore::report::{document, ended, item_line, sessions_text};
use crate::operations::snapshots::open_reader;
use crate::operations::{Report, Session, Status, open, volumes};
use crate::repository::{Manifest, ManifestSource, Repository, SnapshotId};

/// What became of earlier restores.
#[derive(Debug, serde::Serialize)]
pub(crate) struct SettleReport {
    snapshot: SnapshotId,
    #[serde(flatten)]
    settled: SettledSources,
    errors: Vec<Failure>,
}

/// All went the same way.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum SettledSources {
    Undone(Vec<SettledSource>),
    Finished(Vec<SettledSource>),
}

/// What became of the restore of one source.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
enum SettledSource {
    Tree(SettledTree),
    Volumes {
        source: String,
        volumes: Vec<SettledTree>,
    },
    Database {
        source: String,
        into: String,
        report: Undone,
    },
    File {
        source: String,
        #[serde(serialize_with = "shown_path::path")]
        into: PathBuf,
        report: UndoneFile,
    },
}

/// A tree, or the volume of a source.
#[derive(Debug, serde::Serialize)]
struct SettledTree {
    source: String,
    #[serde(serialize_with = "shown_path::path")]
    into: PathBuf,
    report: Settled,
}

/// A SQLite database that is the old one again.
#[derive(Debug, serde::Serialize)]
struct UndoneFile {
    /// Where that was kept.
    #[serde(serialize_with = "shown_path::path")]
    previous: PathBuf,
    /// Where what the restore had brought is kept.
    #[serde(serialize_with = "shown_path::optional")]
    kept: Option<PathBuf>,
}

/// What did not become what it was, headed by its source. The text also says what to do.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
struct Failure {
    message: String,
    #[serde(skip)]
    shown: String,
}

impl SettledSources {
    fn all(&self) -> &[SettledSource] {
        match self {
            Self::Undone(all) | Self::Finished(all) => all,
        }
    }
}

impl Report for SettleReport {
    fn document(&self) -> Value {
        document(self)
    }

    fn text(&self) -> String {
        let undone = matches!(self.settled, SettledSources::Undone(_));
        let mut text: String = self.settled.all().iter().map(|one| one.text(undone)).collect();
        for failure in &self.errors {
            text.push_str(&format!("failed: {}\n", failure.shown));
        }
        text
    }

    fn status(&self) -> Status {
        ended(!self.settled.all().is_empty(), self.errors.is_empty())
    }
}

impl SettledSource {
    /// Returns a line for each statement that failed.
    fn failures(&self) -> Vec<String> {
        match self {
            Self::Database { report, .. } => report.failed.iter().map(item_line).collect(),
            Self::Tree(_) | Self::Volumes { .. } | Self::File { .. } => Vec::new(),
        }
    }

    fn text(&self, undone: bool) -> String {
        match self {
            Self::Tree(tree) => tree.text(undone),
            Self::Volumes { volumes, .. } => volumes.iter().map(|volume| volume.text(undone)).collect(),
            Self::Database { report, .. } => {
                let mut text = format!("{} is database {} again\n", report.was_kept_as, report.database);
                if let Some(restored) = &report.restored_kept_as {
                    text.push_str(&format!("  what the restore had brought is kept as {restored}\n"));
                }
                text + &sessions_text(report.ended_sessions)
            }
            Self::File { into, report, .. } => {
                let mut text = format!("{} is {} again\n", report.previous.display(), into.display());
                if let Some(kept) = &report.kept {
                    text.push_str(&format!(
                        "  what the restore had brought is kept in {}\n",
                        kept.display()
                    ));
                }
                text
            }
        }
    }
}

impl SettledTree {
    fn text(&self, undone: bool) -> String {
        let of = match self.report.origin.as_str() {
            "" => String::new(),
            origin => format!(" of snapshot {origin}"),
        };
        let (did, kept) = if undone {
            ("is undone", "what stood in its place is kept in")
        } else {
            ("is finished", "what was there before is kept in")
        };
        let mut text = format!("{}: the restore{of} into {} {did}\n", self.source, self.into.display());
        if let Some(path) = &self.report.kept {
            text.push_str(&format!("  {kept} {}\n", path.display()));
        }
        text
    }
}

/// Finishes or undoes the restores of the selected sources. One that fails does not keep the others from it.
pub(crate) async fn run(
    session: &Session,
    options: &options::Restore,
    repository: &Repository,
    manifest: &Manifest,
    selected: &[&ManifestSource],
) -> Result<SettleReport> {
    let (mut settled, mut errors) = (Vec::new(), Vec::new());
    let verb = if options.undo { "undo" } else { "finish" };
    for place in destinations(session, manifest, selected, options)? {
        session.check_cancelled()?;
        let source = place.source;
        match Box::pin(one(session, options, repository, place)).await {
            Ok(one) => {
                errors.extend(one.failures().into_iter().map(|line| {
                    let message = format!("{}: {line}", source.name);
                    let shown = message.clone();
                    Failure { message, shown }
                }));
                settled.push(one);
            }
            Err(error) if selected.len() == 1 || error.kind() == ErrorKind::Cancelled => {
                return Err(error.context(format!("{verb} the restore of source \"{}\"", source.name)));
            }
            Err(error) => errors.push(Failure {
                message: format!("{}: {}", source.name, error.chain()),
                shown: format!("{}: {}", source.name, error.chain_and_hint()),
            }),
        }
    }
    Ok(SettleReport {
        snapshot: manifest.id.clone(),
        settled: if options.undo {
            SettledSources::Undone(settled)
        } else {
            SettledSources::Finished(settled)
        },
        errors,
    })
}

async fn one(
    session: &Session,
    options: &options::Restore,
    repository: &Repository,
    place: Destination<'_>,
) -> Result<SettledSource> {
    let source = place.source;
    match place.target {
        Target::Tree(root) => Ok(SettledSource::Tree(SettledTree {
            report: settle_tree(session, options, &source.name, &root).await?,
            source: source.name.clone(),
            into: root,
        })),
        Target::Volumes(target) => {
            let reader = open_reader(session, repository.store(), source).await?;
            let mut how = volumes::options(session, source, &place.docker, options);
            how.task.clone_from(&source.name);
            let roots = volumes::settle(session, &reader, &target, &how, |root| {
                settle_tree_at(session, options, source.name.clone(), root)
            });
            let volumes = roots.await?.into_iter().map(|(volume, into, report)| SettledTree {
                source: format!("{} volume {volume}", source.name),
                into,
                report,
            });
            Ok(SettledSource::Volumes {
                source: source.name.clone(),
                volumes: volumes.collect(),
            })
        }
        _ if options.resume => Err(
            Error::unsupported(format!("a restore of kind {} is not resumed", source.kind)).with_hint(
                "It never leaves anything half restored in place of the old: run it again without --resume.",
            ),
        ),
        Target::Database(server) => undo_database(session, &source.name, &server).await,
        Target::File(path) => undo_file(session, source, path).await,
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

async fn undo_database(session: &Session, name: &str, server: &PostgresSource) -> Result<SettledSource> {
    let wanted = open::postgres(server)?;
    let timeout = RestoreOptions::default().swap_timeout;
    Ok(SettledSource::Database {
        report: session.or_cancelled(Box::pin(postgres::undo(&wanted, timeout))).await?,
        source: name.to_owned(),
        into: crate::config::redact_url(&server.url),
    })
}

async fn undo_file(session: &Session, source: &ManifestSource, path: PathBuf) -> Result<SettledSource> {
    let previous = last_previous(&path)?;
    let how = sqlite::SqliteRestoreOptions {
        task: source.name.clone(),
        ..Default::default()
    };
    let aside = session.or_cancelled(sqlite::undo(&path, &previous, &how)).await?;
    Ok(SettledSource::File {
        source: source.name.clone(),
        into: path,
        report: UndoneFile {
            previous,
            kept: aside.exists().then_some(aside),
        },
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn report(settled: fn(Vec<SettledSource>) -> SettledSources, failed: bool) -> SettleReport {
        let tree = SettledTree {
            source: "etc".to_owned(),
            into: PathBuf::from("/etc/app"),
            report: Settled {
                origin: "S1".to_owned(),
                kept: Some(PathBuf::from("/etc/app.kept")),
            },
        };
        let failure = Failure {
            message: "db: refused".to_owned(),
            shown: "db: refused (Try again)".to_owned(),
        };
        SettleReport {
            snapshot: SnapshotId::new("2026-01-01T00:00:00Z".parse().unwrap(), "full", 7),
            settled: settled(vec![SettledSource::Tree(tree)]),
            errors: failed.then_some(failure).into_iter().collect(),
        }
    }

    #[test]
    fn the_document_names_which_way_it_went_and_the_status_what_is_left() {
        let done = report(SettledSources::Finished, false);
        let one = json!({ "source": "etc", "into": "/etc/app", "report": { "origin": "S1", "kept": "/etc/app.kept" } });
        let expected = json!({ "snapshot": done.snapshot, "finished": [one], "errors": [] });
        assert_eq!(done.document(), expected);
        assert_eq!(done.status(), Status::Done);
        assert!(done.text().contains("what was there before is kept in /etc/app.kept"));
        let part = report(SettledSources::Undone, true);
        assert_eq!(part.document()["errors"], json!(["db: refused"]));
        assert_eq!(part.document()["undone"], json!([one]));
        assert_eq!(part.status(), Status::Partial);
        assert!(part.text().ends_with("failed: db: refused (Try again)\n"));
    }
}
