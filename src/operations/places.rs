//! Where a source is, and by whose word: one resolver for restore, undo, recover and drills.
//!
//! A place is the operator's: `--into` and `--address`, the configuration or the environment of this host, a source that was
//! given on the command line of a backup here. What a manifest says is the word of whoever could write into the repository.
//! It is shown, and followed only by `--into-original`, `--accept-places` or a yes on the terminal; then with no secret of
//! this host that was not meant for that place.

use std::path::{Path, PathBuf};

use crate::base::error::{Error, Result};
use crate::config::{self, DockerSource, FilesSource, PostgresSource, SourceConfig, SourceKind, SqliteSource};
use crate::engines::files::single_file;
use crate::engines::postgres::{Params, is_connection_string};
use crate::engines::sqlite::discover;
use crate::operations::{Session, cluster};
use crate::repository::ADHOC_JOB;
use crate::repository::{Manifest, ManifestSource, PRE_RESTORE_JOB, StoredSource};

/// By whose word a place is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    /// The command line's: `--into`, `--address`.
    Given,
    /// The configuration's, or the environment's.
    Configured,
    /// That of the command line of a backup on this host.
    Remembered,
    /// The manifest's, and the operator accepts it.
    Accepted,
}

/// Where a source goes back to.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: SourceKind,
    pub(crate) word: Word,
}

/// Finds places for the sources of one snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolver<'a> {
    pub(crate) session: &'a Session,
    pub(crate) manifest: &'a Manifest,
    /// Whether the operator accepts what the manifest says.
    pub(crate) accept: bool,
}

impl Resolver<'_> {
    /// Returns where a source goes back to; `None` where nobody but the manifest says it, and that is not accepted.
    pub(crate) fn place(&self, source: &ManifestSource) -> Result<Option<Place>> {
        let remembered = self.remembered(source);
        let called = called(self.manifest, source);
        if let Some(kind) = configured(&self.session.config.sources, source, called.as_ref())? {
            // A source of the same name that was given by hand may be quite another one.
            let by_hand = matches!(self.manifest.job.as_str(), ADHOC_JOB | PRE_RESTORE_JOB);
            if by_hand && remembered.as_ref().is_some_and(|other| text(other) != text(&kind)) {
                return Err(self.ambiguous(source, &kind, remembered.as_ref()));
            }
            return Ok(Some(Place {
                kind,
                word: Word::Configured,
            }));
        }
        if let Some(kind) = remembered {
            return Ok(Some(Place {
                kind,
                word: Word::Remembered,
            }));
        }
        let planned = planned(self.manifest, source);
        let accepted = planned.filter(|_| self.accept);
        Ok(accepted.map(|kind| Place {
            kind,
            word: Word::Accepted,
        }))
    }

    fn remembered(&self, source: &ManifestSource) -> Option<SourceKind> {
        let plan = plan_of(self.manifest, source)?;
        let known = self.session.state.knows_source(&self.manifest.repository, plan);
        known.then(|| read(source, plan, |url| Some(url.to_owned()))).flatten()
    }

    fn ambiguous(&self, source: &ManifestSource, configured: &SourceKind, remembered: Option<&SourceKind>) -> Error {
        let given = remembered.map(text).unwrap_or_default();
        let message = format!(
            "source \"{}\" of this snapshot was given by hand as \"{given}\", but {} has a source of this name at \"{}\"",
            source.name,
            self.session.config.origin,
            text(configured)
        );
        Error::invalid(message).with_hint("Say with --into which of them it is.")
    }
}

/// Returns what a server is that was given on the command line; a password that is configured for the same server and user
/// goes with it.
pub(crate) fn given(session: &Session, url: &str) -> Result<SourceKind> {
    let mut kind = config::parse_source_url(url)?.kind;
    let mut all = session.config.sources.iter();
    match &mut kind {
        SourceKind::Postgres(wanted) if wanted.password.is_none() && !has_password_file(&wanted.url) => {
            let known = all.find_map(|source| match &source.kind {
                SourceKind::Postgres(known) if same_login(&known.url, &wanted.url, 5432) => Some(known),
                _ => None,
            });
            if let Some(known) = known {
                wanted.password.clone_from(&known.password);
                wanted.password_file.clone_from(&known.password_file);
            }
        }
        SourceKind::Redis(wanted) => {
            let known = all.find_map(|source| match &source.kind {
                SourceKind::Redis(known) if same_login(&known.url, &wanted.url, 6379) => Some(known),
                _ => None,
            });
            if let Some(known) = known {
                if wanted.password.is_none() {
                    wanted.password.clone_from(&known.password);
                    wanted.password_file.clone_from(&known.password_file);
                }
                if wanted.url.starts_with("rediss:") || wanted.url.starts_with("valkeys:") {
                    let mut files = config::tls_files(&known.url);
                    // A certificate and its key belong together.
                    if config::tls_files(&wanted.url).iter().any(|(name, _)| name != "cacert") {
                        files.retain(|(name, _)| name == "cacert");
                    }
                    let files: Vec<_> = files
                        .iter()
                        .map(|(name, file)| (name.as_str(), file.as_str()))
                        .collect();
                    wanted.url = config::with_tls_files(&wanted.url, &files);
                }
            }
        }
        _ => {}
    }
    Ok(kind)
}

