//! Hooks of a job, and the dead man's switch that hears of its runs.

use crate::base::error::{Context, Error, Result};
use crate::base::secret::Secret;
use crate::config::keys::{Call, PingKeys, PingTo};

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

pub(super) fn hook(raw: Option<Call>, key: &str) -> Result<Option<Hook>> {
    raw.map(|raw| match raw {
        Call::Address(text) => address(&text).map(Hook::Http).map_err(|error| {
            error.with_hint("Write an address (http://…), or a program with its arguments as a list: [\"/path/program\", \"argument\"].")
        }),
        Call::Program(words) if words.first().is_some_and(|program| program.starts_with('/')) => {
            Ok(Hook::Command(words))
        }
        Call::Program(_) => Err(Error::invalid("the program has no full path")
            .with_hint("Write [\"/path/program\", \"argument\"]; hooks do not run in a shell.")),
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

/// Reads an address that is called.
pub(super) fn address(text: &str) -> Result<Secret> {
    let url = url::Url::parse(text).ok();
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Ok(Secret::new(text));
    }
    Err(Error::invalid("an address to call is not a URL").with_hint("Write http://… or https://…"))
}
