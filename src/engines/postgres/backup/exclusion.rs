//! What a backup leaves out because the user says so: tables, schemas, rows, extensions, by the patterns of psql and `pg_dump`.
//!
//! Patterns become conditions of the server's own regular expressions, as `processSQLNamePattern` in `string_utils.c` makes them: `*` and `?` stand
//! for any letters, a dot separates schema and name, letters are folded to lower case, `"…"` takes them as they are, and a name
//! without a schema means what the `search_path` of a new session finds.
//!
//! A table takes its partitions and children along: without it they cannot be made. A sequence that a column owns goes and stays
//! with its table. What else depends on something that is left out is found in the graph, see [`crate::engines::postgres::schema`].

use std::collections::HashSet;

use tokio_postgres::Client;

use crate::base::error::{Context as _, Error, Result};
use crate::base::report::Note;
use crate::engines::postgres::schema::Excluded;
use crate::engines::postgres::session::client::client_error;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::server_error::sqlstate;

const OWNERS: &str = include_str!("sql/sequence_owners.sql");
const PATH: &str = include_str!("sql/search_path.sql");
const VISIBLE: &str = include_str!("sql/visible.sql");
const MATCHING: &str = include_str!("sql/matching_relations.sql");

/// Patterns of what is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// Tables, views, sequences, foreign tables.
    pub tables: Vec<String>,
    /// Schemas with all that lies in them.
    pub schemas: Vec<String>,
    /// Tables and sequences whose definitions come without rows and values.
    pub table_data: Vec<String>,
    /// Extensions.
    pub extensions: Vec<String>,
    /// Large objects.
    pub large_objects: bool,
}

/// A pattern in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// As it was given.
    text: String,
    /// Regular expressions, the name's last.
    parts: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; `parts` are as many as it may have.
    fn parse(text: &str, parts: usize) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(format!("invalid pattern \"{text}\": {why}"))
                .with_hint("Patterns are those of psql and pg_dump: schema.table, *, ?, \"Quoted Name\".")
        };
        let (mut found, mut quoted) = (vec![String::new()], false);
        let mut letters = text.chars().peekable();
        while let Some(c) = letters.next() {
            if c == '.' && !quoted {
                found.push(String::new());
                continue;
            }
            let Some(part) = found.last_mut() else { break };
            match c {
                '"' if quoted && letters.peek() == Some(&'"') => {
                    letters.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '*' if !quoted => part.push_str(".*"),
                '?' if !quoted => part.push('.'),
                // A name has it, an expression hardly ever.
                '$' => part.push_str("\\$"),
                '[' if !quoted && letters.peek() == Some(&']') => part.push_str("\\["),
                _ if quoted && "|*+?()[]{}.^\\".contains(c) => part.extend(['\\', c]),
                _ if quoted => part.push(c),
                _ => part.push(c.to_ascii_lowercase()),
            }
        }
        if quoted {
            return Err(wrong("a quote is not closed"));
        }
        if found.iter().any(String::is_empty) {
            return Err(wrong("a name is empty"));
        }
        if found.len() > parts {
            return Err(wrong("it has too many dots"));
        }
        Ok(Self {
            text: text.to_owned(),
            parts: found,
        })
    }

    /// Returns the part that is `from_end` parts from the end.
    fn part(&self, from_end: usize) -> Option<&str> {
        self.parts.iter().rev().nth(from_end).map(String::as_str)
    }

    /// Returns the condition on the database's name, if the pattern has one.
    fn database(&self, from_end: usize) -> String {
        self.part(from_end).map_or_else(String::new, |part| {
            format!(" AND {}", matches("pg_catalog.current_database()", part))
        })
    }

    /// Returns the condition on the relation `c` in the schema `n`.
    fn of_relation(&self, path: &[u32]) -> String {
        let name = matches("c.relname", self.part(0).unwrap_or_default());
        match self.part(1) {
            Some(schema) => format!("({name} AND {}{})", matches("n.nspname", schema), self.database(2)),
            None => format!("({name} AND {})", visible(path)),
        }
    }

    fn of_schema(&self) -> String {
        let name = matches("n.nspname", self.part(0).unwrap_or_default());
        format!("({name}{})", self.database(1))
    }
}

/// An expression that matches no name: none is empty.
const NOTHING: &str = "";

/// Returns the condition that a column matches a regular expression as a whole.
fn matches(column: &str, expression: &str) -> String {
    let whole = format!("^({expression})$");
    let whole = if whole.is_ascii() {
        literal(&whole)
    } else {
        // The session speaks the database's encoding, the user UTF-8.
        format!("pg_catalog.convert_from('\\x{}'::bytea, 'UTF8')", hex::encode(whole))
    };
    format!("{column}::text OPERATOR(pg_catalog.~) {whole} COLLATE pg_catalog.\"default\"")
}

/// Returns the condition that a new session finds the relation `c` without its schema's name.
fn visible(path: &[u32]) -> String {
    let schemas: Vec<String> = path.iter().map(|oid| format!("{oid}::oid")).collect();
    with_names(VISIBLE, &[("schemas", &schemas.join(", "))])
}

