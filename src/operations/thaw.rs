//! Makes objects of cold storage classes readable, for the commands that read what is stored.
//!
//! Nothing is asked for unless `--thaw` says so, since a store charges for it. Asking twice does no harm: what is being
//! thawed, or is readable, is left alone. So a command that was ended while it waited is simply run again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::Note;
use crate::base::units::format_bytes;
use crate::operations::Session;
use crate::operations::options::{Thaw, ThawMode};
use crate::repository::ManifestSource;
use crate::storage::upload::StoredObject;
use crate::storage::{Readiness, SharedStore, ThawSpeed};

/// First pause between two looks; each is twice the one before.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Longest pause.
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// Calls at once.
const AT_ONCE: usize = 8;

/// An object that cannot be read yet.
struct Frozen<'a> {
    object: &'a StoredObject,
    class: String,
    asked: bool,
}

/// Asks for the cold objects of these sources if `--thaw` was given, and waits for them if it says so.
pub(crate) async fn sources(
    session: &Session,
    store: &SharedStore,
    sources: &[&ManifestSource],
    how: &Thaw,
) -> Result<()> {
    let outcomes = sources.iter().filter_map(|source| source.outcome.as_ref());
    let archives = outcomes.flat_map(|outcome| &outcome.archives);
    let all: Vec<&StoredObject> = archives.flat_map(|info| [&info.archive, &info.index]).collect();
    objects(session, store, &all, how).await
}

/// The same for objects.
pub(crate) async fn objects(
    session: &Session,
    store: &SharedStore,
    objects: &[&StoredObject],
    how: &Thaw,
) -> Result<()> {
    let Some(then) = how.thaw else { return Ok(()) };
    let mut frozen = session.or_cancelled(look(store, objects.to_vec())).await?;
    if frozen.is_empty() {
        return Ok(());
    }
    let said = said(&frozen, how.thaw_speed);
    let asked = futures_util::stream::iter(frozen.iter().filter(|one| !one.asked).map(|one| one.object))
        .map(|object| store.thaw(&object.key, how.thaw_speed, how.thaw_days.max(1)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>();
    session.or_cancelled(asked).await.context("ask for a readable copy")?;
    if then == ThawMode::Ask {
        return Err(Error::new(ErrorKind::Archived, format!("asked the store for {said}"))
            .with_hint("Run the same command again then, or use --thaw to wait."));
    }
    session
        .reporter
        .note("thaw", Note::new("thawing", "waiting", format!("for {said}")));
    let mut pause = FIRST_LOOK;
    while !frozen.is_empty() {
        let wait = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        session.or_cancelled(wait).await?;
        pause = LONGEST_LOOK.min(pause * 2);
        let waiting = frozen.iter().map(|one| one.object).collect();
        frozen = session.or_cancelled(look(store, waiting)).await?;
        if let Some(cold) = frozen.iter().find(|one| !one.asked) {
            return Err(crate::storage::archived(cold.object.key.as_str(), &cold.class)
                .context("the store did not make the object readable as requested"));
        }
    }
    Ok(())
}

/// Returns what cannot be read now. What is missing is found, and told, by who reads it.
async fn look<'a>(store: &SharedStore, objects: Vec<&'a StoredObject>) -> Result<Vec<Frozen<'a>>> {
    let one = |object: &'a StoredObject| async move {
        match store.head(&object.key).await {
            Ok(meta) => Ok(Some((object, meta.readiness))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let found: Vec<_> = futures_util::stream::iter(objects)
        .map(one)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let frozen = found.into_iter().flatten().filter_map(|(object, readiness)| {
        let (class, asked) = match readiness {
            Readiness::Ready => return None,
            Readiness::Cold { class } => (class, false),
            Readiness::Thawing { class } => (class, true),
        };
        Some(Frozen { object, class, asked })
    });
    Ok(frozen.collect())
}

/// `3 objects, 1.2 GiB of GLACIER (3 to 5 hours)`.
fn said(frozen: &[Frozen<'_>], speed: ThawSpeed) -> String {
    let mut classes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for one in frozen {
        let (count, bytes) = classes.entry(&one.class).or_default();
        *count += 1;
        *bytes += one.object.size_bytes;
    }
    let each = classes.into_iter().map(|(class, (count, bytes))| {
        let (size, long) = (format_bytes(bytes), how_long(class, speed));
        format!("{count} objects, {size}, of {class} ({long})")
    });
    each.collect::<Vec<_>>().join(" and ")
}

/// What AWS says: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>.
fn how_long(class: &str, speed: ThawSpeed) -> &'static str {
    match (class.starts_with("DEEP_ARCHIVE"), speed) {
        (false, ThawSpeed::Expedited) => "1 to 5 minutes",
        (false, ThawSpeed::Standard) => "3 to 5 hours",
        (false, ThawSpeed::Bulk) => "5 to 12 hours",
        (true, ThawSpeed::Bulk) => "within 48 hours",
        (true, _) => "within 12 hours",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::ObjectKey;

    #[test]
    fn it_says_how_long_it_takes() {
        let object = |name: &str| StoredObject {
            key: ObjectKey::new(name).unwrap(),
            size_bytes: 1 << 20,
            sha256: String::new(),
        };
        let (a, b) = (object("a"), object("b"));
        let frozen = |object, class: &str| Frozen {
            object,
            class: class.to_owned(),
            asked: false,
        };
        let both = [frozen(&a, "GLACIER"), frozen(&b, "DEEP_ARCHIVE")];
        assert_eq!(
            said(&both, ThawSpeed::Standard),
            "1 objects, 1.0 MiB, of DEEP_ARCHIVE (within 12 hours) and 1 objects, 1.0 MiB, of GLACIER (3 to 5 hours)"
        );
    }
}
