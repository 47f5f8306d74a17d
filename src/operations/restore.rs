//! `restore`: brings sources back. Everything is checked before the first write: the manifest, every index, presence
//! and size of every archive, of all sources together.

pub(crate) mod report;

use std::path::Path;

use crate::archive::ArchiveReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::config::{DockerSource, PostgresSource, RedisSource, SourceKind};
use crate::engines::files::restore as files;
use crate::engines::files::survey::{self, FilesPlan};
use crate::engines::postgres::{LocaleOverride, PostgresRestore, RestoreOptions, RestorePlan, Selection};
use crate::engines::redis::{RedisPlan, RedisRestore, RedisRestoreOptions, stored};
use crate::engines::sqlite::plan::{self, SqlitePlan};
use crate::engines::sqlite::restore as sqlite;
use crate::operations::choose::Purpose;
use crate::operations::destination::{Destination, Target, destinations, refuse_if_occupied, select};
use crate::operations::options;
use crate::operations::snapshots::{open_reader, open_snapshot};
use crate::operations::{Outcome, Session, backup, open, settle, thaw, volumes};
use crate::repository::{Manifest, ManifestSource, Repository};
use report::{
    Again, DatabaseRestored, KeysRestored, PlannedSource, RdbWritten, RestorePreview, RestoreReport, RestoredSource,
    SourceReport,
};

/// One source and where it goes.
#[derive(Debug)]
struct Step<'a> {
    source: &'a ManifestSource,
    reader: ArchiveReader,
    target: Target,
    /// How volumes are handled.
    docker: DockerSource,
    /// What is chosen of it, where that is not all.
    options: options::Restore,
    /// For a database, what was found out about its target.
    plan: Option<RestorePlan>,
    /// The same for a SQLite database, where it is looked at beforehand.
    file: Option<SqlitePlan>,
    /// The same for a file tree, where it is looked at beforehand.
    files: Option<FilesPlan>,
    /// The same for a Redis server.
    redis: Option<(RedisRestore, RedisPlan)>,
}

/// Selects sources, opens and checks all of them, decides targets, and only then writes.
pub async fn run(session: &Session, options: &options::Restore) -> Outcome {
    let (repository, manifest) = open(session, options).await?;
    let selected = select(&manifest, options)?;
    if options.undo || options.resume {
        let settled = Box::pin(settle::run(session, options, &repository, &manifest, &selected)).await?;
        return Ok(Box::new(settled));
    }
    let places = destinations(session, &manifest, &selected, options)?;
    if !options.dry_run {
        thaw::sources(session, repository.store(), &selected, &options.thaw).await?;
    }
    let steps = Box::pin(prepare(session, options, (&repository, &manifest), places)).await?;
    if options.dry_run {
        return Ok(Box::new(RestorePreview {
            snapshot: manifest.id.clone(),
            would_restore: steps.into_iter().map(planned).collect(),
            errors: Vec::new(),
            again: Again::new(session, options, &manifest),
        }));
    }
    Ok(Box::new(Box::pin(carry_out(session, options, &manifest, steps)).await?))
}

/// Restores for another verb; one source goes to `given`, wherever it would go by itself.
pub(crate) async fn bring_back(
    session: &Session,
    options: &options::Restore,
    given: Option<Target>,
) -> Result<RestoreReport> {
    let (repository, manifest) = open(session, options).await?;
    let selected = select(&manifest, options)?;
    let places = match (given, selected.as_slice()) {
        (Some(target), [source]) => vec![Destination::given(source, target)],
        _ => destinations(session, &manifest, &selected, options)?,
    };
    thaw::sources(session, repository.store(), &selected, &options.thaw).await?;
    let steps = Box::pin(prepare(session, options, (&repository, &manifest), places)).await?;
    Box::pin(carry_out(session, options, &manifest, steps)).await
}

async fn open(session: &Session, options: &options::Restore) -> Result<(Repository, Manifest)> {
    let (repository, chosen) = open_snapshot(session, &options.snapshot, &options.source, Purpose::Write).await?;
    Ok((repository, chosen.manifest))
}

