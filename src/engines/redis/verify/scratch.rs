//! Deletes from a scratch server what a verification loaded into it, by name, and nothing else.
//!
//! The server was proven to hold nothing; but what others put there meanwhile is theirs, so it is never emptied as a whole.
//! Memory: the keys of one piece of the RDB.

use std::collections::HashSet;

use super::{Foreign, RedisScratch};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::redis::backup::payloads;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::holdings::Libraries;
use crate::engines::redis::session::server::Server;
use crate::engines::redis::stored;
use crate::engines::redis::stored::SLICE_BYTES;
use crate::engines::redis::wire::rdb::Walker;
use crate::engines::redis::wire::rdb::pull::Input;
use crate::engines::redis::wire::rdb::types::ValueType;
use crate::engines::redis::wire::rdb::walk::{KeyHeader, Sink};
use crate::engines::redis::wire::resp::Reply;

/// Keys of one command, and bytes of them.
const KEYS: usize = 256;
const BYTES: usize = 1 << 20;

/// Collects what was loaded.
#[derive(Debug, Default)]
struct Loaded {
    /// Number of the key in the file, its database, its name.
    keys: Vec<(u64, u32, Vec<u8>)>,
    libraries: HashSet<Vec<u8>>,
    ordinal: u64,
}

impl Sink for Loaded {
    fn key(&mut self, header: &KeyHeader, _: ValueType) -> Result<()> {
        // One that is too long was deleted when it was compared.
        if !header.too_long {
            self.keys.push((self.ordinal, header.database, header.key.clone()));
        }
        self.ordinal += 1;
        Ok(())
    }
    fn value(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn value_end(&mut self) -> Result<()> {
        Ok(())
    }
    fn function(&mut self, code: &[u8]) -> Result<()> {
        self.libraries.insert(code.to_vec());
        Ok(())
    }
}

/// Deletes the keys and function libraries of the backup; not those that others made under the same names.
pub(crate) async fn remove_loaded(scratch: &RedisScratch, foreign: &Foreign) -> Result<()> {
    if foreign.too_many {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "another client writes to the scratch server; nothing in it was deleted",
        )
        .with_hint("Use a server without other clients."));
    }
    let mut removal = Removal {
        connection: Connection::open(&scratch.address).await?,
        database: None,
        unlinks: true,
    };
    let mut libraries = HashSet::new();
    for (number, rdb) in stored::server_rdbs(&scratch.reader).await?.iter().enumerate() {
        let (mut walker, mut loaded) = (Walker::trusting(rdb.facts.understood()), Loaded::default());
        let mut chunks = stored::open(&scratch.reader, rdb).await?;
        while let Some((_, data)) = chunks.next().await? {
            for slice in data.chunks(SLICE_BYTES) {
                walker.feed(slice, &mut loaded)?;
                let mut keys = std::mem::take(&mut loaded.keys);
                keys.retain(|(ordinal, ..)| !foreign.keys.contains(&(number, *ordinal)));
                removal.keys(&keys).await.context("delete the keys that were loaded")?;
            }
        }
        libraries.extend(loaded.libraries);
        if rdb.facts.payloads > 0 {
            let mut input = Input::new(stored::open_payloads(&scratch.reader, rdb).await?);
            let (mut keys, mut bytes) = (Vec::new(), 0);
            for record in 0..rdb.facts.payloads {
                let (database, key) = payloads::named(&mut input).await?;
                if !foreign.payloads.contains(&(number, record)) {
                    bytes += key.len();
                    keys.push((record, database, key));
                }
                if keys.len() >= KEYS || bytes > BYTES || record + 1 == rdb.facts.payloads {
                    removal.keys(&keys).await.context("delete the keys that were loaded")?;
                    (keys, bytes) = (Vec::new(), 0);
                }
            }
        }
    }
    remove_libraries(scratch, &libraries)
        .await
        .context("delete the function libraries that were loaded")
}

/// A connection over which keys are deleted.
struct Removal {
    connection: Connection,
    database: Option<u32>,
    /// The server knows UNLINK, which frees memory behind our back.
    unlinks: bool,
}

impl Removal {
    async fn keys(&mut self, keys: &[(u64, u32, Vec<u8>)]) -> Result<()> {
        let mut from = 0;
        while let Some((_, database, _)) = keys.get(from) {
            let (mut count, mut bytes) = (0, 0);
            for (_, other, key) in exact::part(keys, from.., "the loop ends there") {
                if other != database || count == KEYS || bytes > BYTES {
                    break;
                }
                (count, bytes) = (count + 1, bytes + key.len());
            }
            if self.database != Some(*database) {
                let selected = self.connection.select(*database).await;
                selected.with_context(|| format!("choose database {}", *database))?;
                self.database = Some(*database);
            }
            let names = exact::part(keys, from..from + count, "so many were counted");
            self.delete(names).await?;
            from += count;
        }
        Ok(())
    }

    async fn delete(&mut self, names: &[(u64, u32, Vec<u8>)]) -> Result<()> {
        let mut command: Vec<&[u8]> = vec![if self.unlinks { b"UNLINK" } else { b"DEL" }];
        command.extend(names.iter().map(|(.., key)| key.as_slice()));
        match self.connection.ask(&command).await? {
            // Before 4.0, or the right is missing.
            Reply::Error(_) if self.unlinks => {
                self.unlinks = false;
                Box::pin(self.delete(names)).await
            }
            reply => reply.checked().map(drop),
        }
    }
}

async fn remove_libraries(scratch: &RedisScratch, loaded: &HashSet<Vec<u8>>) -> Result<()> {
    if loaded.is_empty() {
        return Ok(());
    }
    let client = Client::open(&scratch.address).await?;
    let found = Libraries::ask(&client, &Server::ask(&client).await?).await?;
    for (name, code) in found.all() {
        if loaded.contains(code) {
            client.call(&[b"FUNCTION", b"DELETE", name.as_bytes()]).await?;
        }
    }
    Ok(())
}
