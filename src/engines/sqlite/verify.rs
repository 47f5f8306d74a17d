//! Proving a database: restored into the spool directory, where SQLite checks all of it.

use crate::base::error::Result;
use crate::engines::proof::ScratchDirectory;
use crate::engines::sqlite::restore::{SqliteRestoreOptions, restore};
use crate::engines::{RestoreProof, Stored};

pub(super) async fn prove_restored(stored: &Stored) -> Result<RestoreProof> {
    let scratch = ScratchDirectory::create(&stored.tools.spool_dir)?;
    let options = SqliteRestoreOptions {
        task: stored.source.clone(),
        full_check: true,
        ..SqliteRestoreOptions::default()
    };
    let (reporter, cancel) = (stored.tools.reporter.clone(), stored.tools.cancel.clone());
    let path = scratch.join("database.db");
    let restored = restore(stored.reader.clone(), &path, &options, reporter, cancel).await;
    let removed = scratch.remove().await;
    let found = restored?.integrity;
    removed?;
    let violated = found.violated.iter().map(|line| format!("row breaks a rule: {line}"));
    let unchecked = found.unchecked.iter().map(|line| format!("not checked: {line}"));
    Ok(RestoreProof {
        why_not: found
            .is_damaged()
            .then(|| "SQLite finds damage that was there when it was stored; content was checked".to_owned()),
        skipped: violated.chain(unchecked).collect(),
        integrity: found.damaged,
        ..RestoreProof::default()
    })
}
