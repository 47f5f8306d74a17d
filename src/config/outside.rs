//! What is configured of the world around the jobs: hooks, notifications, pings, drills, clean-up rules.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;

use crate::base::error::{Context, Error, Result};
use crate::base::secret::Secret;
use crate::config::keys::{Call, CleanupKeys, DrillKeys, NotifyKeys, PingKeys, PingTo};
use crate::config::url::checked_name;
use crate::engines::docker::api::Address;
use crate::policy::schedule::Timing;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
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

pub(super) fn hook(raw: Option<Call>, key: &str) -> Result<Option<Hook>> {
    raw.map(|raw| match raw {
        Call::Address(text) => address(&text).map(Hook::Http).map_err(|error| {
            error.with_hint("Write an address (http://…), or a program with its arguments as a list: [\"/path/program\", \"argument\"].")
        }),
        Call::Program(words) if words.first().is_some_and(|program| program.starts_with('/')) => {
            Ok(Hook::Command(words))
        }
        Call::Program(_) => Err(Error::invalid("a program is not named by its full path")
            .with_hint("Write [\"/path/program\", \"argument\"]; no shell is started.")),
    })
    .transpose()
    .context(key.to_owned())
}

pub(super) fn ping(raw: Option<PingTo>) -> Result<Ping> {
    let secret = |text: Option<String>| text.as_deref().map(address).transpose().context("ping");
    Ok(match raw {
        None => Ping::default(),
        Some(PingTo::Each(PingKeys { start, success, fail })) => Ping {
            start: secret(start)?,
            success: secret(success)?,
            fail: secret(fail)?,
        },
        Some(PingTo::Base(base)) => {
            let base = base.trim_end_matches('/');
            Ping {
                start: secret(Some(format!("{base}/start")))?,
                success: secret(Some(base.to_owned()))?,
                fail: secret(Some(format!("{base}/fail")))?,
            }
        }
    })
}

pub(super) fn notify(name: String, keys: NotifyKeys, known: &[&str]) -> Result<NotifyConfig> {
    let url = match (keys.url, keys.url_file) {
        (Some(url), None) => url,
        (None, Some(path)) => from_file(&path)?,
        _ => {
            return Err(Error::invalid("one of \"url\" and \"url_file\" is needed")
                .with_hint("Add a line url = \"https://…\"."));
        }
    };
    let token = match (keys.token, keys.token_file) {
        (Some(token), _) => Some(token),
        (None, path) => path.as_deref().map(from_file).transpose()?,
    };
    for job in &keys.jobs {
        super::file::defined(job, "job", known, &format!("[notify.{name}]"))?;
    }
    let is_mail = keys.kind == NotifyKind::Email;
    let url = if is_mail { mail_server(&url) } else { address(&url) };
    people(is_mail, keys.from.as_deref(), &keys.to)?;
    Ok(NotifyConfig {
        url: url?,
        from: keys.from,
        to: keys.to,
        token: token.map(Secret::new),
        kind: keys.kind,
        jobs: keys.jobs,
        on: keys.on,
        name,
    })
}

pub(super) fn drill(name: String, keys: DrillKeys, repositories: &[&str]) -> Result<DrillConfig> {
    let section = format!("[drill.{name}]");
    checked_name(&name)?;
    if let Some(repository) = &keys.repository {
        super::file::defined(repository, "repository", repositories, &section)?;
    }
    let into = keys.into;
    if !into.is_empty() && keys.level != "restored" {
        return Err(
            Error::invalid(format!("{section} has \"into\", but level {}", keys.level))
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
            schedule: keys.schedule,
            timezone: keys.timezone,
            jitter: keys.jitter,
        },
        level: keys.level,
        snapshots: keys.snapshots,
        into: into.into_iter().map(Secret::new).collect(),
        repository: keys.repository,
        timeout: keys.timeout,
    })
}

pub(super) fn cleanup(name: String, keys: CleanupKeys) -> Result<CleanupConfig> {
    let section = format!("[cleanup.{name}]");
    let (of_files, keep) = match (keys.keep, keys.unused_for) {
        (Some(keep), None) => (true, keep),
        (None, Some(unused_for)) => (false, unused_for),
        _ => {
            return Err(
                Error::invalid(format!("{section} has not exactly one of \"keep\" and \"unused_for\"")).with_hint(
                    "Write path, glob and keep = \"30d\" for plain files, or unused_for = \"30d\" for what nobody uses on a \
                     Docker engine.",
                ),
            );
        }
    };
    Ok(CleanupConfig {
        delete: keys.delete,
        timing: Timing {
            schedule: keys.schedule.clone(),
            timezone: keys.timezone.clone(),
            jitter: Duration::ZERO,
        },
        reach: if of_files {
            files(keys, &section)?
        } else {
            docker(keys, &section)?
        },
        keep,
        name,
    })
}

fn files(keys: CleanupKeys, section: &str) -> Result<Reach> {
    let others = [&keys.images, &keys.containers, &keys.volumes, &keys.exclude];
    let (Some(path), Some(globs)) = (keys.path, keys.glob) else {
        return Err(Error::invalid(format!("{section} has no \"path\" or no \"glob\""))
            .with_hint("Write for example path = \"/var/log/app\", glob = \"*.log\", keep = \"30d\"."));
    };
    if keys.socket.is_some() || others.iter().any(|list| !list.is_empty()) {
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
    Ok(Reach::Files { path, globs })
}

fn docker(keys: CleanupKeys, section: &str) -> Result<Reach> {
    if keys.path.is_some() || keys.glob.is_some() {
        return Err(
            Error::invalid(format!("{section} has \"unused_for\" and a path or glob"))
                .with_hint("For plain files write keep instead of unused_for."),
        );
    }
    for pattern in [&keys.images, &keys.containers, &keys.volumes, &keys.exclude]
        .into_iter()
        .flatten()
    {
        globset::Glob::new(pattern)
            .map_err(|e| Error::invalid(format!("invalid pattern \"{pattern}\" in {section}")).with_cause(e))?;
    }
    Ok(Reach::Docker {
        socket: keys.socket,
        images: keys.images,
        containers: keys.containers,
        volumes: keys.volumes,
        exclude: keys.exclude,
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
