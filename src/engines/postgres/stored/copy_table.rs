//! What COPY reads: a table in one of its formats, or the large objects as rows of pieces.
//!
//! Binary COPY is taken only if every column is of a built-in type on the list below or a domain over one of them: their
//! binary images are the same from PostgreSQL 13 to 18 and hold no OID of a user's object (a domain's is that of its base
//! type). Everything else is text; so are arrays of domains, whose images name the element type by its OID. An enum's
//! image is its label in both formats, so there binary has nothing to win, and text is stored smaller.

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::base::error::{Context as _, Result};
use crate::engines::postgres::schema::DataTable;
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};
use crate::engines::postgres::stored::large_objects;
use crate::engines::postgres::stored::large_objects::Pieces;
use crate::engines::postgres::wire::binary_copy::CopyFormat;

const TEXT_TABLES: &str = include_str!("sql/tables_by_text.sql");

/// Built-in types whose binary image is stable, with their arrays: `pg_type.dat` gives the OIDs.
///
/// bool, bytea, char, int8, int2, int4, text, oid, json, point … circle, float4, float8, macaddr, inet, cidr, bpchar,
/// varchar, date, time, timestamp, timestamptz, interval, timetz, bit, varbit, numeric, uuid, jsonb, macaddr8.
const STABLE_TYPES: [u32; 67] = [
    16, 17, 18, 20, 21, 23, 25, 26, 114, 600, 601, 602, 603, 604, 628, 718, 700, 701, 829, 869, 650, 1042, 1043, 1082,
    1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3802, 774, // and their arrays
    1000, 1001, 1002, 1016, 1005, 1007, 1009, 1028, 199, 1017, 1018, 1019, 1027, 629, 719, 1021, 1022, 1040, 1041, 651,
    1014, 1015, 1182, 1183, 1115, 1185, 1187, 1270, 1561, 1563, 1231, 2951,
];

/// Something that is read by COPY.
#[derive(Debug, Clone)]
pub(crate) struct CopyTable {
    /// Name, size, columns. For large objects those of `pg_largeobject`.
    pub(crate) table: DataTable,
    /// How its rows are written.
    pub(crate) format: CopyFormat,
    /// Set for the large objects.
    pub(crate) pieces: Option<Pieces>,
    /// Its quoted name of now, where its schema was renamed behind the snapshot.
    pub(crate) place: Option<String>,
}

/// A range of pages, or of OIDs: from, and the one after the last (none: to the end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

impl CopyTable {
    pub(crate) fn of_table(table: DataTable, format: CopyFormat) -> Self {
        Self {
            table,
            format,
            pieces: None,
            place: None,
        }
    }

    /// Decides the format of every table.
    pub(crate) async fn all(client: &Client, tables: &[DataTable]) -> Result<Vec<Self>> {
        let text = text_tables(client).await.context("read the types of columns")?;
        let format = |t: &DataTable| {
            if t.columns.is_empty() || text.contains(&t.oid) {
                CopyFormat::Text
            } else {
                CopyFormat::Binary
            }
        };
        Ok(tables.iter().map(|t| Self::of_table(t.clone(), format(t))).collect())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.table.bytes
    }

    /// Returns what messages call it.
    pub(crate) fn label(&self) -> String {
        match self.pieces {
            Some(_) => "large objects".to_owned(),
            None => format!("table {}", qualified(&self.table.schema, &self.table.name)),
        }
    }

    pub(crate) fn qualified(&self) -> String {
        let stored = || qualified(&self.table.schema, &self.table.name);
        self.place.clone().unwrap_or_else(stored)
    }

    /// Returns the table that a reader locks.
    pub(crate) fn lock_name(&self) -> Option<String> {
        self.pieces.is_none().then(|| self.qualified())
    }

    /// Returns `tables/00012.users`: the number is the key, the name decoration.
    pub(crate) fn stream_name(&self) -> String {
        if self.pieces.is_some() {
            return large_objects::STREAM.to_owned();
        }
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name: String = self.table.name.chars().take(40).map(plain).collect();
        format!("tables/{:05}.{name}", self.table.number)
    }

