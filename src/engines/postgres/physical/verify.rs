//! Proving a base: every entry against the server's manifest, and once more when it stands in a scratch directory.

use crate::archive::EntryEvent;
use crate::archive::reader::Selection;
use crate::base::blocking::blocking;
use crate::base::claim::Claim;
use crate::base::error::{Context, Result};
use crate::engines::postgres::physical::restore::fill::{Filled, Placement, fill};
use crate::engines::postgres::physical::restore::tablespaces::Assigned;
use crate::engines::postgres::physical::restore::target::{Owner, check_space, make};
use crate::engines::postgres::physical::stored::facts::BaseFacts;
use crate::engines::postgres::physical::stored::judge::{BaseJudge, compare_disk, survey};
use crate::engines::proof::ScratchDirectory;
use crate::engines::{RestoreProof, ScratchReport, Stored};

/// Reads every entry, compares it with the backup manifest, and looks whether the WAL is there from end to end.
pub(super) async fn prove_content(stored: &Stored) -> Result<()> {
    let facts = BaseFacts::of(&stored.reader).await?;
    survey(&stored.reader, &facts).await?;
    let mut judge = BaseJudge::open(&stored.reader, facts).await?;
    let mut entries = stored.reader.entries(Selection::All);
    while let Some(event) = stored.tools.or_cancelled(entries.next()).await? {
        match event {
            EntryEvent::Begin(meta) => judge.begin(&meta)?,
            EntryEvent::Data(data) => judge.data(&data),
            EntryEvent::End { .. } => judge.end()?,
        }
    }
    judge.finish().map(drop)
}

/// Restores into the spool directory, and reads every file of the manifest back from there. No server is started.
pub(super) async fn prove_restored(stored: &Stored) -> Result<RestoreProof> {
    let scratch = ScratchDirectory::create(&stored.tools.spool_dir)?;
    let proven = restore_and_compare(stored.clone(), &scratch).await;
    let removed = scratch.remove().await;
    let filled = proven?;
    removed?;
    let damaged = filled.facts.damaged_files;
    let damaged = (damaged > 0).then(|| format!("{damaged} files had damaged pages when the base was taken"));
    Ok(RestoreProof {
        skipped: vec![format!(
            "no server of PostgreSQL {} was started on it: recovery to {} was not tried",
            filled.facts.major, filled.facts.end_lsn
        )],
        integrity: damaged.into_iter().collect(),
        restored: Some(Box::new(BaseInScratch {
            files: filled.files,
            bytes: filled.bytes,
            major: filled.facts.major,
        })),
        ..RestoreProof::default()
    })
}

async fn restore_and_compare(stored: Stored, scratch: &ScratchDirectory) -> Result<Filled> {
    let facts = BaseFacts::of(&stored.reader).await?;
    let found = survey(&stored.reader, &facts).await?;
    let placement = Placement {
        directory: scratch.join("data"),
        tablespaces: facts
            .tablespaces
            .iter()
            .filter(|one| !one.is_in_place())
            .map(|one| Assigned {
                tablespace: one.clone(),
                into: scratch.join(&one.oid.to_string()),
            })
            .collect(),
        owner: Owner::Oneself,
    };
    let bytes = found
        .tablespace_bytes
        .iter()
        .fold(found.bytes, |all, bytes| all.saturating_add(*bytes));
    check_space(&[(&stored.tools.spool_dir, bytes)])?;
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        make(&placement.directory)?;
        for one in &placement.tablespaces {
            make(&one.into)?;
        }
        let filled = runtime.block_on(fill(
            &stored.reader,
            facts,
            &placement,
            None,
            (&stored.source, &stored.tools),
        ))?;
        let place = |path: &[u8]| placement.place_of(path, &filled.left_out);
        let is_cancelled = || runtime.block_on(stored.tools.or_cancelled(std::future::ready(Ok(()))));
        compare_disk(&filled.table, &place, &is_cancelled)?;
        Ok(filled)
    })
    .await
    .context("restore into a scratch directory")
}

/// A base that came back into the spool directory.
#[derive(Debug, serde::Serialize)]
struct BaseInScratch {
    /// Its files.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// The version that a server of it must have.
    major: u32,
}

impl ScratchReport for BaseInScratch {
    fn text(&self) -> String {
        format!(
            "a scratch directory: {} files, {} against the server's backup manifest",
            self.files,
            Claim::EveryDigestChecked.words()
        )
    }
}
