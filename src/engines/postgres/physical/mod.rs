//! Base backups of whole PostgreSQL clusters over the replication protocol, and their restore into a data directory.
//!
//! The server's tar streams are taken apart as they come, and each member becomes an entry of the archive at its place in a data
//! directory. At the end the server's own backup manifest proves that all of it came as it was read there. Each folder uses those before it:
//! [`wire`] (formats, no I/O), `stored` (what such an archive says of itself, and what judges it), [`backup`], [`restore`], [`start`] (a scratch server on what was restored).
//! `docs/postgres-physical.md` tells what a server has to allow, and how a base is put back by hand.

mod backup;
mod check;
mod engine;
pub mod flags;
pub mod keys;
mod options;
pub mod recovery;
mod restore;
mod restorer;
mod spec;
mod start;
mod stored;
mod verify;
pub mod wire;

pub use engine::PhysicalEngine;
pub use options::{Checkpoint, ManifestChecksums};
pub use spec::PhysicalSpec;
pub(crate) use start::tablespace_text;
pub use stored::facts::{BaseFacts, Tablespace};

use crate::engines::EngineKind;

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("postgres-physical", "PostgreSQL base backups");
