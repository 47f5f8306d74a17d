//! What runs by itself and is looked at: the scheduler with its status page, notifications, metrics, the health check of a
//! container.

pub mod health_check;
pub mod metrics;
pub mod notify;
pub mod scheduler;