fn has_password_file(url: &str) -> bool {
    Params::parse(url).is_ok_and(|params| params.has("password_file"))
}

/// Returns whether two URLs mean the same user of the same server.
fn same_login(one: &str, other: &str, default_port: u16) -> bool {
    type Login = (String, String, String, Option<String>);
    let of_postgres = |text: &str| -> Option<Login> {
        let mut params = Params::parse(text).ok()?;
        Some((
            params.take("host")?,
            params.take("port").unwrap_or_else(|| default_port.to_string()),
            params.take("user").unwrap_or_default(),
            params.take("hostaddr"),
        ))
    };
    let login = |text: &str| -> Option<Login> {
        if is_connection_string(text) {
            return of_postgres(text);
        }
        let url = url::Url::parse(text).ok()?;
        let socket = url.scheme().ends_with("unix").then(|| url.path().to_owned());
        let host = socket.or_else(|| url.host_str().map(str::to_owned));
        let port = url.port().unwrap_or(default_port).to_string();
        let user = url
            .query_pairs()
            .find(|(name, _)| name == "user")
            .map(|(_, user)| user.into_owned());
        let user = user.unwrap_or_else(|| url.username().to_owned());
        Some((host.filter(|host| !host.is_empty())?, port, user, None))
    };
    login(one).is_some_and(|one| login(other) == Some(one))
}

/// Returns the place of a source for people, without secrets.
pub(crate) fn text(kind: &SourceKind) -> String {
    match kind {
        SourceKind::Postgres(source) => config::redact_url(&source.url),
        SourceKind::Redis(source) => config::redact_url(&source.url),
        SourceKind::Sqlite(source) => source.path.display().to_string(),
        SourceKind::Files(source) => source.root.display().to_string(),
        SourceKind::Docker(source) => match &source.socket {
            Some(socket) => socket.url(),
            None => "docker:".to_owned(),
        },
    }
}

/// What the plan that made a snapshot says of a source, as it was written.
fn plan_of<'a>(manifest: &'a Manifest, source: &ManifestSource) -> Option<&'a StoredSource> {
    let is = |plan: &StoredSource, key: &str, wanted: &str| plan.text(key) == Some(wanted);
    let mut plans = manifest.plan.sources().iter();
    plans.find(|plan| is(plan, "name", &source.name) && is(plan, "kind", &source.kind))
}

/// Returns where a source was by the word of the manifest: for people, and for whoever accepts it.
pub(crate) fn planned(manifest: &Manifest, source: &ManifestSource) -> Option<SourceKind> {
    said(manifest, source, config::foreign_url)
}

/// Returns what a source was by the word of the manifest, for names: where it was may not be among it.
pub(crate) fn called(manifest: &Manifest, source: &ManifestSource) -> Option<SourceKind> {
    said(manifest, source, config::foreign_name)
}

fn said(manifest: &Manifest, source: &ManifestSource, url: impl Fn(&str) -> Option<String>) -> Option<SourceKind> {
    let mut kind = read(source, plan_of(manifest, source)?, url)?;
    match &mut kind {
        SourceKind::Postgres(source) => source.foreign = true,
        SourceKind::Redis(source) => source.foreign = true,
        _ => {}
    }
    Some(kind)
}

