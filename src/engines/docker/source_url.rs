//! The URLs of sources: `docker:`, with volumes, an engine, labels and containers.

use std::path::PathBuf;

use crate::base::error::{Error, Result};
use crate::engines::docker::api::Address;
use crate::engines::docker::spec::DockerSpec;
use crate::engines::redact::redact_url;

/// Reads `docker:`, `docker:VOLUME,VOLUME`, `docker:///run/docker.sock`, `docker:tcp://host:2375`, each with `?volume=…&label=…&container=…&quiesce=…`.
pub fn parse(text: &str, rest: &str) -> Result<DockerSpec> {
    let wrong = |why: String| {
        Error::invalid(format!("invalid URL of Docker volumes \"{}\": {why}", redact_url(text))).with_hint(
            "Write docker: for everything, docker:VOLUME,VOLUME, docker:tcp://host:2375, or docker:///run/docker.sock?volume=NAME&label=KEY=VALUE&quiesce=NAME.",
        )
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut docker = DockerSpec::default();
    let words = |list: &str| {
        list.split(',')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match place.strip_prefix("//") {
        Some(path) if path.starts_with('/') => docker.socket = Some(PathBuf::from(path).into()),
        Some("") => {}
        Some(host) => return Err(wrong(format!("an engine over a network is docker:tcp://{host}"))),
        None if place.starts_with('/') => docker.socket = Some(PathBuf::from(place).into()),
        None if place.contains("://") => {
            // Behind the port, names of volumes may stand: docker:tcp://host:2375/uploads.
            let (scheme, rest) = place.split_once("://").unwrap_or((place, ""));
            let (host, volumes) = rest.split_once('/').unwrap_or((rest, ""));
            let address = match scheme {
                "unix" => format!("unix://{rest}"),
                _ => format!("{scheme}://{host}"),
            };
            docker.socket = Some(Address::parse(&address).map_err(|error| wrong(error.chain()))?);
            docker.volumes = if scheme == "unix" { vec![] } else { words(volumes) };
        }
        None => docker.volumes = words(place),
    }
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "volume" => docker.volumes.extend(words(&value)),
            "exclude" => docker.exclude.extend(words(&value)),
            "label" => docker.labels.push(value.into_owned()),
            "container" => docker.containers.extend(words(&value)),
            "quiesce" => docker.quiesce.extend(words(&value)),
            "images" => docker.images = &*value != "false",
            "access" if &*value == "archive" => docker.archive_api = true,
            "access" => return Err(wrong(format!("\"{key}={value}\" is not known"))),
            _ => return Err(wrong(format!("unknown parameter \"{key}\""))),
        }
    }
    Ok(docker)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn docker_urls_name_socket_volumes_and_labels() {
        let parsed = |text: &str| parse(text, text.strip_prefix("docker:").unwrap());
        let read = |text: &str| parsed(text).unwrap();
        assert_eq!(read("docker:"), DockerSpec::default());
        assert_eq!(read("docker:a,b").volumes, ["a", "b"]);
        let whole = read("docker:///run/d.sock?volume=up*&label=a=b&quiesce=api&images");
        assert_eq!(whole.socket.unwrap().to_string(), "/run/d.sock");
        let far = read("docker:tcp://h:2375/uploads,media?quiesce=api");
        assert_eq!(far.socket.unwrap().to_string(), "tcp://h:2375");
        assert_eq!(
            (far.volumes, far.quiesce),
            (vec!["uploads".into(), "media".into()], vec!["api".to_owned()])
        );
        assert_eq!((whole.volumes[0].as_str(), whole.labels[0].as_str()), ("up*", "a=b"));
        assert!(whole.quiesce == ["api"] && whole.images);
        for bad in ["docker://host/x", "docker:?volumes=a", "docker:ssh://h"] {
            assert!(parsed(bad).unwrap_err().hint().unwrap().contains("docker:"), "{bad}");
        }
    }
}
