//! Decisions that read no clock and no store: `(facts, policy, now) -> plan`. When a job runs, which snapshots stay, how things
//! stand.

pub mod health;
pub mod log;
pub mod retention;
pub mod schedule;
