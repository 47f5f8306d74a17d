//! Docker volumes, and the definitions of the containers and networks that belong to them, over the Engine API.
//!
//! A volume is read through its mount point where this process sees it, and otherwise through the archive API of a
//! container that has it (a helper container that is never started, if none has). Either way it lies in the archive as
//! an ordinary file tree under `volumes/NAME/`. Containers named by `quiesce` are stopped before the first volume is read
//! and started after the last one, whatever happened in between (see [`quiesce`]).
//!
//! | entry or stream | holds |
//! | --- | --- |
//! | `definitions/containers.json`, `networks.json`, `volumes.json` | what the engine says of each, without environments |
//! | `protected/environment.json` | the environment of each container; passwords stand here |
//! | `images/00000.NAME/…` | an image with all its layers, as `docker load` takes it |
//! | `volumes/NAME/…` | the files of a volume |
//! | stream record `docker` | the [`Contents`] |

pub mod api;
mod engine;
pub mod flags;
mod helper;
mod images;
pub mod keys;
mod members;
pub mod quiesce;
mod read;
pub mod restore;
mod restorer;
pub mod source_url;
mod spec;
mod tar_in;
mod tar_out;

pub use engine::DockerEngine;
pub use restorer::VolumesRestored;
pub use spec::DockerSpec;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::archive::{EntryMeta, SequentialWriter, StreamRecord};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::docker::api::Address;
use crate::engines::docker::api::definition::{
    compose_service, container_name, label, take_environment, volume_mounts,
};
use crate::engines::docker::api::select::{Selected, VolumeFilter, meant, select};
use crate::engines::docker::api::{Engine, text};
use crate::engines::{BackupContext, EngineKind, Finding, FindingLevel, Notes, Source, SourceOutcome};

/// What tells it from other engines.
pub const KIND: EngineKind = EngineKind::new("docker", "Docker volumes");

/// Name of the stream record that holds the [`Contents`].
pub const STREAM: &str = "docker";
/// Entry with the containers, as the engine inspects them, without their environments.
pub const CONTAINERS: &str = "definitions/containers.json";
/// Entry with the networks.
pub const NETWORKS: &str = "definitions/networks.json";
/// Entry with the volumes.
pub const VOLUMES: &str = "definitions/volumes.json";
/// Entry with the environments, by name of container.
pub const ENVIRONMENT: &str = "protected/environment.json";

/// How a volume is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Through the mount point where it is visible, else through the archive API.
    #[default]
    Auto,
    /// Through the archive API.
    Archive,
}

/// What a source of kind `docker` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptions {
    /// Where the engine listens.
    pub socket: Address,
    /// Volumes and containers.
    pub wanted: VolumeFilter,
    /// Containers (names or compose services) that are stopped while volumes are read or written.
    pub quiesce: Vec<String>,
    /// How long they may take to stop.
    pub stop_timeout: Duration,
    /// Whether one that does not stop by then is killed, as `docker stop` does.
    pub kill: bool,
    /// Whether images are stored too.
    pub images: bool,
    /// Whether the environments of containers are stored.
    pub environment: bool,
    /// How volumes are reached.
    pub access: Access,
}

/// What a docker source stored, for people and for `recover`; in the facts of the stream record [`STREAM`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Contents {
    /// Version of the engine.
    pub engine: String,
    /// Volumes.
    pub volumes: Vec<StoredVolume>,
    /// Containers.
    pub containers: Vec<StoredContainer>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Images.
    pub images: Vec<StoredImage>,
}

/// One volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredVolume {
    /// Its name.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files, directories and links.
    pub entries: u64,
    /// Whether it was read through the archive API.
    pub by_archive: bool,
}

impl StoredVolume {
    /// Returns the name of its stream record; with a slash, where its files lie.
    pub fn stream(&self) -> String {
        format!("volumes/{}", self.name)
    }
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StoredContainer {
    /// Its name.
    pub name: String,
    /// Its image, as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its compose project.
    pub project: Option<String>,
    /// Its service in that project.
    pub service: Option<String>,
    /// Whether it ran.
    pub running: bool,
    /// Volumes it mounts.
    pub volumes: Vec<String>,
}

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredImage {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its stream.
    pub stream: String,
    /// Bytes of its tar.
    pub bytes: u64,
}

/// Volumes and definitions of a Docker engine.
#[derive(Debug)]
pub struct DockerSource {
    options: DockerOptions,
}

impl DockerSource {
    /// Nothing is connected yet.
    pub fn new(options: DockerOptions) -> Self {
        Self { options }
    }

