//! The keys of a source of kind `postgres`.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::keys::{Key, section};

section! {
    /// A PostgreSQL database, dumped over its own protocol ([PostgreSQL](postgres.md)).
    pub struct PostgresKeys {
        /// The database, as `postgres://user@host:port/database?options` or libpq's keywords; a password is better kept in a file.
        url: String = Key::url()
            .required()
            .example("\"postgres://backup@127.0.0.1:5432/app\"")
            .variable("DATABASE_URL"),
        /// A file whose first line is the password; without it `PGPASSWORD` and `~/.pgpass` are asked.
        password_file: Option<PathBuf> = Key::path()
            .example("\"/etc/wirevault/app.password\"")
            .variable("POSTGRES_PASSWORD_FILE"),
        /// Connections that read tables at once.
        parallel: Option<usize> = Key::integer(1, 32).default("4").example("2"),
        /// How long a statement of others may wait behind the backup before the backup gives way; it never does without this line.
        max_block: Option<Duration> = Key::duration().example("\"30s\""),
        /// Leaves out the passwords of roles, for a role that may not read them.
        no_role_passwords: bool = Key::flag(),
        /// Tables, views and sequences that are left out, with what hangs on them: patterns as of psql.
        exclude_tables: Vec<String> = Key::texts().example("[\"audit.*\"]"),
        /// Schemas that are left out with all that lies in them.
        exclude_schemas: Vec<String> = Key::texts().example("[\"scratch\"]"),
        /// Tables and sequences whose rows and values are left out; the definitions come.
        exclude_table_data: Vec<String> = Key::texts().example("[\"public.sessions\"]"),
        /// Extensions that are left out.
        exclude_extensions: Vec<String> = Key::texts().example("[\"pg_cron\"]"),
        /// Leaves out large objects.
        exclude_large_objects: bool = Key::flag(),
    }
}
