//! What a recovery will do, looked at before anything is done: everything is opened and checked, nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::choice::{Choice, Piece};
use super::servers;
use crate::archive::ArchiveReader;
use crate::cli::args::{self, ContainersHow};
use crate::commands::snapshots::{open_reader, outcome_of};
use crate::commands::{Session, volumes};
use crate::config::{self, DockerSource, format_bytes, redact_url};
use crate::docker::definition::container_name;
use crate::docker::powers::powers;
use crate::docker::{Engine, text};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{Manifest, ManifestSource, Repository};
use crate::sources::docker::Contents;
use crate::sources::docker::restore::{self, Definitions};

/// The plan of a recovery.
#[derive(Debug)]
pub(super) struct Plan {
    /// File trees, then SQLite databases: name, kind, where to, bytes.
    pub(super) trees: Vec<Tree>,
    /// Databases and Redis servers.
    pub(super) databases: Vec<Database>,
    /// Docker sources.
    pub(super) docker: Vec<DockerPart>,
    /// URLs that are to answer at the end.
    pub(super) health: Vec<String>,
    /// Bytes that each file system needs and has.
    space: Vec<Space>,
    /// What is not as it should be and does not stop the recovery.
    pub(super) missing: Vec<String>,
    /// What stops it.
    blockers: Vec<String>,
    head: String,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) into: PathBuf,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) kind: String,
    /// Where it was, without a password; or where the operator says it is.
    pub(super) url: String,
    /// The container it lived in.
    pub(super) home: Option<String>,
    version: String,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct DockerPart {
    pub(super) name: String,
    pub(super) config: DockerSource,
    pub(super) reader: ArchiveReader,
    pub(super) contents: Contents,
    pub(super) definitions: Definitions,
    /// The engine of this host, if there is one.
    pub(super) engine: Option<Engine>,
    /// Whether containers, networks and images are made.
    pub(super) makes_containers: bool,
    /// Volumes that stay empty, because a database brings their data back.
    pub(super) left_empty: Vec<(String, String)>,
    /// Names of containers that start first.
    pub(super) first: Vec<String>,
    lines: Vec<String>,
}

#[derive(Debug, serde::Serialize)]
struct Space {
    place: PathBuf,
    needed: u64,
    free: u64,
}

/// Looks at the snapshot and at this host.
pub(super) async fn look(
    session: &Session,
    repository: &Repository,
    choice: &Choice,
    options: &args::Recover,
) -> Result<Plan> {
    let mut plan = Plan {
        trees: Vec::new(),
        databases: Vec::new(),
        docker: Vec::new(),
        health: options.health.clone(),
        space: Vec::new(),
        missing: choice.missing.clone(),
        blockers: Vec::new(),
        head: choice.text(),
    };
    for Piece { manifest, source } in &choice.pieces {
        let outcome = outcome_of(source)?;
        // Opening compares every index with its digest and looks for every archive.
        let reader = open_reader(session, repository.store(), source).await?;
        let place = place(manifest, source);
        match source.kind.as_str() {
            "files" | "sqlite" => plan.trees.push(Tree {
                name: source.name.clone(),
                kind: source.kind.clone(),
                into: PathBuf::from(place),
                bytes: outcome.raw_bytes,
            }),
            "postgres" | "redis" => {
                let given = options.address.iter().find(|(name, _)| *name == source.name);
                plan.databases.push(Database {
                    name: source.name.clone(),
                    kind: source.kind.clone(),
                    url: given.map_or(place, |(_, url)| url.clone()),
                    home: None,
                    version: outcome.versions.values().cloned().collect::<Vec<_>>().join(", "),
                    bytes: outcome.raw_bytes,
                });
            }
            "docker" => {
                let part = docker_part(session, manifest, source, reader, options).await?;
                plan.docker.push(part);
            }
            other => plan
                .missing
                .push(format!("source {} of kind {other} is not known here", source.name)),
        }
    }
    // SQLite databases may lie within restored trees, so they come after them.
    plan.trees.sort_by_key(|tree| tree.kind == "sqlite");
    plan.find_homes(options);
    plan.look_at_docker().await?;
    plan.measure().await;
    Ok(plan)
}

