//! `recover`: a whole server back onto this host, from the repository alone.
//!
//! The plan is made and shown first; it opens and checks everything and changes nothing. Then, in order: file trees and
//! SQLite databases (the configuration among them), networks, images, volumes, containers; those that others need are
//! started and waited for until they answer their own protocol; databases and Redis; the rest is started and waited for.
//! Each step is remembered in a state file, so an interrupted recovery goes on where it stopped, and says what it proved.

mod choice;
mod containers;
mod health;
mod plan;
mod secrets;
mod servers;
mod state;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::{self, SourceKind, redact_url};
use crate::engines::docker::Access;
use crate::engines::docker::api::Engine;
use crate::engines::docker::api::definition::container_name;
use crate::engines::docker::restore::{self as volumes, DockerRestoreOptions};
use crate::operations::destination::Target;
use crate::operations::options;
use crate::operations::places::{self, Word};
use crate::operations::said::said;
use crate::operations::snapshots::open_repository;
use crate::operations::{Outcome, Session, Status, restore, thaw};
use crate::policy::health::Claim;
use choice::Choice;
use plan::{Database, DockerPart, Plan, Tree};
use secrets::Secrets;
use state::State;

/// How what happens is told, line by line.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// Shows the plan, then follows it.
pub async fn run(session: &Session, options: &options::Recover, tell: Tell<'_>) -> Outcome {
    let started = Instant::now();
    plan::check_addresses(options)?;
    let repository = open_repository(session).await?;
    let mut choice = choice::choose(session, &repository, &options.snapshot).await?;
    choice.only(&options.only, &options.address)?;
    if !options.dry_run {
        let all: Vec<_> = choice.pieces.iter().map(|piece| &piece.source).collect();
        thaw::sources(session, repository.store(), &all, &options.thaw).await?;
    }
    let mut plan = plan::look(session, &repository, &choice, options).await?;
    let mut accepted = options.clone();
    if !options.dry_run && !plan.unaccepted.is_empty() {
        tell(&plan.text());
        let question = "The places that nothing on this host names are the snapshot's. Follow it?";
        if !session.ask.is_some_and(|ask| ask(question)) {
            return Err(not_accepted(session, &plan));
        }
        accepted.accept_places = true;
        plan = plan::look(session, &repository, &choice, &accepted).await?;
    }
    let options = &accepted;
    let ids: Vec<String> = choice.snapshots().into_iter().map(ToString::to_string).collect();
    let newest = ids.first().cloned().unwrap_or_default();
    if options.dry_run {
        let status = if plan.is_possible() {
            Status::Done
        } else {
            Status::Failed
        };
        return said(
            json!({ "snapshot": newest, "sources": choice.document(), "skew_seconds": choice.skew_seconds(),
                "plan": plan.document() }),
            plan.text(),
            status,
        );
    }
    tell(&plan.text());
    plan.refuse()?;
    let path = options.state.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(format!("wirevault-recover-{newest}.json")));
    let state = State::open(&path, &ids.join(" "))?;
    if state.is_resumed() {
        tell("resuming an earlier recovery\n");
    }
    let mut recovery = Recovery {
        session,
        options,
        choice: &choice,
        tell,
        state,
        proofs: Vec::new(),
        failed: Vec::new(),
    };
    recovery.follow(&plan).await?;
    let Recovery {
        state,
        proofs,
        mut failed,
        ..
    } = recovery;
    if failed.is_empty() {
        state.forget();
    }
    // What has no good copy does not come with another attempt either, so the state need not wait for it.
    failed.extend(choice.missing.iter().cloned());
    let seconds = started.elapsed().as_secs_f64();
    let whole = if failed.is_empty() { "" } else { " in part" };
    let mut text = format!("recovered{whole} in {seconds:.1} s:\n");
    for proof in &proofs {
        text.push_str(&format!("  {}\n", proof.text));
    }
    for line in &failed {
        text.push_str(&format!("failed: {line}\n"));
    }
    let steps: Vec<Value> = proofs
        .iter()
        .map(|proof| json!({ "step": proof.step, "seconds": proof.seconds, "proof": proof.value }))
        .collect();
    said(
        json!({ "snapshot": newest, "sources": choice.document(), "skew_seconds": choice.skew_seconds(),
            "seconds": seconds, "steps": steps, "failed": failed }),
        text,
        if failed.is_empty() {
            Status::Done
        } else {
            Status::Partial
        },
    )
}

