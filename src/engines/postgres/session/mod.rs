//! Connections: where a server is, how to log in, what a session is set to.

pub(crate) mod auth;
pub mod client;
pub(crate) mod client_certificate;
pub mod connection;
#[cfg(test)]
pub(crate) mod connection_strings;
pub(crate) mod conninfo;
pub(crate) mod hosts;
pub(crate) mod maintenance;
pub(crate) mod marks;
pub(crate) mod password_file;
pub(crate) mod pooler;
pub(crate) mod replication;
pub(crate) mod search_path;
pub(crate) mod service_file;
pub(crate) mod sessions;
pub mod settings;
pub(crate) mod tls;
pub(crate) mod transport;
pub mod url;
