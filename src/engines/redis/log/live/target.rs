//! The server that is to be brought to a place in a log: whether it can be, its way into the role of our replica, and out of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::handshake::tls_advice;
use super::listen::{Ends, ListenAddress, Listener};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::log::position::ReplicationId;
use crate::engines::redis::restore::target::{self, TargetFacts, parameter};
use crate::engines::redis::restore::transcode::ServerDialect;
use crate::engines::redis::session::address::{Endpoint, RedisAddress};
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::counted::has_sentinel;
use crate::engines::redis::session::holdings::{Keys, Libraries};
use crate::engines::redis::session::server::Server;
use crate::engines::redis::stored::Rdb;
use crate::engines::redis::wire::rdb::Crc64;
use crate::engines::redis::wire::resp::Reply;

/// How long a server that does not answer is asked to be a primary again, and the pause between two attempts.
const RELEASE_WAIT: Duration = Duration::from_secs(60);
const RELEASE_PAUSE: Duration = Duration::from_millis(500);

/// How long one that loads a snapshot is: it takes no REPLICAOF before it is done.
const LOADING_WAIT: Duration = Duration::from_secs(1800);

/// What to do instead, wherever a target cannot be.
const DIRECTORY: &str = "Restore into a directory for a server to load: --into DIRECTORY.";

/// A server that may be brought to a place in a log.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    address: RedisAddress,
    ends: Ends,
    clean: bool,
    /// Which process it is.
    run_id: Option<String>,
    keys: Option<u64>,
    libraries: Option<usize>,
    warnings: Vec<String>,
}

/// A target that is about to follow us.
#[derive(Debug)]
pub(crate) struct Followed {
    id: ReplicationId,
    /// Commands of primaries that it has ever refused.
    refused: Option<u64>,
}

/// What a target is afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Keys that it holds.
    pub(crate) keys: Option<u64>,
    /// Commands that it refused, if it counts them.
    pub(crate) refused: Option<u64>,
}

/// Whether a target follows us no more.
enum Released {
    Yes,
    /// It takes no REPLICAOF yet.
    Loads,
}

impl LiveTarget {
    /// Looks at a server, and refuses one that cannot follow or may not. Nothing is changed.
    pub(crate) async fn inspect(address: &RedisAddress, rdb: &Rdb, clean: bool) -> Result<Self> {
        refuse_address(address)?;
        let connection = Connection::open(address).await?;
        let ends = Ends::of(connection.ends()?);
        let client = Client::of(connection).await?;
        let server = Server::ask(&client).await?;
        refuse_role(&server)?;
        may_follow(&client).await?;
        refuse_settings(&client).await?;
        if has_sentinel(&client).await? {
            return Err(Error::unsupported(
                "a Sentinel watches the target: it takes a primary that becomes a replica for one that failed",
            )
            .with_hint(DIRECTORY));
        }
        reads(&client, &server, rdb).await?;
        let mut warnings = modules(&client, &server, rdb).await?;
        let facts = target::ask(address, &[]).await?;
        if !clean {
            refuse_holdings(&facts)?;
        }
        warnings.extend(facts.memory.warning(rdb.memory_bytes(), clean));
        if matches!(address.place, Endpoint::Tcp { tls: true, .. }) {
            warnings
                .push("the target connects to this host without TLS: the data go over the network in clear".to_owned());
        }
        Ok(Self {
            address: address.clone(),
            ends,
            clean,
            run_id: server.get("run_id").map(str::to_owned),
            keys: facts.keys.total(),
            libraries: facts.libraries.count(),
            warnings,
        })
    }

    /// Returns how many keys it held.
    pub(crate) fn keys(&self) -> Option<u64> {
        self.keys
    }

    /// Returns what is to be feared.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns whether it holds something that goes, or may.
    pub(crate) fn removes_something(&self) -> bool {
        self.keys != Some(0) || self.libraries != Some(0)
    }

