//! What a container may do beyond its own walls. A definition comes out of a repository, and whoever wrote that chose these.

use serde_json::Value;

use super::definition::container_name;
use super::text;

/// Returns what the containers and volumes of a backup may do to the host: a line each, none for the ordinary ones.
pub fn powers(containers: &[Value], volumes: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for container in containers {
        let found = of_container(container);
        if !found.is_empty() {
            lines.push(format!("container {}: {}", container_name(container), found.join(", ")));
        }
    }
    for volume in volumes {
        let device = text(volume, "/Options/device");
        // The driver `local` mounts whatever it is told.
        if !device.is_empty() {
            lines.push(format!("volume {}: mounts {device} of the host", text(volume, "/Name")));
        }
    }
    lines
}

fn of_container(container: &Value) -> Vec<String> {
    let host = container.get("HostConfig").unwrap_or(&Value::Null);
    let list = |key: &str| host.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut found = Vec::new();
    if host.get("Privileged") == Some(&Value::Bool(true)) {
        found.push("privileged".to_owned());
    }
    let spaces = [
        ("NetworkMode", "network"),
        ("PidMode", "processes"),
        ("IpcMode", "shared memory"),
        ("UsernsMode", "users"),
        ("UTSMode", "host name"),
        ("CgroupnsMode", "cgroups"),
    ];
    for (key, what) in spaces {
        if host.get(key).and_then(Value::as_str) == Some("host") {
            found.push(format!("the host's {what}"));
        }
    }
    found.extend(
        list("CapAdd")
            .filter_map(Value::as_str)
            .map(|name| format!("capability {name}")),
    );
    found.extend(list("Devices").map(|device| format!("device {}", text(device, "/PathOnHost"))));
    found.extend(
        list("DeviceCgroupRules")
            .filter_map(Value::as_str)
            .map(|rule| format!("devices {rule}")),
    );
    let open =
        |option: &&str| option.contains("unconfined") || *option == "label=disable" || *option == "label:disable";
    found.extend(
        list("SecurityOpt")
            .filter_map(Value::as_str)
            .filter(open)
            .map(str::to_owned),
    );
    let binds = list("Binds")
        .filter_map(Value::as_str)
        .filter_map(|bind| bind.split(':').next());
    let mounts = list("Mounts")
        .filter(|mount| text(mount, "/Type") == "bind")
        .map(|mount| text(mount, "/Source"));
    let mut paths: Vec<&str> = binds.filter(|source| source.starts_with('/')).chain(mounts).collect();
    paths.sort_unstable();
    paths.dedup();
    found.extend(paths.into_iter().map(|path| format!("{path} of the host")));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_reaches_the_host_is_named_and_what_does_not_is_not() {
        let plain = json!({ "Name": "/web", "HostConfig": {
            "Privileged": false, "NetworkMode": "shop_default", "Binds": ["data:/var/lib/data:rw"], "CapAdd": null,
            "IpcMode": "private", "Mounts": [{ "Type": "volume", "Source": "v", "Target": "/v" }] } });
        let strong = json!({ "Name": "/agent", "HostConfig": {
            "Privileged": true, "NetworkMode": "host", "PidMode": "host", "Binds": ["/:/host:ro"], "CapAdd": ["SYS_ADMIN"],
            "Devices": [{ "PathOnHost": "/dev/kvm" }], "SecurityOpt": ["seccomp=unconfined"],
            "Mounts": [{ "Type": "bind", "Source": "/var/run/docker.sock", "Target": "/s" }] } });
        let volume =
            json!({ "Name": "v", "Driver": "local", "Options": { "type": "none", "o": "bind", "device": "/etc" } });
        assert!(powers(std::slice::from_ref(&plain), &[json!({ "Name": "w", "Options": null })]).is_empty());
        assert_eq!(
            powers(&[plain, strong], &[volume]),
            [
                "container agent: privileged, the host's network, the host's processes, capability SYS_ADMIN, device /dev/kvm, \
                 seccomp=unconfined, / of the host, /var/run/docker.sock of the host",
                "volume v: mounts /etc of the host",
            ]
        );
    }
}
