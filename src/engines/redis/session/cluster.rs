//! Redis Cluster: which node serves which slot, and which slot a key belongs to.
//!
//! `CLUSTER NODES` tells it, which every version answers; only a node itself says which of its slots are on their way
//! to or from another, so each primary is asked. A cluster whose slots move cannot be backed up: a key could be in the
//! RDB of neither shard.
//!
//! Specification: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>

use std::ops::RangeInclusive;

use futures_util::future::{join_all, try_join_all};

use super::address::{Endpoint, RedisAddress};
use super::client::Client;
use super::nodes;
use super::server::Server;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::wire::resp::{Reply, server_error};

/// Slots of every cluster.
pub(crate) const SLOTS: u16 = 1 << 14;

/// Shards that are believed; a forged answer could name very many.
const MAX_SHARDS: usize = 1000;

/// A primary with its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// ID of the node.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) address: RedisAddress,
    /// Slots it serves, in order.
    pub(crate) slots: Vec<RangeInclusive<u16>>,
}

impl Shard {
    /// Returns the slots as people write them: `0-5460,9000`.
    pub(crate) fn slots_text(&self) -> String {
        let texts: Vec<_> = self.slots.iter().map(range_text).collect();
        texts.join(",")
    }
}

fn range_text(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// The shards that serve slots, by their first slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) shards: Vec<Shard>,
    /// Slots of the node that was asked that are on their way to or from another: `93 from ID`.
    moving: Vec<String>,
}

impl Topology {
    /// Returns the topology if the address is a node of a cluster, and all of the cluster is meant.
    pub(crate) async fn of(address: &RedisAddress, server: &Server, client: &Client) -> Result<Option<Self>> {
        if address.reading.only_node || !server.is_cluster() {
            return Ok(None);
        }
        Self::ask(address, client).await.map(Some)
    }

    /// Asks a node; every slot must be served.
    pub(crate) async fn ask(address: &RedisAddress, client: &Client) -> Result<Self> {
        let topology = Self::view(address, client).await?;
        let gaps = topology.gaps();
        if gaps.is_empty() {
            return Ok(topology);
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("no node of the cluster serves slots {}", gaps.join(",")),
        )
        .with_hint("CLUSTER INFO shows its state; restore the failed shards, or assign their slots, first."))
    }

    /// Asks a node, whatever it says of the slots.
    async fn view(address: &RedisAddress, client: &Client) -> Result<Self> {
        let act = "ask for the nodes of the cluster (CLUSTER NODES)";
        let reply = client.call(&[b"CLUSTER", b"NODES"]).await.context(act)?;
        Self::parse(&reply.text().unwrap_or_default(), address).context(act)
    }

    /// Asks every primary; none may be moving slots, and all must agree who serves which.
    pub(crate) async fn settled(&self) -> Result<()> {
        let looks = self.shards.iter().map(|shard| async {
            let act = || format!("look for moving slots at \"{}\"", shard.address.location());
            let client = Client::open(&shard.address).await?;
            let seen = Self::view(&shard.address, &client).await.with_context(act)?;
            let own = seen.shards.iter().find(|other| other.id == shard.id);
            if own.map(|own| &own.slots) != Some(&shard.slots) {
                return Err(unsettled(format!(
                    "the nodes of the cluster do not agree that {} serves the slots {}",
                    shard.address.location(),
                    shard.slots_text()
                )));
            }
            let mut moving = seen.moving;
            moving.extend(migrations(&client).await?);
            if moving.is_empty() {
                return Ok(());
            }
            moving.truncate(8);
            Err(unsettled(format!(
                "slots are moving at {}: {}",
                shard.address.location(),
                moving.join(", ")
            )))
        });
        join_all(looks).await.into_iter().collect()
    }

    /// Reads the reply of `CLUSTER NODES`.
    fn parse(text: &str, seed: &RedisAddress) -> Result<Self> {
        let (mut shards, mut moving) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let odd = || {
                let line: String = line.chars().take(200).collect();
                Error::unsupported(format!("the node \"{}\" has an unknown form", line.escape_debug()))
            };
            let mut words = line.split_ascii_whitespace();
            let Some(id) = words.next() else { continue };
            let (Some(place), Some(flags)) = (words.next(), words.next()) else {
                return Err(odd());
            };
            // Of whom it follows, ping, pong, epoch, link.
            let mut slots = Vec::new();
            for word in words.skip(5) {
                if let Some(moves) = word.strip_prefix('[') {
                    moving.push(move_text(moves.trim_end_matches(']')));
                    continue;
                }
                slots.push(range(word).ok_or_else(odd)?);
            }
            let is = |flag| flags.split(',').any(|word| word == flag);
            if slots.is_empty() || !is("master") || is("noaddr") {
                continue;
            }
            slots.sort_by_key(|range| *range.start());
            shards.push(Shard {
                id: id.to_owned(),
                address: node_address(place, seed).ok_or_else(odd)?,
                slots,
            });
            if shards.len() > MAX_SHARDS {
                return Err(Error::unsupported(format!(
                    "the cluster has more than {MAX_SHARDS} shards"
                )));
            }
        }
        shards.sort_by_key(|shard| shard.slots.first().map(|range| *range.start()));
        Ok(Self { shards, moving })
    }

    /// Returns which shard serves each slot.
    pub(crate) fn table(&self) -> Vec<usize> {
        let mut table = vec![0; usize::from(SLOTS)];
        for (number, shard) in self.shards.iter().enumerate() {
            for slot in shard.slots.iter().cloned().flatten() {
                if let Some(entry) = table.get_mut(usize::from(slot)) {
                    *entry = number;
                }
            }
        }
        table
    }

    /// Returns the ranges of slots that nobody serves.
    fn gaps(&self) -> Vec<String> {
        let mut ranges: Vec<_> = self.shards.iter().flat_map(|shard| &shard.slots).collect();
        ranges.sort_by_key(|range| *range.start());
        let (mut next, mut gaps) = (0, Vec::new());
        for range in ranges {
            if *range.start() > next {
                gaps.push(range_text(&(next..=range.start().saturating_sub(1))));
            }
            next = next.max(range.end().saturating_add(1));
        }
        if next < SLOTS {
            gaps.push(range_text(&(next..=SLOTS - 1)));
        }
        gaps
    }

    /// Returns, for each shard, the address to back up: a replica in sync where one is wanted and there.
    pub(crate) async fn for_backup(&self) -> Result<Vec<RedisAddress>> {
        try_join_all(self.shards.iter().map(|shard| nodes::replica_of(&shard.address))).await
    }
}

