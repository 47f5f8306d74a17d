//! What SQLite says of a database as a whole: whether it is damaged, whether its rows keep its own rules, and what of it
//! only its application can check.
//!
//! It is noted and never demanded: a backup stores the pages as they are, and a restore brings them back as they were. An
//! index by a collation of the application, a full-text table by its tokenizer, an expression by its function: SQLite
//! cannot judge those here. They are named, and everything around them is judged.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::base::error::{Error, Result};
use crate::base::report::Note;

/// Lines that are kept of each kind; further ones are counted.
const MAX_LINES: usize = 20;
/// Characters that are kept of a line.
const MAX_LINE: usize = 400;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;

/// What was found. All of it empty: SQLite finds nothing wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Integrity {
    /// Damage: pages or indexes that are not what they must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// Rows that break a rule of their table, such as NULL in a NOT NULL column. All is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violated: Vec<String>,
    /// What could not be checked here, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

impl Integrity {
    /// Returns whether the database is damaged.
    pub fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Makes one of a database that could not be looked at.
    pub(super) fn unknown(why: &str) -> Self {
        let mut own = Self::default();
        add(&mut own.unchecked, why);
        own
    }

    /// Returns it as notes on an object: `damaged`, `rule-broken` and `not-checked`.
    pub fn notes(&self, object: &str) -> Vec<Note> {
        let kinds = [
            ("damaged", &self.damaged, "SQLite finds the database damaged"),
            ("rule-broken", &self.violated, "rows break a rule of their table"),
            (
                "not-checked",
                &self.unchecked,
                "SQLite cannot check it without its application",
            ),
        ];
        let note = |(code, lines, words): (&str, &Vec<String>, &str)| {
            (!lines.is_empty()).then(|| Note::new(code, object, format!("{words}: {}", lines.join("; "))))
        };
        kinds.into_iter().filter_map(note).collect()
    }

    /// Sorts what SQLite said; a row of its answer can hold several lines.
    fn take(&mut self, said: &str) {
        for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "ok" || line.starts_with("*** in database") {
                continue;
            }
            add(
                if breaks_rule(line) {
                    &mut self.violated
                } else {
                    &mut self.damaged
                },
                line,
            );
        }
    }
}

fn add(lines: &mut Vec<String>, line: &str) {
    let short: String = line.chars().take(MAX_LINE).collect();
    if lines.len() < MAX_LINES && !lines.contains(&short) {
        lines.push(short);
    }
}

/// Tells what a table demands of its rows from what the file format demands, by the words of `integrity_check`.
fn breaks_rule(line: &str) -> bool {
    let starts = [
        "NULL value in ",
        "TEXT value in ",
        "NUMERIC value in ",
        "CHECK constraint failed",
        "non-unique entry",
    ];
    starts.iter().any(|start| line.starts_with(start)) || (line.starts_with("non-") && line.contains(" value in "))
}

/// Ends a check that takes too long, or whose outcome nobody wants any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<Limits>);

#[derive(Debug, Default)]
struct Limits {
    stopped: AtomicBool,
    until: Mutex<Option<Instant>>,
}

impl Budget {
    /// Ends the check now.
    pub(super) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Gives the check so much more time; until then it has no limit.
    pub(super) fn allow(&self, time: Duration) {
        *self.0.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now().checked_add(time);
    }

    fn is_over(&self) -> bool {
        let until = *self.0.until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.0.stopped.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() > until)
    }
}

/// Runs SQLite's `integrity_check` if `full`, or else its `quick_check`, which leaves out whether indexes and tables agree.
pub(super) fn judge(db: &mut Connection, full: bool, budget: &Budget) -> Result<Integrity> {
    let mut found = Integrity::default();
    let over = budget.clone();
    let prepared = db
        .progress_handler(STEPS, Some(move || over.is_over()))
        .and_then(|()| db.pragma_update(None, "writable_schema", false))
        .and_then(|()| db.collation_needed(stand_in));
    prepared.map_err(super::open::error)?;
    if let Err(cause) = db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        match cause.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => return Err(Error::corrupt("the file is not a SQLite database")),
            Some(ErrorCode::DatabaseCorrupt) => add(&mut found.damaged, &words(&cause)),
            _ => return Err(super::open::error(cause)),
        }
    }
    // A schema that does not parse hides its tables then, and all the others are checked.
    db.pragma_update(None, "writable_schema", true)
        .map_err(super::open::error)?;
    // SQLite asks for collations when it compiles the check.
    let _ = db.prepare("PRAGMA quick_check(1)");
    let own = own_collations(db)?;
    for name in &own {
        add(
            &mut found.unchecked,
            &format!("the order of what is sorted by the collation \"{name}\" of the application"),
        );
    }
    let full = full && own.is_empty();
    let pragma = if full { "integrity_check" } else { "quick_check" };
    match run(db, &format!("PRAGMA {pragma}({MAX_LINES})"), &mut found) {
        None => {}
        Some(_) if budget.is_over() => add(
            &mut found.unchecked,
            "the rest of it: the check took too long and was ended",
        ),
        Some(_) => by_table(db, full, budget, &mut found)?,
    }
    Ok(found)
}

