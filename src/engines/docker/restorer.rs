//! Bringing volumes back, into an engine or below a directory: where to, how, and what is said of it.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::archive::ArchiveReader;
use crate::base::error::{Error, Result};
use crate::base::units::format_bytes;
use crate::engines::docker::DockerSpec;
use crate::engines::docker::api::{Address, Engine};
use crate::engines::docker::flags::RestoreDocker;
use crate::engines::docker::restore::{self, DockerRestoreOptions, VolumeReport};
use crate::engines::files::restorer::{SettledTree, lost, settle};
use crate::engines::restorer::occupied;
use crate::engines::{GivenPlace, RestoreReport, RestoreRequest, Restorer, Settle, SettleReport, TargetPlan, Tools};

/// Where volumes go.
#[derive(Debug, Clone)]
enum Target {
    /// Below a directory, as plain trees.
    Directory(PathBuf),
    /// Into the volumes of an engine; one alone may have another name there.
    Engine { server: DockerSpec, rename: Option<String> },
}

/// Brings volumes back.
#[derive(Debug)]
pub(super) struct VolumesRestorer {
    target: Target,
    task: String,
    how: DockerRestoreOptions,
    tools: Tools,
    /// Whether a directory was given for this restore, and may not hold something else.
    is_given: bool,
}

impl VolumesRestorer {
    pub(super) fn new(request: RestoreRequest) -> Result<Self> {
        // By the word of this host, or the snapshot's where that is accepted. Else nothing but the engine of this host is meant.
        let known = request
            .place
            .as_ref()
            .and_then(|spec| spec.downcast_ref::<DockerSpec>());
        let known = known.cloned().unwrap_or_default();
        let target = target(&request, &known)?;
        let flags: RestoreDocker = request.options.engines.of();
        let options = request.options;
        Ok(Self {
            target,
            is_given: request.into.is_some(),
            how: DockerRestoreOptions {
                task: request.source.clone(),
                volumes: flags.volume,
                rename: None,
                paths: options.paths,
                clean: options.clean,
                keeps_equal: false,
                delete: options.delete,
                trust_times: options.trust_times,
                devices: options.devices,
                access: known.access(),
                quiesce: if flags.quiesce.is_empty() {
                    known.quiesce.clone()
                } else {
                    flags.quiesce
                },
                stop_timeout: known.stop_timeout(),
                kill: known.kill,
                spool_dir: request.tools.spool_dir.clone(),
                origin: request.snapshot,
            },
            task: request.source,
            tools: request.tools,
        })
    }
}

/// Decides where volumes go: a directory takes each source under its name, unless it is the only one.
fn target(request: &RestoreRequest, known: &DockerSpec) -> Result<Target> {
    let Some(given) = &request.into else {
        return Ok(Target::Engine {
            server: known.clone(),
            rename: None,
        });
    };
    if let Some(docker) = given.spec.as_ref().and_then(|spec| spec.downcast_ref::<DockerSpec>()) {
        return Ok(Target::Engine {
            rename: rename(given, docker)?,
            server: DockerSpec {
                socket: docker.socket.clone().or_else(|| known.socket.clone()),
                ..known.clone()
            },
        });
    }
    if given.text.contains("://") || given.spec.is_some() && !given.text.starts_with("files:") {
        return Err(request
            .cannot_go_into(given)
            .with_hint("Volumes go into a directory, or into docker:, docker:NAME or docker:///path/docker.sock."));
    }
    let path = PathBuf::from(given.text.strip_prefix("files:").unwrap_or(&given.text));
    Ok(Target::Directory(if request.is_one_of_several {
        path.join(&request.source)
    } else {
        path
    }))
}

/// Returns the name that a volume gets there, if the place says one.
fn rename(given: &GivenPlace, docker: &DockerSpec) -> Result<Option<String>> {
    match docker.volumes.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(
            Error::invalid(format!("\"{}\" names several volumes", given.text)).with_hint(
                "Choose volumes with --volume; --into docker:NAME gives the one that is restored another name.",
            ),
        ),
    }
}

#[async_trait(?Send)]
impl Restorer for VolumesRestorer {
    fn target(&self) -> String {
        match &self.target {
            Target::Directory(path) => path.display().to_string(),
            Target::Engine { rename: Some(name), .. } => format!("docker:{name}"),
            Target::Engine { server, .. } => server
                .socket
                .as_ref()
                .map_or_else(|| "docker:".to_owned(), Address::url),
        }
    }

