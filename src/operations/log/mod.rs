//! `log`: the write-ahead log of PostgreSQL servers, as they stream it, as `archive_command` hands it on, and as `restore_command`
//! asks for it.
//!
//! The server runs a process for each file, so `push` and `fetch` do one thing and remember nothing: what they need to know
//! stands in the file, beside it, or in the repository. So does what [`receive`] needs that begins anew.

pub mod fetch;
mod parts;
pub mod progress;
pub mod proven;
pub mod prune;
pub mod push;
pub mod receive;
pub(crate) mod recovery;
pub mod redis;
pub mod show;
pub(crate) mod state;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::error::{Context, Result};
use crate::config::SourceConfig;
use crate::engines::postgres::wal::{CONTROL_BYTES, FileName, system_identifier};
use crate::operations::log::progress::Watched;
use crate::operations::{Session, options};
use crate::repository::layout;
use crate::storage::ObjectKey;

/// Receives the log of a source until a signal ends that; tells `watched` how it is getting on.
pub async fn follow(
    session: &Session,
    source: &SourceConfig,
    options: &options::LogReceive,
    watched: Watched,
) -> Result<()> {
    if redis::receive::is_of(source) {
        redis::receive::follow(session, source, options, watched).await?;
    } else {
        receive::follow(session, source, options, watched).await?;
    }
    Ok(())
}

/// Returns where a file of a system lies in a repository.
fn key_of(system: u64, name: &FileName) -> Result<ObjectKey> {
    let timeline = match name {
        FileName::History(_) => None,
        _ => Some(name.timeline().0),
    };
    layout::wal_file(system, timeline, &name.to_string())
}

/// Returns the data directory whose `pg_wal` a file lies in. The server gives `%p` relative to it, and a `pg_wal` that is a link
/// is left as it is written.
fn data_directory(path: &Path) -> Option<PathBuf> {
    path.parent()?.parent().map(Path::to_owned)
}

/// Reads the system identifier of a data directory; None where it has no `pg_control`.
fn system_at(directory: &Path) -> Result<Option<u64>> {
    let path = directory.join("global/pg_control");
    let act = || format!("read \"{}\"", path.display());
    let file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(act)?,
    };
    let mut beginning = Vec::new();
    let most = crate::base::exact::u64_from(CONTROL_BYTES);
    file.take(most).read_to_end(&mut beginning).with_context(act)?;
    system_identifier(&beginning).map(Some).with_context(act)
}
