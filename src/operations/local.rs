//! What this host remembers between runs: the state directory.
//!
//! Two things that a repository must not be asked about itself: which repository stands at a URL, and which sources were
//! given on the command line of a backup here. The second makes a place the operator's own word, so that a restore may go
//! back there; a manifest that names another place is another word. Everything is a help: a host without a state directory,
//! or with an empty one, asks where it would otherwise have known.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::error::{Context, Error, Result};
use crate::config::SourceConfig;
use crate::repository::StoredSource;
use crate::repository::document::sha256_hex;

/// Sources that are remembered of one repository; the oldest are forgotten first.
const MAX_SOURCES: usize = 500;

/// Repositories that are remembered at one place: disks that take turns are several.
const MAX_IDS: usize = 16;

/// A file of the state directory is not read beyond this, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// The state directory of this host, if it has one.
#[derive(Debug, Clone, Default)]
pub struct LocalState {
    root: Option<PathBuf>,
}

/// The repositories that stood at one place.
#[derive(Debug, Default, Serialize, serde::Deserialize)]
struct Known {
    place: String,
    /// Their ids, the last one seen last.
    ids: Vec<String>,
}

impl LocalState {
    /// Finds the state directory: `WIREVAULT_STATE_DIR`, that of systemd, `/var/lib/wirevault` for root, else the user's own.
    pub fn find(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let named = |name: &str| env(name).filter(|value| value.starts_with('/'));
        // systemd may name several directories, joined by colons.
        let of_service = named("STATE_DIRECTORY").map(|all| all.split(':').next().unwrap_or_default().to_owned());
        let given = named("WIREVAULT_STATE_DIR").or(of_service).map(PathBuf::from);
        let of_root = || {
            let root = rustix::process::geteuid().is_root();
            root.then(|| PathBuf::from("/var/lib/wirevault"))
        };
        let of_user = || {
            let state = named("XDG_STATE_HOME").map(PathBuf::from);
            let state = state.or_else(|| Some(Path::new(&named("HOME")?).join(".local/state")));
            state.map(|state| state.join("wirevault"))
        };
        Self {
            root: given.or_else(of_root).or_else(of_user),
        }
    }

    /// Returns the state directory, if there is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Returns the ids of the repositories that were seen at a place, the last one last.
    pub(crate) fn repositories_at(&self, place: &str) -> Vec<String> {
        let known: Option<Known> = self.read("repositories", place);
        known.map(|known| known.ids).unwrap_or_default()
    }

    /// Remembers the repository that was seen at a place.
    pub(crate) fn remember_repository(&self, place: &str, id: &str) {
        if self.repositories_at(place).last().is_some_and(|last| last == id) {
            return;
        }
        self.change("repositories", place, |known: &mut Known| {
            place.clone_into(&mut known.place);
            known.ids.retain(|other| other != id);
            known.ids.push(id.to_owned());
            let excess = known.ids.len().saturating_sub(MAX_IDS);
            known.ids.drain(..excess);
        });
    }

    /// Remembers the sources that were given on the command line of a backup into a repository.
    pub(crate) fn remember_sources(&self, repository: &str, sources: &[SourceConfig]) {
        let given: Vec<StoredSource> = sources.iter().filter_map(|one| StoredSource::of(one).ok()).collect();
        if given.iter().all(|one| self.knows_source(repository, one)) {
            return;
        }
        self.change("sources", repository, |known: &mut Vec<StoredSource>| {
            known.retain(|one| !given.contains(one));
            known.extend(given);
            let excess = known.len().saturating_sub(MAX_SOURCES);
            known.drain(..excess);
        });
    }

    /// Returns whether a source of a manifest is, in every word, one that was given on the command line here.
    pub(crate) fn knows_source(&self, repository: &str, planned: &StoredSource) -> bool {
        let known: Option<Vec<StoredSource>> = self.read("sources", repository);
        known.is_some_and(|known| known.contains(planned))
    }

