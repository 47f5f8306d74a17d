//! Where a restore to a moment goes: a data directory, or a live server.

use std::fmt;
use std::path::PathBuf;

use crate::base::error::{Error, Result};
use crate::config::redact_url;
use crate::engines::redis::RedisSpec;
use crate::engines::redis::log::aof::{self, DIRECTORY};
use crate::engines::redis::log::live::ListenAddress;
use crate::operations::{Session, options, places};

/// Where it went. In a document it is one string, and that of a server is its URL, without a password.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MomentPlace {
    /// A data directory.
    Directory(PathBuf),
    /// A server.
    Server(String),
}

impl fmt::Display for MomentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Server(location) => f.write_str(location),
        }
    }
}

impl From<MomentPlace> for String {
    fn from(place: MomentPlace) -> Self {
        place.to_string()
    }
}

impl From<String> for MomentPlace {
    fn from(text: String) -> Self {
        if text.contains("://") {
            Self::Server(text)
        } else {
            Self::Directory(text.into())
        }
    }
}

/// Where it is to go.
#[derive(Debug)]
pub(super) enum Target {
    /// The data directory of a server that does not run.
    Directory(PathBuf),
    /// A server, and the address of this host that it connects to, where one is given.
    Server(RedisSpec, Option<ListenAddress>),
}

impl Target {
    /// Reads `--into`: no restore to a moment goes anywhere by itself.
    pub(super) fn of(session: &Session, options: &options::Restore) -> Result<Self> {
        let flags: options::RestoreRedis = options.engines.of();
        let listen = flags.listen.as_deref().map(str::parse::<ListenAddress>).transpose()?;
        let hint = "Give the data directory of a stopped server or an empty one, --into DIRECTORY; or an empty server, \
                    --into redis://HOST.";
        let Some(into) = &options.into else {
            return Err(
                Error::invalid("a restore to a moment has no place of its own, and none is given").with_hint(hint),
            );
        };
        let path = into.strip_prefix("file://").or_else(|| into.strip_prefix("file:"));
        let path = path.or((!into.contains("://")).then_some(into.as_str()));
        let Some(path) = path.filter(|_| session.engines.read_url(into).is_none()) else {
            let spec = places::given(session, into)?;
            let cannot = || {
                Error::invalid(format!(
                    "a log of Redis commands cannot go into \"{}\"",
                    redact_url(into)
                ))
            };
            let spec = spec
                .downcast_ref::<RedisSpec>()
                .ok_or_else(|| cannot().with_hint(hint))?;
            return Ok(Self::Server(spec.clone(), listen));
        };
        if listen.is_some() {
            return Err(
                Error::invalid("--listen is for a restore into a server, and --into names a directory")
                    .with_hint("Leave --listen out."),
            );
        }
        let data = PathBuf::from(path);
        let place = data.join(DIRECTORY);
        if place.symlink_metadata().is_ok() && !options.clean {
            return Err(aof::exists(&place));
        }
        Ok(Self::Directory(data))
    }

    /// Returns it for people, without a password.
    pub(super) fn place(&self) -> Result<MomentPlace> {
        Ok(match self {
            Self::Directory(data) => MomentPlace::Directory(data.clone()),
            Self::Server(spec, _) => MomentPlace::Server(spec.address()?.location()),
        })
    }
}
