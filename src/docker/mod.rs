//! The Docker Engine API over its Unix socket: what backup and recovery need of it, and no docker program.
//!
//! Every request has a connection of its own and a bound on its silence, so a hung engine is an error and never a hang.
//! Answers are kept as JSON: whatever an engine of a later version says of a container is stored and handed back.
//!
//! Specification: <https://docs.docker.com/reference/api/engine/>. Written for 1.24 to 1.47; the highest version that both
//! sides know is used.

pub mod definition;
mod engine;
mod http;
pub mod powers;
pub mod select;
pub mod unused;

pub(crate) use engine::text;
pub use engine::{Engine, PathStat, UnpackTar};
pub use http::{Body, TarBody};

use std::path::{Path, PathBuf};

/// Where the engine listens unless something else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Returns the socket to use: the one given, else that of DOCKER_HOST (`unix://…`), else the usual place.
pub fn socket_path(given: Option<&Path>, docker_host: Option<&str>) -> crate::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    match docker_host.filter(|host| !host.is_empty()) {
        None => Ok(PathBuf::from(DEFAULT_SOCKET)),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(
                crate::Error::unsupported(format!("DOCKER_HOST is \"{host}\", which is no Unix socket"))
                    .with_hint("Name the engine's socket: unix:///var/run/docker.sock, or `socket` in wirevault.toml."),
            ),
        },
    }
}
