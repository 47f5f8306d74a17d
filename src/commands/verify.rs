//! `verify`: reads stored data back. What it names is damaged; what it does not name is proven.
//!
//! Level `stored` compares size and SHA-256 of every object with the manifest, so no byte of an archive or index
//! escapes. Level `content` does that first, then decodes every frame and every entry. Level `restored` restores SQLite
//! databases into the spool directory and lets SQLite check them, and PostgreSQL databases into a scratch database of the
//! named server, where counts and digests of every table are compared; it is dropped afterwards. Redis goes into an empty
//! scratch server, where every key is compared; it is emptied afterwards.

use serde_json::json;

use crate::archive::EntryEvent;
use crate::archive::reader::Selection;
use crate::cli::args::{self, Level};
use crate::commands::said::said;
use crate::commands::snapshots::{open_reader, open_repository, outcome_of, stored_bytes};
use crate::commands::{Outcome, Session, Status, open, stored, thaw};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::repository::{ManifestSource, Repository, SnapshotId};
use crate::sources::postgres::{Scratch, examine, verify_restored};
use crate::sources::redis;
use crate::sources::sqlite::restore as sqlite_restore;

/// What was found in one snapshot.
#[derive(Debug, serde::Serialize)]
struct Verified {
    snapshot: SnapshotId,
    level: Level,
    sources: Vec<String>,
    skipped: Vec<String>,
    damage: Vec<String>,
    /// Statements of a restore that the scratch server refused: the rows are proven, these are not.
    refused: Vec<String>,
    /// What SQLite finds wrong in a database whose bytes are those that were stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    integrity: Vec<String>,
    /// What restores into scratch places counted.
    restored: Vec<serde_json::Value>,
    /// Whether objects lie in cold storage classes, so that nothing of them is proven.
    archived: bool,
    /// The drill that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<String>,
}

/// Checks each snapshot that was named, keeps evidence where it may, and fails if anything is damaged.
pub async fn run(session: &Session, options: &args::Verify) -> Outcome {
    let repository = open_repository(session).await?;
    let mut results = Vec::new();
    for id in wanted(session, &repository, options).await? {
        let verified = verify_snapshot(session, &repository, id, options).await?;
        if !options.no_evidence {
            let written = repository.write_evidence(&verified.snapshot, &json!(verified)).await;
            if let Err(error) = written {
                tracing::warn!("evidence was not stored: {}", error.chain());
            }
        }
        results.push(verified);
    }
    let gaps = if options.all {
        session.or_cancelled(repository.chain()).await?
    } else {
        Vec::new()
    };
    let status = if results.iter().any(|v| !v.damage.is_empty()) || gaps.iter().any(|gap| gap.damage) {
        Status::Failed
    } else if results
        .iter()
        .any(|v| v.archived || !v.refused.is_empty() || !v.integrity.is_empty())
    {
        Status::Partial
    } else {
        Status::Done
    };
    let mut text: String = results.iter().map(text_of).collect();
    for gap in &gaps {
        let word = if gap.damage { "damaged" } else { "note" };
        text.push_str(&format!("{word}: {gap}\n"));
    }
    said(json!({ "verified": results, "chain": gaps }), text, status)
}

async fn wanted(session: &Session, repository: &Repository, options: &args::Verify) -> Result<Vec<SnapshotId>> {
    if options.all {
        return session.or_cancelled(repository.list()).await;
    }
    let mut ids = Vec::new();
    for name in &options.snapshots {
        ids.push(session.or_cancelled(repository.resolve(name)).await?);
    }
    Ok(ids)
}

async fn verify_snapshot(
    session: &Session,
    repository: &Repository,
    id: SnapshotId,
    options: &args::Verify,
) -> Result<Verified> {
    let level = options.level;
    let mut verified = Verified {
        snapshot: id.clone(),
        level,
        sources: vec![],
        skipped: vec![],
        damage: vec![],
        refused: vec![],
        integrity: vec![],
        restored: vec![],
        archived: false,
        drill: options.drill.clone(),
    };
    let manifest = match session.or_cancelled(repository.load(&id)).await {
        Ok(manifest) => manifest,
        Err(error) => {
            keep_going(error, &mut verified.damage)?;
            return Ok(verified);
        }
    };
    for source in &manifest.sources {
        if source.outcome.is_none() {
            verified
                .skipped
                .push(format!("{}: failed when it was backed up", source.name));
            continue;
        }
        let before = verified.damage.len();
        session
            .reporter
            .begin(&source.name, source.outcome.as_ref().map(stored_bytes));
        thaw::sources(session, repository.store(), &[source], &options.thaw).await?;
        let proven = verify_source(session, repository, source, options, &mut verified).await;
        match proven {
            Err(error) if error.kind() == ErrorKind::Archived => {
                verified.archived = true;
                verified.skipped.push(format!("{}: {}", source.name, error.chain()));
                session.reporter.end(&source.name, false);
                continue;
            }
            proven => proven?,
        }
        session.reporter.end(&source.name, verified.damage.len() == before);
        verified.sources.push(source.name.clone());
    }
    Ok(verified)
}

