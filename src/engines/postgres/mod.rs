//! PostgreSQL logical backup and restore over the wire, and base backups of whole clusters ([`physical`]).
//!
//! Each folder uses those before it: [`wire`] (formats, no I/O), [`sql`] (text), [`session`], [`schema`], [`stored`] (what a
//! backup is made of), [`backup`], [`restore`], [`verify`]. [`wal`] reads what a server archives of its log.
//! `docs/postgres.md` tells how a database is read and put back. Base backups
//! are an engine of their own, which shares the connection; [`receiver`] streams the log of the server that such a source names.

pub mod backup;
#[doc(hidden)]
pub mod bench;
mod engine;
pub mod flags;
pub mod keys;
pub mod physical;
pub mod receiver;
pub mod restore;
mod restorer;
pub mod schema;
mod secrets;
mod server_url;
pub mod session;
pub mod source_url;
mod spec;
pub(crate) mod sql;
pub(crate) mod stored;
pub mod verify;
pub mod wal;
pub mod wire;

pub use engine::PostgresEngine;
pub use restorer::DatabaseRestored;
pub use spec::PostgresSpec;

pub use backup::PostgresSource;
pub use backup::cluster::{Databases, databases};
pub use backup::exclusion::Exclusion;
pub use restore::compare::table_digest;
pub use restore::locale_override::LocaleOverride;
pub use restore::plan::RestorePlan;
pub use restore::powers::examine;
pub use restore::selection::Selection;
pub use restore::statements::FailedItem;
pub use restore::undo::{Undone, undo};
pub use restore::{PostgresRestore, RestoreOptions, RestoreReport, judge};
pub use session::client::{client_error, open_client};
pub use session::connection::Connection;
pub use session::conninfo::{Params, is_connection_string};
pub use session::url::ConnectOptions;
pub use verify::{Scratch, verify_restored};
pub use wire::row_digest::RowDigest;

use crate::engines::EngineKind;

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("postgres", "PostgreSQL");
