//! The keys of a source of kind `sqlite`.

use std::path::PathBuf;

use super::Method;
use crate::base::keys::{Key, Word, section, words};

words! { Method {
    "auto" => Auto,
    "online-backup" => OnlineBackup,
} }

section! {
    /// SQLite databases ([SQLite](sqlite.md)).
    pub struct SqliteKeys {
        /// The database file; or a pattern or directory, for every database found there at the time; or a list of
        /// these.
        path: Vec<PathBuf> = Key::one_or_more()
            .required()
            .example("[\"/var/lib/app/state.db\", \"/var/lib/app/tenants/*.db\"]")
            .variable("DB_PATH"),
        /// How to read it: `auto` streams pages of databases in WAL mode and copies others, `online-backup` always
        /// copies.
        method: Method = Key::word(Method::WORDS).default("\"auto\"").example("\"online-backup\""),
    }
}