    /// Listens for it.
    pub(crate) async fn listen(&self, given: Option<ListenAddress>) -> Result<Listener> {
        Listener::bind(self.ends, given).await
    }

    /// Tells it to follow us. Whatever comes of it, it has to be released.
    pub(crate) async fn follow(&self, listener: &Listener) -> Result<Followed> {
        let at = listener.announced();
        let client = Client::open(&self.address).await?;
        let server = Server::ask(&client).await?;
        if self.is_another(&server) {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "another server answers at the target's address than the one that was looked at",
            )
            .with_hint("Name one server: an address that leads to several, or to one that was restarted, is none."));
        }
        refuse_role(&server)?;
        let words = [&b"REPLICAOF"[..], &host(at), &port(at)];
        client.call(&words).await.context("make the target a replica")?;
        // From now on no client writes, so what it holds now is what would go.
        let server = Server::ask(&client).await?;
        if server.get("slave_read_only").is_some_and(|only| only != "1") {
            return Err(writable());
        }
        let keys = Keys::count(&client, &server).await?;
        let libraries = Libraries::ask(&client, &server).await?;
        let is_kept = self.clean && self.removes_something();
        if !is_kept && (keys.least() > 0 || libraries.count().is_some_and(|count| count > 0)) {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "a client has written into the target since it was looked at",
            )
            .with_hint("Keep clients away from it, and choose an empty server or --clean."));
        }
        let id = server.get("master_replid").ok_or_else(|| {
            Error::new(ErrorKind::Denied, "INFO does not show the replication ID").with_hint("Give the user +info.")
        })?;
        Ok(Followed {
            id: id.parse()?,
            refused: server.number("unexpected_error_replies"),
        })
    }

    /// Waits until it has connected and asks for the data. Once that is answered, what it holds goes.
    pub(crate) async fn accept(&self, listener: &Listener, followed: &Followed) -> Result<TcpStream> {
        listener.accept(&followed.id).await
    }

    /// Makes it a primary again, whatever it does now; one that is no replica of ours is left alone.
    pub(crate) async fn release(&self, listener: &Listener) -> Result<()> {
        let (began, mut is_told) = (Instant::now(), false);
        let (mut answered, mut attempts) = (began, 0_u32);
        loop {
            attempts = attempts.saturating_add(1);
            let (error, is_over) = match self.try_release(listener.announced()).await {
                Ok(Released::Yes) => return Ok(()),
                Ok(Released::Loads) => {
                    answered = Instant::now();
                    let error = Error::new(ErrorKind::Unavailable, "it loads the snapshot");
                    (error, began.elapsed() >= LOADING_WAIT)
                }
                Err(error) => (error, attempts > 1 && answered.elapsed() >= RELEASE_WAIT),
            };
            if !error.kind().is_retryable() || is_over {
                return Err(error);
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!("the target is still a replica: {}; trying again", error.chain());
            }
            tokio::time::sleep(RELEASE_PAUSE).await;
        }
    }

    /// Returns whether a server is another process than the one that was looked at, as far as both say which.
    fn is_another(&self, server: &Server) -> bool {
        let now = server.get("run_id");
        now.zip(self.run_id.as_deref()).is_some_and(|(now, then)| now != then)
    }

    async fn try_release(&self, announced: SocketAddr) -> Result<Released> {
        let client = Client::open(&self.address).await?;
        let server = Server::ask(&client).await?;
        let is_ours = |server: &Server| {
            let (at, port) = (server.get("master_host"), server.get("master_port"));
            let (our_host, our_port) = (announced.ip().to_string(), announced.port().to_string());
            at.is_none_or(|at| at == our_host) && port.is_none_or(|port| port == our_port)
        };
        if server.replica() == Some(false) {
            if self.is_another(&server) {
                let message = "another server answers at its address, or it was restarted";
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            return Ok(Released::Yes);
        }
        if !is_ours(&server) {
            let of = server.get("master_host").unwrap_or_default();
            tracing::warn!("the target follows another server now ({of}), and stays as it is");
            return Ok(Released::Yes);
        }
        if ["loading", "async_loading"]
            .iter()
            .any(|field| server.number(field).is_some_and(|loads| loads > 0))
        {
            return Ok(Released::Loads);
        }
        client.call(&[b"REPLICAOF", b"NO", b"ONE"]).await?;
        Ok(Released::Yes)
    }

    /// Looks at what it has become.
    pub(crate) async fn settled(&self, followed: &Followed) -> Result<Settled> {
        let client = Client::open(&self.address).await?;
        let server = Server::ask(&client).await?;
        if server.replica() != Some(false) {
            return Err(Error::new(
                ErrorKind::PreconditionFailed,
                "the target is a replica of another server now",
            )
            .with_hint("Somebody made it one as the restore ended: it has what its primary has."));
        }
        let keys = Keys::count(&client, &server).await?;
        let refused = followed.refused.zip(server.number("unexpected_error_replies"));
        Ok(Settled {
            keys: keys.total(),
            // A server that was restarted counts anew.
            refused: refused.and_then(|(before, after)| after.checked_sub(before)),
        })
    }
}

