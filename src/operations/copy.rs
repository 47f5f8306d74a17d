//! `copy`: brings a repository up to date from another one.
//!
//! What is stored is copied as it is, so the snapshot keeps its id, its archives and their digests. Every object is read
//! in ranges and checked against the manifest before it appears; one that is there already with its size is not sent again,
//! so a copy that was interrupted goes on where it stopped, and so does what a backup had to leave behind. Without names, a
//! repository gets what it lacks and its keep rules would keep.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::units::format_bytes;
use crate::config::{self, Environment, RepositoryConfig};
use crate::operations::meant::{self, Intent};
use crate::operations::options;
use crate::operations::{Report, Session, Status, document_of, thaw};
use crate::policy::retention::{RetentionPolicy, SnapshotFacts, decide};
use crate::repository::{Manifest, Previous, Repository, Run, RunOptions, SnapshotId, layout};
use crate::storage::ObjectOptions;
use crate::storage::upload::{ObjectWriter, StoredObject, UploadOptions};

/// Repositories of a job are waited for so long.
const REACH: std::time::Duration = std::time::Duration::from_secs(10);

/// Bytes of one read.
const RANGE_BYTES: u64 = 4 << 20;

/// A repository with what is configured of it.
struct CopyEndpoint {
    config: RepositoryConfig,
    repository: Repository,
}

/// What one snapshot took.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Copied {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its job.
    pub job: String,
    /// Name of the repository that had it.
    pub from: String,
    /// Name of the one that has it now.
    pub to: String,
    /// Objects that were sent.
    pub objects: u64,
    /// Their size.
    pub bytes: u64,
    /// Objects that were there already.
    pub present: u64,
}

/// A snapshot that a repository is to have; its JSON is the id alone.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(transparent)]
pub struct PlannedCopy {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Name of the repository that has it.
    #[serde(skip)]
    pub from: String,
    /// Name of the one that lacks it.
    #[serde(skip)]
    pub to: String,
}

/// What `copy` did. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct CopyReport {
    /// What was copied.
    pub copied: Vec<Copied>,
    /// Repositories that could not be looked at, and copies that failed.
    pub errors: Vec<String>,
    /// What was to be copied.
    pub planned: Vec<PlannedCopy>,
    /// Whether it was only to be shown.
    #[serde(skip)]
    pub dry_run: bool,
}

impl Report for CopyReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for one in self.planned.iter().filter(|_| self.dry_run) {
            text.push_str(&format!("would copy {one}\n"));
        }
        for done in &self.copied {
            let size = format_bytes(done.bytes);
            text.push_str(&format!(
                "copied {} from {} to {}: {} objects, {size}\n",
                done.snapshot, done.from, done.to, done.objects
            ));
        }
        if self.planned.is_empty() && self.errors.is_empty() {
            text.push_str("nothing to copy\n");
        }
        for error in &self.errors {
            text.push_str(&format!("failed: {error}\n"));
        }
        text
    }

    fn status(&self) -> Status {
        match (self.errors.is_empty(), self.copied.is_empty()) {
            (true, _) => Status::Done,
            (false, true) => Status::Failed,
            (false, false) => Status::Partial,
        }
    }
}

impl std::fmt::Display for PlannedCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {} to {}", self.snapshot, self.from, self.to)
    }
}

/// Copies the named snapshots, or whatever is lacking.
pub async fn run(session: &Session, options: &options::Copy) -> Result<CopyReport> {
    let wanted = match &options.into {
        Some(into) => between(session, options, into).await?,
        None if !options.snapshots.is_empty() => {
            return Err(Error::invalid("no target repository").with_hint("Add --into REPOSITORY."));
        }
        None => Box::pin(lacking(session, None)).await?,
    };
    let mut report = CopyReport {
        copied: Vec::new(),
        errors: wanted.errors,
        planned: wanted.copies.iter().map(CopyRequest::planned).collect(),
        dry_run: options.dry_run,
    };
    for one in wanted.copies.iter().filter(|_| !options.dry_run) {
        session.check_cancelled()?;
        match one.thawed(session, &options.thaw).await {
            Ok(done) => report.copied.push(done),
            Err(error) if wanted.copies.len() == 1 || error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => report.errors.push(format!("{}: {}", one.planned(), error.chain())),
        }
    }
    Ok(report)
}

/// What is to be copied.
#[derive(Default)]
pub(crate) struct CopyPlan {
    copies: Vec<CopyRequest>,
    /// Repositories that could not be looked at.
    pub(crate) errors: Vec<String>,
}

