//! The RDB of an archive: its facts, its bytes in order, and the proof that all of them are as they were written.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{PayloadFacts, RdbFacts, STREAM};
use crate::archive::{ArchiveReader, ChunkRef, ChunkStream, DataSlice, StreamRecord};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::engines::redis::log::position::Position;
use crate::engines::redis::restore::load::FailedKey;
use crate::engines::redis::wire::rdb::census::LARGE_BYTES;
use crate::engines::redis::wire::rdb::types;
use crate::engines::redis::wire::rdb::types::ValueType;
use crate::engines::redis::wire::rdb::walk::{KeyHeader, Sink, State};
use crate::engines::redis::wire::rdb::{Census, Counter, Walker};

/// Bytes that are walked at once: bounds what a walk can make of them before it is sent.
pub(super) const SLICE_BYTES: usize = 64 << 10;

/// What is known of the RDB before it is used.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// What the RDB holds.
    pub census: Census,
    /// Values longer than [`LARGE_BYTES`]: number of the key in the file, and bytes of its value.
    pub(super) large: VecDeque<(u64, u64)>,
    /// What ends the walk before the last key that the backup counted; nothing where all of them are found.
    pub(super) ends_at: Option<String>,
}

/// One RDB of an archive: a server's, or a shard's.
#[derive(Debug, Clone)]
pub struct Rdb {
    /// Name of the stream: [`STREAM`], below a directory of its own for each shard of a cluster.
    pub stream: String,
    /// What the backup noted.
    pub facts: RdbFacts,
    bytes: u64,
}

impl Rdb {
    /// Returns how long it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how much memory its keys need in a server, at least about so much: as much as the server used that wrote it,
    /// or else as the RDB is long.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let used = self.facts.census.aux.get("used-mem").and_then(|text| text.parse().ok());
        used.unwrap_or(self.bytes)
    }
}

/// Directory of what was read key by key because an RDB is not understood; the RDB is stored beside it.
pub(super) const BY_KEY: &str = "by-key/";

impl Rdb {
    /// Returns whether it was read key by key, beside an RDB that is not understood.
    fn is_by_key(&self) -> bool {
        self.stream
            .strip_suffix(STREAM)
            .is_some_and(|rest| rest.ends_with(BY_KEY))
    }

    /// Returns the directory of what belongs to the server that it is of.
    pub(super) fn directory(&self) -> &str {
        let directory = self.stream.strip_suffix(STREAM).unwrap_or_default();
        directory.strip_suffix(BY_KEY).unwrap_or(directory)
    }

    /// Returns whether the backup has all of its keys for a live server: as far as it did not understand them, as payloads. A walk
    /// may know less than that of the backup did.
    pub fn is_whole(&self) -> bool {
        self.facts.unknown.is_none() || self.facts.payloads > 0
    }

    /// Tells what a walk over all of it has found.
    pub(super) fn found(&self, walker: &Walker) -> Found {
        match (walker.state(), &self.facts.unknown) {
            (State::Done, _) => Found::All,
            (State::Walking, _) => Found::CutShort,
            (State::Opaque, Some(_)) if walker.keys() == self.facts.census.keys() && self.is_whole() => Found::All,
            (State::Opaque, Some(unknown)) if walker.keys() == self.facts.census.keys() => {
                Found::AsBackup(unknown.clone())
            }
            (State::Opaque, _) => Found::Less(walker.unknown().unwrap_or("something unknown").to_owned()),
        }
    }

    /// Returns whether it may hold what only a later version understands.
    fn may_be_newer(&self) -> bool {
        let tried = if self.facts.valkey_magic {
            types::NEWEST.1
        } else {
            types::OLDEST_YOUNG - 1
        };
        self.facts.rdb_version > tried
    }
}

/// What a walk over all of an RDB has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// All keys, or all but those that are there as payloads.
    All,
    /// The keys that the backup counted, up to what it did not understand.
    AsBackup(String),
    /// Fewer than the backup counted, up to what this version does not understand.
    Less(String),
    /// Its end is missing.
    CutShort,
}