async fn verify_source(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    options: &args::Verify,
    verified: &mut Verified,
) -> Result<()> {
    let level = options.level;
    let before = verified.damage.len();
    for info in &outcome_of(source)?.archives {
        for object in [&info.archive, &info.index] {
            if let Err(error) = stored::check_object(session, repository.store(), &source.name, object).await {
                keep_going(error, &mut verified.damage)?;
            }
        }
    }
    if level == Level::Stored || verified.damage.len() > before {
        return Ok(());
    }
    if let Err(error) = read_everything(session, repository, source).await {
        keep_going(error, &mut verified.damage)?;
        return Ok(());
    }
    if source.kind == "postgres"
        && let Err(error) = judge_statements(session, repository, source).await
    {
        keep_going(error, &mut verified.damage)?;
        return Ok(());
    }
    if source.kind == "redis"
        && let Err(error) = walk_rdb(session, repository, source).await
    {
        keep_going(error, &mut verified.damage)?;
        return Ok(());
    }
    if level == Level::Restored {
        match source.kind.as_str() {
            "sqlite" => {
                if let Err(error) = restore_sqlite(session, repository, source, verified).await {
                    keep_going(error, &mut verified.damage)?;
                }
            }
            "postgres" => match options.into.iter().find(|url| !crate::config::is_redis_url(url)) {
                None => verified.skipped.push(format!(
                    "{}: name a server for its scratch database with --into postgres://…; content was checked",
                    source.name
                )),
                Some(url) => {
                    if let Err(error) = restore_postgres(session, repository, source, url, verified).await {
                        keep_going(error, &mut verified.damage)?;
                    }
                }
            },
            "redis" => match options.into.iter().find(|url| crate::config::is_redis_url(url)) {
                None => verified.skipped.push(format!(
                    "{}: name an empty scratch server with --into redis://…; content was checked",
                    source.name
                )),
                Some(url) => {
                    if let Err(error) = restore_redis(session, repository, source, url, verified).await {
                        keep_going(error, &mut verified.damage)?;
                    }
                }
            },
            kind => verified.skipped.push(format!(
                "{}: level restored comes later for kind {kind}; content was checked",
                source.name
            )),
        }
    }
    Ok(())
}

/// Decodes every frame and parses every entry; the reader compares digests as it goes.
async fn read_everything(session: &Session, repository: &Repository, source: &ManifestSource) -> Result<()> {
    let reader = open_reader(session, repository.store(), source).await?;
    let mut entries = reader.entries(Selection::All);
    let mut path = Vec::new();
    loop {
        let event = session.or_cancelled(entries.next()).await;
        let act = || {
            format!(
                "read source \"{}\" at entry \"{}\"",
                source.name,
                String::from_utf8_lossy(&path)
            )
        };
        match event.with_context(act)? {
            None => return Ok(()),
            Some(EntryEvent::Begin(meta)) => path = meta.path,
            Some(EntryEvent::Data(_) | EntryEvent::End { .. }) => {}
        }
    }
}

/// Judges the statements of a database's backup: a restore refuses those that this program does not write.
async fn judge_statements(session: &Session, repository: &Repository, source: &ManifestSource) -> Result<()> {
    let reader = open_reader(session, repository.store(), source).await?;
    let judged = session.or_cancelled(examine(&reader)).await;
    judged.with_context(|| format!("read source \"{}\"", source.name))
}

/// Walks every key of the stored RDBs and compares their CRC64.
async fn walk_rdb(session: &Session, repository: &Repository, source: &ManifestSource) -> Result<()> {
    let reader = open_reader(session, repository.store(), source).await?;
    let act = || format!("read source \"{}\"", source.name);
    let walked = redis::stored::verify(&reader, &session.cancel)
        .await
        .with_context(act)?;
    let rdbs = redis::stored::rdbs(&reader).await.with_context(act)?;
    if rdbs.iter().any(|rdb| rdb.facts.unknown.is_some()) {
        return Ok(());
    }
    let decoded = redis::decode_all(&reader, &session.cancel).await.with_context(act)?;
    if decoded != walked.keys() {
        let counted = walked.keys();
        return Err(Error::corrupt(format!("{decoded} of {counted} keys were decoded")).context(act()));
    }
    Ok(())
}

