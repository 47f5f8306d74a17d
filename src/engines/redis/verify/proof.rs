//! Proving an RDB: every key decoded, and loaded into an empty scratch server, every key compared.

use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::engines::proof::refused_by_server;
use crate::engines::redact::redact_url;
use crate::engines::redis::verify::{RedisScratch, RestoredReport, decode_all, verify_restored};
use crate::engines::redis::{FailedKey, RedisSpec, stored as rdb};
use crate::engines::{RestoreProof, ScratchReport, Stored};

/// Walks every key of the stored RDBs, compares their CRC64, and decodes each value.
pub(in crate::engines::redis) async fn prove_content(stored: &Stored) -> Result<Option<String>> {
    let (reader, cancel) = (&stored.reader, &stored.tools.cancel);
    rdb::verify(reader, cancel).await?;
    let rdbs = rdb::server_rdbs(reader).await?;
    let mut in_part = rdbs.iter().filter(|rdb| !rdb.is_whole());
    if let Some(unknown) = in_part.find_map(|rdb| rdb.facts.unknown.as_ref()) {
        return Ok(Some(format!(
            "its RDB holds {unknown}, so it can only be restored as a file (--into file:dump.rdb), for a server of \
             its version"
        )));
    }
    let decoded = decode_all(reader, cancel).await?;
    let counted: u64 = rdbs.iter().map(|rdb| rdb.facts.census.keys()).sum();
    if decoded != counted {
        return Err(Error::corrupt(format!("{decoded} of {counted} keys were decoded")));
    }
    Ok(None)
}

/// Loads a scratch server and compares every key.
pub(in crate::engines::redis) async fn prove_restored(stored: &Stored, server: &RedisSpec) -> Result<RestoreProof> {
    let report = verify_restored(RedisScratch {
        address: server.address()?,
        reader: stored.reader.clone(),
        task: stored.source.clone(),
        reporter: stored.tools.reporter.clone(),
        cancel: stored.tools.cancel.clone(),
    })
    .await?;
    let more = |all: u64, named: usize| {
        let more = all.saturating_sub(exact::u64_from(named));
        (more > 0).then(|| format!("and {more} keys more"))
    };
    let line = |item: &FailedKey| format!("{} {}: {}", item.kind, item.name, item.error);
    let mut proof = RestoreProof::default();
    proof.refused.extend(report.failed.iter().map(line));
    proof.refused.extend(more(report.failed_keys, report.failed.len()));
    proof.refused.extend(report.losses.iter().map(line));
    for (why, keys) in &report.not_compared {
        let line = format!("{keys} keys hold {why}, which cannot be compared");
        proof.skipped.push(line);
    }
    proof.damage.clone_from(&report.differing);
    proof.damage.extend(more(report.differing_keys, report.differing.len()));
    proof.why_not = match report.differing_keys {
        0 => refused_by_server(report.failed.len() + report.losses.len()),
        keys => Some(format!("{keys} keys differ")),
    };
    proof.restored = Some(Box::new(ScratchKeys {
        server: redact_url(&server.url),
        compared: report,
    }));
    Ok(proof)
}

/// Keys that came back on a scratch server.
#[derive(Debug, serde::Serialize)]
struct ScratchKeys {
    /// The server, without its password.
    server: String,
    /// What the comparison found.
    #[serde(flatten)]
    compared: RestoredReport,
}

impl ScratchReport for ScratchKeys {
    fn text(&self) -> String {
        format!(
            "a scratch server: {} keys compared, {} differ, {} expired or about to",
            self.compared.keys, self.compared.differing_keys, self.compared.expired
        )
    }
}