impl CopyPlan {
    /// Takes the first copy: whoever has other work to do comes again for the next.
    pub(crate) fn first(self) -> Option<CopyRequest> {
        self.copies.into_iter().next()
    }
}

/// One snapshot that one repository is to have from another.
pub(crate) struct CopyRequest {
    pub(crate) id: SnapshotId,
    from: std::sync::Arc<CopyEndpoint>,
    to: std::sync::Arc<CopyEndpoint>,
}

impl CopyRequest {
    fn planned(&self) -> PlannedCopy {
        PlannedCopy {
            snapshot: self.id.clone(),
            from: self.from.config.name.clone(),
            to: self.to.config.name.clone(),
        }
    }

    /// Copies what `--thaw` may have to make readable first.
    async fn thawed(&self, session: &Session, how: &options::Thaw) -> Result<Copied> {
        if how.thaw.is_some() {
            let manifest = session.or_cancelled(self.from.repository.load(&self.id)).await?;
            let all: Vec<_> = manifest.objects().collect();
            thaw::objects(session, self.from.repository.store(), &all, how).await?;
        }
        self.copy(session).await
    }

    pub(crate) async fn copy(&self, session: &Session) -> Result<Copied> {
        copy(session, &self.from, &self.to, &self.id)
            .await
            .with_context(|| format!("copy snapshot {} to \"{}\"", self.id, self.to.config.name))
    }
}

/// A repository that does not answer soon must not hold up whoever has other work to do.
async fn within<T>(open: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::new(ErrorKind::TimedOut, "no answer in time"));
    tokio::time::timeout(REACH, open).await.unwrap_or_else(late)
}

async fn side(session: &Session, config: RepositoryConfig, create: bool) -> Result<std::sync::Arc<CopyEndpoint>> {
    let act = || format!("open repository \"{}\"", config.url);
    // A repository that no configuration names may be a mistyped one.
    let configured = session.config.repositories.iter().any(|one| one.url == config.url);
    let repository = match (create, configured) {
        (true, true) => meant::open_or_create(session, &config)
            .await
            .map(|(repository, _)| repository),
        (true, false) => meant::open(session, &config, Intent::Write).await,
        (false, _) => meant::open(session, &config, Intent::Read).await,
    };
    let repository = repository.with_context(act)?;
    Ok(std::sync::Arc::new(CopyEndpoint { config, repository }))
}

/// What goes from the repository of `--from` to that of `--into`.
async fn between(session: &Session, options: &options::Copy, into: &str) -> Result<CopyPlan> {
    let lookup = crate::operations::session::process_environment;
    let env = Environment::new(&lookup);
    let mut to = config::repository_for(&session.config, Some(into), None, &env)?;
    to.rate_limit_bytes = session.limit_rate.or(to.rate_limit_bytes);
    let from = match (&session.repository, session.config.repositories.as_slice()) {
        // The one of two that it is not copied to.
        (None, [a, b]) if to.name == a.name => b.clone(),
        (None, [a, b]) if to.name == b.name => a.clone(),
        _ => session.repository_config()?,
    };
    if from.url == to.url && from.endpoint == to.endpoint {
        return Err(Error::invalid(format!("{} is both source and target", to.url))
            .with_hint("Give two repositories: --from A --into B."));
    }
    if let Some(class) = class_of(session, &to) {
        to.storage_class = Some(class);
    }
    let (from, to) = (side(session, from, false).await?, side(session, to, true).await?);
    let ids = if options.snapshots.is_empty() {
        missing(session, &[&from], &to, None)
            .await?
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    } else {
        let mut ids = BTreeSet::new();
        for name in &options.snapshots {
            ids.insert(session.or_cancelled(from.repository.resolve(name)).await?);
        }
        let there: BTreeSet<_> = to.repository.list().await?.into_iter().collect();
        ids.difference(&there).cloned().collect::<Vec<_>>()
    };
    let copies = ids.into_iter().map(|id| CopyRequest {
        id,
        from: from.clone(),
        to: to.clone(),
    });
    Ok(CopyPlan {
        copies: copies.collect(),
        errors: vec![],
    })
}

/// The storage class that a job's rules give new archives, if all jobs agree.
fn class_of(session: &Session, repository: &RepositoryConfig) -> Option<String> {
    let of = |job: &crate::config::JobConfig| job.keep_in.get(&repository.name)?.storage_class.clone();
    let mut classes = session.config.jobs.iter().map(of);
    let first = classes.next().flatten()?;
    classes.all(|class| class.as_ref() == Some(&first)).then_some(first)
}

