//! What a server says of itself, and what that means for a backup or a restore.
//!
//! A right that is missing, a command that is not offered and a field that is not there say nothing about the server: what
//! they would have told stays unknown, and is never read as "no". INFO tells most; what it keeps to itself is asked of
//! HELLO, ROLE and CLUSTER INFO.

use std::collections::BTreeMap;

use super::client::Client;
use super::nodes::named;
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::wire::resp::{Reply, keeps_to_itself};
use crate::engines::{Finding, FindingLevel};

/// The fields of INFO, or those that other commands told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    fields: BTreeMap<String, String>,
    /// INFO told which databases hold keys.
    keyspace: bool,
    /// Names of the modules that are loaded, if they are known.
    modules: Option<Vec<String>>,
    /// Why the server did not answer INFO.
    no_info: Option<String>,
}

impl Server {
    /// Asks the server, in other words where it keeps something to itself.
    pub(crate) async fn ask(client: &Client) -> Result<Self> {
        let mut server = match client.ask(&[b"INFO"]).await? {
            Reply::Error(text) if keeps_to_itself(&text) => Self {
                no_info: Some(text),
                ..Self::default()
            },
            reply => Self::parse(&reply.checked()?.text().unwrap_or_default()),
        };
        if !server.has_version() || server.cluster().is_none() || server.role().is_none() {
            server.greet(client).await?;
        }
        if server.no_info.is_some() || server.role().is_none() {
            server.ask_role(client).await?;
        }
        if server.cluster().is_none() {
            server.ask_cluster(client).await?;
        }
        Ok(server)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        let fields: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let section = |name: &str| text.lines().any(|line| line.trim() == name);
        let module = |line: &str| {
            let name = line.trim().strip_prefix("module:name=")?.split(',').next();
            name.map(str::to_owned)
        };
        let mut server = Self {
            fields,
            keyspace: false,
            modules: section("# Modules").then(|| text.lines().filter_map(module).collect()),
            no_info: None,
        };
        server.keyspace = section("# Keyspace") || !server.databases().is_empty();
        server
    }

