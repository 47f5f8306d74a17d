//! The command streams of Redis and Valkey servers: received as a lasting replica, and restored to a moment.

mod attach;
pub(crate) mod bases;
mod extent;
mod follow;
mod lineage;
pub(crate) mod prune;
pub mod receive;
pub mod restore;
pub mod show;
mod store;
mod stored;
mod windows;
