//! Restoring sources of kind `docker`: where their volumes go, and how.

use std::path::PathBuf;
use std::time::Duration;

use crate::archive::ArchiveReader;
use crate::base::error::{Error, Result};
use crate::config::{self, SourceKind};
use crate::engines::docker::Access;
use crate::engines::docker::api::{Address, Engine};
use crate::engines::docker::restore::{self, DockerRestoreOptions, VolumeReport};
use crate::operations::Session;
use crate::operations::options;
use crate::operations::session::process_environment;
use crate::repository::ManifestSource;

/// Where volumes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VolumesTarget {
    /// Below a directory, as plain trees.
    Directory(PathBuf),
    /// Into the volumes of an engine; one alone may have another name there.
    Engine {
        socket: Option<Address>,
        rename: Option<String>,
    },
}

impl VolumesTarget {
    /// Reads `--into`; without it volumes go back into the engine they came from.
    pub(crate) fn parse(into: Option<&str>, source: &config::DockerSource) -> Result<Self> {
        let Some(into) = into else {
            return Ok(Self::Engine {
                socket: source.socket.clone(),
                rename: None,
            });
        };
        if !into.starts_with("docker:") {
            return Ok(Self::Directory(PathBuf::from(
                into.strip_prefix("files:").unwrap_or(into),
            )));
        }
        let SourceKind::Docker(docker) = config::parse_source_url(into)?.kind else {
            return Err(Error::invalid(format!("\"{into}\" is no Docker engine")));
        };
        let rename = match docker.volumes.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            _ => {
                return Err(Error::invalid(format!("\"{into}\" names several volumes")).with_hint(
                    "Choose volumes with --volume; --into docker:NAME gives the one that is restored another name.",
                ));
            }
        };
        Ok(Self::Engine {
            socket: docker.socket.or_else(|| source.socket.clone()),
            rename,
        })
    }

    /// Names it for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Engine { rename: Some(name), .. } => format!("docker:{name}"),
            Self::Engine { socket, .. } => match socket {
                Some(socket) => socket.url(),
                None => "docker:".to_owned(),
            },
        }
    }
}

/// Volumes of Docker that came back.
#[derive(Debug, serde::Serialize)]
pub(crate) struct VolumesRestored {
    /// Bytes written, of all of them.
    pub(crate) bytes: u64,
    pub(crate) volumes: Vec<VolumeReport>,
}

/// Connects to the engine that an address, or DOCKER_HOST, means.
pub(crate) async fn engine(session: &Session, socket: Option<&Address>) -> Result<Engine> {
    let host = process_environment("DOCKER_HOST");
    let address = Address::meant(socket, host.as_deref())?;
    session.or_cancelled(Engine::connect(&address)).await
}

/// Puts together how volumes go back, from what is known of the source here and the flags.
pub(crate) fn options(
    session: &Session,
    source: &ManifestSource,
    known: &config::DockerSource,
    flags: &options::Restore,
) -> DockerRestoreOptions {
    DockerRestoreOptions {
        task: source.name.clone(),
        volumes: flags.docker.volume.clone(),
        rename: None,
        paths: flags.path.clone(),
        clean: flags.clean,
        keeps_equal: false,
        delete: flags.delete,
        trust_times: flags.trust_times,
        devices: flags.devices,
        access: if known.archive_api {
            Access::Archive
        } else {
            Access::Auto
        },
        quiesce: if flags.docker.quiesce.is_empty() {
            known.quiesce.clone()
        } else {
            flags.docker.quiesce.clone()
        },
        stop_timeout: known
            .stop_timeout_seconds
            .map_or(Duration::from_secs(30), Duration::from_secs),
        kill: known.kill,
        spool_dir: session.spool_dir.clone(),
        origin: String::new(),
    }
}

/// Restores the volumes of a source. Names to stop that no container has any more are no error: the host may be new.
pub(crate) async fn run(
    session: &Session,
    reader: ArchiveReader,
    target: &VolumesTarget,
    mut options: DockerRestoreOptions,
) -> Result<VolumesRestored> {
    let volumes = match target {
        VolumesTarget::Directory(directory) => {
            let reporter = &session.reporter;
            restore::into_directory(&reader, directory, &options, reporter, &session.cancel).await?
        }
        VolumesTarget::Engine { socket, rename } => {
            let engine = engine(session, socket.as_ref()).await?;
            options.rename.clone_from(rename);
            restore::into_engine(&reader, &engine, &options, &session.reporter, &session.cancel).await?
        }
    };
    Ok(VolumesRestored {
        bytes: volumes.iter().map(|volume| volume.bytes).sum(),
        volumes,
    })
}

/// Calls `work` with the directory of each chosen volume, one after another; in an engine with the containers of
/// `quiesce` stopped meanwhile. Returns name, directory and outcome of each.
pub(crate) async fn settle<T, F: Future<Output = Result<T>>>(
    session: &Session,
    reader: &ArchiveReader,
    target: &VolumesTarget,
    options: &DockerRestoreOptions,
    mut work: impl FnMut(PathBuf) -> F,
) -> Result<Vec<(String, PathBuf, T)>> {
    let mut done = Vec::new();
    match target {
        VolumesTarget::Directory(directory) => {
            let contents = restore::contents(reader).await?;
            for volume in restore::chosen(&contents, &options.volumes)? {
                let root = directory.join(&volume.name);
                done.push((volume.name.clone(), root.clone(), work(root).await?));
            }
        }
        VolumesTarget::Engine { socket, rename } => {
            let engine = engine(session, socket.as_ref()).await?;
            let mut options = options.clone();
            options.rename.clone_from(rename);
            let still = restore::standing_still(reader, &engine, &options, &session.cancel).await?;
            let mut failed = None;
            for (name, root) in &still.places {
                match work(root.clone()).await {
                    Ok(value) => done.push((name.clone(), root.clone(), value)),
                    Err(error) => {
                        failed = Some(error.context(format!("volume \"{name}\"")));
                        break;
                    }
                }
            }
            still.start().await?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
    Ok(done)
}