/// Finds what the repositories of jobs lack that the others have: of `job` and this host, or of all.
pub(crate) async fn lacking(session: &Session, job: Option<&str>) -> Result<CopyPlan> {
    let mut wanted = CopyPlan::default();
    let several = |targets: &Vec<RepositoryConfig>| targets.len() > 1;
    let jobs = session
        .config
        .jobs
        .iter()
        .filter(|one| job.is_none_or(|job| one.name == job));
    let jobs: Vec<_> = jobs
        .map(|job| (job, targets_of(session, job)))
        .filter(|(_, targets)| several(targets))
        .collect();
    if jobs.is_empty() && job.is_none() {
        return Err(Error::invalid("no job has several repositories").with_hint("Give two: --from A --into B."));
    }
    for (job, targets) in jobs {
        let mut sides = Vec::new();
        for mut config in targets {
            if let Some(class) = job
                .keep_in
                .get(&config.name)
                .and_then(|keep| keep.storage_class.clone())
            {
                config.storage_class = Some(class);
            }
            let name = config.name.clone();
            match Box::pin(within(side(session, config, true))).await {
                Ok(side) => sides.push(side),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => wanted.errors.push(format!("{name}: {}", error.chain())),
            }
        }
        for to in &sides {
            let others: Vec<_> = sides.iter().filter(|side| side.config.name != to.config.name).collect();
            for (id, from) in missing(session, &others, to, Some(&job.name)).await? {
                let from = std::sync::Arc::clone(others.get(from).copied().unwrap_or(to));
                wanted.copies.push(CopyRequest {
                    id,
                    from,
                    to: to.clone(),
                });
            }
        }
    }
    Ok(wanted)
}

fn targets_of(session: &Session, job: &crate::config::JobConfig) -> Vec<RepositoryConfig> {
    let all = session.config.repositories.iter();
    all.filter(|r| job.repositories.is_empty() || job.repositories.contains(&r.name))
        .cloned()
        .collect()
}

/// Snapshots that `to` lacks and its keep rules would keep, oldest first, each with the place of the repository that has it.
async fn missing<S: std::borrow::Borrow<std::sync::Arc<CopyEndpoint>>>(
    session: &Session,
    others: &[S],
    to: &CopyEndpoint,
    job: Option<&str>,
) -> Result<Vec<(SnapshotId, usize)>> {
    let facts = |manifest: &Manifest| SnapshotFacts::from(manifest);
    let survey = session.or_cancelled(to.repository.survey(facts)).await?;
    let there: BTreeSet<SnapshotId> = survey.snapshots.iter().map(|one| one.id.clone()).collect();
    let damaged: BTreeSet<SnapshotId> = survey.damaged.into_iter().map(|(id, _)| id).collect();
    let (mut all, mut found) = (survey.snapshots, Vec::new());
    for (at, other) in others.iter().enumerate() {
        let other = other.borrow();
        let listed = session.or_cancelled(other.repository.list()).await?;
        for id in listed {
            if there.contains(&id) || damaged.contains(&id) || found.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let manifest = match session.or_cancelled(other.repository.load(&id)).await {
                Ok(manifest) => manifest,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => continue,
                Err(error) => return Err(error),
            };
            let facts = SnapshotFacts::from(&manifest);
            if job.is_none_or(|job| job == facts.job) && facts.has_something() {
                all.push(facts);
                found.push((id, at));
            }
        }
    }
    let policy = |_: &str, job: &str| {
        let job = session.config.jobs.iter().find(|one| one.name == job)?;
        let keep = job.keep_in.get(&to.config.name).or(job.keep.as_ref())?;
        Some(RetentionPolicy::from(keep))
    };
    all.sort_by(|a, b| a.id.cmp(&b.id));
    let plan = decide(&all, policy, to.repository.clock().await, &TimeZone::system());
    let kept: BTreeSet<&SnapshotId> = plan.kept().collect();
    found.retain(|(id, _)| kept.contains(id));
    found.sort();
    Ok(found)
}

