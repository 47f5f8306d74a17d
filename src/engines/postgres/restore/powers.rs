//! What of a backup is run, judged before the first statement is sent, and what of it runs code with power.
//!
//! A restore makes functions, and whoever wrote the repository wrote them. Most run as the role that calls them. Named are those
//! that can do more: functions in C and in untrusted languages run as the server's own user, an event trigger runs for
//! everybody's statements, superusers among them.

use super::server_facts;
use crate::base::error::{Context as _, Error, Result};
use crate::engines::postgres::sql::guard;
use crate::engines::postgres::sql::guard::{Judged, StatementScope};
use crate::engines::postgres::sql::lexer::Refusal;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;

/// Languages whose functions cannot leave the database: those of the server, and those of others that say so of themselves.
const TRUSTED: [&str; 9] = [
    "sql", "plpgsql", "plperl", "pltcl", "plv8", "plcoffee", "plls", "java", "pljs",
];

/// Objects of a kind that are named; of more, the number is told.
const NAMED: usize = 10;

/// What runs code with power, by kind.
#[derive(Debug, Default)]
pub(crate) struct Powers {
    compiled: Named,
    untrusted: Named,
    languages: Named,
    event_triggers: Named,
}

#[derive(Debug, Default)]
struct Named {
    names: Vec<String>,
    more: usize,
}

impl Named {
    fn add(&mut self, name: String) {
        if self.names.len() < NAMED {
            self.names.push(name);
        } else {
            self.more += 1;
        }
    }

    fn line(&self, what: &str) -> Option<String> {
        let more = if self.more > 0 {
            format!(" and {} more", self.more)
        } else {
            String::new()
        };
        (!self.names.is_empty()).then(|| format!("{what}: {}{more}", self.names.join(", ")))
    }
}

impl Powers {
    /// Judges every statement of a backup; one that this program does not write is [`crate::ErrorKind::Corrupt`].
    pub(crate) async fn of(contents: &Contents, toc: &[TocEntry]) -> Result<Self> {
        check_conditions(contents)?;
        let mut powers = Self::default();
        let mut texts = contents.texts();
        for line in toc {
            let sql = texts.get(line).await?;
            let judged =
                guard::judge(&sql, StatementScope::of_stream(&line.stream)).map_err(|why| refused(line, &why))?;
            powers.add(line, &judged);
        }
        Ok(powers)
    }

    fn add(&mut self, line: &TocEntry, judged: &[Judged]) {
        let name = || match &line.item.schema {
            Some(schema) => format!("{schema}.{}", line.item.name),
            None => line.item.name.clone(),
        };
        for one in judged {
            match one.language.as_deref() {
                Some("c" | "C" | "internal") => self.compiled.add(name()),
                Some(language) if !TRUSTED.contains(&language.to_ascii_lowercase().as_str()) => {
                    self.untrusted.add(format!("{} ({language})", name()));
                }
                _ => {}
            }
            if one.begins.starts_with("CREATE LANGUAGE") || one.begins.starts_with("CREATE TRUSTED LANGUAGE") {
                self.languages.add(name());
            } else if one.begins.starts_with("CREATE EVENT TRIGGER") {
                self.event_triggers.add(name());
            }
        }
    }

    /// Returns a line for each kind that there is.
    pub(crate) fn lines(&self) -> Vec<String> {
        let all = [
            self.compiled.line("functions in C, which run as the server's user"),
            self.untrusted
                .line("functions in untrusted languages, which run as the server's user"),
            self.languages.line("languages"),
            self.event_triggers
                .line("event triggers, which run for everybody's statements"),
        ];
        all.into_iter().flatten().collect()
    }
}

fn refused(line: &TocEntry, why: &Refusal) -> Error {
    let (kind, name, stream) = (&line.item.kind, &line.item.name, &line.stream);
    Error::corrupt(format!(
        "the SQL of {kind} \"{name}\" in \"{stream}\" holds {why}; wirevault never writes this"
    ))
    .with_hint(
        "Nothing was sent to the server. Check who can write to the repository. If you trust the backup, \
         `wirevault cat SNAPSHOT SOURCE restore.sql` shows how to restore it manually.",
    )
}

/// Checks what else of a backup becomes part of statements: conditions on the rows of tables.
fn check_conditions(contents: &Contents) -> Result<()> {
    for record in &contents.records {
        let condition = record
            .facts
            .get("filter")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        if !condition.is_empty() {
            let bad = |why: Refusal| {
                Error::corrupt(format!(
                    "the condition on the rows of \"{}\" holds {why}",
                    record.stream
                ))
            };
            guard::judge_condition(condition).map_err(bad)?;
        }
    }
    Ok(())
}

/// Judges all that a restore of a backup would run: for a verification of its content.
pub async fn examine(reader: &crate::archive::ArchiveReader) -> Result<()> {
    let contents = Contents::open(reader.clone())
        .await
        .context("read the backup's index")?;
    server_facts(&contents)?;
    let toc = contents.toc().await?;
    Powers::of(&contents, &toc).await.map(drop)
}
