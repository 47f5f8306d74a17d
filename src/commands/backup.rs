//! `backup`: reads every source of a plan into the repository; the manifest is written last.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::archive::writer::ArchiveOptions;
use crate::archive::{ArchiveWriter, Compression};
use crate::cli::args;
use crate::commands::said::said;
use crate::commands::session::cancelled;
use crate::commands::{Outcome, Session, Status, cluster, hooks, lease, open, show};
use crate::config::{Plan, SourceConfig, SourceKind};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::repository::{Manifest, ManifestSource, Repository, Run, RunOptions, SnapshotId, document, layout};
use crate::sources::{BackupContext, Source, SourceOutcome};
use crate::storage::upload::UploadOptions;
use crate::storage::{ObjectOptions, SharedStore};

/// Archives roll over when their compressed index reaches this, in bytes.
const MAX_INDEX_BYTES: usize = 4 << 20;

/// Makes the plans, then runs them one after another; one that fails does not keep the others from running.
pub async fn run(session: &Session, options: &args::Backup) -> Outcome {
    let mut plans = session.plans(&options.targets)?;
    cluster::expand(session, &mut plans).await?;
    if let Some(level) = options.level {
        for plan in &mut plans {
            plan.compression_level = level;
        }
    }
    if let Some(limit) = options.max_block {
        let kinds = plans
            .iter_mut()
            .flat_map(|plan| &mut plan.sources)
            .map(|source| &mut source.kind);
        for kind in kinds {
            if let SourceKind::Postgres(postgres) = kind {
                postgres.max_block_seconds = Some(limit.as_secs().max(1));
            }
        }
    }
    if options.dry_run {
        return said(
            json!({ "plans": plans }),
            plans.iter().map(plan_text).collect(),
            Status::Done,
        );
    }
    let (mut manifests, mut errors) = (Vec::new(), Vec::new());
    for job in plans.chunk_by(|a, b| a.job == b.job) {
        for (plan, result) in run_job(session, options, job).await {
            match result {
                Ok(manifest) => manifests.push(manifest),
                Err(error) if plans.len() == 1 || error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => errors.push(format!(
                    "job {} to {}: {}",
                    plan.job,
                    plan.repository.url,
                    error.chain()
                )),
            }
        }
    }
    let status = match (
        manifests.is_empty(),
        errors.is_empty()
            && manifests
                .iter()
                .all(|manifest| manifest.is_complete() && losses(manifest) == 0),
    ) {
        (true, _) => Status::Failed,
        (false, true) => Status::Done,
        (false, false) => Status::Partial,
    };
    let mut text: String = manifests.iter().map(show::text).collect::<Vec<_>>().join("\n");
    for error in &errors {
        text.push_str(&format!("\nfailed: {error}\n"));
    }
    if status == Status::Partial {
        let lost: u64 = manifests.iter().map(losses).sum();
        if lost > 0 {
            text.push_str(&format!(
                "\n{lost} notes of data that is not in the snapshot; the log names it\n"
            ));
        }
        text.push_str("\nfinished, but some sources failed or lost items\n");
    }
    said(json!({ "snapshots": manifests, "errors": errors }), text, status)
}

/// Runs the plans of one job between its hooks. A hook `before` that fails is the failure of all of them.
async fn run_job<'a>(
    session: &Session,
    options: &args::Backup,
    plans: &'a [Plan],
) -> Vec<(&'a Plan, Result<Manifest>)> {
    let job = plans.first().map(|plan| plan.job.clone()).unwrap_or_default();
    let hooks = hooks::of(session, &job);
    let mut told = hooks::Told {
        job,
        status: "begun",
        ..hooks::Told::default()
    };
    let mut results = Vec::new();
    let ready = hooks::before(&hooks, &told, &session.cancel).await;
    for plan in plans {
        let result = match &ready {
            Ok(()) => run_plan(session, options, plan).await,
            Err(error) => Err(error.duplicate()),
        };
        let cancelled = matches!(&result, Err(error) if error.kind() == ErrorKind::Cancelled);
        match &result {
            Ok(manifest) => told.snapshots.push(manifest.id.to_string()),
            Err(error) => told.error = error.chain(),
        }
        results.push((plan, result));
        if cancelled {
            break;
        }
    }
    told.status = match (told.snapshots.is_empty(), told.error.is_empty()) {
        (true, _) => "failed",
        (false, true) => "done",
        (false, false) => "partial",
    };
    // What `before` stopped must be started again also when a signal ends the run.
    hooks::ended(&hooks, &told, &CancellationToken::new()).await;
    results
}

/// Job of the snapshots that `restore --clean` takes of what it is about to remove.
const PRE_RESTORE_JOB: &str = "pre-restore";

/// Notes of what was there to be backed up and is not in the snapshot. What vanished while it was read, or what the
/// configuration leaves out, is not missed.
const LOSSES: &[&str] = &["unreadable", "xattr-lost", "large-objects-skipped"];

