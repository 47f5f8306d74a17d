//! What a server holds: keys by database, and function libraries.
//!
//! Keys are counted by DBSIZE in each database, and there are as many databases as SELECT takes numbers: the first that is
//! "out of range" ends them. INFO tells the same where it may be asked. Where neither does, how many keys there are is not
//! known, which is something else than none.

use std::collections::BTreeMap;

use super::client::Client;
use super::nodes::named;
use super::server::Server;
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::wire::resp::Reply;

/// Databases that are asked for at most: `databases` of a server is a 32-bit number.
const MOST: u32 = 1 << 16;

/// A server that refuses one database may refuse all of them, without an end: further ones are looked at up to a multiple of this.
const AFTER_REFUSAL: u32 = 64;

/// Keys by database, as far as the server lets us know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Keys of each database that has some.
    pub(crate) counted: BTreeMap<u32, u64>,
    /// Databases that can be chosen.
    pub(crate) open: Vec<u32>,
    /// Why others may be there that cannot be chosen.
    pub(crate) closed: Option<String>,
    /// Why the keys of a database could not be counted.
    uncounted: Option<String>,
    /// INFO told the keys of all databases.
    told: bool,
}

impl Keys {
    /// Counts the keys of every database. Database 0 is chosen afterwards.
    pub(crate) async fn count(client: &Client, server: &Server) -> Result<Self> {
        let mut keys = Self::default();
        let mut number = 0;
        while keys.ask(client, number).await? {
            number += 1;
            if number == MOST {
                keys.closed = Some(format!("it has more than {MOST} databases"));
                break;
            }
        }
        client.ask(&[b"SELECT", b"0"]).await?;
        if let Some(databases) = server.keyspace() {
            keys.told = true;
            for (database, told) in databases {
                let counted = keys.counted.entry(database).or_default();
                *counted = told.max(*counted);
            }
        }
        Ok(keys)
    }

    /// Counts the keys of one database, or of all. Database 0 is chosen afterwards.
    pub(crate) async fn count_in(client: &Client, server: &Server, only: Option<u32>) -> Result<Self> {
        let Some(number) = only else {
            return Self::count(client, server).await;
        };
        let mut keys = Self::default();
        client.select(number).await?;
        let size = client.ask(&[b"DBSIZE"]).await?;
        keys.open.push(number);
        keys.size(number, size);
        client.ask(&[b"SELECT", b"0"]).await?;
        if let Some(databases) = server.keyspace() {
            keys.told = true;
            let told = databases.get(&number).copied().unwrap_or(0);
            let counted = keys.counted.entry(number).or_default();
            *counted = told.max(*counted);
        }
        Ok(keys)
    }

    /// Asks for one database. Returns whether there may be more.
    ///
    /// One command after another: DBSIZE counts the database that was chosen before it.
    async fn ask(&mut self, client: &Client, number: u32) -> Result<bool> {
        match client.ask(&[b"SELECT", number.to_string().as_bytes()]).await? {
            Reply::Error(text) if number > 0 && is_end(&text) => return Ok(false),
            Reply::Simple(text) if text == "OK" => {
                self.open.push(number);
                let size = client.ask(&[b"DBSIZE"]).await?;
                self.size(number, size);
            }
            Reply::Error(text) => self.closed = Some(format!("database {number}: {text}")),
            other => self.closed = Some(odd(&other)),
        }
        Ok(self.closed.is_none() || !(number + 1).is_multiple_of(AFTER_REFUSAL))
    }

    fn size(&mut self, number: u32, size: Reply) {
        match size {
            Reply::Integer(keys) => match u64::try_from(keys) {
                Ok(0) => {}
                Ok(keys) => drop(self.counted.insert(number, keys)),
                Err(_) => self.uncounted = Some(format!("DBSIZE is {keys}")),
            },
            Reply::Error(text) => self.uncounted = Some(text),
            other => self.uncounted = Some(odd(&other)),
        }
    }

    /// Returns why it is not known how many keys there are.
    pub(crate) fn unknown(&self) -> Option<&str> {
        if self.told {
            return None;
        }
        self.uncounted.as_deref().or(self.closed.as_deref())
    }

