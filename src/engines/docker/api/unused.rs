//! What nobody uses on an engine, and since when. Pure: a look is compared with what former looks saw.
//!
//! An engine does not say when an image or a volume was used last. So a record keeps when each was first seen without a
//! container, and its age is counted from there: a record that is lost only makes things live longer. Whatever any container
//! has, running or not, is used.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobMatcher;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::definition::{container_name, volume_mounts};
use super::engine::text;
use super::select::is_meant;

/// What may go: patterns of names. Untagged images and those that a registry knows need no name.
#[derive(Debug, Default)]
pub struct Unused {
    /// Tagged images that no registry knows.
    pub images: Vec<GlobMatcher>,
    /// Containers that do not run.
    pub containers: Vec<GlobMatcher>,
    /// Volumes that no container has.
    pub volumes: Vec<GlobMatcher>,
    /// Things that stay.
    pub exclude: Vec<GlobMatcher>,
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A container that does not run.
    Container,
    /// An image without a container.
    Image,
    /// A volume without a container.
    Volume,
}

/// Something that is not used.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// The engine's id of it; the name of a volume.
    pub id: String,
    /// How people know it.
    pub name: String,
    /// Since when it is known to be unused.
    pub since: Timestamp,
    /// Size of an image, layers that it shares with others included.
    pub bytes: u64,
    /// The names by which an image is removed, one after another.
    #[serde(skip)]
    pub references: Vec<String>,
}

/// Descriptions of all there is, as the engine gives them.
#[derive(Debug, Default)]
pub struct Present {
    /// Containers, inspected.
    pub containers: Vec<Value>,
    /// Images, inspected.
    pub images: Vec<Value>,
    /// Volumes.
    pub volumes: Vec<Value>,
}

/// When each thing was first seen unused, by kind and id.
pub type Record = BTreeMap<String, Timestamp>;

/// What a look found.
#[derive(Debug, Default)]
pub struct UnusedReport {
    /// Unused for longer than allowed; containers first, since what they have is used.
    pub old: Vec<Thing>,
    /// Unused, but not for so long.
    pub young: Vec<Thing>,
    /// The record for the next look.
    pub record: Record,
}

/// Looks through what there is. Whatever was used in this look starts anew in the record.
pub fn look(wanted: &Unused, present: &Present, before: &Record, keep: SignedDuration, now: Timestamp) -> UnusedReport {
    let limit = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
    let mut found = UnusedReport::default();
    let mut things: Vec<Thing> = present
        .containers
        .iter()
        .filter_map(|one| container(wanted, one))
        .collect();
    let used = used_images(present);
    let images = present.images.iter().filter(|one| !used.contains(text(one, "/Id")));
    things.extend(images.filter_map(|one| image(wanted, one)));
    let mounted: BTreeSet<String> = present
        .containers
        .iter()
        .flat_map(volume_mounts)
        .map(|mount| mount.volume)
        .collect();
    let volumes = present.volumes.iter();
    things.extend(
        volumes
            .filter(|one| !mounted.contains(text(one, "/Name")))
            .filter_map(|one| volume(wanted, one)),
    );
    for mut thing in things {
        if thing.kind != Kind::Container {
            let key = format!("{:?} {}", thing.kind, thing.id).to_lowercase();
            // A record of the future is that of a clock that was wrong.
            let seen = before.get(&key).map_or(now, |seen| (*seen).min(now));
            found.record.insert(key, seen);
            thing.since = thing.since.max(seen);
        }
        if thing.since < limit {
            found.old.push(thing);
        } else {
            found.young.push(thing);
        }
    }
    found
}

fn matches(globs: &[GlobMatcher], name: &str) -> bool {
    globs.iter().any(|glob| glob.is_match(name))
}

fn time(thing: &Value, pointer: &str) -> Timestamp {
    text(thing, pointer).parse().unwrap_or(Timestamp::MIN)
}

/// The images of all containers, and those they were made from.
fn used_images(present: &Present) -> BTreeSet<&str> {
    let mut used = BTreeSet::new();
    let mut waiting: Vec<&str> = present.containers.iter().map(|one| text(one, "/Image")).collect();
    while let Some(id) = waiting.pop() {
        if !id.is_empty() && used.insert(id) {
            let found = present.images.iter().filter(|one| text(one, "/Id") == id);
            waiting.extend(found.map(|one| text(one, "/Parent")));
        }
    }
    used
}

fn container(wanted: &Unused, one: &Value) -> Option<Thing> {
    let meant = |globs: &[GlobMatcher]| globs.iter().any(|glob| is_meant(one, glob));
    let state = text(one, "/State/Status");
    // Paused, restarting, or a state of a later version: not ended.
    let ended = matches!(state, "exited" | "created" | "dead");
    (ended && meant(&wanted.containers) && !meant(&wanted.exclude)).then(|| Thing {
        kind: Kind::Container,
        id: text(one, "/Id").to_owned(),
        name: container_name(one).to_owned(),
        since: time(one, "/State/FinishedAt").max(time(one, "/Created")),
        bytes: 0,
        references: Vec::new(),
    })
}

fn image(wanted: &Unused, one: &Value) -> Option<Thing> {
    let names = |key: &str| -> Vec<String> {
        let list = one.get(key).and_then(Value::as_array).into_iter().flatten();
        let list = list.filter_map(Value::as_str).filter(|name| !name.contains("<none>"));
        list.map(str::to_owned).collect()
    };
    let (tags, digests) = (names("RepoTags"), names("RepoDigests"));
    let meant = tags.is_empty() || !digests.is_empty() || tags.iter().all(|tag| matches(&wanted.images, tag));
    let id = text(one, "/Id");
    let named = || tags.iter().chain(&digests);
    if !meant || id.is_empty() || named().any(|name| matches(&wanted.exclude, name)) {
        return None;
    }
    let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
    let references: Vec<String> = named().cloned().collect();
    Some(Thing {
        kind: Kind::Image,
        id: id.to_owned(),
        name: references.first().cloned().unwrap_or(short),
        // Pulled, built or tagged: somebody wanted it then.
        since: time(one, "/Metadata/LastTagTime"),
        bytes: one.get("Size").and_then(Value::as_u64).unwrap_or(0),
        references: if references.is_empty() {
            vec![id.to_owned()]
        } else {
            references
        },
    })
}

