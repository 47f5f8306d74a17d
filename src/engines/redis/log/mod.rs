//! The command stream of a server: what a lasting replica receives, how it falls into commands, and what a restore makes of it: an
//! append-only file, or the state of a live server.
//!
//! An offset counts the bytes of the stream before it, as `master_repl_offset` does: a stream that goes on at offset 100 begins with
//! the byte that `PSYNC` calls 101. Bytes have a place only together with the replication ID of the history that they belong to.
//!
//! Protocol: <https://redis.io/docs/latest/operate/oss_and_stack/management/replication/>, `replication.c` and `aof.c`.

pub(crate) mod aof;
pub(crate) mod commands;
pub(crate) mod described;
pub(crate) mod held;
pub(crate) mod live;
pub(crate) mod marks;
pub(crate) mod position;
pub(crate) mod replay;
pub(crate) mod replica;
pub(crate) mod tail;
