//! What a restore would meet at its place, found out without changing anything there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::restore::{SqliteRestoreOptions, check_space, facts_of};
use super::swap::{in_use, parent};
use super::{inuse, lock, open};
use crate::archive::ArchiveReader;
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};

/// What a restore would do; whatever would refuse it is an error instead.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SqlitePlan {
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes that are free where it goes.
    pub free_bytes: u64,
    /// Whether a file is there, which would be kept beside.
    pub replaces: bool,
    /// Processes that could not be looked into: whether one of them has that file open is not known.
    pub hidden_processes: usize,
}

/// Looks at a place: space, rights, other restores, and who has the database open.
pub async fn plan(reader: &ArchiveReader, target: &Path, options: &SqliteRestoreOptions) -> Result<SqlitePlan> {
    let facts = facts_of(reader).await?;
    let bytes = facts.page_size.saturating_mul(facts.page_count);
    let (target, replace) = (target.to_path_buf(), options.replace);
    blocking(move || look(&target, bytes, replace)).await
}

fn look(target: &Path, bytes: u64, replace: bool) -> Result<SqlitePlan> {
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
    let place = existing(parent(&target));
    let free_bytes = check_space(&place, bytes)?;
    may_write(&place)?;
    let meta = match target.symlink_metadata() {
        Ok(meta) => meta,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(SqlitePlan {
                bytes,
                free_bytes,
                replaces: false,
                hidden_processes: 0,
            });
        }
        Err(cause) => return Err(cause).with_context(|| format!("look at \"{}\"", target.display())),
    };
    if !replace {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("\"{}\" exists", target.display()),
        ));
    }
    let id = (meta.dev(), meta.ino());
    let seen = inuse::who_has_open(id);
    let locked = lock::is_held(&target, id);
    open::close_unused(id);
    if !seen.holders.is_empty() || locked? {
        return Err(in_use(&seen.holders));
    }
    Ok(SqlitePlan {
        bytes,
        free_bytes,
        replaces: true,
        hidden_processes: seen.hidden,
    })
}

/// Returns the nearest directory that is there; a restore makes those below it.
fn existing(directory: &Path) -> PathBuf {
    let mut nearest = directory;
    while !nearest.exists() {
        nearest = parent(nearest);
        if nearest == Path::new(".") || nearest == Path::new("/") {
            break;
        }
    }
    nearest.to_path_buf()
}

fn may_write(directory: &Path) -> Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|cause| Error::from(std::io::Error::from(cause)))
        .with_context(|| format!("write into \"{}\"", directory.display()))
}
