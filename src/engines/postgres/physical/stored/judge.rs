//! Judges the entries of a base one by one, against the server's own manifest in the archive.

use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta, EntryRef};
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::engines::files::beneath::is_below;
use crate::engines::postgres::physical::stored::facts::{BaseFacts, Tablespace};
use crate::engines::postgres::physical::stored::wal::{WalCover, grow_head};
use crate::engines::postgres::physical::stored::{CONTROL, LABEL, MANIFEST, VERSION, is_named, is_segment};
use crate::engines::postgres::physical::wire::digest::{Comparison, FileDigest, FileTable};
use crate::engines::postgres::physical::wire::manifest::{ManifestFacts, ManifestReader};
use crate::engines::postgres::wal::Lsn;

/// What a server does not start without, as far as it was not seen.
#[derive(Debug)]
pub(crate) struct Needed(Vec<&'static [u8]>);

impl Needed {
    pub(crate) fn new() -> Self {
        Self(vec![VERSION, LABEL, CONTROL, MANIFEST])
    }

    /// Takes the path of a file that is there.
    pub(crate) fn saw(&mut self, path: &[u8]) {
        self.0.retain(|needed| *needed != path);
    }

    /// Refuses a base without any of them.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.first() {
            Some(path) => Err(Error::corrupt(format!(
                "the base has no file \"{}\"",
                path.escape_ascii()
            ))),
            None => Ok(()),
        }
    }
}

/// Part of the memory limit that the list of WAL segments may take.
pub(crate) fn wal_limit(limit_bytes: u64) -> u64 {
    limit_bytes / 32
}

/// Part of the memory limit that a table of files may take.
pub(crate) fn table_limit(limit_bytes: u64) -> u64 {
    limit_bytes / 8
}

/// Judges the entries of one base.
#[derive(Debug)]
pub(crate) struct BaseJudge {
    facts: BaseFacts,
    table: FileTable,
    wal: WalCover,
    needed: Needed,
    open: Option<Open>,
}

/// The file whose bytes are coming.
#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    size: u64,
    digest: FileDigest,
    head: Vec<u8>,
}

impl BaseJudge {
    /// Reads the manifest of an archive, before its files. It is compared with the facts.
    pub(crate) async fn open(reader: &ArchiveReader, facts: BaseFacts) -> Result<Self> {
        let mut table = FileTable::new(facts.manifest_checksums, table_limit(reader.memory_limit()));
        let entry = reader.find(MANIFEST).await?;
        let entry = entry.ok_or_else(|| Error::corrupt("the archive holds no backup_manifest"))?;
        let mut stream = reader.entries(Selection::Entries(vec![entry]));
        let mut manifest = ManifestReader::new();
        while let Some(event) = stream.next().await? {
            if let EntryEvent::Data(data) = event {
                manifest.push(&data, &mut |file| {
                    if file.algorithm != table.algorithm() {
                        return Err(Error::corrupt(
                            "the backup manifest has other checksums than the archive says",
                        ));
                    }
                    table.add(&file.path, file.size, &file.checksum)
                })?;
            }
        }
        compare_facts(&manifest.finish()?, &facts).context("read the backup manifest")?;
        Ok(Self {
            facts,
            table,
            wal: WalCover::default(),
            needed: Needed::new(),
            open: None,
        })
    }

    /// Begins an entry. Refuses what no base has.
    pub(crate) fn begin(&mut self, meta: &EntryMeta) -> Result<()> {
        let path = check_entry(meta)?;
        if meta.kind == EntryKind::File {
            self.needed.saw(path);
            self.open = Some(Open {
                path: path.to_vec(),
                size: meta.size_bytes,
                digest: FileDigest::new(self.table.algorithm()),
                head: Vec::new(),
            });
        }
        Ok(())
    }

    /// Takes bytes of the file that began.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.open {
            grow_head(&mut open.head, bytes);
            open.digest.update(bytes);
        }
    }

    /// Ends the entry: a file is what the manifest says of it.
    pub(crate) fn end(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if is_segment(&open.path) {
            return self.wal.add(&self.facts, &open.path, open.size, &open.head);
        }
        if open.path == MANIFEST {
            return Ok(());
        }
        let found = self.table.compare(&open.path, open.size, &open.digest.finish());
        if found == Comparison::Unknown && !is_named(&open.path) {
            return Ok(());
        }
        different(found, &open.path, open.size).map_or(Ok(()), Err)
    }

    /// Ends the reading: everything was there. Returns the facts, and the table for another reading.
    pub(crate) fn finish(self) -> Result<(BaseFacts, FileTable)> {
        if let Some(path) = self.table.missing(|_| true) {
            return Err(Error::corrupt(format!(
                "file \"{}\" of the backup manifest is missing",
                path.escape_ascii()
            )));
        }
        self.needed.check()?;
        self.wal.finish(&self.facts)?;
        Ok((self.facts, self.table))
    }
}

