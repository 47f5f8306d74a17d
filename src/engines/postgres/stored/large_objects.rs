//! Large objects as rows `(loid oid, off int8, data bytea)` of binary COPY: cut, digested and loaded as tables are.
//!
//! A session that may read `pg_largeobject` (superuser, or `pg_read_all_data` from 14 on) copies that table's pages by ctid ranges,
//! holes and all. Any other one asks for pieces of the objects it has rights on, in batches of OIDs; objects without rights
//! are named, and their number stands in the record. Either way a row is small, whatever the size of an object.

use tokio_postgres::Client;

use super::copy_table::{CopyTable, Range, ctid_condition};
use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::postgres::schema::{DataTable, READABLE_LARGE_OBJECT};
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::binary_copy::CopyFormat;

const SIZES: &str = include_str!("sql/large_object_sizes.sql");
const UNREADABLE: &str = include_str!("sql/large_objects_unreadable.sql");
const BATCHES: &str = include_str!("sql/large_object_batches.sql");
const PAGES: &str = include_str!("sql/large_object_pages.sql");
const GETS: &str = include_str!("sql/large_object_gets.sql");
const UNSTAGE: &str = include_str!("sql/unstage_large_objects.sql");

/// Name of the stream.
pub(crate) const STREAM: &str = "large-objects";

/// Where rows wait at the target until they are written into their objects.
pub(crate) const STAGING: &str = "pg_temp.\"wirevault large objects\"";

/// Objects of one batch where pieces are asked for.
const BATCH_OBJECTS: i64 = 2000;

/// Length of such a piece in bytes.
const PIECE_BYTES: u32 = 128 * 1024;

/// Objects without rights that are named one by one; the rest is counted.
const NAMED_OBJECTS: i64 = 100;

/// How rows of large objects are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// Pages of `pg_largeobject`.
    Pages,
    /// `lo_get` of each readable object.
    Gets {
        /// First OID of each batch.
        starts: Vec<u32>,
    },
}

impl Pieces {
    /// Returns the word that records keep.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Gets { .. } => "gets",
        }
    }

    /// Reads the word again.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "pages" => Some(Self::Pages),
            "gets" => Some(Self::Gets { starts: Vec::new() }),
            _ => None,
        }
    }

    /// Returns the query of the rows.
    pub(crate) fn select_sql(&self, range: Option<Range>) -> String {
        match self {
            Self::Pages => {
                let range = range.map_or_else(|| "true".to_owned(), ctid_condition);
                with_names(PAGES, &[("range", &range)])
            }
            Self::Gets { .. } => {
                let range = range.map_or_else(
                    || "true".to_owned(),
                    |r| {
                        let end =
                            r.to.map_or_else(String::new, |to| format!(" AND o.oid < {to}::pg_catalog.oid"));
                        format!("o.oid >= {}::pg_catalog.oid{end}", r.from)
                    },
                );
                let piece = PIECE_BYTES.to_string();
                with_names(
                    GETS,
                    &[
                        ("range", &range),
                        ("piece", &piece),
                        ("readable", READABLE_LARGE_OBJECT),
                    ],
                )
            }
        }
    }
}

/// What there is, and how it will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pieces: Pieces,
    /// Whether objects without rights are left out.
    pub(crate) readable_only: bool,
    pages: u64,
    bytes: u64,
}

impl Plan {
    /// Looks at the large objects of the database; none if there are none. Objects without rights are noted.
    pub(crate) async fn read(client: &Client, notes: &mut Vec<Note>) -> Result<Option<Self>> {
        let row = client.query_one(SIZES, &[]).await.map_err(client_error)?;
        let number = |name| row.try_get::<_, i64>(name).map_err(client_error);
        let (any, whole): (bool, bool) = (
            row.try_get("any_object").map_err(client_error)?,
            row.try_get("whole").map_err(client_error)?,
        );
        if !any {
            return Ok(None);
        }
        let (pages, bytes) = (
            exact::count(number("pages")?, "the number of pages of pg_largeobject")?,
            exact::count(number("bytes")?, "the size of pg_largeobject")?,
        );
        let pieces = if whole {
            Pieces::Pages
        } else {
            name_unreadable(client, notes).await?;
            Pieces::Gets {
                starts: batches(client).await?,
            }
        };
        Ok(Some(Self {
            pieces,
            readable_only: !whole,
            pages,
            bytes,
        }))
    }

    /// Returns it as something that COPY reads.
    pub(crate) fn table(self) -> CopyTable {
        CopyTable {
            table: DataTable {
                number: 0,
                oid: 2613,
                schema: "pg_catalog".to_owned(),
                name: "pg_largeobject".to_owned(),
                columns: vec!["loid".to_owned(), "off".to_owned(), "data".to_owned()],
                pages: self.pages,
                bytes: self.bytes,
                empty: false,
                ctid_ranges: true,
                root: None,
                filter: None,
            },
            format: CopyFormat::Binary,
            pieces: Some(self.pieces),
            place: None,
        }
    }
}

async fn name_unreadable(client: &Client, notes: &mut Vec<Note>) -> Result<()> {
    let sql = with_names(UNREADABLE, &[("readable", READABLE_LARGE_OBJECT)]);
    let rows = client.query(&sql, &[&NAMED_OBJECTS]).await.map_err(client_error)?;
    let mut total = 0i64;
    for row in &rows {
        let oid: u32 = row.try_get("oid").map_err(client_error)?;
        total = row.try_get("total").map_err(client_error)?;
        notes.push(Note::new(
            "degraded",
            format!("large object {oid}"),
            "is not in this backup: the role has no right to read it",
        ));
    }
    if total > NAMED_OBJECTS {
        let text = format!(
            "{} more are not in this backup: the role has no right to read them",
            total - NAMED_OBJECTS
        );
        notes.push(Note::new("degraded", "large objects", text));
    }
    Ok(())
}

/// Returns the first OID of each batch of readable objects.
async fn batches(client: &Client) -> Result<Vec<u32>> {
    let sql = with_names(BATCHES, &[("readable", READABLE_LARGE_OBJECT)]);
    let rows = client.query(&sql, &[&BATCH_OBJECTS]).await.map_err(client_error)?;
    rows.iter()
        .map(|row| row.try_get("oid").map_err(client_error))
        .collect()
}

/// Statements that make the staging table of a session.
pub(crate) fn staging_sql() -> String {
    format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {STAGING} (loid oid, off int8, data bytea);\n\
         ALTER TABLE {STAGING} ALTER COLUMN data SET STORAGE EXTERNAL;\n"
    )
}

/// Statements that write staged rows into their objects. An empty row is a length: the object ends there, in a hole.
pub(crate) fn unstaging_sql() -> String {
    with_names(UNSTAGE, &[("staging", STAGING)])
}

/// Makes the staging table.
pub(crate) async fn prepare(connection: &mut Connection) -> Result<()> {
    connection
        .execute(&staging_sql())
        .await
        .context("create a table for large objects")
}

/// Returns an error about a record that names no known way of reading.
pub(crate) fn unknown_pieces(name: &str) -> Error {
    Error::unsupported(format!("large objects are stored as \"{name}\""))
}
