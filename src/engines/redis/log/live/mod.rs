//! Brings a live server to a place in a log: the server becomes our replica, gets the snapshot and the commands after it, and is a
//! primary again.
//!
//! A replica expires nothing by itself, so what was written to a key before its end is applied as it was; a primary would expire keys
//! while commands come. We speak the primary's side of the protocol, over plain TCP: the server connects to us. Whatever happens on the
//! way, it is made a primary again.
//!
//! Whoever connects gets the data. So it has to come from the address of the target, and to ask with the replication ID that the target
//! told us over our own connection. We give it a history that nobody else has: the stream lacks what belongs to the link, so its offsets
//! are not those of the server that wrote it, and a server that claimed that history would be believed by replicas of the other one.
//!
//! Memory: some buffers of the RDB that wait to be sent, two of 64 KiB of commands, 4 KiB that are held back for a store that stalls.
//!
//! Protocol: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, `replication.c`, Redis 7.0 to 8, Valkey 9.

mod handshake;
mod link;
mod listen;
mod sending;
mod state;
mod target;

pub(crate) use link::Link;
pub(crate) use listen::{ListenAddress, Listener};
pub(crate) use target::{Followed, LiveTarget};
