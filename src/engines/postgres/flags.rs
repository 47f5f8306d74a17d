//! Flags of verbs for PostgreSQL.

use std::time::Duration;

use crate::base::error::Result;
use crate::engines::postgres::{KIND, PostgresSpec};
use crate::engines::{EngineKind, Flags};

/// Options of `backup` for PostgreSQL sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupFlags {
    /// Give way when a statement has waited this long behind the backup, for example 30s [default: never].
    pub max_block: Option<Duration>,
    /// Leave out the passwords of roles, for a role that may not read them.
    pub no_role_passwords: bool,
    /// What is left out.
    pub exclude: Exclude,
}

impl Flags for BackupFlags {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}

/// Options of `backup` for what is left out of PostgreSQL databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclude {
    /// Tables, views, sequences, with partitions and children and what depends on them.
    pub exclude_table: Vec<String>,
    /// Schemas with all that lies in them.
    pub exclude_schema: Vec<String>,
    /// Rows of tables and of their partitions, values of sequences; the definitions come.
    pub exclude_table_data: Vec<String>,
    /// Extensions.
    pub exclude_extension: Vec<String>,
    /// Large objects.
    pub exclude_large_objects: bool,
}

impl Exclude {
    /// Adds the flags to what a source leaves out by its configuration.
    pub fn add_to(&self, source: &mut PostgresSpec) -> Result<()> {
        source.exclude_tables.extend(self.exclude_table.iter().cloned());
        source.exclude_schemas.extend(self.exclude_schema.iter().cloned());
        source
            .exclude_table_data
            .extend(self.exclude_table_data.iter().cloned());
        source.exclude_extensions.extend(self.exclude_extension.iter().cloned());
        source.exclude_large_objects |= self.exclude_large_objects;
        source.exclusion().check()
    }
}

/// Options of `restore` for PostgreSQL sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreDatabase {
    /// Only these tables (globs; schema.table or table); without --into beside the living ones, in a schema of their own.
    pub table: Vec<String>,
    /// Only these schemas.
    pub schema: Vec<String>,
    /// With --table or --schema: also what they need and the target lacks (types, functions, sequences, parents, referenced
    /// tables, extensions).
    pub with_dependencies: bool,
    /// Definitions, but not the rows, of these tables (globs).
    pub exclude_table_data: Vec<String>,
    /// Definitions only, no rows.
    pub schema_only: bool,
    /// Rows and sequence values only, into tables that are there.
    pub data_only: bool,
    /// Objects belong to the role that restores.
    pub no_owner: bool,
    /// Leave rights (GRANT, REVOKE) out.
    pub no_privileges: bool,
    /// A role of the backup by its name here.
    pub role_map: Vec<(String, String)>,
    /// A tablespace of the backup by its name here; an empty NEW is the database's own.
    pub tablespace_map: Vec<(String, String)>,
    /// Encoding of the database that is made, as UTF8; what is stored is converted [default: the source's].
    pub encoding: Option<String>,
    /// Locale of the database that is made, as C.UTF-8 [default: the source's].
    pub locale: Option<String>,
    /// Where the locale comes from: libc, icu (with --icu-locale) or builtin.
    pub locale_provider: Option<String>,
    /// With --locale-provider icu: its locale.
    pub icu_locale: Option<String>,
    /// Create roles that are missing.
    pub create_roles: bool,
    /// Name a table that cannot be loaded, bring everything else back, and end with exit code 2.
    pub keep_going: bool,
    /// Where definitions find what they name without a schema [default: nowhere, then as the source's sessions did].
    pub search_path: Vec<String>,
    /// Read every restored table again and compare its digest with the backup's.
    pub verify_rows: bool,
    /// With --clean: drop the replaced database instead of keeping it under a dated name.
    pub drop_old: bool,
}

impl Flags for RestoreDatabase {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn is_given(&self) -> bool {
        *self != Self::default()
    }
}
