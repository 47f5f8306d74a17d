//! What is stored beside the RDB: users, configuration and modules, as far as the server shows them.
//!
//! The files are for a person who rebuilds the server; `functions` need none, they are in the RDB. Passwords of the
//! configuration are masked; the users' are digests, as the server shows them, and as secret as those.

use xxhash_rust::xxh3::Xxh3;

use crate::archive::{ArchiveWriter, EntryMeta};
use crate::base::error::Result;
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::wire::resp::Reply;
use crate::engines::{Finding, FindingLevel, Notes};

/// The entry that holds the users.
pub(crate) const USERS: &str = "acl.txt";

/// Parameters whose values are passwords.
const SECRETS: &[&str] = &[
    "requirepass",
    "masterauth",
    "primaryauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// Name of the entry, the command, and how its reply is written.
type Asked = (&'static str, &'static [&'static [u8]], fn(&Reply) -> String);

const ASKED: [Asked; 3] = [
    (USERS, &[b"ACL", b"LIST"], lines),
    ("config.txt", &[b"CONFIG", b"GET", b"*"], pairs),
    ("modules.txt", &[b"MODULE", b"LIST"], modules),
];

/// Tells what the server keeps to itself.
pub(crate) async fn findings(client: &Client) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, command, _) in ASKED {
        if let Err(why) = shown(client.ask(command).await?) {
            findings.push(Finding {
                level: FindingLevel::Warning,
                message: format!("{name} cannot be stored: {why}"),
                hint: Some(HINT.to_owned()),
            });
        }
    }
    Ok(findings)
}

/// What to do about it.
const HINT: &str = "Give the user +acl|list +config|get +module|list, or write ?settings=no: then users, \
                    configuration and modules are not backed up.";

/// Returns the list that was asked for, or why there is none.
fn shown(reply: Reply) -> std::result::Result<Reply, String> {
    match reply {
        Reply::Array(_) => Ok(reply),
        Reply::Error(text) => Err(format!("the server says: {text}")),
        _ => Err("the server's answer has an unknown form".to_owned()),
    }
}

/// Asks for each and stores what is answered. What the server keeps to itself is noted. Returns a hash of all of it.
pub(crate) async fn store(client: &Client, writer: &ArchiveWriter, directory: &str, notes: &Notes) -> Result<u128> {
    let mut hasher = Xxh3::new();
    for (name, command, write) in ASKED {
        let name = format!("{directory}{name}");
        match shown(client.ask(command).await?) {
            Err(why) => {
                let message = format!("not stored, {why} ({HINT})");
                notes.add(Note::new("not-shown", name, message));
            }
            Ok(reply) => {
                let text = write(&reply);
                let mut chunk = writer.chunk_buffer().await?;
                let bytes = text.as_bytes();
                hasher.update(name.as_bytes());
                hasher.update(bytes);
                if bytes.len() > chunk.room() {
                    let message = format!("{} bytes are more than an entry may have; cut short", bytes.len());
                    notes.add(Note::new("cut-short", &name, message));
                }
                chunk.extend(exact::first(bytes, chunk.room()));
                let size = exact::u64_from(chunk.data().len());
                let mtime = jiff::Timestamp::now().as_second();
                writer
                    .submit_entry(EntryMeta::file(name.as_str(), size, (mtime, 0)), chunk)
                    .await?;
            }
        }
    }
    Ok(hasher.digest128())
}

fn lines(reply: &Reply) -> String {
    reply
        .elements()
        .iter()
        .filter_map(Reply::text)
        .map(|line| line + "\n")
        .collect()
}

/// Sorted: servers answer in the order of a hash table, which is another one each time.
fn pairs(reply: &Reply) -> String {
    let mut lines = Vec::new();
    for pair in reply.elements().chunks(2) {
        let [name, value] = pair else { continue };
        let (name, value) = (name.text().unwrap_or_default(), value.text().unwrap_or_default());
        let value = if SECRETS.contains(&name.as_str()) && !value.is_empty() {
            "***".to_owned()
        } else {
            value
        };
        lines.push(format!("{name} {}\n", value.escape_default()));
    }
    lines.sort();
    lines.concat()
}

/// Sorted, as the configuration.
fn modules(reply: &Reply) -> String {
    let mut lines = Vec::new();
    for module in reply.elements() {
        let words = module.elements().iter().map(|word| match word {
            Reply::Integer(number) => number.to_string(),
            other => other.text().unwrap_or_default(),
        });
        lines.push(words.collect::<Vec<_>>().join(" ") + "\n");
    }
    lines.sort();
    lines.concat()
}
