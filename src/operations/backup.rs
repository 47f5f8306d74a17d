//! `backup`: reads every source of a plan into the repository; the manifest is written last.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::archive::writer::ArchiveOptions;
use crate::archive::{ArchiveWriter, Compression};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::{Plan, SourceConfig};
use crate::engines::{BackupContext, Engine, KeptSnapshot, Registry, Source, SourceOutcome, Spec};
use crate::operations::options;
use crate::operations::session::cancelled;
use crate::operations::targets::{self, Target, WritePath};
use crate::operations::{Report, Session, Status, document_of, emptied, expand, hooks, records, show};
use crate::repository::ADHOC_JOB;
use crate::repository::record::{RecordedSource, RunRecord, TaskKind};
use crate::repository::{
    Manifest, ManifestSource, PRE_RESTORE_JOB, RunOptions, SnapshotId, StoredPlan, document, layout,
};

/// Archives roll over when their compressed index reaches this, in bytes.
const MAX_INDEX_BYTES: usize = 4 << 20;

/// What is done before something goes that cannot stay beside.
pub(crate) const SAFETY: &str = "take a snapshot of the target before it is emptied";

/// What `backup` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub enum BackupReport {
    /// With `--dry-run`: what would be done.
    Planned {
        /// The plans, one for each repository of each job.
        plans: Vec<Plan>,
    },
    /// It was done.
    Ran(BackupRun),
}

/// What a run left.
#[derive(Debug, Default, serde::Serialize)]
pub struct BackupRun {
    /// The manifests that were written, one for each repository of each job; where nothing changed, those that were there.
    pub snapshots: Vec<Manifest>,
    /// What failed as a whole: a job in a repository.
    pub errors: Vec<String>,
    /// Whether nothing had changed, so that nothing new is stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Those that say what their notes mean.
    #[serde(skip)]
    engines: Registry,
}

impl Report for BackupReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        match self {
            Self::Planned { plans } => plans.iter().map(plan_text).collect(),
            Self::Ran(run) => run.text(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Planned { .. } => Status::Done,
            Self::Ran(run) => run.status(),
        }
    }
}

impl BackupRun {
    /// Returns how it ended.
    pub fn status(&self) -> Status {
        status_of(
            &self.engines,
            &self.snapshots.iter().collect::<Vec<_>>(),
            self.errors.is_empty(),
        )
    }

    /// Returns the first thing that was not well, of what is not optional.
    pub fn complaint(&self) -> Option<&str> {
        let sources = self.snapshots.iter().flat_map(|manifest| &manifest.sources);
        let failed = sources.filter(|source| !source.optional);
        let failed = failed.filter_map(|source| source.error.as_ref());
        self.errors.iter().chain(failed).next().map(String::as_str)
    }

    fn text(&self) -> String {
        let texts: Vec<String> = self
            .snapshots
            .iter()
            .map(|one| show::text(&self.engines, one))
            .collect();
        let mut text = texts.join("\n");
        if self.unchanged {
            text.push_str("\nunchanged since this snapshot; nothing new was stored\n");
        }
        for error in &self.errors {
            text.push_str(&format!("\nfailed: {error}\n"));
        }
        if self.status() == Status::Partial {
            let lost: u64 = self.snapshots.iter().map(|one| losses(&self.engines, one)).sum();
            if lost > 0 {
                text.push_str(&format!(
                    "\n{lost} notes about data missing from the snapshot; see the log\n"
                ));
            }
            let found: u64 = self.snapshots.iter().map(damaged).sum();
            if found > 0 {
                let what = match found {
                    1 => "1 database was damaged before it was stored".to_owned(),
                    more => format!("{more} databases were damaged before they were stored"),
                };
                text.push_str(&format!("\n{what}; stored as found, see the log for the damage\n"));
            }
            text.push_str("\nfinished, but some sources failed or lost items\n");
        }
        text
    }
}