fn unsettled(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_hint(
        "A key could be missing from the RDBs of both shards; back up when slot migration is finished \
                    (CLUSTER NODES).",
    )
}

/// Reads `93-<-ID` (coming) or `77->-ID` (going).
fn move_text(text: &str) -> String {
    match (text.split_once("-<-"), text.split_once("->-")) {
        (Some((slot, id)), _) => format!("{slot} from node {id}"),
        (_, Some((slot, id))) => format!("{slot} to node {id}"),
        _ => text.escape_debug().to_string(),
    }
}

/// Returns the migrations that servers carry out by themselves (Valkey 9, Redis 8.4) and that have not ended.
async fn migrations(client: &Client) -> Result<Vec<String>> {
    let asked: [&[&[u8]]; 2] = [
        &[b"CLUSTER", b"GETSLOTMIGRATIONS"],
        &[b"CLUSTER", b"MIGRATION", b"STATUS", b"ALL"],
    ];
    let mut found = Vec::new();
    for command in asked {
        // Those who do not know it answer with another error; the right is looked at only by those who do.
        let reply = match client.ask(command).await? {
            Reply::Error(text) if text.starts_with("NOPERM") => {
                let error = server_error(&text).with_hint(
                    "A key of a migrating slot could be missing: give the user +cluster|getslotmigrations (Valkey) or \
                     +cluster|migration (Redis).",
                );
                return Err(error.context("ask whether slots are moving"));
            }
            reply => reply,
        };
        for job in reply.elements() {
            let field = |name| nodes::named(job, name).and_then(Reply::text).unwrap_or_default();
            let state = field("state").to_ascii_lowercase();
            if !["success", "completed", "failed", "cancelled", "canceled"].contains(&state.as_str()) {
                found.push(format!("{}{} ({state})", field("slot_ranges"), field("slots")));
            }
        }
    }
    Ok(found)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
    (from <= to && to < SLOTS).then_some(from..=to)
}

/// Reads `ip:port@bus-port,hostname,…`; a node that does not know its own address yet leaves it out.
fn node_address(text: &str, seed: &RedisAddress) -> Option<RedisAddress> {
    let mut parts = text.split(',');
    let place = parts.next()?;
    let (place, _bus) = place.split_once('@').unwrap_or((place, ""));
    let name = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
    let (ip, port) = place.rsplit_once(':')?;
    // Certificates are for names.
    let tls = matches!(seed.place, Endpoint::Tcp { tls: true, .. });
    let host = name.filter(|_| tls || ip.is_empty()).unwrap_or(ip);
    endpoint(seed, host, port)
}

