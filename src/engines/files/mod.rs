//! File trees: read in path order into ordinary tar entries, and put back file by file.
//!
//! What makes reading safe: nothing is followed (see [`walk`]), nothing is unbounded (see [`listing`]), nothing is lost
//! in silence (see [`read`]), and no walk touches a SQLite database that has its own source
//! (see [`crate::engines::sqlite::registry`]). `docs/files.md` tells the rest.

mod apply;
mod aside;
pub(crate) mod attrs;
pub(crate) mod beneath;
mod compare;
pub(crate) mod differing;
pub(crate) mod engine;
mod extras;
pub(crate) mod filled;
mod interrupted;
mod journal;
pub mod judge;
pub mod keys;
pub(crate) mod links;
pub(crate) mod listing;
pub mod patterns;
pub(crate) mod read;
pub mod restore;
pub(crate) mod restorer;
pub(crate) mod sparse;
mod spec;
pub(crate) mod spelling;
mod stage;
mod staged_file;
pub mod survey;
pub(crate) mod tags;
pub(crate) mod verify;
pub(crate) mod walk;

pub use engine::FilesEngine;
pub use spec::FilesSpec;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::archive::{SequentialWriter, StreamRecord};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::{BackupContext, EngineKind, Finding, FindingLevel, Notes, Source, SourceOutcome};
use patterns::Patterns;
use tags::Tags;
use walk::{WalkOptions, Walker};

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("files", "files");

/// Name of the stream record that holds the tree's own facts ([`TreeFacts`]).
pub const STREAM: &str = "files";

/// What `check` counts at most.
const CHECK_ENTRIES: u64 = 200_000;

/// Options of a file tree.
#[derive(Debug, Clone, Default)]
pub struct FilesOptions {
    /// The directory, or one file.
    pub root: PathBuf,
    /// What is taken; nothing here means everything. See [`patterns`].
    pub include: Vec<String>,
    /// What is left out; it wins over `include`.
    pub exclude: Vec<String>,
    /// Whether directories on other filesystems are left out.
    pub one_file_system: bool,
    /// A directory that holds one of these is left out, but for that file.
    pub exclude_if_present: Vec<String>,
    /// Whether directories that hold a CACHEDIR.TAG are left out, but for the tag.
    pub exclude_caches: bool,
    /// Whether one file was named, so that the root is only where it lies.
    pub single_file: bool,
}

/// What the archive says of the tree as a whole; in the facts of the stream record [`STREAM`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreeFacts {
    /// Where it was, for people.
    pub root: String,
    /// Include patterns.
    pub include: Vec<String>,
    /// Exclude patterns.
    pub exclude: Vec<String>,
    /// Whether other filesystems were left out.
    pub one_file_system: bool,
    /// Marks of directories that were left out, and whether those of caches were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// See there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclude_caches: bool,
    /// Whether one file was named: a restore leaves the directory it goes to as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_file: bool,
    /// Mode of the root directory.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// The order of its entries.
    #[serde(default)]
    pub order: TreeOrder,
    /// Its extended attributes, ACLs among them, values in hex. Missing in backups that did not read them, nor those of
    /// links, pipes and devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<BTreeMap<String, String>>,
}

impl TreeFacts {
    /// Returns what the backup looked at.
    pub(crate) fn patterns(&self) -> Result<Patterns> {
        let tags = Tags::new(&self.exclude_if_present, self.exclude_caches)?;
        Ok(Patterns::new(&self.include, &self.exclude)?.with_tags(tags))
    }

    /// Returns the root's attributes as pax records.
    pub(crate) fn records(&self) -> Result<attrs::Records> {
        let decode = |(name, value): (&String, &String)| {
            let value = hex::decode(value)
                .map_err(|e| Error::corrupt("an attribute of the tree's root is not hexadecimal").with_cause(e))?;
            Ok((format!("{}{name}", attrs::PREFIX), value))
        };
        self.attributes.iter().flatten().map(decode).collect()
    }
}

/// In which order the entries of a tree stand in the archive. It ascends, so that none can stand twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeOrder {
    /// Byte order of paths in which a directory's ends in `/`: a walk of this program.
    #[default]
    Paths,
    /// Component by component: how a Docker engine walks.
    Components,
}

impl TreeOrder {
    /// Returns what sorts for a path without a trailing slash.
    pub(crate) fn key(self, path: &[u8], is_dir: bool) -> Vec<u8> {
        let mut key = path.to_vec();
        match self {
            Self::Paths if is_dir => key.push(b'/'),
            Self::Paths => {}
            // No byte of a name is zero, so a shorter name comes first and everything below a directory follows it.
            Self::Components => key.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = 0),
        }
        key
    }
}

/// A file tree.
#[derive(Debug)]
pub struct FilesSource {
    options: FilesOptions,
    patterns: Patterns,
}

