//! The keys of a source of kind `postgres-physical`.

use std::path::PathBuf;
use std::time::Duration;

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
        /// Whether `wirevault run` runs a job of the source at once where no base backup leads to the log that is received.
        auto_base: bool = Key::flag().default("true").example("false"),
        /// The replication slot of the log; without it, `wirevault_` and the beginning of the repository's ID.
        slot: Option<String> = Key::text().example("\"wirevault\""),
        /// How far back the log is kept for recovery to any moment; `prune` removes what is older than the base backup before that.
        log_window: Option<Duration> = Key::duration().default("\"7d\"").example("\"30d\""),
        /// The server's data directory on this host: where `restore` and `recover` bring it back, unless told otherwise.
        data_directory: Option<PathBuf> = Key::path().example("\"/var/lib/postgresql/18/main\""),
        /// How the backup's checkpoint comes: `fast` at once, `spread` over minutes, which keeps the server's disk quieter.
        checkpoint: Checkpoint = Key::word(Checkpoint::WORDS).default("\"fast\"").example("\"spread\""),
        /// How the server sums files in its backup manifest: `crc32c`, or `sha256`, which costs it a core.
        manifest_checksums: ManifestChecksums = Key::word(ManifestChecksums::WORDS).default("\"crc32c\"").example("\"sha256\""),
    }
}
