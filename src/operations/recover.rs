//! `recover`: a whole server back onto this host, from the repository alone.
//!
//! The plan is made and shown first; it opens and checks everything and changes nothing. Then, in order: file trees and
//! SQLite databases (the configuration among them), networks, images, volumes, containers; those that others need are
//! started and waited for until they answer their own protocol; databases and Redis; the rest is started and waited for.
//! Each step is remembered in a state file, so an interrupted recovery goes on where it stopped, and says what it proved.

mod choice;
mod containers;
mod course;
mod directories;
mod health;
mod plan;
mod report;
mod servers;
mod state;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::redact_url;
use crate::engines::docker::api::Engine;
use crate::engines::docker::api::definition::container_name;
use crate::engines::docker::restore::{self as volumes, DockerRestoreOptions, VolumeReport};
use crate::engines::{self, EngineFlags, RecoveryPhase, Registry, RestoreReport as _, Secrets, Spec};
use crate::operations::log::redis::restore::{self as by_commands, RestoredMoment};
use crate::operations::options;
use crate::operations::places::Word;
use crate::operations::snapshots::open_repository;
use crate::operations::{Outcome, Session, restore, thaw};
use crate::policy::health::Claim;
use choice::Choice;
use course::{Commands, Course};
use plan::{Database, DockerPart, Plan, Tree};
use report::{EmptyVolume, Proof, ProvenStep, RecoverPreview, RecoverReport, Restored};
use state::State;

/// How what happens is told, line by line.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// Shows the plan, then follows it.
pub async fn run(session: &Session, options: &options::Recover, tell: Tell<'_>) -> Outcome {
    let started = Instant::now();
    plan::check_addresses(session, options)?;
    let repository = open_repository(session).await?;
    let mut choice = choice::choose(session, &repository, options).await?;
    let addressed: Vec<_> = options.address.iter().chain(&options.data_directory).cloned().collect();
    choice.only(&options.only, &addressed)?;
    choice.aim(session, &repository, options).await?;
    if !options.dry_run {
        let all: Vec<_> = choice.pieces.iter().map(|piece| &piece.source).collect();
        thaw::sources(session, repository.store(), &all, &options.thaw).await?;
    }
    let mut plan = plan::look(session, &repository, &choice, options).await?;
    let mut accepted = options.clone();
    if !options.dry_run && !plan.unaccepted.is_empty() {
        tell(&plan.text());
        let question = "Some places are recorded only in the snapshot. Restore there?";
        if !session.ask.is_some_and(|ask| ask(question)) {
            return Err(not_accepted(session, &plan));
        }
        accepted.accept_places = true;
        plan = plan::look(session, &repository, &choice, &accepted).await?;
    }
    let options = &accepted;
    let ids: Vec<String> = choice.snapshots().into_iter().map(ToString::to_string).collect();
    let newest = ids.first().cloned().unwrap_or_default();
    let path = options.state.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(format!("wirevault-recover-{newest}.json")));
    let state = State::open(&path, &choice.word());
    let earlier = state.as_ref().ok();
    Box::pin(directories::check(session, (&choice, options), &mut plan, earlier)).await?;
    if options.dry_run {
        return Ok(Box::new(RecoverPreview {
            snapshot: newest,
            sources: choice.copies(),
            skew_seconds: choice.skew_seconds(),
            plan: plan.report(),
            text: plan.text(),
        }));
    }
    tell(&plan.text());
    plan.refuse()?;
    let state = state?;
    if state.is_resumed() {
        tell("resuming an earlier recovery\n");
    }
    let mut recovery = Recovery {
        session,
        options,
        choice: &choice,
        tell,
        state,
        steps: Vec::new(),
        failed: Vec::new(),
    };
    recovery.follow(&plan).await?;
    let Recovery {
        state,
        steps,
        mut failed,
        ..
    } = recovery;
    if failed.is_empty() {
        state.forget();
    }
    // What has no good copy does not come with another attempt either, so the state need not wait for it.
    failed.extend(choice.missing.iter().chain(&plan.left_out).cloned());
    Ok(Box::new(RecoverReport {
        snapshot: newest,
        sources: choice.copies(),
        skew_seconds: choice.skew_seconds(),
        seconds: started.elapsed().as_secs_f64(),
        steps,
        failed,
    }))
}

