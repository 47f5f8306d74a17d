//! The streams of a base backup into entries, each file summed and looked at as it passes.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::announced::{self, Announced};
use super::passing::{Passed, Passing, Sum};
use super::server::ServerFacts;
use super::spooled::Spooled;
use super::wal_files::WalFiles;
use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::Notes;
use crate::engines::postgres::physical::ManifestChecksums;
use crate::engines::postgres::physical::stored::facts::{BaseFacts, Tablespace};
use crate::engines::postgres::physical::stored::judge::{Needed, compare_facts, table_limit, wal_limit};
use crate::engines::postgres::physical::stored::{MANIFEST, TABLESPACES, is_named};
use crate::engines::postgres::physical::wire::digest::{Comparison, FileTable};
use crate::engines::postgres::physical::wire::framing::{Framing, Part, tablespace_of};
use crate::engines::postgres::physical::wire::manifest::{ManifestFacts, ManifestReader};
use crate::engines::postgres::physical::wire::tar::{Event, Kind, Member, TarReader};
use crate::engines::postgres::session::replication::Rows;
use crate::engines::postgres::wire::copy_out::RowPiece;

/// Bytes after which progress is told.
const PROGRESS_BYTES: u64 = 4 << 20;

/// What a base backup is taken with.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: String,
    pub(super) server: ServerFacts,
    pub(super) algorithm: ManifestChecksums,
    /// The memory limit of the process.
    pub(super) limit_bytes: u64,
    pub(super) spool_dir: PathBuf,
    pub(super) notes: Arc<Notes>,
    pub(super) reporter: SharedReporter,
    pub(super) cancel: CancellationToken,
    pub(super) runtime: Handle,
}

/// What came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) facts: BaseFacts,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// When the server said that the base is complete.
    pub(super) ended_at: Timestamp,
}

/// Takes the streams of one base backup.
pub(super) struct Receiver<'w> {
    work: Work,
    writer: &'w mut SequentialWriter,
    announced: Announced,
    /// Those of the server's list whose archive has not come.
    awaited: Vec<Tablespace>,
    framing: Framing,
    stream: Stream,
    /// Whether an entry is being written; a link has none.
    is_open: bool,
    file: Option<Passing>,
    table: FileTable,
    wal: WalFiles,
    needed: Needed,
    manifest: Option<ManifestFacts>,
    owner: (u32, u32),
    damaged_files: u64,
    files: u64,
    bytes: u64,
    untold: u64,
}

/// What the bytes that come belong to.
enum Stream {
    /// Nothing has begun.
    None,
    /// An archive, and where its members lie in the data directory, with a slash.
    Archive {
        tar: Box<TarReader>,
        /// `base.tar`, or the OID of a tablespace with `.tar`.
        name: String,
        prefix: Vec<u8>,
        is_base: bool,
    },
    /// The backup manifest.
    Manifest {
        reader: Box<ManifestReader>,
        spooled: Spooled,
    },
}

impl<'w> Receiver<'w> {
    /// Begins by what the server says in front.
    pub(super) fn new(work: Work, rows: &Rows, writer: &'w mut SequentialWriter) -> Result<Self> {
        let announced = Announced::read(rows)?;
        work.reporter.begin(&work.task, Some(announced.bytes));
        if work.server.is_standby {
            let message = "taken from a standby: contains what it had replayed";
            work.notes.add(Note::new("standby", "server", message));
        }
        Ok(Self {
            table: FileTable::new(work.algorithm, table_limit(work.limit_bytes)),
            wal: WalFiles::new(wal_limit(work.limit_bytes)),
            needed: Needed::new(),
            work,
            writer,
            awaited: announced.tablespaces.clone(),
            announced,
            framing: Framing::default(),
            stream: Stream::None,
            is_open: false,
            file: None,
            manifest: None,
            owner: (0, 0),
            damaged_files: 0,
            files: 0,
            bytes: 0,
            untold: 0,
        })
    }