fn place(manifest: &Manifest, source: &ManifestSource) -> String {
    let plans = manifest.plan.get("sources").and_then(Value::as_array);
    let plan = plans
        .into_iter()
        .flatten()
        .find(|plan| text(plan, "/name") == source.name);
    let field = |key: &str| plan.map(|plan| text(plan, key)).filter(|text| !text.is_empty());
    let found = field("/url").or_else(|| field("/path")).or_else(|| field("/root"));
    found.unwrap_or_default().to_owned()
}

async fn docker_part(
    session: &Session,
    manifest: &Manifest,
    source: &ManifestSource,
    reader: ArchiveReader,
    options: &args::Recover,
) -> Result<DockerPart> {
    let mut config = volumes::planned(manifest, source);
    if options.docker_socket.is_some() {
        config.socket.clone_from(&options.docker_socket);
    }
    let mut lines = Vec::new();
    let engine = match volumes::engine(session, config.socket.as_ref()).await {
        Ok(engine) => Some(engine),
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => {
            lines.push(format!(
                "no Docker here ({}): volumes and containers are left to you",
                error.chain()
            ));
            None
        }
    };
    Ok(DockerPart {
        name: source.name.clone(),
        contents: restore::contents(&reader).await?,
        definitions: restore::definitions(&reader).await?,
        makes_containers: engine.is_some() && options.containers == ContainersHow::Engine,
        config,
        reader,
        engine,
        left_empty: Vec::new(),
        first: Vec::new(),
        lines,
    })
}

impl Plan {
    /// Finds the container of each database; its volumes stay empty, for the database brings the data.
    fn find_homes(&mut self, options: &args::Recover) {
        for part in &mut self.docker {
            let containers = &part.definitions.containers;
            let mut homes = Vec::new();
            for database in &mut self.databases {
                let Some(home) = servers::home(&database.url, &database.kind, containers) else {
                    continue;
                };
                let name = container_name(home).to_owned();
                for volume in crate::docker::definition::volume_mounts(home) {
                    let known = part.left_empty.iter().any(|(known, _)| *known == volume.volume);
                    let stored = part.contents.volumes.iter().any(|stored| stored.name == volume.volume);
                    // Another container may keep files of its own there.
                    let shared = part
                        .contents
                        .containers
                        .iter()
                        .filter(|one| one.volumes.contains(&volume.volume))
                        .count()
                        > 1;
                    if !(known || stored && shared) {
                        part.left_empty.push((volume.volume, database.name.clone()));
                    }
                }
                database.home = Some(name.clone());
                homes.push(name);
            }
            let first = containers.iter().filter(|one| servers::is_infrastructure(one, &homes));
            part.first = first.map(|one| container_name(one).to_owned()).collect();
            self.health.extend(part.config.health.iter().cloned());
            let labels = containers
                .iter()
                .filter_map(|one| one.pointer("/Config/Labels/wirevault.health"));
            self.health.extend(labels.filter_map(Value::as_str).map(str::to_owned));
        }
        self.health.dedup();
        for url in &self.health {
            if !url.starts_with("http://") {
                self.blockers
                    .push(format!("health URL \"{url}\" does not begin with http://"));
            }
        }
        let resolves_nowhere = |database: &&Database| database.url.is_empty();
        for database in self.databases.iter().filter(resolves_nowhere) {
            self.blockers.push(format!(
                "the snapshot does not say where {} was: --address {}=URL",
                database.name, database.name
            ));
        }
        if options.containers == ContainersHow::Manual && self.docker.is_empty() && self.databases.is_empty() {
            self.missing.push("there are no containers to wait for".to_owned());
        }
    }

    async fn look_at_docker(&mut self) -> Result<()> {
        let roots: Vec<PathBuf> = self.trees.iter().map(|tree| tree.into.clone()).collect();
        for part in &mut self.docker {
            if let Some(engine) = part.engine.clone() {
                part.lines.push(format!(
                    "Docker {} at {} (the snapshot's was {})",
                    engine.version(),
                    engine.socket().display(),
                    part.contents.engine
                ));
                self.missing.extend(part.look(&engine, &roots).await?);
            }
        }
        Ok(())
    }

