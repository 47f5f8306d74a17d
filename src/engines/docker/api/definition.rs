//! What the engine says of a thing, turned into what it must be told to make it again. Pure functions on JSON.
//!
//! Everything that was configured comes back: labels (so that `docker compose` takes the containers for its own),
//! mounts, networks with their aliases, restart policy, limits. What the engine made up by itself (ids, host names of
//! twelve hex digits, addresses it chose) is left out, so that it may choose again.

use serde_json::{Map, Value, json};

use super::engine::text;

/// Returns the name of an inspected container, without its slash.
pub fn container_name(container: &Value) -> &str {
    text(container, "/Name").trim_start_matches('/')
}

/// Returns a label of a container, volume or network.
pub fn label<'a>(thing: &'a Value, name: &str) -> Option<&'a str> {
    let labels = thing.pointer("/Config/Labels").or_else(|| thing.get("Labels"))?;
    labels.get(name)?.as_str()
}

/// Returns the service a container is of, in its compose project.
pub fn compose_service(container: &Value) -> Option<&str> {
    label(container, "com.docker.compose.service")
}

/// The environment of a container, taken out of its definition; it goes into an entry of its own.
pub fn take_environment(container: &mut Value) -> Option<Value> {
    let config = container.get_mut("Config")?.as_object_mut()?;
    let environment = config.remove("Env")?;
    (!environment.as_array().is_none_or(Vec::is_empty)).then_some(environment)
}

/// Returns the names of the networks a container is attached to that can be made: not `host`, `none`, `bridge`, and not
/// another container's.
pub fn networks_of(container: &Value) -> Vec<String> {
    let networks = container
        .pointer("/NetworkSettings/Networks")
        .and_then(Value::as_object);
    let names = networks.into_iter().flat_map(Map::keys);
    names.filter(|name| !is_builtin_network(name)).cloned().collect()
}

/// Returns whether a network is there with every engine.
pub fn is_builtin_network(name: &str) -> bool {
    matches!(name, "host" | "none" | "bridge" | "default")
}

/// A volume that is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume.
    pub volume: String,
    /// Where it is mounted.
    pub destination: String,
    /// Whether the container may write to it.
    pub writable: bool,
}

/// Returns the volumes that a container mounts.
pub fn volume_mounts(container: &Value) -> Vec<VolumeMount> {
    let mounts = container.get("Mounts").and_then(Value::as_array);
    let volumes = mounts
        .into_iter()
        .flatten()
        .filter(|mount| text(mount, "/Type") == "volume");
    volumes
        .map(|mount| VolumeMount {
            volume: text(mount, "/Name").to_owned(),
            destination: text(mount, "/Destination").to_owned(),
            writable: mount.get("RW").and_then(Value::as_bool).unwrap_or(true),
        })
        .filter(|mount| !mount.volume.is_empty())
        .collect()
}

/// Returns how to create a volume again.
pub fn volume_body(volume: &Value) -> Value {
    json!({
        "Name": text(volume, "/Name"),
        "Driver": volume.get("Driver").cloned().unwrap_or_else(|| json!("local")),
        "DriverOpts": volume.get("Options").cloned().filter(|o| !o.is_null()).unwrap_or_else(|| json!({})),
        "Labels": volume.get("Labels").cloned().filter(|l| !l.is_null()).unwrap_or_else(|| json!({})),
    })
}

/// Returns how to create a network again; `addresses` asks for the same subnets.
pub fn network_body(network: &Value, addresses: bool) -> Value {
    let mut body = Map::new();
    for key in [
        "Name",
        "Driver",
        "Scope",
        "EnableIPv6",
        "Internal",
        "Attachable",
        "Ingress",
        "ConfigOnly",
        "Options",
        "Labels",
    ] {
        if let Some(value) = network.get(key).filter(|value| !value.is_null()) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    body.insert("CheckDuplicate".to_owned(), json!(true));
    if let Some(ipam) = network.get("IPAM").filter(|value| !value.is_null()) {
        let mut ipam = ipam.clone();
        if !addresses && let Some(ipam) = ipam.as_object_mut() {
            ipam.remove("Config");
        }
        body.insert("IPAM".to_owned(), ipam);
    }
    Value::Object(body)
}

/// How to create a container again: the body of the request, and the further networks it is attached to afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerBody {
    /// The request's body.
    pub body: Value,
    /// Networks beyond the first, with the endpoint's settings.
    pub further_networks: Vec<(String, Value)>,
}

