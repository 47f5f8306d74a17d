//! Puts back the database that a restore with `--clean` replaced.

use std::time::Duration;

use super::inspect::look;
use super::replace::names_of;
use super::statements::FailedItem;
use super::swap::{Apart, Swap, free_name, head, rename};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::marks::Why;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;

const KEPT: &str = include_str!("sql/kept_databases.sql");

/// What [`undo`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Undone {
    /// The database that has its old content again.
    pub database: String,
    /// Name under which that was kept.
    pub was_kept_as: String,
    /// Name under which what the restore had brought is kept, if it was still there.
    pub restored_kept_as: Option<String>,
    /// Sessions that were ended for it.
    pub ended_sessions: u64,
    /// What could not be put back or cleaned up with it, e.g. a comment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedItem>,
}

/// Puts back the database that the last restore with `--clean` replaced. Nothing is dropped: what the restore had brought is
/// kept under a dated name.
pub async fn undo(wanted: &ConnectOptions, timeout: Duration) -> Result<Undone> {
    let (mut admin, found) = look(wanted).await?;
    let name = &wanted.database;
    let mut marked = marks::find(&mut admin, Why::Kept, name).await?;
    let kept = if marked.is_empty() {
        unmarked(&mut admin, name).await?
    } else {
        Some(marked.swap_remove(0).name)
    };
    let Some(kept) = kept else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no replaced database is kept for \"{name}\""),
        )
        .with_hint(
            "Only a restore with --clean into a database that was not empty keeps one, as NAME_before_TIME; \
                    with --drop-old it is dropped.",
        ));
    };
    let mut undone = Undone {
        database: name.clone(),
        was_kept_as: kept.clone(),
        restored_kept_as: None,
        ended_sessions: 0,
        failed: Vec::new(),
    };
    if found.exists {
        let mut apart = Apart::of(admin, wanted, [name, &kept]).await?;
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let aside = free_name(&mut apart.admin, name, "undone", &stamp).await?;
        let swap = Swap {
            old: name,
            new: &kept,
            kept: &aside,
            stamp: None,
            inherits: false,
            timeout,
        };
        let swapped = swap.run(&mut apart.admin, wanted).await;
        let (after, left) = apart.end(wanted).await?;
        admin = after;
        let swapped = swapped?;
        undone.ended_sessions = exact::u64_from(swapped.ended.len());
        undone.failed = swapped.failed;
        undone.failed.extend(left);
        undone.restored_kept_as = Some(aside);
    } else {
        let failed = rename(&mut admin, wanted, &kept, name, timeout).await;
        undone.failed.extend(failed.context("put the old database back")?);
    }
    admin.close().await;
    Ok(undone)
}

/// Finds what an earlier version kept, by its name alone: `NAME_before_TIME`, cut at 63 bytes. Where the name is so long that
/// another database's may have been cut to the same, nothing is taken for it.
async fn unmarked(admin: &mut Connection, name: &str) -> Result<Option<String>> {
    const CUT: usize = 40;
    if name.len() > CUT {
        return Ok(None);
    }
    let prefix = format!("{}_before_", head(name, CUT));
    let sql = with_names(KEPT, &[("prefix", &literal(&prefix))]);
    let names = names_of(admin, &sql).await.context("look for kept databases")?;
    let is_stamp = |rest: &str| {
        let length = 63usize.saturating_sub(prefix.len()).min(16);
        rest.len() == length && rest.bytes().all(|b| b.is_ascii_digit() || b == b'T' || b == b'Z')
    };
    Ok(names
        .into_iter()
        .find(|n| n.strip_prefix(&prefix).is_some_and(is_stamp)))
}