/// Finds the RDBs whose keys go into a live server.
pub async fn server_rdbs(reader: &ArchiveReader) -> Result<Vec<Rdb>> {
    chosen(reader, true).await
}

/// Finds the RDBs that go into files: as a server wrote them, where it did.
pub async fn file_rdbs(reader: &ArchiveReader) -> Result<Vec<Rdb>> {
    chosen(reader, false).await
}

async fn chosen(reader: &ArchiveReader, by_key: bool) -> Result<Vec<Rdb>> {
    let all = rdbs(reader).await?;
    let has = |directory: &str| {
        let mut others = all.iter();
        others.any(|other| other.is_by_key() == by_key && other.directory() == directory)
    };
    let fits = |rdb: &&Rdb| rdb.is_by_key() == by_key || !has(rdb.directory());
    Ok(all.iter().filter(fits).cloned().collect())
}

/// Finds the RDBs of an archive, in the order of their names; there is one at least.
pub async fn rdbs(reader: &ArchiveReader) -> Result<Vec<Rdb>> {
    let is_rdb = |record: &StreamRecord| record.stream.rsplit('/').next() == Some(STREAM);
    let mut found = Vec::new();
    for record in reader.streams().await?.into_iter().filter(is_rdb) {
        let facts = serde_json::from_value(record.facts)
            .map_err(|e| Error::corrupt(format!("read the facts of \"{}\"", record.stream)).with_cause(e))?;
        found.push(Rdb {
            stream: record.stream,
            facts,
            bytes: record.bytes,
        });
    }
    if found.is_empty() {
        return Err(Error::corrupt(format!("the archive holds no \"{STREAM}\"")));
    }
    found.sort_by(|a, b| a.stream.cmp(&b.stream));
    Ok(found)
}

/// Opens the bytes of an RDB, in order.
pub(super) async fn open(reader: &ArchiveReader, rdb: &Rdb) -> Result<ChunkStream> {
    Ok(reader.chunks(chunks(reader, rdb).await?))
}

/// Finds the chunks of an RDB; they must be all that the backup wrote.
async fn chunks(reader: &ArchiveReader, rdb: &Rdb) -> Result<Vec<ChunkRef>> {
    chunks_of(reader, &rdb.stream, rdb.bytes).await
}

async fn chunks_of(reader: &ArchiveReader, stream: &str, stored_bytes: u64) -> Result<Vec<ChunkRef>> {
    let mut chunks: Vec<ChunkRef> = Vec::new();
    reader
        .for_each_chunk(&mut |prefix, chunk| {
            if prefix == stream {
                chunks.push(chunk);
            }
            Ok(())
        })
        .await?;
    chunks.sort_by_key(|chunk| chunk.number);
    let in_order = chunks.iter().zip(0..).all(|(chunk, number)| chunk.number == number);
    let bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    if chunks.is_empty() || !in_order || bytes != stored_bytes {
        return Err(Error::corrupt(format!("chunks of \"{stream}\" are missing")));
    }
    Ok(chunks)
}

/// Proves, before anything is written, that all of the stored RDB is what the backup wrote. The backup walked these bytes
/// to the end (every key, the CRC64) before it declared them complete, and its index holds their digests; so their
/// digests are proof enough, and nothing is decompressed. An RDB whose large values are not listed is walked; so is one that a
/// later version may have understood better, if it is asked for (`to_the_end`).
pub(super) async fn prove(
    reader: &ArchiveReader,
    rdb: &Rdb,
    to_the_end: bool,
    cancel: &CancellationToken,
) -> Result<Verified> {
    verify_payloads(reader, rdb, cancel).await?;
    let census = &rdb.facts.census;
    let (None, Some(large)) = (&rdb.facts.unknown, &census.large) else {
        return verify_one(reader, rdb, cancel).await;
    };
    // Versions that did not look for data of modules; keys of theirs may not be whole without it.
    if census.module_data.is_none() && census.by_type().contains_key("module") {
        return verify_one(reader, rdb, cancel).await;
    }
    if to_the_end && rdb.may_be_newer() {
        return verify_one(reader, rdb, cancel).await;
    }
    let large = large.iter().copied().collect();
    let all = chunks(reader, rdb).await?;
    reader.check_chunks(all, &mut |_| stop_if(cancel)).await?;
    Ok(Verified {
        census: rdb.facts.census.clone(),
        large,
        ends_at: None,
    })
}

