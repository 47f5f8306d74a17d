//! What a backup is made of: SQL with its table of contents, streams of rows and text, large objects.

pub(crate) mod copy_table;
pub(crate) mod large_objects;
pub(crate) mod streams;
pub(crate) mod table_stream;
pub(crate) mod text;

/// Name of the stream record that carries [`ServerFacts`]; it has no members.
pub(crate) const FACTS: &str = "postgres";
