//! Servers that tests start for themselves and stop again.

pub(crate) mod archives;
pub(crate) mod child;
pub(crate) mod data_directory;
pub(crate) mod docker;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod moto;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod redis;
pub(crate) mod redis_log;
pub(crate) mod redis_primary;
pub(crate) mod s3;
pub(crate) mod scheduler;
pub(crate) mod shape;
pub(crate) mod wait;
pub(crate) mod wal_server;
