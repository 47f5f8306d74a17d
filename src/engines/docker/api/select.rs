//! Which volumes and containers a source means. Pure.

use globset::{Glob, GlobMatcher};
use serde_json::Value;

use super::definition::{compose_service, container_name, is_builtin_network, label, networks_of, volume_mounts};
use super::engine::text;
use crate::base::error::{Error, ErrorKind, Result};

/// What is wanted. With nothing said, everything is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeFilter {
    /// Names of volumes, or globs.
    pub volumes: Vec<String>,
    /// Names of volumes, or globs, that are left out.
    pub exclude: Vec<String>,
    /// Names of containers or compose services, or globs, whose definitions are stored beyond those that have a volume.
    pub containers: Vec<String>,
    /// Labels (`key` or `key=value`); volumes and containers that have one are taken.
    pub labels: Vec<String>,
}

/// What was found: descriptions as the engine gives them.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// Volumes, by name.
    pub volumes: Vec<Value>,
    /// Further volumes that the containers mount: their definitions alone are wanted.
    pub mounted: Vec<Value>,
    /// Containers, by name.
    pub containers: Vec<Value>,
    /// Networks of these containers, by name.
    pub networks: Vec<Value>,
}

fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let glob =
        Glob::new(pattern).map_err(|e| Error::invalid(format!("invalid pattern \"{pattern}\"")).with_cause(e))?;
    Ok(glob.compile_matcher())
}

fn matchers(patterns: &[String]) -> Result<Vec<GlobMatcher>> {
    patterns.iter().map(|pattern| matcher(pattern)).collect()
}

fn has_label(thing: &Value, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => label(thing, key) == Some(value),
        None => label(thing, wanted).is_some(),
    }
}

/// Returns whether a name of a configuration means a container: its name or its compose service.
pub fn is_meant(container: &Value, pattern: &GlobMatcher) -> bool {
    pattern.is_match(container_name(container)) || compose_service(container).is_some_and(|name| pattern.is_match(name))
}

/// Chooses among all volumes, containers and networks of an engine. A name that means nothing is an error.
pub fn select(
    wanted: &VolumeFilter,
    mut volumes: Vec<Value>,
    mut containers: Vec<Value>,
    mut networks: Vec<Value>,
) -> Result<Selected> {
    volumes.sort_by(|a, b| text(a, "/Name").cmp(text(b, "/Name")));
    containers.sort_by(|a, b| container_name(a).cmp(container_name(b)));
    networks.sort_by(|a, b| text(a, "/Name").cmp(text(b, "/Name")));
    for pattern in &wanted.volumes {
        let glob = matcher(pattern)?;
        if !volumes.iter().any(|volume| glob.is_match(text(volume, "/Name"))) {
            return Err(unknown(
                "volume",
                pattern,
                volumes.iter().map(|volume| text(volume, "/Name")),
            ));
        }
    }
    let (by_name, exclude) = (matchers(&wanted.volumes)?, matchers(&wanted.exclude)?);
    let everything = wanted.volumes.is_empty() && wanted.labels.is_empty() && wanted.containers.is_empty();
    let all_volumes = volumes.clone();
    volumes.retain(|volume| {
        let name = text(volume, "/Name");
        let taken = everything
            || by_name.iter().any(|glob| glob.is_match(name))
            || wanted.labels.iter().any(|label| has_label(volume, label));
        taken && !exclude.iter().any(|glob| glob.is_match(name))
    });
    let globs = meant(&wanted.containers, &containers)?;
    containers.retain(|container| {
        let mounts = volume_mounts(container);
        everything
            || globs.iter().any(|glob| is_meant(container, glob))
            || wanted.labels.iter().any(|label| has_label(container, label))
            || volumes
                .iter()
                .any(|volume| mounts.iter().any(|mount| mount.volume == text(volume, "/Name")))
    });
    if volumes.is_empty() && containers.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "no volume and no container has the labels of the source",
        )
        .with_hint("`docker volume ls` and `docker volume inspect` show the volumes."));
    }
    let mounts: Vec<String> = containers
        .iter()
        .flat_map(volume_mounts)
        .map(|mount| mount.volume)
        .collect();
    let mut mounted = all_volumes;
    mounted.retain(|volume| {
        let name = text(volume, "/Name");
        mounts.iter().any(|mount| mount == name) && !volumes.iter().any(|taken| text(taken, "/Name") == name)
    });
    let used: Vec<String> = containers.iter().flat_map(networks_of).collect();
    networks.retain(|network| {
        let name = text(network, "/Name");
        !is_builtin_network(name) && used.iter().any(|used| used == name)
    });
    Ok(Selected {
        volumes,
        mounted,
        containers,
        networks,
    })
}

