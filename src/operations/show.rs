//! `show`: one snapshot, source by source.

use crate::base::error::Result;
use crate::base::exact;
use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::engines::Registry;
use crate::operations::choose::{Chosen, Purpose};
use crate::operations::options;
use crate::operations::snapshots::{open_snapshot, stored_bytes};
use crate::operations::{Report, Session, Status, document_of};
use crate::repository::{Manifest, ManifestSource};

/// What `show` found. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct ShowReport {
    /// The snapshot's manifest.
    pub snapshot: Manifest,
    /// Unreadable snapshots that may be newer, a line each.
    pub passed_over: Vec<String>,
    /// Those that say what lies in their archives.
    #[serde(skip)]
    engines: Registry,
}

impl Report for ShowReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut text = text(&self.engines, &self.snapshot);
        for line in &self.passed_over {
            text.push_str(&format!("\n{line}\n"));
        }
        text
    }

    fn status(&self) -> Status {
        if self.passed_over.is_empty() {
            Status::Done
        } else {
            Status::Partial
        }
    }
}

/// Loads the manifest.
pub async fn run(session: &Session, options: &options::Show) -> Result<ShowReport> {
    let (_, chosen) = open_snapshot(session, &options.snapshot, &[], Purpose::Read).await?;
    let Chosen { manifest, passed } = chosen;
    Ok(ShowReport {
        snapshot: manifest,
        passed_over: passed,
        engines: session.engines.clone(),
    })
}

/// Writes a snapshot for people; `backup` ends with the same text.
pub(crate) fn text(engines: &Registry, manifest: &Manifest) -> String {
    let time = |t: jiff::Timestamp| local_time(t);
    let mut text = format!(
        "snapshot {}\njob {}, host {}, {} to {}\n\n",
        manifest.id,
        manifest.job,
        manifest.host,
        time(manifest.started),
        time(manifest.finished)
    );
    let mut table = Table::new(&[
        "source", "kind", ">items", ">size", ">stored", ">ratio", ">seconds", ">MiB/s",
    ]);
    for source in &manifest.sources {
        table.row(row(source));
    }
    text.push_str(&table.render());
    for source in &manifest.sources {
        if let Some(error) = &source.error {
            let optional = if source.optional { " (optional)" } else { "" };
            text.push_str(&format!("\n{} failed{optional}: {error}\n", source.name));
        }
        let engine = engines.of_kind(&source.kind);
        if let (Some(engine), Some(outcome)) = (engine, &source.outcome) {
            text.push_str(&engine.describe(&source.name, outcome));
        }
        let planned = manifest.plan.source(&source.name);
        if let Some(left_out) = engine.zip(planned).and_then(|(engine, plan)| engine.left_out(plan)) {
            text.push_str(&format!("\n{} leaves out {left_out}\n", source.name));
        }
        let notes = source
            .outcome
            .iter()
            .flat_map(|o| &o.note_counts)
            .map(|(code, n)| format!("{n} {code}"))
            .collect::<Vec<_>>();
        if !notes.is_empty() {
            text.push_str(&format!("\n{} notes: {}\n", source.name, notes.join(", ")));
        }
    }
    text
}

/// Writes a time in this host's zone, and names the zone.
pub(crate) fn local_time(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%F %T %Z")
        .to_string()
}

fn row(source: &ManifestSource) -> Vec<String> {
    let Some(outcome) = &source.outcome else {
        return vec![source.name.clone(), source.kind.clone(), "failed".to_owned()];
    };
    let stored = stored_bytes(outcome);
    // A clock that was set back meanwhile makes it none.
    let milliseconds = exact::saturating_u64(source.finished.duration_since(source.started).as_millis());
    vec![
        source.name.clone(),
        source.kind.clone(),
        outcome.items.to_string(),
        format_bytes(outcome.raw_bytes),
        format_bytes(stored),
        tenths(outcome.raw_bytes.saturating_mul(10), stored),
        tenths(milliseconds, 100),
        tenths(outcome.raw_bytes.saturating_mul(10_000) >> 20, milliseconds),
    ]
}

/// `numerator / denominator`, taken as tenths.
fn tenths(numerator: u64, denominator: u64) -> String {
    match numerator.checked_div(denominator) {
        Some(value) => format!("{}.{}", value / 10, value % 10),
        None => "-".to_owned(),
    }
}
