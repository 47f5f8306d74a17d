//! SQL as text: lexer, rewriting, and what of a backup may be run.

pub(crate) mod clean;
pub(crate) mod guard;
pub(crate) mod lexer;
pub(crate) mod rewrite;
pub(crate) mod streams;
pub(crate) mod text;