/// Counts, and notes which values are large.
#[derive(Default)]
struct First {
    counter: Counter,
    ordinal: u64,
    bytes: u64,
    large: VecDeque<(u64, u64)>,
}

impl Sink for First {
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()> {
        self.bytes = 0;
        self.counter.key(header, value)
    }
    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes = self.bytes.saturating_add(exact::u64_from(bytes.len()));
        self.counter.value(bytes)
    }
    fn value_end(&mut self) -> Result<()> {
        if self.bytes > LARGE_BYTES {
            self.large.push_back((self.ordinal, self.bytes));
        }
        self.ordinal += 1;
        self.counter.value_end()
    }
    fn function(&mut self, code: &[u8]) -> Result<()> {
        self.counter.function(code)
    }
    fn module_data(&mut self, type_id: u64) -> Result<()> {
        self.counter.module_data(type_id)
    }
}

/// Walks all RDBs of an archive: every key is found, each CRC64 is right, and nothing follows. Returns what they hold.
pub async fn verify(reader: &ArchiveReader, cancel: &CancellationToken) -> Result<Census> {
    let mut census = Census::of_none();
    for rdb in rdbs(reader).await? {
        let act = || format!("verify \"{}\"", rdb.stream);
        let verified = verify_one(reader, &rdb, cancel).await.with_context(act)?;
        if let Some(what) = &verified.ends_at {
            return Err(ends_early(what)).with_context(act);
        }
        verify_payloads(reader, &rdb, cancel).await.with_context(act)?;
        census.merge(&verified.census);
    }
    Ok(census)
}

/// What this version does not understand although the one that wrote the backup did.
pub(super) fn ends_early(what: &str) -> Error {
    Error::unsupported(format!(
        "it holds {what}: this version finds fewer keys than the backup counted"
    ))
    .with_hint("Use the version of wirevault that wrote the backup, or a later one.")
}

/// Walks the payloads beside an RDB, if there are some: each CRC64 is right, and they are those that the backup counted.
async fn verify_payloads(reader: &ArchiveReader, rdb: &Rdb, cancel: &CancellationToken) -> Result<()> {
    if rdb.facts.payloads == 0 {
        return Ok(());
    }
    let found = walk_payloads(reader, rdb, cancel).await?;
    if rdb.facts.payload_facts.as_ref().is_some_and(|noted| *noted != found) {
        let stream = crate::engines::redis::backup::scan::payloads_stream(&rdb.stream);
        return Err(Error::corrupt(format!(
            "the keys of \"{stream}\" are not those that the backup counted"
        )));
    }
    Ok(())
}

async fn walk_payloads(reader: &ArchiveReader, rdb: &Rdb, cancel: &CancellationToken) -> Result<PayloadFacts> {
    let pieces = open_payloads(reader, rdb).await?;
    let found = crate::engines::redis::backup::payloads::verify(pieces, rdb.facts.payloads, cancel).await;
    found.with_context(|| {
        format!(
            "verify \"{}\"",
            crate::engines::redis::backup::scan::payloads_stream(&rdb.stream)
        )
    })
}