/// Makes the plans, and runs them unless they are only to be shown.
pub async fn run(session: &Session, options: &options::Backup) -> Result<BackupReport> {
    if options.dry_run {
        let plans = plans(session, options).await?;
        return Ok(BackupReport::Planned { plans });
    }
    back_up(session, options).await.map(BackupReport::Ran)
}

/// Makes the plans of what was named.
async fn plans(session: &Session, options: &options::Backup) -> Result<Vec<Plan>> {
    let mut plans = session.plans(&options.targets)?;
    expand::expand(session, &mut plans).await?;
    if let Some(level) = options.level {
        for plan in &mut plans {
            plan.compression_level = level;
        }
    }
    for source in plans.iter_mut().flat_map(|plan| &mut plan.sources) {
        source.kind.spec_mut().take_flags(&options.engines)?;
    }
    Ok(plans)
}

/// Runs the plans of what was named one after another; one that fails does not keep the others from running.
pub(crate) async fn back_up(session: &Session, options: &options::Backup) -> Result<BackupRun> {
    let plans = plans(session, options).await?;
    let begun = Timestamp::now();
    let mut run = BackupRun {
        engines: session.engines.clone(),
        ..BackupRun::default()
    };
    for job in plans.chunk_by(|a, b| a.job == b.job) {
        let (started, log_from) = (session.clock.now(), Timestamp::now());
        let results = run_job(session, options, job).await;
        if !options.scheduled && !session.cancel.is_cancelled() {
            record(session, &results, started, log_from).await;
        }
        for (plan, result) in results {
            match result {
                Ok(manifest) => run.snapshots.push(manifest),
                Err(error) if plans.len() == 1 || error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => run.errors.push(format!(
                    "job {} to {}: {}",
                    plan.job,
                    plan.repository.url,
                    error.chain_and_hint()
                )),
            }
        }
    }
    // What did not change is answered by the snapshot that was there.
    let older = |manifest: &Manifest| manifest.finished < begun;
    run.unchanged = options.if_changed && !run.snapshots.is_empty() && run.snapshots.iter().all(older);
    Ok(run)
}

/// How a run ended that made these manifests, and in some repository none.
fn status_of(engines: &Registry, manifests: &[&Manifest], everywhere: bool) -> Status {
    let whole =
        |manifest: &&&Manifest| manifest.is_complete() && losses(engines, manifest) == 0 && damaged(manifest) == 0;
    match (
        manifests.is_empty(),
        everywhere && manifests.iter().filter(whole).count() == manifests.len(),
    ) {
        (true, _) => Status::Failed,
        (false, true) => Status::Done,
        (false, false) => Status::Partial,
    }
}

/// Keeps the record of a job that was run by hand. Backups of sources that were given as URLs are no job.
async fn record(session: &Session, results: &[(&Plan, Result<Manifest>)], started: Timestamp, log_from: Timestamp) {
    let Some((plan, _)) = results.first().filter(|(plan, _)| plan.job != ADHOC_JOB) else {
        return;
    };
    let made: Vec<&Manifest> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let error = results.iter().find_map(|(_, result)| result.as_ref().err());
    let mut failed = made
        .iter()
        .flat_map(|manifest| &manifest.sources)
        .filter(|source| !source.optional);
    let source = |source: &SourceConfig| RecordedSource {
        name: source.name.clone(),
        optional: source.optional,
    };
    let mut snapshots: Vec<SnapshotId> = made.iter().map(|manifest| manifest.id.clone()).collect();
    snapshots.dedup();
    let record = RunRecord {
        format: document::FORMAT,
        host: session.host(),
        task: TaskKind::Backup,
        name: plan.job.clone(),
        started,
        ended: session.clock.now().max(started),
        outcome: status_of(&session.engines, &made, error.is_none()).into(),
        error: error
            .map(Error::chain)
            .or_else(|| failed.find_map(|source| source.error.clone())),
        hint: error.and_then(Error::hint).map(str::to_owned),
        log: crate::base::report::tail::since(log_from),
        snapshots,
        sources: plan.sources.iter().map(source).collect(),
        schedule: plan.schedule.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let repositories: Vec<_> = results.iter().map(|(plan, _)| plan.repository.clone()).collect();
    records::keep(session, &repositories, &record).await;
}

/// Runs the plans of one job between its hooks: its sources are read once, for all repositories. A hook `before` that fails
/// is the failure of all of them.
async fn run_job<'a>(
    session: &Session,
    options: &options::Backup,
    plans: &'a [Plan],
) -> Vec<(&'a Plan, Result<Manifest>)> {
    let job = plans.first().map(|plan| plan.job.clone()).unwrap_or_default();
    let hooks = hooks::of(session, &job);
    let mut told = hooks::HookPayload {
        job,
        host: session.host(),
        status: "begun",
        ..hooks::HookPayload::default()
    };
    let results = match hooks::before(&hooks, &told, &session.cancel).await {
        Ok(()) => run_plans(session, options, plans).await,
        Err(error) => plans.iter().map(|_| Err(error.duplicate())).collect(),
    };
    for result in &results {
        match result {
            Ok(manifest) => told.snapshots.push(manifest.id.to_string()),
            Err(error) => told.error = error.chain(),
        }
    }
    told.snapshots.dedup();
    told.status = match (told.snapshots.is_empty(), told.error.is_empty()) {
        (true, _) => "failed",
        (false, true) => "done",
        (false, false) => "partial",
    };
    // What `before` stopped must be started again also when a signal ends the run.
    hooks::ended(&hooks, &told, &CancellationToken::new()).await;
    plans.iter().zip(results).collect()
}

