//! Formats of the wire: no I/O.

pub(crate) mod binary_copy;
pub(crate) mod copy_out;
pub(crate) mod raw_text;
pub mod row_digest;
pub mod server_error;
pub(crate) mod text_row;
