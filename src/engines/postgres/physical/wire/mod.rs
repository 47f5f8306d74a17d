//! Formats of a base backup: no I/O.

pub(super) mod digest;
pub(super) mod framing;
pub(super) mod manifest;
pub(super) mod page;
pub(super) mod tar;