/// Opens and checks every source, and looks at its target. Nothing is written.
async fn prepare<'a>(
    session: &Session,
    options: &options::Restore,
    (repository, manifest): (&Repository, &Manifest),
    places: Vec<Destination<'a>>,
) -> Result<Vec<Step<'a>>> {
    // One source alone is looked at by its own restore, just before it writes.
    let looks = options.dry_run || places.len() > 1;
    let mut steps = Vec::new();
    for place in places {
        let Destination {
            source, target, docker, ..
        } = place;
        let options = &options::Restore {
            path: if options.path.is_empty() {
                place.only
            } else {
                options.path.clone()
            },
            ..options.clone()
        };
        let target = by_own_numbers(target, source, options);
        refuse_if_occupied(&target, options)?;
        let reader = open_reader(session, repository.store(), source).await?;
        let plan = match &target {
            Target::Database(server) => {
                let restore = database_restore(session, options, source, manifest, server, reader.clone())?;
                let plan = session.or_cancelled(Box::pin(restore.plan())).await;
                Some(plan.with_context(|| format!("plan the restore of source \"{}\"", source.name))?)
            }
            _ => None,
        };
        let redis = match &target {
            Target::Redis(server) => {
                let restore = redis_restore(session, options, source, server, reader.clone())?;
                let plan = session.or_cancelled(Box::pin(restore.plan())).await;
                let plan = plan.with_context(|| format!("plan the restore of source \"{}\"", source.name))?;
                Some((restore, plan))
            }
            _ => None,
        };
        let file = match &target {
            Target::File(path) if looks => look_at_file(session, options, source, path, &reader).await?,
            _ => None,
        };
        let files = match &target {
            Target::Tree(root) if looks => {
                look_at_tree(session, options, (manifest, source), root, reader.clone()).await?
            }
            _ => None,
        };
        steps.push(Step {
            source,
            reader,
            target,
            docker,
            options: options.clone(),
            plan,
            file,
            files,
            redis,
        });
    }
    Ok(steps)
}

/// Restores one source after another. One of several that fails does not keep the others from it.
async fn carry_out(
    session: &Session,
    options: &options::Restore,
    manifest: &Manifest,
    steps: Vec<Step<'_>>,
) -> Result<RestoreReport> {
    let (mut restored, mut errors) = (Vec::new(), Vec::new());
    let single = steps.len() == 1;
    for step in steps {
        session.check_cancelled()?;
        let name = step.source.name.clone();
        session
            .reporter
            .begin(&name, step.source.outcome.as_ref().map(|o| o.raw_bytes));
        let result = Box::pin(restore_source(session, manifest, step)).await;
        session.reporter.end(&name, result.is_ok());
        match result {
            Ok(one) => {
                errors.extend(one.report.failures().into_iter().map(|line| format!("{name}: {line}")));
                restored.push(one);
            }
            Err(error) if single || error.kind() == ErrorKind::Cancelled => {
                return Err(error.context(format!("restore source \"{name}\"")));
            }
            Err(error) => errors.push(format!("{name}: {}", error.chain_and_hint())),
        }
    }
    Ok(RestoreReport {
        snapshot: manifest.id.clone(),
        restored,
        errors,
        again: Again::new(session, options, manifest),
    })
}

/// Says how a file tree comes back.
fn tree_options(
    session: &Session,
    options: &options::Restore,
    manifest: &Manifest,
    source: &ManifestSource,
) -> files::FilesRestoreOptions {
    files::FilesRestoreOptions {
        task: source.name.clone(),
        paths: options.path.clone(),
        clean: options.clean,
        delete: options.delete,
        trust_times: options.trust_times,
        devices: options.devices || asks_for_devices(session, &source.name),
        origin: manifest.id.to_string(),
        ..Default::default()
    }
}

/// Looks at what a restore would change in a tree, and refuses what the restore itself would refuse. Archived objects
/// are not read for that.
async fn look_at_tree(
    session: &Session,
    options: &options::Restore,
    (manifest, source): (&Manifest, &ManifestSource),
    root: &Path,
    reader: ArchiveReader,
) -> Result<Option<FilesPlan>> {
    let how = tree_options(session, options, manifest, source);
    let looked = survey::survey(reader, root, &how, session.reporter.clone(), session.cancel.clone()).await;
    let looked = match looked {
        Err(error) if options.dry_run && error.kind() == ErrorKind::Archived => return Ok(None),
        other => other.and_then(|plan| plan.check_space(root).map(|()| plan)),
    };
    let plan = looked.with_context(|| format!("plan the restore of source \"{}\"", source.name))?;
    Ok(Some(plan))
}