impl Exclusion {
    /// Returns whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the form of the patterns.
    pub fn check(&self) -> Result<()> {
        self.patterns().map(drop)
    }

    fn patterns(&self) -> Result<Patterns> {
        let all = |texts: &[String], parts| {
            texts
                .iter()
                .map(|t| Pattern::parse(t, parts))
                .collect::<Result<Vec<_>>>()
        };
        Ok(Patterns {
            tables: all(&self.tables, 3).context("exclude tables")?,
            schemas: all(&self.schemas, 2).context("exclude schemas")?,
            table_data: all(&self.table_data, 3).context("exclude rows of tables")?,
            extensions: all(&self.extensions, 1).context("exclude extensions")?,
        })
    }

    /// Returns the condition of [`Prepared::wanted`] for a session that is in no transaction.
    pub(crate) async fn wanted(&self, connection: &mut Connection) -> Result<String> {
        let mut patterns = self.patterns()?;
        for trial in patterns.trials() {
            let said = connection.execute(&trial.sql()).await;
            patterns.tried(&trial, said)?;
        }
        let mut path = Vec::new();
        if !self.is_empty() {
            let sql = format!("{BEGIN}; {PATH}");
            let found = connection.query(&sql).await.context("read the search_path")?;
            connection.execute("ROLLBACK").await?;
            for row in found.named() {
                path.extend(row.number::<u32>("oid")?);
            }
        }
        let prepared = Prepared {
            patterns,
            path,
            large_objects: self.large_objects,
        };
        Ok(prepared.wanted())
    }

    /// Prepares for a database. The client is in no transaction.
    pub(crate) async fn prepare(&self, client: &Client) -> Result<Prepared> {
        let mut patterns = self.patterns()?;
        for trial in patterns.trials() {
            let said = client.query(&trial.sql(), &[]).await.map_err(client_error);
            patterns.tried(&trial, said.map(drop))?;
        }
        let bare = |p: &Pattern| p.parts.len() == 1;
        let path = if patterns.tables.iter().chain(&patterns.table_data).any(bare) {
            search_path(client).await.context("read the search_path")?
        } else {
            Vec::new()
        };
        Ok(Prepared {
            patterns,
            path,
            large_objects: self.large_objects,
        })
    }
}

#[derive(Debug)]
struct Patterns {
    tables: Vec<Pattern>,
    schemas: Vec<Pattern>,
    table_data: Vec<Pattern>,
    extensions: Vec<Pattern>,
}

impl Patterns {
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Pattern> {
        let named = self.tables.iter_mut().chain(&mut self.schemas);
        named.chain(&mut self.table_data).chain(&mut self.extensions)
    }

    /// Returns what a server has to try before the patterns are used.
    fn trials(&mut self) -> Vec<Trial> {
        let patterns = self.all_mut().enumerate();
        let parts = patterns.flat_map(|(pattern, p)| p.parts.iter().map(move |part| (pattern, part.clone())));
        parts.map(|(pattern, part)| Trial { pattern, part }).collect()
    }

    /// Takes what the server said to a trial. A pattern with letters that the database's encoding lacks matches nothing.
    fn tried(&mut self, trial: &Trial, said: Result<()>) -> Result<()> {
        let Some(pattern) = self.all_mut().nth(trial.pattern) else {
            return said;
        };
        match said {
            Ok(()) => Ok(()),
            Err(error) if lacks_letters(&error, &trial.part) => {
                // No name of the database has these letters.
                pattern.parts = vec![NOTHING.to_owned()];
                Ok(())
            }
            Err(error) => Err(error
                .context(format!("try the pattern \"{}\"", pattern.text))
                .with_hint(
                    "Characters like ( [ + are part of regular expressions; put names that contain them in double \
                     quotes.",
                )),
        }
    }
}

/// A regular expression of a pattern, for the server to try.
#[derive(Debug)]
struct Trial {
    /// Place of the pattern.
    pattern: usize,
    part: String,
}

impl Trial {
    fn sql(&self) -> String {
        format!("SELECT {}", matches("''", &self.part))
    }
}

/// Patterns with what they mean in a database.
#[derive(Debug)]
pub(crate) struct Prepared {
    patterns: Patterns,
    path: Vec<u32>,
    large_objects: bool,
}

impl Prepared {
    /// Returns a condition that holds for relations `c` in schemas `n` that may be needed. Whoever looks for tables to lock uses it.
    pub(crate) fn wanted(&self) -> String {
        let mut conditions: Vec<String> = self.patterns.tables.iter().map(|p| p.of_relation(&self.path)).collect();
        conditions.extend(self.patterns.schemas.iter().map(Pattern::of_schema));
        if conditions.is_empty() {
            return "true".to_owned();
        }
        format!("c.oid NOT IN ({})", with_children(&conditions.join(" OR "), true))
    }

