//! `log push`: stores one file of the log, and succeeds only when it is durable. The server keeps it until then, and asks again.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use crate::archive::log::{About, Kept, LogOptions, LogWriter};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::wal::{
    FileName, HEADER_BYTES, Lsn, MAX_HISTORY_BYTES, SegmentName, SegmentReader, TimelineHistory, about_file,
    about_segment,
};
use crate::operations::log::parts::parts_of;
use crate::operations::log::{data_directory, key_of, system_at};
use crate::operations::snapshots::open_to_change;
use crate::operations::{Report, Session, document_of, options};
use crate::storage::ObjectKey;

/// What `log push` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct PushReport {
    /// Name of the file.
    pub file: String,
    /// The object that holds it.
    pub key: ObjectKey,
    /// Whether it was stored now; otherwise the same bytes were there already.
    pub stored: bool,
    /// Bytes of the object, where it was stored now.
    pub stored_bytes: Option<u64>,
    /// Bytes of the file.
    pub raw_bytes: u64,
    /// Of a segment: where it begins.
    pub from: Option<Lsn>,
    /// Of a segment: where what is valid in it ends.
    pub to: Option<Lsn>,
    /// Of a segment: the earliest end of a transaction in it.
    pub first_time: Option<Timestamp>,
    /// Of a segment: the latest.
    pub last_time: Option<Timestamp>,
}

impl Report for PushReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    /// A command that the server runs every few seconds says nothing when all went as it should.
    fn text(&self) -> String {
        String::new()
    }
}

/// A file to be stored.
struct Given {
    name: FileName,
    file: File,
    bytes: u64,
}

/// Looks at the file first, so that one that is no part of a log is refused whatever becomes of the store.
pub async fn run(session: &Session, options: &options::LogPush) -> Result<PushReport> {
    let act = || format!("push \"{}\"", options.path.display());
    let given = open(&options.path).map_err(refused).with_context(act)?;
    let pushed = match given.name.clone() {
        // A partial one was written up to where its timeline ended; what stands behind that is of no account.
        FileName::Segment(segment) | FileName::Partial(segment) => push_segment(session, options, given, segment).await,
        FileName::BackupLabel(..) | FileName::History(_) => push_file(session, options, given).await,
    };
    pushed.with_context(act)
}

fn open(path: &Path) -> Result<Given> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::invalid("the path has no name of a file of a log"))?;
    let name = name.parse()?;
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Error::invalid("it is not a regular file"));
    }
    Ok(Given {
        name,
        file,
        bytes: meta.len(),
    })
}

async fn push_segment(
    session: &Session,
    options: &options::LogPush,
    mut given: Given,
    segment: SegmentName,
) -> Result<PushReport> {
    let mut beginning = Vec::new();
    let header = exact::u64_from(HEADER_BYTES);
    (&given.file).take(header).read_to_end(&mut beginning)?;
    let mut reader = SegmentReader::begin(&segment, given.bytes, &beginning).map_err(refused)?;
    let header = *reader.header();
    is_of(options, header.system)?;
    std::io::Seek::rewind(&mut given.file)?;
    let mut writer = begin(session, options, &given.name, header.system).await?;
    let read = copy(session, &given, &mut writer, &mut |bytes| reader.feed(bytes)).await;
    let scanned = match read.and_then(|()| reader.finish()) {
        Ok(scanned) => scanned,
        Err(error) => {
            writer.abandon().await;
            return Err(error);
        }
    };
    if matches!(given.name, FileName::Segment(_)) && !SegmentReader::is_full(&header, &scanned) {
        // A standby that archives what it was given: the beginning of a segment that is still being received.
        let repository = open_to_change(session).await?;
        if !parts_of(&repository, header.system, &segment).await?.is_empty() {
            writer.abandon().await;
            let message = format!("{segment} is not full, and a receiver stores it");
            return Err(Error::new(ErrorKind::PreconditionFailed, message).with_hint(
                "It was made of the parts that are stored. The server asks again, when the whole is there.",
            ));
        }
        // It is what the server has: kept, told, and shown as a gap.
        tracing::warn!("{segment} is not valid behind {}: a recovery ends there", scanned.end);
    }
    let about = about_segment(&given.name, &header, &scanned);
    finish(given, header.system, writer, about).await
}

