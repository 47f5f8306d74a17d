//! Which sources of a snapshot are restored, and what brings each of them back to its place.

use crate::base::error::{Error, Result};
use crate::base::nearest::nearest;
use crate::config::redact_url;
use crate::engines::{Engine, EngineKind, GivenPlace, Registry, RestoreChoices, RestoreRequest, Restorer, Spec};
use crate::operations::Session;
use crate::operations::options;
use crate::operations::places::{self, Resolver};
use crate::operations::snapshots::sources_named;
use crate::repository::{Manifest, ManifestSource};

/// Returns the sources that are meant; refuses what was chosen of others.
pub(crate) fn select<'a>(
    engines: &Registry,
    manifest: &'a Manifest,
    options: &options::Restore,
) -> Result<Vec<&'a ManifestSource>> {
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
    let kind_of = |source: &ManifestSource| engines.of_kind(&source.kind).map(Engine::kind);
    let has_files = |source: &ManifestSource| engines.of_kind(&source.kind).is_some_and(Engine::has_files);
    if let Some(other) = selected
        .iter()
        .find(|source| !options.path.is_empty() && !has_files(source))
    {
        return Err(Error::invalid(format!(
            "--path selects files, but source \"{}\" is of kind {}",
            other.name, other.kind
        ))
        .with_hint("Name one source of kind files with --source."));
    }
    for kind in options.engines.given() {
        if let Some(other) = selected.iter().find(|source| kind_of(source) != Some(kind)) {
            return Err(Error::invalid(format!(
                "flags for {} were given, but source \"{}\" is of kind {}",
                kind.name(),
                other.name,
                other.kind
            ))
            .with_hint(format!("Name one source of kind {kind} with --source.")));
        }
    }
    Ok(selected)
}

/// A source, and what brings it back.
#[derive(Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) source: &'a ManifestSource,
    pub(crate) restorer: Box<dyn Restorer>,
}

/// Decides where each source goes, of those that may come back together with others: by `--into`, else back to where it belongs by the word of this host. What only the
/// manifest says is followed if the operator says so.
pub(crate) fn destinations<'a>(
    session: &Session,
    manifest: &'a Manifest,
    selected: &[&'a ManifestSource],
    is_one_of_several: bool,
    options: &options::Restore,
) -> Result<Vec<Destination<'a>>> {
    let mut resolver = Resolver {
        session,
        manifest,
        accept: options.into_original,
    };
    let (mut found, unknown) = look(&resolver, selected, is_one_of_several, options)?;
    if !unknown.is_empty() {
        if !places::confirmed(session, manifest, &unknown) {
            return Err(places::unknown(session, manifest, &unknown));
        }
        resolver.accept = true;
        found = look(&resolver, selected, is_one_of_several, options)?.0;
    }
    Ok(found)
}

/// Returns the sources that have a place, and those that have none.
fn look<'a>(
    resolver: &Resolver<'_>,
    selected: &[&'a ManifestSource],
    is_one_of_several: bool,
    options: &options::Restore,
) -> Result<(Vec<Destination<'a>>, Vec<&'a ManifestSource>)> {
    let session = resolver.session;
    let into = options.into.as_deref().map(|text| given_place(session, text));
    let into = into.transpose()?;
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for &source in selected {
        let engine = engine_of(&session.engines, source)?;
        let place = match &into {
            // What is said here of the source is not asked for its place then.
            Some(_) => resolver.place(source).unwrap_or_default(),
            None => resolver.place(source)?,
        };
        if into.is_none() && place.is_none() {
            unknown.push(source);
            continue;
        }
        let place = place.map(|place| place.spec);
        let request = request(resolver, engine.kind(), source, options, is_one_of_several);
        let restorer = engine.restorer(RestoreRequest {
            into: into.clone(),
            place,
            ..request
        })?;
        found.push(Destination { source, restorer });
    }
    Ok((found, unknown))
}

/// A source that goes to a place which the caller has found.
pub(crate) fn given<'a>(
    session: &Session,
    manifest: &'a Manifest,
    source: &'a ManifestSource,
    options: &options::Restore,
    place: Spec,
) -> Result<Destination<'a>> {
    let resolver = Resolver {
        session,
        manifest,
        accept: options.into_original,
    };
    let engine = engine_of(&session.engines, source)?;
    let request = request(&resolver, engine.kind(), source, options, false);
    let restorer = engine.restorer(RestoreRequest {
        place: Some(place),
        ..request
    })?;
    Ok(Destination { source, restorer })
}

/// Returns the engine of a source, or says that only another release has it.
pub(crate) fn engine_of<'a>(engines: &'a Registry, source: &ManifestSource) -> Result<&'a dyn Engine> {
    engines.of_kind(&source.kind).ok_or_else(|| {
        Error::unsupported(format!(
            "this version cannot restore sources of kind \"{}\"",
            source.kind
        ))
    })
}

/// Says what is asked of the engine, but for the place.
fn request(
    resolver: &Resolver<'_>,
    kind: EngineKind,
    source: &ManifestSource,
    options: &options::Restore,
    is_one_of_several: bool,
) -> RestoreRequest {
    let session = resolver.session;
    let mut sources = session.config.sources.iter();
    RestoreRequest {
        source: source.name.clone(),
        kind,
        snapshot: resolver.manifest.id.to_string(),
        outcome: source.outcome.clone(),
        into: None,
        place: None,
        called: resolver.called(source),
        is_one_of_several,
        // The configuration here says it, not the backup's.
        wants_devices: sources.any(|one| one.name == source.name && one.kind.spec().wants_devices()),
        options: RestoreChoices {
            clean: options.clean,
            delete: options.delete,
            paths: options.path.clone(),
            trust_times: options.trust_times,
            devices: options.devices,
            parallel: usize::from(options.parallel),
            dry_run: options.dry_run,
            engines: options.engines.clone(),
        },
        tools: session.tools(),
    }
}

/// Reads `--into`. A place that an engine knows brings the password that is configured for it.
fn given_place(session: &Session, text: &str) -> Result<GivenPlace> {
    let spec = if session.engines.read_url(text).is_some() {
        Some(places::given(session, text)?)
    } else {
        refuse_unknown_scheme(&session.engines, text)?;
        None
    };
    let text = text.to_owned();
    Ok(GivenPlace { text, spec })
}

/// Refuses what looks like a URL and is none that a source goes into: it would become the name of a directory.
fn refuse_unknown_scheme(engines: &Registry, into: &str) -> Result<()> {
    let Some((scheme, rest)) = into.split_once(':') else {
        return Ok(());
    };
    let known: Vec<&str> = engines.schemes().chain(["file"]).collect();
    let right = if rest.starts_with("//") {
        scheme.contains(['/', '.']) || scheme == "file"
    } else {
        // A name with a colon is a path, unless it is all but a scheme.
        let is_nearly = |known: &&str| strsim::jaro_winkler(known, scheme) > 0.9;
        scheme == "file" || !known.iter().any(is_nearly)
    };
    if right {
        return Ok(());
    }
    let near = nearest(scheme, known.iter().copied());
    let message = format!("cannot restore into \"{}\"", redact_url(into));
    Err(Error::invalid(message).with_hint(format!(
        "{}Databases go into postgres://…, Redis servers into redis://…, files and SQLite databases into a path.",
        near.map_or_else(String::new, |near| format!("Did you mean \"{near}\"? "))
    )))
}
