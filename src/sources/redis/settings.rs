//! What is stored beside the RDB: users, configuration and modules, as far as the server shows them.
//!
//! The files are for a person who rebuilds the server; `functions` need none, they are in the RDB. Passwords of the
//! configuration are masked; the users' are digests, as the server shows them, and as secret as those.

use super::connection::Connection;
use super::resp::Reply;
use crate::archive::{ArchiveWriter, EntryMeta};
use crate::error::Result;
use crate::report::Note;
use crate::sources::Notes;

/// The entry that holds the users.
pub(super) const USERS: &str = "acl.txt";

/// Parameters whose values are passwords.
const SECRETS: &[&str] = &[
    "requirepass",
    "masterauth",
    "primaryauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// Name of the entry, the command, and how its reply is written.
type Asked<'a> = (&'a str, &'a [&'a [u8]], fn(&Reply) -> String);

/// Asks for each and stores what is answered. What the server keeps to itself is noted.
pub(super) async fn store(
    connection: &mut Connection,
    writer: &ArchiveWriter,
    directory: &str,
    notes: &Notes,
) -> Result<()> {
    let asked: [Asked; 3] = [
        (USERS, &[b"ACL", b"LIST"], lines),
        ("config.txt", &[b"CONFIG", b"GET", b"*"], pairs),
        ("modules.txt", &[b"MODULE", b"LIST"], modules),
    ];
    for (name, command, write) in asked {
        let name = format!("{directory}{name}");
        match connection.ask(command).await? {
            Reply::Error(text) => {
                let message = format!("not stored, the server says: {text}");
                notes.add(Note::new("not-shown", name, message));
            }
            reply => {
                let text = write(&reply);
                let mut chunk = writer.chunk_buffer().await?;
                let bytes = text.as_bytes();
                if bytes.len() > chunk.room() {
                    let message = format!("{} bytes are more than an entry may have; cut short", bytes.len());
                    notes.add(Note::new("cut-short", &name, message));
                }
                chunk.extend(bytes.get(..bytes.len().min(chunk.room())).unwrap_or_default());
                let size = u64::try_from(chunk.data().len()).unwrap_or(u64::MAX);
                let mtime = jiff::Timestamp::now().as_second();
                writer
                    .submit_entry(EntryMeta::file(name.as_str(), size, (mtime, 0)), chunk)
                    .await?;
            }
        }
    }
    Ok(())
}

fn lines(reply: &Reply) -> String {
    reply
        .elements()
        .iter()
        .filter_map(Reply::text)
        .map(|line| line + "\n")
        .collect()
}

fn pairs(reply: &Reply) -> String {
    let mut text = String::new();
    for pair in reply.elements().chunks(2) {
        let [name, value] = pair else { continue };
        let (name, value) = (name.text().unwrap_or_default(), value.text().unwrap_or_default());
        let value = if SECRETS.contains(&name.as_str()) && !value.is_empty() {
            "***".to_owned()
        } else {
            value
        };
        text.push_str(&format!("{name} {}\n", value.escape_default()));
    }
    text
}

fn modules(reply: &Reply) -> String {
    let mut text = String::new();
    for module in reply.elements() {
        let words = module.elements().iter().map(|word| match word {
            Reply::Integer(number) => number.to_string(),
            other => other.text().unwrap_or_default(),
        });
        text.push_str(&(words.collect::<Vec<_>>().join(" ") + "\n"));
    }
    text
}
