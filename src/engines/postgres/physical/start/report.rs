//! What is said of a server that was started on a base.

use jiff::Timestamp;

use crate::base::moment::local;
use crate::engines::postgres::wal::Lsn;

/// A server that recovered, was asked, and was stopped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(in crate::engines::postgres::physical) struct StartedServer {
    /// Its version, as its program says it.
    pub(super) version: String,
    /// Behind the last record that was replayed.
    pub(super) reached: Lsn,
    /// The timeline on which it took writes.
    pub(super) timeline: Option<u32>,
    /// The end of the last transaction that was replayed, if there was one.
    pub(super) last_transaction: Option<Timestamp>,
    /// Databases that were opened.
    pub(super) databases: u64,
    /// Databases that take no connections.
    pub(super) closed_databases: u64,
    /// Tables of catalogs that were read.
    pub(super) catalog_tables: u64,
    /// Other tables that were read.
    pub(super) tables: u64,
    /// Their rows.
    pub(super) rows: u64,
    /// Pages whose checksums were looked at; none of a cluster without checksums.
    pub(super) pages: Option<u64>,
}

impl StartedServer {
    /// Returns it for people, as part of a line.
    pub(in crate::engines::postgres::physical) fn text(&self) -> String {
        let last = self
            .last_transaction
            .map_or_else(String::new, |time| format!(", last commit {}", local(time)));
        let pages = match self.pages {
            Some(pages) => format!("checksums of {pages} pages read"),
            None => "no page checksums in this cluster".to_owned(),
        };
        let many = |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        format!(
            "PostgreSQL {} recovered on it to {}{last}; {} opened, {} of catalogs and {} with {} read, {pages}",
            self.version,
            self.reached,
            many(self.databases, "database"),
            many(self.catalog_tables, "table"),
            many(self.tables, "other"),
            many(self.rows, "row"),
        )
    }
}
