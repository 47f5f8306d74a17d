//! Volumes back into an engine, or as plain trees into a directory.
//!
//! Through a visible mount point a volume is a file tree like any other: staged beside, verified, then put in place by
//! renames. Through the archive API nothing can stand beside, so every stored digest of the volume is read in a first
//! pass, and only then is anything sent; a volume that holds files already is refused without `clean`, and then files that
//! the backup does not know stay. A volume that is missing is created by its definition.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::helper::{self, Helper, MOUNT};
use super::members::Members;
use super::{
    Access, CONTAINERS, Contents, ENVIRONMENT, NETWORKS, STREAM, StoredVolume, VOLUMES, quiesce, read, tar_out,
};
use crate::archive::{ArchiveReader, EntryKind};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::{Note, SharedReporter};
use crate::base::shown_path;
use crate::engines::docker::api::definition::{container_name, volume_body};
use crate::engines::docker::api::{Engine, text};
use crate::engines::files::differing::Differing;
use crate::engines::files::patterns::Patterns;
use crate::engines::files::restore::{self as files, FilesRestoreOptions};
use crate::engines::files::spelling;
use crate::engines::files::survey::survey;

/// Definitions of one kind are at most this long, in bytes.
const MAX_DEFINITIONS: usize = 32 << 20;

/// How volumes go back.
#[derive(Debug, Clone)]
pub struct DockerRestoreOptions {
    /// Task name towards the reporter.
    pub task: String,
    /// Volumes; all when empty.
    pub volumes: Vec<String>,
    /// Another name for the one volume that is restored.
    pub rename: Option<String>,
    /// Globs of paths within the volumes; everything when empty.
    pub paths: Vec<String>,
    /// Writes into volumes that hold files already.
    pub clean: bool,
    /// A volume that holds files already is no obstacle if all of the backup is among them, as it was.
    pub keeps_equal: bool,
    /// Moves away what the backup does not know.
    pub delete: bool,
    /// Takes files for unchanged by size and time.
    pub trust_times: bool,
    /// Makes device nodes; through the archive API the engine makes them.
    pub devices: bool,
    /// How volumes are reached.
    pub access: Access,
    /// Containers (names or compose services) that are stopped meanwhile.
    pub quiesce: Vec<String>,
    /// How long they may take to stop.
    pub stop_timeout: Duration,
    /// Whether one that does not stop by then is killed.
    pub kill: bool,
    /// Where the journal of stopped containers lies.
    pub spool_dir: PathBuf,
    /// What is restored, for whoever finds an interrupted restore: the id of a snapshot.
    pub origin: String,
}

impl Default for DockerRestoreOptions {
    fn default() -> Self {
        Self {
            task: STREAM.to_owned(),
            volumes: Vec::new(),
            rename: None,
            paths: Vec::new(),
            clean: false,
            keeps_equal: false,
            delete: false,
            trust_times: false,
            devices: false,
            access: Access::Auto,
            quiesce: Vec::new(),
            stop_timeout: Duration::from_secs(30),
            kill: false,
            spool_dir: PathBuf::from("."),
            origin: String::new(),
        }
    }
}

/// What became of one volume. A field that an earlier release did not write is as of a restore that had nothing of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct VolumeReport {
    /// Its name.
    pub volume: String,
    /// Whether it was made.
    pub created: bool,
    /// Entries written.
    pub written: u64,
    /// Entries that were there already.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Where what was replaced is kept.
    #[serde(serialize_with = "shown_path::optional")]
    pub previous: Option<PathBuf>,
    /// What could not be made as it was.
    pub lost: u64,
    /// Whether it went through the archive API.
    pub by_archive: bool,
}

/// Definitions that a snapshot holds.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Containers, as inspected.
    pub containers: Vec<Value>,
    /// Networks.
    pub networks: Vec<Value>,
    /// Volumes.
    pub volumes: Vec<Value>,
    /// Environments by name of container.
    pub environments: serde_json::Map<String, Value>,
}

/// Reads what a docker source stored, without its data.
pub async fn contents(reader: &ArchiveReader) -> Result<Contents> {
    let record = reader
        .streams()
        .await?
        .into_iter()
        .find(|record| record.stream == STREAM);
    let record = record.ok_or_else(|| Error::corrupt("the archive holds no Docker volumes"))?;
    serde_json::from_value(record.facts)
        .map_err(|e| Error::corrupt("the list of Docker volumes does not parse").with_cause(e))
}

/// Reads the definitions.
pub async fn definitions(reader: &ArchiveReader) -> Result<Definitions> {
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    Ok(Definitions {
        containers: list(document(reader, CONTAINERS).await?),
        networks: list(document(reader, NETWORKS).await?),
        volumes: list(document(reader, VOLUMES).await?),
        environments: document(reader, ENVIRONMENT)
            .await?
            .as_object()
            .cloned()
            .unwrap_or_default(),
    })
}

