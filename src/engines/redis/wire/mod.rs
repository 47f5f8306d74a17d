//! Formats of the wire: no I/O.

pub(crate) mod glob;
pub mod rdb;
pub(crate) mod resp;
