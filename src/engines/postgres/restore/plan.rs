//! What a restore would do, found out before anything is written: sizes, versions, what the target lacks.
//!
//! What would certainly fail (a target that is not empty, a role that may not create databases) is an error here, so that
//! no source of a restore is written when another one's target refuses.

use std::collections::HashSet;
use std::time::Duration;

use super::PostgresRestore;
use super::create_database::Made;
use super::inspect::{TargetState, look};
use super::locale_override::refuse_conversion;
use super::powers::Powers;
use super::replace::names_of;
use super::staging::made;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::printable;
use crate::engines::postgres::backup::snapshot::ServerFacts;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::marks::Why;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::sql::GLOBALS;
use crate::engines::postgres::sql::quote::is_named;

/// A restore before its first write.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RestorePlan {
    /// Database that is made, replaced or restored into.
    pub database: String,
    /// `create`, `fill-empty`, `fill-in-place`, `replace-by-swap` or `in-place`.
    pub way: String,
    /// Version of the server that was backed up.
    pub source_version: String,
    /// Version of the target server.
    pub target_version: String,
    /// Tables whose rows come back.
    pub tables: u64,
    /// Rows of these.
    pub rows: u64,
    /// Bytes of their COPY data.
    pub bytes: u64,
    /// Size of the whole database when it was backed up.
    pub source_database_bytes: u64,
    /// Size of the database that is there now.
    pub present_bytes: u64,
    /// Roles of the backup that the server lacks, by their names here.
    pub missing_roles: Vec<String>,
    /// Tablespaces of the backup's server that this one lacks, by their names here.
    pub missing_tablespaces: Vec<String>,
    /// Extensions that cannot be created on the server.
    pub missing_extensions: Vec<String>,
    /// What of the backup runs code with power: functions in C and in untrusted languages, event triggers.
    pub powers: Vec<String>,
    /// What else to know.
    pub warnings: Vec<String>,
}

impl RestorePlan {
    /// Returns the plan as lines for a person, each with its newline.
    pub fn lines(&self) -> String {
        let way = match self.way.as_str() {
            "create" => "is created: it is loaded under a temporary name and renamed when complete",
            "fill-empty" => "is empty: a new one is loaded under a temporary name and replaces it",
            "replace-by-swap" => "is replaced: a new one is loaded under a temporary name, then both are renamed",
            "fill-in-place" => {
                "is empty and kept, because the role may not replace it: it is loaded in one transaction over one \
                 connection"
            }
            _ => "is kept; the selection is restored into it in one transaction",
        };
        let bytes = crate::base::units::format_bytes;
        let mut text = format!(
            "  database \"{}\" {way}\n  PostgreSQL {} into {}; {} tables, {} rows, {} of rows to send\n",
            self.database,
            self.source_version,
            self.target_version,
            self.tables,
            self.rows,
            bytes(self.bytes)
        );
        text.push_str(&format!(
            "  space: the source's database had {} with its indexes",
            bytes(self.source_database_bytes)
        ));
        if self.present_bytes > 0 {
            text.push_str(&format!("; the existing one has {}", bytes(self.present_bytes)));
        }
        text.push('\n');
        if !self.missing_roles.is_empty() {
            text.push_str(&format!(
                "  missing roles: {} (create them, or --create-roles, --role-map, --no-owner)\n",
                self.missing_roles.join(", ")
            ));
        }
        if !self.missing_tablespaces.is_empty() {
            text.push_str(&format!(
                "  missing tablespaces: {} (create them, or --tablespace-map NAME=; tables that lie there fail otherwise)\n",
                self.missing_tablespaces.join(", ")
            ));
        }
        if !self.missing_extensions.is_empty() {
            text.push_str(&format!(
                "  missing extensions: {} (install them on the server first)\n",
                self.missing_extensions.join(", ")
            ));
        }
        for power in &self.powers {
            text.push_str(&format!("  the backup holds {power}\n"));
        }
        for warning in &self.warnings {
            text.push_str(&format!("  warning: {warning}\n"));
        }
        printable(text)
    }
}

