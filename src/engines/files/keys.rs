//! The keys of a source of kind `files`.

use std::path::PathBuf;

use crate::base::keys::{Key, section};

section! {
    /// A tree of files ([files](files.md)).
    pub struct FilesKeys {
        /// The directory, or one file.
        root: PathBuf = Key::path().required().example("\"/etc/app\"").variable("BACKUP_PATHS"),
        /// What is taken, as patterns; everything without them.
        include: Vec<String> = Key::texts().example("[\"config/\", \".env\"]"),
        /// What is left out, as patterns.
        exclude: Vec<String> = Key::texts().example("[\"*.log\", \"node_modules\"]"),
        /// Leaves out other file systems that are mounted below the root.
        one_file_system: bool = Key::flag(),
        /// Leaves out a directory that holds a file of one of these names, but for that file.
        exclude_if_present: Vec<String> = Key::texts().example("[\".nobackup\"]"),
        /// Leaves out directories that hold a `CACHEDIR.TAG`, but for the tag.
        exclude_caches: bool = Key::flag(),
        /// Accepts that a source that had entries has none any more, which otherwise fails: it may be a disk that is not mounted.
        allow_empty: bool = Key::flag(),
        /// Lets a restore make device nodes.
        devices: bool = Key::flag(),
    }
}
