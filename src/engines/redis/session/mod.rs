//! Connections: where a server is, how to log in, what a session is set to.

pub(crate) mod address;
pub(crate) mod blocking_stream;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod counted;
pub(crate) mod holdings;
pub(crate) mod incoming;
pub(crate) mod nodes;
pub(crate) mod server;
pub(crate) mod transport;
