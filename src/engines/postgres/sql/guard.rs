//! Which statements of a backup are run: those that this program writes, and no others.
//!
//! A repository may have been written by somebody else, and a restore often runs as a superuser. So every statement of a backup
//! is judged before the first one is sent. The list below names what statements begin with that [`crate::engines::postgres::schema`] has ever
//! written; whatever begins otherwise (`COPY`, `ALTER SYSTEM`, `SET ROLE`, …) is refused. Of `DO` the three blocks are known that
//! stand there, and what they execute is judged too. Bodies of functions, defaults and conditions are data within
//! statements: they are not judged, they run as whoever uses them, and [`crate::engines::postgres::restore::powers`] names those that have power.
//!
//! In tests the writer itself asks this judge for every item, so the two cannot drift apart.

mod blocks;
mod body;
mod written;

use blocks::{DATABASE, from_16_on, if_missing, of_database};
use body::Body;
use written::{CALLED, OF_DATABASE, OF_SERVER, WRITTEN};

use super::GLOBALS;
use super::lexer::{Lexer, Refusal, Tok, unliteral};
use super::rewrite::unquote;

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementScope {
    /// In the SQL of a database.
    Database,
    /// In that of the whole server.
    Server,
    /// In a block about the database itself.
    Block,
}

impl StatementScope {
    pub(crate) fn of_stream(stream: &str) -> Self {
        if stream == GLOBALS {
            Self::Server
        } else {
            Self::Database
        }
    }
}

/// What is known of a statement that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The words it begins with, in capitals.
    pub(crate) begins: String,
    /// The language of a function, as it is written there.
    pub(crate) language: Option<String>,
}

/// Returns the statements of a text, or why it is not run.
pub(crate) fn judge(sql: &str, place: StatementScope) -> Result<Vec<Judged>, Refusal> {
    let mut lexer = Lexer::new(sql);
    let mut judged = Vec::new();
    while let Some(first) = lexer.next()? {
        let statement = Statement::read(first, &mut lexer, place == StatementScope::Block)?;
        judged.extend(statement.judge(place)?);
        judged.push(Judged {
            begins: statement.begins(),
            language: statement.language.map(|name| unquote(name, '"')),
        });
    }
    Ok(judged)
}

/// Returns why the condition on a table's rows cannot be part of a query; it is one expression that ends nothing.
pub(crate) fn judge_condition(sql: &str) -> Result<(), Refusal> {
    let mut lexer = Lexer::new(sql);
    let mut depth = 0_u32;
    let mut first = true;
    while let Some(token) = lexer.next()? {
        if first && !token.is("WHERE") {
            return Err("a condition without WHERE".to_owned());
        }
        first = false;
        depth = depth_after(depth, token)?;
        if token == Tok::Mark(b';') {
            return Err("a condition with a semicolon".to_owned());
        }
    }
    if depth == 0 {
        Ok(())
    } else {
        Err("a bracket that does not end".to_owned())
    }
}

fn depth_after(depth: u32, token: Tok<'_>) -> Result<u32, Refusal> {
    match token {
        Tok::Mark(b'(') => Ok(depth + 1),
        Tok::Mark(b')') => depth
            .checked_sub(1)
            .ok_or_else(|| "a bracket that was not opened".to_owned()),
        _ => Ok(depth),
    }
}

/// Tokens at a statement's beginning that are kept.
const HEAD: usize = 24;

/// Different words outside of brackets, and calls, that are kept.
const KEPT: usize = 256;