    async fn look(&self) -> Result<(Engine, Selected)> {
        let engine = Engine::connect(&self.options.socket).await?;
        let containers = engine.containers().await?;
        meant(&self.options.quiesce, &containers).context("find the containers of `quiesce`")?;
        let mut wanted = self.options.wanted.clone();
        let everything = wanted.volumes.is_empty() && wanted.labels.is_empty() && wanted.containers.is_empty();
        if !everything {
            wanted.containers.extend(self.options.quiesce.iter().cloned());
        }
        let containers = containers.into_iter().filter(|one| !helper::is_helper(one)).collect();
        let selected = select(&wanted, engine.volumes().await?, containers, engine.networks().await?)?;
        Ok((engine, selected))
    }

    fn to_quiesce(&self, containers: &[Value]) -> Result<quiesce::Stop> {
        Ok(quiesce::Stop {
            names: self.options.quiesce.clone(),
            timeout: self.options.stop_timeout,
            kill: self.options.kill,
            containers: quiesce::running(&self.options.quiesce, containers)?,
        })
    }
}

#[async_trait]
impl Source for DockerSource {
    fn location(&self) -> String {
        let engine = self.options.socket.url();
        match self.options.wanted.volumes.as_slice() {
            [] => engine,
            volumes => format!("{engine} volumes {}", volumes.join(", ")),
        }
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let (engine, selected) = self.look().await?;
        let mut findings = vec![finding(
            FindingLevel::Info,
            format!(
                "Docker {}: {} volumes, {} containers, {} networks",
                engine.version(),
                selected.volumes.len(),
                selected.containers.len(),
                selected.networks.len()
            ),
            None,
        )];
        for volume in &selected.volumes {
            let name = text(volume, "/Name");
            let users = users(&selected.containers, name);
            let how = match read::mount_point(&engine, volume, &selected.containers, self.options.access).await {
                Ok(path) => format!("read at \"{}\"", path.display()),
                Err(why) => format!("read through the archive API ({why})"),
            };
            findings.push(finding(FindingLevel::Info, format!("volume \"{name}\": {how}"), None));
            let busy: Vec<&str> = users
                .iter()
                .filter(|one| running(one) && !quiesce::names(&self.options.quiesce, one))
                .map(|one| container_name(one))
                .collect();
            if !busy.is_empty() {
                findings.push(finding(
                    FindingLevel::Warning,
                    format!("volume \"{name}\" is in use by {} while it is read", busy.join(", ")),
                    Some(
                        "Files that change meanwhile may be inconsistent: list the containers in `quiesce`, or \
                          exclude the volume and back up its database over its own protocol.",
                    ),
                ));
            }
        }
        Ok(findings)
    }

