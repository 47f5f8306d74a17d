//! `list`: what there is.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::error::{ErrorKind, Result};
use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::operations::options;
use crate::operations::show::local_time;
use crate::operations::snapshots::{open_repository, stored_bytes};
use crate::operations::{Report, Session, Status, document_of};
use crate::repository::{Manifest, ManifestSource, SnapshotId};

/// What there is in a repository. Its fields are the keys of the JSON document.
#[derive(Debug, Default, serde::Serialize)]
pub struct ListReport {
    /// The snapshots, oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Those whose manifest cannot be read.
    pub damaged: Vec<DamagedSnapshot>,
}

/// A snapshot.
#[derive(Debug, serde::Serialize)]
pub struct ListedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its job.
    pub job: String,
    /// Host that made it.
    pub host: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
    /// Bytes that it takes in the store.
    pub stored_bytes: u64,
    /// Whether every source succeeded that is not optional.
    pub complete: bool,
    /// Why a person pinned it; `None` if nobody did.
    pub pinned: Option<String>,
    /// Whether it is dated ahead of the store's clock.
    pub ahead: bool,
    /// Its sources.
    pub sources: Vec<ListedSource>,
}

/// A source of a snapshot.
#[derive(Debug, serde::Serialize)]
pub struct ListedSource {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether it succeeded.
    pub ok: bool,
}

/// A snapshot whose manifest cannot be read.
#[derive(Debug, serde::Serialize)]
pub struct DamagedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Why.
    pub error: String,
}

impl Report for ListReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut rows: BTreeMap<&SnapshotId, [String; 6]> = BTreeMap::new();
        rows.extend(self.snapshots.iter().map(|one| (&one.id, one.row())));
        rows.extend(self.damaged.iter().map(|one| (&one.id, one.row())));
        let mut table = Table::new(&["snapshot", "job", "host", "finished", ">stored", "sources"]);
        for row in rows.into_values() {
            table.row(row);
        }
        let mut text = if table.is_empty() {
            "no snapshots\n".to_owned()
        } else {
            table.render()
        };
        for one in self.snapshots.iter().filter(|one| one.ahead) {
            text.push_str(&format!(
                "{} is dated in the future because the clock of its host was wrong: `latest` ignores it\n",
                one.id
            ));
        }
        text
    }

    fn status(&self) -> Status {
        if self.damaged.is_empty() {
            Status::Done
        } else {
            Status::Failed
        }
    }
}

impl ListedSnapshot {
    fn of(manifest: Manifest, pinned: Option<String>, now: Timestamp) -> Self {
        let outcomes = manifest.sources.iter().filter_map(|source| source.outcome.as_ref());
        let source = |source: &ManifestSource| ListedSource {
            name: source.name.clone(),
            kind: source.kind.clone(),
            ok: source.outcome.is_some(),
        };
        Self {
            started: manifest.started,
            finished: manifest.finished,
            stored_bytes: outcomes.map(stored_bytes).sum(),
            complete: manifest.is_complete(),
            pinned,
            ahead: manifest.is_ahead(now),
            sources: manifest.sources.iter().map(source).collect(),
            id: manifest.id,
            job: manifest.job,
            host: manifest.host,
        }
    }

    fn row(&self) -> [String; 6] {
        let name = |source: &ListedSource| {
            let failed = if source.ok { "" } else { " (failed)" };
            format!("{}{failed}", source.name)
        };
        let names: Vec<String> = self.sources.iter().map(name).collect();
        [
            self.id.to_string(),
            self.job.clone(),
            self.host.clone(),
            local_time(self.finished),
            format_bytes(self.stored_bytes),
            names.join(", ") + if self.pinned.is_some() { " (pinned)" } else { "" },
        ]
    }
}

impl DamagedSnapshot {
    fn row(&self) -> [String; 6] {
        let [job, host, finished, stored] = std::array::from_fn(|_| String::new());
        [self.id.to_string(), job, host, finished, stored, "DAMAGED".to_owned()]
    }
}

/// Loads every manifest; a damaged one is named, not hidden.
pub async fn run(session: &Session, options: &options::List) -> Result<ListReport> {
    let repository = open_repository(session).await?;
    let mut pins = session.or_cancelled(repository.pins()).await?;
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    let mut report = ListReport::default();
    for id in session.or_cancelled(repository.list()).await? {
        match session.or_cancelled(repository.load(&id)).await {
            Ok(manifest) if wanted(&manifest, options) => {
                let pinned = pins.remove(&id);
                report.snapshots.push(ListedSnapshot::of(manifest, pinned, now));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                let error = error.chain();
                report.damaged.push(DamagedSnapshot { id, error });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

fn wanted(manifest: &Manifest, options: &options::List) -> bool {
    options.job.as_ref().is_none_or(|job| *job == manifest.job)
        && options.host.as_ref().is_none_or(|host| *host == manifest.host)
}