async fn document(reader: &ArchiveReader, path: &str) -> Result<Value> {
    let bytes = reader.read(path.as_bytes(), MAX_DEFINITIONS).await?;
    let bytes = bytes.ok_or_else(|| Error::corrupt(format!("the archive lacks \"{path}\"")))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(format!("\"{path}\" does not parse")).with_cause(e))
}

/// Loads a stored image and returns its bytes.
pub async fn load_image(engine: &Engine, reader: &ArchiveReader, image: &super::StoredImage) -> Result<u64> {
    super::images::load(engine, reader, image).await
}

/// Chooses volumes by name.
pub fn chosen<'a>(contents: &'a Contents, names: &[String]) -> Result<Vec<&'a StoredVolume>> {
    let all = || contents.volumes.iter().map(|volume| volume.name.as_str());
    for name in names {
        if !all().any(|known| known == name) {
            let error = Error::new(ErrorKind::NotFound, format!("the snapshot has no volume \"{name}\""));
            return Err(match crate::base::nearest::nearest(name, all()) {
                Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                None => error.with_hint(format!("It has {}.", all().collect::<Vec<_>>().join(", "))),
            });
        }
    }
    let wanted = |volume: &&StoredVolume| names.is_empty() || names.contains(&volume.name);
    Ok(contents.volumes.iter().filter(wanted).collect())
}

/// Restores volumes as plain trees below a directory.
pub async fn into_directory(
    reader: &ArchiveReader,
    directory: &Path,
    options: &DockerRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
) -> Result<Vec<VolumeReport>> {
    let contents = contents(reader).await?;
    let mut reports = Vec::new();
    for volume in chosen(&contents, &options.volumes)? {
        let target = directory.join(&volume.name);
        reports.push(into_tree(reader, volume, &volume.name, &target, options, reporter, cancel).await?);
    }
    Ok(reports)
}

/// Says how the tree of a volume comes back.
fn tree_options(volume: &StoredVolume, options: &DockerRestoreOptions) -> FilesRestoreOptions {
    FilesRestoreOptions {
        task: options.task.clone(),
        paths: options.paths.clone(),
        clean: options.clean,
        delete: options.delete,
        trust_times: options.trust_times,
        devices: options.devices,
        stream: volume.stream(),
        prefix: format!("{}/", volume.stream()).into_bytes(),
        origin: options.origin.clone(),
    }
}

async fn into_tree(
    reader: &ArchiveReader,
    volume: &StoredVolume,
    name: &str,
    target: &Path,
    options: &DockerRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
) -> Result<VolumeReport> {
    let how = tree_options(volume, options);
    let done = files::restore(reader.clone(), target, &how, reporter.clone(), cancel.clone()).await?;
    Ok(VolumeReport {
        volume: name.to_owned(),
        created: false,
        written: done.written,
        unchanged: done.unchanged,
        bytes: done.bytes,
        previous: done.previous,
        lost: done.lost,
        by_archive: false,
    })
}

/// Restores volumes into an engine, with the containers of `quiesce` stopped meanwhile.
pub async fn into_engine(
    reader: &ArchiveReader,
    engine: &Engine,
    options: &DockerRestoreOptions,
    reporter: &SharedReporter,
    cancel: &CancellationToken,
) -> Result<Vec<VolumeReport>> {
    let contents = contents(reader).await?;
    let volumes = chosen(&contents, &options.volumes)?;
    let definitions = definitions(reader).await?;
    let containers = engine.containers().await?;
    let containers: Vec<Value> = containers.into_iter().filter(|one| !helper::is_helper(one)).collect();
    let name_of = |volume: &StoredVolume| match (&options.rename, volumes.len()) {
        (Some(name), 1) => name.clone(),
        _ => volume.name.clone(),
    };
    for volume in &volumes {
        let name = name_of(volume);
        for user in super::users(&containers, &name) {
            if super::running(user) && !quiesce::names(&options.quiesce, user) {
                reporter.note(
                    &options.task,
                    Note::new(
                        "volume-in-use",
                        &name,
                        format!("is in use by running container \"{}\"", container_name(user)),
                    ),
                );
            }
        }
    }
    let stop = quiesce::Stop {
        names: options.quiesce.clone(),
        timeout: options.stop_timeout,
        kill: options.kill,
        containers: quiesce::running(&options.quiesce, &containers)?,
    };
    let quiesced = quiesce::stop(engine, stop, &options.spool_dir, cancel).await?;
    let work = async {
        let mut reports: Vec<VolumeReport> = Vec::new();
        for volume in &volumes {
            let name = name_of(volume);
            let place = VolumeTarget {
                engine,
                containers: &containers,
                definition: definitions.volumes.iter().find(|one| text(one, "/Name") == volume.name),
                name: &name,
            };
            let done = place.restore(reader, volume, options, reporter, cancel).await;
            reports.push(done.with_context(|| format!("restore volume \"{name}\""))?);
        }
        Ok(reports)
    };
    let done: Result<Vec<VolumeReport>> = work.await;
    let started = quiesced.start().await;
    let reports = done?;
    started?;
    Ok(reports)
}