/// A history file or a backup label: text of a few lines, which does not say whose it is.
async fn push_file(session: &Session, options: &options::LogPush, mut given: Given) -> Result<PushReport> {
    let mut text = Vec::new();
    (&given.file).take(MAX_HISTORY_BYTES + 1).read_to_end(&mut text)?;
    match &given.name {
        _ if exact::u64_from(text.len()) > MAX_HISTORY_BYTES => {
            return Err(refused(Error::corrupt(
                "it is larger than 1 MiB, which no such file is",
            )));
        }
        FileName::History(timeline) => {
            TimelineHistory::parse(*timeline, &text).map_err(refused)?;
        }
        _ if !text.starts_with(b"START WAL LOCATION: ") => {
            return Err(refused(Error::corrupt("it is no backup label")));
        }
        _ => {}
    }
    let system = match (options.system_id, data_directory(&options.path)) {
        (Some(system), _) => system,
        (None, Some(directory)) => system_at(&directory)?.ok_or_else(unknown_system)?,
        (None, None) => return Err(unknown_system()),
    };
    std::io::Seek::rewind(&mut given.file)?;
    let mut writer = begin(session, options, &given.name, system).await?;
    if let Err(error) = copy(session, &given, &mut writer, &mut |_| {}).await {
        writer.abandon().await;
        return Err(error);
    }
    let about = about_file(&given.name, system);
    finish(given, system, writer, about).await
}

/// Says what to do about a file that is not taken, where nobody knows more.
fn refused(error: Error) -> Error {
    match error.hint() {
        Some(_) => error,
        None => error.with_hint("Nothing was stored. Only what the server hands on with archive_command is taken: %p."),
    }
}

fn unknown_system() -> Error {
    Error::invalid(
        "the file does not say which server wrote it, and there is no global/pg_control beside its directory",
    )
    .with_hint("Give the path as the server does (pg_wal/…, in its data directory), or --system-id.")
}

fn is_of(options: &options::LogPush, system: u64) -> Result<()> {
    match options.system_id {
        Some(wanted) if wanted != system => Err(Error::invalid(format!(
            "it is of system {system}, and --system-id says {wanted}"
        ))),
        _ => Ok(()),
    }
}

async fn begin(session: &Session, options: &options::LogPush, name: &FileName, system: u64) -> Result<LogWriter> {
    let key = key_of(system, name)?;
    let repository = open_to_change(session).await?;
    let log = LogOptions {
        level: options.level,
        ..LogOptions::default()
    };
    let writer = LogWriter::create(repository.store().clone(), key, &session.pipeline, &log);
    session.or_cancelled(writer).await
}

/// Reads the file once: its bytes go to whoever looks at them and into frames.
async fn copy(
    session: &Session,
    given: &Given,
    writer: &mut LogWriter,
    look: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<()> {
    let chunk = exact::u64_from(session.memory().chunk_bytes);
    let mut left = given.bytes;
    while left > 0 {
        let mut buffer = session.or_cancelled(writer.buffer()).await?;
        let read = (&given.file).take(chunk.min(left)).read_to_end(&mut buffer.bytes)?;
        if read == 0 {
            return Err(Error::corrupt("it became shorter while it was read"));
        }
        left = left.saturating_sub(exact::u64_from(read));
        look(&buffer.bytes);
        writer.write(buffer)?;
    }
    Ok(())
}

async fn finish(given: Given, system: u64, writer: LogWriter, about: About) -> Result<PushReport> {
    let (span, times) = (about.span, about.times);
    // Not given up half-way for a signal: what is sent by now is made whole, or the answer is an error.
    let kept = match writer.finish(about).await {
        // Nothing recovers from what stands behind the end of its timeline, and the server would ask for ever.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && matches!(given.name, FileName::Partial(_)) => {
            tracing::warn!("{}; the first one stays", error.chain());
            Kept::WasThere
        }
        kept => kept?,
    };
    Ok(PushReport {
        file: given.name.to_string(),
        key: key_of(system, &given.name)?,
        stored: kept != Kept::WasThere,
        stored_bytes: match kept {
            Kept::Stored { stored_bytes } => Some(stored_bytes),
            Kept::WasThere => None,
        },
        raw_bytes: given.bytes,
        from: span.map(|span| Lsn(span.from)),
        to: span.map(|span| Lsn(span.to)),
        first_time: times.map(|times| times.first),
        last_time: times.map(|times| times.last),
    })
}
