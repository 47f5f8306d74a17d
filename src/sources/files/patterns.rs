//! Which paths a walk takes: include and exclude globs, gitignore-like.
//!
//! | pattern | meaning |
//! | --- | --- |
//! | `config/` | the directory and everything below it |
//! | include `docker-compose*.yml`, `.env` | at the root: an include says where to look, so it never makes the walk search everywhere |
//! | include `**/*.sql` | at any depth |
//! | exclude `*.log`, `node_modules` | without an inner slash: at any depth |
//! | exclude `/tmp`, `a/b` | with one: from the root |
//!
//! An include or exclude that matches a directory takes its whole tree. Exclude wins. `*` and `?` stop at `/`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, Result};

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Patterns {
    includes: Vec<String>,
    include: GlobSet,
    include_dirs_only: Vec<bool>,
    /// Directories above something that may be included.
    above: GlobSet,
    exclude: GlobSet,
    exclude_dirs_only: Vec<bool>,
}

/// What the patterns say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it, and everything below it that is not excluded.
    Take,
    /// A directory that is only looked into.
    Descend,
    /// Leave it.
    Leave,
}

impl Patterns {
    /// Compiles patterns. No include at all means everything.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let mut includes = GlobSetBuilder::new();
        let mut above = GlobSetBuilder::new();
        let mut include_dirs_only = Vec::new();
        for pattern in include {
            let (body, dirs_only) = body(pattern)?;
            includes.add(glob(body, pattern)?);
            include_dirs_only.push(dirs_only);
            let mut prefix = String::new();
            for component in body.split('/') {
                if component == "**" {
                    above.add(glob(&format!("{prefix}**"), pattern)?);
                    break;
                }
                if !prefix.is_empty() {
                    above.add(glob(prefix.trim_end_matches('/'), pattern)?);
                }
                prefix.push_str(component);
                prefix.push('/');
            }
        }
        let mut excludes = GlobSetBuilder::new();
        let mut exclude_dirs_only = Vec::new();
        for pattern in exclude {
            let (body, dirs_only) = body(pattern)?;
            let anchored = pattern.trim_end_matches('/').contains('/');
            excludes.add(if anchored {
                glob(body, pattern)?
            } else {
                glob(&format!("**/{body}"), pattern)?
            });
            exclude_dirs_only.push(dirs_only);
        }
        let build = |set: GlobSetBuilder| {
            set.build()
                .map_err(|e| Error::invalid("unable to compile file patterns").with_cause(e))
        };
        Ok(Self {
            includes: include.to_vec(),
            include: build(includes)?,
            include_dirs_only,
            above: build(above)?,
            exclude: build(excludes)?,
            exclude_dirs_only,
        })
    }

    /// Returns the include patterns as they were given.
    pub fn includes(&self) -> &[String] {
        &self.includes
    }

    /// Judges one path below the root. `inside` tells that a directory above it was taken. `hit` learns the numbers of
    /// includes that matched.
    pub(crate) fn judge(&self, path: &[u8], is_dir: bool, inside: bool, hit: &mut dyn FnMut(usize)) -> Verdict {
        let path = Path::new(OsStr::from_bytes(path));
        if self
            .exclude
            .matches(path)
            .iter()
            .any(|i| is_dir || !self.exclude_dirs_only.get(*i).copied().unwrap_or(false))
        {
            return Verdict::Leave;
        }
        if inside || self.includes.is_empty() {
            return Verdict::Take;
        }
        let mut taken = false;
        for number in self.include.matches(path) {
            if is_dir || !self.include_dirs_only.get(number).copied().unwrap_or(false) {
                taken = true;
                hit(number);
            }
        }
        if taken {
            Verdict::Take
        } else if is_dir && self.above.is_match(path) {
            Verdict::Descend
        } else {
            Verdict::Leave
        }
    }

    /// Judges a path alone, with every directory above it: for the selection of a restore.
    pub(crate) fn selects(&self, path: &[u8], is_dir: bool) -> bool {
        let mut inside = false;
        for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i) {
            match self.judge(path.get(..end).unwrap_or_default(), true, inside, &mut |_| {}) {
                Verdict::Take => inside = true,
                Verdict::Descend => {}
                Verdict::Leave => return false,
            }
        }
        self.judge(path, is_dir, inside, &mut |_| {}) == Verdict::Take
    }
}

fn body(pattern: &str) -> Result<(&str, bool)> {
    let dirs_only = pattern.ends_with('/');
    let body = pattern.strip_prefix("./").unwrap_or(pattern).trim_matches('/');
    if body.is_empty() || body.split('/').any(|c| c.is_empty() || c == "..") {
        return Err(
            Error::invalid(format!("file pattern {pattern:?} names nothing below the root")).with_hint(
                "Patterns are relative to the root of the source: `config/`, `*.log`, `docker-compose*.yml`.",
            ),
        );
    }
    Ok((body, dirs_only))
}

fn glob(text: &str, pattern: &str) -> Result<Glob> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|e| Error::invalid(format!("invalid file pattern {pattern:?}")).with_cause(e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Patterns::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn includes_are_anchored_and_excludes_match_at_any_depth() {
        let p = patterns(
            &[".env", "config/", "docker-compose*.yml", "a/b/c"],
            &["*.log", "node_modules", "/config/tmp"],
        );
        for (path, dir, wanted) in [
            (".env", false, true),
            ("sub/.env", false, false),
            ("config", false, false),
            ("config", true, true),
            ("config/deep/file", false, true),
            ("config/deep/x.log", false, false),
            ("config/tmp", true, false),
            ("config/tmp/file", false, false),
            ("config/x/node_modules/y", false, false),
            ("docker-compose.prod.yml", false, true),
            ("x/docker-compose.yml", false, false),
            ("a", true, false),
            ("a/b/c", false, true),
            ("a/b/c/d", false, true),
        ] {
            assert_eq!(p.selects(path.as_bytes(), dir), wanted, "{path}");
        }
        assert_eq!(p.judge(b"a", true, false, &mut |_| {}), Verdict::Descend);
        assert_eq!(p.judge(b"b", true, false, &mut |_| {}), Verdict::Leave);
    }

    #[test]
    fn a_double_star_include_looks_everywhere() {
        let p = patterns(&["**/*.sql", "lib/**/x"], &[]);
        assert!(p.selects(b"a.sql", false));
        assert!(p.selects(b"a/b/c.sql", false));
        assert!(p.selects(b"lib/q/x", false));
        assert!(!p.selects(b"a/b", false));
    }

    #[test]
    fn bad_patterns_are_named() {
        assert!(Patterns::new(&["[".to_owned()], &[]).is_err());
        assert!(Patterns::new(&["../x".to_owned()], &[]).is_err());
        assert!(Patterns::new(&["/".to_owned()], &[]).is_err());
    }
}
