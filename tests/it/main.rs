//! Behaviour against real servers, one module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs,
    dead_code
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod bad_input;
mod cli;
mod end_to_end;
mod faults;
mod files;
mod help;
mod postgres;
mod postgres_roundtrip;
mod postgres_schema;
mod repository;
mod sqlite;
mod storage;
mod sweep_race;
