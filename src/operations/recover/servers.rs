//! Which container a database lives in, where it is reached from here, and whether it answers its own protocol.

use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::docker::api::definition::{compose_service, container_name};
use crate::engines::docker::api::text;
use crate::engines::{Engine, Registry, Server, SourceSpec};
use crate::operations::Session;

/// Words in names of images of servers that no engine backs up, and whose containers start before others all the same.
const OTHER_SERVERS: &[&str] = &["mysql", "mariadb", "mongo", "rabbitmq", "minio"];

/// Pause between two tries to reach a server.
const PAUSE: Duration = Duration::from_millis(500);

/// Returns whether a container is one that others need: by its label, its image, or because it is `home` of a database.
pub(super) fn is_infrastructure(container: &Value, homes: &[String], engines: &Registry) -> bool {
    let image = text(container, "/Config/Image").to_lowercase();
    let base = image.rsplit('/').next().unwrap_or(&image);
    let label = container
        .pointer("/Config/Labels/wirevault.start")
        .and_then(Value::as_str);
    match label {
        Some("first") => true,
        Some("last") => false,
        _ => {
            let mut words = engines.iter().flat_map(Engine::server_images).chain(OTHER_SERVERS);
            homes.iter().any(|home| home == container_name(container)) || words.any(|word| base.contains(word))
        }
    }
}

/// Finds the container that a database of a snapshot lived in.
pub(super) fn home<'a>(server: Server<'_>, containers: &'a [Value]) -> Option<&'a Value> {
    let url = Url::parse(server.url).ok()?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().unwrap_or(server.default_port);
    let named = containers.iter().find(|one| is_called(one, host));
    if named.is_some() {
        return named;
    }
    let published = containers.iter().find(|one| {
        let ports = one.pointer("/HostConfig/PortBindings").and_then(Value::as_object);
        let bindings = ports
            .into_iter()
            .flat_map(serde_json::Map::values)
            .filter_map(Value::as_array)
            .flatten();
        bindings
            .into_iter()
            .any(|binding| text(binding, "/HostPort") == port.to_string())
    });
    if published.is_some() {
        return published;
    }
    let of_kind = |one: &&Value| {
        let image = text(one, "/Config/Image").to_lowercase();
        server.images.iter().any(|word| image.contains(word))
    };
    let on_host = |one: &&Value| text(one, "/HostConfig/NetworkMode") == "host";
    // On the host's network the port stands in the command, or in the image alone.
    let by_port = containers.iter().filter(on_host).find(|one| mentions(one, port));
    let mut alike = containers.iter().filter(of_kind).filter(on_host);
    by_port.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

fn mentions(container: &Value, port: u16) -> bool {
    let lists = ["/Config/Cmd", "/Config/Entrypoint", "/Config/Env"];
    let lists = lists
        .iter()
        .filter_map(|list| container.pointer(list))
        .filter_map(Value::as_array);
    let port = port.to_string();
    let whole = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|number| number == port);
    lists.flatten().filter_map(Value::as_str).any(whole)
}

fn is_called(container: &Value, host: &str) -> bool {
    if host.is_empty() {
        return false;
    }
    let networks = container
        .pointer("/NetworkSettings/Networks")
        .and_then(Value::as_object);
    let aliases = networks.into_iter().flat_map(serde_json::Map::values);
    let mut aliases = aliases
        .filter_map(|network| network.get("Aliases"))
        .filter_map(Value::as_array)
        .flatten();
    container_name(container) == host
        || compose_service(container) == Some(host)
        || text(container, "/Config/Hostname") == host
        || aliases.any(|alias| alias.as_str() == Some(host))
}

