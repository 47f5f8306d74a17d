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
        /// The engine's socket, or `tcp://host:port`; without it that of `DOCKER_HOST`, else `/var/run/docker.sock`.
        socket: Option<Address> = Key::text().urls().example("\"/var/run/docker.sock\"").variable("DOCKER_HOST"),
        /// Names or patterns of volumes; everything is meant where no volume, label and container is named.
        volumes: Vec<String> = Key::texts().parameter("volume").example("[\"uploads\", \"media-*\"]"),
        /// Volumes that are left out: a database is backed up over its own protocol.
        exclude: Vec<String> = Key::texts().parameter("exclude").example("[\"*_pgdata\"]"),
        /// Labels of volumes and containers, as `KEY` or `KEY=VALUE`.
        labels: Vec<String> = Key::texts().parameter("label").example("[\"com.docker.compose.project=shop\"]"),
        /// Further containers, by name or compose service, whose definitions are stored.
        containers: Vec<String> = Key::texts().parameter("container").example("[\"api\"]"),
        /// Containers, by name or compose service, that are stopped while volumes are read or written.
        quiesce: Vec<String> = Key::texts().parameter("quiesce").example("[\"api\"]"),
        /// How long they may take to stop.
        stop_timeout: Option<Duration> = Key::duration().default("\"30s\"").example("\"2min\""),
        /// Kills one that does not stop by then, as `docker stop` does; otherwise the source fails.
        kill: bool = Key::flag(),
        /// Stores images too, for hosts without a registry.
        images: bool = Key::flag().parameter("images"),
        /// Stores the environments of containers, in which passwords may stand.
        environment: bool = Key::flag().default("true").example("false"),
        /// How volumes are read: `auto` by the mount point where it is visible, `archive` always by the archive API.
        access: Access = Key::word(Access::WORDS).parameter("access").default("\"auto\"").example("\"archive\""),
        /// URLs that answer when everything runs: `recover` waits for them.
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
