//! What runs by itself and is looked at: the scheduler with its status page, metrics, the health check of a
//! container.

pub mod health_check;
pub mod metrics;
pub mod scheduler;
