//! Where things lie in a repository. The tree stands in `docs/format.md`.

use crate::base::error::Result;
use crate::base::exact;
use crate::repository::{SnapshotId, id};
use crate::storage::ObjectKey;

/// Prefix of manifests.
pub const SNAPSHOTS: &str = "snapshots/";
/// Prefix of archives and indexes.
pub const DATA: &str = "data/";
/// Prefix of run markers and tombstones.
pub const RUNS: &str = "runs/";
/// Prefix of verification evidence.
pub const EVIDENCE: &str = "evidence/";

/// Prefix of run records.
pub const RECORDS: &str = "records/";

/// Prefix of pins.
pub const PINS: &str = "pins/";

/// Prefix of records of removed snapshots.
pub const REMOVED: &str = "removed/";

/// `repository.json`.
pub fn repository() -> Result<ObjectKey> {
    ObjectKey::new("repository.json")
}

/// `snapshots/<id>.json`: its presence is the commit.
pub fn manifest(id: &SnapshotId) -> Result<ObjectKey> {
    ObjectKey::new(format!("{SNAPSHOTS}{id}.json"))
}

/// `pins/<id>.json`: keeps the snapshot from expiring.
pub fn pin(id: &SnapshotId) -> Result<ObjectKey> {
    ObjectKey::new(format!("{PINS}{id}.json"))
}

/// `removed/<id>.json`: the snapshot was removed, and why.
pub fn removal(id: &SnapshotId) -> Result<ObjectKey> {
    ObjectKey::new(format!("{REMOVED}{id}.json"))
}

/// `data/<id>/`: everything a run stores.
pub fn data(id: &SnapshotId) -> String {
    format!("{DATA}{id}/")
}

/// `data/<id>/<source>`: the archives of one source.
pub fn source_data(id: &SnapshotId, source: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{DATA}{id}/{}", id::sanitised_job(source)))
}

/// `runs/<id>.json`: the marker of a running job.
pub fn marker(id: &SnapshotId) -> Result<ObjectKey> {
    ObjectKey::new(format!("{RUNS}{id}.json"))
}

/// `runs/<id>.swept`: written before a run's data are removed.
pub fn swept(id: &SnapshotId) -> Result<ObjectKey> {
    ObjectKey::new(format!("{RUNS}{id}.swept"))
}

/// `locks/<job>.json`: the advisory lease of a job.
pub fn lock(job: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("locks/{}.json", id::sanitised_job(job)))
}

/// `evidence/<id>/<time>-<16 hex>.json`: the time to the nanosecond, so that names sort by it, and random bits. Older versions
/// wrote `evidence/<id>/<time to the second>.json`.
pub fn evidence(id: &SnapshotId, time: jiff::Timestamp, random: u64) -> Result<ObjectKey> {
    let time = time.strftime("%Y%m%dT%H%M%S.%9fZ");
    ObjectKey::new(format!("{EVIDENCE}{id}/{time}-{random:016x}.json"))
}

/// `records/<host>/<task>-<name>/`: the records of one job, drill or rule of a host. Names that look alike in a key are told
/// apart by a part of their digest.
pub fn records(host: &str, task: &str, name: &str) -> String {
    let part = |name: &str| {
        let digest = super::document::sha256_hex(name.as_bytes());
        format!(
            "{}-{}",
            id::sanitised_job(name),
            exact::text(&digest, ..8, "SHA-256 has 64 digits")
        )
    };
    format!("{RECORDS}{}/{task}-{}/", part(host), part(name))
}

/// Returns the snapshot id in `<prefix><id><suffix>` or `<prefix><id>/…`.
pub fn id_in(key: &ObjectKey, prefix: &str, suffix: &str) -> Option<SnapshotId> {
    let rest = key.as_str().strip_prefix(prefix)?;
    let name = if suffix == "/" {
        rest.split_once('/')?.0
    } else {
        rest.strip_suffix(suffix)?
    };
    name.parse().ok()
}