fn host(at: SocketAddr) -> Vec<u8> {
    at.ip().to_string().into_bytes()
}

fn port(at: SocketAddr) -> Vec<u8> {
    at.port().to_string().into_bytes()
}

/// Refuses places that are not those of one whole server.
fn refuse_address(address: &RedisAddress) -> Result<()> {
    if address.reading.sentinel.is_some() {
        return Err(Error::unsupported(
            "a server behind a Sentinel cannot be brought to a moment: it must become a replica for it",
        )
        .with_hint(DIRECTORY));
    }
    match address.database {
        Some(number) => Err(Error::unsupported(format!(
            "a restore to a moment is that of a whole server, and the URL selects database {number}"
        ))
        .with_hint("Remove the number from the URL.")),
        None => Ok(()),
    }
}

fn refuse_role(server: &Server) -> Result<()> {
    match server.replica() {
        Some(false) => Ok(()),
        Some(true) => Err(Error::new(ErrorKind::Denied, "the target is a replica").with_hint(
            "INFO replication names its primary as master_host. Where that is this host, a restore was killed: run \
             REPLICAOF NO ONE on the target.",
        )),
        None => Err(
            Error::new(ErrorKind::Denied, "unable to determine whether the target is a primary")
                .with_hint("Give the user +info."),
        ),
    }
}

/// Asks whether the server takes REPLICAOF from us, by a port that is none. The answer to that comes after rights and the kind of server.
async fn may_follow(client: &Client) -> Result<()> {
    let reply = client.ask(&[b"REPLICAOF", b"wirevault", b"none"]).await?;
    let Reply::Error(text) = reply else {
        return Err(Error::unsupported("the target accepts a REPLICAOF without a port").with_hint(DIRECTORY));
    };
    if text.starts_with("NOPERM") {
        return Err(Error::new(ErrorKind::Denied, format!("the server says: {text}")).with_hint(
            "ACL SETUSER NAME +replicaof +info +select +dbsize +function|list +config|get gives the rights of a restore to a moment.",
        ));
    }
    if text.contains("cluster mode") {
        return Err(
            Error::unsupported("the target is a node of a cluster, which takes no REPLICAOF").with_hint(DIRECTORY),
        );
    }
    if text.contains("unknown command") {
        return Err(Error::unsupported("the target does not offer REPLICAOF, as many managed services do not").with_hint(
            "Restore a snapshot alone into it, without --at and --offset; or restore into a directory: --into DIRECTORY.",
        ));
    }
    if text.contains("port") || text.contains("integer") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Denied, format!("the server says: {text}")).with_hint(DIRECTORY))
}

