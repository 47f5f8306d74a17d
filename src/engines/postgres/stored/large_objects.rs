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
use crate::engines::postgres::schema::{DataTable, READABLE_SQL};
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::wire::binary_copy::CopyFormat;

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
                // An empty page counts only as the last one: it says how long an object is that ends in a hole.
                let range = range.map_or_else(String::new, |r| format!(" AND {}", ctid_condition(r)));
                format!(
                    "SELECT loid, pageno::pg_catalog.int8 * (pg_catalog.current_setting('block_size')::pg_catalog.int8 / 4) AS off, data \
                     FROM ONLY pg_catalog.pg_largeobject l WHERE (pg_catalog.octet_length(data) > 0 OR NOT EXISTS \
                     (SELECT FROM pg_catalog.pg_largeobject n WHERE n.loid = l.loid AND n.pageno > l.pageno)){range}"
                )
            }
            Self::Gets { .. } => {
                let range = range.map_or_else(String::new, |r| {
                    let end =
                        r.to.map_or_else(String::new, |to| format!(" AND o.oid < {to}::pg_catalog.oid"));
                    format!(" AND o.oid >= {}::pg_catalog.oid{end}", r.from)
                });
                // Each descriptor is closed as soon as it has told the length.
                format!(
                    "SELECT o.oid, g.off, pg_catalog.lo_get(o.oid, g.off, {PIECE_BYTES}) \
                     FROM (SELECT o.oid FROM pg_catalog.pg_largeobject_metadata o WHERE {READABLE_SQL}{range} OFFSET 0) o, \
                     LATERAL (SELECT pg_catalog.lo_lseek64(f.fd, 0, 2) AS size, pg_catalog.lo_close(f.fd) AS closed \
                     FROM (SELECT pg_catalog.lo_open(o.oid, 262144) AS fd OFFSET 0) f OFFSET 0) s, \
                     LATERAL pg_catalog.generate_series(0::pg_catalog.int8, s.size - 1, {PIECE_BYTES}) g(off)"
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
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata), \
            pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT'), \
            pg_catalog.pg_relation_size('pg_catalog.pg_largeobject') / pg_catalog.current_setting('block_size')::int8, \
            pg_catalog.pg_table_size('pg_catalog.pg_largeobject')";
        let row = client.query_one(sql, &[]).await.map_err(client_error)?;
        let number = |at| row.try_get::<_, i64>(at).map_err(client_error);
        let (any, whole): (bool, bool) = (
            row.try_get(0).map_err(client_error)?,
            row.try_get(1).map_err(client_error)?,
        );
        if !any {
            return Ok(None);
        }
        let (pages, bytes) = (
            exact::count(number(2)?, "the number of pages of pg_largeobject")?,
            exact::count(number(3)?, "the size of pg_largeobject")?,
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
    let sql = format!(
        "SELECT o.oid, count(*) OVER () FROM pg_catalog.pg_largeobject_metadata o WHERE NOT {READABLE_SQL} ORDER BY 1 LIMIT {NAMED_OBJECTS}"
    );
    let rows = client.query(&sql, &[]).await.map_err(client_error)?;
    let mut total = 0i64;
    for row in &rows {
        let oid: u32 = row.try_get(0).map_err(client_error)?;
        total = row.try_get(1).map_err(client_error)?;
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
    let sql = format!(
        "SELECT oid FROM (SELECT o.oid, pg_catalog.row_number() OVER (ORDER BY o.oid) AS place \
         FROM pg_catalog.pg_largeobject_metadata o WHERE {READABLE_SQL}) t WHERE place % {BATCH_OBJECTS} = 1 ORDER BY 1"
    );
    let rows = client.query(&sql, &[]).await.map_err(client_error)?;
    rows.iter().map(|row| row.try_get(0).map_err(client_error)).collect()
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
    format!(
        "SELECT pg_catalog.count(pg_catalog.lo_put(loid, off, data)) FROM {STAGING} WHERE pg_catalog.octet_length(data) > 0;\n\
         SELECT pg_catalog.count(pg_catalog.lo_close(fd)) FROM (SELECT fd, pg_catalog.lo_truncate64(fd, off) FROM \
         (SELECT pg_catalog.lo_open(loid, 131072) AS fd, off FROM {STAGING} WHERE pg_catalog.octet_length(data) = 0 OFFSET 0) t OFFSET 0) u;\n\
         TRUNCATE TABLE {STAGING};\n"
    )
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