impl FilesSource {
    /// Checks the patterns; the tree itself is looked at later.
    pub fn new(mut options: FilesOptions) -> Result<Self> {
        if let Some((directory, pattern)) = single_file(&options.root)? {
            if !(options.include.is_empty() && options.exclude.is_empty()) {
                return Err(Error::invalid(format!(
                    "\"{}\" is a file, but patterns apply to directories",
                    options.root.display()
                ))
                .with_hint(
                    "Use its directory as the root and list the file under `include`, or remove the patterns.",
                ));
            }
            (options.root, options.include, options.single_file) = (directory, vec![pattern], true);
        }
        options.include = spelling::resolve(&options.include, &options.root)?;
        options.exclude = spelling::resolve(&options.exclude, &options.root)?;
        let tags = Tags::new(&options.exclude_if_present, options.exclude_caches)?;
        let patterns = Patterns::new(&options.include, &options.exclude)?.with_tags(tags);
        Ok(Self { options, patterns })
    }
}

/// Returns the directory of a file that was named as a root, and the pattern that means it alone; `None` for everything
/// that is no file, or is not there.
pub fn single_file(root: &Path) -> Result<Option<(PathBuf, String)>> {
    let Ok(meta) = root.symlink_metadata() else {
        return Ok(None);
    };
    if meta.is_symlink() && root.metadata().is_ok_and(|target| target.is_file()) {
        return Err(
            Error::invalid(format!("\"{}\" is a link to a file", root.display())).with_hint(
                "Use the file it points to, or the directory that contains the link: links are stored as links.",
            ),
        );
    }
    if !meta.is_file() {
        return Ok(None);
    }
    let absolute = std::path::absolute(root)?;
    let pair = absolute.parent().zip(absolute.file_name());
    Ok(pair.map(|(directory, name)| (directory.to_path_buf(), spelling::literal(name))))
}

impl FilesSource {
    /// Hashes the facts of everything that is taken (names, kinds, sizes, times, owners, modes, inodes) without opening a
    /// file: another value means that something changed.
    pub fn fingerprint(&self) -> Result<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let root = open_root(&self.options.root)?;
        let walk_options = WalkOptions {
            one_file_system: self.options.one_file_system,
            ..WalkOptions::default()
        };
        let mut walker = Walker::new(root.as_fd(), &self.patterns, walk_options)?;
        let (mut hasher, mut note) = (DefaultHasher::new(), |_: crate::base::report::Note| {});
        while let Some(found) = walker.next(&mut note)? {
            let stat = &found.stat;
            if found.taken {
                (
                    &found.path,
                    stat.st_mode,
                    stat.st_size,
                    stat.st_ino,
                    stat.st_uid,
                    stat.st_gid,
                )
                    .hash(&mut hasher);
                (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec).hash(&mut hasher);
            }
        }
        Ok(hasher.finish())
    }
}

/// Opens the root of a tree, which must be a directory.
pub(crate) fn open_root(root: &Path) -> Result<std::fs::File> {
    let act = || format!("open \"{}\"", root.display());
    let file = std::fs::File::open(root).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "The path does not exist. Correct it, or mount the directory (in a container) or the disk."
            }
            std::io::ErrorKind::PermissionDenied => "Run as a user with read permission.",
            _ => return Error::from(error),
        };
        Error::from(error).with_hint(hint)
    });
    let file = file.with_context(act)?;
    if !file.metadata().with_context(act)?.is_dir() {
        return Err(Error::invalid(format!("\"{}\" is not a directory", root.display()))
            .with_hint("A source is a directory or a regular file."));
    }
    Ok(file)
}

#[async_trait]
impl Source for FilesSource {
    fn location(&self) -> String {
        self.options.root.display().to_string()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let (options, patterns) = (self.options.clone(), self.patterns.clone());
        blocking(move || check(&options, &patterns)).await
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let consistent_at = Timestamp::now();
        let BackupContext {
            name,
            writer,
            reporter,
            cancel,
            spool_dir,
            ..
        } = context;
        let (options, patterns) = (self.options.clone(), self.patterns.clone());
        let mut writer = writer.into_sequential();
        let (writer, totals, note_counts) = blocking(move || {
            let notes = Notes::new(name.clone(), reporter.clone());
            let root = open_root(&options.root)?;
            let facts = tree_facts(&options, &root, &notes)?;
            let mut reader = read::TreeReader {
                writer: &mut writer,
                notes: &notes,
                reporter: &reporter,
                task: &name,
                cancel: &cancel,
                links: links::Links::default(),
                totals: read::Totals::default(),
                prefix: b"",
                spool: &spool_dir,
            };
            reader.run(
                root.as_fd(),
                &patterns,
                WalkOptions {
                    one_file_system: options.one_file_system,
                    ..WalkOptions::default()
                },
            )?;
            let totals = reader.totals;
            finish_record(&mut writer, STREAM, &facts, totals)?;
            Ok((writer, totals, notes.counts()))
        })
        .await
        .with_context(|| format!("back up \"{}\"", self.options.root.display()))?;
        Ok(SourceOutcome {
            versions: BTreeMap::from([("format".to_owned(), "pax".to_owned())]),
            position: BTreeMap::new(),
            consistent_at,
            raw_bytes: totals.bytes,
            items: totals.items,
            note_counts,
            archives: writer.finish().await?,
        })
    }
}

