//! SQLite databases.

pub mod registry;
