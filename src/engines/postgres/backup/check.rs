//! What `check` says of a database: whether it can be read, what would end or hurt a backup. No row is read.

use super::exclusion::Exclusion;
use crate::base::error::{Context as _, Error, Result};
use crate::base::raw_text::printable;
use crate::engines::postgres::schema::READABLE_LARGE_OBJECT;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::hosts::Server;
use crate::engines::postgres::session::pooler;
use crate::engines::postgres::session::pooler::Pooler;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::server_error::sqlstate;
use crate::engines::postgres::wire::text_row::TextRow;
use crate::engines::{Finding, FindingLevel};

const FACTS: &str = include_str!("sql/check_facts.sql");
const SEES: &str = include_str!("sql/check_secrets.sql");
const AGES: &str = include_str!("sql/check_ages.sql");
const HIDDEN_OBJECTS: &str = include_str!("sql/check_large_objects.sql");
const UNREADABLE: &str = include_str!("sql/check_tables.sql");

/// Looks at a database without reading data.
pub(crate) async fn check(options: &ConnectOptions, exclusion: &Exclusion) -> Result<Vec<Finding>> {
    exclusion.check()?;
    let stands = pooler::look(options).await?;
    if let Some(refusal) = pooler::refusal(stands, options) {
        // What is set in a session of somebody else's would stay there, and nothing else is worth a look.
        return Ok(vec![Finding {
            level: FindingLevel::Error,
            message: refusal.chain(),
            hint: refusal.hint().map(str::to_owned),
        }]);
    }
    let mut connection = Connection::open(options).await?;
    settings::set(&mut connection, Session::Asking, &options.context).await?;
    settings::in_own_encoding(&mut connection).await?;
    let finding = |level, message: String, hint: Option<&str>| Finding {
        level,
        message,
        hint: hint.map(str::to_owned),
    };
    let mut findings = Vec::new();
    let found = connection.query(FACTS).await.context("read the server's facts")?;
    let facts = found.only()?;
    let number = |name| Ok::<u64, Error>(facts.number(name)?.unwrap_or(0));
    let tables = number("tables")?;
    let tls = if connection.is_tls() { "TLS" } else { "no TLS" };
    // Of several servers, the one that was taken.
    let taken = options.servers().first().map(Server::place);
    let at = taken.filter(|_| !options.others.is_empty());
    let at = at.map_or_else(String::new, |place| format!(", at {place}"));
    findings.push(finding(
        FindingLevel::Info,
        format!(
            "PostgreSQL {}, {}, {tables} tables, {tls}{at}",
            facts.text("version")?,
            facts.text("size")?
        ),
        None,
    ));
    if number("version_num")? < 130_000 {
        findings.push(finding(
            FindingLevel::Warning,
            "servers older than 13 are not tested".into(),
            None,
        ));
    }
    if !facts.flag("superuser")? {
        let hint = "Grant pg_read_all_data (14 and newer); it also covers role passwords and options of user mappings.";
        findings.push(finding(
            FindingLevel::Note,
            format!("role \"{}\" is not a superuser", options.user),
            Some(hint),
        ));
    }
    findings.extend(hidden(&mut connection).await?);
    findings.extend(locks(
        tables,
        number("lock_capacity")?,
        number("locks_each")?,
        number("slots")?,
    ));
    let large_objects = number("large_objects")?;
    if large_objects > 0 {
        findings.push(finding(
            FindingLevel::Info,
            format!("{large_objects} large objects"),
            None,
        ));
        let hidden = connection
            .query(&with_names(HIDDEN_OBJECTS, &[("readable", READABLE_LARGE_OBJECT)]))
            .await
            .context("check privileges of large objects")?;
        if let Some(count) = hidden.scalar().filter(|&c| c != "0") {
            let hint = "Grant pg_read_all_data (14 and newer), or SELECT on each large object.";
            let message = format!("no privilege to read {count} large objects: they will not be in the backup");
            findings.push(finding(FindingLevel::Warning, message, Some(hint)));
        }
    }
    findings.extend(long_snapshot(&mut connection, facts.flag("in_recovery")?).await?);
    let wanted = exclusion.wanted(&mut connection).await?;
    findings.extend(unreadable(&mut connection, &wanted).await?);
    findings.extend(pooled(&mut connection, options, stands).await?);
    connection.close().await;
    Ok(findings)
}

/// Says what the role may not see, and the backup will lack.
async fn hidden(connection: &mut Connection) -> Result<Vec<Finding>> {
    let result = connection.query(SEES).await.context("check privileges")?;
    let sees = result.only()?;
    let warning = |message: &str, hint: &str| Finding {
        level: FindingLevel::Warning,
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    };
    let mut findings = Vec::new();
    if !sees.flag("passwords")? {
        findings.push(warning(
            "no privilege to read passwords of roles: they will not be in the backup, which ends with exit code 2",
            "Grant SELECT on pg_catalog.pg_authid, back up as a superuser, or leave them out with --no-role-passwords.",
        ));
    }
    if !sees.flag("mappings")? {
        findings.push(warning(
            "no privilege to read the options of some user mappings: they will not be in the backup, which ends with exit code 2",
            "Grant SELECT on pg_catalog.pg_user_mapping, or back up as a superuser.",
        ));
    }
    Ok(findings)
}

