//! The schema of a database, read from its catalogs and written as SQL in dependency order.
//!
//! The graph (ids, kinds, names, edges) is held in memory, at most 600 bytes an object; details are read in keyset
//! pages in the order in which they are written.

use async_trait::async_trait;

use crate::error::Result;

/// Which part of a restore a statement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Everything up to tables, owners included.
    PreData,
    /// Sequence values.
    Data,
    /// Indexes, constraints, triggers, views that need keys, rights.
    PostData,
}

/// One object's SQL in the table of contents.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TocItem {
    /// Number in writing order over all sections, from 0.
    pub id: u32,
    /// Section.
    pub section: Section,
    /// `TABLE`, `INDEX`, `FK CONSTRAINT`, `ACL` …: for messages.
    pub kind: String,
    /// Schema of the object, if it has one.
    pub schema: Option<String>,
    /// Name of the object (its table's name in front for constraints and triggers).
    pub name: String,
    /// Ids of items that must have been run before; items of earlier sections are implied.
    pub depends_on: Vec<u32>,
    /// Numbers of the tables ([`DataTable::number`]) the statements lock exclusively (two such items on one table never run at once).
    pub locks: Vec<u32>,
    /// Rough cost for ordering (bytes of the table for an index; 0 else).
    pub weight: u64,
    /// Length of the item's SQL text in bytes; it follows the item before it in the section's SQL stream.
    pub sql_bytes: u64,
}

/// A table whose rows are to be copied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataTable {
    /// 1-based number: the key of the table in the archive.
    pub number: u32,
    /// OID at the source.
    pub oid: u32,
    /// Schema name, raw.
    pub schema: String,
    /// Table name, raw.
    pub name: String,
    /// Names of the columns that COPY carries (no dropped, no generated ones), raw, in attnum order.
    pub columns: Vec<String>,
    /// Heap pages (relpages, or by size where never analysed).
    pub pages: u64,
    /// Bytes of heap and TOAST.
    pub bytes: u64,
    /// Whether it is an ordinary heap, so that ctid ranges work (14 and newer).
    pub ctid_ranges: bool,
}

/// Receives statements in order.
#[async_trait]
pub trait SqlSink: Send {
    /// One object: `sql` holds complete statements, each ended by `;` and a newline. `item.sql_bytes` is set by the sink.
    async fn item(&mut self, item: TocItem, sql: &str) -> Result<()>;
}
