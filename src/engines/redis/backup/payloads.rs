//! Keys as DUMP gives them, for values whose form this version does not know or does not look at.
//!
//! An RDB can be walked only as far as its types are known, but a payload of DUMP has a length of its own on the wire. So
//! such keys are stored as payloads beside the RDB, and go back by RESTORE as they are, into a server that knows them.
//!
//! The stream is one record after another: database (4 bytes), expiry in milliseconds since the epoch or -1 (8), length
//! of the key (4), the key, length of the payload (8), the payload. Numbers are little-endian. Memory: one piece of a
//! payload, one key.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

use tokio_util::sync::CancellationToken;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::PayloadFacts;
use crate::engines::redis::stored::stop_if;
use crate::engines::redis::wire::key_name::name;
use crate::engines::redis::wire::rdb::Crc64;
use crate::engines::redis::wire::rdb::pull::{Input, Pieces};

/// Name of the stream, beside that of the RDB.
pub(crate) const PAYLOADS: &str = "payloads";

/// Bytes of a key at most, as elsewhere: one that is longer goes into a file only.
const MAX_KEY_BYTES: usize = 32 << 20;

/// Bytes behind the value of a payload: version and CRC64.
const FOOTER_BYTES: u64 = 10;

/// The lowest number that stands for something else than a type.
const FIRST_OPCODE: u8 = 242;

/// Returns whether a payload that begins so is not in the RDB too: where its type begins is not known, or it would be an
/// opcode there.
pub(crate) fn is_beside(first: u8) -> bool {
    first >= FIRST_OPCODE
}

/// Databases that are counted one by one, as those of an RDB; keys that are named.
const MAX_DATABASES: usize = 4096;
const NAMED: usize = 16;

impl PayloadFacts {
    /// Counts a record by its first byte.
    pub(crate) fn count(&mut self, (database, key): (u32, &[u8]), first: u8) {
        count(&mut self.databases, database, 1);
        if is_beside(first) {
            self.beside = self.beside.saturating_add(1);
            if self.beside_named.len() < NAMED {
                self.beside_named.push(name(database, key));
            }
        }
    }
}

/// Adds keys to those of a database.
pub(crate) fn count(databases: &mut BTreeMap<u32, u64>, database: u32, keys: u64) {
    if databases.len() < MAX_DATABASES || databases.contains_key(&database) {
        let sum = databases.entry(database).or_default();
        *sum = sum.saturating_add(keys);
    }
}

/// Records that wait in a file until the RDB beside them is written.
#[derive(Debug)]
pub(crate) struct Waiting {
    file: std::fs::File,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Bytes that it may have.
    limit: u64,
    /// Of the first: what is unknown.
    pub(crate) what: Option<String>,
    /// Those whose types are known, but whose values are too long to have their form looked at.
    pub(crate) long: u64,
    pub(crate) facts: PayloadFacts,
}

impl Waiting {
    /// Takes a file without a name.
    pub(crate) fn new(file: std::fs::File, limit: u64) -> Self {
        Self {
            file,
            records: 0,
            bytes: 0,
            limit,
            what: None,
            long: 0,
            facts: PayloadFacts::default(),
        }
    }

    /// Begins a record; so many bytes of its payload follow by [`Waiting::put`].
    pub(crate) fn begin(&mut self, (database, key): (u32, &[u8]), expires_ms: Option<i64>, payload: u64) -> Result<()> {
        self.records += 1;
        let mut head = database.to_le_bytes().to_vec();
        head.extend_from_slice(&expires_ms.unwrap_or(-1).to_le_bytes());
        let length = u32::try_from(key.len()).ok().filter(|_| key.len() <= MAX_KEY_BYTES);
        let length = length.ok_or_else(|| {
            Error::unsupported("its name is longer than 32 MiB, and its value can only be stored as DUMP gives it")
                .with_hint("?method=psync stores the RDB as it is, for a file.")
        })?;
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(key);
        head.extend_from_slice(&payload.to_le_bytes());
        self.put(&head)
    }

    /// Appends bytes of a payload.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes = self.bytes.saturating_add(exact::u64_from(bytes.len()));
        if self.bytes > self.limit {
            let mib = self.limit >> 20;
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "keys that are stored as DUMP gives them wait in the spool directory, and {mib} MiB of spool file are full"
                ),
            )
            .with_hint("Raise spool_limit, or check for a newer version of wirevault."));
        }
        tokio::task::block_in_place(|| self.file.write_all(bytes)).context("write to the spool file")
    }

    /// Goes back to the first record.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(0))
            .map(drop)
            .context("read from the spool file")
    }
}

impl Pieces for &mut Waiting {
    type Piece = Vec<u8>;
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut piece = vec![0; 256 << 10];
        let count = tokio::task::block_in_place(|| self.file.read(&mut piece)).context("read from the spool file")?;
        piece.truncate(count);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) database: u32,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) key: Vec<u8>,
    pub(crate) payload_bytes: u64,
}

/// Reads what stands before the next payload.
pub(crate) async fn head<P: Pieces>(input: &mut Input<P>) -> Result<Head> {
    let database = u32::from_le_bytes(input.chunk().await?);
    let expires_ms = i64::from_le_bytes(input.chunk().await?);
    let length = exact::usize_from(u32::from_le_bytes(input.chunk().await?).into());
    if length > MAX_KEY_BYTES {
        return Err(Error::corrupt("the length of a key is forged"));
    }
    input.want(length).await?;
    let key = exact::range(input.here(), ..length, "the keys' list at hand")?.to_vec();
    input.skip(length);
    let payload_bytes = input.number().await?;
    if payload_bytes <= FOOTER_BYTES {
        return Err(Error::corrupt("the length of a payload is forged"));
    }
    Ok(Head {
        database,
        expires_ms: Some(expires_ms).filter(|at| *at >= 0),
        key,
        payload_bytes,
    })
}

/// Waits for the next bytes, at most so many of them. They must be skipped.
pub(crate) async fn piece<P: Pieces>(input: &mut Input<P>, most: u64) -> Result<&[u8]> {
    input.want(1).await?;
    Ok(exact::first(input.here(), exact::usize_from(most)))
}

/// Reads the next record without its payload.
pub(crate) async fn named<P: Pieces>(input: &mut Input<P>) -> Result<(u32, Vec<u8>)> {
    let head = head(input).await?;
    input.pass(head.payload_bytes).await?;
    Ok((head.database, head.key))
}

/// Reads all records and compares their CRC64. Returns what they are.
pub(crate) async fn verify<P: Pieces>(pieces: P, records: u64, cancel: &CancellationToken) -> Result<PayloadFacts> {
    let (mut input, mut facts) = (Input::new(pieces), PayloadFacts::default());
    for _ in 0..records {
        stop_if(cancel)?;
        let head = head(&mut input).await?;
        input.want(1).await?;
        let first = input.here().first().copied().unwrap_or_default();
        facts.count((head.database, &head.key), first);
        let mut crc = Crc64::new();
        let mut left = head.payload_bytes - 8;
        while left > 0 {
            let piece = piece(&mut input, left).await?;
            crc.update(piece);
            let used = piece.len();
            left -= exact::u64_from(used);
            input.skip(used);
        }
        let stored = input.number().await?;
        // A server may leave it out.
        if stored != 0 && stored != crc.value() {
            let key = name(head.database, &head.key);
            return Err(Error::corrupt(format!(
                "the CRC64 of the payload of key {key} is wrong"
            )));
        }
    }
    Ok(facts)
}