/// The error for places that only the snapshot names, with the command line that goes on.
fn not_accepted(session: &Session, plan: &Plan) -> Error {
    let named = plan.unaccepted.join(", ");
    Error::invalid(format!("nothing on this host says where {named} goes")).with_hint(format!(
        "The plan above shows where the snapshot says it was. To follow it: {}. Or write [source.NAME] into wirevault.toml; \
         for a server, --address NAME=URL.",
        session.command_line(&["--accept-places"])
    ))
}

/// What one step proved.
#[derive(Debug)]
struct Proof {
    step: String,
    text: String,
    seconds: f64,
    value: Value,
}

struct Recovery<'a> {
    session: &'a Session,
    options: &'a options::Recover,
    choice: &'a Choice,
    tell: Tell<'a>,
    state: State,
    proofs: Vec<Proof>,
    failed: Vec<String>,
}

impl Recovery<'_> {
    async fn follow(&mut self, plan: &Plan) -> Result<()> {
        for tree in &plan.trees {
            self.tree(tree).await?;
        }
        for part in &plan.docker {
            if let Some(engine) = &part.engine {
                self.prepare(part, engine).await?;
            } else {
                self.leave_volumes(part);
            }
            if !part.makes_containers && !self.all_answer(plan).await {
                (self.tell)(&format!(
                    "start the containers now; the recovery goes on as soon as the servers answer:\n  {}\n",
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

    /// Runs a step unless an earlier attempt finished it. `again` tells the work that it was begun before.
    async fn step<F>(&mut self, key: &str, work: impl FnOnce(bool) -> F, words: impl Fn(&Value) -> String) -> Result<()>
    where
        F: Future<Output = Result<Value>>,
    {
        let from = Instant::now();
        let value = if let Some(value) = self.state.done(key) {
            value.clone()
        } else {
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
            self.state.end(key, value.clone())?;
            value
        };
        self.proofs.push(Proof {
            step: key.to_owned(),
            text: words(&value),
            seconds: from.elapsed().as_secs_f64(),
            value,
        });
        Ok(())
    }

    fn restore_flags(&self, source: &str) -> options::Restore {
        options::Restore {
            snapshot: self.choice.snapshot_of(source),
            source: vec![source.to_owned()],
            parallel: options::DEFAULT_PARALLEL,
            into_original: self.options.accept_places,
            ..options::Restore::default()
        }
    }

    async fn tree(&mut self, tree: &Tree) -> Result<()> {
        let mut flags = self.restore_flags(&tree.name);
        let (session, clean) = (self.session, self.options.clean);
        self.step(
            &format!("restore {} {}", tree.kind, tree.name),
            |again| async move {
                flags.clean = again || clean;
                restored(&Box::pin(restore::run(session, &flags)).await?.document())
            },
            |value| {
                let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
                match tree.kind.as_str() {
                    "files" => format!(
                        "files {}: {} written, {} as they were, {}, in {}",
                        tree.name,
                        number("written"),
                        number("unchanged"),
                        Claim::EveryDigestChecked.words(),
                        tree.into.display()
                    ),
                    _ => format!(
                        "sqlite {}: {} bytes, {}, in {}",
                        tree.name,
                        number("bytes"),
                        checked(value),
                        tree.into.display()
                    ),
                }
            },
        )
        .await?;
        self.take_errors();
        if restore::is_damaged(self.last_proof()) {
            self.failed.push(format!(
                "{}: the database was damaged when it was stored, and came back as it was; another snapshot may hold it whole",
                tree.name
            ));
        }
        Ok(())
    }

    /// Networks, images, volumes, containers; then those that others need.
    async fn prepare(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        let name = &part.name;
        if part.makes_containers {
            let words =
                |value: &Value| format!("networks: {} created of {}", list(value, "created"), value["networks"]);
            let key = format!("make networks of {name}");
            self.step(&key, |_| containers::networks(engine, part), words).await?;
            let words = |value: &Value| {
                format!(
                    "images: {} loaded from the snapshot, {} pulled",
                    list(value, "loaded"),
                    list(value, "pulled")
                )
            };
            let key = format!("load images of {name}");
            self.step(&key, |_| containers::images(engine, part), words).await?;
        }
        self.volumes(part, engine).await?;
        if part.makes_containers {
            let words = |value: &Value| {
                format!(
                    "containers: {} created of {}",
                    list(value, "created"),
                    value["containers"]
                )
            };
            let key = format!("make containers of {name}");
            self.step(&key, |_| containers::create(engine, part), words).await?;
            let words = |value: &Value| format!("started first: {}", list(value, "started"));
            let key = format!("start what others need of {name}");
            let session = self.session;
            self.step(&key, |_| containers::start(session, engine, part, true), words)
                .await?;
        }
        Ok(())
    }

    async fn volumes(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        for (name, source) in &part.left_empty {
            let key = format!("make volume {name}");
            let words = |_: &Value| format!("volume {name}: empty, source {source} brings its data");
            let work = |_| async { Ok(json!({ "created": containers::empty_volume(engine, part, name).await? })) };
            self.step(&key, work, words).await?;
        }
        for name in part.unstored_volumes() {
            let key = format!("make volume {name}");
            let words = |_: &Value| format!("volume {name}: empty, its files are not in the snapshot");
            let work = |_| async { Ok(json!({ "created": containers::empty_volume(engine, part, name).await? })) };
            self.step(&key, work, words).await?;
        }
        for volume in part.contents.volumes.iter().filter(|one| !part.leaves_empty(&one.name)) {
            let mut how = DockerRestoreOptions {
                task: part.name.clone(),
                volumes: vec![volume.name.clone()],
                clean: self.options.clean,
                keeps_equal: true,
                access: if part.config.archive_api {
                    Access::Archive
                } else {
                    Access::Auto
                },
                quiesce: part.config.quiesce.clone(),
                kill: part.config.kill,
                stop_timeout: Duration::from_secs(part.config.stop_timeout_seconds.unwrap_or(30)),
                spool_dir: self.session.spool_dir.clone(),
                ..DockerRestoreOptions::default()
            };
            let session = self.session;
            let work = |again: bool| async move {
                how.clean |= again;
                let reporter = &session.reporter;
                let done = volumes::into_engine(&part.reader, engine, &how, reporter, &session.cancel).await?;
                serde_json::to_value(done.first()).map_err(|e| Error::invalid("report of a volume").with_cause(e))
            };
            let words = |value: &Value| {
                format!(
                    "volume {}: {} written, {} as they were, {}",
                    volume.name,
                    value["written"],
                    value["unchanged"],
                    Claim::EveryDigestChecked.words()
                )
            };
            self.step(&format!("restore volume {}", volume.name), work, words)
                .await?;
            let lost = self.last_proof().get("lost").and_then(Value::as_u64).unwrap_or(0);
            if lost > 0 {
                self.failed.push(format!(
                    "volume {}: owners, modes, attributes or device nodes of {lost} entries are not as they were; the log names them",
                    volume.name
                ));
            }
        }
        Ok(())
    }

    fn leave_volumes(&mut self, part: &DockerPart) {
        for volume in part.contents.volumes.iter().filter(|one| !part.leaves_empty(&one.name)) {
            self.failed.push(format!(
                "volume {} was not restored, for there is no Docker engine here: wirevault restore {} --source {} \
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
            if servers::wait(self.session, &server, Duration::ZERO).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Where a database is reached, with its password. A place that is the snapshot's word gets no secret of this process.
    async fn server_of(&self, plan: &Plan, database: &Database) -> SourceKind {
        let mut secrets = Secrets::default();
        if database.place.word != Word::Accepted {
            secrets.add_process();
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
            secrets.add_command(definition);
            if let Some(engine) = &part.engine {
                live = engine.container(home).await.ok().flatten();
            }
        }
        for tree in plan.trees.iter().filter(|tree| tree.kind == "files") {
            secrets.add_file(&tree.into.join(".env"));
        }
        let url = servers::reachable(database.url(), &database.kind, live.as_ref()).await;
        let found = config::parse_source_url(&secrets.with_password(&url, &database.kind));
        let mut kind = database.place.kind.clone();
        match (&mut kind, found.map(|found| found.kind)) {
            (SourceKind::Postgres(server), Ok(SourceKind::Postgres(found))) => {
                server.url = found.url;
                if server.password.is_none() && server.password_file.is_none() {
                    server.password = found.password;
                }
            }
            (SourceKind::Redis(server), Ok(SourceKind::Redis(found))) => {
                server.url = found.url;
                if server.password.is_none() && server.password_file.is_none() {
                    server.password = found.password;
                }
            }
            _ => {}
        }
        kind
    }

    async fn database(&mut self, plan: &Plan, database: &Database) -> Result<()> {
        let (name, kind) = (&database.name, &database.kind);
        let server = self.server_of(plan, database).await;
        let (session, options) = (self.session, self.options);
        let wait = |_| async { Ok(json!(servers::wait(session, &server, options.wait).await?)) };
        let words = |value: &Value| format!("{kind} {name} answers: {}", value.as_str().unwrap_or_default());
        // A server that ran at the earlier attempt may not run now: it is always asked.
        let key = format!("wait for {kind} {name}");
        self.state.reopen(&key);
        self.step(&key, wait, words).await?;
        let mut flags = self.restore_flags(name);
        let target = match &server {
            SourceKind::Postgres(server) => Some(Target::Database(server.clone())),
            SourceKind::Redis(server) => Some(Target::Redis(server.clone())),
            _ => None,
        };
        if kind == "postgres" {
            flags.database.verify_rows = true;
            flags.database.keep_going = true;
            flags.database.create_roles = true;
        }
        let work = |again: bool| async move {
            flags.clean = again || options.clean;
            restored(&Box::pin(restore::run_into(session, &flags, target)).await?.document())
        };
        let words = |value: &Value| {
            let number = |key: &str| {
                value
                    .pointer(&format!("/report/{key}"))
                    .and_then(Value::as_u64)
                    .unwrap_or(0)
            };
            let at = places::text(&server);
            if kind == "postgres" {
                let verified = value.pointer("/report/rows_verified") == Some(&Value::Bool(true));
                let proof = if verified {
                    Claim::EveryDigest.words()
                } else {
                    "rows not read again"
                };
                format!(
                    "postgres {name}: {} tables, {} rows, {proof}, at {at}",
                    number("tables"),
                    number("rows")
                )
            } else {
                format!(
                    "redis {name}: {} keys restored, {} expired meanwhile, {} failed, at {at}",
                    number("restored"),
                    number("expired"),
                    number("failed_keys")
                )
            }
        };
        self.step(&format!("restore {kind} {name}"), work, words).await?;
        self.take_errors();
        Ok(())
    }

    /// Returns what the last step said.
    fn last_proof(&self) -> &Value {
        self.proofs.last().map_or(&Value::Null, |proof| &proof.value)
    }

    /// Takes what the last restore could not bring back.
    fn take_errors(&mut self) {
        let errors = self.last_proof().get("errors").and_then(Value::as_array);
        let errors: Vec<String> = errors
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        self.failed.extend(errors);
    }

    async fn start_rest(&mut self, part: &DockerPart, engine: &Engine) -> Result<()> {
        let session = self.session;
        let words = |value: &Value| format!("started then: {}", list(value, "started"));
        let key = format!("start the rest of {}", part.name);
        self.step(&key, |_| containers::start(session, engine, part, false), words)
            .await?;
        let words = |value: &Value| {
            format!(
                "containers: {} run, {}: {}",
                value["running"],
                Claim::ContainersHealthy.words(),
                list(value, "healthy")
            )
        };
        let (key, within) = (format!("wait for containers of {}", part.name), self.options.wait);
        self.state.reopen(&key);
        self.step(&key, |_| containers::wait(session, engine, part, within), words)
            .await
    }

    async fn health(&mut self, url: &str) -> Result<()> {
        let (session, within) = (self.session, self.options.wait);
        let key = format!("wait for {}", redact_url(url));
        self.state.reopen(&key);
        let work = |_| async {
            let from = Instant::now();
            loop {
                match session.or_cancelled(health::ask(url)).await {
                    Ok(()) => return Ok(json!("answers")),
                    Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                    Err(error) if from.elapsed() > within => {
                        return Err(servers::plain(&error).with_hint(
                            "Look at the application's log, then run the same command again: it goes on where it stopped.",
                        ));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
                }
            }
        };
        self.step(&key, work, |_| format!("{} answers", redact_url(url))).await
    }
}

/// Returns what a restore says of its one source; an error among several items is carried along.
fn restored(document: &Value) -> Result<Value> {
    let mut one = document.pointer("/restored/0").cloned().unwrap_or(Value::Null);
    let errors = document.get("errors").cloned().unwrap_or_default();
    match one.as_object_mut() {
        Some(one) => {
            one.insert("errors".to_owned(), errors);
            Ok(Value::Object(one.clone()))
        }
        None => Err(Error::new(ErrorKind::Other, format!("nothing was restored: {errors}"))),
    }
}

/// Says what SQLite found in a database that came back.
fn checked(value: &Value) -> &'static str {
    let unchecked = value.pointer("/integrity/unchecked").and_then(Value::as_array);
    let unchecked = unchecked.is_some_and(|lines| !lines.is_empty());
    match (restore::is_damaged(value), unchecked) {
        (true, _) => "DAMAGED as it was when it was stored",
        (false, true) => "checked by SQLite as far as it can without its application",
        (false, false) => Claim::CheckedBySqlite.words(),
    }
}

/// Names a list of names, or says that it is empty.
fn list(value: &Value, key: &str) -> String {
    let names = value.get(key).and_then(Value::as_array);
    let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