/// Returns what is known of the payloads beside an RDB. They are read where the backup is of a version that did not count them.
pub(super) async fn payload_facts(
    reader: &ArchiveReader,
    rdb: &Rdb,
    cancel: &CancellationToken,
) -> Result<PayloadFacts> {
    match &rdb.facts.payload_facts {
        _ if rdb.facts.payloads == 0 => Ok(PayloadFacts::default()),
        Some(noted) => Ok(noted.clone()),
        None => walk_payloads(reader, rdb, cancel).await,
    }
}

/// Returns the database that the command stream behind an RDB begins in. The RDB must be that of one server, at this place in its
/// history.
pub(crate) async fn stream_database(reader: &ArchiveReader, position: &Position) -> Result<u32> {
    let rdb = only_rdb(reader).await?;
    let facts = &rdb.facts;
    if facts.replid != position.id.as_str() || facts.offset != position.offset || facts.database.is_some() {
        return Err(Error::unsupported(format!(
            "the RDB is not all of a server at {position}"
        )));
    }
    // A primary chooses the database anew behind the moment of an RDB, a replica goes on in that of its primary.
    let said = facts.census.aux.get("repl-stream-db");
    let number = said.map(|text| text.parse());
    number
        .transpose()
        .map_err(|_| Error::corrupt("the RDB names a database that is no number"))
        .map(Option::unwrap_or_default)
}

/// Opens the payloads beside an RDB, in order.
pub(super) async fn open_payloads(reader: &ArchiveReader, rdb: &Rdb) -> Result<ChunkStream> {
    let stream = crate::engines::redis::backup::scan::payloads_stream(&rdb.stream);
    let records = reader.streams().await?;
    let record = records.into_iter().find(|record| record.stream == stream);
    let bytes = record.map(|record| record.bytes).unwrap_or_default();
    Ok(reader.chunks(chunks_of(reader, &stream, bytes).await?))
}

async fn verify_one(reader: &ArchiveReader, rdb: &Rdb, cancel: &CancellationToken) -> Result<Verified> {
    let (mut walker, mut first) = (Walker::trusting(rdb.facts.understood()), First::default());
    let mut chunks = open(reader, rdb).await?;
    while let Some((_, data)) = chunks.next().await? {
        stop_if(cancel)?;
        let used = walker.feed(&data, &mut first).context("walk the stored RDB")?;
        match walker.state() {
            State::Opaque => walker.feed_opaque(&data),
            _ if used < data.len() => return Err(Error::corrupt("bytes follow the end of the stored RDB")),
            _ => {}
        }
    }
    walker.end(&mut first).context("walk the stored RDB")?;
    let ends_at = match rdb.found(&walker) {
        Found::All | Found::AsBackup(_) => None,
        Found::Less(what) => Some(what),
        Found::CutShort => return Err(Error::corrupt("the stored RDB ends before its last key")),
    };
    let mut census = first.counter.finish();
    if let (Some(found), Some(noted)) = (&mut census.module_data, &rdb.facts.census.module_data) {
        // What the backup met and left out, because it is of one database, no walk finds.
        found.extend(noted.iter().cloned());
    }
    Ok(Verified {
        ends_at,
        census,
        large: first.large,
    })
}

/// Ends the work if a signal asked for it.
pub(super) fn stop_if(cancel: &CancellationToken) -> Result<()> {
    if cancel.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
    }
    Ok(())
}

/// What came of a restore into files.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Written {
    /// Their bytes.
    #[serde(skip)]
    pub bytes: u64,
    /// Keys that are in none of them.
    pub failed_keys: u64,
    /// The first of these.
    pub failed: Vec<FailedKey>,
}

impl Written {
    /// Adds keys that are stored as payloads and are not in the RDB too.
    fn lack(&mut self, facts: PayloadFacts) {
        self.failed_keys = self.failed_keys.saturating_add(facts.beside);
        self.failed.extend(facts.beside_named.into_iter().map(|name| {
            FailedKey {
                kind: "key".to_owned(),
                name,
                error: "it is not in the file: its form is unknown, so it is stored as DUMP returned it, outside the \
                 RDB"
                .to_owned(),
                advice: "Restore it into a live server of the version of the backup or later: --into redis://HOST."
                    .to_owned(),
            }
        }));
    }
}

