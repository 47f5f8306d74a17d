//! This host's clock against the store's.
//!
//! Ids, `latest`, keep rules and schedules rest on the dates that a run gives its snapshot. One that a wrong clock dated years
//! ahead is not taken for the newest (see [`crate::repository::latest`]); one that it dated back would be expired first. So no
//! run begins while the two differ by more than a few minutes.

use jiff::Timestamp;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::units::format_duration;
use crate::repository::{CLOCK_TOLERANCE, Repository};

/// Fails when the two clocks differ by more than [`CLOCK_TOLERANCE`]. A store that does not tell the time holds nobody up.
pub(crate) async fn agree(repository: &Repository) -> Result<()> {
    let theirs = match repository.store().now().await {
        Ok(theirs) => theirs,
        Err(error) => {
            tracing::debug!("unable to get the time of the store: {}", error.chain());
            return Ok(());
        }
    };
    let ahead = Timestamp::now().duration_since(theirs);
    if ahead.abs() <= CLOCK_TOLERANCE {
        return Ok(());
    }
    let which = if ahead.is_positive() { "ahead of" } else { "behind" };
    let message = format!(
        "the clock of this host is {} {which} that of {}",
        format_duration(ahead.unsigned_abs()),
        repository.store().location()
    );
    Err(Error::new(ErrorKind::PreconditionFailed, message).with_hint(
        "Nothing was stored. Set the clock (timedatectl, chronyc makestep): a snapshot with a wrong date would be \
         missed by `latest`, or expire at once.",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::storage::memory::MemoryStore;

    #[tokio::test]
    async fn clocks_may_differ_by_ten_minutes() {
        for (minutes, refused) in [
            (0, None),
            (9, None),
            (-9, None),
            (11, Some("behind")),
            (-11, Some("ahead of")),
        ] {
            let store = Arc::new(MemoryStore::new());
            store.advance(SignedDuration::from_mins(minutes));
            let repository = Repository::init(store).await.unwrap();
            let said = agree(&repository).await.map_err(|error| error.chain());
            match refused {
                None => said.unwrap(),
                Some(word) => assert!(said.unwrap_err().contains(word), "{minutes}"),
            }
        }
    }
}
