//! Which sources of a snapshot are restored, and where each of them goes.

use std::path::{Path, PathBuf};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::nearest::nearest;
use crate::config::{DockerSource, PostgresSource, RedisSource, SourceKind};
use crate::engines::postgres::is_connection_string;
use crate::operations::options;
use crate::operations::places::{self, Place, Resolver};
use crate::operations::snapshots::sources_named;
use crate::operations::volumes::VolumesTarget;
use crate::operations::{Session, cluster};
use crate::repository::{Manifest, ManifestSource};

/// Where a source goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tree(PathBuf),
    File(PathBuf),
    Database(PostgresSource),
    Redis(RedisSource),
    RdbFile(PathBuf),
    Volumes(VolumesTarget),
}

pub(crate) fn select<'a>(manifest: &'a Manifest, options: &options::Restore) -> Result<Vec<&'a ManifestSource>> {
    let selected: Vec<&ManifestSource> = if options.source.is_empty() {
        manifest
            .sources
            .iter()
            .filter(|source| source.outcome.is_some())
            .collect()
    } else {
        let mut named: Vec<&ManifestSource> = Vec::new();
        for name in &options.source {
            for source in sources_named(manifest, name)? {
                if !named.iter().any(|other| other.name == source.name) {
                    named.push(source);
                }
            }
        }
        named
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
            options.docker != options::RestoreDocker::default(),
        ),
        (
            "postgres",
            "PostgreSQL",
            options.database != options::RestoreDatabase::default(),
        ),
        ("redis", "Redis", options.redis != options::RestoreRedis::default()),
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

/// Where one source goes, and what is known of it here.
#[derive(Debug, Clone)]
pub(crate) struct Destination<'a> {
    pub(crate) source: &'a ManifestSource,
    pub(crate) target: Target,
    /// How volumes are handled: by the word of this host.
    pub(crate) docker: DockerSource,
    /// Of a single file, the pattern that means it alone.
    pub(crate) only: Vec<String>,
}

impl<'a> Destination<'a> {
    /// A source that goes to a place which the caller has found.
    pub(crate) fn given(source: &'a ManifestSource, target: Target) -> Self {
        Self {
            source,
            target,
            docker: DockerSource::default(),
            only: vec![],
        }
    }
}

/// Decides where each source goes: by `--into`, else back to where it belongs by the word of this host. What only the
/// manifest says is followed if the operator says so.
pub(crate) fn destinations<'a>(
    session: &Session,
    manifest: &'a Manifest,
    selected: &[&'a ManifestSource],
    options: &options::Restore,
) -> Result<Vec<Destination<'a>>> {
    let mut resolver = Resolver {
        session,
        manifest,
        accept: options.into_original,
    };
    let (mut found, unknown) = look(&resolver, selected, options)?;
    if !unknown.is_empty() {
        if !places::confirmed(session, manifest, &unknown) {
            return Err(places::unknown(session, manifest, &unknown));
        }
        resolver.accept = true;
        found = look(&resolver, selected, options)?.0;
    }
    Ok(found)
}

/// Returns the sources that have a place, and those that have none.
fn look<'a>(
    resolver: &Resolver<'_>,
    selected: &[&'a ManifestSource],
    options: &options::Restore,
) -> Result<(Vec<Destination<'a>>, Vec<&'a ManifestSource>)> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for &source in selected {
        let place = match &options.into {
            // What is said here of the source is not asked for its place then.
            Some(_) => resolver.place(source).unwrap_or_default(),
            None => resolver.place(source)?,
        };
        let docker = places::docker(place.clone());
        let only = match place.as_ref().map(|place| &place.kind) {
            Some(SourceKind::Files(files)) if files.single_file && options.into.is_none() => files.include.clone(),
            _ => vec![],
        };
        let target = match (source.kind.as_str(), options.into.is_some() || place.is_some()) {
            (_, false) => None,
            ("docker", true) => Some(volumes_target(source, &docker, options, selected.len())?),
            (_, true) => {
                let called = places::called(resolver.manifest, source);
                Some(target(
                    resolver.session,
                    source,
                    (place, called),
                    options,
                    selected.len(),
                )?)
            }
        };
        match target {
            Some(target) => found.push(Destination {
                source,
                target,
                docker,
                only,
            }),
            None => unknown.push(source),
        }
    }
    Ok((found, unknown))
}

/// Decides where volumes go: a directory takes each source under its name, unless it is the only one.
fn volumes_target(
    source: &ManifestSource,
    docker: &DockerSource,
    options: &options::Restore,
    selected: usize,
) -> Result<Target> {
    let into = options.into.as_deref();
    if let Some(into) = into.filter(|into| !into.starts_with("docker:")) {
        refuse_unknown_scheme(into)?;
    }
    if into.is_some_and(|into| into.contains("://") && !into.starts_with("docker:")) {
        return Err(Error::invalid(format!(
            "source \"{}\" of kind docker cannot go into \"{}\"",
            source.name,
            crate::config::redact_url(into.unwrap_or_default())
        ))
        .with_hint("Volumes go into a directory, or into docker:, docker:NAME or docker:///path/docker.sock."));
    }
    Ok(Target::Volumes(match VolumesTarget::parse(into, docker)? {
        VolumesTarget::Directory(path) if selected > 1 => VolumesTarget::Directory(path.join(&source.name)),
        target => target,
    }))
}

