//! Formats of the wire: no I/O.

pub(crate) mod digest;
pub(crate) mod glob;
pub(crate) mod key_name;
pub mod rdb;
pub(crate) mod resp;
