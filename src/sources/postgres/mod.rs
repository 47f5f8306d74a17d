//! PostgreSQL logical backup and restore over the wire.
//!
//! Codec ([`copy_out`], no I/O) below connection ([`connection`]) below stream; `docs/postgres.md` tells how a database
//! is read and put back.

mod analyze;
mod auth;
pub mod backup;
mod binary_copy;
mod board;
mod check;
pub mod client;
mod cluster;
mod compare;
pub mod connection;
mod copy_out;
mod copy_table;
mod create_database;
mod database_settings;
mod fill;
mod in_place;
mod keep_going;
mod large_objects;
mod load;
mod look;
mod marks;
mod pooler;
pub mod restore;
mod restore_plan;
mod restore_roles;
mod restore_script;
pub mod row_digest;
pub mod schema;
mod search_path;
pub mod selection;
pub mod server_error;
mod sessions;
mod snapshot;
mod sql_rewrite;
mod sql_streams;
mod sql_text;
mod statements;
mod swap;
mod table_stream;
mod tables;
mod target;
mod tls;
mod transport;
mod undo;
pub mod url;
mod verify;
mod waiting;

pub use backup::PostgresSource;
pub use client::{client_error, open_client};
pub use cluster::{Databases, databases};
pub use compare::table_digest;
pub use connection::Connection;
pub use restore::{PostgresRestore, RestoreOptions, RestoreReport};
pub use restore_plan::RestorePlan;
pub use row_digest::RowDigest;
pub use selection::Selection;
pub use undo::{Undone, undo};
pub use url::ConnectOptions;
pub use verify::{Scratch, verify_restored};