    fn check_target(&self) -> Result<()> {
        match &self.target {
            Target::Directory(root)
                if self.is_given
                    && !self.how.clean
                    && std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) =>
            {
                Err(occupied(root, "is not empty"))
            }
            _ => Ok(()),
        }
    }

    async fn plan(&mut self, _: &ArchiveReader) -> Result<Option<Box<dyn TargetPlan>>> {
        Ok(None)
    }

    /// Names to stop that no container has any more are no error: the host may be new.
    async fn restore(self: Box<Self>, reader: ArchiveReader) -> Result<Box<dyn RestoreReport>> {
        let (mut how, Tools { reporter, cancel, .. }) = (self.how, &self.tools);
        let volumes = match self.target {
            Target::Directory(directory) => {
                restore::into_directory(&reader, &directory, &how, reporter, cancel).await?
            }
            Target::Engine { server, rename } => {
                let engine = self.tools.or_cancelled(server.engine()).await?;
                how.rename = rename;
                restore::into_engine(&reader, &engine, &how, reporter, cancel).await?
            }
        };
        Ok(Box::new(VolumesRestored {
            bytes: volumes.iter().map(|volume| volume.bytes).sum(),
            volumes,
        }))
    }

    fn settles_with_archive(&self) -> bool {
        true
    }

    /// Goes from volume to volume; in an engine with the containers of `quiesce` stopped meanwhile.
    async fn settle(self: Box<Self>, how: Settle, reader: Option<ArchiveReader>) -> Result<Box<dyn SettleReport>> {
        let reader = reader.ok_or_else(|| Error::invalid("the archive of the volumes is missing"))?;
        let volumes = match &self.target {
            Target::Directory(directory) => {
                let contents = restore::contents(&reader).await?;
                let mut settled = Vec::new();
                for volume in restore::chosen(&contents, &self.how.volumes)? {
                    settled.push(
                        self.settle_volume(how, &volume.name, directory.join(&volume.name))
                            .await?,
                    );
                }
                settled
            }
            Target::Engine { server, rename } => {
                let engine = self.tools.or_cancelled(server.engine()).await?;
                self.settle_in_engine(how, &reader, &engine, rename.clone()).await?
            }
        };
        Ok(Box::new(SettledVolumes { volumes }))
    }
}

impl VolumesRestorer {
    async fn settle_in_engine(
        &self,
        how: Settle,
        reader: &ArchiveReader,
        engine: &Engine,
        rename: Option<String>,
    ) -> Result<Vec<SettledVolume>> {
        let options = DockerRestoreOptions {
            rename,
            ..self.how.clone()
        };
        let still = restore::standing_still(reader, engine, &options, &self.tools.cancel).await?;
        let (mut settled, mut failed) = (Vec::new(), None);
        for (name, root) in &still.places {
            match self.settle_volume(how, name, root.clone()).await {
                Ok(one) => settled.push(one),
                Err(error) => {
                    failed = Some(error.context(format!("volume \"{name}\"")));
                    break;
                }
            }
        }
        still.start().await?;
        failed.map_or(Ok(settled), Err)
    }

    async fn settle_volume(&self, how: Settle, volume: &str, root: PathBuf) -> Result<SettledVolume> {
        let report = settle(how, root.clone(), &self.task, &self.tools).await?;
        Ok(SettledVolume {
            source: format!("{} volume {volume}", self.task),
            tree: SettledTree { into: root, report },
        })
    }
}

/// Volumes whose restore is finished or undone.
#[derive(Debug, serde::Serialize)]
struct SettledVolumes {
    volumes: Vec<SettledVolume>,
}

/// One of them.
#[derive(Debug, serde::Serialize)]
struct SettledVolume {
    /// The source, and the volume.
    source: String,
    #[serde(flatten)]
    tree: SettledTree,
}

impl SettleReport for SettledVolumes {
    fn text(&self, _: &str, how: Settle) -> String {
        let volumes = self.volumes.iter();
        volumes.map(|volume| volume.tree.text(&volume.source, how)).collect()
    }
}

/// Volumes that came back.
#[derive(Debug, serde::Serialize)]
pub struct VolumesRestored {
    /// Bytes written, of all of them.
    pub bytes: u64,
    /// Each of them.
    pub volumes: Vec<VolumeReport>,
}

impl RestoreReport for VolumesRestored {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failures(&self) -> Vec<String> {
        lost(self.volumes.iter().map(|volume| volume.lost).sum())
    }

    fn text(&self) -> String {
        self.volumes.iter().map(volume_text).collect()
    }
}

fn volume_text(volume: &VolumeReport) -> String {
    let mut text = format!(
        "  volume {}{}: {} written, {} unchanged, {}{}\n",
        volume.volume,
        if volume.created { " (created)" } else { "" },
        volume.written,
        volume.unchanged,
        format_bytes(volume.bytes),
        if volume.by_archive {
            ", through the archive API"
        } else {
            ""
        },
    );
    if let Some(previous) = &volume.previous {
        text.push_str(&format!("    the previous data is kept in {}\n", previous.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_volume_lost_is_told_once() {
        let of = |lost| {
            let volume = |lost| VolumeReport {
                lost,
                ..VolumeReport::default()
            };
            let volumes = vec![volume(0), volume(lost)];
            VolumesRestored { bytes: 0, volumes }.failures().len()
        };
        assert_eq!((of(0), of(2)), (0, 1));
    }
}
