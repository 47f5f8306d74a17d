//! What an archive of a base backup says of itself, and what judges whether it is one.

pub(super) mod facts;
pub(super) mod judge;
pub(super) mod wal;

/// The backup manifest of the server.
pub(super) const MANIFEST: &[u8] = b"backup_manifest";
/// Says where recovery begins.
pub(super) const LABEL: &[u8] = b"backup_label";
/// Says where tablespaces lie.
pub(super) const TABLESPACE_MAP: &[u8] = b"tablespace_map";
/// Without it no server starts: it is written last.
pub(super) const CONTROL: &[u8] = b"global/pg_control";
/// Names the major version.
pub(super) const VERSION: &[u8] = b"PG_VERSION";
/// Where links to tablespaces are, with a slash.
pub(super) const TABLESPACES: &str = "pg_tblspc/";
/// Where WAL is, with a slash.
pub(super) const WAL: &[u8] = b"pg_wal/";

/// Returns whether a file is a segment of WAL. The backup manifest names none of them, and says which WAL is needed.
pub(super) fn is_segment(path: &[u8]) -> bool {
    let name = path.strip_prefix(WAL);
    name.is_some_and(|name| name.len() == 24 && name.iter().all(u8::is_ascii_hexdigit))
}

/// Returns whether the backup manifest has to name a file. It is not about itself, and of what lies beside the segments of WAL it
/// names what the server made up for the backup.
pub(super) fn is_named(path: &[u8]) -> bool {
    path != MANIFEST && !path.starts_with(WAL)
}
