//! The write-ahead log of a server as it streams it: what `pg_receivewal` asks for, by a physical replication slot.
//!
//! This is the connection alone: where bytes go, and which position is confirmed, is decided by whoever reads. A session says who
//! the server is, makes its slot, and streams a timeline until that ends.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-replication.html>

mod framing;
mod server;
mod session;

pub use framing::Said;
pub use server::LogServer;
pub use session::{
    LogSession, LogStream, NextTimeline, SlotState, Started, StreamFacts, is_in_use, is_invalidated, is_removed,
};
