//! `restore`: brings sources back. Everything is checked before the first write: the manifest, every index, presence
//! and size of every archive, of all sources together.

use std::path::Path;

use serde_json::{Value, json};

use crate::archive::ArchiveReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::raw_text::printable;
use crate::config::{DockerSource, PostgresSource, RedisSource, SourceKind};
use crate::engines::files::restore as files;
use crate::engines::files::survey::{self, FilesPlan};
use crate::engines::postgres::{PostgresRestore, RestoreOptions, RestorePlan, Selection, Wishes};
use crate::engines::redis::{RedisPlan, RedisRestore, RedisRestoreOptions, stored};
use crate::engines::sqlite::plan::{self, SqlitePlan};
use crate::engines::sqlite::restore as sqlite;
use crate::operations::choose::Purpose;
use crate::operations::destination::{Destination, Target, destinations, refuse_if_occupied, select};
use crate::operations::options;
use crate::operations::said::said;
use crate::operations::session::quoted;
use crate::operations::snapshots::{open_reader, open_snapshot};
use crate::operations::{Outcome, Session, Status, backup, open, settle, thaw, volumes};
use crate::repository::{Manifest, ManifestSource};

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
    Box::pin(run_into(session, options, None)).await
}

/// The same; one source goes to `given`, wherever it would go by itself.
pub(crate) async fn run_into(session: &Session, options: &options::Restore, given: Option<Target>) -> Outcome {
    let (repository, chosen) = open_snapshot(session, &options.snapshot, &options.source, Purpose::Write).await?;
    let manifest = chosen.manifest;
    let selected = select(&manifest, options)?;
    if options.undo || options.resume {
        return Box::pin(settle::run(session, options, &repository, &manifest, &selected)).await;
    }
    let places = match (given, selected.as_slice()) {
        (Some(target), [source]) => vec![Destination::given(source, target)],
        _ => destinations(session, &manifest, &selected, options)?,
    };
    if !options.dry_run {
        thaw::sources(session, repository.store(), &selected, &options.thaw).await?;
    }
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
                let restore = database_restore(session, options, source, &manifest, server, reader.clone())?;
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
            Target::File(path) if options.dry_run || selected.len() > 1 => {
                look_at_file(session, options, source, path, &reader).await?
            }
            _ => None,
        };
        let files = match &target {
            Target::Tree(root) if options.dry_run || selected.len() > 1 => {
                look_at_tree(session, options, (&manifest, source), root, reader.clone()).await?
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
    if options.dry_run {
        return report(
            (session, options, &manifest),
            &steps.iter().map(planned).collect::<Vec<_>>(),
            &[],
            "would restore",
        );
    }
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    let single = steps.len() == 1;
    for step in steps {
        session.check_cancelled()?;
        let name = step.source.name.clone();
        session
            .reporter
            .begin(&name, step.source.outcome.as_ref().map(|o| o.raw_bytes));
        let result = Box::pin(restore_source(session, &manifest, step)).await;
        session.reporter.end(&name, result.is_ok());
        match result {
            Ok(value) => {
                errors.extend(failed_items(&value).into_iter().map(|line| format!("{name}: {line}")));
                errors.extend(lost(&value).map(|line| format!("{name}: {line}")));
                done.push(value);
            }
            Err(error) if single || error.kind() == ErrorKind::Cancelled => {
                return Err(error.context(format!("restore source \"{name}\"")));
            }
            Err(error) => errors.push(format!("{name}: {}", error.chain_and_hint())),
        }
    }
    report((session, options, &manifest), &done, &errors, "restored")
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

/// Says that sessions had to end for a swap.
pub(crate) fn ended_text(sessions: u64) -> String {
    match sessions {
        0 => String::new(),
        1 => "  1 session of the database that was there was ended\n".to_owned(),
        more => format!("  {more} sessions of the database that was there were ended\n"),
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
            wishes: Wishes {
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
) -> Result<Value> {
    let verified = session.or_cancelled(restore.verify()).await?;
    let mut kept = None;
    let powers = plan.powers.clone();
    if restore.options.clean && plan.removes_something() {
        let act = "take a snapshot of the target before it is emptied";
        let taken = backup::safety_snapshot(session, server).await.context(act)?;
        backup::refuse_without_keys(&taken).context(act)?;
        kept = Some(format!("snapshot {}", taken.id));
    }
    let done = session.or_cancelled(restore.run(plan, verified)).await;
    let done = done.map_err(|error| match &kept {
        Some(kept) => error
            .context("load the keys after the target was emptied")
            .with_hint(format!("What it held before is in {kept}.")),
        None => error,
    })?;
    let bytes = source.outcome.as_ref().map(|outcome| outcome.raw_bytes);
    Ok(
        json!({ "source": source.name, "into": crate::config::redact_url(&server.url), "bytes": bytes, "previous": kept,
        "powers": powers, "report": done }),
    )
}

/// Returns a line for each statement that failed for good: the object, why, what to do.
pub(crate) fn failed_items(value: &Value) -> Vec<String> {
    let list = |place: &str| value.pointer(place).and_then(Value::as_array).into_iter().flatten();
    let line = |item: &Value| {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let field = |name: &str| printable(text(name));
        let (kind, name, error, advice) = (field("kind"), field("name"), field("error"), field("advice"));
        format!("{kind} {name}: {error}. {advice}")
    };
    let mut lines: Vec<String> = list("/report/failed").map(line).collect();
    let failed = value
        .pointer("/report/failed_keys")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let unnamed = failed.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    if unnamed > 0 {
        lines.push(format!("and {unnamed} keys more"));
    }
    lines.extend(list("/report/losses").map(line));
    lines
}

/// Says that what came back is not all that was there. Volumes say it each for itself.
fn lost(value: &Value) -> Option<String> {
    let number = |value: &Value| value.get("lost").and_then(Value::as_u64).unwrap_or(0);
    let volumes = value.get("volumes").and_then(Value::as_array);
    let lost = number(value) + volumes.into_iter().flatten().map(number).sum::<u64>();
    (lost > 0).then(|| {
        "not everything is as it was: an owner, a mode, an attribute could not be set, or a device node not made; the \
         notes name the first of each kind"
            .to_owned()
    })
}

/// Whether the configuration here, not the backup's, asks for the device nodes of a source.
pub(crate) fn asks_for_devices(session: &Session, source: &str) -> bool {
    let mut sources = session.config.sources.iter();
    sources.any(|one| one.name == source && matches!(&one.kind, SourceKind::Files(files) if files.devices))
}

async fn restore_source(session: &Session, manifest: &Manifest, step: Step<'_>) -> Result<Value> {
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
    match target {
        Target::Tree(root) => {
            make_parents(&root)?;
            let how = tree_options(session, options, manifest, source);
            let done = files::restore(reader, &root, &how, session.reporter.clone(), session.cancel.clone()).await?;
            Ok(json!({
                "source": source.name, "into": root, "written": done.written, "replaced": done.replaced, "unchanged": done.unchanged,
                "deleted": done.deleted, "bytes": done.bytes, "previous": done.previous, "lost": done.lost,
            }))
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
            Ok(
                json!({ "source": source.name, "into": done.path, "bytes": done.bytes, "previous": done.previous,
                "integrity": done.integrity }),
            )
        }
        Target::Volumes(target) => {
            let mut how = volumes::options(session, source, &docker, options);
            how.origin = manifest.id.to_string();
            volumes::run(session, source, reader, &target, how).await
        }
        Target::Redis(server) => {
            let redis = redis.ok_or_else(|| Error::invalid("a restore into a server has no plan"))?;
            Box::pin(restore_redis(session, source, &server, redis)).await
        }
        Target::RdbFile(path) => {
            make_parents(&path)?;
            let to = (source.name.as_str(), &session.reporter);
            let done = stored::write_files(&reader, &path, options.clean, to, &session.cancel).await?;
            Ok(
                json!({ "source": source.name, "into": path, "bytes": done.bytes, "report": done, "advice":
                "stop the server, put the file into its data directory as `dbfilename` names it, and start it; if \
                 appendonly is on, move appendonlydir away and start with appendonly no, for it wins over the RDB" }),
            )
        }
        Target::Database(server) => {
            let restore = database_restore(session, options, source, manifest, &server, reader)?;
            let done = Box::pin(restore.run()).await?;
            Ok(
                json!({ "source": source.name, "into": crate::config::redact_url(&server.url), "bytes": done.bytes,
                "failed": done.failed.len(), "report": done }),
            )
        }
    }
}

fn make_parents(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent).with_context(|| format!("create \"{}\"", parent.display())),
        None => Ok(()),
    }
}

fn planned(step: &Step<'_>) -> Value {
    let into = match &step.target {
        Target::Tree(path) | Target::File(path) | Target::RdbFile(path) => path.display().to_string(),
        Target::Database(server) => crate::config::redact_url(&server.url),
        Target::Redis(server) => crate::config::redact_url(&server.url),
        Target::Volumes(target) => target.text(),
    };
    let stored = step.source.outcome.as_ref().map(|outcome| outcome.raw_bytes);
    let bytes = step.plan.as_ref().map(|plan| plan.bytes);
    let bytes = bytes.or(step.files.as_ref().map(|plan| plan.bytes)).or(stored);
    json!({ "source": step.source.name, "into": into, "bytes": bytes, "plan": step.plan, "files": step.files, "sqlite": step.file,
        "redis": step.redis.as_ref().map(|(_, plan)| plan) })
}

/// Returns whether what came back was damaged when it was stored.
pub(crate) fn is_damaged(one: &Value) -> bool {
    let lines = one.pointer("/integrity/damaged").and_then(Value::as_array);
    lines.is_some_and(|lines| !lines.is_empty())
}

/// What is said of the place of a SQLite database before it is restored.
fn sqlite_plan_text(one: &Value) -> String {
    let Some(plan) = one.get("sqlite").filter(|plan| plan.is_object()) else {
        return String::new();
    };
    let number = |name: &str| plan.get(name).and_then(Value::as_u64).unwrap_or(0);
    let replaces = plan.get("replaces") == Some(&Value::Bool(true));
    let mut text = format!(
        "  {}; {} of {} free\n",
        if replaces {
            "replaces the file there, which is kept beside"
        } else {
            "nothing is there"
        },
        crate::base::units::format_bytes(number("bytes")),
        crate::base::units::format_bytes(number("free_bytes")),
    );
    match (replaces, number("hidden_processes")) {
        (true, 0) => text.push_str("  nobody has it open\n"),
        (true, hidden) => text.push_str(&format!(
            "  nobody was seen to have it open; {hidden} processes could not be looked into\n"
        )),
        (false, _) => {}
    }
    text
}

/// What SQLite says of a database that came back as it was stored.
fn integrity_text(one: &Value) -> String {
    let mut text = String::new();
    for (kind, words) in [
        ("damaged", "it was damaged when it was stored, and came back so"),
        (
            "violated",
            "rows break a rule of their table, as they did when it was stored",
        ),
        ("unchecked", "not checked"),
    ] {
        let lines = one.pointer(&format!("/integrity/{kind}")).and_then(Value::as_array);
        for line in lines.into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(&format!("  {words}: {line}\n"));
        }
    }
    if is_damaged(one) {
        text.push_str("  `.recover` of the sqlite3 program saves its rows, or an older snapshot may be whole\n");
    }
    text
}

/// What is said of a file tree before it is restored.
fn files_text(one: &Value) -> String {
    let Some(plan) = one.get("files").filter(|plan| plan.is_object()) else {
        return String::new();
    };
    let number = |name: &str| plan.get(name).and_then(Value::as_u64);
    let count = |name: &str| number(name).unwrap_or(0);
    let free = number("free_bytes").map_or_else(String::new, |free| {
        format!(" of {} free", crate::base::units::format_bytes(free))
    });
    format!(
        "  {} new, {} replaced, {} deleted, {} unchanged; {}{free} to write\n",
        count("new"),
        count("replaced"),
        count("deleted"),
        count("unchanged"),
        crate::base::units::format_bytes(count("bytes")),
    )
}

/// What is said of keys.
fn redis_text(one: &Value) -> String {
    let number = |name: &str| one.pointer(&format!("/report/{name}")).and_then(Value::as_u64);
    let mut text = String::new();
    if let Some(restored) = number("restored") {
        text.push_str(&format!("  {restored} keys restored"));
        for (name, words) in [
            ("functions", "function libraries"),
            ("users", "users"),
            ("transcoded", "of them in another encoding"),
            ("replayed", "of them by ordinary commands"),
            ("expired", "expired meanwhile"),
            ("skipped", "left as they were"),
            ("not_selected", "not selected"),
            ("failed_keys", "failed"),
        ] {
            if let Some(count) = number(name).filter(|count| *count > 0) {
                text.push_str(&format!(", {count} {words}"));
            }
        }
        text.push('\n');
    }
    if one.pointer("/report/users_in_memory") == Some(&Value::Bool(true)) {
        text.push_str("  the users are in no file of the server yet: ACL SAVE or CONFIG REWRITE there keeps them\n");
    }
    if let Some(advice) = one.get("advice").and_then(Value::as_str) {
        text.push_str(&format!("  {advice}\n"));
    }
    if let Some(keys) = one.pointer("/redis/databases").and_then(Value::as_object) {
        let target = one.pointer("/redis/target_keys").and_then(Value::as_u64);
        let target = target.map_or("an unknown number".to_owned(), |keys| keys.to_string());
        let keys = keys
            .iter()
            .map(|(number, keys)| format!("{number}: {keys}"))
            .collect::<Vec<_>>();
        text.push_str(&format!(
            "  keys by database {}; the target holds {target}\n",
            keys.join(", ")
        ));
    }
    if let Some(moves) = one.pointer("/redis/moves").and_then(Value::as_str) {
        text.push_str(&format!("  {moves}\n"));
    }
    if let Some(left_out) = one.pointer("/redis/left_out").and_then(Value::as_str) {
        text.push_str(&format!("  {left_out}\n"));
    }
    let powers = one
        .pointer("/redis/powers")
        .or(one.get("powers"))
        .and_then(Value::as_array);
    for line in powers.into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("  the backup brings {line}\n"));
    }
    let warnings = one.pointer("/redis/warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}

fn report(
    (session, options, manifest): (&Session, &options::Restore, &Manifest),
    done: &[Value],
    errors: &[String],
    verb: &str,
) -> Outcome {
    let mut text = String::new();
    for one in done {
        let field = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let bytes = one.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        text.push_str(&format!(
            "{verb} {} into {} ({})\n",
            field("source"),
            field("into"),
            crate::base::units::format_bytes(bytes)
        ));
        if !field("previous").is_empty() {
            text.push_str(&format!("  what was there before is kept in {}\n", field("previous")));
        }
        text.push_str(&sqlite_plan_text(one));
        text.push_str(&integrity_text(one));
        text.push_str(&files_text(one));
        text.push_str(&redis_text(one));
        text.push_str(&volumes::text(one));
        if let Some(old) = one.pointer("/report/kept_old").and_then(Value::as_str) {
            text.push_str(&format!("  the database that was there is kept as {old}\n"));
        }
        let ended = one
            .pointer("/report/ended_sessions")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        text.push_str(&ended_text(ended));
        let powers = one.pointer("/report/powers").and_then(Value::as_array);
        for line in powers.into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(&format!("  the backup holds {line}\n"));
        }
        let next = one.pointer("/report/next").and_then(Value::as_array);
        for line in next.into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(&format!("  {line}\n"));
        }
        if let Some(Ok(plan)) = one
            .get("plan")
            .map(|plan| serde_json::from_value::<RestorePlan>(plan.clone()))
        {
            text.push_str(&plan.lines());
        }
    }
    let names = done.iter().filter_map(|one| one.get("source").and_then(Value::as_str));
    let again = names.fold(format!("wirevault restore {}", manifest.id), |line, name| {
        format!("{line} --source {name}")
    });
    if !done.is_empty() {
        let flag = |name: &str, value: Option<&String>| {
            value.map_or_else(String::new, |value| {
                format!(" --{name} {}", quoted(&crate::config::redact_url(value)))
            })
        };
        let (into, from) = (
            flag("into", options.into.as_ref()),
            flag("from", session.repository.as_ref()),
        );
        let original = if options.into_original { " --into-original" } else { "" };
        text.push_str(&format!(
            "snapshot {} of {}; the same snapshot again: {again}{into}{original}{from}\n",
            manifest.id,
            super::show::local_time(manifest.finished)
        ));
    }
    for error in errors {
        text.push_str(&format!("failed: {error}\n"));
    }
    let damaged = done.iter().any(is_damaged);
    let status = match (done.is_empty(), errors.is_empty() && !damaged) {
        (_, true) => Status::Done,
        (true, false) => Status::Failed,
        (false, false) => Status::Partial,
    };
    said(
        json!({ "snapshot": manifest.id, verb.replace(' ', "_"): done, "errors": errors }),
        text,
        status,
    )
}
