//! Paths in documents: as text, as messages show them. A name need not be UTF-8, and serde writes no such path: its bytes become
//! replacement characters, and the rest of the document is whole.

use std::path::{Path, PathBuf};

use serde::Serializer;

/// Writes a path.
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Writes a path, or that there is none.
pub fn optional<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.collect_str(&path.display()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[derive(serde::Serialize)]
    struct Document {
        #[serde(serialize_with = "path")]
        into: PathBuf,
        #[serde(serialize_with = "optional")]
        previous: Option<PathBuf>,
        #[serde(serialize_with = "optional")]
        kept: Option<PathBuf>,
    }

    #[test]
    fn a_path_that_is_not_utf8_stands_in_a_document() {
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/srv/caf\xe9"));
        let document = Document {
            into: odd.clone(),
            previous: Some(odd),
            kept: None,
        };
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            "{\"into\":\"/srv/caf\u{fffd}\",\"previous\":\"/srv/caf\u{fffd}\",\"kept\":null}"
        );
    }
}