    /// Finds what the patterns mean; returns a note for each that means nothing here.
    pub(crate) async fn resolve(&self, client: &Client) -> Result<(Excluded, Vec<Note>)> {
        let mut excluded = Excluded {
            large_objects: self.large_objects,
            ..Excluded::default()
        };
        let mut notes = Vec::new();
        let mut note = |what: &str, pattern: &Pattern| {
            let text = format!("excludes no {what}: no name matches");
            notes.push(Note::new("unmatched-pattern", pattern.text.as_str(), text));
        };
        for pattern in &self.patterns.schemas {
            let sql = format!(
                "SELECT n.oid FROM pg_catalog.pg_namespace n WHERE {}",
                pattern.of_schema()
            );
            let found = oids(client, &sql, pattern).await?;
            if found.is_empty() {
                note("schema", pattern);
            }
            excluded.schemas.extend(found);
        }
        for pattern in &self.patterns.extensions {
            let name = matches("e.extname", pattern.part(0).unwrap_or_default());
            let sql = format!("SELECT e.oid FROM pg_catalog.pg_extension e WHERE {name}");
            let found = oids(client, &sql, pattern).await?;
            if found.is_empty() {
                note("extension", pattern);
            }
            excluded.extensions.extend(found);
        }
        for pattern in &self.patterns.tables {
            let sql = with_children(&pattern.of_relation(&self.path), true);
            let found = oids(client, &sql, pattern).await?;
            if found.is_empty() {
                note("table", pattern);
            }
            excluded.relations.extend(found);
        }
        for pattern in &self.patterns.table_data {
            let sql = with_children(&pattern.of_relation(&self.path), false);
            let found = oids(client, &sql, pattern).await?;
            if found.is_empty() {
                note("table's rows", pattern);
            }
            excluded.rows.extend(found);
        }
        keep_owned(client, &mut excluded.relations).await?;
        Ok((excluded, notes))
    }
}

/// Returns the query of relations that meet a condition, and of what is below them: partitions, or all children.
fn with_children(condition: &str, all: bool) -> String {
    let all = if all { "true" } else { "false" };
    with_names(MATCHING, &[("condition", condition), ("all", all)])
}

async fn oids(client: &Client, sql: &str, pattern: &Pattern) -> Result<HashSet<u32>> {
    let rows = client.query(sql, &[]).await.map_err(client_error);
    let rows = rows.with_context(|| format!("look for \"{}\"", pattern.text))?;
    rows.iter()
        .map(|row| row.try_get("oid").map_err(client_error))
        .collect()
}

/// Returns whether the server refused an expression because its database's encoding does not have the letters, or cannot be converted
/// to at all.
fn lacks_letters(error: &Error, part: &str) -> bool {
    !part.is_ascii() && matches!(sqlstate(error), Some("22P05" | "22021" | "0A000" | "42883"))
}

/// A sequence that belongs to a column of a table that comes comes with it.
async fn keep_owned(client: &Client, relations: &mut HashSet<u32>) -> Result<()> {
    let list: Vec<u32> = relations.iter().copied().collect();
    let rows = client.query(OWNERS, &[&list]).await.map_err(client_error);
    for row in rows.context("look for the owners of sequences")? {
        let (sequence, table): (u32, u32) = (
            row.try_get("sequence").map_err(client_error)?,
            row.try_get("table_oid").map_err(client_error)?,
        );
        if !relations.contains(&table) {
            relations.remove(&sequence);
        }
    }
    Ok(())
}

const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT";

/// Returns the schemas that a new session of this role looks through.
async fn search_path(client: &Client) -> Result<Vec<u32>> {
    client.batch_execute(BEGIN).await.map_err(client_error)?;
    let rows = client.query(PATH, &[]).await.map_err(client_error)?;
    client.batch_execute("ROLLBACK").await.map_err(client_error)?;
    rows.iter()
        .map(|row| row.try_get("oid").map_err(client_error))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn patterns_are_read_as_psql_reads_them() {
        for (text, parts) in [
            ("Users", vec!["users"]),
            ("\"Users\"", vec!["Users"]),
            ("audit.*", vec!["audit", ".*"]),
            ("app.log_?", vec!["app", "log_."]),
            ("db.app.t", vec!["db", "app", "t"]),
            ("\"a.b\".c", vec!["a\\.b", "c"]),
            ("\"say \"\"hi\"\"\"", vec!["say \"hi\""]),
            ("\"a*b\"", vec!["a\\*b"]),
            ("pg$x", vec!["pg\\$x"]),
            ("part_[0-9]+", vec!["part_[0-9]+"]),
            ("Größe", vec!["größe"]),
        ] {
            assert_eq!(Pattern::parse(text, 3).unwrap().parts, parts, "{text}");
        }
        for text in ["\"open", "", "a..b", ".a", "a.", "a.b.c.d"] {
            assert!(Pattern::parse(text, 3).is_err(), "{text}");
        }
        assert!(Pattern::parse("a.b", 1).is_err());
    }

    #[test]
    fn a_name_beyond_ascii_is_converted_by_the_server() {
        let sql = matches("c.relname", "größe");
        assert!(sql.is_ascii() && sql.contains("convert_from('\\x5e28"), "{sql}");
        assert!(matches("c.relname", "it's").contains("'^(it''s)$'"));
    }
}
