//! Proving a base: every entry against the server's manifest, and once more when it stands in a scratch directory.

use crate::archive::EntryEvent;
use crate::archive::reader::Selection;
use crate::base::blocking::blocking;
use crate::base::claim::Claim;
use crate::base::error::{Context, Result};
use crate::engines::postgres::physical::flags::StartServer;
use crate::engines::postgres::physical::restore::fill::{Filled, Placement, fill};
use crate::engines::postgres::physical::restore::tablespaces::Assigned;
use crate::engines::postgres::physical::restore::target::{Owner, check_space, make};
use crate::engines::postgres::physical::start::{self, Proof, Scratch, StartedServer};
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

/// Restores into the spool directory, and reads every file of the manifest back from there. Where it is asked for, a server is started on it.
pub(super) async fn prove_restored(stored: &Stored) -> Result<RestoreProof> {
    let flags: StartServer = stored.flags.of();
    let facts = BaseFacts::of(&stored.reader).await?;
    // Files belong to the server's user from the start, so its user is found before.
    let ready = if flags.start {
        Some(start::ready(&flags, facts.major).await)
    } else {
        None
    };
    let owner = match &ready {
        Some(Ok(ready)) => ready.owner(),
        _ => Owner::Oneself,
    };
    let scratch = ScratchDirectory::create(&stored.tools.spool_dir)?;
    let proven = async {
        let filled = restore_and_compare(stored.clone(), facts, &scratch, owner).await?;
        let proof = match &ready {
            None => Proof {
                skipped: vec![format!(
                    "no server of PostgreSQL {} was started on it: recovery to {} was not tried",
                    filled.facts.major, filled.facts.end_lsn
                )],
                ..Proof::default()
            },
            Some(Err(why)) => Proof::not_reached(why),
            Some(Ok(ready)) => {
                let scratch = Scratch {
                    directory: std::path::absolute(scratch.path())?,
                    facts: &filled.facts,
                    recovery: flags.recovery.as_ref(),
                    task: &stored.source,
                    tools: &stored.tools,
                };
                Box::pin(scratch.prove(ready)).await?
            }
        };
        Ok((filled, proof))
    };
    let proven: Result<_> = proven.await;
    let removed = scratch.remove().await;
    let (filled, proof) = proven?;
    removed?;
    let damaged = filled.facts.damaged_files;
    let damaged = (damaged > 0).then(|| format!("{damaged} files had damaged pages when the base was taken"));
    Ok(RestoreProof {
        skipped: proof.skipped,
        why_not: proof.why_not,
        damage: proof.damage,
        integrity: damaged.into_iter().chain(proof.integrity).collect(),
        restored: Some(Box::new(BaseInScratch {
            files: filled.files,
            bytes: filled.bytes,
            major: filled.facts.major,
            started: proof.server,
        })),
        ..RestoreProof::default()
    })
}

async fn restore_and_compare(
    stored: Stored,
    facts: BaseFacts,
    scratch: &ScratchDirectory,
    owner: Owner,
) -> Result<Filled> {
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
        owner,
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
    /// The server that was started on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedServer>,
}

impl ScratchReport for BaseInScratch {
    fn text(&self) -> String {
        let started = self.started.as_ref();
        format!(
            "a scratch directory: {} files, {} against the server's backup manifest{}",
            self.files,
            Claim::EveryDigestChecked.words(),
            started.map_or_else(String::new, |server| format!("; {}", server.text()))
        )
    }
}
