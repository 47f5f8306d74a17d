//! Where a source is, and by whose word: one resolver for restore, undo, recover and drills.
//!
//! A place is the operator's: `--into` and `--address`, the configuration or the environment of this host, a source that was
//! given on the command line of a backup here. What a manifest says is the word of whoever could write into the repository.
//! It is shown, and followed only by `--into-original`, `--accept-places` or a yes on the terminal; then with no secret of
//! this host that was not meant for that place.

use crate::base::error::{Error, Result};
use crate::config::SourceConfig;
use crate::engines::{PlanWord, Registry, SourceSpec, Spec};
use crate::operations::Session;
use crate::repository::ADHOC_JOB;
use crate::repository::{Manifest, ManifestSource, PRE_RESTORE_JOB};

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
    pub(crate) spec: Spec,
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
        let called = self.called(source);
        if let Some(spec) = configured(&self.session.config.sources, source, called.as_deref())? {
            // A source of the same name that was given by hand may be quite another one.
            let by_hand = matches!(self.manifest.job.as_str(), ADHOC_JOB | PRE_RESTORE_JOB);
            if let Some(other) = remembered.filter(|other| by_hand && other.place() != spec.place()) {
                return Err(self.ambiguous(source, spec.as_ref(), other.as_ref()));
            }
            let word = Word::Configured;
            return Ok(Some(Place { spec, word }));
        }
        if let Some(spec) = remembered {
            let word = Word::Remembered;
            return Ok(Some(Place { spec, word }));
        }
        let accepted = self.planned(source).filter(|_| self.accept);
        let word = Word::Accepted;
        Ok(accepted.map(|spec| Place { spec, word }))
    }

    /// Returns where a source was by the word of the manifest.
    pub(crate) fn planned(&self, source: &ManifestSource) -> Option<Spec> {
        planned(&self.session.engines, self.manifest, source)
    }

    /// Returns what a source was by the word of the manifest, for names alone.
    pub(crate) fn called(&self, source: &ManifestSource) -> Option<Spec> {
        called(&self.session.engines, self.manifest, source)
    }

    fn remembered(&self, source: &ManifestSource) -> Option<Spec> {
        let plan = self.manifest.plan_of(source)?;
        let known = self.session.state.knows_source(&self.manifest.repository, plan);
        let engine = self.session.engines.of_kind(&source.kind).filter(|_| known)?;
        engine.read_plan(plan, PlanWord::Own)
    }

    fn ambiguous(&self, source: &ManifestSource, configured: &dyn SourceSpec, remembered: &dyn SourceSpec) -> Error {
        let given = remembered.place();
        let message = format!(
            "source \"{}\" of this snapshot was backed up from the command line as \"{given}\", but {} has a source \
             of this name at \"{}\"",
            source.name,
            self.session.config.origin,
            configured.place()
        );
        Error::invalid(message).with_hint("Choose the target with --into.")
    }
}

/// Returns what a source is that was given on the command line; a password that is configured for the same server and user
/// goes with it.
pub(crate) fn given(session: &Session, url: &str) -> Result<Spec> {
    let mut spec = session.source_of_url(url)?.kind.into_spec();
    let mut known = session.config.sources.iter().map(|source| source.kind.spec());
    known.any(|known| spec.borrow_login(known));
    Ok(spec)
}

/// Returns where a source was by the word of the manifest: for people, and for whoever accepts it.
pub(crate) fn planned(engines: &Registry, manifest: &Manifest, source: &ManifestSource) -> Option<Spec> {
    read(engines, manifest, source, PlanWord::Foreign)
}

/// Returns what a source was by the word of the manifest, for names: where it was may not be among it.
pub(crate) fn called(engines: &Registry, manifest: &Manifest, source: &ManifestSource) -> Option<Spec> {
    read(engines, manifest, source, PlanWord::Name)
}

fn read(engines: &Registry, manifest: &Manifest, source: &ManifestSource, word: PlanWord) -> Option<Spec> {
    let engine = engines.of_kind(&source.kind)?;
    engine.read_plan(manifest.plan_of(source)?, word)
}

/// Finds a source among those of this host: by its name and kind, or as one of those that a configured source stands for.
fn configured(
    sources: &[SourceConfig],
    source: &ManifestSource,
    called: Option<&dyn SourceSpec>,
) -> Result<Option<Spec>> {
    let mut of_kind = sources.iter().filter(|one| one.kind.word() == source.kind);
    if let Some(named) = of_kind.clone().find(|one| one.name == source.name) {
        return named.kind.spec().place_of(called);
    }
    Ok(of_kind.find_map(|one| one.kind.spec().place_of_member(&one.name, &source.name, called)))
}

/// Asks on the terminal whether the snapshot's word is to be followed; no without a terminal.
pub(crate) fn confirmed(session: &Session, manifest: &Manifest, unknown: &[&ManifestSource]) -> bool {
    let Some(ask) = session.ask else { return false };
    let engines = &session.engines;
    if unknown
        .iter()
        .any(|source| planned(engines, manifest, source).is_none())
    {
        return false;
    }
    let mut question = format!("snapshot {} recorded where these sources were:\n", manifest.id);
    for line in lines(engines, manifest, unknown) {
        question.push_str(&format!("  {line}\n"));
    }
    ask(&format!(
        "{question}This host has no configuration for them. Restore there?"
    ))
}

/// The error for sources that have no place here, with the command line that goes on.
pub(crate) fn unknown(session: &Session, manifest: &Manifest, unknown: &[&ManifestSource]) -> Error {
    let engines = &session.engines;
    let names: Vec<String> = unknown.iter().map(|source| format!("\"{}\"", source.name)).collect();
    let message = match names.as_slice() {
        [one] => format!("no target for source {one} is configured on this host"),
        several => format!(
            "no target for sources {} is configured on this host",
            several.join(", ")
        ),
    };
    let known: Vec<&ManifestSource> = unknown
        .iter()
        .copied()
        .filter(|s| planned(engines, manifest, s).is_some())
        .collect();
    if known.len() < unknown.len() {
        return Error::invalid(message).with_hint(
            "The snapshot does not record its place either. Use --into, or add [source.NAME] to wirevault.toml.",
        );
    }
    let original = session.command_line(&["--into-original"]);
    let planned = match known.as_slice() {
        [one] => planned(engines, manifest, one),
        _ => None,
    };
    // Whoever logs in there as the snapshot's word gets no password.
    let server = planned.filter(|spec| spec.is_foreign()).map(|spec| spec.place());
    let how = match server.filter(|place| !place.contains(char::is_control)) {
        Some(place) => format!(
            "{original} (without this host's password), or {} (with it)",
            session.command_line(&["--into", &place])
        ),
        None => original,
    };
    let hint = format!(
        "The snapshot recorded {}. To restore there: {how}. To restore elsewhere: --into URL or PATH, or \
         [source.NAME] in wirevault.toml.",
        lines(engines, manifest, &known).join(", ")
    );
    Error::invalid(message).with_hint(hint)
}

/// Names each source with the place the manifest says.
fn lines(engines: &Registry, manifest: &Manifest, sources: &[&ManifestSource]) -> Vec<String> {
    let line = |source: &&ManifestSource| {
        let place = planned(engines, manifest, source).map_or_else(|| "nothing".to_owned(), |spec| spec.place());
        format!("{} at {}", source.name, place.replace(char::is_control, "?"))
    };
    sources.iter().map(line).collect()
}
