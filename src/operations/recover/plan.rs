//! What a recovery will do, looked at before anything is done: everything is opened and checked, nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::choice::{Choice, Piece};
use super::course::{Course, data_directory};
use super::servers;
use crate::archive::ArchiveReader;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::shown_path;
use crate::base::units::format_bytes;
use crate::config;
use crate::engines::docker::api::definition::container_name;
use crate::engines::docker::api::powers::powers;
use crate::engines::docker::api::{Engine, text};
use crate::engines::docker::restore::{self, Definitions};
use crate::engines::docker::{Contents, DockerSpec};
use crate::engines::{self, RecoveryPhase, Registry, Spec};
use crate::operations::Session;
use crate::operations::options::{self, ContainersHow};
use crate::operations::places::{self, Place, Resolver, Word};
use crate::operations::snapshots::{open_reader, outcome_of};
use crate::repository::{ManifestSource, Repository, SnapshotId};

/// The plan of a recovery.
#[derive(Debug)]
pub(super) struct Plan {
    /// File trees, then SQLite databases, then data directories of servers: name, kind, where to, bytes.
    pub(super) trees: Vec<Tree>,
    /// Databases and Redis servers.
    pub(super) databases: Vec<Database>,
    /// Docker sources.
    pub(super) docker: Vec<DockerPart>,
    /// URLs that are to answer at the end.
    pub(super) health: Vec<String>,
    /// Bytes that each file system needs and has.
    space: Vec<Space>,
    /// Databases that stay as they are: only their volumes are kept out of this.
    others: Vec<(String, Spec)>,
    /// Sources that nobody on this host has a place for: the snapshot's is not accepted.
    pub(super) unaccepted: Vec<String>,
    /// What is not as it should be and does not stop the recovery.
    pub(super) missing: Vec<String>,
    /// Sources that a recovery does not restore; they count as failed.
    pub(super) left_out: Vec<String>,
    /// What stops it.
    pub(super) blockers: Vec<String>,
    head: String,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) phase: RecoveryPhase,
    pub(super) into: PathBuf,
    bytes: u64,
    /// How the server on a data directory comes to a moment.
    pub(super) course: Option<Course>,
}

