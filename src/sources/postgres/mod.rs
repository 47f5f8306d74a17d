//! PostgreSQL logical backup and restore over the wire.
//!
//! Codec ([`copy_out`], no I/O) below connection ([`connection`]) below stream; `docs/postgres.md` tells how a database
//! is read and put back.

mod auth;
pub mod client;
pub mod connection;
mod copy_out;
pub mod row_digest;
pub mod schema;
pub mod server_error;
mod tls;
mod transport;
pub mod url;

pub use client::{client_error, open_client};
pub use connection::Connection;
pub use row_digest::RowDigest;
pub use url::ConnectOptions;
