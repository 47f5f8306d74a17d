//! What is configured of the world around the jobs: hooks, notifications, pings, drills, clean-up rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::url::checked_name;
use crate::policy::schedule::Timing;
use lettre::message::Mailbox;

use crate::base::error::{Context, Error, Result};
use crate::base::secret::Secret;
use crate::base::units;
use crate::engines::docker::api::Address;

/// An address that is called, or a program that is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Is sent a POST.
    Http(Secret),
    /// Program and arguments; no shell.
    Command(Vec<String>),
}

/// Hooks of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before the run; if it fails, the run fails.
    pub before: Option<Hook>,
    /// After a run that brought a snapshot.
    pub after: Option<Hook>,
    /// After a run that brought none.
    pub on_failure: Option<Hook>,
}

/// Addresses of a dead man's switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ping {
    /// Called when a run begins.
    pub start: Option<Secret>,
    /// Called when it succeeded.
    pub success: Option<Secret>,
    /// Called when it failed, with the error as body.
    pub fail: Option<Secret>,
}

/// One channel that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: NotifyKind,
    /// Where it listens; such addresses are secrets.
    pub url: Secret,
    /// Sent as bearer token; of mail, the password of the address's user.
    pub token: Option<Secret>,
    /// Sender of mail.
    pub from: Option<String>,
    /// Receivers of mail.
    pub to: Vec<String>,
    /// Of which jobs and drills; of all when empty.
    pub jobs: Vec<String>,
    /// Of what.
    pub on: Vec<Occasion>,
}

/// Forms of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyKind {
    /// A JSON document.
    Webhook,
    /// `{"text": …}`: Slack, Mattermost, Rocket.Chat.
    Slack,
    /// Text with headers: ntfy.
    Ntfy,
    /// Mail by SMTP.
    Email,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A run failed, wholly or in part.
    Failure,
    /// The first run that is well after one that was not.
    Recovery,
    /// Times passed without a run.
    Missed,
}

/// A verification on schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// Its name.
    pub name: String,
    /// When.
    pub timing: Timing,
    /// `stored`, `content` or `restored`.
    pub level: String,
    /// Snapshots, as `verify` takes them; the latest of each job when empty.
    pub snapshots: Vec<String>,
    /// Servers for scratch places of level `restored`, at most one of each engine.
    pub into: Vec<Secret>,
    /// In which repository, if there are several.
    pub repository: Option<String>,
    /// A drill that takes longer is ended.
    pub timeout: Option<Duration>,
}

/// A rule by age for plain local files, or for what nobody uses on a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupConfig {
    /// Its name.
    pub name: String,
    /// What it reaches.
    pub reach: Reach,
    /// What was written, or seen in use, within this stays.
    pub keep: Duration,
    /// Whether `run` removes; otherwise it only says what it would remove.
    pub delete: bool,
    /// When `run` applies it.
    pub timing: Timing,
}