/// Reads a source out of a plan. Files of passwords that it names are left aside: they are in the configuration or nowhere.
fn read(source: &ManifestSource, plan: &StoredSource, url: impl Fn(&str) -> Option<String>) -> Option<SourceKind> {
    let word = |name: &str| plan.text(name).filter(|text| !text.is_empty());
    let path = |name: &str| word(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(match source.kind.as_str() {
        "postgres" | "redis" => {
            let kind = config::parse_source_url(&url(word("url")?)?).ok()?.kind;
            if kind.word() != source.kind {
                return None;
            }
            kind
        }
        "sqlite" => SourceKind::Sqlite(SqliteSource {
            group: word("group").map(str::to_owned),
            ..SqliteSource::of(path("path")?)
        }),
        "files" => SourceKind::Files(FilesSource {
            root: path("root")?,
            include: plan.texts("include"),
            single_file: plan.is_on("single_file"),
            ..FilesSource::default()
        }),
        "docker" => SourceKind::Docker(plan.parse()?),
        _ => return None,
    })
}

/// Finds a source among those of this host: by its name and kind, or as a database of a configured server.
fn configured(
    sources: &[SourceConfig],
    source: &ManifestSource,
    planned: Option<&SourceKind>,
) -> Result<Option<SourceKind>> {
    let named = sources
        .iter()
        .find(|one| one.name == source.name && one.kind.word() == source.kind);
    match named.map(|one| one.kind.clone()) {
        // A server as a whole stands for its databases, which have names of their own.
        Some(SourceKind::Postgres(server)) if !cluster::names_database(&server.url) => {
            // Which of them the manifest may not say, nor the environment: then nobody does.
            let here = || crate::operations::open::postgres(&server).is_ok_and(|options| options.names_database);
            let found = database_of(&server, planned);
            Ok(found
                .or_else(|| here().then(|| server.clone()))
                .map(SourceKind::Postgres))
        }
        Some(SourceKind::Files(files)) => Ok(Some(SourceKind::Files(tree(files, planned)?))),
        Some(SourceKind::Sqlite(mut sqlite)) => {
            let same = |planned: &SourceKind| match planned {
                SourceKind::Sqlite(planned) => {
                    planned.group.is_none() && std::path::absolute(&sqlite.path).is_ok_and(|path| path == planned.path)
                }
                _ => false,
            };
            // A file whose name could be a pattern, on a host where it is not there yet.
            let is_file = sqlite.also.is_empty() && !sqlite.path.is_dir() && planned.is_some_and(same);
            if sqlite.is_several() && !is_file {
                // It was one database when the snapshot was made, and is a place for many now.
                return Ok(None);
            }
            sqlite.path = std::path::absolute(&sqlite.path)?;
            Ok(Some(SourceKind::Sqlite(sqlite)))
        }
        Some(kind) => Ok(Some(kind)),
        None => Ok(member(sources, source, planned).or_else(|| found_by(sources, source, planned))),
    }
}

/// Returns a database that a configured source of several finds at its place: the pattern is the operator's word for each.
fn found_by(sources: &[SourceConfig], source: &ManifestSource, planned: Option<&SourceKind>) -> Option<SourceKind> {
    let Some(SourceKind::Sqlite(planned)) = planned else {
        return None;
    };
    let group = planned.group.as_ref()?;
    sources.iter().find_map(|one| {
        let SourceKind::Sqlite(several) = &one.kind else {
            return None;
        };
        let found =
            one.name == *group && source.kind == "sqlite" && discover::covers(&several.patterns(), &planned.path);
        found.then(|| {
            SourceKind::Sqlite(SqliteSource {
                method: several.method,
                group: Some(group.clone()),
                ..SqliteSource::of(planned.path.clone())
            })
        })
    })
}

/// Returns a database of a server that is configured as a whole: `server.database`.
fn member(sources: &[SourceConfig], source: &ManifestSource, planned: Option<&SourceKind>) -> Option<SourceKind> {
    sources.iter().find_map(|one| {
        let SourceKind::Postgres(server) = &one.kind else {
            return None;
        };
        let suffix = source.name.strip_prefix(&one.name)?.strip_prefix('.')?;
        if source.kind != "postgres" || cluster::names_database(&server.url) {
            return None;
        }
        let found = database_of(server, planned)?;
        let plain = cluster::plain_name(&cluster::database_of(&found.url)?);
        let rest = suffix.strip_prefix(&plain)?;
        let numbered = rest
            .strip_prefix('-')
            .is_some_and(|number| number.parse::<u32>().is_ok());
        (rest.is_empty() || numbered).then_some(SourceKind::Postgres(found))
    })
}

/// Returns the database of a configured server that bears the name it had.
fn database_of(server: &PostgresSource, planned: Option<&SourceKind>) -> Option<PostgresSource> {
    let Some(SourceKind::Postgres(planned)) = planned else {
        return None;
    };
    let database = cluster::database_of(&planned.url)?;
    Some(PostgresSource {
        url: cluster::with_database(&server.url, &database),
        ..server.clone()
    })
}

/// Returns the directory of a tree. A single file goes back into the directory it lies in, also when it is gone.
fn tree(mut files: FilesSource, planned: Option<&SourceKind>) -> Result<FilesSource> {
    files.root = std::path::absolute(&files.root)?;
    if !(files.include.is_empty() && files.exclude.is_empty()) {
        return Ok(files);
    }
    if let Some((directory, pattern)) = single_file(&files.root)? {
        (files.root, files.include, files.single_file) = (directory, vec![pattern], true);
        return Ok(files);
    }
    let was_single = |name: &str| match planned {
        Some(SourceKind::Files(planned)) => planned.single_file && planned.include == [name],
        _ => false,
    };
    let name = files.root.file_name().map(crate::engines::files::spelling::literal);
    let parent = files.root.parent().map(Path::to_path_buf);
    if let (Some(parent), Some(name)) = (parent, name.filter(|name| was_single(name)))
        && files.root.symlink_metadata().is_err()
    {
        (files.root, files.include, files.single_file) = (parent, vec![name], true);
    }
    Ok(files)
}

/// Returns what is known of a docker source: the configuration's word, or with accepted places the manifest's. Else nothing
/// but the engine of this host is meant.
pub(crate) fn docker(place: Option<Place>) -> DockerSource {
    match place.map(|place| place.kind) {
        Some(SourceKind::Docker(docker)) => docker,
        _ => DockerSource::default(),
    }
}

/// Asks on the terminal whether the snapshot's word is to be followed; no without a terminal.
pub(crate) fn confirmed(session: &Session, manifest: &Manifest, unknown: &[&ManifestSource]) -> bool {
    let Some(ask) = session.ask else { return false };
    if unknown.iter().any(|source| planned(manifest, source).is_none()) {
        return false;
    }
    let mut question = format!("snapshot {} says where these sources were:\n", manifest.id);
    for line in lines(manifest, unknown) {
        question.push_str(&format!("  {line}\n"));
    }
    ask(&format!("{question}Nothing on this host says so. Go there?"))
}

/// The error for sources that have no place here, with the command line that goes on.
pub(crate) fn unknown(session: &Session, manifest: &Manifest, unknown: &[&ManifestSource]) -> Error {
    let names: Vec<String> = unknown.iter().map(|source| format!("\"{}\"", source.name)).collect();
    let message = match names.as_slice() {
        [one] => format!("nothing on this host says where source {one} goes"),
        several => format!("nothing on this host says where sources {} go", several.join(", ")),
    };
    let known: Vec<&ManifestSource> = unknown
        .iter()
        .copied()
        .filter(|s| planned(manifest, s).is_some())
        .collect();
    if known.len() < unknown.len() {
        return Error::invalid(message).with_hint(
            "The snapshot does not say either where it came from. Say it with --into, or write [source.NAME] into \
             wirevault.toml.",
        );
    }
    let original = session.command_line(&["--into-original"]);
    let place = match known.as_slice() {
        [one] => planned(manifest, one),
        _ => None,
    };
    let server = matches!(place, Some(SourceKind::Postgres(_) | SourceKind::Redis(_)));
    let place = place
        .map(|kind| text(&kind))
        .filter(|place| !place.contains(char::is_control));
    let how = match place.filter(|_| server) {
        Some(place) => format!(
            "{original} (with no password of this host), or {} (with it)",
            session.command_line(&["--into", &place])
        ),
        None => original,
    };
    let hint = format!(
        "The snapshot says {}. To go there: {how}. Elsewhere: --into URL or PATH, or [source.NAME] in wirevault.toml.",
        lines(manifest, &known).join(", ")
    );
    Error::invalid(message).with_hint(hint)
}

/// Names each source with the place the manifest says.
fn lines(manifest: &Manifest, sources: &[&ManifestSource]) -> Vec<String> {
    let line = |source: &&ManifestSource| {
        let place = planned(manifest, source).map_or_else(|| "nothing".to_owned(), |kind| text(&kind));
        format!("{} at {}", source.name, place.replace(char::is_control, "?"))
    };
    sources.iter().map(line).collect()
}
