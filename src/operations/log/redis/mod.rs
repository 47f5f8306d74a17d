//! The command streams of Redis and Valkey servers: received as a lasting replica, and restored to a moment.

mod attach;
mod backoff;
pub(crate) mod bases;
mod claim;
mod extent;
mod follow;
mod health;
mod lineage;
mod link;
mod meant;
pub(crate) mod prune;
pub mod receive;
mod report;
pub mod restore;
mod resume;
pub mod show;
mod store;
mod stored;
mod taking;
mod trust;
mod went_back;
mod windows;