/// Decides where a source goes: by `--into`, else to its place. Below a directory, or on a server, it keeps the name it has
/// at its place, or had where it came from.
fn target(
    session: &Session,
    source: &ManifestSource,
    (place, planned): (Option<Place>, Option<SourceKind>),
    options: &options::Restore,
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
    let Some(into) = options.into.as_deref() else {
        return back(source, place);
    };
    let shown = crate::config::redact_url(into);
    let is_database = is_connection_string(into);
    let into = crate::config::postgres_url(into)?;
    let into = into.as_str();
    refuse_unknown_scheme(into)?;
    let is_server = crate::config::is_redis_url(into);
    let known_as = place.map(|place| place.kind).or(planned);
    match source.kind.as_str() {
        "redis" if is_server && selected == 1 => match places::given(session, into)? {
            SourceKind::Redis(server) => Ok(Target::Redis(server)),
            _ => Err(wrong(&format!("\"{shown}\""))),
        },
        "redis" if !is_server && !into.starts_with("postgres") => {
            let path = PathBuf::from(into.strip_prefix("file:").unwrap_or(into));
            Ok(Target::RdbFile(
                if selected > 1 || path.is_dir() || into.ends_with('/') {
                    path.join(&source.name).join("dump.rdb")
                } else {
                    path
                },
            ))
        }
        "postgres" if is_database => {
            // A whole server takes every database under its own name.
            let name = match &known_as {
                Some(SourceKind::Postgres(known)) if !cluster::names_database(into) => cluster::database_of(&known.url),
                _ => None,
            };
            let url = match (name, cluster::names_database(into)) {
                (Some(name), _) => cluster::with_database(into, &name),
                (None, true) if selected > 1 => return Err(wrong(&format!("\"{shown}\" together with others"))),
                (None, _) => into.to_owned(),
            };
            match places::given(session, &url)? {
                SourceKind::Postgres(server) => Ok(Target::Database(server)),
                _ => Err(wrong(&format!("\"{shown}\""))),
            }
        }
        _ if is_server || is_database => Err(wrong(&format!("\"{shown}\""))),
        "files" | "sqlite" => {
            let schemes = ["files:", "sqlite:", "file://", "file:"];
            let path = schemes.iter().find_map(|scheme| into.strip_prefix(scheme));
            let path = PathBuf::from(path.unwrap_or(into));
            if source.kind == "files" {
                // A directory takes every source under its name; one tree alone may go into the directory itself.
                let path = if selected > 1 { path.join(&source.name) } else { path };
                return Ok(Target::Tree(path));
            }
            let below = selected > 1 || path.is_dir() || into.ends_with('/');
            let name = match &known_as {
                Some(SourceKind::Sqlite(known)) => file_name(&known.path),
                _ => file_name(Path::new("")),
            };
            Ok(Target::File(if below {
                path.join(&source.name).join(name)
            } else {
                path
            }))
        }
        "postgres" | "redis" => Err(wrong(&format!("\"{shown}\""))),
        kind => Err(Error::unsupported(format!(
            "this version cannot restore sources of kind \"{kind}\""
        ))),
    }
}

/// Refuses what looks like a URL and is none that a source goes into: it would become the name of a directory.
fn refuse_unknown_scheme(into: &str) -> Result<()> {
    const KNOWN: &[&str] = &["postgres", "postgresql", "files", "sqlite", "file", "redis", "valkey"];
    const SERVERS: &[&str] = &["postgres", "postgresql", "redis", "rediss", "valkey", "valkeys"];
    let Some((scheme, rest)) = into.split_once(':') else {
        return Ok(());
    };
    let right = if rest.starts_with("//") {
        scheme.contains(['/', '.']) || KNOWN.contains(&scheme) || crate::config::is_redis_url(into)
    } else {
        // A name with a colon is a path, unless it is all but a scheme.
        let all = || KNOWN.iter().copied().chain(["docker"]);
        let is_one = all().any(|known| known == scheme);
        let is_nearly_one = all().any(|known| strsim::jaro_winkler(known, scheme) > 0.9);
        !SERVERS.contains(&scheme) && (is_one || !is_nearly_one)
    };
    if right {
        return Ok(());
    }
    let message = format!("nothing can be restored into \"{}\"", crate::config::redact_url(into));
    let near = nearest(scheme, KNOWN.iter().copied().chain(["docker"]));
    Err(Error::invalid(message).with_hint(format!(
        "{}Databases go into postgres://…, Redis servers into redis://…, files and SQLite databases into a path.",
        near.map_or_else(String::new, |near| format!("Did you mean \"{near}\"? "))
    )))
}

/// Returns the place of a source as a target.
fn back(source: &ManifestSource, place: Option<Place>) -> Result<Target> {
    Ok(match place.map(|place| place.kind) {
        Some(SourceKind::Postgres(server)) => Target::Database(server),
        Some(SourceKind::Redis(server)) => Target::Redis(server),
        Some(SourceKind::Files(files)) => Target::Tree(files.root),
        Some(SourceKind::Sqlite(sqlite)) => Target::File(sqlite.path),
        Some(SourceKind::Docker(_)) | None => {
            return Err(Error::unsupported(format!(
                "this version cannot restore sources of kind \"{}\"",
                source.kind
            )));
        }
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| "database.db".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Refuses before the first write of any source what its own restore would refuse in the middle of them: a database
/// file that is there, and a tree given with `--into` that holds files already.
pub(crate) fn refuse_if_occupied(target: &Target, options: &options::Restore) -> Result<()> {
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
    let hint = match target {
        Target::RdbFile(_) => "Add --clean to replace it (the old file is not kept), or choose another --into.",
        _ => "Add --clean to restore over it (what is replaced is kept beside), or choose another --into.",
    };
    Err(Error::new(ErrorKind::AlreadyExists, format!("\"{}\" {what}", path.display())).with_hint(hint))
}