/// Predicts whether all tables can be locked at once: `slots` sessions of `each` locks make `capacity`.
fn locks(tables: u64, capacity: u64, each: u64, slots: u64) -> Option<Finding> {
    if tables <= capacity / 2 {
        return None;
    }
    // The tables' locks, and as many again as the server may need for others.
    let wanted = (tables + capacity / 2).div_ceil(slots.max(1)).max(each + 1);
    let level = if tables > capacity {
        FindingLevel::Error
    } else {
        FindingLevel::Warning
    };
    Some(Finding {
        level,
        message: format!("{tables} tables need as many locks, but the server's lock table holds about {capacity}"),
        hint: Some(format!(
            "Set max_locks_per_transaction to {wanted} or more (now {each}) and restart the server."
        )),
    })
}

/// Says beforehand what a snapshot that is held for long would hurt, or what would end it.
async fn long_snapshot(connection: &mut Connection, standby: bool) -> Result<Vec<Finding>> {
    let result = connection.query(AGES).await.context("check the age of transactions")?;
    let row = result.only()?;
    let number = |name| Ok::<u64, Error>(row.number(name)?.unwrap_or(0));
    let delay = row.text("standby_delay")?;
    let warning = |message: String, hint: &str| Finding {
        level: FindingLevel::Warning,
        message,
        hint: Some(hint.to_owned()),
    };
    let mut findings = Vec::new();
    if standby && row.text("feedback")? != "on" && delay != "-1" {
        findings.push(warning(
            format!(
                "the server is a standby that cancels queries after {delay}: conflicts with replay can end the backup"
            ),
            "Turn on hot_standby_feedback, or raise max_standby_streaming_delay.",
        ));
    }
    let (oldest, freeze_age) = (number("oldest_database")?, number("freeze_max_age")?);
    if freeze_age > 0 && oldest > freeze_age.saturating_mul(2) {
        findings.push(warning(
            format!("the oldest database is {oldest} transactions old: vacuum is far behind"),
            "A backup holds a snapshot and delays vacuum further: let vacuum finish first.",
        ));
    }
    let held = number("oldest_snapshot")?;
    if held > 10_000_000 {
        findings.push(warning(
            format!("another session holds a snapshot {held} transactions old"),
            "Vacuum cannot remove newer dead rows; end it before starting another long snapshot.",
        ));
    }
    // A setting of 13 to 16, by which the server ends readers of old snapshots.
    let threshold = row.text("old_snapshot_threshold")?;
    if !matches!(threshold, "" | "-1") {
        findings.push(warning(
            format!("old_snapshot_threshold is {threshold}: a longer backup ends with \"snapshot too old\""),
            "Set old_snapshot_threshold to -1 and restart the server.",
        ));
    }
    Ok(findings)
}

async fn unreadable(connection: &mut Connection, wanted: &str) -> Result<Vec<Finding>> {
    let sql = with_names(UNREADABLE, &[("wanted", wanted)]);
    let result = connection.query(&sql).await.context("check privileges")?;
    let make = |row: TextRow<'_>| {
        let name = printable(row.text("name")?.to_owned());
        let hidden = row.flag("hides_rows")?;
        let (message, hint) = if hidden {
            (
                format!("row security hides rows of table {name}"),
                "Back up as the table's owner or a role with BYPASSRLS.",
            )
        } else {
            (
                format!("no privilege to read table {name}"),
                "Grant SELECT on it, or pg_read_all_data (14 and newer).",
            )
        };
        Ok(Finding {
            level: FindingLevel::Error,
            message,
            hint: Some(hint.to_owned()),
        })
    };
    result.named().map(make).collect()
}

/// Tells of a pooler, and tries whether a snapshot can be shared.
async fn pooled(connection: &mut Connection, options: &ConnectOptions, stands: Pooler) -> Result<Option<Finding>> {
    let finding = |level, message: String, hint: Option<&str>| {
        Some(Finding {
            level,
            message,
            hint: hint.map(str::to_owned),
        })
    };
    match stands {
        Pooler::Session(..) => {
            return Ok(finding(
                FindingLevel::Note,
                "connected through a connection pooler in session mode".into(),
                None,
            ));
        }
        Pooler::Transaction | Pooler::Statement | Pooler::None => {}
    }
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let exported = connection.query("SELECT pg_catalog.pg_export_snapshot()").await?;
    let snapshot = exported.scalar().unwrap_or_default().replace('\'', "''");
    let mut second = Connection::open(options).await?;
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'; COMMIT");
    let imported = second.execute(&sql).await;
    connection.execute("COMMIT").await?;
    second.close().await;
    Ok(match imported {
        Err(error) => {
            let state = sqlstate(&error).unwrap_or("none").to_owned();
            finding(
                FindingLevel::Error,
                format!("a snapshot cannot be shared between connections (SQLSTATE {state})"),
                Some("Connect directly to the server, not to a pooler."),
            )
        }
        Ok(()) => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_value_that_is_named_is_enough() {
        assert_eq!(locks(3000, 6400, 64, 100), None);
        let near = locks(5000, 6400, 64, 100).unwrap();
        assert_eq!(near.level, FindingLevel::Warning);
        let over = locks(50_000, 6400, 64, 100).unwrap();
        assert_eq!(over.level, FindingLevel::Error);
        assert!(over.hint.unwrap().contains("to 532 or more (now 64)"));
    }
}
