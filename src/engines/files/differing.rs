//! What the live tree has otherwise than the backup: counted, and the first of it named, so that a restore without
//! leave to overwrite can refuse before it touches anything.

use std::path::Path;

use super::beneath::show;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;

/// Paths that are named; the rest is counted.
const NAMED: usize = 5;

/// Live things that the backup has otherwise.
#[derive(Debug, Default)]
pub(crate) struct Differing {
    count: u64,
    first: Vec<String>,
}

impl Differing {
    pub(crate) fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("\"{}\"", show(path)));
        }
    }

    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// Fails if anything differs.
    pub(super) fn refuse(&self, root: &Path) -> Result<()> {
        self.refuse_as(root, ("differs from the backup", "differ from the backup"))
    }

    /// Fails if there is anything, in other words for one and for several.
    pub(crate) fn refuse_as(&self, root: &Path, (one, several): (&str, &str)) -> Result<()> {
        if !self.any() {
            return Ok(());
        }
        let named = self.first.join(", ");
        let more = self.count - exact::u64_from(self.first.len());
        let what = match (self.count, more) {
            (1, _) => format!("{named} {one}"),
            (count, 0) => format!("{count} files {several}: {named}"),
            (count, more) => format!("{count} files {several}: {named} and {more} more"),
        };
        Err(Error::new(ErrorKind::AlreadyExists, what).with_hint(format!(
            "Nothing in \"{}\" was changed. Add --clean to replace them (the previous files are kept), --path GLOB to \
             restore only missing files, or --into DIRECTORY to restore elsewhere.",
            root.display()
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_are_named_and_the_rest_counted() {
        let mut differing = Differing::default();
        differing.refuse(Path::new("/x")).unwrap();
        differing.add(b"a");
        let error = differing.refuse(Path::new("/x")).unwrap_err();
        assert_eq!(error.message(), "\"a\" differs from the backup");
        for name in ["b", "c\n", "d", "e", "f", "g"] {
            differing.add(name.as_bytes());
        }
        let error = differing.refuse(Path::new("/x")).unwrap_err();
        assert_eq!(
            error.message(),
            "7 files differ from the backup: \"a\", \"b\", \"c\\n\", \"d\", \"e\" and 2 more"
        );
        assert!(error.hint().unwrap().contains("--clean"));
    }
}
