//! Roles that own what comes back: which the server lacks, and making them.

use super::PostgresRestore;
use super::statements::run_in_order;
use crate::base::error::{Context as _, Result};
use crate::base::report::Note;
use crate::engines::postgres::session::sessions::open_session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::is_named;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;

impl PostgresRestore {
    /// Reports roles that the server lacks, and creates them if asked to.
    pub(crate) async fn roles(&self, into: &ConnectOptions, contents: &Contents, globals: &[&TocEntry]) -> Result<()> {
        let mut connection = open_session(into).await?;
        let mut missing = Vec::new();
        for &line in globals.iter().filter(|l| l.item.kind == "ROLE") {
            let mapped = self.options.role_map.iter().find(|(old, _)| *old == line.item.name);
            let name = mapped.map_or(&line.item.name, |(_, new)| new);
            let sql = format!("SELECT 1 FROM pg_catalog.pg_roles WHERE {}", is_named("rolname", name));
            if connection.query(&sql).await?.scalar().is_none() {
                missing.push(line);
            }
        }
        connection.close().await;
        if self.options.create_roles {
            // With the roles come their settings, what they are members of, and their rights to parameters.
            let made: Vec<&str> = missing.iter().map(|l| l.item.name.as_str()).collect();
            let concerns = |l: &TocEntry| {
                let of = |name: &str| made.contains(&name);
                match l.item.kind.as_str() {
                    "ROLE PROPERTIES" => of(&l.item.name),
                    "ROLE MEMBERSHIP" => of(&l.item.name) || l.item.schema.as_deref().is_some_and(of),
                    "PARAMETER ACL" => !made.is_empty(),
                    _ => false,
                }
            };
            let more: Vec<&TocEntry> = globals.iter().copied().filter(|&l| concerns(l)).collect();
            missing.extend(more);
            for failed in run_in_order(into, contents, &missing).await.context("create roles")? {
                self.reporter.note(
                    &self.task,
                    Note::new("failed", format!("{} {}", failed.kind, failed.name), failed.error),
                );
            }
            return Ok(());
        }
        // A server has roles that this database never heard of.
        missing.retain(|line| contents.names_role(&line.item.name));
        for line in missing {
            let text = "does not exist on this server; its objects will belong to the restoring role";
            self.reporter
                .note(&self.task, Note::new("missing-role", &line.item.name, text));
        }
        Ok(())
    }
}