/// Compiles names of containers, each of which must mean one.
pub fn meant(names: &[String], containers: &[Value]) -> Result<Vec<GlobMatcher>> {
    let mut globs = Vec::new();
    for name in names {
        let glob = matcher(name)?;
        if !containers.iter().any(|container| is_meant(container, &glob)) {
            return Err(unknown("container", name, containers.iter().map(container_name)));
        }
        globs.push(glob);
    }
    Ok(globs)
}

fn unknown<'a>(what: &str, name: &str, all: impl Iterator<Item = &'a str>) -> Error {
    let all: Vec<&str> = all.collect();
    let error = Error::new(
        ErrorKind::NotFound,
        format!("the Docker engine has no {what} \"{name}\""),
    );
    match crate::base::nearest::nearest(name, all.iter().copied()) {
        Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
        None if all.is_empty() => error.with_hint(format!("It has no {what}s at all. Is this the right socket?")),
        None => {
            let shown: Vec<&str> = all.iter().take(10).copied().collect();
            error.with_hint(format!("It has {}.", shown.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn chosen(wanted: &VolumeFilter) -> Result<(Vec<String>, Vec<String>, Vec<String>)> {
        let volumes = vec![
            json!({ "Name": "uploads", "Labels": { "backup": "yes" } }),
            json!({ "Name": "pgdata", "Labels": null }),
        ];
        let container = |name: &str, volume: &str, service: &str| {
            json!({ "Name": format!("/{name}"), "Mounts": [{ "Type": "volume", "Name": volume, "Destination": "/d" }],
                "Config": { "Labels": { "com.docker.compose.service": service } },
                "NetworkSettings": { "Networks": { format!("{service}-net"): {}, "host": {} } } })
        };
        let containers = vec![
            container("shop-api-1", "uploads", "api"),
            container("shop-db-1", "pgdata", "db"),
        ];
        let networks = vec![
            json!({ "Name": "api-net" }),
            json!({ "Name": "db-net" }),
            json!({ "Name": "host" }),
        ];
        let found = select(wanted, volumes, containers, networks)?;
        let names = |all: &[Value]| {
            all.iter()
                .map(|v| text(v, "/Name").trim_start_matches('/').to_owned())
                .collect()
        };
        Ok((names(&found.volumes), names(&found.containers), names(&found.networks)))
    }

    #[test]
    fn volumes_are_chosen_by_name_and_label_and_bring_their_containers_and_networks() {
        let all = chosen(&VolumeFilter::default()).unwrap();
        assert_eq!(all.0, ["pgdata", "uploads"]);
        assert_eq!(all.2, ["api-net", "db-net"]);
        let named = VolumeFilter {
            volumes: vec!["up*".into()],
            ..VolumeFilter::default()
        };
        assert_eq!(
            chosen(&named).unwrap(),
            (
                vec!["uploads".into()],
                vec!["shop-api-1".into()],
                vec!["api-net".into()]
            )
        );
        let labelled = VolumeFilter {
            labels: vec!["backup=yes".into()],
            containers: vec!["db".into()],
            ..VolumeFilter::default()
        };
        let labelled = chosen(&labelled).unwrap();
        assert_eq!((labelled.0, labelled.1.len()), (vec!["uploads".to_owned()], 2));
        let excluded = VolumeFilter {
            exclude: vec!["pg*".into()],
            ..VolumeFilter::default()
        };
        let excluded = chosen(&excluded).unwrap();
        assert_eq!((excluded.0, excluded.1.len()), (vec!["uploads".to_owned()], 2));
        let error = chosen(&VolumeFilter {
            volumes: vec!["uplaods".into()],
            ..VolumeFilter::default()
        })
        .unwrap_err();
        assert!(error.hint().unwrap().contains("uploads"), "{error:?}");
        assert!(
            chosen(&VolumeFilter {
                labels: vec!["none".into()],
                ..VolumeFilter::default()
            })
            .is_err()
        );
    }
}
