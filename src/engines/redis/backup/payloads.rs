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
use crate::engines::redis::restore::load::{Conflict, Tally, name};
use crate::engines::redis::restore::route::Nodes;
use crate::engines::redis::session::pipeline::advice;
use crate::engines::redis::stored::stop_if;
use crate::engines::redis::wire::glob;
use crate::engines::redis::wire::rdb::Crc64;
use crate::engines::redis::wire::rdb::pull::{Input, Pieces};
use crate::engines::redis::wire::resp;
use crate::engines::redis::wire::resp::Reply;

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
            .with_hint("Raise spool_limit, or look for a later version of wirevault."));
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

/// What is restored, and how.
#[derive(Debug)]
pub(crate) struct PayloadOptions<'a> {
    pub(crate) records: u64,
    /// Keys that match none of these are left out, if there are any.
    pub(crate) patterns: Vec<Vec<u8>>,
    pub(crate) conflict: Option<Conflict>,
    /// The database that all keys go into, if not each into the one of its number.
    pub(crate) into: Option<u32>,
    /// `proto-max-bulk-len` of the target, in bytes.
    pub(crate) max_bulk_bytes: u64,
    pub(crate) now_ms: i64,
    pub(crate) cancel: &'a CancellationToken,
}

/// Sends the payloads one after another.
pub(crate) async fn restore<P: Pieces>(
    nodes: &mut Nodes,
    pieces: P,
    how: PayloadOptions<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut input = Input::new(pieces);
    for number in 0..how.records {
        stop_if(how.cancel)?;
        let mut head = head(&mut input).await?;
        head.database = how.into.unwrap_or(head.database);
        let shown = name(head.database, &head.key);
        let matches = |pattern: &Vec<u8>| glob::matches(pattern, &head.key);
        if !how.patterns.is_empty() && !how.patterns.iter().any(matches) {
            tally.not_selected += 1;
            input.pass(head.payload_bytes).await?;
            continue;
        }
        if head.expires_ms.is_some_and(|at| at <= how.now_ms) {
            tally.expired += 1;
            input.pass(head.payload_bytes).await?;
            continue;
        }
        if head.payload_bytes > how.max_bulk_bytes {
            input.pass(head.payload_bytes).await?;
            let bytes = head.payload_bytes;
            let error = format!("its payload of {bytes} bytes is longer than proto-max-bulk-len of the target");
            tally.fail("key", shown, error, "Raise it there: CONFIG SET proto-max-bulk-len.");
            continue;
        }
        match send(nodes, &mut input, &head, how.conflict).await? {
            Reply::Error(text) if text.starts_with("BUSYKEY") && how.conflict == Some(Conflict::Skip) => {
                tally.skipped += 1;
            }
            Reply::Error(text) => {
                if text.starts_with("BUSYKEY") {
                    tally.taken(number);
                }
                let advice = advice(&text);
                tally.fail("key", shown, text, advice);
            }
            _ => {
                if let Some(at) = head.expires_ms {
                    tally.expires(at, how.now_ms);
                }
                tally.restored += 1;
            }
        }
    }
    Ok(())
}

/// Sends one payload as it is read; returns what the server says.
async fn send<P: Pieces>(
    nodes: &mut Nodes,
    input: &mut Input<P>,
    head: &Head,
    conflict: Option<Conflict>,
) -> Result<Reply> {
    let connection = nodes.for_key(head.database, &head.key).await?;
    let replaces = conflict == Some(Conflict::Replace);
    let at = head.expires_ms.unwrap_or(0).to_string();
    let arguments = 4 + usize::from(head.expires_ms.is_some()) + usize::from(replaces);
    let mut out = Vec::new();
    resp::header(b'*', arguments, &mut out);
    for argument in [&b"RESTORE"[..], &head.key, at.as_bytes()] {
        resp::header(b'$', argument.len(), &mut out);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    resp::header(b'$', exact::usize_from(head.payload_bytes), &mut out);
    connection.send_encoded(&out).await?;
    let mut left = head.payload_bytes;
    while left > 0 {
        let piece = piece(input, left).await?;
        connection.send_encoded(piece).await?;
        let used = piece.len();
        left -= exact::u64_from(used);
        input.skip(used);
    }
    out.clear();
    out.extend_from_slice(b"\r\n");
    if head.expires_ms.is_some() {
        out.extend_from_slice(b"$6\r\nABSTTL\r\n");
    }
    if replaces {
        out.extend_from_slice(b"$7\r\nREPLACE\r\n");
    }
    connection.send_encoded(&out).await?;
    connection.reply().await
}
