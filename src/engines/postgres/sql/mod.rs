//! SQL as text: lexer, rewriting, and what of a backup may be run.

pub(crate) mod clean;
pub(crate) mod current_database;
pub(crate) mod guard;
pub(crate) mod lexer;
pub(crate) mod quote;
pub(crate) mod rewrite;
pub(crate) mod template;

/// Name of the stream with the statements about the whole server: roles, tablespaces. All others are about the database.
pub(crate) const GLOBALS: &str = "globals.sql";