/// Copies one snapshot; its manifest is written last.
async fn copy(session: &Session, from: &CopyEndpoint, to: &CopyEndpoint, id: &SnapshotId) -> Result<Copied> {
    let mut manifest = session.or_cancelled(from.repository.load(id)).await?;
    let store = to.repository.store();
    if present(store.head(&layout::swept(id)?).await)?.is_some() {
        let message = format!("the old data of snapshot {id} is being removed");
        return Err(Error::new(ErrorKind::PreconditionFailed, message)
            .with_hint("`wirevault prune` finishes this after a day; copy the snapshot then."));
    }
    give_up_uploads(to, id).await?;
    let run = Run::begin(
        store.clone(),
        id.clone(),
        &manifest.job,
        &manifest.host,
        RunOptions::default(),
        session.cancel.child_token(),
    );
    let run = session.or_cancelled(run).await?;
    let mut copied = Copied {
        snapshot: id.clone(),
        job: manifest.job.clone(),
        from: from.config.name.clone(),
        to: to.config.name.clone(),
        objects: 0,
        bytes: 0,
        present: 0,
    };
    session.reporter.begin(id.as_str(), None);
    let result = objects(session, (from, to), &manifest, &run, &mut copied).await;
    session.reporter.end(id.as_str(), result.is_ok());
    if let Err(error) = result {
        run.abandon().await;
        return Err(error);
    }
    to.repository.id().clone_into(&mut manifest.repository);
    manifest.previous = before(to, &manifest).await.unwrap_or_default();
    for note in run.commit(&manifest).await.context("commit the snapshot")? {
        tracing::warn!("{note}");
    }
    Ok(copied)
}

fn present<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A run that had to leave this repository behind, or a copy that died, may have left uploads in its marker.
async fn give_up_uploads(to: &CopyEndpoint, id: &SnapshotId) -> Result<()> {
    let store = to.repository.store();
    let Some(marker) = to.repository.marker(id).await? else {
        return Ok(());
    };
    for upload in marker.uploads {
        store.abort_upload(&upload.key, &upload.id).await?;
    }
    Ok(())
}

async fn objects(
    session: &Session,
    (from, to): (&CopyEndpoint, &CopyEndpoint),
    manifest: &Manifest,
    run: &Run,
    copied: &mut Copied,
) -> Result<()> {
    for object in manifest.objects() {
        session.check_cancelled()?;
        let there = present(session.or_cancelled(to.repository.store().head(&object.key)).await)?;
        // Objects are never torn, and the key is that of one run alone.
        if there.is_some_and(|meta| meta.size_bytes == object.size_bytes) {
            copied.present += 1;
            continue;
        }
        match one_object(session, (from, to), manifest, run, object).await {
            // The bytes may have changed on their way: only what differs twice is damaged.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                one_object(session, (from, to), manifest, run, object).await?;
            }
            done => done?,
        }
        copied.objects += 1;
        copied.bytes += object.size_bytes;
    }
    Ok(())
}

async fn one_object(
    session: &Session,
    (from, to): (&CopyEndpoint, &CopyEndpoint),
    manifest: &Manifest,
    run: &Run,
    object: &StoredObject,
) -> Result<()> {
    let memory = session.memory();
    let options = UploadOptions {
        part_bytes: memory.part_bytes,
        parts_in_flight: memory.parts_in_flight,
        object: ObjectOptions {
            storage_class: to.config.storage_class.clone(),
            part_bytes: memory.part_bytes,
        },
        journal: Some(run.journal()),
        ..UploadOptions::default()
    };
    let mut writer = ObjectWriter::create(to.repository.store().clone(), object.key.clone(), options);
    let read = async {
        let (mut digest, mut at, mut buffer) = (Sha256::new(), 0, Vec::new());
        while at < object.size_bytes {
            let end = object.size_bytes.min(at + RANGE_BYTES);
            buffer.clear();
            let range = from.repository.store().read_range(&object.key, at..end, &mut buffer);
            session.or_cancelled(range).await?;
            run.check_lease()?;
            digest.update(&buffer);
            session.or_cancelled(writer.write(&buffer)).await?;
            session.reporter.advance(manifest.id.as_str(), end - at, 0);
            at = end;
        }
        if hex::encode(digest.finalize()) != object.sha256 {
            return Err(
                Error::corrupt(format!("\"{}\" is damaged in \"{}\"", object.key, from.config.name))
                    .with_hint("Copy from another repository, or verify this one."),
            );
        }
        Ok(())
    };
    match read.await {
        Ok(()) => writer.finish().await.map(drop),
        Err(error) => {
            let _ = writer.abort().await;
            Err(error)
        }
    }
}

/// The newest snapshot of the same host and job that is older.
async fn before(to: &CopyEndpoint, manifest: &Manifest) -> Result<Option<Previous>> {
    for id in to
        .repository
        .list()
        .await?
        .into_iter()
        .rev()
        .filter(|id| *id < manifest.id)
    {
        if let Ok((older, sha256)) = to.repository.load_with_digest(&id).await
            && older.host == manifest.host
            && older.job == manifest.job
        {
            return Ok(Some(Previous { id, sha256 }));
        }
    }
    Ok(None)
}
