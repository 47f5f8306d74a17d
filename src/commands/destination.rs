//! Which sources of a snapshot are restored, and where each of them goes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::args;
use crate::commands::cluster;
use crate::commands::snapshots::source_named;
use crate::commands::volumes::{self, VolumesTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{Manifest, ManifestSource};

/// Where a source goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tree(PathBuf),
    File(PathBuf),
    Database(String),
    Redis(String),
    RdbFile(PathBuf),
    Volumes(VolumesTarget),
}

pub(super) fn select<'a>(manifest: &'a Manifest, options: &args::Restore) -> Result<Vec<&'a ManifestSource>> {
    let selected: Vec<&ManifestSource> = if options.source.is_empty() {
        manifest
            .sources
            .iter()
            .filter(|source| source.outcome.is_some())
            .collect()
    } else {
        options
            .source
            .iter()
            .map(|name| source_named(manifest, name))
            .collect::<Result<_>>()?
    };
    if let Some(other) = selected
        .iter()
        .find(|source| !options.path.is_empty() && !matches!(source.kind.as_str(), "files" | "docker"))
    {
        return Err(Error::invalid(format!(
            "--path selects files, but source \"{}\" is of kind {}",
            other.name, other.kind
        ))
        .with_hint("Name one source of kind files with --source."));
    }
    let flags = [
        (
            "docker",
            "Docker volumes",
            options.docker != args::RestoreDocker::default(),
        ),
        (
            "postgres",
            "PostgreSQL",
            options.database != args::RestoreDatabase::default(),
        ),
        ("redis", "Redis", options.redis != args::RestoreRedis::default()),
    ];
    for (kind, words, given) in flags {
        if let Some(other) = selected.iter().find(|source| given && source.kind != kind) {
            return Err(Error::invalid(format!(
                "flags for {words} were given, but source \"{}\" is of kind {}",
                other.name, other.kind
            ))
            .with_hint(format!("Name one source of kind {kind} with --source.")));
        }
    }
    Ok(selected)
}

/// Decides where volumes go: a directory takes each source under its name, unless it is the only one.
pub(super) fn volumes_target(
    manifest: &Manifest,
    source: &ManifestSource,
    options: &args::Restore,
    selected: usize,
) -> Result<Target> {
    let into = options.into.as_deref();
    if into.is_some_and(|into| into.contains("://") && !into.starts_with("docker:")) {
        return Err(Error::invalid(format!(
            "source \"{}\" of kind docker cannot go into \"{}\"",
            source.name,
            crate::config::redact_url(into.unwrap_or_default())
        ))
        .with_hint("Volumes go into a directory, or into docker:, docker:NAME or docker:///path/docker.sock."));
    }
    Ok(Target::Volumes(
        match VolumesTarget::parse(into, &volumes::planned(manifest, source))? {
            VolumesTarget::Directory(path) if selected > 1 => VolumesTarget::Directory(path.join(&source.name)),
            target => target,
        },
    ))
}

