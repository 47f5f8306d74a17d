//! The keys of a source of kind `postgres-physical`.

use std::path::PathBuf;

use super::{Checkpoint, ManifestChecksums};
use crate::base::keys::{Key, Word, section, words};

words! { Checkpoint {
    "fast" => Fast,
    "spread" => Spread,
} }

words! { ManifestChecksums {
    "crc32c" => Crc32c,
    "sha256" => Sha256,
} }

section! {
    /// A whole PostgreSQL cluster as a base backup, over the replication protocol ([base backups](postgres-physical.md)).
    pub struct PhysicalKeys {
        /// The server, as `postgres-physical://user@host:port?options`, without a database; a password is better kept in a file.
        url: String = Key::url().required().example("\"postgres-physical://backup@127.0.0.1:5432\""),
        /// A file whose first line is the password; without it `PGPASSWORD` and `~/.pgpass` (database `replication`) are asked.
        password_file: Option<PathBuf> = Key::path().example("\"/etc/wirevault/replication.password\""),
        /// Whether `wirevault run` receives the server's write-ahead log into the repositories of the source's jobs ([log](log.md)).
        log: bool = Key::flag(),
        /// The replication slot of the log; without it, `wirevault_` and the beginning of the repository's ID.
        slot: Option<String> = Key::text().example("\"wirevault\""),
        /// How the backup's checkpoint comes: `fast` at once, `spread` over minutes, which keeps the server's disk quieter.
        checkpoint: Checkpoint = Key::word(Checkpoint::WORDS).default("\"fast\"").example("\"spread\""),
        /// How the server sums files in its backup manifest: `crc32c`, or `sha256`, which costs it a core.
        manifest_checksums: ManifestChecksums = Key::word(ManifestChecksums::WORDS).default("\"crc32c\"").example("\"sha256\""),
    }
}
