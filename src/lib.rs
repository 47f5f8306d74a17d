//! wirevault: a protocol-level backup and restore engine.
//!
//! Bytes flow one way, from a source through frames and parts into a store, and knowledge flows down only. The folders are
//! layers in this order, and each uses what stands above it alone:
//!
//! - [`base`]: errors, memory plan, progress, units, secrets;
//! - [`storage`]: objects in a store; it does not know what an archive is;
//! - [`archive`]: named streams of bytes in frames, and their index;
//! - [`repository`]: which objects make a snapshot;
//! - [`engines`]: PostgreSQL, SQLite, Redis, files, Docker; they know [`base`] and [`archive`], not where bytes go;
//! - [`policy`]: when a job runs, which snapshots stay, how things stand; pure decisions;
//! - [`config`]: what the file, the environment and URLs say, as one plan;
//! - [`operations`]: the verbs; they put the layers together;
//! - [`service`]: the scheduler, its status page, metrics;
//! - [`cli`]: flags, output, exit codes.
//!
//! The test `layers` refuses an arrow upwards. The promises this crate keeps, and the place where each is kept, stand in
//! `docs/architecture.md`; the bytes it writes stand in `docs/format.md`.

pub mod archive;
pub mod base;
pub mod cli;
pub mod config;
pub mod engines;
pub mod operations;
pub mod policy;
pub mod repository;
pub mod service;
pub mod storage;

pub use base::error::{Error, ErrorKind, Result};