/// Returns how to create a container again, with the environment that was kept apart.
pub fn container_body(container: &Value, environment: Option<&Value>) -> ContainerBody {
    let mut body = container
        .get("Config")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let mut host = container.get("HostConfig").cloned().unwrap_or_else(|| json!({}));
    let mode = text(&host, "/NetworkMode").to_owned();
    if let Some(environment) = environment {
        body.insert("Env".to_owned(), environment.clone());
    }
    let id = text(container, "/Id");
    let hostname = body.get("Hostname").and_then(Value::as_str).unwrap_or_default();
    let made_up = hostname.len() == 12 && id.starts_with(hostname);
    if made_up || mode == "host" || mode.starts_with("container:") {
        body.remove("Hostname");
        body.remove("Domainname");
    }
    add_unnamed_volumes(container, &mut host);
    body.insert("HostConfig".to_owned(), host);
    let mut endpoints = endpoints(container);
    let first = endpoints
        .iter()
        .position(|(name, _)| *name == mode)
        .or(if endpoints.is_empty() { None } else { Some(0) });
    let mut further_networks = Vec::new();
    if let Some(first) = first {
        let (name, endpoint) = endpoints.remove(first);
        body.insert(
            "NetworkingConfig".to_owned(),
            json!({ "EndpointsConfig": { name: endpoint } }),
        );
        further_networks = endpoints;
    }
    ContainerBody {
        body: Value::Object(body),
        further_networks,
    }
}

/// A volume without a name in the definition has one all the same (a long hex number): it is mounted by that, so that the
/// container finds its data.
fn add_unnamed_volumes(container: &Value, host: &mut Value) {
    let named: Vec<String> = {
        let binds = host.get("Binds").and_then(Value::as_array);
        let binds = binds.into_iter().flatten().filter_map(Value::as_str);
        let binds = binds.filter_map(|bind| bind.split(':').nth(1).map(str::to_owned));
        let mounts = host.get("Mounts").and_then(Value::as_array);
        let mounts = mounts
            .into_iter()
            .flatten()
            .filter(|mount| !text(mount, "/Source").is_empty() || text(mount, "/Type") != "volume");
        binds
            .chain(mounts.map(|mount| text(mount, "/Target").to_owned()))
            .collect()
    };
    let unnamed: Vec<VolumeMount> = volume_mounts(container)
        .into_iter()
        .filter(|mount| {
            !named
                .iter()
                .any(|place| place.trim_end_matches('/') == mount.destination.trim_end_matches('/'))
        })
        .collect();
    let Some(host) = host.as_object_mut() else { return };
    if unnamed.is_empty() {
        return;
    }
    // A nameless mount at the same place would be a second one.
    if let Some(mounts) = host.get_mut("Mounts").and_then(Value::as_array_mut) {
        mounts.retain(|mount| !unnamed.iter().any(|one| one.destination == text(mount, "/Target")));
    }
    let binds = host.entry("Binds").or_insert_with(|| json!([]));
    if binds.is_null() {
        *binds = json!([]);
    }
    if let Some(binds) = binds.as_array_mut() {
        for one in unnamed {
            let ending = if one.writable { "" } else { ":ro" };
            binds.push(json!(format!("{}:{}{ending}", one.volume, one.destination)));
        }
    }
}

