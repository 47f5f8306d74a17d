//! Behaviour against real servers, one module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::disallowed_methods,
    clippy::unnecessary_debug_formatting,
    missing_docs,
    dead_code,
    reason = "tests run servers and stock tools, and may fail loudly"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod bad_input;
mod claims;
mod cleanup_walls;
mod cli;
mod config_keys;
mod damage;
mod docker;
mod docker_cleanup;
mod docker_moving;
mod docker_tcp;
mod documents;
mod end_to_end;
mod faults;
mod files;
mod files_exact;
mod files_interrupted;
mod files_odd;
mod files_patterns;
mod files_restore;
mod generators;
mod health;
mod help;
mod hooks;
mod hostile_repository;
mod json_restore;
mod kill;
mod latest;
mod layers;
mod log;
mod log_made;
mod log_receive;
mod meant;
mod old_repository;
mod packaging;
mod places;
mod postgres;
mod postgres_completeness;
mod postgres_connect;
mod postgres_encodings;
mod postgres_exclusion;
mod postgres_hostile;
mod postgres_keep_going;
mod postgres_moment;
mod postgres_order;
mod postgres_partial;
mod postgres_physical;
mod postgres_physical_hostile;
mod postgres_physical_peer;
mod postgres_physical_start;
mod postgres_roundtrip;
mod postgres_safety;
mod postgres_schema;
mod postgres_selection;
mod postgres_settings;
mod postgres_statements;
mod postgres_targets;
mod promises;
mod queries;
mod recover;
mod recovery;
mod recovery_of_all;
mod redis;
mod redis_certificates;
mod redis_cluster;
mod redis_database;
mod redis_log;
mod redis_log_hostile;
mod redis_log_live;
mod redis_log_made;
mod redis_log_receiver;
mod redis_restore;
mod redis_rights;
mod redis_sentinel;
mod redis_targets;
mod redis_types;
mod repository;
mod retention;
mod run;
mod scheduler;
mod secrets;
mod several;
mod slices;
mod sqlite;
mod sqlite_plan;
mod sqlite_random;
mod sqlite_readers;
mod sqlite_several;
mod sqlite_unchecked;
mod storage;
mod surroundings;
mod sweep_race;
mod thaw;
mod toy_engine;
mod trust;
mod year;