/// Writes the RDB into a file, or those of a cluster into files below a directory of this name. Each is written beside
/// first, then gets its name by a rename when it is whole and its CRC64 was right.
pub async fn write_files(
    reader: &ArchiveReader,
    path: &Path,
    replace: bool,
    told: (&str, &SharedReporter),
    cancel: &CancellationToken,
) -> Result<Written> {
    let rdbs = file_rdbs(reader).await?;
    let mut written = Written::default();
    for rdb in &rdbs {
        written.lack(payload_facts(reader, rdb, cancel).await?);
    }
    if let [rdb] = rdbs.as_slice() {
        written.bytes = write_file(reader, rdb, path, replace, told, cancel).await?;
        return Ok(written);
    }
    for (number, rdb) in rdbs.iter().enumerate() {
        // Names of a backup are not trusted with a place of their own.
        let path = path.join(shard_name(number)).join(STREAM);
        let parent = path.parent().unwrap_or(&path);
        let made = tokio::fs::create_dir_all(parent).await;
        made.with_context(|| format!("make \"{}\"", parent.display()))?;
        let bytes = write_file(reader, rdb, &path, replace, told, cancel).await?;
        written.bytes = written.bytes.saturating_add(bytes);
    }
    Ok(written)
}

/// Names a shard of a cluster.
pub(super) fn shard_name(number: usize) -> String {
    format!("shard-{number:04}")
}

async fn write_file(
    reader: &ArchiveReader,
    rdb: &Rdb,
    path: &Path,
    replace: bool,
    (task, reporter): (&str, &SharedReporter),
    cancel: &CancellationToken,
) -> Result<u64> {
    let act = || format!("write \"{}\"", path.display());
    if !replace && path.symlink_metadata().is_ok() {
        return Err(
            Error::new(ErrorKind::AlreadyExists, format!("\"{}\" exists", path.display()))
                .with_hint("Add --clean to replace it, or choose another --into."),
        );
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".wirevault-{:08x}", rand::random::<u32>()));
    let beside = path.with_file_name(name);
    let result = write_beside(reader, rdb, &beside, (task, reporter), cancel).await;
    if result.is_err() {
        let _ = tokio::fs::remove_file(&beside).await;
    }
    let bytes = result.with_context(act)?;
    tokio::fs::rename(&beside, path).await.with_context(act)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let parent: PathBuf = parent.to_owned();
        let directory = tokio::fs::File::open(parent).await.with_context(act)?;
        directory.sync_all().await.with_context(act)?;
    }
    Ok(bytes)
}

/// Returns the RDB of an archive that is one server's, as the server wrote it.
pub(crate) async fn only_rdb(reader: &ArchiveReader) -> Result<Rdb> {
    let mut rdbs = file_rdbs(reader).await?.into_iter();
    match (rdbs.next(), rdbs.next()) {
        (Some(rdb), None) => Ok(rdb),
        _ => Err(Error::unsupported("a snapshot of a cluster has no one place in a log")),
    }
}

/// Proves that all of the stored RDB is what the backup wrote.
pub(crate) async fn prove_rdb(reader: &ArchiveReader, rdb: &Rdb, cancel: &CancellationToken) -> Result<()> {
    let act = || format!("verify \"{}\"", rdb.stream);
    prove(reader, rdb, false, cancel).await.with_context(act).map(drop)
}

/// Hands all of an RDB on, in order, without what is stored beside it. Returns what came of it.
pub(crate) async fn hand_on(
    reader: &ArchiveReader,
    rdb: &Rdb,
    told: (&str, &SharedReporter),
    cancel: &CancellationToken,
    put: impl AsyncFnMut(DataSlice) -> Result<()>,
) -> Result<Written> {
    let mut written = Written::default();
    written.lack(payload_facts(reader, rdb, cancel).await?);
    written.bytes = walk_out(reader, rdb, told, cancel, put).await?;
    Ok(written)
}

