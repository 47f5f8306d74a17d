//! Proving trees: their entries one by one, and restored into the spool directory.

use std::path::PathBuf;

use crate::base::claim::Claim;
use crate::base::error::{Context, Error, Result};
use crate::engines::files::judge::Judge;
use crate::engines::files::restore::{self, FilesRestoreOptions};
use crate::engines::files::survey::survey;
use crate::engines::proof::ScratchDirectory;
use crate::engines::{RestoreProof, ScratchReport, Stored};

/// A tree of an archive, for people, by its stream, and where its entries lie.
#[derive(Debug)]
pub(crate) struct StoredTree {
    pub(crate) name: String,
    pub(crate) stream: String,
    pub(crate) prefix: Vec<u8>,
}

/// Reads everything, and judges the entries of each tree as a restore would.
pub(crate) async fn prove_content(stored: &Stored, trees: Vec<StoredTree>) -> Result<()> {
    let mut judges = Vec::new();
    for tree in trees {
        let judge = Judge::open(&stored.reader, &tree.stream, tree.prefix).await;
        judges.push(judge.with_context(|| format!("read {} of source \"{}\"", tree.name, stored.source))?);
    }
    stored.read_and_judge(&mut judges).await
}

/// Restores trees into the spool directory and compares each with the archive once more, as a second restore would.
pub(crate) async fn prove_restored(stored: &Stored, trees: Vec<StoredTree>) -> Result<RestoreProof> {
    let scratch = ScratchDirectory::create(&stored.tools.spool_dir)?;
    let mut report = TreesRestored {
        trees: trees.len(),
        ..TreesRestored::default()
    };
    let mut lost = 0_u64;
    for (number, tree) in trees.into_iter().enumerate() {
        let root = scratch.join(&format!("{number:04}"));
        let done = one_tree(stored, &tree, root).await;
        let done = done.with_context(|| format!("restore {} into a scratch directory", tree.name))?;
        report.entries += done.entries;
        report.bytes += done.bytes;
        lost += done.lost;
        if let Some(why) = done.why_not {
            scratch.remove().await?;
            return Ok(RestoreProof::not_reached(format!("{}: {why}", tree.name)));
        }
    }
    scratch.remove().await?;
    let line = "device nodes, owners or attributes could not be restored here; see the notes";
    Ok(RestoreProof {
        restored: Some(Box::new(report)),
        skipped: (lost > 0).then(|| line.to_owned()).into_iter().collect(),
        ..RestoreProof::default()
    })
}

/// What became of one tree.
struct RestoredTree {
    entries: u64,
    bytes: u64,
    lost: u64,
    why_not: Option<String>,
}

async fn one_tree(stored: &Stored, tree: &StoredTree, root: PathBuf) -> Result<RestoredTree> {
    let mut how = FilesRestoreOptions {
        task: stored.source.clone(),
        stream: tree.stream.clone(),
        prefix: tree.prefix.clone(),
        ..FilesRestoreOptions::default()
    };
    let (reader, reporter, cancel) = (&stored.reader, &stored.tools.reporter, &stored.tools.cancel);
    let planned = survey(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    planned.check_space(&root)?;
    let done = restore::restore(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    how.clean = true;
    let again = survey(reader.clone(), &root, &how, reporter.clone(), cancel.clone()).await?;
    let differing = again.new + again.replaced;
    let why_not = match (differing, done.lost) {
        (0, _) => None,
        (_, 0) => {
            return Err(Error::corrupt(format!(
                "{differing} entries in the scratch directory differ from the backup"
            )));
        }
        _ => Some(format!(
            "owners, modes or attributes of {differing} entries could not be set in the spool directory; content was checked"
        )),
    };
    Ok(RestoredTree {
        entries: done.entries,
        bytes: done.bytes,
        lost: done.lost,
        why_not,
    })
}

/// Trees that came back into the spool directory.
#[derive(Debug, Default, serde::Serialize)]
struct TreesRestored {
    /// How many.
    trees: usize,
    /// Their entries.
    entries: u64,
    /// Bytes of their files.
    bytes: u64,
}

impl ScratchReport for TreesRestored {
    fn text(&self) -> String {
        format!(
            "a scratch directory: {} entries, {}",
            self.entries,
            Claim::EveryByte.words()
        )
    }
}