/// Stands in for a collation of the application, so that the pages that it orders can be read.
fn stand_in(db: &Connection, name: &str) -> rusqlite::Result<()> {
    db.create_collation(name, str::cmp)
}

fn own_collations(db: &Connection) -> Result<Vec<String>> {
    let names = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("SELECT name FROM pragma_collation_list ORDER BY name")?;
        let names = statement.query_map([], |row| row.get(0))?;
        names.collect()
    };
    let mut names = names().map_err(super::open::error)?;
    names.retain(|name| !["BINARY", "NOCASE", "RTRIM"].contains(&name.as_str()));
    Ok(names)
}

/// Runs a check and sorts what it says. Damage that ends it is sorted too; any other error is returned.
fn run(db: &Connection, pragma: &str, found: &mut Integrity) -> Option<rusqlite::Error> {
    let mut go = || -> rusqlite::Result<()> {
        let mut statement = db.prepare(pragma)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let said = row.get_ref(0)?.as_bytes().unwrap_or_default();
            found.take(&String::from_utf8_lossy(said));
        }
        Ok(())
    };
    let cause = go().err()?;
    if cause.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) {
        add(&mut found.damaged, &words(&cause));
        return None;
    }
    Some(cause)
}

/// One thing that cannot be checked ends the check of the whole database, so each table is checked alone.
fn by_table(db: &Connection, full: bool, budget: &Budget, found: &mut Integrity) -> Result<()> {
    let tables = || -> rusqlite::Result<Vec<(String, i64)>> {
        let mut statement =
            db.prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    for (name, root) in tables().map_err(super::open::error)? {
        let check = |pragma: &str, found: &mut Integrity| {
            run(
                db,
                &format!("PRAGMA {pragma}(\"{}\")", name.replace('"', "\"\"")),
                found,
            )
        };
        if budget.is_over() {
            add(
                &mut found.unchecked,
                "the rest of it: the check took too long and was ended",
            );
            return Ok(());
        }
        let mut alone = Integrity::default();
        let mut cause = check(if full { "integrity_check" } else { "quick_check" }, &mut alone);
        if full && let Some(whole) = cause {
            alone = Integrity::default();
            cause = check("quick_check", &mut alone);
            if cause.is_none() {
                let line = format!(
                    "whether the indexes and expressions of table \"{name}\" agree with it: {}",
                    words(&whole)
                );
                add(&mut found.unchecked, &line);
            }
        }
        if let Some(cause) = cause {
            let what = if root == 0 { "virtual table" } else { "table" };
            add(&mut found.unchecked, &format!("{what} \"{name}\": {}", words(&cause)));
        }
        for line in &alone.damaged {
            add(&mut found.damaged, line);
        }
        for line in &alone.violated {
            add(&mut found.violated, line);
        }
    }
    add(&mut found.unchecked, "whether each page belongs to something");
    Ok(())
}

fn words(cause: &rusqlite::Error) -> String {
    match cause {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_of_the_check_are_damage_or_broken_rules() {
        let mut found = Integrity::default();
        found.take("ok");
        assert_eq!(found, Integrity::default());
        found.take("*** in database main ***\nTree 2 page 2 cell 0: invalid page number 41\nPage 2: never used");
        found.take("row 7 missing from index i");
        found.take("row not in PRIMARY KEY order for t");
        found.take("wrong # of entries in index i");
        for line in [
            "NULL value in t.a",
            "non-INT value in t.a",
            "TEXT value in t.a",
            "NUMERIC value in t.a",
            "CHECK constraint failed in t",
            "non-unique entry in index i",
        ] {
            found.take(line);
        }
        assert_eq!((found.damaged.len(), found.violated.len()), (5, 6), "{found:?}");
    }

    #[test]
    fn lines_are_bounded_in_number_and_length() {
        let mut found = Integrity::default();
        for number in 0..100 {
            found.take(&format!("{number}{}", "x".repeat(5000)));
        }
        assert_eq!(found.damaged.len(), MAX_LINES);
        assert!(found.damaged.iter().all(|line| line.len() == MAX_LINE));
    }

    #[test]
    fn a_check_whose_time_is_over_ends_and_says_so() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100000)
             INSERT INTO t SELECT i FROM n",
        )
        .unwrap();
        let budget = Budget::default();
        budget.allow(Duration::ZERO);
        let found = judge(&mut db, true, &budget).unwrap();
        assert!(found.damaged.is_empty());
        assert!(
            found.unchecked.iter().any(|line| line.contains("took too long")),
            "{found:?}"
        );
        assert_eq!(judge(&mut db, true, &Budget::default()).unwrap(), Integrity::default());
    }
}