#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) kind: String,
    /// Where it is reached.
    pub(super) place: Place,
    /// The container it lived in.
    pub(super) home: Option<String>,
    version: String,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct DockerPart {
    pub(super) name: String,
    /// By the word of this host, or the snapshot's where that is accepted.
    pub(super) config: DockerSpec,
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

#[derive(Debug, Clone, serde::Serialize)]
struct Space {
    #[serde(serialize_with = "shown_path::path")]
    place: PathBuf,
    needed: u64,
    free: u64,
}

/// The plan, for programs.
#[derive(Debug, serde::Serialize)]
pub(super) struct PlanReport {
    trees: Vec<TreePlan>,
    databases: Vec<DatabasePlan>,
    docker: Vec<DockerPlan>,
    /// Sources whose place nothing on this host names.
    unaccepted: Vec<String>,
    health: Vec<String>,
    space: Vec<Space>,
    /// What is not as it should be and does not stop the recovery.
    missing: Vec<String>,
    /// What stops it.
    blockers: Vec<String>,
}

/// A file tree, a SQLite database or a data directory.
#[derive(Debug, serde::Serialize)]
struct TreePlan {
    source: String,
    kind: String,
    #[serde(serialize_with = "shown_path::path")]
    into: PathBuf,
    bytes: u64,
    /// How the server on a data directory goes on by its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<Value>,
}

/// A database or Redis server.
#[derive(Debug, serde::Serialize)]
struct DatabasePlan {
    source: String,
    kind: String,
    at: String,
    /// By whose word it is there.
    by: Word,
    container: Option<String>,
    bytes: u64,
    version: String,
}

/// A Docker source.
#[derive(Debug, serde::Serialize)]
struct DockerPlan {
    source: String,
    /// Version of the engine of this host, if there is one.
    engine: Option<String>,
    contents: Contents,
    /// Containers that start first.
    first: Vec<String>,
    /// Volumes that stay empty, each with the source that brings its data.
    left_empty: Vec<(String, String)>,
    lines: Vec<String>,
    /// What containers and volumes may do to the host.
    powers: Vec<String>,
}

/// Looks at the snapshot and at this host.
pub(super) async fn look(
    session: &Session,
    repository: &Repository,
    choice: &Choice,
    options: &options::Recover,
) -> Result<Plan> {
    let mut plan = Plan {
        trees: Vec::new(),
        databases: Vec::new(),
        docker: Vec::new(),
        health: options.health.clone(),
        space: Vec::new(),
        others: Vec::new(),
        unaccepted: Vec::new(),
        missing: choice.missing.clone(),
        left_out: Vec::new(),
        blockers: choice.unreachable.clone(),
        head: choice.text(),
    };
    let resolver = |manifest| Resolver {
        session,
        manifest,
        accept: options.accept_places,
    };
    for Piece { manifest, source, .. } in &choice.left {
        plan.leave(&resolver(manifest), source);
    }
    for Piece {
        manifest,
        source,
        course,
    } in &choice.pieces
    {
        let (outcome, resolver) = (outcome_of(source)?, resolver(manifest));
        // Opening compares every index with its digest and looks for every archive.
        let reader = open_reader(session, repository.store(), source).await?;
        let phase = session
            .engines
            .of_kind(&source.kind)
            .and_then(engines::Engine::recovery_phase);
        let Some(phase) = phase else {
            plan.left_out.push(not_recovered(source, &manifest.id));
            continue;
        };
        if phase == RecoveryPhase::Containers {
            let place = resolver.place(source)?;
            plan.name_health(&resolver, source, place.as_ref());
            let config = place.and_then(|place| place.spec.downcast_ref::<DockerSpec>().cloned());
            let part = docker_part(session, source, reader, (options, config.unwrap_or_default())).await?;
            plan.docker.push(part);
            continue;
        }
        let by_log = matches!(course, Some(Course::Commands(_)));
        let phase = if by_log { RecoveryPhase::DataDirectories } else { phase };
        if phase == RecoveryPhase::DataDirectories {
            match data_directory(&resolver, source, options)? {
                Some(into) => plan.trees.push(Tree {
                    name: source.name.clone(),
                    kind: source.kind.clone(),
                    phase,
                    into,
                    bytes: outcome.raw_bytes,
                    course: course.clone(),
                }),
                None => plan.left_out.push(has_no_directory(source)),
            }
            // Its directory may be a volume of its container: what that held when it was backed up must not go over it.
            plan.leave(&resolver, source);
            continue;
        }
        let Some(place) = plan.place(&resolver, source, phase, options)? else {
            continue;
        };
        match (phase, place.spec.local_path()) {
            (RecoveryPhase::Servers, _) => plan.databases.push(Database {
                name: source.name.clone(),
                kind: source.kind.clone(),
                place,
                home: None,
                version: outcome.versions.values().cloned().collect::<Vec<_>>().join(", "),
                bytes: outcome.raw_bytes,
            }),
            (phase, Some(path)) => plan.trees.push(Tree {
                name: source.name.clone(),
                kind: source.kind.clone(),
                phase,
                into: path.to_owned(),
                bytes: outcome.raw_bytes,
                course: None,
            }),
            (_, None) => plan.left_out.push(not_recovered(source, &manifest.id)),
        }
    }
    // Files may lie within restored trees, so they come after them.
    plan.trees.sort_by_key(|tree| tree.phase);
    if !plan.unaccepted.is_empty() {
        plan.blockers.push(format!(
            "no target for {} is configured on this host; add --accept-places to use the place recorded in the \
             snapshot",
            plan.unaccepted.join(", ")
        ));
    }
    plan.find_homes(options, &session.engines);
    plan.look_at_docker().await?;
    plan.measure().await;
    Ok(plan)
}

fn not_recovered(source: &ManifestSource, snapshot: &SnapshotId) -> String {
    let ManifestSource { name, kind, .. } = source;
    format!(
        "source {name}: recover does not restore kind {kind}; use wirevault restore {snapshot} --source {name} --into PLACE"
    )
}

fn has_no_directory(source: &ManifestSource) -> String {
    let name = &source.name;
    format!(
        "source {name}: no data directory is known on this host: use --data-directory {name}=DIRECTORY, or data_directory in [source.{name}]"
    )
}

async fn docker_part(
    session: &Session,
    source: &ManifestSource,
    reader: ArchiveReader,
    (options, mut config): (&options::Recover, DockerSpec),
) -> Result<DockerPart> {
    if options.docker_socket.is_some() {
        config.socket.clone_from(&options.docker_socket);
    }
    let mut lines = Vec::new();
    let engine = match session.or_cancelled(config.engine()).await {
        Ok(engine) => Some(engine),
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => {
            lines.push(format!(
                "no Docker engine here ({}): restore volumes and start containers yourself",
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

impl Tree {
    /// The step that writes it, where it is a data directory.
    pub(super) fn key(&self) -> String {
        format!("restore {} {} in {}", self.kind, self.name, self.into.display())
    }

    pub(super) fn is_data_directory(&self) -> bool {
        self.phase == RecoveryPhase::DataDirectories
    }

    /// Returns whether it is a base backup of a server.
    pub(super) fn is_base(&self) -> bool {
        self.is_data_directory() && !matches!(self.course, Some(Course::Commands(_)))
    }
}

impl Plan {
    /// Counts the base backups.
    pub(super) fn bases(&self) -> usize {
        self.trees.iter().filter(|tree| tree.is_base()).count()
    }

    /// Finds where a source goes. A place that only the snapshot names is shown; whether it is followed is decided later.
    fn place(
        &mut self,
        resolver: &Resolver<'_>,
        source: &ManifestSource,
        phase: RecoveryPhase,
        options: &options::Recover,
    ) -> Result<Option<Place>> {
        if let Some((_, url)) = options.address.iter().find(|(name, _)| *name == source.name) {
            let spec = places::given(resolver.session, url)?;
            if spec.kind().word() != source.kind {
                let message = format!("--address {}={}", source.name, config::redact_url(url));
                return Err(
                    Error::invalid(format!("{message}: the source is of kind {}", source.kind))
                        .with_hint("It takes the URL of a PostgreSQL or Redis server."),
                );
            }
            let word = Word::Given;
            return Ok(Some(Place { spec, word }));
        }
        if let Some(place) = resolver.place(source)? {
            return Ok(Some(place));
        }
        let planned = resolver.planned(source);
        match (&planned, phase) {
            (Some(_), _) => self.unaccepted.push(source.name.clone()),
            (None, RecoveryPhase::Servers) => self.blockers.push(format!(
                "the snapshot does not record where {} was: use --address {}=URL",
                source.name, source.name
            )),
            (None, _) => self.blockers.push(format!(
                "the snapshot does not record where {} was: add [source.{}] to wirevault.toml",
                source.name, source.name
            )),
        }
        let word = Word::Accepted;
        Ok(planned.map(|spec| Place { spec, word }))
    }

    /// A database that is not chosen stays as it is, and so do the volumes it lives in.
    fn leave(&mut self, resolver: &Resolver<'_>, source: &ManifestSource) {
        let place = resolver.place(source).ok().flatten().map(|place| place.spec);
        let spec = place.or_else(|| resolver.called(source));
        if let Some(spec) = spec.filter(|spec| spec.server().is_some()) {
            self.others.push((source.name.clone(), spec));
        }
    }

    /// Health URLs that only the snapshot names are shown.
    fn name_health(&mut self, resolver: &Resolver<'_>, source: &ManifestSource, place: Option<&Place>) {
        let planned = resolver.planned(source).filter(|_| place.is_none());
        let planned = planned.as_ref().and_then(|spec| spec.downcast_ref::<DockerSpec>());
        for url in planned.iter().flat_map(|planned| &planned.health) {
            self.not_asked(url);
        }
    }

    fn not_asked(&mut self, url: &str) {
        self.missing.push(format!(
            "health URL {} of the snapshot is not used without --accept-places",
            config::redact_url(url)
        ));
    }

    /// Finds the container of each database; its volumes stay empty, for the database brings the data.
    fn find_homes(&mut self, options: &options::Recover, engines: &Registry) {
        let mut labelled: Vec<String> = Vec::new();
        for part in &mut self.docker {
            let containers = &part.definitions.containers;
            let mut homes = Vec::new();
            let chosen = self.databases.iter();
            let chosen = chosen.map(|one| (one.name.clone(), one.place.spec.clone()));
            let all: Vec<_> = chosen.chain(self.others.iter().cloned()).collect();
            for (source, spec) in all {
                let home = spec.server().and_then(|server| servers::home(server, containers));
                let Some(home) = home else { continue };
                let name = container_name(home).to_owned();
                for volume in crate::engines::docker::api::definition::volume_mounts(home) {
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
                        part.left_empty.push((volume.volume, source.clone()));
                    }
                }
                if let Some(database) = self.databases.iter_mut().find(|database| database.name == source) {
                    database.home = Some(name.clone());
                }
                homes.push(name);
            }
            let first = containers
                .iter()
                .filter(|one| servers::is_infrastructure(one, &homes, engines));
            part.first = first.map(|one| container_name(one).to_owned()).collect();
            self.health.extend(part.config.health.iter().cloned());
            let labels = containers
                .iter()
                .filter_map(|one| one.pointer("/Config/Labels/wirevault.health"));
            labelled.extend(labels.filter_map(Value::as_str).map(str::to_owned));
        }
        if options.accept_places {
            self.health.extend(labelled);
        } else {
            labelled.retain(|url| !self.health.contains(url));
            for url in labelled {
                self.not_asked(&url);
            }
        }
        self.health.dedup();
        for url in &self.health {
            if !url.starts_with("http://") {
                self.blockers.push(format!(
                    "health URL \"{}\" does not start with http://",
                    config::redact_url(url)
                ));
            }
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
                    engine.address(),
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
                    "\"{}\" has {} free, but {} are needed",
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
                    "Nothing was changed. See the plan for {}: wirevault recover --dry-run.",
                    if self.blockers.len() > 1 {
                        "all problems"
                    } else {
                        "details"
                    }
                )),
            ),
        }
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
            let course = tree.course.as_ref().map(Course::text).unwrap_or_default();
            for line in course.lines() {
                text.push_str(&format!("  {line}\n"));
            }
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
                database.place.spec.place(),
                format_bytes(database.bytes),
                database.version,
            ));
        }
        for url in &self.health {
            text.push_str(&format!("  health {}\n", config::redact_url(url)));
        }
        for space in &self.space {
            text.push_str(&format!(
                "  space at {}: {} needed, {} free\n",
                space.place.display(),
                format_bytes(space.needed),
                format_bytes(space.free)
            ));
        }
        for line in self.missing.iter().chain(&self.left_out) {
            text.push_str(&format!("  missing: {line}\n"));
        }
        for line in &self.blockers {
            text.push_str(&format!("  problem: {line}\n"));
        }
        text
    }

    /// Returns the plan for programs.
    pub(super) fn report(&self) -> PlanReport {
        let tree = |tree: &Tree| TreePlan {
            source: tree.name.clone(),
            kind: tree.kind.clone(),
            into: tree.into.clone(),
            bytes: tree.bytes,
            recovery: tree.course.as_ref().map(Course::document),
        };
        let database = |one: &Database| DatabasePlan {
            source: one.name.clone(),
            kind: one.kind.clone(),
            at: one.place.spec.place(),
            by: one.place.word,
            container: one.home.clone(),
            bytes: one.bytes,
            version: one.version.clone(),
        };
        let docker = |part: &DockerPart| DockerPlan {
            source: part.name.clone(),
            engine: part.engine.as_ref().map(|engine| engine.version().to_owned()),
            contents: part.contents.clone(),
            first: part.first.clone(),
            left_empty: part.left_empty.clone(),
            lines: part.lines.clone(),
            powers: part.powers(),
        };
        PlanReport {
            trees: self.trees.iter().map(tree).collect(),
            databases: self.databases.iter().map(database).collect(),
            docker: self.docker.iter().map(docker).collect(),
            unaccepted: self.unaccepted.clone(),
            health: self.health.iter().map(|url| config::redact_url(url)).collect(),
            space: self.space.clone(),
            missing: self.missing.iter().chain(&self.left_out).cloned().collect(),
            blockers: self.blockers.clone(),
        }
    }
}