/// Returns the networks of a container with what was configured of each: aliases, fixed addresses, options.
fn endpoints(container: &Value) -> Vec<(String, Value)> {
    let id = text(container, "/Id");
    let networks = container
        .pointer("/NetworkSettings/Networks")
        .and_then(Value::as_object);
    let mut found = Vec::new();
    for (name, endpoint) in networks.into_iter().flatten() {
        if is_builtin_network(name) {
            continue;
        }
        let mut kept = Map::new();
        for key in ["IPAMConfig", "Links", "DriverOpts"] {
            if let Some(value) = endpoint.get(key).filter(|value| !value.is_null()) {
                kept.insert(key.to_owned(), value.clone());
            }
        }
        let aliases = endpoint.get("Aliases").and_then(Value::as_array);
        let aliases: Vec<Value> = aliases
            .into_iter()
            .flatten()
            // The engine's own alias is the short id, which the new container will not have.
            .filter(|alias| {
                !alias
                    .as_str()
                    .is_some_and(|alias| alias.len() == 12 && id.starts_with(alias))
            })
            .cloned()
            .collect();
        if !aliases.is_empty() {
            kept.insert("Aliases".to_owned(), Value::Array(aliases));
        }
        found.push((name.clone(), Value::Object(kept)));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn container() -> Value {
        json!({
            "Id": "0dce70bc51d721ba13a5bb836a0f11ddda83a60d6fb46a4ffcd4a82a8c05aef7",
            "Name": "/shop-api-1",
            "Config": {
                "Hostname": "0dce70bc51d7", "Image": "api:1", "Env": ["SECRET=geheim"],
                "Labels": { "com.docker.compose.service": "api", "com.docker.compose.project": "shop" }
            },
            "HostConfig": {
                "Binds": ["uploads:/data:rw"], "NetworkMode": "shop_default",
                "Mounts": [{ "Type": "volume", "Target": "/cache" }], "RestartPolicy": { "Name": "always" }
            },
            "Mounts": [
                { "Type": "volume", "Name": "uploads", "Destination": "/data", "RW": true },
                { "Type": "volume", "Name": "f00d", "Destination": "/cache", "RW": true },
                { "Type": "bind", "Source": "/etc", "Destination": "/etc2" }
            ],
            "NetworkSettings": { "Networks": {
                "shop_back": { "Aliases": ["0dce70bc51d7"], "IPAddress": "172.18.0.2", "NetworkID": "x" },
                "shop_default": { "Aliases": ["api", "0dce70bc51d7"], "IPAMConfig": { "IPv4Address": "10.0.0.7" } }
            } }
        })
    }

    #[test]
    fn a_container_is_made_again_with_what_was_configured_and_not_what_was_chosen() {
        let mut inspected = container();
        let environment = take_environment(&mut inspected);
        assert!(!inspected.to_string().contains("geheim"));
        let made = container_body(&inspected, environment.as_ref());
        assert_eq!(made.body["Env"], json!(["SECRET=geheim"]));
        assert_eq!(made.body["Hostname"], Value::Null);
        assert_eq!(made.body["Labels"]["com.docker.compose.project"], "shop");
        assert_eq!(made.body["HostConfig"]["RestartPolicy"]["Name"], "always");
        assert_eq!(
            made.body["HostConfig"]["Binds"],
            json!(["uploads:/data:rw", "f00d:/cache"])
        );
        assert_eq!(made.body["HostConfig"]["Mounts"], json!([]));
        let first = &made.body["NetworkingConfig"]["EndpointsConfig"]["shop_default"];
        assert_eq!(
            first,
            &json!({ "IPAMConfig": { "IPv4Address": "10.0.0.7" }, "Aliases": ["api"] })
        );
        assert_eq!(made.further_networks, [("shop_back".to_owned(), json!({}))]);
        assert_eq!(networks_of(&inspected), ["shop_back", "shop_default"]);
    }

    #[test]
    fn a_network_keeps_its_driver_and_loses_its_subnets_when_asked() {
        let network = json!({ "Name": "n", "Id": "1", "Driver": "bridge", "Containers": { "x": {} }, "Labels": { "a": "b" },
            "IPAM": { "Driver": "default", "Config": [{ "Subnet": "10.1.0.0/24" }] } });
        let body = network_body(&network, true);
        assert_eq!(body["IPAM"]["Config"][0]["Subnet"], "10.1.0.0/24");
        assert_eq!(body["Labels"]["a"], "b");
        assert!(body.get("Containers").is_none() && body.get("Id").is_none());
        assert!(network_body(&network, false)["IPAM"].get("Config").is_none());
    }
}