/// Counts what a snapshot lacks although its sources succeeded.
fn losses(manifest: &Manifest) -> u64 {
    let outcomes = manifest.sources.iter().filter_map(|source| source.outcome.as_ref());
    outcomes
        .flat_map(|outcome| LOSSES.iter().filter_map(|code| outcome.note_counts.get(*code)))
        .sum()
}

/// The defaults. Tests shorten the lease by `WIREVAULT_TEST_LEASE_SECONDS`, to stop a run for longer than it lasts.
fn run_options() -> RunOptions {
    let seconds = std::env::var("WIREVAULT_TEST_LEASE_SECONDS").ok();
    // Longer than ten minutes would outlive the promise of a sweep's grace, and none at all beats without a pause.
    let seconds = seconds
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=600).contains(seconds));
    seconds.map_or_else(RunOptions::default, |seconds: u64| RunOptions {
        heartbeat: Duration::from_secs(seconds) / 20,
        lease_ttl: Duration::from_secs(seconds),
    })
}

/// Takes a snapshot of a server that is about to be emptied, under the job `pre-restore`.
pub(super) async fn safety_snapshot(session: &Session, url: &str) -> Result<Manifest> {
    let mut plan = crate::config::plan_for_urls(&[url.to_owned()], session.repository_config()?)?;
    PRE_RESTORE_JOB.clone_into(&mut plan.job);
    let options = args::Backup {
        targets: vec![],
        dry_run: false,
        parallel: 1,
        level: None,
        max_block: None,
    };
    run_plan(session, &options, &plan).await
}

/// Runs one plan under the lease of its job.
async fn run_plan(session: &Session, options: &args::Backup, plan: &Plan) -> Result<Manifest> {
    let sources = plan.sources.iter().map(open::source).collect::<Result<Vec<_>>>()?;
    let repository = open_or_create(session, plan).await?;
    let (host, times) = (host_name(), run_options());
    let (id, run) = repository
        .begin_run(&plan.job, &host, times.clone(), session.cancel.child_token())
        .await?;
    let lease = match lease::take(&repository, &plan.job, &host, &id, &times).await {
        Ok(lease) => lease,
        Err(busy) => {
            run.abandon().await;
            return Err(busy);
        }
    };
    let result = read_and_commit(session, options, plan, &repository, sources, (id, run), host).await;
    if let Some(lease) = lease {
        lease.release().await;
    }
    result
}

/// Reads each source, then commits. Without a commit nothing of it counts.
async fn read_and_commit(
    session: &Session,
    options: &args::Backup,
    plan: &Plan,
    repository: &Repository,
    sources: Vec<Arc<dyn Source>>,
    (id, run): (SnapshotId, Run),
    host: String,
) -> Result<Manifest> {
    let started = Timestamp::now();
    let mut results = Vec::new();
    for (config, source) in plan.sources.iter().zip(sources) {
        if run.cancel().is_cancelled() {
            break;
        }
        results.push(back_up_source(session, options, plan, (&id, &run), repository.store(), config, source).await);
    }
    if run.cancel().is_cancelled() {
        let lost = run.check_lease();
        // No manifest will name what the sources before it stored.
        for (source, _) in results.iter().filter(|(source, _)| source.outcome.is_some()) {
            discard(repository.store(), &id, &source.name).await;
        }
        run.abandon().await;
        return Err(lost
            .err()
            .filter(|_| !session.cancel.is_cancelled())
            .unwrap_or_else(cancelled));
    }
    let (sources, mut errors): (Vec<ManifestSource>, Vec<Option<Error>>) = results.into_iter().unzip();
    if sources.iter().all(|source| source.outcome.is_none()) {
        run.abandon().await;
        let first = errors.iter_mut().find_map(Option::take);
        return Err(first.unwrap_or_else(|| Error::invalid(format!("job \"{}\" has no sources", plan.job))));
    }
    for error in errors.iter().flatten() {
        tracing::error!("{}", error.chain());
    }
    let plan_value = serde_json::to_value(plan).map_err(|e| Error::invalid("write the plan as JSON").with_cause(e))?;
    let moments = || {
        sources
            .iter()
            .filter_map(|s| s.outcome.as_ref())
            .map(|outcome| outcome.consistent_at)
    };
    let skew = match (moments().min(), moments().max()) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
        _ => 0.0,
    };
    let manifest = Manifest {
        format: document::FORMAT,
        repository: repository.id().to_owned(),
        id,
        previous: repository.previous(&host, &plan.job).await.unwrap_or_default(),
        host,
        job: plan.job.clone(),
        started,
        finished: Timestamp::now(),
        skew_seconds: skew,
        sources,
        plan: plan_value,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    for note in run.commit(&manifest).await.context("commit the snapshot")? {
        tracing::warn!("{note}");
    }
    Ok(manifest)
}

/// Removes the complete archives of a source that will not be in the snapshot, as far as the credentials allow; the rest
/// waits for a sweep.
async fn discard(store: &SharedStore, id: &SnapshotId, source: &str) {
    let Ok(data) = layout::source_data(id, source) else {
        return;
    };
    let prefix = format!("{data}/");
    let mut next = None;
    while let Ok(page) = store.list(&prefix, next).await {
        for object in &page.objects {
            if let Err(error) = store.delete(&object.key).await {
                tracing::warn!("\"{}\" waits for a sweep: {}", object.key, error.chain());
            }
        }
        next = page.next;
        if next.is_none() {
            return;
        }
    }
}

