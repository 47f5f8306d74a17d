//! Which paths a walk takes: include and exclude globs, gitignore-like.
//!
//! | pattern | meaning |
//! | --- | --- |
//! | `config/`, include `config/**` | the directory and everything below it |
//! | include `docker-compose*.yml`, `.env` | at the root: an include says where to look, so it never makes the walk search everywhere |
//! | include `**/*.sql` | at any depth |
//! | exclude `*.log`, `node_modules` | without an inner slash: at any depth |
//! | exclude `/tmp`, `a/b` | with one: from the root |
//! | exclude `cache/**` | what lies in the directory, not the directory |
//! | `/srv/data/tmp`, where the root is `/srv/data` | `/tmp` |
//! | `caf\xe9` | bytes by number, as notes show names that are no UTF-8 |
//!
//! A pattern that begins with `!` is refused. An include or exclude that matches a directory takes its whole tree. Exclude wins. `*` and `?` stop at `/`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::spelling;
use super::tags::Tags;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::base::error::{Error, Result};
use crate::base::exact;

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Patterns {
    includes: Vec<String>,
    excludes: Vec<String>,
    include: GlobSet,
    /// Which pattern each glob of `include` is of.
    include_numbers: Vec<usize>,
    include_dirs_only: Vec<bool>,
    /// Directories above something that may be included.
    above: GlobSet,
    exclude: GlobSet,
    exclude_dirs_only: Vec<bool>,
    tags: Tags,
}

/// A pattern that matched, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hit {
    /// Of the includes.
    Include(usize),
    /// Of the excludes.
    Exclude(usize),
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
        let mut include_numbers = Vec::new();
        for (number, pattern) in include.iter().enumerate() {
            let (body, dirs_only) = whole_tree(body(pattern)?);
            // A file called `notes[1].txt` is found by its name too.
            let exact = spelling::literal(OsStr::new(body));
            let exact = (exact != body).then_some(exact);
            for body in std::iter::once(body).chain(exact.as_deref()) {
                includes.add(glob(body, pattern)?);
                include_numbers.push(number);
                include_dirs_only.push(dirs_only);
                add_above(&mut above, body, pattern)?;
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
            excludes: exclude.to_vec(),
            tags: Tags::default(),
            include: build(includes)?,
            include_numbers,
            include_dirs_only,
            above: build(above)?,
            exclude: build(excludes)?,
            exclude_dirs_only,
        })
    }

    /// Leaves directories with these marks out, too.
    #[must_use]
    pub(crate) fn with_tags(self, tags: Tags) -> Self {
        Self { tags, ..self }
    }

    /// Returns the marks of directories that are left out.
    pub(crate) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Returns the include patterns as they were given.
    pub fn includes(&self) -> &[String] {
        &self.includes
    }

    /// Returns the exclude patterns as they were given.
    pub fn excludes(&self) -> &[String] {
        &self.excludes
    }

    /// Judges one path below the root. `inside` tells that a directory above it was taken. `hit` learns what matched.
    pub(crate) fn judge(&self, path: &[u8], is_dir: bool, inside: bool, hit: &mut dyn FnMut(Hit)) -> Verdict {
        let name = Name::new(path);
        let mut left = false;
        for number in name.matches(&self.exclude) {
            if is_dir || !self.exclude_dirs_only.get(number).copied().unwrap_or(false) {
                left = true;
                hit(Hit::Exclude(number));
            }
        }
        if left {
            return Verdict::Leave;
        }
        if inside || self.includes.is_empty() {
            return Verdict::Take;
        }
        let mut taken = false;
        for number in name.matches(&self.include) {
            if is_dir || !self.include_dirs_only.get(number).copied().unwrap_or(false) {
                taken = true;
                hit(Hit::Include(
                    self.include_numbers.get(number).copied().unwrap_or(number),
                ));
            }
        }
        if taken {
            Verdict::Take
        } else if is_dir && !name.matches(&self.above).is_empty() {
            Verdict::Descend
        } else {
            Verdict::Leave
        }
    }

    /// Returns whether a walk never comes into a directory: it, or one above it, is left out.
    pub(crate) fn never_enters(&self, path: &[u8]) -> bool {
        let mut inside = false;
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            match self.judge(
                exact::part(path, ..end, "a slash or the end stands there"),
                true,
                inside,
                &mut |_| {},
            ) {
                Verdict::Take => inside = true,
                Verdict::Descend => {}
                Verdict::Leave => return true,
            }
        }
        false
    }

    /// Judges a path alone, with every directory above it: for the selection of a restore.
    pub(crate) fn selects(&self, path: &[u8], is_dir: bool) -> bool {
        let mut inside = false;
        for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i) {
            match self.judge(
                exact::part(path, ..end, "a slash or the end stands there"),
                true,
                inside,
                &mut |_| {},
            ) {
                Verdict::Take => inside = true,
                Verdict::Descend => {}
                Verdict::Leave => return false,
            }
        }
        self.judge(path, is_dir, inside, &mut |_| {}) == Verdict::Take
    }
}