/// The error for places that only the snapshot names, with the command line that goes on.
fn not_accepted(session: &Session, plan: &Plan) -> Error {
    let named = plan.unaccepted.join(", ");
    Error::invalid(format!("no target for {named} is configured on this host")).with_hint(format!(
        "The plan above shows the place recorded in the snapshot. To restore there: {}. To restore elsewhere: add \
         [source.NAME] to wirevault.toml; for a server, use --address NAME=URL.",
        session.command_line(&["--accept-places"])
    ))
}

/// How a restore of one source is asked for.
fn flags(choice: &Choice, options: &options::Recover, name: &str, engines: EngineFlags) -> options::Restore {
    options::Restore {
        snapshot: choice.snapshot_of(name),
        source: vec![name.to_owned()],
        parallel: options::DEFAULT_PARALLEL,
        into_original: options.accept_places,
        engines,
        ..options::Restore::default()
    }
}

struct Recovery<'a> {
    session: &'a Session,
    options: &'a options::Recover,
    choice: &'a Choice,
    tell: Tell<'a>,
    state: State,
    steps: Vec<ProvenStep>,
    failed: Vec<String>,
}

impl Recovery<'_> {
    async fn follow(&mut self, plan: &Plan) -> Result<()> {
        let is_one = plan.bases() == 1;
        for tree in &plan.trees {
            self.tree(tree, is_one).await?;
        }
        for part in &plan.docker {
            if let Some(engine) = &part.engine {
                self.prepare(part, engine).await?;
            } else {
                self.leave_volumes(part);
            }
            if !part.makes_containers && !self.all_answer(plan).await {
                (self.tell)(&format!(
                    "start the containers now; the recovery continues when the servers respond:\n  {}\n",
                    containers::by_hand(part)
                ));
            }
        }
        for database in &plan.databases {
            Box::pin(self.database(plan, database)).await?;
        }
        for part in &plan.docker {
            if let Some(engine) = part.engine.as_ref().filter(|_| part.makes_containers) {
                self.start_rest(part, engine).await?;
            }
        }
        for url in &plan.health {
            self.health(url).await?;
        }
        Ok(())
    }

    /// Runs a step unless an earlier attempt finished it, and returns what it proved. `again` tells the work that it was begun
    /// before.
    async fn step<T, F>(
        &mut self,
        key: &str,
        proof: fn(T) -> Proof,
        work: impl FnOnce(bool) -> F,
        words: impl Fn(&T) -> String,
    ) -> Result<T>
    where
        T: Clone + Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        let from = Instant::now();
        let value = self.once(key, work).await?;
        self.steps.push(ProvenStep {
            step: key.to_owned(),
            seconds: from.elapsed().as_secs_f64(),
            text: words(&value),
            proof: proof(value.clone()),
        });
        Ok(value)
    }

    /// Does the work of a step unless an earlier attempt finished it, and remembers what it proved.
    async fn once<T, F>(&mut self, key: &str, work: impl FnOnce(bool) -> F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        if let Some(value) = self.state.done(key)? {
            return Ok(value);
        }
        self.session.check_cancelled()?;
        let again = self.state.begun(key);
        self.state.begin(key)?;
        (self.tell)(&format!("{key}\n"));
        let value = match work(again).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !again => {
                // It was refused over what is there, and left nothing: the next attempt must not take that for its own.
                self.state.withdraw(key)?;
                Err(error)
            }
            done => done,
        };
        let value = value.with_context(|| key.to_owned())?;
        self.state.end(key, &value)?;
        Ok(value)
    }

    /// Restores one source unless an earlier attempt did, and takes what could not be brought back. `at` says where it goes.
    async fn restore(&mut self, kind: &str, name: &str, place: Option<Spec>, at: &str) -> Result<()> {
        let engine = engine_of(self.session, kind)?;
        let flags = flags(self.choice, self.options, name, engine.recovery_flags());
        self.restore_with((kind, name), flags, place, at).await.map(drop)
    }

    async fn restore_with(
        &mut self,
        (kind, name): (&str, &str),
        mut flags: options::Restore,
        place: Option<Spec>,
        at: &str,
    ) -> Result<String> {
        let from = Instant::now();
        let (session, clean) = (self.session, self.options.clean);
        let engine = engine_of(session, kind)?;
        let key = match &flags.into {
            // Another directory is another step.
            Some(_) => format!("restore {kind} {name} {at}"),
            None => format!("restore {kind} {name}"),
        };
        let work = |again: bool| async move {
            flags.clean = again || clean;
            Restored::of(Box::pin(restore::bring_back(session, &flags, place)).await?)
        };
        let stored: Restored<_> = self.once(&key, work).await?;
        let done = stored.read(engine);
        let done = done.map_err(|cause| self.state.unreadable(&key).with_cause(cause))?;
        self.failed.extend(done.errors.iter().cloned());
        self.failed
            .extend(done.report.damage().map(|damage| format!("{name}: {damage}")));
        let said = done.report.text();
        self.steps.push(ProvenStep {
            step: key,
            seconds: from.elapsed().as_secs_f64(),
            text: format!("{kind} {name}: {}, {at}", done.report.summary()),
            proof: Proof::Restored(done),
        });
        Ok(said)
    }

    async fn tree(&mut self, tree: &Tree, is_one: bool) -> Result<()> {
        let at = format!("in {}", tree.into.display());
        if tree.phase != RecoveryPhase::DataDirectories {
            return Box::pin(self.restore(&tree.kind, &tree.name, None, &at)).await;
        }
        if let Some(Course::Commands(commands)) = &tree.course {
            Box::pin(self.commands(tree, commands)).await?;
        } else {
            let flags = directories::flags_of((self.choice, self.options), tree, is_one);
            let said = Box::pin(self.restore_with((&tree.kind, &tree.name), flags, None, &at)).await?;
            (self.tell)(&said);
        }
        (self.tell)(&format!(
            "start the server of {} on {} now: it has yet to recover, and nothing here waits for it\n",
            tree.name,
            tree.into.display()
        ));
        Ok(())
    }

    /// Writes what a server of Redis loads.
    async fn commands(&mut self, tree: &Tree, commands: &Commands) -> Result<()> {
        let (session, clean) = (self.session, self.options.clean);
        let mut options = commands.options.clone();
        let work = |again: bool| async move {
            options.clean = again || clean;
            Box::pin(by_commands::run(session, &options)).await
        };
        let key = tree.key();
        let words = |done: &RestoredMoment| {
            let place = tree.into.display();
            format!("{} {}: {}, in {place}", tree.kind, tree.name, done.summary())
        };
        let proof = |done| Proof::Moment(Box::new(done));
        let done = self.step(&key, proof, work, words).await?;
        let failures = done.failures().into_iter();
        self.failed
            .extend(failures.map(|line| format!("{}: {line}", tree.name)));
        Ok(())
    }

    /// Networks, images, volumes, containers; then those that others need.
    async fn prepare(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        let name = &part.name;
        if part.makes_containers {
            let words =
                |done: &report::Networks| format!("networks: {} created of {}", list(&done.created), done.networks);
            let key = format!("make networks of {name}");
            self.step(&key, Proof::Networks, |_| containers::networks(engine, part), words)
                .await?;
            let words = |done: &report::Images| {
                let (loaded, pulled) = (list(&done.loaded), list(&done.pulled));
                format!("images: {loaded} loaded from the snapshot, {pulled} pulled")
            };
            let key = format!("load images of {name}");
            self.step(&key, Proof::Images, |_| containers::images(engine, part), words)
                .await?;
        }
        self.volumes(part, engine).await?;
        if part.makes_containers {
            let words = |done: &report::Containers| {
                format!("containers: {} created of {}", list(&done.created), done.containers)
            };
            let key = format!("make containers of {name}");
            self.step(&key, Proof::Containers, |_| containers::create(engine, part), words)
                .await?;
            let words = |done: &report::Started| format!("started first: {}", list(&done.started));
            let key = format!("start what others need of {name}");
            let session = self.session;
            let work = |_| containers::start(session, engine, part, true);
            self.step(&key, Proof::Started, work, words).await?;
        }
        Ok(())
    }

    async fn volumes(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        for (name, source) in &part.left_empty {
            let key = format!("make volume {name}");
            let words = |_: &EmptyVolume| format!("volume {name}: empty, source {source} restores its data");
            let work = |_| containers::empty_volume(engine, part, name);
            self.step(&key, Proof::EmptyVolume, work, words).await?;
        }
        for name in part.unstored_volumes() {
            let key = format!("make volume {name}");
            let words = |_: &EmptyVolume| format!("volume {name}: empty, its files are not in the snapshot");
            let work = |_| containers::empty_volume(engine, part, name);
            self.step(&key, Proof::EmptyVolume, work, words).await?;
        }
        for volume in part.contents.volumes.iter().filter(|one| !part.leaves_empty(&one.name)) {
            let mut how = DockerRestoreOptions {
                task: part.name.clone(),
                volumes: vec![volume.name.clone()],
                clean: self.options.clean,
                keeps_equal: true,
                access: part.config.access(),
                quiesce: part.config.quiesce.clone(),
                kill: part.config.kill,
                stop_timeout: part.config.stop_timeout(),
                spool_dir: self.session.spool_dir.clone(),
                ..DockerRestoreOptions::default()
            };
            let session = self.session;
            let work = |again: bool| async move {
                how.clean |= again;
                let reporter = &session.reporter;
                let done = volumes::into_engine(&part.reader, engine, &how, reporter, &session.cancel).await?;
                let one = done.into_iter().next();
                one.ok_or_else(|| Error::new(ErrorKind::Other, "the volume was not restored"))
            };
            let words = |done: &VolumeReport| {
                format!(
                    "volume {}: {} written, {} unchanged, {}",
                    volume.name,
                    done.written,
                    done.unchanged,
                    Claim::EveryDigestChecked.words()
                )
            };
            let key = format!("restore volume {}", volume.name);
            let lost = self.step(&key, Proof::Volume, work, words).await?.lost;
            if lost > 0 {
                self.failed.push(format!(
                    "volume {}: owners, modes, attributes or device nodes of {lost} entries could not be restored; \
                     see the log",
                    volume.name
                ));
            }
        }
        Ok(())
    }

    fn leave_volumes(&mut self, part: &DockerPart) {
        for volume in part.contents.volumes.iter().filter(|one| !part.leaves_empty(&one.name)) {
            self.failed.push(format!(
                "volume {} was not restored because there is no Docker engine here: wirevault restore {} --source {} \
                 --volume {} --into DIRECTORY",
                volume.name,
                self.choice.snapshot_of(&part.name),
                part.name,
                volume.name
            ));
        }
    }

    /// Returns whether every server answers already.
    async fn all_answer(&self, plan: &Plan) -> bool {
        for database in &plan.databases {
            let server = self.server_of(plan, database).await;
            if servers::wait(self.session, server.as_ref(), Duration::ZERO)
                .await
                .is_err()
            {
                return false;
            }
        }
        true
    }

    /// Where a database is reached, with its password. A place that is the snapshot's word gets no secret of this process.
    async fn server_of(&self, plan: &Plan, database: &Database) -> Spec {
        let mut secrets = Secrets::default();
        if database.place.word != Word::Accepted {
            let engines = self.session.engines.iter();
            secrets.add_process(engines.flat_map(|engine| engine.secret_variables().iter().copied()));
        }
        for file in &self.options.env_file {
            if !secrets.add_file(file) {
                tracing::warn!("\"{}\" cannot be read", file.display());
            }
        }
        let mut live = None;
        for part in &plan.docker {
            let Some(home) = &database.home else { continue };
            if let Some(environment) = part.definitions.environments.get(home) {
                secrets.add_environment(environment);
            }
            let definition = part
                .definitions
                .containers
                .iter()
                .find(|one| container_name(one) == home);
            add_command(&mut secrets, &self.session.engines, definition);
            if let Some(engine) = &part.engine {
                live = engine.container(home).await.ok().flatten();
            }
        }
        for tree in plan.trees.iter().filter(|tree| tree.phase == RecoveryPhase::Trees) {
            secrets.add_file(&tree.into.join(".env"));
        }
        let spec = &database.place.spec;
        let Some(server) = spec.server() else {
            return spec.clone();
        };
        let url = servers::reachable(server, live.as_ref()).await;
        spec.reached_at(&url, &secrets)
    }

    async fn database(&mut self, plan: &Plan, database: &Database) -> Result<()> {
        let (name, kind) = (&database.name, &database.kind);
        let server = self.server_of(plan, database).await;
        let (session, within) = (self.session, self.options.wait);
        let wait = |_| servers::wait(session, server.as_ref(), within);
        let words = |answer: &String| format!("{kind} {name} is up: {answer}");
        // A server that ran at the earlier attempt may not run now: it is always asked.
        let key = format!("wait for {kind} {name}");
        self.state.reopen(&key);
        self.step(&key, Proof::Answer, wait, words).await?;
        let at = format!("at {}", server.place());
        Box::pin(self.restore(kind, name, Some(server), &at)).await
    }

    async fn start_rest(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        let session = self.session;
        let words = |done: &report::Started| format!("started then: {}", list(&done.started));
        let key = format!("start the rest of {}", part.name);
        let work = |_| containers::start(session, engine, part, false);
        self.step(&key, Proof::Started, work, words).await?;
        let words = |done: &report::Running| {
            format!(
                "containers: {} run, {}: {}",
                done.running,
                Claim::ContainersHealthy.words(),
                list(&done.healthy)
            )
        };
        let (key, within) = (format!("wait for containers of {}", part.name), self.options.wait);
        self.state.reopen(&key);
        let work = |_| containers::wait(session, engine, part, within);
        self.step(&key, Proof::Running, work, words).await?;
        Ok(())
    }

    async fn health(&mut self, url: &str) -> Result<()> {
        let (session, within) = (self.session, self.options.wait);
        let key = format!("wait for {}", redact_url(url));
        self.state.reopen(&key);
        let work = |_| async {
            let from = Instant::now();
            loop {
                match session.or_cancelled(health::ask(url)).await {
                    Ok(()) => return Ok("answers".to_owned()),
                    Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                    Err(error) if from.elapsed() > within => {
                        return Err(servers::plain(&error)
                            .with_hint("Check the application's log, then run the same command again to continue."));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
                }
            }
        };
        let words = |_: &String| format!("{} answers", redact_url(url));
        self.step(&key, Proof::Answer, work, words).await?;
        Ok(())
    }
}

/// Returns the engine of a source of the plan.
fn engine_of<'a>(session: &'a Session, kind: &str) -> Result<&'a dyn engines::Engine> {
    let unknown = || Error::unsupported(format!("this version cannot restore sources of kind \"{kind}\""));
    session.engines.of_kind(kind).ok_or_else(unknown)
}

/// Adds a password that stands in the command of a container.
fn add_command(secrets: &mut Secrets, engines: &Registry, container: Option<&serde_json::Value>) {
    let lists = ["/Config/Entrypoint", "/Config/Cmd"].into_iter();
    let lists = lists.filter_map(|list| container?.pointer(list)?.as_array());
    let words: Vec<&str> = lists.flatten().filter_map(serde_json::Value::as_str).collect();
    for (name, password) in engines.iter().filter_map(|engine| engine.secret_in_command(&words)) {
        secrets.add(name, &password);
    }
}

/// Names a list of names, or says that it is empty.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