/// What a statement is judged by. However long it is, this is little.
#[derive(Debug, Default)]
struct Statement<'a> {
    head: Vec<Tok<'a>>,
    /// Its last three tokens.
    tail: [Option<Tok<'a>>; 3],
    /// Words outside of brackets.
    top: Vec<&'a str>,
    /// Functions that are called, with whether they are `pg_catalog.…`.
    calls: Vec<(bool, &'a str)>,
    /// Whether `connect = false` stands in it.
    stays_unconnected: bool,
    /// What stands behind `LANGUAGE` in the definition of a function.
    language: Option<&'a str>,
    tokens: u64,
}

impl<'a> Statement<'a> {
    /// Reads to the semicolon; `alone` says that none follows.
    fn read(first: Tok<'a>, lexer: &mut Lexer<'a>, alone: bool) -> Result<Self, Refusal> {
        let mut statement = Self::default();
        let (mut depth, mut body, mut next) = (0, Body::None, Some(first));
        while let Some(token) = next {
            depth = depth_after(depth, token)?;
            if token == Tok::Mark(b';') && depth == 0 && !body.goes_on() {
                return if alone {
                    Err("a second statement".to_owned())
                } else {
                    Ok(statement)
                };
            }
            if token == Tok::Mark(b';') && depth > 0 && !statement.begins().starts_with("CREATE RULE") {
                return Err("a semicolon within brackets".to_owned());
            }
            if body == Body::Over {
                return Err("something behind the body of a function".to_owned());
            }
            if depth == 0 && statement.is_routine() || body.goes_on() {
                body = body.after(token, &statement.tail)?;
            }
            statement.take(token, depth);
            next = lexer.next()?;
        }
        if alone && depth == 0 && !body.goes_on() {
            Ok(statement)
        } else {
            Err("a statement that does not end".to_owned())
        }
    }

    fn take(&mut self, token: Tok<'a>, depth: u32) {
        let [before2, before1, last] = self.tail;
        // The alias of a list, `unnest(…) t(o)`, is no call: nothing but an alias may stand behind a bracket.
        let is_alias = before1 == Some(Tok::Mark(b')')) && last == Some(Tok::Word("t"));
        if token == Tok::Mark(b'(')
            && !is_alias
            && let Some(Tok::Word(name) | Tok::Name(name)) = last
        {
            let own = before1 == Some(Tok::Mark(b'.')) && before2.is_some_and(|t| t.is("pg_catalog"));
            if !self.calls.contains(&(own, name)) && self.calls.len() < KEPT {
                self.calls.push((own, name));
            }
        }
        if let Tok::Word(name) | Tok::Name(name) | Tok::Text(name) = token
            && depth == 0
            && last.is_some_and(|t| t.is("LANGUAGE"))
            && self.is_routine()
        {
            self.language.get_or_insert(name);
        }
        if let Tok::Word(word) = token
            && depth == 0
            && self.top.len() < KEPT
            && !self.top.contains(&word)
        {
            self.top.push(word);
        }
        self.stays_unconnected |=
            token.is("false") && last == Some(Tok::Mark(b'=')) && before1.is_some_and(|t| t.is("connect"));
        if self.head.len() < HEAD {
            self.head.push(token);
        }
        self.tail = [before1, last, Some(token)];
        self.tokens += 1;
    }

    /// Returns the words it begins with, in capitals.
    fn begins(&self) -> String {
        let words = self.head.iter().map_while(|t| match t {
            Tok::Word(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        });
        words.take(6).collect::<Vec<_>>().join(" ")
    }

    fn is_routine(&self) -> bool {
        let word = |at: usize, wanted: &str| self.head.get(at).is_some_and(|t| t.is(wanted));
        let at = if word(1, "OR") { 3 } else { 1 };
        word(0, "CREATE") && (word(at, "FUNCTION") || word(at, "PROCEDURE"))
    }

    fn has(&self, word: &str) -> bool {
        // Where there are too many to keep them all, it may be among them.
        self.top.len() >= KEPT || self.top.iter().any(|w| w.eq_ignore_ascii_case(word))
    }

    /// Returns what is known of the statements within it, where it holds some.
    fn judge(&self, place: StatementScope) -> Result<Vec<Judged>, Refusal> {
        let begins = self.begins();
        let refused = || Err(format!("a statement that begins with {}", shown(&begins, &self.head)));
        let among = |list: &[&str]| {
            list.iter().any(|known| {
                begins
                    .strip_prefix(known)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            })
        };
        if place == StatementScope::Database && self.head.first().is_some_and(|t| t.is("DO")) {
            return self.judge_block();
        }
        let allowed = among(WRITTEN)
            || (place == StatementScope::Server && among(OF_SERVER))
            || (place == StatementScope::Block && among(OF_DATABASE));
        if !allowed {
            return refused();
        }
        let fits = match self.head.get(..2) {
            Some([first, second]) if first.is("CREATE") => self.is_plain_create(*second, &begins),
            // Memberships are of the whole server.
            Some([first, _]) if first.is("GRANT") || first.is("REVOKE") => {
                place == StatementScope::Server || (self.top.len() < KEPT && self.has("ON"))
            }
            Some([first, second]) if first.is("ALTER") && second.is("SUBSCRIPTION") => {
                self.is_plain_subscription_change()
            }
            Some([first, second]) if place == StatementScope::Block && first.is("ALTER") => {
                self.is_about_the_database(*second)
            }
            Some([first, _]) if first.is("SELECT") => self.calls_known_functions(),
            _ => true,
        };
        if fits { Ok(Vec::new()) } else { refused() }
    }

    /// Whether something is made, and nothing filled or reached in the same breath.
    fn is_plain_create(&self, second: Tok<'_>, begins: &str) -> bool {
        match begins {
            _ if second.is("SCHEMA") => self.tokens == 3,
            b if b.starts_with("CREATE TABLE")
                || b.starts_with("CREATE UNLOGGED TABLE")
                || b.starts_with("CREATE FOREIGN TABLE") =>
            {
                !self.has("AS") && !self.has("EXECUTE")
            }
            b if b.starts_with("CREATE MATERIALIZED VIEW") => {
                let words = ["WITH", "NO", "DATA"];
                self.tail
                    .iter()
                    .zip(words)
                    .all(|(token, word)| token.is_some_and(|t| t.is(word)))
            }
            b if b.starts_with("CREATE SUBSCRIPTION") => self.stays_unconnected,
            _ => true,
        }
    }

    /// `ALTER DATABASE`, and of roles only their settings in it.
    fn is_about_the_database(&self, second: Tok<'_>) -> bool {
        match self.head.get(2..) {
            Some([name, ..]) if second.is("DATABASE") => *name == Tok::Name(DATABASE),
            Some([_, within, database, name, set, ..]) if second.is("ROLE") => {
                within.is("IN") && database.is("DATABASE") && *name == Tok::Name(DATABASE) && set.is("SET")
            }
            _ => false,
        }
    }

    /// `OWNER TO` and `SET (run_as_owner = true)`: nothing that connects.
    fn is_plain_subscription_change(&self) -> bool {
        match self.head.get(3..) {
            Some([owner, to, _]) => owner.is("OWNER") && to.is("TO"),
            Some([set, Tok::Mark(b'('), option, Tok::Mark(b'='), value, Tok::Mark(b')')]) => {
                set.is("SET") && option.is("run_as_owner") && value.is("true")
            }
            _ => false,
        }
    }

    fn calls_known_functions(&self) -> bool {
        let known = |(own, name): &(bool, &str)| *own && CALLED.iter().any(|c| c.eq_ignore_ascii_case(name));
        !self.calls.is_empty() && self.calls.len() < KEPT && self.calls.iter().all(known) && !self.has("INTO")
    }

    /// The blocks that are written: about the database itself; only where a part of an extension's table is missing; only from
    /// PostgreSQL 16 on.
    fn judge_block(&self) -> Result<Vec<Judged>, Refusal> {
        let unknown = || "a DO block that this program does not write".to_owned();
        let [_, language, name, Tok::Text(body)] = self.head.as_slice() else {
            return Err(unknown());
        };
        if !language.is("LANGUAGE") || !name.is("plpgsql") || self.tokens != 4 {
            return Err(unknown());
        }
        let body = unliteral(body).ok_or_else(unknown)?;
        if let Some(statement) = of_database(&body) {
            return judge(&statement, StatementScope::Block);
        }
        let inner = if_missing(&body).or_else(|| from_16_on(&body)).ok_or_else(unknown)?;
        // One block within another is never written.
        let judged = judge(&inner, StatementScope::Database)?;
        if judged.iter().any(|one| one.begins.starts_with("DO ")) {
            Err(unknown())
        } else {
            Ok(judged)
        }
    }
}

/// The beginning of a statement for a message.
fn shown(begins: &str, head: &[Tok<'_>]) -> String {
    let words: Vec<&str> = begins.split(' ').filter(|w| !w.is_empty()).take(3).collect();
    match (words.is_empty(), head.first()) {
        (false, _) => words.join(" ").chars().take(60).collect(),
        (true, Some(Tok::Mark(mark))) => format!("\"{}\"", char::from(*mark)),
        (true, _) => "no keyword".to_owned(),
    }
}

#[cfg(test)]
mod tests;
