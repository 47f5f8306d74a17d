//! How a database that a restore made or replaced is known again: by a line that its comment ends with.
//!
//! A comment is what a plain owner may set, it survives renaming, and no name has to hold it: names are cut at 63 bytes. The
//! line names the database's own OID, so that a copy of a marked database is not taken for it. What the user's comment was
//! stands before the line.
//!
//! Whether a database is being filled by a restore that still runs is known by an advisory lock, which the server takes away
//! with its session, and by sessions in the database.

use crate::base::error::{Context as _, Error, Result};
use crate::base::raw_text::has_bytes;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::sql::template::with_names;

const COMMENTED: &str = include_str!("sql/commented_databases.sql");
const IN_USE: &str = include_str!("sql/database_in_use.sql");

/// First key of the advisory locks of restores; the second is the database's OID.
const LOCK: i32 = 0x7776_7273;

/// Why a database is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A restore replaced it.
    Kept,
    /// A restore fills it.
    Filling,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Kept => "wirevault kept ",
            Self::Filling => "wirevault filling ",
        }
    }
}

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Mark {
    /// OID of the marked database.
    oid: u32,
    /// The name that it had, or is to get.
    database: String,
    /// When, in UTC: sorts by time.
    at: String,
}

/// A database that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) oid: u32,
    pub(crate) name: String,
    /// The user's own comment.
    pub(crate) comment: Option<String>,
    at: String,
}

/// Returns a comment with a mark.
pub(crate) fn marked(comment: Option<&str>, why: Why, oid: u32, database: &str, at: &str) -> String {
    let mark = Mark {
        oid,
        database: database.to_owned(),
        at: at.to_owned(),
    };
    let line = serde_json::to_string(&mark).unwrap_or_default();
    let line = format!("{}{}", why.word(), in_ascii(&line));
    match comment {
        Some(comment) => format!("{comment}\n{line}"),
        None => line,
    }
}

/// Writes JSON without letters beyond ASCII, which are the same bytes in every encoding.
fn in_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

/// Returns the user's part of a comment.
pub(crate) fn unmarked(comment: &str) -> Option<String> {
    let (before, last) = comment.rsplit_once('\n').map_or((None, comment), |(b, l)| (Some(b), l));
    let is_mark = [Why::Kept, Why::Filling].iter().any(|why| parse(last, *why).is_some());
    if is_mark {
        before.and_then(unmarked)
    } else {
        Some(comment.to_owned())
    }
}

fn parse(line: &str, why: Why) -> Option<Mark> {
    serde_json::from_str(line.strip_prefix(why.word())?).ok()
}

/// Returns whether a database with this comment is being filled, or was left half.
pub(crate) fn is_filling(comment: &str, oid: u32) -> bool {
    let mark = comment.lines().last().and_then(|line| parse(line, Why::Filling));
    mark.is_some_and(|mark| mark.oid == oid)
}

/// Returns the statement that comments a database.
pub(crate) fn comment_sql(name: &str, comment: Option<&str>) -> String {
    let text = comment.map_or_else(|| "NULL".to_owned(), literal);
    format!("COMMENT ON DATABASE {} IS {text}", quote_ident(name))
}

/// Comments a database from within, in its own encoding: another database may have no way to say the comment.
pub(crate) async fn comment_within(database: &ConnectOptions, comment: Option<&str>) -> Result<()> {
    let mut connection = settings::open_as_stored(database).await?;
    let done = connection.execute(&comment_sql(&database.database, comment)).await;
    connection.close().await;
    done
}

/// Returns whether a session can say a comment that is in the encoding of another database: it holds the comment's bytes, and the
/// server converts none of them.
pub(crate) fn can_say(session: &Connection, comment: Option<&str>) -> bool {
    let encoding = session.parameter("server_encoding").unwrap_or(UTF8);
    comment.is_none_or(|text| text.is_ascii() || (!has_bytes(text) && matches!(encoding, UTF8 | "SQL_ASCII")))
}

const UTF8: &str = "UTF8";

/// Returns OID and comment of a database. The session converts nothing: comments are in the encodings of their databases.
pub(crate) async fn comment_of(admin: &mut Connection, name: &str) -> Result<(u32, Option<String>)> {
    let sql = format!(
        "SELECT oid, pg_catalog.shobj_description(oid, 'pg_database') AS comment FROM pg_catalog.pg_database WHERE datname = {}",
        literal(name)
    );
    let found = admin.query(&sql).await.context("read the database's comment")?;
    let row = found.named().next().ok_or_else(|| {
        Error::new(
            crate::base::error::ErrorKind::NotFound,
            format!("database \"{name}\" does not exist"),
        )
    })?;
    Ok((row.number("oid")?.unwrap_or(0), row.opt("comment")?.map(str::to_owned)))
}

/// Finds what is marked for a database, the newest first. The session converts nothing.
pub(crate) async fn find(admin: &mut Connection, why: Why, database: &str) -> Result<Vec<Marked>> {
    let found = admin.query(COMMENTED).await.context("look for databases of restores")?;
    let mut all: Vec<Marked> = Vec::new();
    for row in found.named() {
        let oid = row.number("oid")?.unwrap_or(0);
        let (name, comment) = (row.text("name")?, row.text("comment")?);
        let Some(mark) = comment.lines().last().and_then(|line| parse(line, why)) else {
            continue;
        };
        if mark.oid == oid && mark.database == database && name != database {
            all.push(Marked {
                oid,
                name: name.to_owned(),
                comment: unmarked(comment),
                at: mark.at,
            });
        }
    }
    all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.name.cmp(&a.name)));
    Ok(all)
}

/// Says with a lock of the session that it fills a database.
pub(crate) async fn hold(admin: &mut Connection, oid: u32) -> Result<()> {
    // OIDs have no sign, the keys of locks do.
    let key = i32::from_ne_bytes(oid.to_ne_bytes());
    let sql = format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK}, {key})");
    admin.execute(&sql).await.context("mark the database being restored")
}

/// Returns whether somebody is in a database, or fills it.
pub(crate) async fn is_in_use(admin: &mut Connection, oid: u32) -> Result<bool> {
    let (lock, oid_text) = (LOCK.to_string(), oid.to_string());
    let sql = with_names(IN_USE, &[("oid", &oid_text), ("lock", &lock)]);
    let found = admin.query(&sql).await.context("check who is restoring the database")?;
    Ok(found.scalar() != Some("f"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mark_stands_behind_the_users_comment_and_goes_again() {
        let comment = marked(Some("mine\nof two lines"), Why::Kept, 7, "n\"ame", "20260101T000000Z");
        assert_eq!(unmarked(&comment).unwrap(), "mine\nof two lines");
        let line = comment.lines().last().unwrap();
        assert_eq!(parse(line, Why::Kept).unwrap().database, "n\"ame");
        assert_eq!(parse(line, Why::Filling), None);
        assert_eq!(unmarked(&marked(None, Why::Filling, 7, "x", "t")), None);
        // Names beyond ASCII are the same bytes in every encoding.
        let comment_beyond = marked(None, Why::Kept, 7, "é\u{1F600}", "t");
        assert!(comment_beyond.is_ascii(), "{comment_beyond}");
        assert_eq!(parse(&comment_beyond, Why::Kept).unwrap().database, "é\u{1F600}");
        // One mark upon another leaves none.
        assert_eq!(
            unmarked(&marked(Some(&comment), Why::Kept, 7, "x", "t")).unwrap(),
            "mine\nof two lines"
        );
        assert_eq!(unmarked("wirevault kept my data").unwrap(), "wirevault kept my data");
    }
}