    /// Returns the ranges it is read in; none or one means all at once.
    pub(crate) fn ranges(&self, ctid_ranges_work: bool, part_bytes: u64) -> Vec<Range> {
        if let Some(Pieces::Gets { starts, .. }) = &self.pieces {
            let ends = starts.iter().skip(1).map(|&s| Some(u64::from(s))).chain([None]);
            let range = |(&from, to)| Range {
                from: u64::from(from),
                to,
            };
            return starts.iter().zip(ends).map(range).collect();
        }
        let table = &self.table;
        let wanted = (table.bytes / part_bytes).clamp(1, 4096).min(table.pages.max(1));
        if !ctid_ranges_work || !table.ctid_ranges || wanted < 2 {
            return Vec::new();
        }
        let step = table.pages.div_ceil(wanted);
        let of = table.pages.div_ceil(step);
        let range = |number: u64| Range {
            from: number * step,
            to: (number + 1 < of).then_some((number + 1) * step),
        };
        (0..of).map(range).collect()
    }

    /// Returns the COPY statement of all rows, or of a range.
    pub(crate) fn copy_out_sql(&self, range: Option<Range>) -> String {
        let options = self.format.options(&[]);
        if let Some(pieces) = &self.pieces {
            return format!("COPY ({}) TO STDOUT{options}", pieces.select_sql(range));
        }
        let name = self.qualified();
        let columns: Vec<String> = self.table.columns.iter().map(|c| quote_ident(c)).collect();
        let columns = columns.join(", ");
        if let Some(filter) = &self.table.filter {
            return format!("COPY ({}) TO STDOUT{options}", filtered(&name, &columns, filter));
        }
        match range {
            None if columns.is_empty() => format!("COPY {name} TO STDOUT{options}"),
            None => format!("COPY {name} ({columns}) TO STDOUT{options}"),
            Some(range) => format!(
                "COPY (SELECT {columns} FROM ONLY {name} WHERE {}) TO STDOUT{options}",
                ctid_condition(range)
            ),
        }
    }

    /// Returns what the record of the stream keeps: enough to load it and to read it again in the same way.
    /// `encoding` is the database's.
    pub(crate) fn facts(&self, encoding: &str) -> serde_json::Value {
        let mut facts = serde_json::json!({ "format": self.format, "settings": settings::row_settings(encoding) });
        let more = match &self.pieces {
            Some(pieces) => serde_json::json!({ "pieces": pieces.name() }),
            None => serde_json::json!({
                "schema": self.table.schema, "name": self.table.name, "columns": self.table.columns,
                "number": self.table.number, "filter": self.table.filter, "root": self.table.root
            }),
        };
        if let (Some(facts), serde_json::Value::Object(more)) = (facts.as_object_mut(), more) {
            facts.extend(more);
        }
        facts
    }
}

/// Returns the query of the rows of a configuration table; an extension's condition begins with WHERE.
pub(crate) fn filtered(name: &str, columns: &str, filter: &str) -> String {
    format!("SELECT {columns} FROM ONLY {name} {filter}")
}

/// Returns the condition for rows on some pages.
pub(crate) fn ctid_condition(range: Range) -> String {
    let end = range
        .to
        .map_or_else(String::new, |to| format!(" AND ctid < '({to},0)'::pg_catalog.tid"));
    format!("ctid >= '({},0)'::pg_catalog.tid{end}", range.from)
}

/// Returns the tables that have a column whose type's binary image may differ elsewhere.
async fn text_tables(client: &Client) -> Result<HashSet<u32>> {
    let rows = client
        .query(TEXT_TABLES, &[&STABLE_TYPES.as_slice()])
        .await
        .map_err(client_error)?;
    rows.iter()
        .map(|row| row.try_get("relation").map_err(client_error))
        .collect()
}