/// Refuses a server that could not connect to us, or that clients write into meanwhile. Whoever may not ask learns it later.
async fn refuse_settings(client: &Client) -> Result<()> {
    let is = async |name: &str, value: &str| -> Result<bool> {
        Ok(parameter(client, name).await?.is_some_and(|found| found == value))
    };
    if is("tls-replication", "yes").await? {
        return Err(
            Error::unsupported("the target speaks TLS on the replication link (tls-replication yes)")
                .with_hint(tls_advice()),
        );
    }
    if is("replica-read-only", "no").await? {
        return Err(writable());
    }
    Ok(())
}

fn writable() -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "clients could write into the target while it is a replica (replica-read-only no)",
    )
    .with_hint("Run CONFIG SET replica-read-only yes on the target.")
}

/// What nobody could count is not nothing.
fn refuse_holdings(facts: &TargetFacts) -> Result<()> {
    let (keys, libraries) = (facts.keys.least(), facts.libraries.count());
    let held = match (keys, libraries) {
        (0, Some(0) | None) => None,
        (0, Some(libraries)) => Some(format!("{libraries} function libraries")),
        (keys, _) => Some(format!("{keys} keys")),
    };
    if let Some(held) = held {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the target holds {held}")).with_hint(
            "Add --clean to replace all that it holds (a snapshot of it is taken first), or choose an empty server or a directory.",
        ));
    }
    let unknown = match &facts.libraries {
        Libraries::Unknown(why) => Some(why.as_str()),
        Libraries::Known(_) => None,
    };
    match facts.keys.unknown().or(unknown) {
        Some(why) => Err(Error::new(
            ErrorKind::Denied,
            format!("unable to determine whether the target holds anything: {why}"),
        )
        .with_hint("Give the user +info, or +select +dbsize; and +function|list.")),
        None => Ok(()),
    }
}

/// Refuses a server that does not read an RDB of this version. It is asked by the payload of a key that has the version and no form that
/// there is; nothing is written. Who may not ask goes by product and version.
async fn reads(client: &Client, server: &Server, rdb: &Rdb) -> Result<()> {
    let version = rdb.facts.rdb_version;
    let mut payload = vec![0xf5];
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = Crc64::of(&payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    let reply = client.ask(&[b"RESTORE", b"wirevault", b"0", &payload]).await?;
    let reads = match &reply {
        Reply::Error(text) if text.contains("payload version") => false,
        Reply::Error(text) if text.contains("Bad data format") => true,
        _ => ServerDialect::of(server.product(), server.version()).reads(version, rdb.facts.valkey_magic),
    };
    if reads {
        return Ok(());
    }
    let (from, its) = (&rdb.facts.product, &rdb.facts.server_version);
    Err(Error::unsupported(format!(
        "the target ({} {}) cannot load the snapshot: it is an RDB of version {version}, of {from} {its}",
        server.product(),
        server.version()
    ))
    .with_hint(format!(
        "Choose a target of {from} {its} or later; or restore a snapshot alone into this one, without --at and --offset."
    )))
}

/// Refuses a server without modules for a snapshot with values of some: it would end itself as it loads.
async fn modules(client: &Client, server: &Server, rdb: &Rdb) -> Result<Vec<String>> {
    let census = &rdb.facts.census;
    let has_data = census.module_data.as_ref().is_some_and(|types| !types.is_empty());
    if !has_data && !census.by_type().contains_key("module") {
        return Ok(Vec::new());
    }
    match server.modules(client).await? {
        Some(loaded) if loaded.is_empty() => Err(Error::unsupported(
            "the snapshot holds data of modules, and the target has loaded none: it would end itself as it loads them",
        )
        .with_hint("Load the modules into the target first.")),
        _ => Ok(vec![
            "the snapshot holds data of modules: a target that lacks one of them ends itself as it loads".to_owned(),
        ]),
    }
}