/// Returns the URL under which a server in a running container is reached from here: unchanged where its name resolves,
/// else by a published port, else by its address on its network.
pub(super) async fn reachable(server: Server<'_>, container: Option<&Value>) -> String {
    let url = server.url;
    let (Ok(mut parsed), Some(container)) = (Url::parse(url), container) else {
        return url.to_owned();
    };
    let Some(host) = parsed.host_str().map(str::to_owned) else {
        return url.to_owned();
    };
    let port = parsed.port().unwrap_or(server.default_port);
    if tokio::net::lookup_host((host.as_str(), port))
        .await
        .is_ok_and(|mut found| found.next().is_some())
    {
        return url.to_owned();
    }
    let published = container
        .pointer("/NetworkSettings/Ports")
        .and_then(|ports| ports.get(format!("{port}/tcp")));
    let published = published
        .and_then(Value::as_array)
        .and_then(|bindings| bindings.first())
        .and_then(|binding| text(binding, "/HostPort").parse::<u16>().ok());
    let networks = container
        .pointer("/NetworkSettings/Networks")
        .and_then(Value::as_object);
    let mut addresses = networks
        .into_iter()
        .flat_map(serde_json::Map::values)
        .map(|network| text(network, "/IPAddress"));
    let done = if let Some(published) = published {
        parsed.set_host(Some("127.0.0.1")).is_ok() && parsed.set_port(Some(published)).is_ok()
    } else if text(container, "/HostConfig/NetworkMode") == "host" {
        parsed.set_host(Some("127.0.0.1")).is_ok()
    } else {
        addresses
            .find(|address| !address.is_empty())
            .is_some_and(|address| parsed.set_host(Some(address)).is_ok())
    };
    if done { parsed.into() } else { url.to_owned() }
}

/// Waits until a server answers its own protocol and lets us in; returns what it says of itself.
pub(super) async fn wait(session: &Session, server: &dyn SourceSpec, within: Duration) -> Result<String> {
    let from = Instant::now();
    loop {
        session.check_cancelled()?;
        match session.or_cancelled(server.ask()).await {
            Ok(said) => return Ok(said),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            // A wrong password is wrong after a minute too; but an image's entry point sets it only while it starts.
            Err(error) if error.kind() == ErrorKind::Denied && from.elapsed() > within.min(Duration::from_secs(30)) => {
                return Err(plain(&error).with_hint(
                    "Pass the password in a file of NAME=value lines with --env-file. PGPASSWORD and REDISCLI_AUTH \
                     are used only for servers of the configuration and of --address SOURCE=URL, not for those \
                     recorded only in the snapshot.",
                ));
            }
            Err(error) if from.elapsed() >= within => {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("no answer from {} within {} s", server.place(), within.as_secs()),
                )
                .with_cause(plain(&error))
                .with_hint(
                    "Check its log, then run the same command again to continue. If the server has another address, \
                     use --address SOURCE=URL.",
                ));
            }
            Err(error) => tracing::debug!("waiting: {}", error.chain()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the hints out of an error: what a recovery advises is another thing.
pub(super) fn plain(error: &Error) -> Error {
    Error::new(error.kind(), error.chain())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_database_is_found_by_name_port_command_and_kind() {
        let one = |name: &str, image: &str, more: Value| {
            let mut one =
                json!({ "Name": format!("/{name}"), "Config": { "Image": image, "Labels": {} }, "HostConfig": {} });
            for (key, value) in more.as_object().unwrap() {
                one[key] = value.clone();
            }
            one
        };
        let engines = Registry::standard();
        let containers = [
            one(
                "shop-db-1",
                "postgres:15",
                json!({ "NetworkSettings": { "Networks": { "n": { "Aliases": ["db"] } } } }),
            ),
            one(
                "pub",
                "x",
                json!({ "HostConfig": { "PortBindings": { "5432/tcp": [{ "HostPort": "15432" }] } } }),
            ),
            one(
                "hosted",
                "y",
                json!({ "Config": { "Image": "y", "Cmd": ["postgres", "-p", "7777"] }, "HostConfig": { "NetworkMode": "host" } }),
            ),
            one(
                "cache",
                "library/redis:7",
                json!({ "HostConfig": { "NetworkMode": "host" } }),
            ),
        ];
        let name = |url: &str| {
            let spec = Registry::standard().read_url(url).unwrap().unwrap().spec;
            home(spec.server().unwrap(), &containers).map(|one| container_name(one).to_owned())
        };
        assert_eq!(name("postgres://a@db/x").unwrap(), "shop-db-1");
        assert_eq!(name("postgres://a@127.0.0.1:15432/x").unwrap(), "pub");
        assert_eq!(name("postgres://a@localhost:7777/x").unwrap(), "hosted");
        assert_eq!(name("redis://localhost").unwrap(), "cache");
        assert_eq!(name("postgres://a@elsewhere:1/x"), None);
        assert!(is_infrastructure(&containers[3], &[], &engines) && !is_infrastructure(&containers[2], &[], &engines));
        assert!(is_infrastructure(&containers[2], &["hosted".to_owned()], &engines));
    }
}