/// What a clean-up rule reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Plain files.
    Files {
        /// The directory.
        path: PathBuf,
        /// Which files below it.
        globs: Vec<String>,
    },
    /// Things of a Docker engine.
    Docker {
        /// Where the engine listens, if not at the usual place.
        socket: Option<Address>,
        /// Tagged images that no registry knows, as patterns; others need no name.
        images: Vec<String>,
        /// Stopped containers.
        containers: Vec<String>,
        /// Volumes without a container.
        volumes: Vec<String>,
        /// What stays.
        exclude: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawHook {
    Url(String),
    Command(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawPing {
    Base(String),
    Each {
        start: Option<String>,
        success: Option<String>,
        fail: Option<String>,
    },
}

#[derive(Deserialize)]
pub(super) struct RawNotify {
    kind: NotifyKind,
    url: Option<String>,
    url_file: Option<PathBuf>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    jobs: Vec<String>,
    on: Option<Vec<Occasion>>,
}

/// One URL, or one for each engine.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Places {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Places {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(place) => vec![place],
            Self::Several(places) => places,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawDrill {
    schedule: String,
    timezone: Option<String>,
    jitter: Option<String>,
    #[serde(default = "content")]
    level: String,
    #[serde(default)]
    snapshots: Vec<String>,
    #[serde(default)]
    into: Places,
    repository: Option<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawCleanup {
    path: Option<PathBuf>,
    glob: Option<Globs>,
    keep: Option<String>,
    unused_for: Option<String>,
    socket: Option<Address>,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    containers: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    delete: bool,
    schedule: Option<String>,
    timezone: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Globs {
    One(String),
    Several(Vec<String>),
}

fn content() -> String {
    "content".to_owned()
}

fn address(text: &str) -> Result<Secret> {
    let url = url::Url::parse(text).ok();
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Ok(Secret::new(text));
    }
    Err(Error::invalid("an address to call is not a URL").with_hint("Write http://… or https://…"))
}

fn mail_server(text: &str) -> Result<Secret> {
    let url = url::Url::parse(text).ok();
    if url.is_some_and(|url| matches!(url.scheme(), "smtp" | "smtps") && url.has_host()) {
        return Ok(Secret::new(text));
    }
    Err(Error::invalid("the address of a mail server is not a URL")
        .with_hint("Write smtp://user@host (STARTTLS) or smtps://user@host, and the password into token_file."))
}

/// Reads one address of a person.
pub fn mailbox(text: &str) -> Result<Mailbox> {
    text.parse().map_err(|e| {
        Error::invalid(format!("\"{text}\" is not a mail address"))
            .with_cause(e)
            .with_hint("Write it as ops@example.org, or \"Operations <ops@example.org>\".")
    })
}

/// Mail needs a sender and receivers; other channels have none.
fn people(is_mail: bool, from: Option<&str>, to: &[String]) -> Result<()> {
    if !is_mail {
        return if from.is_none() && to.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid("\"from\" and \"to\" belong to kind = \"email\""))
        };
    }
    for text in from.into_iter().chain(to.iter().map(String::as_str)) {
        mailbox(text)?;
    }
    if from.is_none() || to.is_empty() {
        return Err(Error::invalid("mail needs a sender and a receiver")
            .with_hint("Add lines from = \"backup@example.org\" and to = [\"ops@example.org\"]."));
    }
    Ok(())
}

pub(super) fn from_file(path: &std::path::Path) -> Result<String> {
    let text = crate::base::small_file::read_small(path).with_context(|| format!("read \"{}\"", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn duration(text: Option<String>, key: &str) -> Result<Option<Duration>> {
    text.map(|text| units::parse_duration(&text))
        .transpose()
        .context(key.to_owned())
}

pub(super) fn hook(raw: Option<RawHook>, key: &str) -> Result<Option<Hook>> {
    raw.map(|raw| match raw {
        RawHook::Url(text) => address(&text).map(Hook::Http).map_err(|error| {
            error.with_hint("Write an address (http://…), or a program with its arguments as a list: [\"/path/program\", \"argument\"].")
        }),
        RawHook::Command(words) if words.first().is_some_and(|program| program.starts_with('/')) => {
            Ok(Hook::Command(words))
        }
        RawHook::Command(_) => Err(Error::invalid("a program is not named by its full path")
            .with_hint("Write [\"/path/program\", \"argument\"]; no shell is started.")),
    })
    .transpose()
    .context(key.to_owned())
}

pub(super) fn ping(raw: Option<RawPing>) -> Result<Ping> {
    let secret = |text: Option<String>| text.as_deref().map(address).transpose().context("ping");
    Ok(match raw {
        None => Ping::default(),
        Some(RawPing::Each { start, success, fail }) => Ping {
            start: secret(start)?,
            success: secret(success)?,
            fail: secret(fail)?,
        },
        Some(RawPing::Base(base)) => {
            let base = base.trim_end_matches('/');
            Ping {
                start: secret(Some(format!("{base}/start")))?,
                success: secret(Some(base.to_owned()))?,
                fail: secret(Some(format!("{base}/fail")))?,
            }
        }
    })
}

pub(super) fn notify(name: String, raw: RawNotify, known: &[&str]) -> Result<NotifyConfig> {
    let section = || format!("[notify.{name}]");
    let url = match (raw.url, raw.url_file) {
        (Some(url), None) => url,
        (None, Some(path)) => from_file(&path).with_context(section)?,
        _ => {
            return Err(Error::invalid("one of \"url\" and \"url_file\" is needed")
                .with_hint("Add a line url = \"https://…\".")
                .context(section()));
        }
    };
    let token = match (raw.token, raw.token_file) {
        (Some(token), _) => Some(token),
        (None, path) => path.as_deref().map(from_file).transpose().with_context(section)?,
    };
    for job in &raw.jobs {
        super::file::defined(job, "job", known, &section())?;
    }
    let is_mail = raw.kind == NotifyKind::Email;
    let url = if is_mail { mail_server(&url) } else { address(&url) };
    people(is_mail, raw.from.as_deref(), &raw.to).with_context(section)?;
    Ok(NotifyConfig {
        url: url.with_context(section)?,
        from: raw.from,
        to: raw.to,
        token: token.map(Secret::new),
        kind: raw.kind,
        jobs: raw.jobs,
        on: raw
            .on
            .unwrap_or_else(|| vec![Occasion::Failure, Occasion::Recovery, Occasion::Missed]),
        name,
    })
}

pub(super) fn drill(name: String, raw: RawDrill, repositories: &[&str]) -> Result<DrillConfig> {
    let section = format!("[drill.{name}]");
    checked_name(&name).context(section.clone())?;
    let levels = ["stored", "content", "restored"];
    super::file::one_of(&raw.level, "level", &levels, &section)?;
    if let Some(repository) = &raw.repository {
        super::file::defined(repository, "repository", repositories, &section)?;
    }
    let into = raw.into.into_list();
    if !into.is_empty() && raw.level != "restored" {
        return Err(
            Error::invalid(format!("{section} has \"into\", but level {}", raw.level))
                .with_hint("Scratch databases belong to level = \"restored\"."),
        );
    }
    for redis in [true, false] {
        if into
            .iter()
            .filter(|url| crate::engines::redis::source_url::is_redis_url(url) == redis)
            .count()
            > 1
        {
            return Err(
                Error::invalid(format!("{section} names several servers of one engine in \"into\""))
                    .with_hint("Write one of each: into = [\"postgres://…\", \"redis://…\"]."),
            );
        }
    }
    Ok(DrillConfig {
        name,
        timing: Timing {
            schedule: raw.schedule,
            timezone: raw.timezone,
            jitter: duration(raw.jitter, "jitter")?.unwrap_or_default(),
        },
        level: raw.level,
        snapshots: raw.snapshots,
        into: into.into_iter().map(Secret::new).collect(),
        repository: raw.repository,
        timeout: duration(raw.timeout, "timeout")?,
    })
}

pub(super) fn cleanup(name: String, raw: RawCleanup) -> Result<CleanupConfig> {
    let section = format!("[cleanup.{name}]");
    let (key, age) = match (&raw.keep, &raw.unused_for) {
        (Some(keep), None) => ("keep", keep.clone()),
        (None, Some(unused_for)) => ("unused_for", unused_for.clone()),
        _ => {
            return Err(
                Error::invalid(format!("{section} has not exactly one of \"keep\" and \"unused_for\"")).with_hint(
                    "Write path, glob and keep = \"30d\" for plain files, or unused_for = \"30d\" for what nobody uses on a \
                     Docker engine.",
                ),
            );
        }
    };
    let keep = units::parse_duration(&age).with_context(|| section.clone())?;
    if keep < Duration::from_secs(3600) {
        return Err(
            Error::invalid(format!("{key} = \"{age}\" of {section} is less than an hour"))
                .with_hint(format!("Write an age, for example {key} = \"30d\".")),
        );
    }
    let timing = Timing {
        schedule: raw.schedule.clone().unwrap_or_else(|| "30 4 * * *".to_owned()),
        timezone: raw.timezone.clone(),
        jitter: Duration::ZERO,
    };
    Ok(CleanupConfig {
        delete: raw.delete,
        reach: if key == "keep" {
            files(raw, &section)?
        } else {
            docker(raw, &section)?
        },
        keep,
        timing,
        name,
    })
}

fn files(raw: RawCleanup, section: &str) -> Result<Reach> {
    let others = [&raw.images, &raw.containers, &raw.volumes, &raw.exclude];
    let (Some(path), Some(glob)) = (raw.path, raw.glob) else {
        return Err(Error::invalid(format!("{section} has no \"path\" or no \"glob\""))
            .with_hint("Write for example path = \"/var/log/app\", glob = \"*.log\", keep = \"30d\"."));
    };
    if raw.socket.is_some() || others.iter().any(|list| !list.is_empty()) {
        return Err(
            Error::invalid(format!("{section} has keys for files and for a Docker engine"))
                .with_hint("Write two sections: one with path, glob and keep, one with unused_for."),
        );
    }
    if !path.is_absolute() || path.components().count() < 3 {
        return Err(
            Error::invalid(format!("path \"{}\" of {section} is too wide", path.display()))
                .with_hint("Name a directory by its full path, at least two levels deep, for example /var/log/app."),
        );
    }
    Ok(Reach::Files {
        path,
        globs: match glob {
            Globs::One(one) => vec![one],
            Globs::Several(several) => several,
        },
    })
}

fn docker(raw: RawCleanup, section: &str) -> Result<Reach> {
    if raw.path.is_some() || raw.glob.is_some() {
        return Err(
            Error::invalid(format!("{section} has \"unused_for\" and a path or glob"))
                .with_hint("For plain files write keep instead of unused_for."),
        );
    }
    for pattern in [&raw.images, &raw.containers, &raw.volumes, &raw.exclude]
        .into_iter()
        .flatten()
    {
        globset::Glob::new(pattern)
            .map_err(|e| Error::invalid(format!("invalid pattern \"{pattern}\" in {section}")).with_cause(e))?;
    }
    Ok(Reach::Docker {
        socket: raw.socket,
        images: raw.images,
        containers: raw.containers,
        volumes: raw.volumes,
        exclude: raw.exclude,
    })
}

/// A clean-up rule must not reach a repository: its data are removed by the keep rules alone.
pub(super) fn spares_repositories(rule: &CleanupConfig, urls: &[String]) -> Result<()> {
    let Reach::Files { path, .. } = &rule.reach else {
        return Ok(());
    };
    for url in urls {
        let Some(directory) = url.strip_prefix("file://").map(std::path::Path::new) else {
            continue;
        };
        if directory.starts_with(path) || path.starts_with(directory) {
            return Err(
                Error::invalid(format!("[cleanup.{}] reaches the repository {url}", rule.name))
                    .with_hint("Snapshots go by the keep rules of their jobs; choose another path."),
            );
        }
    }
    Ok(())
}

/// Sections by name.
pub(super) type Sections<T> = BTreeMap<String, T>;