/// Volumes whose directories are visible here, with the containers of `quiesce` stopped until [`Self::start`].
#[derive(Debug)]
pub struct StandingStill {
    /// Name and directory of each volume.
    pub places: Vec<(String, PathBuf)>,
    quiesced: quiesce::Quiesced,
}

impl StandingStill {
    /// Starts the containers again.
    pub async fn start(self) -> Result<()> {
        self.quiesced.start().await
    }
}

/// Finds the directories of the chosen volumes, and stops the containers of `quiesce`.
pub async fn standing_still(
    reader: &ArchiveReader,
    engine: &Engine,
    options: &DockerRestoreOptions,
    cancel: &CancellationToken,
) -> Result<StandingStill> {
    let contents = contents(reader).await?;
    let containers = engine.containers().await?;
    let containers: Vec<Value> = containers.into_iter().filter(|one| !helper::is_helper(one)).collect();
    let volumes = chosen(&contents, &options.volumes)?;
    let mut places = Vec::new();
    for volume in &volumes {
        let name = match (&options.rename, volumes.len()) {
            (Some(name), 1) => name.clone(),
            _ => volume.name.clone(),
        };
        let live = engine.volume(&name).await?;
        let live = live.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no volume \"{name}\"")))?;
        let place = read::mount_point(engine, &live, &containers, options.access).await;
        let place = place.map_err(|why| {
            Error::unsupported(format!(
                "volume \"{name}\" is not reached through its mount point: {why}"
            ))
            .with_hint("A restore through the archive API cannot be finished or undone: restore the volume again.")
        })?;
        places.push((name, place));
    }
    let stop = quiesce::Stop {
        names: options.quiesce.clone(),
        timeout: options.stop_timeout,
        kill: options.kill,
        containers: quiesce::running(&options.quiesce, &containers)?,
    };
    let quiesced = quiesce::stop(engine, stop, &options.spool_dir, cancel).await?;
    Ok(StandingStill { places, quiesced })
}

/// Returns whether a tree holds everything that the backup has of a volume, as it was.
async fn holds_all(
    reader: &ArchiveReader,
    volume: &StoredVolume,
    path: &Path,
    options: &DockerRestoreOptions,
    (reporter, cancel): (&SharedReporter, &CancellationToken),
) -> Result<bool> {
    // What differs is counted, not refused; nothing is written.
    let how = FilesRestoreOptions {
        clean: true,
        ..tree_options(volume, options)
    };
    let plan = survey(reader.clone(), path, &how, reporter.clone(), cancel.clone()).await?;
    Ok(plan.new == 0 && plan.replaced == 0)
}

/// Where one volume goes.
struct VolumeTarget<'a> {
    engine: &'a Engine,
    containers: &'a [Value],
    definition: Option<&'a Value>,
    name: &'a str,
}