/// Loads a scratch server and compares every key.
async fn restore_redis(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    url: &str,
    verified: &mut Verified,
) -> Result<()> {
    let report = redis::verify_restored(redis::RedisScratch {
        address: open::redis_target(url)?,
        reader: open_reader(session, repository.store(), source).await?,
        task: source.name.clone(),
        reporter: session.reporter.clone(),
        cancel: session.cancel.clone(),
    })
    .await?;
    let name = &source.name;
    let lines = |more: u64, lines: &mut Vec<String>| {
        if more > 0 {
            lines.push(format!("{name}: and {more} keys more"));
        }
    };
    for item in &report.failed {
        verified
            .refused
            .push(format!("{name}: {} {}: {}", item.kind, item.name, item.error));
    }
    let count = |items: usize| u64::try_from(items).unwrap_or(0);
    lines(report.failed_keys - count(report.failed.len()), &mut verified.refused);
    for item in &report.losses {
        let line = format!("{name}: {} {}: {}", item.kind, item.name, item.error);
        verified.refused.push(line);
    }
    for (why, keys) in &report.not_compared {
        verified
            .skipped
            .push(format!("{name}: {keys} keys hold {why}, which cannot be compared"));
    }
    verified
        .damage
        .extend(report.differing.iter().map(|line| format!("{name}: {line}")));
    lines(
        report.differing_keys - count(report.differing.len()),
        &mut verified.damage,
    );
    let mut said = json!(report);
    if let Some(said) = said.as_object_mut() {
        said.insert("source".to_owned(), json!(name));
        said.insert("server".to_owned(), json!(crate::config::redact_url(url)));
    }
    verified.restored.push(said);
    Ok(())
}

async fn restore_sqlite(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    verified: &mut Verified,
) -> Result<()> {
    let reader = open_reader(session, repository.store(), source).await?;
    let target = session
        .spool_dir
        .join(format!("wirevault-verify-{:016x}.db", rand::random::<u64>()));
    let options = sqlite_restore::SqliteRestoreOptions {
        task: source.name.clone(),
        full_check: true,
        ..Default::default()
    };
    let restored = sqlite_restore::restore(
        reader,
        &target,
        &options,
        session.reporter.clone(),
        session.cancel.clone(),
    )
    .await;
    let removed = tokio::fs::remove_file(&target).await;
    let found = restored?.integrity;
    let named = |line: &String| format!("{}: {line}", source.name);
    verified.integrity.extend(found.damaged.iter().map(named));
    let others = found
        .violated
        .iter()
        .map(|line| format!("{}: row breaks a rule: {line}", source.name));
    let unchecked = found
        .unchecked
        .iter()
        .map(|line| format!("{}: not checked: {line}", source.name));
    verified.skipped.extend(others.chain(unchecked));
    removed.with_context(|| format!("remove \"{}\"", target.display()))
}

/// Restores into a scratch database and compares every table.
async fn restore_postgres(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
    url: &str,
    verified: &mut Verified,
) -> Result<()> {
    let report = verify_restored(Scratch {
        server: open::postgres_target(url)?,
        reader: open_reader(session, repository.store(), source).await?,
        snapshot: verified.snapshot.to_string(),
        parallel: 2,
        reporter: session.reporter.clone(),
        task: source.name.clone(),
        cancel: session.cancel.clone(),
    })
    .await?;
    let refused = report
        .failed
        .iter()
        .map(|item| format!("{}: {} {}: {}", source.name, item.kind, item.name, item.error));
    verified.refused.extend(refused);
    let left_out = report.left_out.iter().map(|item| {
        format!(
            "{}: {} {}: it names what the scratch server does not have: {}",
            source.name, item.kind, item.name, item.error
        )
    });
    verified.skipped.extend(left_out);
    verified.restored.push(json!({
        "source": source.name, "server": crate::config::redact_url(url), "tables": report.tables, "rows": report.rows,
        "bytes": report.bytes, "rows_verified": report.rows_verified, "seconds": report.seconds,
    }));
    Ok(())
}

/// Damage is written down and the work goes on; anything else (no network, no key) ends it.
fn keep_going(error: Error, damage: &mut Vec<String>) -> Result<()> {
    if error.kind() == ErrorKind::Corrupt {
        damage.push(error.chain());
        return Ok(());
    }
    Err(error)
}

fn text_of(verified: &Verified) -> String {
    let level = match verified.level {
        Level::Stored => "stored",
        Level::Content => "content",
        Level::Restored => "restored",
    };
    let state = match (verified.damage.is_empty(), verified.archived) {
        (false, _) => "DAMAGED",
        (true, true) => "not read",
        (true, false) => "ok",
    };
    let mut text = format!(
        "{} {state} (level {level}: {})\n",
        verified.snapshot,
        verified.sources.join(", ")
    );
    for line in &verified.skipped {
        text.push_str(&format!("  skipped {line}\n"));
    }
    for one in &verified.restored {
        let number = |name: &str| one.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        if one.get("keys").is_some() {
            text.push_str(&format!(
                "  restored into a scratch server: {} keys compared, {} differ, {} expired or about to\n",
                number("keys"),
                number("differing_keys"),
                number("expired")
            ));
            continue;
        }
        text.push_str(&format!(
            "  restored into a scratch database: {} tables, {} rows, every digest equal\n",
            number("tables"),
            number("rows")
        ));
    }
    for line in &verified.refused {
        text.push_str(&format!("  refused by the scratch server: {line}\n"));
    }
    for line in &verified.integrity {
        text.push_str(&format!(
            "  damaged before it was stored; the bytes are those that were read: {line}\n"
        ));
    }
    for line in &verified.damage {
        text.push_str(&format!("  damaged: {line}\n"));
    }
    text
}
