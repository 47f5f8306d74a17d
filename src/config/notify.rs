//! Channels of notifications.

use lettre::message::Mailbox;

use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::config::checks::{defined, from_file};
use crate::config::hooks::address;
use crate::config::keys::NotifyKeys;

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
    pub on: Vec<NotifyOn>,
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
pub enum NotifyOn {
    /// A run failed, wholly or in part.
    Failure,
    /// The first run that is well after one that was not.
    Recovery,
    /// Times passed without a run.
    Missed,
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
        defined(job, "job", known, &format!("[notify.{name}]"))?;
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
            Err(Error::invalid("\"from\" and \"to\" are only for kind = \"email\""))
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
