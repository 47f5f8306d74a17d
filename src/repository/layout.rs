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

/// Prefix of write-ahead logs.
pub const WAL: &str = "wal/";

/// Prefix of the command streams of Redis and Valkey servers.
pub const COMMANDS: &str = "log/redis/";

/// What follows the name of a file of a log in its key.
const LOG_END: &str = ".zst";

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

/// `wal/<system>/`: the log of one server and of its copies.
pub fn wal_system(system: u64) -> String {
    format!("{WAL}{system}/")
}

/// `wal/<system>/<timeline>/<name>.zst`, where the name begins with the timeline's eight digits, or without a timeline
/// `wal/<system>/<name>.zst`.
pub fn wal_file(system: u64, timeline: Option<u32>, name: &str) -> Result<ObjectKey> {
    let timeline = timeline.map(|timeline| format!("{timeline:08X}/")).unwrap_or_default();
    ObjectKey::new(format!("{}{timeline}{name}{LOG_END}", wal_system(system)))
}

/// Returns system and name out of the key of a file of a log; None for a key that [`wal_file`] does not make.
pub fn wal_name(key: &ObjectKey) -> Option<(u64, &str)> {
    let (system, rest) = key.as_str().strip_prefix(WAL)?.split_once('/')?;
    let system: u64 = system.parse().ok()?;
    let (timeline, name) = rest
        .split_once('/')
        .map_or((None, rest), |(first, name)| (Some(first), name));
    let name = name.strip_suffix(LOG_END)?;
    let timeline = timeline
        .map(|digits| u32::from_str_radix(digits, 16))
        .transpose()
        .ok()?;
    let made = wal_file(system, timeline, name).ok();
    (made.as_ref() == Some(key) && !name.contains('/')).then_some((system, name))
}

/// `log/redis/<source>/`: the command streams of a source.
pub fn command_logs(source: &str) -> String {
    format!("{COMMANDS}{}/", id::sanitised_job(source))
}

/// `log/redis/<source>/<replication ID>/<offset, 20 digits>.zst`: a piece of a stream, from this offset on.
pub fn commands(source: &str, id: &str, offset: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{id}/{offset:020}{LOG_END}", command_logs(source)))
}

/// Returns replication ID and offset out of the key of a piece of a source's stream; None for a key that [`commands`] does not make.
pub fn commands_at<'a>(source: &str, key: &'a ObjectKey) -> Option<(&'a str, u64)> {
    let rest = key.as_str().strip_prefix(&command_logs(source))?;
    let (id, name) = rest.split_once('/')?;
    let offset = name.strip_suffix(LOG_END)?.parse().ok()?;
    let made = commands(source, id, offset).ok();
    (made.as_ref() == Some(key)).then_some((id, offset))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_of_command_streams_go_both_ways() {
        let key = commands("cache", "0a", 42).unwrap();
        assert_eq!(key.as_str(), "log/redis/cache/0a/00000000000000000042.zst");
        assert_eq!(commands_at("cache", &key), Some(("0a", 42)));
        assert_eq!(commands_at("other", &key), None);
        for wrong in [
            "0a/42.zst",
            "0a/+0000000000000000042.zst",
            "00000000000000000042.zst",
            "0a/b/00000000000000000042.zst",
        ] {
            let key = ObjectKey::new(format!("log/redis/cache/{wrong}")).unwrap();
            assert_eq!(commands_at("cache", &key), None, "{wrong}");
        }
    }

    #[test]
    fn keys_of_logs_go_both_ways() {
        for (key, system, timeline, name) in [
            (
                "wal/7/00000001/000000010000000000000003.zst",
                7,
                Some(1),
                "000000010000000000000003",
            ),
            (
                "wal/18446744073709551615/00000002.history.zst",
                u64::MAX,
                None,
                "00000002.history",
            ),
        ] {
            let made = wal_file(system, timeline, name).unwrap();
            assert_eq!((made.as_str(), wal_name(&made)), (key, Some((system, name))));
        }
        for wrong in [
            "wal/x/00000001/a.zst",
            "wal/7/1/a.zst",
            "wal/+7/a.zst",
            "wal/7/0000000a/a.zst",
            "wal/7/00000001/b/a.zst",
            "wal/7/a",
            "data/7/a.zst",
        ] {
            let key = ObjectKey::new(wrong).unwrap();
            assert_eq!(wal_name(&key), None, "{wrong}");
        }
    }
}