/// Hands all of an RDB on, in order, and walks it in passing: it ends as it should, and its CRC64 is right. Returns its bytes.
async fn walk_out(
    reader: &ArchiveReader,
    rdb: &Rdb,
    (task, reporter): (&str, &SharedReporter),
    cancel: &CancellationToken,
    mut put: impl AsyncFnMut(DataSlice) -> Result<()>,
) -> Result<u64> {
    let mut walker = Walker::trusting(rdb.facts.understood());
    let (mut counter, mut bytes) = (Counter::default(), 0_u64);
    let mut chunks = open(reader, rdb).await?;
    while let Some((_, data)) = chunks.next().await? {
        stop_if(cancel)?;
        walker.feed(&data, &mut counter)?;
        if walker.state() == State::Opaque {
            walker.feed_opaque(&data);
        }
        let count = exact::u64_from(data.len());
        put(data).await?;
        bytes = bytes.saturating_add(count);
        reporter.advance(task, count, 0);
    }
    walker.end(&mut counter)?;
    Ok(bytes)
}

async fn write_beside(
    reader: &ArchiveReader,
    rdb: &Rdb,
    beside: &Path,
    (task, reporter): (&str, &SharedReporter),
    cancel: &CancellationToken,
) -> Result<u64> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(beside).await?;
    let put = async |data: DataSlice| Ok(file.write_all(&data).await?);
    let bytes = walk_out(reader, rdb, (task, reporter), cancel, put).await?;
    file.flush().await?;
    file.sync_all().await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Walks a string and then something unknown.
    fn walked(facts: &RdbFacts) -> Walker {
        let mut walker = Walker::trusting(facts.understood());
        let rdb = b"REDIS0017\0\x01a\x01b\x63\x01c\x01d\xff";
        walker.feed(rdb, &mut Counter::default()).unwrap();
        assert_eq!(walker.state(), State::Opaque);
        walker
    }

    #[test]
    fn what_a_later_version_understood_is_not_taken_for_payloads() {
        let mut facts: RdbFacts = serde_json::from_value(serde_json::json!({
            "product": "redis", "server_version": "9.0.0", "rdb_version": 17, "valkey_magic": false, "replid": "",
            "offset": 0, "census": Census::of_none()
        }))
        .unwrap();
        let counts = serde_json::json!({ "types": { "string": { "keys": 1, "bytes": 2 } }, "expiring": 0 });
        let database = serde_json::from_value(counts).unwrap();
        facts.census.databases.insert(0, database);
        let rdb = |facts: &RdbFacts| Rdb {
            stream: STREAM.to_owned(),
            facts: facts.clone(),
            bytes: 0,
        };
        let found = |facts: &RdbFacts| rdb(facts).found(&walked(facts));
        let less = |what: &str| Found::Less(what.to_owned());
        // All of it was understood when it was written.
        assert!(rdb(&facts).is_whole() && rdb(&facts).may_be_newer());
        assert_eq!(found(&facts), less("type or opcode 99 in an RDB of version 17"));
        facts.unknown = Some("type 99".to_owned());
        assert!(!rdb(&facts).is_whole());
        assert_eq!(found(&facts), Found::AsBackup("type 99".to_owned()));
        facts.payloads = 1;
        assert_eq!(found(&facts), Found::All);
        // More of it was understood than is now.
        facts.census.databases.insert(1, facts.census.databases[&0].clone());
        assert_eq!(found(&facts), less("type or opcode 99 in an RDB of version 17"));
        let mut walker = Walker::new();
        walker.feed(b"REDIS0011\0\x01a", &mut Counter::default()).unwrap();
        assert_eq!(rdb(&facts).found(&walker), Found::CutShort);
        facts.rdb_version = 12;
        assert!(!rdb(&facts).may_be_newer());
    }
}
