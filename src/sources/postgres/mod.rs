//! PostgreSQL logical backup and restore over the wire.

pub mod schema;