/// Decides where a source goes: by `--into`, else where it came from.
pub(super) fn target(
    source: &ManifestSource,
    location: &str,
    options: &args::Restore,
    selected: usize,
) -> Result<Target> {
    let wrong = |what: &str| {
        Error::invalid(format!(
            "source \"{}\" of kind {} cannot go into {what}",
            source.name, source.kind
        ))
        .with_hint(
            "Choose sources with --source: databases go into postgres://…, Redis servers into redis://… or file:PATH, files and \
             SQLite databases into a path.",
        )
    };
    let is_server = |into: &&str| crate::config::is_redis_url(into);
    match (source.kind.as_str(), options.into.as_deref()) {
        ("redis", None) => return Ok(Target::Redis(location.to_owned())),
        ("redis", Some(into)) if is_server(&into) && selected == 1 => return Ok(Target::Redis(into.to_owned())),
        ("redis", Some(into)) if !is_server(&into) && !into.starts_with("postgres") => {
            let path = PathBuf::from(into.strip_prefix("file:").unwrap_or(into));
            return Ok(Target::RdbFile(
                if selected > 1 || path.is_dir() || into.ends_with('/') {
                    path.join(&source.name).join("dump.rdb")
                } else {
                    path
                },
            ));
        }
        (kind, Some(into)) if kind == "redis" || is_server(&into) => {
            return Err(wrong(&format!("\"{}\"", crate::config::redact_url(into))));
        }
        _ => {}
    }
    let into = options.into.as_deref();
    let database = into.filter(|into| into.starts_with("postgres://") || into.starts_with("postgresql://"));
    let path = into.map(|into| {
        PathBuf::from(
            into.strip_prefix("files:")
                .or_else(|| into.strip_prefix("sqlite:"))
                .unwrap_or(into),
        )
    });
    match (source.kind.as_str(), into, database) {
        ("postgres", None, _) => Ok(Target::Database(location.to_owned())),
        // A whole server takes every database under its own name.
        ("postgres", Some(_), Some(url)) if !cluster::names_database(url) => match cluster::database_of(location) {
            Some(database) => Ok(Target::Database(cluster::with_database(url, &database))),
            None => Ok(Target::Database(url.to_owned())),
        },
        ("postgres", Some(_), Some(url)) if selected == 1 => Ok(Target::Database(url.to_owned())),
        ("postgres", Some(into), Some(_)) => Err(wrong(&format!(
            "\"{}\" together with others",
            crate::config::redact_url(into)
        ))),
        ("postgres", Some(into), None) => Err(wrong(&format!("\"{into}\""))),
        (_, Some(into), Some(_)) => Err(wrong(&format!("\"{}\"", crate::config::redact_url(into)))),
        ("files", _, None) => Ok(Target::Tree(match path {
            // A directory takes every source under its name; one tree alone may go into the directory itself.
            Some(path) if selected > 1 => path.join(&source.name),
            Some(path) => path,
            None => PathBuf::from(location),
        })),
        ("sqlite", _, None) => Ok(Target::File(match path {
            Some(path) if selected > 1 || path.is_dir() || into.is_some_and(|into| into.ends_with('/')) => {
                path.join(&source.name).join(file_name(location))
            }
            Some(path) => path,
            None => PathBuf::from(location),
        })),
        (kind, _, _) => Err(Error::unsupported(format!(
            "this version cannot restore sources of kind \"{kind}\""
        ))),
    }
}

/// Where a source came from, by the plan that made the snapshot.
pub(super) fn location(manifest: &Manifest, source: &ManifestSource) -> Result<String> {
    let plans = manifest.plan.get("sources").and_then(Value::as_array);
    let plan = plans
        .into_iter()
        .flatten()
        .find(|plan| plan.get("name").and_then(Value::as_str) == Some(&source.name));
    let place = |key| plan.and_then(|plan| plan.get(key)).and_then(Value::as_str);
    place("url")
        .or_else(|| place("path"))
        .or_else(|| place("root"))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::corrupt(format!(
                "the manifest does not say where source \"{}\" came from",
                source.name
            ))
            .with_hint("Say with --into where it goes.")
        })
}

fn file_name(location: &str) -> String {
    Path::new(location)
        .file_name()
        .map_or_else(|| "database.db".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Refuses before the first write of any source what its own restore would refuse in the middle of them: a database
/// file that is there, and a tree given with `--into` that holds files already.
pub(super) fn refuse_if_occupied(target: &Target, options: &args::Restore) -> Result<()> {
    let (path, what) = match target {
        Target::File(path) | Target::RdbFile(path) if path.symlink_metadata().is_ok() => (path, "exists"),
        Target::Tree(root) | Target::Volumes(VolumesTarget::Directory(root))
            if options.into.is_some() && std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) =>
        {
            (root, "is not empty")
        }
        _ => return Ok(()),
    };
    if options.clean {
        return Ok(());
    }
    Err(
        Error::new(ErrorKind::AlreadyExists, format!("\"{}\" {what}", path.display()))
            .with_hint("Add --clean to restore over it (what is replaced is kept beside), or choose another --into."),
    )
}
