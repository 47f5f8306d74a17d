//! Where an engine listens: on a Unix socket, or at `tcp://host:port`, with TLS where the environment asks for it.
//!
//! `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` mean what they mean to Docker's own client. The certificate is always verified: an
//! engine is root on its host, and whoever stands between would be it too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

use crate::base::environment;
use crate::base::error::{Context, Error, Result};
use crate::base::proxy::Proxies;
use crate::base::tls::{trusting, usual_roots};

/// Where the engine listens unless something else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Ports of an engine without and with TLS.
const PORTS: (u16, u16) = (2375, 2376);

/// Where an engine listens. Its text is the path of a socket, or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A socket of this host.
    Unix(PathBuf),
    /// Over a network.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

impl Address {
    /// Reads the path of a socket, `unix:///path` or `tcp://host:port`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(format!("\"{text}\" is not the address of a Docker engine: {why}"))
                .with_hint("Write /var/run/docker.sock, unix:///var/run/docker.sock or tcp://host:2375.")
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                "" => Err(wrong("it has no socket")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return match text {
                "" => Err(wrong("it has no socket")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        };
        if scheme != "tcp" {
            let why = match scheme {
                "ssh" => {
                    "this program speaks no SSH; forward it with ssh -L 2375:/var/run/docker.sock and name \
                     tcp://localhost:2375"
                }
                _ => "it is reached by a Unix socket or by tcp://",
            };
            return Err(wrong(why));
        }
        let url = url::Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() || !matches!(url.path(), "" | "/") {
            return Err(wrong("behind the port there is nothing more"));
        }
        let port = url.port().unwrap_or(if wants_tls() { PORTS.1 } else { PORTS.0 });
        Ok(Self::Tcp { host, port })
    }

    /// Returns the address that is meant: the one given, else that of DOCKER_HOST, else the usual socket.
    pub fn meant(given: Option<&Self>, docker_host: Option<&str>) -> Result<Self> {
        match (given, docker_host.filter(|host| !host.is_empty())) {
            (Some(given), _) => Ok(given.clone()),
            (None, Some(host)) => Self::parse(host).context("DOCKER_HOST"),
            (None, None) => Ok(Self::Unix(PathBuf::from(DEFAULT_SOCKET))),
        }
    }

    /// Whether the engine may be another host's. What it says of directories is then not about those seen here.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Whether it is reached over TCP with neither TLS nor a proxy between.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp { host, .. } => {
                !wants_tls()
                    && Proxies::of_process()
                        .towards("http", host)
                        .is_ok_and(|proxy| proxy.is_none())
            }
        }
    }

    /// Returns the address as the URL of a source.
    pub fn url(&self) -> String {
        match self {
            Self::Unix(path) => format!("docker://{}", path.display()),
            Self::Tcp { .. } => format!("docker:{self}"),
        }
    }

    /// Makes the path of a socket absolute.
    pub fn absolute(&mut self) -> Result<()> {
        if let Self::Unix(path) = self {
            *path = std::path::absolute(&path)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// Whether the environment asks for TLS, as Docker's own client reads it: any value at all.
fn wants_tls() -> bool {
    environment::variable("DOCKER_TLS_VERIFY").is_some() || environment::variable("DOCKER_TLS").is_some()
}

/// Returns how TLS is done, where the environment asks for it: with `ca.pem`, `cert.pem` and `key.pem` of DOCKER_CERT_PATH, or of
/// `~/.docker`. Without a `ca.pem` the system's authorities are trusted, without the others no certificate is shown.
pub(super) fn tls() -> Result<Option<Arc<ClientConfig>>> {
    if !wants_tls() {
        return Ok(None);
    }
    let of_home = || environment::variable("HOME").map(|home| Path::new(&home).join(".docker"));
    let directory = environment::variable("DOCKER_CERT_PATH")
        .map(PathBuf::from)
        .or_else(of_home);
    let at = |name: &str| {
        directory
            .as_ref()
            .map(|directory| directory.join(name))
            .filter(|path| path.exists())
    };
    let roots = if let Some(path) = at("ca.pem") {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&path)? {
            roots.add(certificate).map_err(|e| damaged(&path).with_cause(e))?;
        }
        roots
    } else {
        usual_roots()
    };
    let config = trusting(roots)?;
    let config = match (at("cert.pem"), at("key.pem")) {
        (Some(certificate), Some(path)) => {
            let key = PrivateKeyDer::from_pem_file(&path).map_err(|e| damaged(&path).with_cause(e))?;
            let shown = config.with_client_auth_cert(certificates(&certificate)?, key);
            shown.map_err(|e| damaged(&certificate).with_cause(e))?
        }
        (None, None) => config.with_no_client_auth(),
        (certificate, _) => {
            let missing = if certificate.is_some() { "key.pem" } else { "cert.pem" };
            let place = directory.unwrap_or_default();
            let message = format!(
                "\"{}\" has only one half of the key pair: {missing} is missing",
                place.display()
            );
            return Err(
                Error::invalid(message).with_hint("DOCKER_CERT_PATH is a directory with ca.pem, cert.pem and key.pem.")
            );
        }
    };
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = found.map_err(|e| damaged(path).with_cause(e))?;
    if found.is_empty() {
        return Err(damaged(path));
    }
    Ok(found)
}

fn damaged(path: &Path) -> Error {
    Error::invalid(format!("\"{}\" cannot be used", path.display()))
        .with_hint("DOCKER_CERT_PATH is a directory with ca.pem, cert.pem and key.pem in PEM form.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_host() {
        for (text, shown, url) in [
            ("/run/d.sock", "/run/d.sock", "docker:///run/d.sock"),
            ("unix:///run/d.sock", "/run/d.sock", "docker:///run/d.sock"),
            ("tcp://h:2375", "tcp://h:2375", "docker:tcp://h:2375"),
            ("tcp://[::1]:2375/", "tcp://[::1]:2375", "docker:tcp://[::1]:2375"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.url().as_str()), (shown, url));
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
        for wrong in [
            "",
            "unix://",
            "tcp://",
            "ssh://h",
            "npipe://x",
            "tcp://h:2375/x",
            "tcp://u@h:1",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(error.hint().unwrap().contains("tcp://host:2375"), "{error:?}");
        }
    }

    #[test]
    fn what_is_given_comes_before_the_environment() {
        let given = Address::parse("/run/d.sock").unwrap();
        assert_eq!(Address::meant(Some(&given), Some("tcp://h:1")).unwrap(), given);
        assert!(Address::meant(None, Some("tcp://h:1")).unwrap().is_remote());
        assert_eq!(Address::meant(None, Some("")).unwrap().to_string(), DEFAULT_SOCKET);
        let error = Address::meant(None, Some("ssh://h")).unwrap_err();
        assert!(error.chain().starts_with("DOCKER_HOST"), "{error:?}");
    }
}