/// Returns the error of a file that is not as the manifest has it.
pub(crate) fn different(found: Comparison, path: &[u8], size: u64) -> Option<Error> {
    let path = path.escape_ascii();
    let message = match found {
        Comparison::Same => return None,
        Comparison::Unknown => format!("file \"{path}\" is not in the backup manifest"),
        Comparison::Twice => format!("file \"{path}\" is there twice"),
        Comparison::Size(wanted) => format!("file \"{path}\" has {size} bytes, and {wanted} in the backup manifest"),
        Comparison::Checksum => format!("file \"{path}\" has another checksum than in the backup manifest"),
    };
    Some(Error::corrupt(message))
}

/// Returns the path of an entry without the slash of a directory; refuses one that no base has.
pub(crate) fn check_entry(meta: &EntryMeta) -> Result<&[u8]> {
    let path = meta.path.strip_suffix(b"/").unwrap_or(&meta.path);
    check_kind(path, meta.kind)?;
    if !meta.pax.is_empty() {
        let path = path.escape_ascii();
        return Err(Error::corrupt(format!(
            "\"{path}\" is sparse or has attributes, and files of a base have none"
        )));
    }
    Ok(path)
}

/// Refuses what is neither file nor directory, or climbs.
fn check_kind(path: &[u8], kind: EntryKind) -> Result<()> {
    let shown = path.escape_ascii();
    if !matches!(kind, EntryKind::File | EntryKind::Directory) {
        let message = format!("\"{shown}\" is neither a file nor a directory, and a base has nothing else");
        return Err(Error::corrupt(message));
    }
    if !is_below(path) {
        return Err(Error::corrupt(format!("the base holds the path \"{shown}\""))
            .with_hint("Such a path was never written by this program; do not trust this backup."));
    }
    Ok(())
}

/// The manifest and the archive speak of one base.
pub(crate) fn compare_facts(manifest: &ManifestFacts, facts: &BaseFacts) -> Result<()> {
    if manifest.system_id.is_some_and(|id| id != facts.system_identifier) {
        return Err(Error::corrupt("it is of another system"));
    }
    let ranges = &manifest.wal_ranges;
    let (start, end) = (
        ranges.iter().map(|one| one.start).min(),
        ranges.iter().map(|one| one.end).max(),
    );
    if (start, end) != (Some(facts.start_lsn), Some(facts.end_lsn)) {
        let shown = |lsn: Option<Lsn>| lsn.map_or_else(|| "nowhere".to_owned(), |lsn| lsn.to_string());
        return Err(Error::corrupt(format!(
            "it needs WAL from {} to {}, and the base is of {} to {}",
            shown(start),
            shown(end),
            facts.start_lsn,
            facts.end_lsn
        )));
    }
    Ok(())
}

/// What the index of an archive says of a base.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Files.
    pub(crate) files: u64,
    /// Bytes of files in the data directory.
    pub(crate) bytes: u64,
    /// Bytes of files in each tablespace, in the order of the facts.
    pub(crate) tablespace_bytes: Vec<u64>,
}

/// Looks at the entries of an archive by its index; refuses those that no base has, and a base without what a server needs.
pub(crate) async fn survey(reader: &ArchiveReader, facts: &BaseFacts) -> Result<Survey> {
    let prefixes: Vec<String> = facts.tablespaces.iter().map(Tablespace::prefix).collect();
    let mut survey = Survey {
        tablespace_bytes: vec![0; prefixes.len()],
        ..Survey::default()
    };
    let mut needed = Needed::new();
    let mut visit = |entry: EntryRef| {
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        check_kind(path, entry.kind)?;
        let is_file = entry.kind == EntryKind::File;
        if is_file {
            needed.saw(path);
        }
        let space = prefixes.iter().position(|prefix| path.starts_with(prefix.as_bytes()));
        let place = space
            .and_then(|at| survey.tablespace_bytes.get_mut(at))
            .unwrap_or(&mut survey.bytes);
        *place = place.saturating_add(entry.size_bytes);
        survey.files += u64::from(is_file);
        Ok(())
    };
    reader.for_each_entry(&mut visit).await?;
    needed.check()?;
    Ok(survey)
}

/// Bytes that are handed on at once when a file is read back.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// Compares the files below a directory with a table, each by its whole content. `place` says where a path lies there, if it does.
pub(crate) fn compare_disk(
    table: &FileTable,
    place: &dyn Fn(&[u8]) -> Option<std::path::PathBuf>,
    is_cancelled: &dyn Fn() -> Result<()>,
) -> Result<()> {
    use std::io::Read;
    let mut buffer = vec![0; PIECE_BYTES];
    for (path, size, wanted) in table.files() {
        let Some(place) = place(path) else { continue };
        is_cancelled()?;
        let act = || format!("read \"{}\" back", path.escape_ascii());
        let mut file = std::fs::File::open(&place).with_context(act)?;
        let (mut digest, mut read) = (FileDigest::new(table.algorithm()), 0_u64);
        loop {
            let len = file.read(&mut buffer).with_context(act)?;
            if len == 0 {
                break;
            }
            digest.update(exact::filled(&buffer, len));
            read += exact::u64_from(len);
        }
        let found = match (read == size, digest.finish() == wanted) {
            (false, _) => Comparison::Size(size),
            (_, false) => Comparison::Checksum,
            _ => Comparison::Same,
        };
        if let Some(error) = different(found, path, read) {
            return Err(error);
        }
    }
    Ok(())
}