/// Code of the note about a tree that had entries and has none.
pub(crate) const BECAME_EMPTY: &str = "became-empty";

/// Notes of what is in the snapshot as it was, and was not as it should be.
const DAMAGE: &[&str] = &["damaged"];

/// Counts what a snapshot lacks although its sources succeeded.
fn losses(engines: &Registry, manifest: &Manifest) -> u64 {
    let of_engine = |kind: &str, code: &str| engines.of_kind(kind).is_some_and(|one| one.losses().contains(&code));
    noted(manifest, |kind, code| code == BECAME_EMPTY || of_engine(kind, code))
}

/// Counts what was damaged where it was read.
fn damaged(manifest: &Manifest) -> u64 {
    noted(manifest, |_, code| DAMAGE.contains(&code))
}

/// Counts the notes of the codes that are meant, of each kind of sources.
fn noted(manifest: &Manifest, is_meant: impl Fn(&str, &str) -> bool) -> u64 {
    let mut noted = 0;
    for source in &manifest.sources {
        let counts = source.outcome.iter().flat_map(|outcome| &outcome.note_counts);
        let meant = counts.filter(|(code, _)| is_meant(&source.kind, code));
        noted += meant.map(|(_, count)| count).sum::<u64>();
    }
    noted
}

/// The times of a run's lease and heartbeat.
fn run_options() -> RunOptions {
    #[cfg(feature = "test-hooks")]
    if let Some(lease) = crate::base::test_hooks::lease() {
        return RunOptions {
            heartbeat: lease / 20,
            lease_ttl: lease,
        };
    }
    RunOptions::default()
}

/// Takes a snapshot of a source that a restore is about to empty, under the job `pre-restore`: with the password that the restore
/// has for it, and with none where it has none. Returns what the restore has to judge.
pub(crate) async fn safety_snapshot(session: &Session, spec: Spec) -> Result<KeptSnapshot> {
    let source = SourceConfig {
        name: spec.kind().word().to_owned(),
        kind: spec.into(),
        rate_limit_bytes: None,
        optional: false,
    };
    let taken = snapshot(session, source, PRE_RESTORE_JOB).await.context(SAFETY)?;
    let notes = taken.sources.iter().filter_map(|source| source.outcome.as_ref());
    let notes = notes.flat_map(|outcome| outcome.note_counts.keys().cloned());
    Ok(KeptSnapshot {
        id: taken.id.to_string(),
        notes: notes.collect(),
    })
}

/// Takes a snapshot of one source, as `backup` does of a URL.
pub(crate) async fn snapshot_of(session: &Session, source: SourceConfig) -> Result<Manifest> {
    snapshot(session, source, ADHOC_JOB).await
}

