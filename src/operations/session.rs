//! What every command starts from: configuration, memory, reporter, cancellation.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::archive::Pipeline;
pub(crate) use crate::base::cancel::cancelled;
use crate::base::cancel::or_cancelled;
use crate::base::clock::SharedClock;
use crate::base::error::{Error, Result};
use crate::base::memory::MemoryPlan;
use crate::base::nearest::nearest;
use crate::base::report::SharedReporter;
use crate::config::{self, Config, Environment, Plan, RepositoryConfig, SourceConfig};
use crate::engines::{Registry, Tools};
use crate::operations::local::LocalState;

/// The state of one invocation.
#[derive(Debug, Clone)]
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// What reads and restores sources of each kind.
    pub engines: Registry,
    /// Repository given on the command line: a URL or a configured name.
    pub repository: Option<String>,
    /// Endpoint given on the command line.
    pub endpoint: Option<String>,
    /// The name under which this host's snapshots are kept, given on the command line or by `WIREVAULT_HOST`.
    pub host: Option<String>,
    /// Bytes per second to and from each repository, given on the command line.
    pub limit_rate: Option<u64>,
    /// Buffers and workers.
    pub pipeline: Pipeline,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// What time it is.
    pub clock: SharedClock,
    /// Cancelled by a signal.
    pub cancel: CancellationToken,
    /// Directory for the named exceptions that need a local copy.
    pub spool_dir: PathBuf,
    /// Repositories in directories that this process has seen.
    pub seen: Seen,
    /// What this host remembers between runs.
    pub state: LocalState,
    /// Asks a person on the terminal for a yes, if there is one.
    pub ask: Option<fn(&str) -> bool>,
    /// The arguments of this command line, without the program's name: advice is a command line that can be run.
    pub arguments: Vec<String>,
}

/// Repositories in directories that were there: one that is gone later, with its disk, is not made anew in the mount point.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    /// Takes note of a repository.
    pub(crate) fn note(&self, location: &str) {
        if location.starts_with("file://") {
            let mut seen = self.0.lock().expect("no panic happens under this lock");
            seen.insert(location.to_owned());
        }
    }

    /// Returns whether it was there.
    pub(crate) fn knows(&self, location: &str) -> bool {
        let seen = self.0.lock().expect("no panic happens under this lock");
        seen.contains(location)
    }
}

/// Looks a variable of the process up, or the file of a secret that stands for it.
pub(crate) fn process_environment(name: &str) -> Option<String> {
    crate::base::environment::variable(name)
}

impl Session {
    /// Returns the same session, for another repository.
    pub(crate) fn of_repository(&self, repository: Option<String>) -> Self {
        Self {
            repository,
            ..self.clone()
        }
    }

    /// Returns the name under which this host's snapshots are kept: the one that was given, the configuration's, the kernel's.
    pub fn host(&self) -> String {
        let named = self.host.clone().or_else(|| self.config.host.clone());
        named.unwrap_or_else(kernel_host)
    }

    /// Returns the memory plan.
    pub fn memory(&self) -> &MemoryPlan {
        &self.pipeline.plan
    }

    /// Returns the repository this command works on.
    pub fn repository_config(&self) -> Result<RepositoryConfig> {
        let env = Environment::new(&process_environment);
        let found = config::repository_for(&self.config, self.repository.as_deref(), self.endpoint.as_deref(), &env);
        found.map(|repository| self.limited(repository))
    }

    /// Returns the repositories that are meant where a verb is about all of them: the given one, else those of the configuration.
    pub(crate) fn repositories(&self) -> Result<Vec<RepositoryConfig>> {
        if self.repository.is_some() || self.config.repositories.is_empty() {
            return self.repository_config().map(|one| vec![one]);
        }
        Ok(self.config.repositories.clone())
    }

    /// Returns this command line with further arguments, for a shell; without passwords.
    pub(crate) fn command_line(&self, more: &[&str]) -> String {
        let given = self.arguments.iter().map(|word| config::redact_url(word));
        let all = given.chain(more.iter().map(|word| (*word).to_owned()));
        let words: Vec<String> = all.map(|word| quoted(&word)).collect();
        format!("wirevault {}", words.join(" "))
    }

    fn limited(&self, mut repository: RepositoryConfig) -> RepositoryConfig {
        repository.rate_limit_bytes = self.limit_rate.or(repository.rate_limit_bytes);
        repository
    }

    /// Returns what engines work with.
    pub(crate) fn tools(&self) -> Tools {
        Tools {
            reporter: self.reporter.clone(),
            cancel: self.cancel.clone(),
            spool_dir: self.spool_dir.clone(),
        }
    }

    /// Reads the URL of a source.
    pub(crate) fn source_of_url(&self, url: &str) -> Result<SourceConfig> {
        config::parse_source_url_of(&self.engines, url)
    }

    /// Makes plans of jobs or source URLs; of all jobs when there are no targets.
    pub fn plans(&self, targets: &[String]) -> Result<Vec<Plan>> {
        let given = match &self.repository {
            Some(_) => Some(self.repository_config()?),
            None => None,
        };
        let (urls, names): (Vec<_>, Vec<_>) = targets
            .iter()
            .cloned()
            .partition(|target| target.contains(':') || self.engines.read_url(target).is_some());
        let mut plans = Vec::new();
        if targets.is_empty() {
            if self.config.jobs.is_empty() {
                return Err(Error::invalid(format!("{} has no job", self.config.origin)).with_hint(
                    "Pass sources as URLs (postgres://…, sqlite:PATH, files:PATH), or add [job.NAME] to \
                                wirevault.toml.",
                ));
            }
            for job in &self.config.jobs {
                plans.extend(config::plan_for_job(&self.config, job, given.as_ref())?);
            }
        }
        for name in &names {
            let Some(job) = self.config.jobs.iter().find(|job| job.name == *name) else {
                return Err(self.unknown_job(name));
            };
            plans.extend(config::plan_for_job(&self.config, job, given.as_ref())?);
        }
        if !urls.is_empty() {
            let sources = urls.iter().map(|url| self.source_of_url(url));
            let sources = sources.collect::<Result<Vec<_>>>()?;
            plans.push(config::plan_for_sources(sources, self.repository_config()?)?);
        }
        for plan in &mut plans {
            if self.endpoint.is_some() {
                plan.repository.endpoint.clone_from(&self.endpoint);
            }
            plan.repository = self.limited(plan.repository.clone());
        }
        Ok(plans)
    }

    fn unknown_job(&self, name: &str) -> Error {
        let jobs = self.config.jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>();
        match nearest(name, jobs.iter().copied()) {
            Some(near) => Error::invalid(format!("{} has no job \"{name}\"", self.config.origin))
                .with_hint(format!("Did you mean \"{near}\"?")),
            // With no job that is near, a URL was probably meant.
            None => match self.source_of_url(name) {
                Err(error) => error,
                Ok(_) => Error::invalid(format!("{} has no job \"{name}\"", self.config.origin)),
            },
        }
    }

    /// Awaits work, or fails as soon as a signal asks to end. Dropping the work must leave nothing half-done.
    pub async fn or_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        or_cancelled(&self.cancel, work).await
    }

    /// Fails if a signal asked to end.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            Err(cancelled())
        } else {
            Ok(())
        }
    }
}

/// Returns this host's name as the kernel knows it.
fn kernel_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() {
        "localhost".to_owned()
    } else {
        name.trim().to_owned()
    }
}

/// Writes a word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