    /// Takes the next piece of the copy.
    pub(super) fn take(&mut self, piece: &RowPiece<'_>) -> Result<()> {
        match self.framing.take(piece)? {
            None => Ok(()),
            Some(Part::Data(bytes)) => self.data(bytes),
            Some(Part::Archive { name }) => {
                self.end_stream()?;
                let prefix = match tablespace_of(&name)? {
                    None => Vec::new(),
                    Some(oid) => {
                        let at = self.awaited.iter().position(|one| one.oid == oid);
                        let at = at.ok_or_else(|| {
                            Error::corrupt(format!("the server sends a tablespace {oid} that it did not list"))
                        })?;
                        self.awaited.remove(at).prefix().into_bytes()
                    }
                };
                let is_base = prefix.is_empty();
                self.stream = Stream::Archive {
                    tar: Box::new(TarReader::new()),
                    name,
                    prefix,
                    is_base,
                };
                Ok(())
            }
            Some(Part::Manifest) => {
                self.end_stream()?;
                self.stream = Stream::Manifest {
                    reader: Box::new(ManifestReader::new()),
                    spooled: Spooled::new(self.work.spool_dir.clone()),
                };
                Ok(())
            }
        }
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::None => Err(Error::corrupt("the server sends data before it says of what")),
            Stream::Manifest { reader, spooled } => {
                spooled.push(bytes)?;
                let table = &mut self.table;
                let algorithm = self.work.algorithm;
                reader.push(bytes, &mut |file| {
                    if file.algorithm != algorithm {
                        return Err(Error::corrupt(
                            "the backup manifest has other checksums than were asked for",
                        ));
                    }
                    let found = table.compare(&file.path, file.size, &file.checksum);
                    compare_with_sent(found, &file.path, file.size)
                })
            }
            Stream::Archive { .. } => {
                while let Some(event) = self.step(&mut bytes)? {
                    match event {
                        Event::Begin(member) => self.begin(&member)?,
                        Event::Data(data) => self.file_data(data)?,
                        Event::End => self.end()?,
                    }
                }
                Ok(())
            }
        }
    }

    fn step<'i>(&mut self, bytes: &mut &'i [u8]) -> Result<Option<Event<'i>>> {
        let Stream::Archive { tar, .. } = &mut self.stream else {
            return Ok(None);
        };
        let (used, event) = tar.step(bytes)?;
        *bytes = exact::part(bytes, used.., "no more is used than there is");
        Ok(event)
    }

    fn begin(&mut self, member: &Member) -> Result<()> {
        let Stream::Archive { prefix, is_base, .. } = &self.stream else {
            return Ok(());
        };
        let is_base = *is_base;
        let mut path = [prefix.as_slice(), &member.path].concat();
        if member.kind == Kind::Symlink {
            // Where tablespaces lie stands in the facts; their files lie below the name of the link.
            return if is_base && path.starts_with(TABLESPACES.as_bytes()) {
                Ok(())
            } else {
                Err(Error::corrupt(format!(
                    "the server sends a link \"{}\" that is no tablespace's",
                    path.escape_ascii()
                )))
            };
        }
        self.owner = (member.uid, member.gid);
        let is_file = member.kind == Kind::File;
        if is_file {
            let how = (self.work.algorithm, self.announced.start);
            self.file = Some(Passing::new(path.clone(), member.size, &self.work.server, how));
        } else {
            path.push(b'/');
        }
        let meta = EntryMeta {
            kind: if is_file { EntryKind::File } else { EntryKind::Directory },
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            ..EntryMeta::file(path, member.size, (member.mtime, 0))
        };
        self.is_open = true;
        self.writer.begin_entry(&meta)
    }

    fn file_data(&mut self, data: &[u8]) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.data(data);
        }
        self.writer.write(data)?;
        let length = exact::u64_from(data.len());
        self.bytes += length;
        self.untold += length;
        if self.untold >= PROGRESS_BYTES {
            let told = std::mem::take(&mut self.untold);
            self.work.reporter.advance(&self.work.task, told, 0);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) {
            self.writer.finish_entry(false)?;
        }
        let Some(file) = self.file.take() else { return Ok(()) };
        self.files += 1;
        let Passed {
            path,
            size,
            sum,
            damage,
        } = file.finish();
        if let Some(message) = damage {
            let path = String::from_utf8_lossy(&path).into_owned();
            self.work.notes.add(Note::new("damaged", path, message));
            self.damaged_files += 1;
        }
        self.needed.saw(&path);
        match sum {
            Sum::Digest(digest) => self.table.add(&path, size, &digest),
            Sum::Head(head) => self.wal.add(&path, size, &head),
        }
    }

    /// Ends the stream before another one, or at the end of all: it is whole.
    fn end_stream(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.stream, Stream::None) {
            Stream::None => Ok(()),
            Stream::Archive { tar, name, .. } => {
                let open = self.file.as_ref().map(|file| file.path.escape_ascii().to_string());
                tar.finish().with_context(|| match open {
                    Some(path) => format!("receive file \"{path}\""),
                    None => format!("receive archive \"{name}\""),
                })
            }
            Stream::Manifest { reader, spooled } => {
                self.manifest = Some(reader.finish()?);
                self.needed.saw(MANIFEST);
                let meta = EntryMeta {
                    uid: self.owner.0,
                    gid: self.owner.1,
                    ..EntryMeta::file(MANIFEST, 0, (Timestamp::now().as_second(), 0))
                };
                self.bytes += spooled.store(meta, self.writer)?;
                self.files += 1;
                Ok(())
            }
        }
    }

    /// Notes that the server counts damaged pages. A cluster with one has to have a base at all: it is stored as it is, the page is
    /// named, and the exit code says it.
    pub(super) fn is_damaged(&mut self, said: &Error) {
        if self.damaged_files == 0 {
            self.work.notes.add(Note::new("damaged", "data pages", said.chain()));
            self.damaged_files = 1;
        }
    }

    /// Ends the backup by the row that the server sends last: everything came, as the server read it.
    pub(super) fn finish(mut self, rows: &Rows) -> Result<Received> {
        self.end_stream()?;
        let ended_at = Timestamp::now();
        let (end_lsn, end_timeline) = announced::end(rows)?;
        let manifest = self
            .manifest
            .take()
            .ok_or_else(|| Error::corrupt("the server sent no backup manifest"))?;
        if let Some(space) = self.awaited.first() {
            return Err(Error::corrupt(format!(
                "the server sent nothing of tablespace {}",
                space.oid
            )));
        }
        if let Some(path) = self.table.missing(is_named) {
            return Err(Error::corrupt(format!(
                "file \"{}\" came and is not in the backup manifest",
                path.escape_ascii()
            )));
        }
        let Work {
            server,
            reporter,
            task,
            algorithm,
            ..
        } = self.work;
        let facts = BaseFacts {
            major: server.major(),
            server_version: server.version,
            system_identifier: server.identity.system_id,
            timeline: self.announced.timeline,
            start_lsn: self.announced.start,
            end_timeline,
            end_lsn,
            wal_segment_bytes: server.wal_segment_bytes,
            data_checksums: server.has_checksums,
            directory_mode: server.directory_mode,
            from_standby: server.is_standby,
            manifest_checksums: algorithm,
            tablespaces: self.announced.tablespaces,
            damaged_files: self.damaged_files,
        };
        facts.check().context("read what the server says of the base")?;
        compare_facts(&manifest, &facts).context("read the backup manifest")?;
        self.needed.check()?;
        self.wal.check(&facts)?;
        reporter.advance(&task, self.untold, self.files);
        Ok(Received {
            facts,
            files: self.files,
            bytes: self.bytes,
            ended_at,
        })
    }
}

/// A file that came is what the server says to have read, by its manifest.
fn compare_with_sent(found: Comparison, path: &[u8], size: u64) -> Result<()> {
    let path = path.escape_ascii();
    let message = match found {
        Comparison::Same => return Ok(()),
        Comparison::Unknown => format!("file \"{path}\" of the backup manifest did not come"),
        Comparison::Twice => format!("the backup manifest names file \"{path}\" twice"),
        Comparison::Size(came) => {
            format!("file \"{path}\" came with {came} bytes, and the backup manifest says {size}")
        }
        Comparison::Checksum => format!("file \"{path}\" came with another checksum than the backup manifest says"),
    };
    Err(Error::corrupt(message)
        .with_hint("Something changed it between the server's disk and here. Take the base again."))
}