impl PostgresRestore {
    /// Looks at backup and target. Nothing is written.
    pub async fn plan(&self) -> Result<RestorePlan> {
        let act = || format!("inspect target \"{}\"", self.target.location());
        let (contents, toc, facts) = self.open().await?;
        let powers = Powers::of(&contents, &toc).await?.lines();
        let (mut admin, look) = look(&self.target).await.with_context(act)?;
        self.refuse_target(&look)?;
        let in_use = self.goes_in_place(&look) && !look.empty;
        let chosen = Box::pin(self.choose(in_use, &contents, &toc)).await?;
        let facts = facts.unwrap_or_default();
        let number = exact::u64_from;
        let mut plan = RestorePlan {
            database: self.target.database.clone(),
            way: self.way(&look).to_owned(),
            source_version: facts.version.clone(),
            target_version: admin.parameter("server_version").unwrap_or_default().to_owned(),
            tables: number(chosen.tables.iter().filter(|t| t.pieces.is_none()).count()),
            rows: chosen.tables.iter().filter_map(|t| t.record.rows).sum(),
            bytes: chosen.tables.iter().map(|t| t.record.bytes).sum(),
            source_database_bytes: facts.database_bytes,
            present_bytes: look.bytes,
            powers,
            ..RestorePlan::default()
        };
        let in_place = self.goes_in_place(&look);
        let made = self.makes(in_place, &look, &facts);
        refuse_conversion(&mut admin, &facts, &made.encoding).await?;
        if !self.options.locale_override.is_empty() {
            let source = Made::of_facts(&facts).words();
            plan.warnings.push(format!(
                "the database is created with {}; the backup has {source}: a row that cannot be converted ends the \
                 restore, unless --keep-going",
                made.words()
            ));
        }
        if look.exists && !self.options.selection.is_partial() {
            let source = Made::of_facts(&facts);
            let made = self.makes(in_place, &look, &facts);
            if !made.is_like(&source) && self.options.locale_override.is_empty() {
                let (made, source) = (made.words(), source.words());
                plan.warnings
                    .push(format!("the database keeps {made}; the backup has {source}"));
            }
        }
        if !in_place {
            let left = marks::find(&mut admin, Why::Filling, &self.target.database).await;
            for left in left.with_context(act)? {
                let name = left.name;
                plan.warnings.push(if marks::is_in_use(&mut admin, left.oid).await? {
                    format!("\"{name}\" is in use by another restore or session: it is not touched")
                } else {
                    format!("an interrupted restore left \"{name}\": it will be dropped")
                });
            }
        }
        let lacks = facts.lacks.iter();
        plan.warnings
            .extend(lacks.map(|l| format!("not in the backup: {}: {}", l.object, l.message)));
        let (source, target) = (facts.version_num / 10_000, major(&plan.target_version));
        if source > target && target > 0 {
            plan.warnings.push(format!(
                "the target is PostgreSQL {target}, the backup was made from {source}: newer syntax will fail there"
            ));
        }
        let named = |stream: &str, kind: &str| -> Vec<String> {
            let lines = toc.iter().filter(|l| l.stream == stream && l.item.kind == kind);
            lines.map(|l| l.item.name.clone()).collect()
        };
        let mapped = |role: String| {
            let new = self.options.role_map.iter().find(|(old, _)| *old == role);
            new.map_or(role, |(_, new)| new.clone())
        };
        let named_here = named(GLOBALS, "ROLE")
            .into_iter()
            .filter(|role| contents.names_role(role));
        let roles: Vec<String> = named_here.map(mapped).collect();
        plan.missing_roles = absent(&mut admin, "pg_roles", "rolname", roles)
            .await
            .with_context(act)?;
        let spaces = named(GLOBALS, "TABLESPACE").into_iter().filter_map(|space| {
            let new = self.options.tablespace_map.iter().find(|(old, _)| *old == space);
            new.map_or(Some(space.clone()), |(_, new)| (!new.is_empty()).then(|| new.clone()))
        });
        plan.missing_tablespaces = absent(&mut admin, "pg_tablespace", "spcname", spaces.collect())
            .await
            .with_context(act)?;
        let extensions = chosen.pre_data.iter().filter(|l| l.item.kind == "EXTENSION");
        let names: Vec<String> = extensions.map(|l| l.item.name.clone()).collect();
        if !names.is_empty() {
            plan.missing_extensions = absent(&mut admin, "pg_available_extensions", "name", names)
                .await
                .with_context(act)?;
        }
        admin.close().await;
        let selection = &self.options.selection;
        if plan.way == "in-place"
            && self.options.beside.is_none()
            && !selection.data_only
            && !selection.tables.is_empty()
        {
            let mut target = self.target.clone();
            target.context = facts.context.clone();
            let mut connection = open_session(&target).await.with_context(act)?;
            let replaced = self
                .look_at_replaced(&mut connection, &chosen, false)
                .await
                .with_context(act)?;
            connection.close().await;
            let again = replaced
                .again()
                .map(|what| format!("{what} is dropped and created again"));
            plan.warnings.extend(again);
        }
        Ok(plan)
    }

