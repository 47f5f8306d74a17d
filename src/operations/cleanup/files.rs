//! Plain local files that are older than a rule allows.
//!
//! A rule reaches regular files below its directory whose path matches and
//! whose modification is older than `keep`. Directories are opened one below the other without following links, and a file
//! is looked at through the directory it is removed from, right before that, so nothing outside the directory can be reached
//! and a file that was written meanwhile stays. Whatever is mounted below the directory is left alone, and so is what stands
//! behind the walls ([`super::walls`]): a directory that holds `repository.json` is never entered.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::walls::{Bounds, Closed, MARK, Walls};
use super::{Cleaned, MAX_NAMED};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::config::CleanupConfig;

/// Directories below each other at most.
const MAX_DEPTH: usize = 64;

struct Walk<'a> {
    globs: GlobSet,
    before: Timestamp,
    device: u64,
    bounds: Bounds,
    delete: bool,
    found: &'a mut Cleaned,
}

/// Applies one rule; blocks.
pub(super) fn clean(
    rule: &CleanupConfig,
    path: &Path,
    patterns: &[String],
    walls: &Walls,
    now: Timestamp,
    delete: bool,
) -> Result<Cleaned> {
    let section = || format!("[cleanup.{}]", rule.name);
    let mut found = Cleaned {
        rule: rule.name.clone(),
        deleted: delete,
        ..Cleaned::default()
    };
    // An age beyond all time spares everything.
    let before = now.checked_sub(rule.keep).unwrap_or(Timestamp::MIN);
    let globs = globs(patterns).with_context(section)?;
    let bounds = walls.check(path, &globs).with_context(section)?;
    let root = rustix::fs::open(path, directory(), Mode::empty())
        .map_err(std::io::Error::from)
        .with_context(|| format!("open \"{}\"", path.display()))
        .with_context(section)?;
    let stat = rustix::fs::fstat(&root).map_err(std::io::Error::from);
    let stat = stat.context("inspect the directory").with_context(section)?;
    if !bounds.is_root(&stat) {
        let moved = Error::new(
            ErrorKind::PreconditionFailed,
            format!("\"{}\" was replaced in the meantime", path.display()),
        );
        return Err(moved).with_context(section);
    }
    let mut walk = Walk {
        globs,
        before,
        device: stat.st_dev,
        bounds,
        delete,
        found: &mut found,
    };
    walk.directory(&root, Path::new(""), 0);
    found.counted = format!("{} files", found.items);
    Ok(found)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A pattern without a slash is meant at any depth.
fn globs(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let wide = if pattern.contains('/') {
            pattern.trim_start_matches('/').to_owned()
        } else {
            format!("**/{pattern}")
        };
        let glob = GlobBuilder::new(&wide).literal_separator(true).build();
        set.add(glob.map_err(|e| Error::invalid(format!("invalid pattern \"{pattern}\"")).with_cause(e))?);
    }
    set.build()
        .map_err(|e| Error::invalid("invalid patterns").with_cause(e))
}

impl Walk<'_> {
    fn directory(&mut self, fd: &OwnedFd, path: &Path, depth: usize) {
        match rustix::fs::statat(fd, MARK, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => {}
            Ok(_) => return self.spare(path, "holds a repository"),
            Err(error) => return self.failed(path, "look for a repository in", error),
        }
        let entries = match Dir::read_from(fd) {
            Ok(entries) => entries,
            Err(error) => return self.failed(path, "read", error),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.failed(path, "read", error),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.entry(fd, name, &path.join(name), depth);
        }
    }

    fn entry(&mut self, parent: &OwnedFd, name: &OsStr, path: &PathBuf, depth: usize) {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return self.failed(path, "look at", error),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if stat.st_dev == self.device && depth < MAX_DEPTH => {
                match self.bounds.closed(path, &stat) {
                    Some(Closed::Spared(what)) => {
                        let why = format!("is {what}");
                        return self.spare(path, &why);
                    }
                    Some(Closed::Mount) => return,
                    None => {}
                }
                match rustix::fs::openat(parent, name, directory(), Mode::empty()) {
                    Ok(fd) => self.directory(&fd, path, depth + 1),
                    Err(error) => self.failed(path, "open", error),
                }
            }
            FileType::RegularFile if self.globs.is_match(path) => {
                if let Some(what) = self.bounds.spared(&stat) {
                    let why = format!("belongs to {what}");
                    return self.spare(path, &why);
                }
                if !self.is_old(&stat) {
                    self.found.kept += 1;
                } else if !self.delete || self.remove(parent.as_fd(), name, path) {
                    self.found.items += 1;
                    self.found.bytes += exact::saturating_u64(stat.st_size);
                    if self.found.paths.len() < MAX_NAMED {
                        self.found.paths.push(path.display().to_string());
                    }
                }
            }
            _ => {}
        }
    }

    fn is_old(&self, stat: &Stat) -> bool {
        Timestamp::from_second(stat.st_mtime).is_ok_and(|modified| modified < self.before)
    }

    fn remove(&mut self, parent: impl AsFd, name: &OsStr, path: &Path) -> bool {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => true,
            Err(error) => {
                self.failed(path, "remove", error);
                false
            }
        }
    }

    fn spare(&mut self, path: &Path, why: &str) {
        if self.found.spared.len() < MAX_NAMED {
            self.found.spared.push(format!("\"{}\" {why}", path.display()));
        }
    }

    fn failed(&mut self, path: &Path, act: &str, error: rustix::io::Errno) {
        if self.found.failures.len() < MAX_NAMED {
            let error = std::io::Error::from(error);
            self.found
                .failures
                .push(format!("{act} \"{}\": {error}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::config::CleanupScope;

    #[test]
    fn only_old_matching_regular_files_below_the_directory_go() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join("logs").join(name);
        std::fs::create_dir_all(path("deep")).unwrap();
        std::fs::create_dir(root.path().join("outside")).unwrap();
        let old = SystemTime::now() - Duration::from_secs(40 * 86_400);
        let make = |path: PathBuf, aged: bool| {
            let file = std::fs::File::create(&path).unwrap();
            if aged {
                file.set_modified(old).unwrap();
            }
        };
        make(path("old.log"), true);
        make(path("deep/old.log"), true);
        make(path("new.log"), false);
        make(path("old.txt"), true);
        make(root.path().join("outside/old.log"), true);
        std::os::unix::fs::symlink(root.path().join("outside"), path("link")).unwrap();
        std::os::unix::fs::symlink(root.path().join("outside/old.log"), path("link.log")).unwrap();
        let rule = CleanupConfig {
            name: "logs".into(),
            reach: CleanupScope::Files {
                path: root.path().join("logs"),
                globs: vec!["*.log".into()],
            },
            keep: Duration::from_secs(30 * 86_400),
            delete: false,
            timing: crate::policy::schedule::Timing::default(),
        };
        let clean = |delete: bool| {
            let (path, patterns) = (root.path().join("logs"), ["*.log".to_owned()]);
            clean(&rule, &path, &patterns, &Walls::default(), Timestamp::now(), delete).unwrap()
        };
        let dry = clean(false);
        assert_eq!((dry.items, dry.kept, dry.failures.len()), (2, 1, 0), "{dry:?}");
        assert!(path("old.log").exists());
        let done = clean(true);
        assert_eq!((done.items, done.kept), (2, 1), "{done:?}");
        assert!(!path("old.log").exists() && !path("deep/old.log").exists());
        assert!(path("new.log").exists() && path("old.txt").exists() && path("link.log").is_symlink());
        assert!(root.path().join("outside/old.log").exists());
    }
}
