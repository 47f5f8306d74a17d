//! What a server says of itself, and what that means for a backup or a restore.

use std::collections::BTreeMap;

use super::connection::Connection;
use super::resp::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::sources::{Finding, FindingLevel};

/// The fields of INFO.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    fields: BTreeMap<String, String>,
}

impl Server {
    /// Asks the server. Without the right to INFO nothing is known.
    pub(super) async fn ask(connection: &mut Connection) -> Result<Self> {
        match connection.ask(&[b"INFO"]).await? {
            Reply::Error(text) if text.starts_with("NOPERM") || text.contains("unknown command") => Ok(Self::default()),
            reply => Ok(Self::parse(&reply.checked()?.text().unwrap_or_default())),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        Self {
            fields: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// Returns `redis` or `valkey`.
    pub(super) fn product(&self) -> &'static str {
        if self.get("valkey_version").is_some() || self.get("server_name") == Some("valkey") {
            "valkey"
        } else {
            "redis"
        }
    }

    /// Returns the server's own version.
    pub(super) fn version(&self) -> &str {
        self.get("valkey_version")
            .or_else(|| self.get("redis_version"))
            .unwrap_or("unknown")
    }

    /// Returns whether it is a replica.
    pub(super) fn is_replica(&self) -> bool {
        self.get("role") == Some("slave")
    }

    /// Returns whether it is a node of a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.get("cluster_enabled") == Some("1")
    }

    /// Returns the keys of each database that has some.
    pub(super) fn keyspace(&self) -> BTreeMap<u32, u64> {
        let mut found = BTreeMap::new();
        for (name, value) in &self.fields {
            let Some(database) = name.strip_prefix("db").and_then(|number| number.parse().ok()) else {
                continue;
            };
            let keys = value.split(',').find_map(|part| part.strip_prefix("keys="));
            if let Some(keys) = keys.and_then(|keys| keys.parse().ok()) {
                found.insert(database, keys);
            }
        }
        found
    }

    /// Returns how many keys there are.
    pub(super) fn keys(&self) -> u64 {
        self.keyspace().values().sum()
    }

    /// Fails where a full synchronisation cannot work.
    pub(super) fn refuse_backup(&self) -> Result<()> {
        if self.get("loading").is_some_and(|loading| loading != "0") {
            return Err(Error::new(ErrorKind::Unavailable, "the server is loading its data")
                .with_hint("Try again when it is done; INFO persistence shows loading_eta_seconds."));
        }
        if self.is_replica() && self.get("master_link_status") == Some("down") {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the server is a replica that is not in sync with its primary",
            )
            .with_hint("Back up the primary or another replica, or wait until master_link_status is up."));
        }
        Ok(())
    }

    /// Tells what a full synchronisation costs this server.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![Finding {
            level: FindingLevel::Info,
            message: format!(
                "{} {}, {}{}, {} keys, {} MiB of memory in use",
                self.product(),
                self.version(),
                if self.is_replica() { "replica" } else { "primary" },
                if self.is_cluster() { " of a cluster" } else { "" },
                self.keys(),
                self.number("used_memory") >> 20
            ),
            hint: None,
        }];
        let mut warn = |message: String, hint: &str| {
            findings.push(Finding {
                level: FindingLevel::Warning,
                message,
                hint: Some(hint.to_owned()),
            });
        };
        let (rss, total) = (self.number("used_memory_rss"), self.number("total_system_memory"));
        if total > 0 && rss > total / 10 * 6 {
            warn(
                format!("the server uses {} of {} MiB of its machine", rss >> 20, total >> 20),
                "A backup forks it; pages written meanwhile are copied. Back up a replica, or at a quiet time.",
            );
        }
        if self.number("rdb_bgsave_in_progress") > 0 || self.number("aof_rewrite_in_progress") > 0 {
            warn(
                "the server is saving at this moment".to_owned(),
                "The backup waits until that is done.",
            );
        }
        let fork = self.number("latest_fork_usec");
        if fork > 100_000 {
            warn(
                format!("the last fork stopped the server for {} ms", fork / 1000),
                "Back up a replica, and turn transparent huge pages off on the server's machine.",
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let text = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nrole:slave\r\n\
                    master_link_status:down\r\ndb0:keys=5,expires=1,avg_ttl=0\r\ndb15:keys=2,expires=0\r\n";
        let server = Server::parse(text);
        assert_eq!((server.product(), server.version()), ("valkey", "9.1.2"));
        assert_eq!(server.keys(), 7);
        assert!(server.refuse_backup().is_err());
        assert_eq!(Server::default().version(), "unknown");
    }
}
