//! A source of Docker volumes: options, and what the rest of the program asks of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::environment::variable;
use crate::base::error::Result;
use crate::engines::docker::api::select::{VolumeFilter, select};
use crate::engines::docker::api::{Address, Engine, text};
use crate::engines::docker::{Access, DockerOptions, DockerSource, KIND};
use crate::engines::{EngineKind, Occupied, Source, SourceSpec};

/// How long a container may take to stop where nothing is said.
const STOP_TIMEOUT_SECONDS: u64 = 30;

/// Where an engine that does not answer probably keeps its volumes.
const VOLUMES: &str = "/var/lib/docker/volumes";

/// Volumes of a Docker engine, and the definitions of their containers and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct DockerSpec {
    /// The engine's socket, or `tcp://host:port`; else that of DOCKER_HOST, else /var/run/docker.sock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<Address>,
    /// Names or globs of volumes. Where no volume, label and container is named, everything is meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Volumes that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Labels of volumes and containers, `key` or `key=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Further containers (names or compose services) whose definitions are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// Containers that are stopped while volumes are read or written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quiesce: Vec<String>,
    /// How long, in seconds, they may take to stop; 30 when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u64>,
    /// Whether one that does not stop by then is killed.
    pub kill: bool,
    /// Whether images are stored.
    pub images: bool,
    /// Whether the environments of containers are left out.
    pub no_environment: bool,
    /// Whether volumes are read through the archive API even where their mount points are visible.
    pub archive_api: bool,
    /// URLs that answer when everything runs: `recover` waits for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<String>,
}

impl DockerSpec {
    /// Finds the engine's socket and says how its volumes are read.
    pub fn options(&self) -> Result<DockerOptions> {
        Ok(DockerOptions {
            socket: Address::meant(self.socket.as_ref(), variable("DOCKER_HOST").as_deref())?,
            wanted: VolumeFilter {
                volumes: self.volumes.clone(),
                exclude: self.exclude.clone(),
                containers: self.containers.clone(),
                labels: self.labels.clone(),
            },
            quiesce: self.quiesce.clone(),
            stop_timeout: self.stop_timeout(),
            kill: self.kill,
            images: self.images,
            environment: !self.no_environment,
            access: self.access(),
        })
    }

    /// Returns how long a container may take to stop.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT_SECONDS))
    }

    /// Returns how volumes are reached.
    pub fn access(&self) -> Access {
        if self.archive_api {
            Access::Archive
        } else {
            Access::Auto
        }
    }

    /// Connects to the engine.
    pub async fn engine(&self) -> Result<Engine> {
        Engine::connect(&Address::meant(
            self.socket.as_ref(),
            variable("DOCKER_HOST").as_deref(),
        )?)
        .await
    }

    /// Asks the engine where the volumes that are meant lie.
    async fn mountpoints(&self) -> Result<Vec<String>> {
        let options = self.options()?;
        let engine = Engine::connect(&options.socket).await?;
        let containers = engine.containers().await?;
        let (volumes, networks) = (engine.volumes().await?, engine.networks().await?);
        let selected = select(&options.wanted, volumes, containers, networks)?;
        let volumes = selected.volumes.iter();
        Ok(volumes.map(|volume| text(volume, "/Mountpoint").to_owned()).collect())
    }
}

#[async_trait]
impl SourceSpec for DockerSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        self.socket.as_ref().map_or_else(|| "docker:".to_owned(), Address::url)
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(DockerSource::new(self.options()?)))
    }

    fn make_absolute(&mut self) -> Result<()> {
        match &mut self.socket {
            Some(socket) => socket.absolute(),
            None => Ok(()),
        }
    }

    async fn occupied(&self) -> Result<Vec<Occupied>> {
        let paths = match self.mountpoints().await {
            Ok(paths) => paths,
            Err(_) => vec![VOLUMES.to_owned()],
        };
        let tree = |path: String| Occupied::Tree {
            path: PathBuf::from(path),
            patterns: None,
        };
        Ok(paths.into_iter().filter(|path| !path.is_empty()).map(tree).collect())
    }
}