/// Says how a SQLite database comes back.
fn file_options(options: &options::Restore, source: &ManifestSource) -> sqlite::SqliteRestoreOptions {
    sqlite::SqliteRestoreOptions {
        task: source.name.clone(),
        replace: options.clean,
        ..Default::default()
    }
}

/// Looks at the place of a SQLite database, and refuses what the restore itself would refuse. Archived objects are not
/// read for that.
async fn look_at_file(
    session: &Session,
    options: &options::Restore,
    source: &ManifestSource,
    path: &Path,
    reader: &ArchiveReader,
) -> Result<Option<SqlitePlan>> {
    let how = file_options(options, source);
    match session.or_cancelled(plan::plan(reader, path, &how)).await {
        Err(error) if options.dry_run && error.kind() == ErrorKind::Archived => Ok(None),
        other => other
            .map(Some)
            .with_context(|| format!("plan the restore of source \"{}\"", source.name)),
    }
}

/// Puts together the restore of a database.
fn database_restore(
    session: &Session,
    options: &options::Restore,
    source: &ManifestSource,
    manifest: &Manifest,
    server: &PostgresSource,
    reader: ArchiveReader,
) -> Result<PostgresRestore> {
    let flags = &options.database;
    // Without a place of their own, tables come back beside the living ones.
    let beside = !flags.table.is_empty() && options.into.is_none() && !flags.data_only;
    Ok(PostgresRestore {
        target: open::postgres(server)?,
        reader,
        options: RestoreOptions {
            parallel: usize::from(options.parallel),
            clean: options.clean,
            keep_going: flags.keep_going,
            search_path: flags.search_path.clone(),
            verify_rows: flags.verify_rows,
            create_roles: flags.create_roles,
            drop_old: flags.drop_old,
            selection: Selection {
                tables: flags.table.clone(),
                schemas: flags.schema.clone(),
                exclude_table_data: flags.exclude_table_data.clone(),
                schema_only: flags.schema_only,
                data_only: flags.data_only,
                with_dependencies: flags.with_dependencies,
            },
            no_owner: flags.no_owner,
            no_privileges: flags.no_privileges,
            role_map: flags.role_map.clone(),
            tablespace_map: flags.tablespace_map.clone(),
            beside: beside.then(|| format!("restored_{}", manifest.id)),
            locale_override: LocaleOverride {
                encoding: flags.encoding.clone(),
                locale: flags.locale.clone(),
                provider: flags.locale_provider.clone(),
                icu_locale: flags.icu_locale.clone(),
            },
            ..RestoreOptions::default()
        },
        reporter: session.reporter.clone(),
        task: source.name.clone(),
        cancel: session.cancel.clone(),
    })
}

/// Keys of a whole Redis server go back by their own numbers, whatever the number of its place: only `--into` moves them.
fn by_own_numbers(mut target: Target, source: &ManifestSource, options: &options::Restore) -> Target {
    let of_one = source
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome.position.contains_key("database"));
    if let Target::Redis(server) = &mut target
        && options.into.is_none()
        && !of_one
    {
        server.url = crate::config::without_database(&server.url);
    }
    target
}

/// Puts together the restore of a Redis server.
fn redis_restore(
    session: &Session,
    options: &options::Restore,
    source: &ManifestSource,
    server: &RedisSource,
    reader: ArchiveReader,
) -> Result<RedisRestore> {
    Ok(RedisRestore {
        address: open::redis(server)?,
        reader,
        options: RedisRestoreOptions {
            clean: options.clean,
            conflict: options.redis.conflict,
            keys: options.redis.key.clone(),
            users: options.redis.users,
        },
        task: source.name.clone(),
        reporter: session.reporter.clone(),
        cancel: session.cancel.clone(),
    })
}

/// Verifies the whole RDB, takes a snapshot of what `--clean` will remove, and only then writes.
async fn restore_redis(
    session: &Session,
    source: &ManifestSource,
    server: &RedisSource,
    (restore, plan): (RedisRestore, RedisPlan),
) -> Result<KeysRestored> {
    let verified = session.or_cancelled(restore.verify()).await?;
    let mut kept = None;
    let powers = plan.powers.clone();
    if restore.options.clean && plan.removes_something() {
        let act = "take a snapshot of the target before it is emptied";
        let taken = backup::safety_snapshot(session, server).await.context(act)?;
        backup::refuse_without_keys(&taken).context(act)?;
        kept = Some(format!("snapshot {}", taken.id));
    }
    let done = session.or_cancelled(Box::pin(restore.run(plan, verified))).await;
    let done = done.map_err(|error| match &kept {
        Some(kept) => error
            .context("load the keys after the target was emptied")
            .with_hint(format!("What it held before is in {kept}.")),
        None => error,
    })?;
    Ok(KeysRestored {
        bytes: source.outcome.as_ref().map(|outcome| outcome.raw_bytes),
        previous: kept,
        powers,
        report: done,
    })
}