/// A path as it is, and, where it is no UTF-8, as text in which its bytes can be named.
struct Name<'a> {
    path: &'a Path,
    text: Option<String>,
}

impl<'a> Name<'a> {
    fn new(path: &'a [u8]) -> Self {
        Self {
            path: Path::new(OsStr::from_bytes(path)),
            text: std::str::from_utf8(path).is_err().then(|| spelling::text(path)),
        }
    }

    fn matches(&self, set: &GlobSet) -> Vec<usize> {
        let mut found = set.matches(self.path);
        if let Some(text) = &self.text {
            found.extend(set.matches(text));
        }
        found
    }
}

/// Adds the directories above what a pattern includes.
fn add_above(above: &mut GlobSetBuilder, body: &str, pattern: &str) -> Result<()> {
    let mut prefix = String::new();
    for component in body.split('/') {
        let directory = prefix.trim_end_matches('/');
        if !directory.is_empty() {
            above.add(glob(directory, pattern)?);
        }
        if component == "**" {
            above.add(glob(&format!("{prefix}**"), pattern)?);
            break;
        }
        prefix.push_str(component);
        prefix.push('/');
    }
    Ok(())
}

/// Takes `config/**` of an include for `config/`: whoever wants all that is in a directory wants the directory.
fn whole_tree((body, dirs_only): (&str, bool)) -> (&str, bool) {
    let mut whole = body;
    while let Some(above) = whole.strip_suffix("/**") {
        whole = above;
    }
    if whole == body || whole.rsplit('/').next() == Some("**") {
        (body, dirs_only)
    } else {
        (whole, true)
    }
}

fn body(pattern: &str) -> Result<(&str, bool)> {
    let dirs_only = pattern.ends_with('/');
    let body = pattern.strip_prefix("./").unwrap_or(pattern).trim_matches('/');
    if body.is_empty() || body.split('/').any(|c| c.is_empty() || c == "..") {
        return Err(
            Error::invalid(format!("file pattern {pattern:?} matches nothing below the root")).with_hint(
                "Patterns are relative to the root of the source: `config/`, `*.log`, `docker-compose*.yml`.",
            ),
        );
    }
    Ok((body, dirs_only))
}

fn glob(text: &str, pattern: &str) -> Result<Glob> {
    GlobBuilder::new(&spelling::compiled(text))
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
    fn a_directory_with_two_stars_is_its_whole_tree() {
        for pattern in ["nginx/**", "nginx/**/**", "/nginx/**", "nginx/**/"] {
            let p = patterns(&[pattern], &[]);
            assert!(p.selects(b"nginx", true), "{pattern}");
            assert!(p.selects(b"nginx/sites/x", false), "{pattern}");
            assert!(!p.selects(b"other", true) && !p.selects(b"nginx", false), "{pattern}");
        }
        let p = patterns(&["lib/**/x"], &[]);
        assert!(p.selects(b"lib/q/x", false) && !p.selects(b"lib/q", true));
        assert!(patterns(&["**"], &[]).selects(b"a", false));
        assert!(patterns(&["**/deep/**"], &[]).selects(b"a/deep/b", false));
        // An exclude leaves the directory itself.
        let p = patterns(&[], &["cache/**"]);
        assert!(p.selects(b"cache", true) && !p.selects(b"cache/x", false));
    }

    #[test]
    fn names_that_are_no_utf8_are_chosen_by_number_or_by_wildcards() {
        for pattern in ["caf\\xe9", "caf?", "caf*", "*\\xe9"] {
            assert!(patterns(&[pattern], &[]).selects(b"caf\xe9", false), "{pattern}");
        }
        for pattern in ["caf\\xe8", "caf", "cafe"] {
            assert!(!patterns(&[pattern], &[]).selects(b"caf\xe9", false), "{pattern}");
        }
        assert!(patterns(&["d\\xff/in"], &[]).selects(b"d\xff/in", false));
        assert!(!patterns(&[], &["d\\xff/"]).selects(b"d\xff/in", false));
    }

    #[test]
    fn a_name_that_looks_like_a_pattern_is_found_by_itself() {
        for name in ["notes[1].txt", "d[x]/a{b}*?", "back\\slash"] {
            let p = patterns(&[name], &[]);
            assert!(p.selects(name.as_bytes(), false), "{name}");
        }
        let mut hits = Vec::new();
        let p = patterns(&["x*", "notes[1].txt"], &[]);
        p.judge(b"notes[1].txt", false, false, &mut |hit| hits.push(hit));
        assert_eq!(hits, [Hit::Include(1)]);
    }

    #[test]
    fn bad_patterns_are_named() {
        assert!(Patterns::new(&["[".to_owned()], &[]).is_err());
        assert!(Patterns::new(&["../x".to_owned()], &[]).is_err());
        assert!(Patterns::new(&["/".to_owned()], &[]).is_err());
    }
}