async fn snapshot(session: &Session, source: SourceConfig, job: &str) -> Result<Manifest> {
    let mut plan = crate::config::plan_for_sources(vec![source], session.repository_config()?)?;
    job.clone_into(&mut plan.job);
    let options = options::Backup {
        parallel: Some(1),
        ..options::Backup::default()
    };
    let result = run_plans(session, &options, std::slice::from_ref(&plan)).await.pop();
    result.unwrap_or_else(|| Err(cancelled()))
}

/// Reads the sources of a job once, into the repository of each of its plans.
async fn run_plans(session: &Session, options: &options::Backup, plans: &[Plan]) -> Vec<Result<Manifest>> {
    let mut results: Vec<Option<Result<Manifest>>> = plans.iter().map(|_| None).collect();
    let Some(first) = plans.first() else { return vec![] };
    let sources = match first
        .sources
        .iter()
        .map(|source| source.kind.spec().open())
        .collect::<Result<Vec<_>>>()
    {
        Ok(sources) => sources,
        Err(error) => return plans.iter().map(|_| Err(error.duplicate())).collect(),
    };
    let (host, times) = (session.host(), run_options());
    let id = SnapshotId::unique(Timestamp::now(), &first.job);
    let (targets, failed) = targets::prepare(session, plans, &id, &host, &times).await;
    let failed = failed.into_iter().map(|(at, error)| (at, Err(error)));
    // What only a manifest named does not become the word of this host by being backed up.
    let foreign = |source: &SourceConfig| source.kind.spec().is_foreign();
    if matches!(first.job.as_str(), ADHOC_JOB | PRE_RESTORE_JOB) && !first.sources.iter().any(foreign) {
        for target in &targets {
            session.state.remember_sources(target.repository.id(), &first.sources);
        }
    }
    let ended = read_and_commit(session, options, targets, sources, (id, host)).await;
    for (at, result) in failed.chain(ended) {
        if let Some(place) = results.get_mut(at) {
            *place = Some(result);
        }
    }
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(cancelled())))
        .collect()
}

/// Reads each source, then commits in each repository. Without a commit nothing of it counts there.
async fn read_and_commit(
    session: &Session,
    options: &options::Backup,
    targets: Vec<Target<'_>>,
    sources: Vec<Arc<dyn Source>>,
    (id, host): (SnapshotId, String),
) -> Vec<(usize, Result<Manifest>)> {
    let Some(plan) = targets.first().map(|target| target.plan) else {
        return vec![];
    };
    let write_path = match WritePath::into(session, &targets) {
        Ok(write_path) => write_path,
        Err(error) => return fail(targets, &error).await,
    };
    let (started, mut results) = (Timestamp::now(), Vec::new());
    for (config, source) in plan.sources.iter().zip(sources) {
        if write_path.cancel.is_cancelled() {
            break;
        }
        let result = back_up_source(session, options, (&id, &targets), &write_path, config, source).await;
        results.push(result);
    }
    if write_path.cancel.is_cancelled() {
        let lost = targets.first().and_then(|target| target.check_lease().err());
        // No manifest will name what the sources before it stored.
        for (source, _) in results.iter().filter(|(source, _)| source.outcome.is_some()) {
            for target in &targets {
                target.discard(&id, &source.name).await;
            }
        }
        let why = lost
            .filter(|_| !session.cancel.is_cancelled())
            .unwrap_or_else(cancelled);
        return fail(targets, &why).await;
    }
    let (mut sources, mut errors): (Vec<ManifestSource>, Vec<Option<Error>>) = results.into_iter().unzip();
    if sources.iter().all(|source| source.outcome.is_none()) {
        let first = errors.iter_mut().find_map(Option::take);
        let none = || Error::invalid(format!("job \"{}\" has no sources", plan.job));
        return fail(targets, &first.unwrap_or_else(none)).await;
    }
    for (source, error) in sources.iter().zip(&errors) {
        match error {
            Some(error) if source.optional => tracing::warn!("{} (this source is optional)", error.chain()),
            Some(error) => tracing::error!("{}", error.chain()),
            None => {}
        }
    }
    if let Some(target) = targets.first() {
        emptied::note(&target.repository, &host, plan, &session.reporter, &mut sources).await;
        expand::note(session, &target.repository, &host, plan, &mut sources).await;
    }
    let facts = RunFacts {
        id,
        host,
        started,
        finished: Timestamp::now(),
        sources,
    };
    if options.if_changed
        && let Some(last) = unchanged(&session.engines, &targets, &facts).await
    {
        let mut ended = Vec::new();
        for (target, last) in targets.into_iter().zip(last) {
            for source in &facts.sources {
                target.discard(&facts.id, &source.name).await;
            }
            ended.push((target.at, Ok(last)));
            target.abandon().await;
        }
        return ended;
    }
    let (mut well, mut behind) = (Vec::new(), Vec::new());
    for (index, target) in targets.into_iter().enumerate() {
        match write_path.left_behind(index) {
            None => well.push(target),
            Some(why) => behind.push((target, why)),
        }
    }
    let write_path = write_path.written();
    let facts = &facts;
    let commits = well
        .into_iter()
        .map(|target| async move { (target.at, commit(target, facts).await) });
    let mut ended = futures_util::future::join_all(commits).await;
    write_path.give_up().await;
    for (target, why) in behind {
        let name = target.plan.repository.name.clone();
        let why = why.context(format!("repository \"{name}\" was left behind"));
        ended.push((target.at, Err(why)));
        target.leave().await;
    }
    ended
}

