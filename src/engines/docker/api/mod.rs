//! The Docker Engine API over its Unix socket or TCP: what backup and recovery need of it, and no docker program.
//!
//! Every request has a connection of its own and a bound on its silence, so a hung engine is an error and never a hang.
//! Answers are kept as JSON: whatever an engine of a later version says of a container is stored and handed back.
//!
//! Specification: <https://docs.docker.com/reference/api/engine/>. Written for 1.24 to 1.47; the highest version that both
//! sides know is used.

mod address;
pub mod definition;
mod engine;
mod http;
mod listener;
pub mod powers;
pub mod select;
pub mod unused;

pub use address::{Address, DEFAULT_SOCKET};
pub(crate) use engine::text;
pub use engine::{Engine, PathStat, UnpackTar};
pub use http::{Body, TarBody};
pub use listener::Listener;
