//! Who listens on an engine's socket: an engine of this host, or something that passes on what another host's engine says.
//!
//! A directory that an engine names is the one of that name here only if the engine is this host's. So an engine is known by its
//! name, and whatever has another one (`ssh`, a proxy, the forwarder of a virtual machine) counts as being in between.

use super::address::Address;

/// Programs that are an engine, or hand its socket over to one when they start it (systemd). CentOS 7 names its own so.
const ENGINES: &[&str] = &["dockerd", "dockerd-current", "podman", "systemd"];

/// What is behind the address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// An engine of this host.
    Engine,
    /// Another program, by its name; or a network.
    Between(String),
    /// A process that is not seen from here: the socket belongs to another container, or to the host of this one.
    Unseen,
}

impl Listener {
    /// Looks who listens at an address.
    pub(super) async fn at(address: &Address) -> Self {
        let Address::Unix(path) = address else {
            return Self::Between("a network".to_owned());
        };
        let stream = tokio::net::UnixStream::connect(path).await.ok();
        let process = stream.and_then(|stream| stream.peer_cred().ok()?.pid());
        // Processes of other namespaces have number 0 here.
        let name = process.and_then(|id| std::fs::read_to_string(format!("/proc/{id}/comm")).ok());
        Self::named(name.as_deref().map(str::trim_end))
    }

    fn named(name: Option<&str>) -> Self {
        match name {
            None => Self::Unseen,
            Some(name) if ENGINES.contains(&name) => Self::Engine,
            Some(name) => Self::Between(format!("\"{name}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_is_no_engine_by_its_name_is_between() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let ours = std::fs::read_to_string("/proc/self/comm").unwrap();
        let between = |name: &str| Listener::Between(format!("\"{name}\""));
        assert_eq!(Listener::at(&Address::Unix(path)).await, between(ours.trim_end()));
        for name in ["ssh", "sshd-session", "socat", "gvproxy", "systemd-socket-", "dockerd2"] {
            assert_eq!(Listener::named(Some(name)), between(name));
        }
        for name in ["dockerd", "podman", "systemd"] {
            assert_eq!(Listener::named(Some(name)), Listener::Engine);
        }
        assert_eq!(Listener::named(None), Listener::Unseen);
        let tcp = Address::parse("tcp://127.0.0.1:1").unwrap();
        assert_eq!(Listener::at(&tcp).await, Listener::Between("a network".to_owned()));
    }
}