/// Returns the last snapshot of each target, if each has one and its content is the one that was read.
async fn unchanged(engines: &Registry, targets: &[Target<'_>], facts: &RunFacts) -> Option<Vec<Manifest>> {
    let content = |sources: &[ManifestSource]| {
        let of = |source: &ManifestSource| {
            let outcome = source.outcome.as_ref()?;
            let content = engines.of_kind(&source.kind)?.content(outcome)?;
            Some((source.name.clone(), content))
        };
        sources.iter().map(of).collect::<Option<Vec<_>>>()
    };
    let read = content(&facts.sources)?;
    let mut last = Vec::new();
    for target in targets {
        let repository = &target.repository;
        let previous = repository.previous(&facts.host, &target.plan.job).await.ok()??;
        let manifest = repository.load(&previous.id).await.ok()?;
        if content(&manifest.sources)? != read {
            return None;
        }
        last.push(manifest);
    }
    Some(last)
}

/// Ends the run everywhere without a snapshot.
async fn fail(targets: Vec<Target<'_>>, why: &Error) -> Vec<(usize, Result<Manifest>)> {
    let mut failed = Vec::new();
    for target in targets {
        failed.push((target.at, Err(why.duplicate())));
        target.abandon().await;
    }
    failed
}

/// What the manifests of a run have in common.
struct RunFacts {
    id: SnapshotId,
    host: String,
    started: Timestamp,
    finished: Timestamp,
    sources: Vec<ManifestSource>,
}

/// Commits in one repository.
async fn commit(target: Target<'_>, facts: &RunFacts) -> Result<Manifest> {
    match manifest(&target, facts).await {
        Ok(manifest) => target.commit(&manifest).await.map(|()| manifest),
        Err(error) => {
            target.abandon().await;
            Err(error)
        }
    }
}

async fn manifest(target: &Target<'_>, facts: &RunFacts) -> Result<Manifest> {
    let plan = StoredPlan::of(target.plan)?;
    let outcomes = || facts.sources.iter().filter_map(|source| source.outcome.as_ref());
    let moments = || outcomes().map(|outcome| outcome.consistent_at);
    let skew = match (moments().min(), moments().max()) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
        _ => 0.0,
    };
    let (repository, job) = (&target.repository, &target.plan.job);
    Ok(Manifest {
        format: document::FORMAT,
        repository: target.repository_id().await?,
        id: facts.id.clone(),
        previous: repository.previous(&facts.host, job).await.unwrap_or_default(),
        host: facts.host.clone(),
        job: job.clone(),
        started: facts.started,
        finished: facts.finished,
        skew_seconds: skew,
        sources: facts.sources.clone(),
        plan,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

async fn back_up_source(
    session: &Session,
    options: &options::Backup,
    (id, targets): (&SnapshotId, &[Target<'_>]),
    write_path: &WritePath,
    config: &SourceConfig,
    source: Arc<dyn Source>,
) -> (ManifestSource, Option<Error>) {
    let started = Timestamp::now();
    session.reporter.begin(&config.name, None);
    let level = targets.first().map_or(1, |target| target.plan.compression_level);
    let result = read_source(session, options, (id, level), write_path, config, source.as_ref()).await;
    session.reporter.end(&config.name, result.is_ok());
    let mut record = ManifestSource {
        name: config.name.clone(),
        kind: config.kind.word().to_owned(),
        started,
        finished: Timestamp::now(),
        outcome: None,
        error: None,
        optional: config.optional,
    };
    match result {
        Ok(outcome) => {
            record.outcome = Some(outcome);
            (record, None)
        }
        Err(error) => {
            for (index, target) in targets.iter().enumerate() {
                if write_path.left_behind(index).is_none() {
                    target.discard(id, &config.name).await;
                }
            }
            let error = error.context(format!("back up source \"{}\"", config.name));
            record.error = Some(error.chain());
            (record, Some(error))
        }
    }
}

async fn read_source(
    session: &Session,
    options: &options::Backup,
    (id, level): (&SnapshotId, i32),
    write_path: &WritePath,
    config: &SourceConfig,
    source: &dyn Source,
) -> Result<SourceOutcome> {
    let archive = ArchiveOptions {
        prefix: layout::source_data(id, &config.name)?,
        compression: Compression::Zstd(level),
        upload: write_path.upload.clone(),
        max_index_bytes: MAX_INDEX_BYTES,
        readme: readme(&session.engines, config),
    };
    let writer = ArchiveWriter::create(write_path.store.clone(), &session.pipeline, archive).await?;
    if let Some(rate) = config.rate_limit_bytes {
        writer.limit_rate(rate);
    }
    let abort = writer.abort_handle();
    let context = BackupContext {
        name: config.name.clone(),
        writer,
        pipeline: session.pipeline.clone(),
        reporter: session.reporter.clone(),
        cancel: write_path.cancel.clone(),
        parallel: parallel(config, options),
        spool_dir: session.spool_dir.clone(),
    };
    let result = source.backup(context).await;
    if result.is_err() {
        // Open uploads end here, and the run's journal forgets them.
        abort.abort().await;
    }
    result
}

/// Returns how many connections or readers a source may use: those of the flag, else its own, else the usual number.
fn parallel(config: &SourceConfig, options: &options::Backup) -> usize {
    let given = options.parallel.map(usize::from);
    given
        .or(config.kind.spec().parallel())
        .unwrap_or(usize::from(options::DEFAULT_PARALLEL))
}

/// The first entry of every archive: how a person gets everything back without this program.
fn readme(engines: &Registry, config: &SourceConfig) -> String {
    let kind = config.kind.word();
    let how = engines.of_kind(kind).map_or("", Engine::by_hand);
    format!(
        "This archive was written by wirevault from source \"{}\" ({kind}).\n\n\
         It is an ordinary compressed tar: zstd -dc 0000.tar.zst | tar x\n\
         A source too large for one archive has several, and all are needed: cat 0000.tar.zst 0001.tar.zst ... | zstd -dc | tar xi\n\
         {how}\n",
        config.name
    )
}

fn plan_text(plan: &Plan) -> String {
    let mut text = format!("job {} to {}\n", plan.job, plan.repository.url);
    for source in &plan.sources {
        let place = source
            .kind
            .spec()
            .open()
            .map_or_else(|error| error.chain(), |source| source.location());
        text.push_str(&format!("  {} ({}): {place}\n", source.name, source.kind.word()));
    }
    text
}