/// Whether the configuration here, not the backup's, asks for the device nodes of a source.
pub(crate) fn asks_for_devices(session: &Session, source: &str) -> bool {
    let mut sources = session.config.sources.iter();
    sources.any(|one| one.name == source && matches!(&one.kind, SourceKind::Files(files) if files.devices))
}

/// What a person does with an RDB.
const RDB_ADVICE: &str = "stop the server, put the file into its data directory as `dbfilename` names it, and start it; if \
     appendonly is on, move appendonlydir away and start with appendonly no, for it wins over the RDB";

async fn restore_source(session: &Session, manifest: &Manifest, step: Step<'_>) -> Result<RestoredSource> {
    let Step {
        source,
        reader,
        target,
        docker,
        options,
        redis,
        ..
    } = step;
    let options = &options;
    let (into, report) = match target {
        Target::Tree(root) => {
            make_parents(&root)?;
            let how = tree_options(session, options, manifest, source);
            let done = files::restore(reader, &root, &how, session.reporter.clone(), session.cancel.clone()).await?;
            (root.display().to_string(), SourceReport::Files(done))
        }
        Target::File(path) => {
            make_parents(&path)?;
            let how = file_options(options, source);
            let done = sqlite::restore(reader, &path, &how, session.reporter.clone(), session.cancel.clone())
                .await
                .map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => error.with_hint(
                        "Add --clean to replace it (the old file is kept beside), or choose another --into.",
                    ),
                    _ => error,
                })?;
            (done.path.display().to_string(), SourceReport::Sqlite(done))
        }
        Target::Volumes(target) => {
            let mut how = volumes::options(session, source, &docker, options);
            how.origin = manifest.id.to_string();
            let done = volumes::run(session, reader, &target, how).await?;
            (target.text(), SourceReport::Volumes(done))
        }
        Target::Redis(server) => {
            let redis = redis.ok_or_else(|| Error::invalid("a restore into a server has no plan"))?;
            let done = Box::pin(restore_redis(session, source, &server, redis)).await?;
            (crate::config::redact_url(&server.url), SourceReport::Redis(done.into()))
        }
        Target::RdbFile(path) => {
            make_parents(&path)?;
            let to = (source.name.as_str(), &session.reporter);
            let done = stored::write_files(&reader, &path, options.clean, to, &session.cancel).await?;
            let written = RdbWritten {
                bytes: done.bytes,
                report: done,
                advice: RDB_ADVICE,
            };
            (path.display().to_string(), SourceReport::RdbFile(written))
        }
        Target::Database(server) => {
            let restore = database_restore(session, options, source, manifest, &server, reader)?;
            let done = Box::pin(restore.run()).await?;
            let restored = DatabaseRestored {
                bytes: done.bytes,
                failed: done.failed.len(),
                report: done,
            };
            (
                crate::config::redact_url(&server.url),
                SourceReport::Postgres(restored.into()),
            )
        }
    };
    Ok(RestoredSource {
        source: source.name.clone(),
        into,
        report,
    })
}

fn make_parents(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent).with_context(|| format!("create \"{}\"", parent.display())),
        None => Ok(()),
    }
}

/// Says what was found out about a target.
fn planned(step: Step<'_>) -> PlannedSource {
    let into = match &step.target {
        Target::Tree(path) | Target::File(path) | Target::RdbFile(path) => path.display().to_string(),
        Target::Database(server) => crate::config::redact_url(&server.url),
        Target::Redis(server) => crate::config::redact_url(&server.url),
        Target::Volumes(target) => target.text(),
    };
    let stored = step.source.outcome.as_ref().map(|outcome| outcome.raw_bytes);
    let bytes = step.plan.as_ref().map(|plan| plan.bytes);
    PlannedSource {
        source: step.source.name.clone(),
        into,
        bytes: bytes.or(step.files.as_ref().map(|plan| plan.bytes)).or(stored),
        plan: step.plan,
        files: step.files,
        sqlite: step.file,
        redis: step.redis.map(|(_, plan)| plan),
    }
}
