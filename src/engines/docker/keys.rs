//! The keys of a source of kind `docker`.

use std::time::Duration;

use super::Access;
use super::api::Address;
use crate::base::error::{Context, Result};
use crate::base::keys::{Given, Key, One, Value, Word, section, words};

words! { Access {
    "auto" => Auto,
    "archive" => Archive,
} }

section! {
    /// Volumes of a Docker engine, and the definitions of their containers and networks ([Docker](docker.md)).
    pub struct DockerKeys {
        /// Docker socket, or `tcp://host:port`; default: `DOCKER_HOST`, else `/var/run/docker.sock`.
        socket: Option<Address> = Key::text().urls().example("\"/var/run/docker.sock\"").variable("DOCKER_HOST"),
        /// Names or patterns of volumes; default: everything, if no volume, label or container is given.
        volumes: Vec<String> = Key::texts().parameter("volume").example("[\"uploads\", \"media-*\"]"),
        /// Volumes to exclude, such as those of databases that are backed up over their own protocol.
        exclude: Vec<String> = Key::texts().parameter("exclude").example("[\"*_pgdata\"]"),
        /// Labels of volumes and containers, as `KEY` or `KEY=VALUE`.
        labels: Vec<String> = Key::texts().parameter("label").example("[\"com.docker.compose.project=shop\"]"),
        /// Additional containers, by name or compose service, whose definitions are stored.
        containers: Vec<String> = Key::texts().parameter("container").example("[\"api\"]"),
        /// Containers, by name or compose service, to stop while volumes are read or written.
        quiesce: Vec<String> = Key::texts().parameter("quiesce").example("[\"api\"]"),
        /// How long a container may take to stop.
        stop_timeout: Option<Duration> = Key::duration().default("\"30s\"").example("\"2min\""),
        /// Kill a container that does not stop in time, as `docker stop` does; otherwise the source fails.
        kill: bool = Key::flag(),
        /// Also store images, for hosts without a registry.
        images: bool = Key::flag().parameter("images"),
        /// Store the environments of containers, which may contain passwords.
        environment: bool = Key::flag().default("true").example("false"),
        /// How to read volumes: `auto` uses the mount point if it is visible, `archive` always uses the archive API.
        access: Access = Key::word(Access::WORDS).parameter("access").default("\"auto\"").example("\"archive\""),
        /// URLs that respond when everything is running: `recover` waits for them.
        health: Vec<String> = Key::texts().urls().example("[\"http://127.0.0.1:8080/health\"]"),
    }
}

impl One for Address {
    fn one(key: &Key, given: &Given<'_>) -> Result<Self> {
        match given.value(key)? {
            Value::Text(text) => Self::parse(&text).with_context(|| format!("{}: {}", given.place(), key.name)),
            _ => Err(given.refused(key)),
        }
    }
}