    /// Adds up what each file system needs.
    async fn measure(&mut self) {
        let mut needs: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for tree in &self.trees {
            *needs.entry(existing(&tree.into)).or_default() += tree.bytes;
        }
        for part in &self.docker {
            let Some(engine) = &part.engine else { continue };
            let Ok(root) = engine.root_directory().await else {
                continue;
            };
            if !root.is_dir() {
                continue; // The engine's disk is not seen from here.
            }
            let volumes = part.contents.volumes.iter().filter(|one| !part.leaves_empty(&one.name));
            let images = part.contents.images.iter().map(|image| image.bytes);
            let data = self
                .databases
                .iter()
                .filter(|database| database.home.is_some())
                .map(|database| database.bytes);
            let sum: u64 = volumes.map(|one| one.bytes).chain(images).chain(data).sum();
            *needs.entry(existing(&root)).or_default() += sum;
        }
        for (place, needed) in needs {
            let Ok(stat) = rustix::fs::statvfs(&place) else {
                continue;
            };
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            if free < needed {
                self.blockers.push(format!(
                    "\"{}\" has {} free, and {} are needed",
                    place.display(),
                    format_bytes(free),
                    format_bytes(needed)
                ));
            }
            self.space.push(Space { place, needed, free });
        }
    }

    /// Fails if something stops the recovery.
    pub(super) fn refuse(&self) -> Result<()> {
        match self.blockers.first() {
            None => Ok(()),
            Some(first) => Err(
                Error::new(ErrorKind::PreconditionFailed, first.clone()).with_hint(format!(
                    "Nothing was changed. {} in the plan: wirevault recover --dry-run.",
                    if self.blockers.len() > 1 {
                        "More stands"
                    } else {
                        "All stands"
                    }
                )),
            ),
        }
    }

    /// Returns whether nothing stops it.
    pub(super) fn is_possible(&self) -> bool {
        self.blockers.is_empty()
    }

    /// Returns the plan for people.
    pub(super) fn text(&self) -> String {
        let mut text = self.head.clone();
        for tree in &self.trees {
            text.push_str(&format!(
                "  {} {} into {} ({})\n",
                tree.kind,
                tree.name,
                tree.into.display(),
                format_bytes(tree.bytes)
            ));
        }
        for part in &self.docker {
            for line in &part.lines {
                text.push_str(&format!("  {line}\n"));
            }
            for line in part.powers() {
                text.push_str(&format!("  may reach the host: {line}\n"));
            }
        }
        for database in &self.databases {
            let home = database
                .home
                .as_ref()
                .map_or(String::new(), |home| format!(", in container {home}"));
            text.push_str(&format!(
                "  {} {} at {} ({}, was {}{home})\n",
                database.kind,
                database.name,
                redact_url(&database.url),
                format_bytes(database.bytes),
                database.version,
            ));
        }
        for url in &self.health {
            text.push_str(&format!("  health {url}\n"));
        }
        for space in &self.space {
            text.push_str(&format!(
                "  space at {}: {} needed, {} free\n",
                space.place.display(),
                format_bytes(space.needed),
                format_bytes(space.free)
            ));
        }
        for line in &self.missing {
            text.push_str(&format!("  missing: {line}\n"));
        }
        for line in &self.blockers {
            text.push_str(&format!("  cannot go on: {line}\n"));
        }
        text
    }

    /// Returns the plan for programs.
    pub(super) fn document(&self) -> Value {
        let trees = self
            .trees
            .iter()
            .map(|tree| json!({ "source": tree.name, "kind": tree.kind, "into": tree.into, "bytes": tree.bytes }));
        let databases = self.databases.iter().map(|one| {
            json!({ "source": one.name, "kind": one.kind, "at": redact_url(&one.url), "container": one.home, "bytes": one.bytes,
                "version": one.version })
        });
        let docker = self.docker.iter().map(|part| {
            json!({ "source": part.name, "engine": part.engine.as_ref().map(Engine::version), "contents": part.contents,
                "first": part.first, "left_empty": part.left_empty, "lines": part.lines, "powers": part.powers() })
        });
        json!({
            "trees": trees.collect::<Vec<_>>(), "databases": databases.collect::<Vec<_>>(),
            "docker": docker.collect::<Vec<_>>(), "health": self.health, "space": self.space,
            "missing": self.missing, "blockers": self.blockers,
        })
    }
}

impl DockerPart {
    /// Returns what its containers and volumes may do to the host.
    fn powers(&self) -> Vec<String> {
        powers(&self.definitions.containers, &self.definitions.volumes)
    }