    /// Returns how many keys there are, at least.
    pub(crate) fn least(&self) -> u64 {
        self.counted.values().sum()
    }

    /// Returns how many keys other databases hold, at least.
    pub(crate) fn beside(&self, only: u32) -> u64 {
        let others = self.counted.iter().filter(|(number, _)| **number != only);
        others.map(|(_, keys)| keys).sum()
    }

    /// Returns how many keys there are, if that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.unknown().is_none().then(|| self.least())
    }

    /// Returns the databases in which keys may be, and why others may be left out.
    pub(crate) fn to_read(&self) -> (Vec<u32>, Option<&str>) {
        if self.told || (self.uncounted.is_none() && self.closed.is_none()) {
            return (self.counted.keys().copied().collect(), None);
        }
        (self.open.clone(), self.closed.as_deref())
    }
}

/// Returns whether there is no database of this number, and so none of a higher one.
pub(crate) fn is_end(text: &str) -> bool {
    ["out of range", "invalid DB index", "not allowed in cluster mode"]
        .iter()
        .any(|words| text.contains(words))
}

fn odd(reply: &Reply) -> String {
    let said = format!("{reply:?}");
    format!("the answer {} is none", said.chars().take(60).collect::<String>())
}

/// Function libraries of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Libraries {
    /// Names with their code.
    Known(Vec<(String, Vec<u8>)>),
    /// Why they are not known.
    Unknown(String),
}

impl Libraries {
    /// Asks for all of them.
    pub(crate) async fn ask(client: &Client, server: &Server) -> Result<Self> {
        Ok(match client.ask(&[b"FUNCTION", b"LIST", b"WITHCODE"]).await? {
            // Before 7.0 there are none; a later server keeps the command to itself.
            Reply::Error(text) if text.contains("unknown command") && server.major().is_some_and(|major| major < 7) => {
                Self::Known(Vec::new())
            }
            Reply::Error(text) => Self::Unknown(text),
            Reply::Array(libraries) => libraries
                .iter()
                .map(|library| {
                    let name = named(library, "library_name").and_then(Reply::text)?;
                    let code = named(library, "library_code").and_then(Reply::bytes)?;
                    Some((name, code.to_vec()))
                })
                .collect::<Option<_>>()
                .map_or_else(|| Self::Unknown("the list has an unknown form".to_owned()), Self::Known),
            other => Self::Unknown(odd(&other)),
        })
    }

    /// Returns how many there are, if that is known.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::Known(libraries) => Some(libraries.len()),
            Self::Unknown(_) => None,
        }
    }

    /// Returns them, as far as they are known.
    pub(crate) fn all(&self) -> &[(String, Vec<u8>)] {
        match self {
            Self::Known(libraries) => libraries,
            Self::Unknown(_) => &[],
        }
    }
}

/// Refuses where it cannot be told whether the server is a node of a cluster: one shard would pass for the whole.
pub(crate) fn refuse_unknown_cluster(server: &Server, what: &str) -> Result<()> {
    if server.cluster().is_some() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Denied,
        format!("unable to determine whether {what} is a node of a cluster"),
    )
    .with_hint("Give the user +info or +cluster|info; or set ?cluster=no in the URL if only this node is meant."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_known_or_it_is_not() {
        let mut keys = Keys {
            open: vec![0, 1],
            ..Keys::default()
        };
        assert_eq!((keys.total(), keys.to_read()), (Some(0), (vec![], None)));
        keys.size(1, Reply::Integer(7));
        assert_eq!((keys.total(), keys.to_read()), (Some(7), (vec![1], None)));
        keys.size(0, Reply::Error("NOPERM no".to_owned()));
        assert_eq!((keys.total(), keys.least()), (None, 7));
        assert_eq!(keys.to_read(), (vec![0, 1], None));
        keys.closed = Some("NOPERM no".to_owned());
        assert_eq!(keys.to_read(), (vec![0, 1], Some("NOPERM no")));
        keys.told = true;
        assert_eq!((keys.total(), keys.to_read()), (Some(7), (vec![1], None)));
        assert!(is_end("ERR DB index is out of range") && !is_end("NOPERM this user has no permissions"));
    }
}