    /// Adds what is not known yet.
    fn add(&mut self, name: &str, value: &str) {
        self.fields.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    fn has_version(&self) -> bool {
        self.version() != "unknown"
    }

    /// Takes product, version, mode and role from HELLO (Redis 6, every Valkey), which changes nothing without arguments.
    async fn greet(&mut self, client: &Client) -> Result<()> {
        let reply = client.ask(&[b"HELLO"]).await?;
        let text = |name| named(&reply, name).and_then(Reply::text);
        if let (Some(product), Some(version)) = (text("server"), text("version"))
            && !self.has_version()
        {
            self.add(&format!("{product}_version"), &version);
        }
        match text("mode").as_deref() {
            Some("cluster") => self.add("cluster_enabled", "1"),
            Some("standalone") => self.add("cluster_enabled", "0"),
            _ => {}
        }
        match text("role").as_deref() {
            Some("master" | "primary") => self.add("role", "master"),
            Some("replica" | "slave") => self.add("role", "slave"),
            _ => {}
        }
        Ok(())
    }

    /// Returns the names of the modules that are loaded, if the server tells them.
    pub(crate) async fn modules(&self, client: &Client) -> Result<Option<Vec<String>>> {
        if let Some(modules) = &self.modules {
            return Ok(Some(modules.clone()));
        }
        Ok(match client.ask(&[b"MODULE", b"LIST"]).await? {
            Reply::Array(modules) => modules
                .iter()
                .map(|module| named(module, "name").and_then(Reply::text))
                .collect(),
            _ => None,
        })
    }

    /// Takes from ROLE whether it is a replica, whether that is in sync, and the replicas of a primary.
    async fn ask_role(&mut self, client: &Client) -> Result<()> {
        let reply = client.ask(&[b"ROLE"]).await?;
        let words = reply.elements();
        match words.first().and_then(Reply::text).as_deref() {
            Some("master" | "primary") => {
                self.add("role", "master");
                // Those in sync alone.
                let replicas = words.get(2).map(Reply::elements).unwrap_or_default();
                self.add("connected_slaves", &replicas.len().to_string());
                for (number, replica) in replicas.iter().enumerate() {
                    let texts: Vec<_> = replica.elements().iter().filter_map(Reply::text).collect();
                    if let [ip, port, offset] = texts.as_slice() {
                        let line = format!("ip={ip},port={port},state=online,offset={offset}");
                        self.add(&format!("slave{number}"), &line);
                    }
                }
            }
            Some("slave" | "replica") => {
                self.add("role", "slave");
                self.add("connected_slaves", "0");
                if let Some(state) = words.get(3).and_then(Reply::text) {
                    self.add("master_link_status", if state == "connected" { "up" } else { "down" });
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn ask_cluster(&mut self, client: &Client) -> Result<()> {
        match client.ask(&[b"CLUSTER", b"INFO"]).await? {
            // A server without clusters looks at the rights first.
            Reply::Error(text) if text.contains("cluster support disabled") => self.add("cluster_enabled", "0"),
            reply => {
                if reply.text().is_some_and(|text| text.contains("cluster_state:")) {
                    self.add("cluster_enabled", "1");
                }
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns a number that INFO told.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }

    /// Returns why the server did not answer INFO.
    pub(crate) fn no_info(&self) -> Option<&str> {
        self.no_info.as_deref()
    }

    /// Returns `redis` or `valkey`; `redis` too where nothing is known.
    pub(crate) fn product(&self) -> &'static str {
        if self.get("valkey_version").is_some() || self.get("server_name") == Some("valkey") {
            "valkey"
        } else {
            "redis"
        }
    }

    /// Returns the server's own version.
    pub(crate) fn version(&self) -> &str {
        self.get("valkey_version")
            .or_else(|| self.get("redis_version"))
            .unwrap_or("unknown")
    }

    /// Returns the first number of the version, if that is known.
    pub(crate) fn major(&self) -> Option<u32> {
        self.version().split('.').next()?.parse().ok()
    }

    fn role(&self) -> Option<&str> {
        self.get("role")
    }

    /// Returns whether it is a replica, if that is known.
    pub(crate) fn replica(&self) -> Option<bool> {
        self.role().map(|role| role == "slave")
    }

    /// Returns whether it is known to be a replica.
    pub(crate) fn is_replica(&self) -> bool {
        self.replica() == Some(true)
    }

    /// Returns whether its replicas are known; see `slave0` and so on.
    pub(crate) fn replicas_are_known(&self) -> bool {
        self.get("connected_slaves").is_some()
    }

    /// Returns whether it is known not to lag behind a primary that it has lost.
    pub(crate) fn is_in_sync(&self) -> bool {
        match self.replica() {
            Some(true) => self.get("master_link_status") == Some("up"),
            Some(false) => true,
            None => false,
        }
    }

    /// Returns whether it is a node of a cluster, if that is known.
    pub(crate) fn cluster(&self) -> Option<bool> {
        self.get("cluster_enabled").map(|enabled| enabled == "1")
    }

    /// Returns whether it is known to be a node of a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.cluster() == Some(true)
    }

    /// Returns the keys of each database that has some, if INFO told that.
    pub(crate) fn keyspace(&self) -> Option<BTreeMap<u32, u64>> {
        self.keyspace.then(|| self.databases())
    }

    fn databases(&self) -> BTreeMap<u32, u64> {
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

    /// Fails where a full synchronisation cannot work.
    pub(crate) fn refuse_backup(&self) -> Result<()> {
        if self.get("loading").is_some_and(|loading| loading != "0") {
            return Err(Error::new(ErrorKind::Unavailable, "the server is loading its data")
                .with_hint("Try again later; INFO persistence shows loading_eta_seconds."));
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

    /// Tells what it is.
    fn described(&self) -> String {
        let role = match self.replica() {
            Some(true) => "replica",
            Some(false) => "primary",
            None => "role unknown",
        };
        let cluster = if self.is_cluster() { " of a cluster" } else { "" };
        let keys = match self.keyspace() {
            Some(databases) => format!("{} keys", databases.values().sum::<u64>()),
            None => "number of keys unknown".to_owned(),
        };
        let memory = match self.number("used_memory") {
            Some(bytes) => format!("{} MiB of memory in use", bytes >> 20),
            None => "memory in use unknown".to_owned(),
        };
        format!(
            "{} {}, {role}{cluster}, {keys}, {memory}",
            self.product(),
            self.version()
        )
    }

    /// Tells what a full synchronisation costs this server.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![Finding {
            level: FindingLevel::Info,
            message: self.described(),
            hint: None,
        }];
        let mut warn = |message: String, hint: &str| {
            findings.push(Finding {
                level: FindingLevel::Warning,
                message,
                hint: Some(hint.to_owned()),
            });
        };
        if let Some(text) = &self.no_info {
            warn(
                format!("INFO failed: {text}"),
                "Give the user +info; without it, the cost of a backup to the server is unknown.",
            );
        }
        let number = |name| self.number(name).unwrap_or(0);
        let (rss, total) = (number("used_memory_rss"), number("total_system_memory"));
        if total > 0 && rss > total / 10 * 6 {
            warn(
                format!("the server uses {} of {} MiB of its machine", rss >> 20, total >> 20),
                "A backup makes it fork, and pages written meanwhile are copied. Back up a replica, or at a quiet \
                 time.",
            );
        }
        if number("rdb_bgsave_in_progress") > 0 || number("aof_rewrite_in_progress") > 0 {
            warn(
                "the server is running a background save".to_owned(),
                "The backup waits for it to finish.",
            );
        }
        let fork = number("latest_fork_usec");
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
        assert_eq!(server.keyspace(), Some(BTreeMap::from([(0, 5), (15, 2)])));
        assert!(server.refuse_backup().is_err());
        assert_eq!(Server::default().version(), "unknown");
    }

    #[test]
    fn what_is_not_told_is_not_no() {
        let server = Server::parse("# Server\r\nredis_version:7.0.15\r\n");
        assert_eq!(
            (server.cluster(), server.replica(), server.keyspace()),
            (None, None, None)
        );
        assert!(server.described().contains("number of keys unknown"));
        let empty = Server::parse("role:master\r\ncluster_enabled:0\r\n# Keyspace\r\n");
        assert_eq!(
            (empty.cluster(), empty.replica(), empty.keyspace()),
            (Some(false), Some(false), Some(BTreeMap::new()))
        );
    }
}
