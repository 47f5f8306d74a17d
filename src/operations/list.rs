//! `list`: what there is.

use serde_json::json;

use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::operations::options;
use crate::operations::said::said;
use crate::operations::show::local_time;
use crate::operations::snapshots::{open_repository, stored_bytes};
use crate::operations::{Outcome, Session, Status};
use crate::repository::Manifest;

/// Loads every manifest and prints a line for each; a damaged one is named, not hidden.
pub async fn run(session: &Session, options: &options::List) -> Outcome {
    let repository = open_repository(session).await?;
    let mut table = Table::new(&["snapshot", "job", "host", "finished", ">stored", "sources"]);
    let pins = session.or_cancelled(repository.pins()).await?;
    let now = session.or_cancelled(async { Ok(repository.clock().await) }).await?;
    let (mut snapshots, mut damaged, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
    for id in session.or_cancelled(repository.list()).await? {
        match session.or_cancelled(repository.load(&id)).await {
            Ok(manifest) => {
                if !wanted(&manifest, options) {
                    continue;
                }
                let stored: u64 = manifest
                    .sources
                    .iter()
                    .filter_map(|s| s.outcome.as_ref())
                    .map(stored_bytes)
                    .sum();
                let finished = local_time(manifest.finished);
                table.row([
                    id.to_string(),
                    manifest.job.clone(),
                    manifest.host.clone(),
                    finished,
                    format_bytes(stored),
                    sources_of(&manifest) + if pins.contains_key(&id) { " (pinned)" } else { "" },
                ]);
                let is_ahead = manifest.is_ahead(now);
                if is_ahead {
                    ahead.push(id.to_string());
                }
                snapshots.push(json!({
                    "id": id, "job": manifest.job, "host": manifest.host, "started": manifest.started,
                    "finished": manifest.finished, "stored_bytes": stored, "complete": manifest.is_complete(),
                    "pinned": pins.get(&id), "ahead": is_ahead,
                    "sources": manifest.sources.iter().map(|s| json!({
                        "name": s.name, "kind": s.kind, "ok": s.outcome.is_some()
                    })).collect::<Vec<_>>(),
                }));
            }
            Err(error) if matches!(error.kind(), crate::ErrorKind::Corrupt | crate::ErrorKind::Unsupported) => {
                damaged.push(json!({ "id": id, "error": error.chain() }));
                table.row([
                    id.to_string(),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                    "DAMAGED".into(),
                ]);
            }
            Err(error) => return Err(error),
        }
    }
    let mut text = if table.is_empty() {
        "no snapshots\n".to_owned()
    } else {
        table.render()
    };
    for id in &ahead {
        text.push_str(&format!(
            "{id} is dated ahead of the store's clock, by a host whose clock was wrong: `latest` never means it\n"
        ));
    }
    let status = if damaged.is_empty() {
        Status::Done
    } else {
        Status::Failed
    };
    said(json!({ "snapshots": snapshots, "damaged": damaged }), text, status)
}

fn wanted(manifest: &Manifest, options: &options::List) -> bool {
    options.job.as_ref().is_none_or(|job| *job == manifest.job)
        && options.host.as_ref().is_none_or(|host| *host == manifest.host)
}

fn sources_of(manifest: &Manifest) -> String {
    let name = |s: &crate::repository::ManifestSource| match s.outcome {
        Some(_) => s.name.clone(),
        None => format!("{} (failed)", s.name),
    };
    manifest.sources.iter().map(name).collect::<Vec<_>>().join(", ")
}
