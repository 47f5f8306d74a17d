//! Users of a server: stored as `ACL LIST` shows them, with digests of their passwords; written by `ACL SETUSER`.
//!
//! A user is one command, so it is as the backup has it or as it was before. Each node of a cluster has users of its own.

use crate::archive::ArchiveReader;
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::redis::backup::settings::USERS;
use crate::engines::redis::restore::load::Tally;
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::stored::Rdb;
use crate::engines::redis::wire::resp::Reply;

/// Bytes of the list at most.
const MAX_BYTES: usize = 64 << 20;

/// A user and the rules that make it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    /// Among them digests of passwords.
    rules: Vec<String>,
}

impl User {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({:?})", self.name)
    }
}

/// Reads the users of a backup.
pub(crate) async fn stored(reader: &ArchiveReader, rdb: &Rdb) -> Result<Vec<User>> {
    let path = format!("{}{USERS}", rdb.directory());
    let bytes = reader.read(path.as_bytes(), MAX_BYTES).await?;
    let bytes = bytes.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the backup holds no users")
            .with_hint("The server did not show them: give the user of the backup +acl|list.")
    })?;
    let text = String::from_utf8(bytes).map_err(|e| Error::corrupt("the list of users is not UTF-8").with_cause(e))?;
    text.lines().map(parse).collect()
}

/// Reads `user NAME RULE …`; a list that was cut short ends within a line.
fn parse(line: &str) -> Result<User> {
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    match (words.next().as_deref(), words.next()) {
        (Some("user"), Some(name)) => Ok(User {
            name,
            rules: words.collect(),
        }),
        _ => Err(Error::corrupt("a line of the list of users has no user")),
    }
}

/// Writes users; the one that is logged in and `default` last, so that the others are there whatever becomes of us.
pub(crate) async fn restore(
    address: &RedisAddress,
    mut users: Vec<User>,
    counted: bool,
    tally: &mut Tally,
) -> Result<()> {
    let own = address.user.as_deref().unwrap_or("default");
    users.sort_by_key(|user| (user.name == own, user.name == "default"));
    let client = Client::open(address).await?;
    for user in users {
        let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", user.name.as_bytes(), b"reset"];
        command.extend(user.rules.iter().map(String::as_bytes));
        match client.ask(&command).await? {
            // Its text may quote a rule, and rules hold digests of passwords.
            Reply::Error(text) => tally.fail(
                "user",
                user.name.clone(),
                without_digests(&text),
                "Create it manually; `wirevault cat SNAPSHOT SOURCE acl.txt` shows its rules.",
            ),
            _ => tally.users += u64::from(counted),
        }
    }
    // Where there is a file for them.
    if let Reply::Error(_) = client.ask(&[b"ACL", b"SAVE"]).await? {
        tally.users_in_memory = true;
    }
    Ok(())
}

/// Masks what may be a digest: sixty hexadecimal digits or more in a row.
fn without_digests(text: &str) -> String {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    let masked = parts.map(|part| {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if digits.len() >= 60 {
            part.replace(digits, "…")
        } else {
            part.to_owned()
        }
    });
    masked.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_acl_list_are_read() {
        let user = parse("user alice on sanitize-payload #abc ~x* resetchannels -@all +get (~y +set)").unwrap();
        assert_eq!((user.name.as_str(), user.rules.len()), ("alice", 9));
        assert!(parse("user").is_err() && parse("# x").is_err());
        let digest = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
        let said = without_digests(&format!("ERR Error in ACL SETUSER modifier '#{digest}': no"));
        assert_eq!(said, "ERR Error in ACL SETUSER modifier '#…': no");
        assert_eq!(without_digests(digest), "…");
    }
}
