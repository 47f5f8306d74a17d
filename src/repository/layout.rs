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
/// Name of [`wal_seen`].
const SEEN: &str = "seen.json";

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

/// `wal/<system>/<timeline>/open/<segment>.<from>-<to>.zst`: a part of a segment that is still being written, with the offsets in it
/// where the part begins and ends, 8 hex digits each.
pub fn wal_part(system: u64, timeline: u32, segment: &str, range: (u32, u32)) -> Result<ObjectKey> {
    let (from, to) = range;
    let parts = wal_parts(system, timeline, segment);
    ObjectKey::new(format!("{parts}{from:08X}-{to:08X}{LOG_END}"))
}

/// The prefix of the parts of a segment.
pub fn wal_parts(system: u64, timeline: u32, segment: &str) -> String {
    format!("{}{timeline:08X}/open/{segment}.", wal_system(system))
}

/// `wal/<system>/seen.json`: how far a receiver has seen the log, and when.
pub fn wal_seen(system: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{SEEN}", wal_system(system)))
}

/// What a key below [`WAL`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalKey<'a> {
    /// A file: its system and its name.
    File(u64, &'a str),
    /// A part of a segment: its system, the segment's name, and the offsets at which it begins and ends.
    Part(u64, &'a str, (u32, u32)),
    /// [`wal_seen`] of a system.
    Seen(u64),
}

/// Returns what a key of a log says; None for a key that is none of those here.
pub fn wal_key(key: &ObjectKey) -> Option<WalKey<'_>> {
    let (system, rest) = key.as_str().strip_prefix(WAL)?.split_once('/')?;
    let system: u64 = system.parse().ok()?;
    let is_made = |made: Result<ObjectKey>| made.is_ok_and(|made| made == *key);
    if rest == SEEN {
        return is_made(wal_seen(system)).then_some(WalKey::Seen(system));
    }
    let (timeline, name) = rest
        .split_once('/')
        .map_or((None, rest), |(first, name)| (Some(first), name));
    let name = name.strip_suffix(LOG_END)?;
    let timeline = timeline
        .map(|digits| u32::from_str_radix(digits, 16))
        .transpose()
        .ok()?;
    if let (Some(timeline), Some(part)) = (timeline, name.strip_prefix("open/")) {
        let (segment, range) = part.split_once('.')?;
        let (from, to) = range.split_once('-')?;
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let range = (number(from)?, number(to)?);
        let made = wal_part(system, timeline, segment, range);
        return (is_made(made) && range.0 < range.1 && !segment.contains('/'))
            .then_some(WalKey::Part(system, segment, range));
    }
    (is_made(wal_file(system, timeline, name)) && !name.contains('/')).then_some(WalKey::File(system, name))
}

/// `log/redis/<source>/`: the command streams of a source.
pub fn command_logs(source: &str) -> String {
    format!("{COMMANDS}{}/", id::sanitised_job(source))
}

/// `log/redis/<source>/<replication ID>/<offset, 20 digits>.zst`: a piece of a stream, from this offset on.
pub fn commands(source: &str, id: &str, offset: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{id}/{offset:020}{LOG_END}", command_logs(source)))
}

/// `log/redis/<source>/<replication ID>/<offset, 20 digits>.<digest>.damaged`: a piece that could not be read, and was set aside.
pub fn commands_aside(source: &str, id: &str, offset: u64, digest: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{id}/{offset:020}.{digest}.damaged", command_logs(source)))
}

/// `log/redis/<source>/<replication ID>/went-back.json`: up to where the history was received when its server went back.
pub fn commands_went_back(source: &str, id: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{id}/went-back.json", command_logs(source)))
}

/// `log/redis/<source>/receivers/`: who receives the log of a source.
pub fn commands_receivers(source: &str) -> String {
    format!("{}receivers/", command_logs(source))
}

/// `log/redis/<source>/receivers/<name>.json`: a receiver, by the digest of where it runs and what it follows, and a random number.
pub fn commands_receiver(source: &str, name: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("{}{name}.json", commands_receivers(source)))
}

/// Returns replication ID and offset out of the key of a piece of a source's stream; None for a key that [`commands`] does not make.
pub fn commands_at<'a>(source: &str, key: &'a ObjectKey) -> Option<(&'a str, u64)> {
    let rest = key.as_str().strip_prefix(&command_logs(source))?;
    let (id, name) = rest.split_once('/')?;
    let offset = name.strip_suffix(LOG_END)?.parse().ok()?;
    let made = commands(source, id, offset).ok();
    (made.as_ref() == Some(key)).then_some((id, offset))
}

/// Returns the offset out of the key of a piece of a history that was set aside; None for a key that [`commands_aside`] does not make.
pub fn commands_aside_at(source: &str, id: &str, key: &ObjectKey) -> Option<u64> {
    let rest = key.as_str().strip_prefix(&command_logs(source))?;
    let name = rest.strip_prefix(id)?.strip_prefix('/')?;
    let (offset, digest) = name.strip_suffix(".damaged")?.split_once('.')?;
    let offset = offset.parse().ok()?;
    let made = commands_aside(source, id, offset, digest).ok();
    (made.as_ref() == Some(key)).then_some(offset)
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
        assert_eq!(commands_aside_at("cache", "0a", &key), None);
        let aside = commands_aside("cache", "0a", 42, "0123").unwrap();
        assert_eq!(commands_aside_at("cache", "0a", &aside), Some(42));
        assert_eq!(commands_aside_at("cache", "0b", &aside), None);
        assert_eq!(commands_at("cache", &aside), None);
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
            assert_eq!((made.as_str(), wal_key(&made)), (key, Some(WalKey::File(system, name))));
        }
        let part = wal_part(7, 1, "000000010000000000000003", (0x2000, 0x10_0000)).unwrap();
        let text = "wal/7/00000001/open/000000010000000000000003.00002000-00100000.zst";
        let read = WalKey::Part(7, "000000010000000000000003", (0x2000, 0x10_0000));
        assert_eq!((part.as_str(), wal_key(&part)), (text, Some(read)));
        assert!(text.starts_with(&wal_parts(7, 1, "000000010000000000000003")));
        let seen = wal_seen(7).unwrap();
        assert_eq!(
            (seen.as_str(), wal_key(&seen)),
            ("wal/7/seen.json", Some(WalKey::Seen(7)))
        );
        for wrong in [
            "wal/x/00000001/a.zst",
            "wal/7/1/a.zst",
            "wal/+7/a.zst",
            "wal/7/0000000a/a.zst",
            "wal/7/00000001/b/a.zst",
            "wal/7/a",
            "wal/7/00000001/open/a.zst",
            "wal/7/00000001/open/a.2000-00100000.zst",
            "wal/7/00000001/open/a.00100000-00002000.zst",
            "wal/7/00000001/open/b/a.00002000-00100000.zst",
            "wal/7/open/a.00002000-00100000.zst",
            "wal/07/seen.json",
            "data/7/a.zst",
        ] {
            let key = ObjectKey::new(wrong).unwrap();
            assert_eq!(wal_key(&key), None, "{wrong}");
        }
        for wrong in ["wal/x/seen.json", "wal/seen.json", "wal/7/1/seen.json"] {
            assert_eq!(wal_key(&ObjectKey::new(wrong).unwrap()), None, "{wrong}");
        }
    }
}
