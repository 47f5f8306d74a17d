//! `restore --resume` and `restore --undo`: what became of an earlier restore.

use serde_json::Value;

use crate::base::error::{ErrorKind, Result};
use crate::engines::{self, Settle};
use crate::operations::destination::{Destination, destinations};
use crate::operations::options;
use crate::operations::restore::report::{document, ended};
use crate::operations::snapshots::open_reader;
use crate::operations::{Report, Session, Status};
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
struct SettledSource {
    source: String,
    #[serde(flatten)]
    report: Box<dyn engines::SettleReport>,
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
    fn all(&self) -> (&[SettledSource], Settle) {
        match self {
            Self::Undone(all) => (all, Settle::Undo),
            Self::Finished(all) => (all, Settle::Finish),
        }
    }
}

impl Report for SettleReport {
    fn document(&self) -> Value {
        document(self)
    }

    fn text(&self) -> String {
        let (all, how) = self.settled.all();
        let mut text: String = all.iter().map(|one| one.report.text(&one.source, how)).collect();
        for failure in &self.errors {
            text.push_str(&format!("failed: {}\n", failure.shown));
        }
        text
    }

    fn status(&self) -> Status {
        ended(!self.settled.all().0.is_empty(), self.errors.is_empty())
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
    for place in destinations(session, manifest, selected, selected.len() > 1, options)? {
        session.check_cancelled()?;
        let source = place.source;
        match Box::pin(one(session, options, repository, place)).await {
            Ok(one) => {
                errors.extend(one.report.failures().into_iter().map(|line| {
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
    let Destination { source, restorer } = place;
    let reader = if restorer.settles_with_archive() {
        Some(open_reader(session, repository.store(), source).await?)
    } else {
        None
    };
    let how = if options.undo { Settle::Undo } else { Settle::Finish };
    Ok(SettledSource {
        source: source.name.clone(),
        report: restorer.settle(how, reader).await?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[derive(Debug, serde::Serialize)]
    struct Tree {
        into: String,
    }

    impl engines::SettleReport for Tree {
        fn text(&self, source: &str, how: Settle) -> String {
            format!("{source} {how:?} {}\n", self.into)
        }
    }

    fn report(settled: fn(Vec<SettledSource>) -> SettledSources, failed: bool) -> SettleReport {
        let tree = SettledSource {
            source: "etc".to_owned(),
            report: Box::new(Tree {
                into: "/etc/app".to_owned(),
            }),
        };
        let failure = Failure {
            message: "db: refused".to_owned(),
            shown: "db: refused (Try again)".to_owned(),
        };
        SettleReport {
            snapshot: SnapshotId::new("2026-01-01T00:00:00Z".parse().unwrap(), "full", 7),
            settled: settled(vec![tree]),
            errors: failed.then_some(failure).into_iter().collect(),
        }
    }

    #[test]
    fn the_document_names_which_way_it_went_and_the_status_what_is_left() {
        let done = report(SettledSources::Finished, false);
        let one = json!({ "source": "etc", "into": "/etc/app" });
        let expected = json!({ "snapshot": done.snapshot, "finished": [one], "errors": [] });
        assert_eq!(done.document(), expected);
        assert_eq!(done.status(), Status::Done);
        assert_eq!(done.text(), "etc Finish /etc/app\n");
        let part = report(SettledSources::Undone, true);
        assert_eq!(part.document()["errors"], json!(["db: refused"]));
        assert_eq!(part.document()["undone"], json!([one]));
        assert_eq!(part.status(), Status::Partial);
        assert!(part.text().ends_with("failed: db: refused (Try again)\n"));
    }
}
