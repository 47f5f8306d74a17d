//! Puts a base into an empty data directory: every file compared with the server's manifest, `pg_control` last.

pub(super) mod fill;
pub(super) mod report;
pub(super) mod swap;
pub(super) mod tablespaces;
pub(super) mod target;