    /// Ids and URLs come from elsewhere, so a file is named by a digest of them.
    fn path(&self, folder: &str, key: &str) -> Option<PathBuf> {
        let name = format!("{}.json", sha256_hex(key.as_bytes()).get(..32)?);
        Some(self.root.as_ref()?.join(folder).join(name))
    }

    fn read<T: DeserializeOwned>(&self, folder: &str, key: &str) -> Option<T> {
        let path = self.path(folder, key)?;
        match read_file(&path) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("unable to read the state directory: {}", error.chain());
                None
            }
        }
    }

    /// Changes one file under a lock. Where nothing can be written, nothing is remembered, and the work goes on.
    fn change<T: DeserializeOwned + Serialize + Default>(&self, folder: &str, key: &str, edit: impl FnOnce(&mut T)) {
        let (Some(root), Some(path)) = (&self.root, self.path(folder, key)) else {
            return;
        };
        let changed = make_directory(&root.join(folder)).and_then(|()| {
            let lock = std::fs::File::create(root.join(folder).join(".lock"))?;
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            let mut value: T = read_file(&path).ok().flatten().unwrap_or_default();
            edit(&mut value);
            let bytes = serde_json::to_vec(&value).map_err(|e| Error::invalid("write as JSON").with_cause(e))?;
            let temporary = path.with_extension("new");
            std::fs::write(&temporary, bytes)?;
            std::fs::rename(&temporary, &path)?;
            Ok(())
        });
        if let Err(error) = changed {
            tracing::debug!(
                "unable to write to the state directory \"{}\": {}",
                root.display(),
                error.chain()
            );
        }
    }
}

fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    // No password is in it, and what root remembers by hand the service's user is to know too.
    builder.recursive(true).mode(0o755).create(path)?;
    Ok(())
}

fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("read \"{}\"", path.display()))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let value = serde_json::from_slice(&bytes);
    let value = value.map_err(|e| Error::corrupt(format!("\"{}\" is damaged", path.display())).with_cause(e))?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::parse_source_url;

    fn state(root: &Path) -> LocalState {
        let root = root.display().to_string();
        LocalState::find(&|name| (name == "WIREVAULT_STATE_DIR").then(|| root.clone()))
    }

    #[test]
    fn what_is_remembered_outlives_the_process_and_stays_bounded() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..20 {
            state(place.path()).remember_repository("file:///nas/repo", &format!("{n:032x}"));
        }
        let ids = state(place.path()).repositories_at("file:///nas/repo");
        assert_eq!(
            (ids.len(), ids.last().unwrap().as_str()),
            (MAX_IDS, format!("{:032x}", 19).as_str())
        );
        assert!(state(place.path()).repositories_at("file:///other").is_empty());
    }

    #[test]
    fn a_source_is_known_only_as_it_was_given() {
        let place = tempfile::tempdir().unwrap();
        let given = parse_source_url("postgres://app:geheim@db/app").unwrap();
        let planned = StoredSource::of(&given).unwrap();
        state(place.path()).remember_sources("r", std::slice::from_ref(&given));
        assert!(state(place.path()).knows_source("r", &planned));
        assert!(!state(place.path()).knows_source("../r", &planned));
        let mut forged = serde_json::to_value(&planned).unwrap();
        forged["url"] = "postgres://app@db/app?password_file=/etc/shadow".into();
        let forged: StoredSource = serde_json::from_value(forged).unwrap();
        assert!(!state(place.path()).knows_source("r", &forged));
        let files = std::fs::read_dir(place.path().join("sources")).unwrap().flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.path()).unwrap());
        assert!(texts.into_iter().all(|text| !text.contains("geheim")));
    }

    #[test]
    fn a_host_without_a_state_directory_remembers_nothing_and_goes_on() {
        let none = LocalState::default();
        none.remember_repository("file:///r", "1");
        assert!(none.repositories_at("file:///r").is_empty());
    }
}