impl VolumeTarget<'_> {
    async fn restore(
        &self,
        reader: &ArchiveReader,
        volume: &StoredVolume,
        options: &DockerRestoreOptions,
        reporter: &SharedReporter,
        cancel: &CancellationToken,
    ) -> Result<VolumeReport> {
        let (live, created) = self.find_or_create().await?;
        let at = read::mount_point(self.engine, &live, self.containers, options.access).await;
        let mut report = if let Ok(path) = at {
            let whole = options.keeps_equal && !options.clean && !created;
            let whole = whole && holds_all(reader, volume, &path, options, (reporter, cancel)).await?;
            if !options.clean && options.paths.is_empty() && !created && !whole {
                self.refuse_if_occupied(&path).await?;
            }
            into_tree(reader, volume, self.name, &path, options, reporter, cancel).await?
        } else {
            let helper = Helper::create(self.engine, self.name, true).await?;
            let done = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
                done = self.send(reader, volume, &helper, options, reporter) => done,
            };
            helper.remove().await;
            done?
        };
        report.created = created;
        Ok(report)
    }

    async fn find_or_create(&self) -> Result<(Value, bool)> {
        if let Some(live) = self.engine.volume(self.name).await? {
            return Ok((live, false));
        }
        let mut body = match self.definition {
            Some(definition) => volume_body(definition),
            None => serde_json::json!({}),
        };
        if let Some(body) = body.as_object_mut() {
            body.insert("Name".to_owned(), Value::from(self.name));
        }
        self.engine.create_volume(body).await?;
        let live = self.engine.volume(self.name).await?;
        let live =
            live.ok_or_else(|| Error::new(ErrorKind::NotFound, "the volume disappeared right after it was created"))?;
        Ok((live, true))
    }

    async fn refuse_if_occupied(&self, path: &Path) -> Result<()> {
        let place = path.to_owned();
        let occupied = blocking(move || Ok(std::fs::read_dir(&place)?.next().is_some())).await?;
        if occupied { Err(self.occupied()) } else { Ok(()) }
    }

    fn occupied(&self) -> Error {
        Error::new(
            ErrorKind::AlreadyExists,
            format!("volume \"{}\" already contains files", self.name),
        )
        .with_hint(
            "Add --clean to replace them (previous files are kept if the mount point is visible), or --volume NAME \
             --into docker:OTHER to restore into another volume.",
        )
    }

    /// Fails if a selected file is in the volume already: through the archive API it would be replaced without a trace.
    async fn refuse_standing(
        &self,
        reader: &ArchiveReader,
        volume: &StoredVolume,
        helper: &Helper,
        paths: &Patterns,
    ) -> Result<()> {
        let body = self.engine.archive(&helper.id, MOUNT).await?;
        let (reader, paths, prefix) = (reader.clone(), paths.clone(), format!("{}/", volume.stream()));
        let runtime = tokio::runtime::Handle::current();
        let standing = blocking(move || {
            let mut members = Members::new(body, runtime.clone())?;
            let mut standing = Differing::default();
            let own = members.next()?.map(|root| root.path).unwrap_or_default();
            while let Some(meta) = members.next()? {
                let path = meta.path.strip_prefix(own.as_slice()).unwrap_or_default();
                let path = path.strip_prefix(b"/").unwrap_or(path);
                if meta.kind != EntryKind::Directory && paths.selects(path, false) {
                    let stored = [prefix.as_bytes(), path].concat();
                    if runtime.block_on(reader.find(&stored))?.is_some() {
                        standing.add(path);
                    }
                }
            }
            Ok(standing)
        });
        let words = ("is in the volume already", "are in the volume already");
        standing.await?.refuse_as(Path::new(self.name), words)
    }

    /// Verifies everything, then sends it.
    async fn send(
        &self,
        reader: &ArchiveReader,
        volume: &StoredVolume,
        helper: &Helper,
        options: &DockerRestoreOptions,
        reporter: &SharedReporter,
    ) -> Result<VolumeReport> {
        if options.delete {
            return Err(Error::unsupported(
                "files that are not in the backup cannot be removed through the archive API",
            )
            .with_hint("Nothing was changed. Omit --delete, or run where the volume's mount point is visible."));
        }
        if !options.clean && options.paths.is_empty() {
            let body = self.engine.archive(&helper.id, MOUNT).await?;
            let mut members = Members::new(body, tokio::runtime::Handle::current())?;
            let second = blocking(move || {
                members.next()?;
                members.next()
            });
            if second.await?.is_some() {
                return Err(self.occupied());
            }
        }
        let paths = Patterns::new(&spelling::resolve(&options.paths, Path::new(""))?, &[])?;
        if !options.clean && !options.paths.is_empty() {
            self.refuse_standing(reader, volume, helper, &paths).await?;
        }
        let (task, stream) = (options.task.as_str(), volume.stream());
        reporter.phase(task, "verify");
        let silent = crate::base::report::silent();
        let found = tar_out::entries(reader, &stream, &paths, None, (task, &silent)).await?;
        if found.entries == 0 {
            return Err(
                Error::new(ErrorKind::NotFound, "nothing in the backup matches the selected paths")
                    .with_hint("Nothing was changed. Paths are relative to the root of the volume."),
            );
        }
        reporter.phase(task, "send");
        let upload = self.engine.unpack(&helper.id, "/");
        let sent = tar_out::entries(reader, &stream, &paths, Some(&upload), (task, reporter)).await;
        let sent = match sent {
            Ok(sent) => {
                upload.finish().await?;
                sent
            }
            Err(error) => {
                // An upload that the engine refused says why; one that we break off must not look whole.
                let own = Err(Error::new(error.kind(), error.chain()));
                let _ = upload.pieces.send(own).await;
                let refused = upload.finish().await;
                let half = "The volume may hold a part of the backup: restore it again with --clean.";
                return Err(match refused {
                    Err(refused) if error.kind() == ErrorKind::Unavailable => refused.with_hint(half),
                    _ => error.with_hint(half),
                });
            }
        };
        Ok(VolumeReport {
            volume: self.name.to_owned(),
            created: false,
            written: sent.entries,
            unchanged: 0,
            bytes: sent.bytes,
            previous: None,
            lost: 0,
            by_archive: true,
        })
    }
}