/// Returns this host's name as the kernel knows it.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() {
        "localhost".to_owned()
    } else {
        name.trim().to_owned()
    }
}

/// Opens the repository; a place that holds none becomes one, so that the first backup needs no other command.
async fn open_or_create(session: &Session, plan: &Plan) -> Result<Repository> {
    let store: SharedStore = open::store(&plan.repository).await?;
    let act = || format!("open repository \"{}\"", plan.repository.url);
    let (repository, created) = session
        .or_cancelled(Repository::open_or_init(store))
        .await
        .with_context(act)?;
    if created {
        tracing::warn!(
            "created repository {} at {}, not encrypted",
            repository.id(),
            plan.repository.url
        );
    }
    Ok(repository)
}

async fn back_up_source(
    session: &Session,
    options: &args::Backup,
    plan: &Plan,
    run: (&SnapshotId, &Run),
    store: &SharedStore,
    config: &SourceConfig,
    source: Arc<dyn Source>,
) -> (ManifestSource, Option<Error>) {
    let started = Timestamp::now();
    session.reporter.begin(&config.name, None);
    let result = read_source(session, options, plan, run, store, config, source.as_ref()).await;
    session.reporter.end(&config.name, result.is_ok());
    let mut record = ManifestSource {
        name: config.name.clone(),
        kind: config.kind.word().to_owned(),
        started,
        finished: Timestamp::now(),
        outcome: None,
        error: None,
    };
    match result {
        Ok(outcome) => {
            record.outcome = Some(outcome);
            (record, None)
        }
        Err(error) => {
            discard(store, run.0, &config.name).await;
            let error = error.context(format!("back up source \"{}\"", config.name));
            record.error = Some(error.chain());
            (record, Some(error))
        }
    }
}

async fn read_source(
    session: &Session,
    options: &args::Backup,
    plan: &Plan,
    run: (&SnapshotId, &Run),
    store: &SharedStore,
    config: &SourceConfig,
    source: &dyn Source,
) -> Result<SourceOutcome> {
    let memory = session.memory();
    let archive = ArchiveOptions {
        prefix: layout::source_data(run.0, &config.name)?,
        compression: Compression::Zstd(plan.compression_level),
        upload: UploadOptions {
            part_bytes: memory.part_bytes,
            parts_in_flight: memory.parts_in_flight,
            object: ObjectOptions {
                storage_class: plan.repository.storage_class.clone(),
                part_bytes: memory.part_bytes,
            },
            journal: Some(run.1.journal()),
            ..UploadOptions::default()
        },
        max_index_bytes: MAX_INDEX_BYTES,
        readme: readme(config),
    };
    let writer = ArchiveWriter::create(store.clone(), &session.pipeline, archive).await?;
    let abort = writer.abort_handle();
    let context = BackupContext {
        name: config.name.clone(),
        writer,
        pipeline: session.pipeline.clone(),
        reporter: session.reporter.clone(),
        cancel: run.1.cancel().clone(),
        parallel: usize::from(options.parallel),
        spool_dir: session.spool_dir.clone(),
    };
    let result = source.backup(context).await;
    if result.is_err() {
        // Open uploads end here, and the run's journal forgets them.
        abort.abort().await;
    }
    result
}

/// The first entry of every archive: how a person gets everything back without this program.
fn readme(config: &SourceConfig) -> String {
    let how = match config.kind.word() {
        "postgres" => {
            "Create an empty database, then run `psql -d DATABASE -f restore.sql` in the directory where this was unpacked."
        }
        "redis" => {
            "Join the chunks of the RDB (`cat dump.rdb/* > dump.rdb`), put it into the data directory of a stopped server \
             whose AOF is off, and start the server."
        }
        "docker" => {
            "Each volume lies under volumes/NAME: put its files back into a volume of that name. definitions/ holds what \
             the engine said of containers, networks and volumes, protected/ their environments; an image: `cat \
             images/NAME/* | docker load`."
        }
        "sqlite" => "The database file lies in this archive; sqlite3 opens it.",
        _ => "The files lie in this archive with their modes, owners and times.",
    };
    format!(
        "This archive was written by wirevault from source \"{}\" ({}).\n\n\
         It is an ordinary compressed tar: zstd -dc 0000.tar.zst | tar x\n\
         Several archives: cat 0000.tar.zst 0001.tar.zst ... | zstd -dc | tar xi\n{how}\n",
        config.name,
        config.kind.word()
    )
}

fn plan_text(plan: &Plan) -> String {
    let mut text = format!("job {} to {}\n", plan.job, plan.repository.url);
    for source in &plan.sources {
        let place = open::source(source).map_or_else(|error| error.chain(), |source| source.location());
        text.push_str(&format!("  {} ({}): {place}\n", source.name, source.kind.word()));
    }
    text
}
