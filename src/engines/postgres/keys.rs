//! The keys of a source of kind `postgres`.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::keys::{Key, section};

section! {
    /// A PostgreSQL database, dumped over its own protocol ([PostgreSQL](postgres.md)).
    pub struct PostgresKeys {
        /// The database, as `postgres://user@host:port/database?options` or libpq keywords; better keep the password in
        /// a file.
        url: String = Key::url()
            .required()
            .example("\"postgres://backup@127.0.0.1:5432/app\"")
            .variable("DATABASE_URL"),
        /// A file whose first line is the password; default: `PGPASSWORD` and `~/.pgpass`.
        password_file: Option<PathBuf> = Key::path()
            .example("\"/etc/wirevault/app.password\"")
            .variable("POSTGRES_PASSWORD_FILE"),
        /// Number of connections that read tables in parallel.
        parallel: Option<usize> = Key::integer(1, 32).default("4").example("2"),
        /// Abort the backup when another session has waited this long for one of its locks; default: never.
        max_block: Option<Duration> = Key::duration().example("\"30s\""),
        /// Omit role passwords, for a role that may not read them.
        no_role_passwords: bool = Key::flag(),
        /// Tables, views and sequences to exclude, with their dependents: psql patterns.
        exclude_tables: Vec<String> = Key::texts().example("[\"audit.*\"]"),
        /// Schemas to exclude, with everything in them.
        exclude_schemas: Vec<String> = Key::texts().example("[\"scratch\"]"),
        /// Tables and sequences to back up without their rows and values.
        exclude_table_data: Vec<String> = Key::texts().example("[\"public.sessions\"]"),
        /// Extensions to exclude.
        exclude_extensions: Vec<String> = Key::texts().example("[\"pg_cron\"]"),
        /// Exclude large objects.
        exclude_large_objects: bool = Key::flag(),
    }
}
