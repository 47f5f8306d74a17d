//! What `check` says of a cluster: whether its base can be taken, and what that would meet. Nothing is read, and no slot is made.

use crate::base::error::Result;
use crate::base::units::format_bytes;
use crate::engines::postgres::physical::backup::server::{ServerFacts, bytes_and_slots};
use crate::engines::postgres::session::replication::Replication;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::{Finding, FindingLevel};

/// Looks at a server by a WAL sender, and by an ordinary session where one is let in.
pub(super) async fn check(replication: &ConnectOptions, sql: &ConnectOptions) -> Result<Vec<Finding>> {
    // That it opens says: the role has REPLICATION, pg_hba.conf has a line, wal_level is not minimal, a WAL sender is free.
    let mut session = Replication::open(replication).await?;
    let server = ServerFacts::ask(&mut session).await?;
    let tls = if session.is_tls() { "TLS" } else { "no TLS" };
    let mut findings = vec![info(format!(
        "PostgreSQL {}, system {}, timeline {}, {tls}",
        server.version, server.identity.system_id, server.identity.timeline
    ))];
    if let Err(error) = server.refuse_old() {
        findings.push(Finding {
            level: FindingLevel::Error,
            message: error.chain(),
            hint: error.hint().map(str::to_owned),
        });
    }
    if server.is_standby {
        findings.push(note("it is a standby: the base is of what it has replayed", None));
    }
    findings.push(if server.has_checksums {
        info("pages have checksums, which are checked".to_owned())
    } else {
        let hint = "pg_checksums --enable turns them on, while the server is stopped.";
        note("pages have no checksums: damage of the disk goes unseen", Some(hint))
    });
    let level = session.show("wal_level").await?;
    let senders = session.show("max_wal_senders").await?;
    let slots = session.show("max_replication_slots").await?;
    findings.push(info(format!(
        "wal_level {level}; a backup uses one WAL sender and one slot (max_wal_senders {senders}, max_replication_slots {slots})"
    )));
    if slots == "0" {
        findings.push(Finding {
            level: FindingLevel::Warning,
            message:
                "max_replication_slots is 0: no slot keeps the WAL of a backup, which fails if the server removes some"
                    .to_owned(),
            hint: Some("Raise max_replication_slots, or wal_keep_size.".to_owned()),
        });
    }
    session.close().await;
    findings.extend(size(sql, slots.parse().ok()).await);
    Ok(findings)
}

/// Says how much there is, and whether a slot is left, where an ordinary session is let in.
async fn size(sql: &ConnectOptions, slots: Option<u64>) -> Vec<Finding> {
    let (bytes, used) = match bytes_and_slots(sql).await {
        Ok(found) => found,
        Err(error) => {
            let database = &sql.database;
            return vec![Finding {
                level: FindingLevel::Note,
                message: format!("its size is not known: {}", error.chain()),
                hint: Some(format!(
                    "A backup does not need it. A pg_hba.conf line for database {database}, and pg_read_all_stats, would show it."
                )),
            }];
        }
    };
    let size = format!(
        "{} in databases; the WAL of the time of the backup comes on top",
        format_bytes(bytes)
    );
    let mut findings = vec![info(size)];
    if let Some(slots) = slots.filter(|slots| *slots > 0 && used >= *slots) {
        findings.push(Finding {
            level: FindingLevel::Error,
            message: format!("all {slots} replication slots are in use"),
            hint: Some("Drop one that nobody uses (pg_replication_slots), or raise max_replication_slots.".to_owned()),
        });
    }
    findings
}

fn info(message: String) -> Finding {
    Finding {
        level: FindingLevel::Info,
        message,
        hint: None,
    }
}

fn note(message: &str, hint: Option<&str>) -> Finding {
    Finding {
        level: FindingLevel::Note,
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
    }
}