    /// Returns whether a volume stays empty.
    pub(super) fn leaves_empty(&self, volume: &str) -> bool {
        self.left_empty.iter().any(|(name, _)| name == volume)
    }

    /// Returns volumes that containers mount and that were left out of the snapshot.
    pub(super) fn unstored_volumes(&self) -> Vec<&str> {
        let names = self.definitions.volumes.iter().map(|volume| text(volume, "/Name"));
        names
            .filter(|name| !self.leaves_empty(name) && !self.contents.volumes.iter().any(|stored| stored.name == *name))
            .collect()
    }

    /// Compares what is stored with what the engine has; returns what is missing.
    async fn look(&mut self, engine: &Engine, restored: &[PathBuf]) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        let mut lines = Vec::new();
        if self.makes_containers {
            let there = engine.networks().await?;
            for name in &self.contents.networks {
                let present = there.iter().any(|network| text(network, "/Name") == name);
                lines.push(format!(
                    "network {name}: {}",
                    if present { "is there" } else { "is created" }
                ));
            }
            let mut images: Vec<&str> = self.contents.containers.iter().map(|one| one.image.as_str()).collect();
            images.sort_unstable();
            images.dedup();
            for image in images {
                let stored = self.contents.images.iter().find(|stored| stored.name == image);
                let what = match (engine.image(image).await?, stored) {
                    (Some(_), _) => "is there".to_owned(),
                    (None, Some(stored)) => format!("is loaded from the snapshot ({})", format_bytes(stored.bytes)),
                    (None, None) => {
                        missing.push(format!(
                            "image {image} is in neither the snapshot nor this host: it is pulled from its registry"
                        ));
                        "is pulled".to_owned()
                    }
                };
                lines.push(format!("image {image}: {what}"));
            }
        }
        for volume in &self.contents.volumes {
            let present = engine.volume(&volume.name).await?.is_some();
            let how = match self.left_empty.iter().find(|(name, _)| *name == volume.name) {
                Some((_, source)) => format!("is left empty, for source {source} brings its data back"),
                None => format!("{} entries, {}", volume.entries, format_bytes(volume.bytes)),
            };
            let there = if present { ", is there" } else { "" };
            lines.push(format!("volume {}: {how}{there}", volume.name));
        }
        for (name, source) in &self.left_empty {
            if !self.contents.volumes.iter().any(|stored| stored.name == *name) {
                lines.push(format!(
                    "volume {name}: is made empty, for source {source} brings its data back"
                ));
            }
        }
        for name in self.unstored_volumes() {
            lines.push(format!("volume {name}: is made empty"));
            missing.push(format!("the files of volume {name} are not in the snapshot"));
        }
        for container in &self.definitions.containers {
            let name = container_name(container);
            let order = if self.first.iter().any(|first| first == name) {
                " (first)"
            } else {
                ""
            };
            let what = match (self.makes_containers, engine.container(name).await?.is_some()) {
                (_, true) => "is there",
                (true, false) => "is created and started",
                (false, false) => "is yours to start",
            };
            lines.push(format!("container {name}{order}: {what}"));
            missing.extend(missing_binds(container, restored));
        }
        self.lines.extend(lines);
        Ok(missing)
    }
}

/// Directories of this host that a container mounts, and that neither are there nor come back.
fn missing_binds(container: &Value, restored: &[PathBuf]) -> Vec<String> {
    let mounts = container.get("Mounts").and_then(Value::as_array);
    let binds = mounts
        .into_iter()
        .flatten()
        .filter(|mount| text(mount, "/Type") == "bind");
    let sources = binds.map(|mount| Path::new(text(mount, "/Source")));
    sources
        .filter(|source| !source.exists() && !restored.iter().any(|root| source.starts_with(root)))
        .map(|source| {
            format!(
                "container {} mounts \"{}\", which is not here and not in the snapshot",
                container_name(container),
                source.display()
            )
        })
        .collect()
}

/// Returns the nearest directory above a path that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|above| above.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Says what an address of `--address` must be.
pub(super) fn check_addresses(options: &args::Recover) -> Result<()> {
    for (_, url) in &options.address {
        config::parse_source_url(url)?;
    }
    Ok(())
}
