//! Where the keys of a restore go: to one server, or in a cluster to the primary that serves their slot.
//!
//! Slots may move meanwhile. A node that no longer serves one answers `MOVED` with the new place: keys that follow go there
//! at once, and the refused ones in another pass over the RDB. One whose keys are on their way answers `ASK`: in the next
//! pass such keys go to the other node behind `ASKING`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::cluster;
use crate::engines::redis::session::cluster::Topology;
use crate::engines::redis::session::connection::Connection;

/// Which node takes which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routes {
    nodes: Vec<RedisAddress>,
    /// Number of the node for each slot; nothing for a single server.
    slots: Option<Vec<usize>>,
    /// Nodes that are taking a slot over.
    asking: HashMap<u16, usize>,
    /// Hashes of the function libraries that were sent: every shard of a backup holds the same ones.
    libraries: HashSet<u128>,
}

impl Routes {
    /// All keys go to one server.
    pub(crate) fn single(address: RedisAddress) -> Self {
        Self {
            nodes: vec![address],
            slots: None,
            asking: HashMap::new(),
            libraries: HashSet::new(),
        }
    }

    /// Keys go to the primaries of a cluster.
    pub(crate) fn cluster(topology: &Topology) -> Self {
        Self {
            nodes: topology.shards.iter().map(|shard| shard.address.clone()).collect(),
            slots: Some(topology.table()),
            asking: HashMap::new(),
            libraries: HashSet::new(),
        }
    }

    /// Returns the servers; a cluster's may become more meanwhile.
    pub(crate) fn nodes(&self) -> &[RedisAddress] {
        &self.nodes
    }

    /// Returns whether it is a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// Returns the number of the node that takes a key, and whether only behind ASKING.
    pub(crate) fn of(&self, key: &[u8]) -> (usize, bool) {
        let Some(slots) = &self.slots else {
            return (0, false);
        };
        let slot = cluster::slot(key);
        match self.asking.get(&slot) {
            Some(node) => (*node, true),
            None => (slots.get(usize::from(slot)).copied().unwrap_or(0), false),
        }
    }

    /// Returns whether a function library was not seen before.
    pub(crate) fn is_new_library(&mut self, code: &[u8]) -> bool {
        self.libraries.insert(super::load::hash(code))
    }

    /// Follows slots that have moved.
    pub(crate) fn follow_moved(&mut self, redirects: &Redirects) {
        for (slot, address) in redirects.take(|found| &mut found.moved) {
            let node = self.number_of(address);
            self.asking.remove(&slot);
            if let Some(entry) = self.slots.as_mut().and_then(|slots| slots.get_mut(usize::from(slot))) {
                *entry = node;
            }
        }
    }

    /// Follows slots that are moving, for one more pass.
    pub(crate) fn follow_asked(&mut self, redirects: &Redirects) {
        let asked = redirects.take(|found| &mut found.asked);
        self.asking = asked
            .into_iter()
            .map(|(slot, address)| (slot, self.number_of(address)))
            .collect();
    }

    fn number_of(&mut self, address: RedisAddress) -> usize {
        let known = self.nodes.iter().position(|node| *node == address);
        known.unwrap_or_else(|| {
            self.nodes.push(address);
            self.nodes.len() - 1
        })
    }
}

#[derive(Debug, Default)]
struct Found {
    moved: BTreeMap<u16, RedisAddress>,
    asked: BTreeMap<u16, RedisAddress>,
}

/// Where nodes sent us on; at most one place for each slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redirects(Arc<Mutex<Found>>);

impl Redirects {
    /// Takes the error of a node. Returns whether the key may find its place in another pass.
    pub(crate) fn note(&self, answered: &RedisAddress, error: &str) -> bool {
        let mut words = error.split_ascii_whitespace();
        let (code, slot, place) = (words.next().unwrap_or_default(), words.next(), words.next());
        if matches!(code, "CLUSTERDOWN" | "TRYAGAIN") {
            return true;
        }
        if !matches!(code, "MOVED" | "ASK") {
            return false;
        }
        let slot = slot
            .and_then(|slot| slot.parse().ok())
            .filter(|slot| *slot < cluster::SLOTS);
        let place = place.and_then(|place| place.rsplit_once(':'));
        let address = place.and_then(|(host, port)| cluster::endpoint(answered, host, port));
        let (Some(slot), Some(address)) = (slot, address) else {
            return false;
        };
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = if code == "MOVED" {
            &mut found.moved
        } else {
            &mut found.asked
        };
        places.insert(slot, address);
        true
    }

    fn take(&self, which: impl FnOnce(&mut Found) -> &mut BTreeMap<u16, RedisAddress>) -> BTreeMap<u16, RedisAddress> {
        std::mem::take(which(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Connections to the servers, for one command after another.
#[derive(Debug)]
pub(crate) struct Nodes {
    routes: Routes,
    open: Vec<(Connection, Option<u32>)>,
}

impl Nodes {
    /// Connects to all of them.
    pub(crate) async fn open(routes: Routes) -> Result<Self> {
        let mut open = Vec::new();
        for address in routes.nodes() {
            open.push((Connection::open(address).await?, None));
        }
        Ok(Self { routes, open })
    }

    /// Returns the connection for a key, with its database chosen.
    pub(crate) async fn for_key(&mut self, database: u32, key: &[u8]) -> Result<&mut Connection> {
        let (node, _) = self.routes.of(key);
        let found = self.open.get_mut(node);
        let (connection, chosen) = found.ok_or_else(|| Error::new(ErrorKind::Other, "no server accepts the key"))?;
        if *chosen != Some(database) {
            *chosen = None;
            let selected = connection.select(database).await;
            selected.with_context(|| format!("choose database {database}"))?;
            *chosen = Some(database);
        }
        Ok(connection)
    }

    /// Returns a name for a key that is not ready, in the same slot as the key itself.
    pub(crate) fn temporary(&self, key: &[u8], random: u64) -> Vec<u8> {
        let tag = if self.routes.is_cluster() {
            format!("{{{}}}:", cluster::tag_beside(key))
        } else {
            String::new()
        };
        format!("wirevault:restore:{tag}{random:016x}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn redirections_are_followed() {
        let seed = RedisAddress::from_url("redis://h:1", None, None, &|_| None).unwrap();
        let mut routes = Routes::single(seed.clone());
        routes.slots = Some(vec![0; usize::from(cluster::SLOTS)]);
        let redirects = Redirects::default();
        for wrong in [
            "MOVED",
            "MOVED x h:2",
            "MOVED 16384 h:2",
            "MOVED 1 h",
            "ERR no",
            "ASK 1 h:99999",
        ] {
            assert!(!redirects.note(&seed, wrong), "{wrong}");
        }
        assert!(redirects.note(&seed, "CLUSTERDOWN Hash slot not served"));
        let slot = cluster::slot(b"foo");
        assert!(redirects.note(&seed, &format!("ASK {slot} :3")));
        routes.follow_moved(&redirects);
        assert_eq!(routes.of(b"foo"), (0, false));
        routes.follow_asked(&redirects);
        assert_eq!(routes.of(b"foo"), (1, true));
        assert_eq!(routes.nodes()[1].location(), "redis://h:3");
        assert!(redirects.note(&seed, &format!("MOVED {slot} [::1]:4")));
        routes.follow_moved(&redirects);
        assert_eq!(routes.of(b"foo"), (2, false));
        assert_eq!(routes.nodes()[2].location(), "redis://[::1]:4");
        assert!(routes.is_new_library(b"x") && !routes.is_new_library(b"x"));
    }
}