/// Returns the address of a node that an answer names; without a host it is the one that answered.
pub(crate) fn endpoint(answered: &RedisAddress, host: &str, port: &str) -> Option<RedisAddress> {
    let port = port.parse().ok().filter(|port| *port > 0)?;
    match (&answered.place, host) {
        (Endpoint::Tcp { host, .. }, "" | "?") => Some(nodes::moved(answered, host, port)),
        (Endpoint::Unix(_), "" | "?") => Some(nodes::moved(answered, "127.0.0.1", port)),
        (_, host) => Some(nodes::moved(answered, host.trim_matches(['[', ']']), port)),
    }
}

/// Returns the slot of a key: CRC16 (XMODEM) of it, or of what stands in the first `{}` if that is not empty.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    let mut crc = 0_u16;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc % SLOTS
}

/// Returns a number whose slot is that of the key: as a tag it brings a temporary key beside it.
pub(crate) fn tag_beside(key: &[u8]) -> String {
    let wanted = slot(key);
    let mut numbers = (0_u32..).map(|number| number.to_string());
    // Every slot is met within the first 150,000 numbers.
    numbers.find(|text| slot(text.as_bytes()) == wanted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seed(url: &str) -> RedisAddress {
        RedisAddress::from_url(url, None, None, &|_| None).unwrap()
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // CLUSTER KEYSLOT of a Redis 7.0.
        for (key, expected) in [
            (&b"123456789"[..], 0x31C3),
            (b"foo", 12182),
            (b"{user1000}.following", slot(b"user1000")),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", slot(b"{bar")),
            (b"", 0),
        ] {
            assert_eq!(slot(key), expected, "{}", key.escape_ascii());
        }
        for key in [&b"a"[..], b"{}", b"a}b", b"\0\xff"] {
            assert_eq!(slot(format!("x{{{}}}y", tag_beside(key)).as_bytes()), slot(key));
        }
    }

    #[test]
    fn nodes_of_every_version_are_read() {
        let text = "07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected\n\
                    67ed 127.0.0.1:30002@31002,,tls-port=0,shard-id=69bc master - 0 1426 2 connected 5461-10922\n\
                    292f [::1]:30003@31003 master,fail - 1 2 3 connected 10923-16383\n\
                    e7d1 :0@0 myself,master - 0 0 1 connected\n\
                    1111 :30001@31001 master - 0 0 1 connected 0-5459 5460 [93-<-292f] [77->-e7d1]\n";
        let found = Topology::parse(text, &seed("redis://h:1")).unwrap();
        let shown: Vec<_> = found
            .shards
            .iter()
            .map(|s| (s.address.location(), s.slots_text()))
            .collect();
        assert_eq!(shown[0], ("redis://h:30001".to_owned(), "0-5459,5460".to_owned()));
        assert_eq!(
            shown[1],
            ("redis://127.0.0.1:30002".to_owned(), "5461-10922".to_owned())
        );
        assert_eq!(shown[2], ("redis://[::1]:30003".to_owned(), "10923-16383".to_owned()));
        assert_eq!(found.moving, ["93 from node 292f", "77 to node e7d1"]);
        assert!(found.gaps().is_empty());
        let table = found.table();
        assert_eq!((table[0], table[5461], table[16383]), (0, 1, 2));
    }

    #[test]
    fn gaps_and_nonsense_are_named() {
        let text = "a 1.2.3.4:1@2 master - 0 0 1 connected 5-6 9-16000\n";
        let found = Topology::parse(text, &seed("redis://h:1")).unwrap();
        assert_eq!(found.gaps(), ["0-4", "7-8", "16001-16383"]);
        for wrong in [
            "a b",
            "a b master - 0 0 1 connected 1",
            "a 1.2.3.4:1 master - 0 0 1 connected 16384",
            "a 1.2.3.4:1 master - 0 0 1 connected 3-2",
            "a 1.2.3.4:0 master - 0 0 1 connected 3",
        ] {
            assert!(Topology::parse(wrong, &seed("redis://h:1")).is_err(), "{wrong}");
        }
        let text = "a 1.2.3.4:7@8,node.example master - 0 0 1 connected 0-16383\n";
        let found = Topology::parse(text, &seed("rediss://h:1")).unwrap();
        assert_eq!(found.shards[0].address.location(), "rediss://node.example:7");
    }
}