/// Looks at the root of a tree.
pub(crate) fn tree_facts(options: &FilesOptions, root: &std::fs::File, notes: &Notes) -> Result<TreeFacts> {
    let stat = rustix::fs::fstat(root).map_err(beneath::io)?;
    let records = attrs::read(&attrs::AttrHolder::open(root), &mut |name, why| {
        notes.add(crate::base::report::Note::new(
            "xattr-lost",
            ".",
            format!("extended attribute \"{name}\" of the root is not in the backup: {why}"),
        ));
    });
    let bare = |key: String| key.strip_prefix(attrs::PREFIX).map(str::to_owned).unwrap_or(key);
    Ok(TreeFacts {
        root: options.root.display().to_string(),
        include: options.include.clone(),
        exclude: options.exclude.clone(),
        one_file_system: options.one_file_system,
        exclude_if_present: options.exclude_if_present.clone(),
        exclude_caches: options.exclude_caches,
        single_file: options.single_file,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: beneath::mtime(&stat),
        order: TreeOrder::Paths,
        attributes: Some(
            records
                .into_iter()
                .map(|(key, value)| (bare(key), hex::encode(value)))
                .collect(),
        ),
    })
}

/// Writes what is known of a whole tree into the index, under the stream's name.
pub(crate) fn finish_record(
    writer: &mut SequentialWriter,
    stream: &str,
    facts: &TreeFacts,
    totals: read::Totals,
) -> Result<()> {
    writer.finish_stream(StreamRecord {
        stream: stream.to_owned(),
        prefixes: Vec::new(),
        chunks: 0,
        bytes: totals.bytes,
        rows: None,
        row_digest: None,
        facts: serde_json::to_value(facts)
            .map_err(|e| Error::new(ErrorKind::Other, "write the tree's facts").with_cause(e))?,
    })
}

fn check(options: &FilesOptions, patterns: &Patterns) -> Result<Vec<Finding>> {
    let root = open_root(&options.root)?;
    let walk_options = WalkOptions {
        one_file_system: options.one_file_system,
        ..WalkOptions::default()
    };
    let mut walker = Walker::new(root.as_fd(), patterns, walk_options)?;
    let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut note = |n: crate::base::report::Note| {
        let slot = counts
            .entry(n.code)
            .or_insert_with(|| (0, format!("\"{}\" {}", n.object, n.message)));
        slot.0 += 1;
    };
    let (mut entries, mut bytes, mut ended) = (0u64, 0u64, false);
    while entries < CHECK_ENTRIES {
        let Some(found) = walker.next(&mut note)? else {
            ended = true;
            break;
        };
        entries += u64::from(found.taken);
        if found.kind() == rustix::fs::FileType::RegularFile {
            bytes += exact::saturating_u64(found.stat.st_size);
            if rustix::fs::accessat(
                &found.dir,
                found.name(),
                rustix::fs::Access::READ_OK,
                rustix::fs::AtFlags::EACCESS,
            )
            .is_err()
            {
                note(crate::base::report::Note::new(
                    "unreadable",
                    beneath::show(&found.path),
                    "may not be read",
                ));
            }
        }
    }
    let unmatched: Vec<(&str, String)> = if ended {
        let unmatched = walker.unmatched();
        unmatched.map(|(what, pattern)| (what, pattern.to_owned())).collect()
    } else {
        Vec::new()
    };
    let more = if ended { "" } else { " and more" };
    let mut findings = vec![Finding {
        level: FindingLevel::Info,
        message: format!("{entries} entries, {} MiB{more}", bytes >> 20),
        hint: None,
    }];
    for (what, pattern) in unmatched {
        findings.push(Finding {
            level: FindingLevel::Warning,
            message: format!("{what} pattern \"{pattern}\" matches nothing"),
            hint: None,
        });
    }
    for (code, (count, first)) in counts {
        let level = if code == "unreadable" {
            FindingLevel::Warning
        } else {
            FindingLevel::Note
        };
        findings.push(Finding {
            level,
            message: format!("{count} {code}, the first: {first}"),
            hint: None,
        });
    }
    Ok(findings)
}
