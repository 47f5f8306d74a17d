//! Proving a database: restored beside others on a scratch server, every table compared.

use crate::base::claim::Claim;
use crate::base::error::Result;
use crate::engines::postgres::PostgresSpec;
use crate::engines::postgres::verify::{Scratch, verify_restored};
use crate::engines::proof::refused_by_server;
use crate::engines::redact::redact_url;
use crate::engines::{RestoreProof, ScratchReport, Stored};

pub(in crate::engines::postgres) async fn prove_restored(
    stored: &Stored,
    server: &PostgresSpec,
) -> Result<RestoreProof> {
    let report = verify_restored(Scratch {
        server: server.connect_options()?,
        reader: stored.reader.clone(),
        snapshot: stored.snapshot.clone(),
        parallel: 2,
        reporter: stored.tools.reporter.clone(),
        task: stored.source.clone(),
        cancel: stored.tools.cancel.clone(),
    })
    .await?;
    let refused = report.failed.iter();
    let refused = refused.map(|item| format!("{} {}: {}", item.kind, item.name, item.error));
    let left_out = report.left_out.iter().map(|item| {
        format!(
            "{} {}: it refers to something missing on the scratch server: {}",
            item.kind, item.name, item.error
        )
    });
    Ok(RestoreProof {
        why_not: refused_by_server(report.failed.len()),
        refused: refused.collect(),
        skipped: left_out.collect(),
        restored: Some(Box::new(ScratchDatabase {
            server: redact_url(&server.url),
            tables: report.tables,
            rows: report.rows,
            bytes: report.bytes,
            rows_verified: report.rows_verified,
            seconds: report.seconds,
        })),
        ..RestoreProof::default()
    })
}

/// A database that came back on a scratch server.
#[derive(Debug, serde::Serialize)]
struct ScratchDatabase {
    /// The server, without its password.
    server: String,
    /// Tables that were loaded.
    tables: u64,
    /// Their rows.
    rows: u64,
    /// Bytes of COPY data.
    bytes: u64,
    /// Whether every row was read again and compared.
    rows_verified: bool,
    /// How long it took.
    seconds: f64,
}

impl ScratchReport for ScratchDatabase {
    fn text(&self) -> String {
        // A server that refused a table has rows that nobody compared.
        let proof = if self.rows_verified {
            Claim::EveryDigest.words()
        } else {
            "not every table compared"
        };
        format!(
            "a scratch database: {} tables, {} rows, {proof}",
            self.tables, self.rows
        )
    }
}