    async fn backup(&self, context: BackupContext) -> Result<SourceOutcome> {
        let notes = Notes::new(context.name.clone(), context.reporter.clone());
        quiesce::start_left_behind(&context.spool_dir, &notes).await;
        let looked = tokio::select! {
            biased;
            () = context.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            looked = self.look() => looked,
        };
        let (engine, selected) = looked?;
        let mut contents = describe(&engine, &selected);
        let mut raw_bytes = 0;
        if self.options.images {
            contents.images = images::store(&engine, &selected.containers, &context, &notes).await?;
            raw_bytes += contents.images.iter().map(|image| image.bytes).sum::<u64>();
        }
        let BackupContext {
            name,
            writer,
            reporter,
            cancel,
            spool_dir,
            ..
        } = context;
        let mut writer = writer.into_sequential();
        let (with_environment, described) = (self.options.environment, selected.clone());
        writer = blocking(move || {
            write_definitions(&mut writer, &described, with_environment)?;
            Ok(writer)
        })
        .await?;
        let stop = self.to_quiesce(&selected.containers)?;
        let quiesced = quiesce::stop(&engine, stop, &spool_dir, &cancel).await?;
        let consistent_at = Timestamp::now();
        let reading = read::BackupSession {
            engine: &engine,
            access: self.options.access,
            containers: &selected.containers,
            notes: std::sync::Arc::new(notes),
            reporter,
            task: name,
            cancel,
            spool_dir,
        };
        let read = reading.volumes(writer, &selected.volumes, &mut contents.volumes).await;
        // Containers are started again before anything else is decided.
        let started = quiesced.start().await;
        let mut writer = read?;
        started?;
        raw_bytes += contents.volumes.iter().map(|volume| volume.bytes).sum::<u64>();
        let items = contents.volumes.iter().map(|volume| volume.entries).sum::<u64>();
        let record = record(STREAM, raw_bytes, serde_json::to_value(&contents).unwrap_or_default());
        writer.finish_stream(record)?;
        Ok(SourceOutcome {
            versions: BTreeMap::from([
                ("docker".to_owned(), engine.version().to_owned()),
                ("format".to_owned(), "pax".to_owned()),
            ]),
            position: BTreeMap::from([
                ("volumes".to_owned(), contents.volumes.len().to_string()),
                ("containers".to_owned(), contents.containers.len().to_string()),
                ("images".to_owned(), contents.images.len().to_string()),
            ]),
            consistent_at,
            raw_bytes,
            items: items + exact::u64_from(contents.containers.len()),
            note_counts: reading.notes.counts(),
            archives: writer.finish().await?,
        })
    }
}

fn finding(level: FindingLevel, message: String, hint: Option<&str>) -> Finding {
    Finding {
        level,
        message,
        hint: hint.map(str::to_owned),
    }
}

/// Returns whether a container runs.
pub(crate) fn running(container: &Value) -> bool {
    container
        .pointer("/State/Running")
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

/// Returns the containers that mount a volume.
fn users<'a>(containers: &'a [Value], volume: &str) -> Vec<&'a Value> {
    let mounts = |one: &Value| volume_mounts(one).iter().any(|mount| mount.volume == volume);
    containers.iter().filter(|one| mounts(one)).collect()
}

fn record(stream: &str, bytes: u64, facts: Value) -> StreamRecord {
    StreamRecord {
        stream: stream.to_owned(),
        prefixes: Vec::new(),
        chunks: 0,
        bytes,
        rows: None,
        row_digest: None,
        facts,
    }
}

fn describe(engine: &Engine, selected: &Selected) -> Contents {
    let container = |one: &Value| StoredContainer {
        name: container_name(one).to_owned(),
        image: text(one, "/Config/Image").to_owned(),
        image_id: text(one, "/Image").to_owned(),
        project: label(one, "com.docker.compose.project").map(str::to_owned),
        service: compose_service(one).map(str::to_owned),
        running: running(one),
        volumes: volume_mounts(one).into_iter().map(|mount| mount.volume).collect(),
    };
    Contents {
        engine: engine.version().to_owned(),
        containers: selected.containers.iter().map(container).collect(),
        networks: selected
            .networks
            .iter()
            .map(|one| text(one, "/Name").to_owned())
            .collect(),
        ..Contents::default()
    }
}

/// Writes the definitions, environments apart from them.
fn write_definitions(writer: &mut SequentialWriter, selected: &Selected, with_environment: bool) -> Result<()> {
    let mut environments = serde_json::Map::new();
    let mut containers = selected.containers.clone();
    for container in &mut containers {
        let environment = take_environment(container).filter(|_| with_environment);
        if let Some(environment) = environment {
            environments.insert(container_name(container).to_owned(), environment);
        }
    }
    let volumes: Vec<&Value> = selected.volumes.iter().chain(&selected.mounted).collect();
    for (path, value) in [
        (CONTAINERS, json!(containers)),
        (NETWORKS, json!(selected.networks)),
        (VOLUMES, json!(volumes)),
        (ENVIRONMENT, Value::Object(environments)),
    ] {
        let mut bytes = serde_json::to_vec_pretty(&value)
            .map_err(|e| Error::new(ErrorKind::Other, format!("write {path}")).with_cause(e))?;
        bytes.push(b'\n');
        let size = exact::u64_from(bytes.len());
        writer.begin_entry(&EntryMeta::file(path, size, (Timestamp::now().as_second(), 0)))?;
        writer.write(&bytes)?;
        writer.finish_entry(false)?;
    }
    Ok(())
}

/// A note about a container, volume or image.
fn note(code: &str, object: &str, message: impl Into<String>) -> Note {
    Note::new(code, object, message)
}
