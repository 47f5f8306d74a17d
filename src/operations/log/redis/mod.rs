//! The command streams of Redis and Valkey servers: received as a lasting replica, and restored to a moment.

mod attach;
mod backoff;
mod base;
mod claim;
mod follow;
mod lineage;
mod link;
mod meant;
pub mod receive;
mod report;
pub mod restore;
mod resume;
pub mod show;
mod store;
mod stored;