fn volume(wanted: &Unused, one: &Value) -> Option<Thing> {
    let name = text(one, "/Name");
    (matches(&wanted.volumes, name) && !matches(&wanted.exclude, name)).then(|| Thing {
        kind: Kind::Volume,
        id: name.to_owned(),
        name: name.to_owned(),
        since: time(one, "/CreatedAt"),
        bytes: 0,
        references: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use globset::Glob;
    use serde_json::json;

    use super::*;

    fn globs(patterns: &[&str]) -> Vec<GlobMatcher> {
        patterns
            .iter()
            .map(|one| Glob::new(one).unwrap().compile_matcher())
            .collect()
    }

    fn present() -> Present {
        let image = |id: &str, tags: Value, digests: Value, parent: &str| {
            json!({ "Id": id, "RepoTags": tags, "RepoDigests": digests, "Parent": parent, "Size": 7,
                "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" } })
        };
        let container = |name: &str, state: &str, ended: &str, image: &str, volume: &str| {
            json!({ "Id": name, "Name": format!("/{name}"), "Image": image, "Created": "2026-01-01T00:00:00Z",
                "State": { "Status": state, "FinishedAt": ended },
                "Mounts": [{ "Type": "volume", "Name": volume, "Destination": "/d" }] })
        };
        Present {
            containers: vec![
                container("api", "running", "0001-01-01T00:00:00Z", "a", "data"),
                container("once", "exited", "2026-02-01T00:00:00Z", "b", "job"),
                container("tool", "exited", "2026-02-01T00:00:00Z", "b", "job"),
            ],
            images: vec![
                image("a", json!(["api:2"]), json!(["api@sha256:2"]), "base"),
                image("base", json!(["base:1"]), json!(["base@sha256:1"]), ""),
                image("b", json!(["b:1"]), json!([]), ""),
                image("old", json!(["api:1"]), json!(["api@sha256:1"]), ""),
                image("bare", json!([]), json!([]), ""),
                image("own", json!(["own:1"]), json!([]), ""),
                image("kept", json!(["kept:1"]), json!(["kept@sha256:1"]), ""),
            ],
            volumes: vec![
                json!({ "Name": "data", "CreatedAt": "2026-01-01T00:00:00+02:00" }),
                json!({ "Name": "job", "CreatedAt": "2026-01-01T00:00:00Z" }),
                json!({ "Name": "cache-1", "CreatedAt": "2026-01-01T00:00:00Z" }),
                json!({ "Name": "precious", "CreatedAt": "2026-01-01T00:00:00Z" }),
            ],
        }
    }

    fn names(things: &[Thing]) -> Vec<&str> {
        things.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn only_what_was_unused_at_every_look_goes_and_only_what_was_meant() {
        let wanted = Unused {
            exclude: globs(&["kept:*"]),
            ..Unused::default()
        };
        let keep = SignedDuration::from_hours(720);
        let day = |day: i64| Timestamp::from_second(1_780_000_000 + day * 86_400).unwrap();
        let first = look(&wanted, &present(), &Record::new(), keep, day(0));
        assert_eq!(
            (names(&first.old).len(), names(&first.young)),
            (0, vec!["api:1", "bare"])
        );
        let later = look(&wanted, &present(), &first.record, keep, day(31));
        assert_eq!(names(&later.old), ["api:1", "bare"]);
        assert_eq!(later.old.first().unwrap().references, ["api:1", "api@sha256:1"]);
        // Used in between: it starts anew.
        let mut in_use = present();
        in_use.containers.push(json!({ "Id": "x", "Image": "old" }));
        let between = look(&wanted, &in_use, &first.record, keep, day(20));
        let later = look(&wanted, &present(), &between.record, keep, day(31));
        assert_eq!((names(&later.old), names(&later.young)), (vec!["bare"], vec!["api:1"]));
        // A clock that was ahead, and is set right.
        let ahead = look(&wanted, &present(), &Record::new(), keep, day(4000));
        assert!(look(&wanted, &present(), &ahead.record, keep, day(1)).old.is_empty());
        // Tagged again yesterday.
        let mut tagged = present();
        *tagged
            .images
            .get_mut(3)
            .unwrap()
            .pointer_mut("/Metadata/LastTagTime")
            .unwrap() = json!(day(30).to_string());
        assert_eq!(
            names(&look(&wanted, &tagged, &first.record, keep, day(31)).old),
            ["bare"]
        );
    }

    #[test]
    fn containers_volumes_and_own_images_go_by_name_alone() {
        let wanted = Unused {
            images: globs(&["own:*"]),
            containers: globs(&["once", "api"]),
            volumes: globs(&["cache-*", "data", "job"]),
            exclude: Vec::new(),
        };
        let keep = SignedDuration::from_hours(720);
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let first = look(&wanted, &present(), &Record::new(), keep, now);
        // When a container ended, the engine knows.
        assert_eq!(names(&first.old), ["once"]);
        let later = look(
            &wanted,
            &present(),
            &first.record,
            keep,
            now + SignedDuration::from_hours(721),
        );
        assert_eq!(
            names(&later.old),
            ["once", "api:1", "bare", "own:1", "kept:1", "cache-1"]
        );
    }
}
