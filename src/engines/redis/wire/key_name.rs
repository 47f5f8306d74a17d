//! Names of keys for people: any bytes, of any length.

use crate::base::exact;

/// Bytes of a key that are kept to name it in a report.
pub(crate) const NAMED_BYTES: usize = 200;

/// Names a key for people.
pub(crate) fn name(database: u32, key: &[u8]) -> String {
    let cut = exact::first(key, NAMED_BYTES);
    format!("{} (database {database})", cut.escape_ascii())
}
