//! The keys of a source of kind `files`.

use std::path::PathBuf;

use crate::base::keys::{Key, section};

section! {
    /// A tree of files ([files](files.md)).
    pub struct FilesKeys {
        /// The directory, or a single file.
        root: PathBuf = Key::path().required().example("\"/etc/app\"").variable("BACKUP_PATHS"),
        /// What to back up, as patterns; default: everything.
        include: Vec<String> = Key::texts().example("[\"config/\", \".env\"]"),
        /// What to exclude, as patterns.
        exclude: Vec<String> = Key::texts().example("[\"*.log\", \"node_modules\"]"),
        /// Exclude other file systems mounted below the root.
        one_file_system: bool = Key::flag(),
        /// Exclude directories that contain a file with one of these names, except for that file.
        exclude_if_present: Vec<String> = Key::texts().example("[\".nobackup\"]"),
        /// Exclude directories that contain a `CACHEDIR.TAG`, except for the tag.
        exclude_caches: bool = Key::flag(),
        /// Accept a source that has become empty, which otherwise fails: its disk may not be mounted.
        allow_empty: bool = Key::flag(),
        /// Allow a restore to create device nodes.
        devices: bool = Key::flag(),
    }
}