impl PlanReport {
    /// Returns whether nothing stops it.
    pub(super) fn is_possible(&self) -> bool {
        self.blockers.is_empty()
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
                            "image {image} is neither in the snapshot nor on this host: it will be pulled from its \
                             registry"
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
                Some((_, source)) => format!("is left empty: source {source} restores its data"),
                None => format!("{} entries, {}", volume.entries, format_bytes(volume.bytes)),
            };
            let there = if present { ", is there" } else { "" };
            lines.push(format!("volume {}: {how}{there}", volume.name));
        }
        for (name, source) in &self.left_empty {
            if !self.contents.volumes.iter().any(|stored| stored.name == *name) {
                lines.push(format!(
                    "volume {name}: is created empty: source {source} restores its data"
                ));
            }
        }
        for name in self.unstored_volumes() {
            lines.push(format!("volume {name}: is created empty"));
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
                (false, false) => "has to be started by you",
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
                "container {} mounts \"{}\", which is neither on this host nor in the snapshot",
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
pub(super) fn check_addresses(session: &Session, options: &options::Recover) -> Result<()> {
    for (name, url) in &options.address {
        if session.source_of_url(url)?.kind.spec().server().is_none() {
            let message = format!("--address {name}={}: not a server", config::redact_url(url));
            return Err(Error::invalid(message).with_hint(
                "--address is for PostgreSQL and Redis servers. The target of files and volumes is [source.NAME] in \
                 wirevault.toml; use `restore --into` to restore one source elsewhere.",
            ));
        }
    }
    Ok(())
}
