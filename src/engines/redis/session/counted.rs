//! What a lasting replica that holds no data changes for a server.

use crate::base::error::Result;
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::nodes;
use crate::engines::redis::session::server::Server;
use crate::engines::redis::wire::resp::Reply;
use crate::engines::{Finding, FindingLevel};

/// Says where the server, or a Sentinel, counts a receiver of its log among its replicas. Nothing of it is refused.
pub(crate) async fn findings(address: &RedisAddress) -> Result<Vec<Finding>> {
    let place = nodes::for_backup(address).await?;
    let client = Client::open(&place).await?;
    let server = Server::ask(&client).await?;
    let mut findings = vec![Finding {
        level: FindingLevel::Note,
        message:
            "the receiver of the log counts as a replica for WAIT: it acknowledges what is stored in the repository"
                .to_owned(),
        hint: None,
    }];
    findings.extend(counts_for_writes(&client).await?);
    if address.reading.sentinel.is_some() || has_sentinel(&client).await? {
        findings.push(Finding {
            level: FindingLevel::Warning,
            message: "Sentinels show the receiver of the log as a replica with port 0 that is down".to_owned(),
            hint: Some("They never promote it; SENTINEL RESET removes it when it is gone.".to_owned()),
        });
    }
    if server
        .number("repl_backlog_size")
        .is_some_and(|bytes| bytes < SMALL_BACKLOG)
    {
        findings.push(Finding {
            level: FindingLevel::Warning,
            message: "repl-backlog-size of the server is 1 MiB or less: an interruption of seconds can leave a gap in the log".to_owned(),
            hint: Some("CONFIG SET repl-backlog-size 64mb makes room for what is written meanwhile.".to_owned()),
        });
    }
    Ok(findings)
}

/// A backlog of this size or less is that of Redis by default, in bytes, and a little more.
const SMALL_BACKLOG: u64 = (1 << 20) + 1;

/// Warns of a server that refuses writes unless so many replicas are there.
pub(crate) async fn counts_for_writes(client: &Client) -> Result<Option<Finding>> {
    for name in ["min-replicas-to-write", "min-slaves-to-write"] {
        let reply = client.ask(&[b"CONFIG", b"GET", name.as_bytes()]).await?;
        let value = reply.elements().get(1).and_then(Reply::text);
        let number: Option<u64> = value.and_then(|text| text.parse().ok());
        if number.is_some_and(|number| number > 0) {
            return Ok(Some(Finding {
                level: FindingLevel::Warning,
                message: format!(
                    "{name} is set: `log receive` counts as a replica, which holds the log and not the data"
                ),
                hint: Some("Raise it by one while the log is received.".to_owned()),
            }));
        }
    }
    Ok(None)
}

/// Whether a Sentinel watches the server, as far as it shows its clients.
pub(crate) async fn has_sentinel(client: &Client) -> Result<bool> {
    let reply = client.ask(&[b"CLIENT", b"LIST"]).await?;
    Ok(matches!(reply, Reply::Bulk(_) | Reply::Simple(_))
        && reply.text().is_some_and(|text| text.contains(" name=sentinel-")))
}