    /// Returns how the database is made into which the restore goes.
    pub(crate) fn makes(&self, in_place: bool, look: &TargetState, facts: &ServerFacts) -> Made {
        if in_place {
            return look.made.clone();
        }
        self.options.locale_override.applied(made(look, &Made::of_facts(facts)))
    }

    fn way(&self, look: &TargetState) -> &'static str {
        match (self.goes_in_place(look), look.exists, look.empty) {
            (true, true, true) if !self.options.selection.is_partial() => "fill-in-place",
            (true, ..) => "in-place",
            (_, false, _) => "create",
            (_, true, true) => "fill-empty",
            (_, true, false) => "replace-by-swap",
        }
    }

    /// Returns whether the restore writes into the database that is there.
    pub(crate) fn goes_in_place(&self, look: &TargetState) -> bool {
        let selection = &self.options.selection;
        // An empty database that the role may not replace is filled itself.
        let only_itself = look.exists && look.empty && !look.may_fill_beside();
        let part = selection.is_partial() && look.exists && !look.empty;
        self.options.beside.is_some() || selection.data_only || part || only_itself
    }

    /// Refuses a target into which this restore cannot go.
    pub(crate) fn refuse_target(&self, look: &TargetState) -> Result<()> {
        let name = &self.target.database;
        self.options
            .locale_override
            .refuse(name, self.goes_in_place(look), look)?;
        if self.goes_in_place(look) && !look.exists {
            return Err(
                Error::new(ErrorKind::NotFound, format!("database \"{name}\" does not exist")).with_hint(
                    "--data-only and restores next to existing tables need the database; choose another target with \
                     --into.",
                ),
            );
        }
        if self.goes_in_place(look) {
            let clean_schema = self.options.clean && !self.options.selection.schemas.is_empty();
            if clean_schema && !self.options.selection.data_only {
                return Err(Error::invalid("--clean cannot replace single schemas of a database")
                    .with_hint("Drop the schema first, or restore into another database with --into."));
            }
            return Ok(());
        }
        if look.exists && !look.empty && !self.options.clean {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("database \"{name}\" exists and is not empty"),
            )
            .with_hint("Use another database with --into, or --clean to replace it by renaming."));
        }
        let user = &self.target.user;
        if !look.role.creates {
            return Err(
                Error::new(ErrorKind::Denied, format!("role \"{user}\" may not create databases")).with_hint(
                    "Run ALTER ROLE … CREATEDB, restore as another role, or restore into an existing empty \
                        database.",
                ),
            );
        }
        if !look.may_fill_beside() {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("database \"{name}\" is not owned by \"{user}\", which may not replace it"),
            )
            .with_hint("Restore as its owner, or into another database with --into."));
        }
        Ok(())
    }
}

fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Returns the names that a catalog does not have.
async fn absent(admin: &mut Connection, catalog: &str, column: &str, names: Vec<String>) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for page in names.chunks(1000) {
        let list: Vec<String> = page.iter().map(|n| is_named(column, n)).collect();
        let sql = format!(
            "SELECT {column}::text AS name FROM pg_catalog.{catalog} WHERE {}",
            list.join(" OR ")
        );
        let found: HashSet<String> = names_of(admin, &sql).await?.into_iter().collect();
        missing.extend(page.iter().filter(|n| !found.contains(*n)).cloned());
    }
    Ok(missing)
}

/// How long a scratch database may take to be left by its last session before it is dropped.
pub(crate) const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
