//! Looks at every snapshot of a repository, one manifest after another.
//!
//! A manifest that cannot be read is named, neither hidden nor fatal: the other snapshots are as good as before.

use futures_util::StreamExt;

use crate::base::error::{Error, ErrorKind, Result};
use crate::repository::{Manifest, Repository, SnapshotId};

/// Manifests that are read at once; each is under 1 MiB.
const CONCURRENT_READS: usize = 8;

/// What a look at every snapshot found.
#[derive(Debug)]
pub struct Survey<T> {
    /// What was made of each manifest, oldest snapshot first.
    pub snapshots: Vec<T>,
    /// Snapshots whose manifest is damaged, foreign, or of a newer format. Nothing may be concluded about them, so no rule
    /// expires them and no sweep takes their data.
    pub damaged: Vec<(SnapshotId, Error)>,
}

impl Repository {
    /// Reads every manifest and keeps what `of` takes from it.
    pub async fn survey<T>(&self, of: impl Fn(&Manifest) -> T) -> Result<Survey<T>> {
        let ids = self.list().await?;
        let mut survey = Survey {
            snapshots: Vec::with_capacity(ids.len()),
            damaged: Vec::new(),
        };
        let read = |id: SnapshotId| async move {
            let manifest = self.load(&id).await;
            (id, manifest)
        };
        let mut manifests = futures_util::stream::iter(ids).map(read).buffered(CONCURRENT_READS);
        while let Some((id, manifest)) = manifests.next().await {
            match manifest {
                Ok(manifest) => survey.snapshots.push(of(&manifest)),
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                    survey.damaged.push((id, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(survey)
    }
}
