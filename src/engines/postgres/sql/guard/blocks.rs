//! The three `DO` blocks that are written, known by their exact text.

use crate::engines::postgres::sql::lexer::{Lexer, Tok, unliteral};

/// Stands for the name of the database in a block about it.
pub(super) const DATABASE: &str = "\"database\"";

/// Returns the statement in a block of [`super::schema`]'s about the database itself, with a name for the database's.
pub(super) fn of_database(body: &str) -> Option<String> {
    let format = body
        .strip_prefix("BEGIN EXECUTE pg_catalog.format(")?
        .strip_suffix(", pg_catalog.current_database()); END")?;
    let format = unliteral(format)?;
    let mut statement = String::with_capacity(format.len());
    let mut rest = format.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        statement.push_str(before);
        rest = match (after.strip_prefix('%'), after.strip_prefix("1$I")) {
            (Some(after), _) => {
                statement.push('%');
                after
            }
            (_, Some(after)) => {
                statement.push_str(DATABASE);
                after
            }
            _ => return None,
        };
    }
    statement.push_str(rest);
    Some(statement)
}

/// Returns the statements that run only where a part of an extension's table is missing.
pub(super) fn if_missing(body: &str) -> Option<String> {
    const THEN: &str = ") THEN\nEXECUTE ";
    let inner = body
        .strip_prefix("BEGIN\nIF NOT EXISTS (SELECT FROM ")?
        .strip_suffix(";\nEND IF;\nEND")?;
    // A name may hold these words, too.
    inner.match_indices(THEN).find_map(|(at, _)| {
        let there = inner.get(..at)?;
        let statements = inner.get(at + THEN.len()..)?;
        is_look_up(there).then(|| unliteral(statements))?
    })
}

/// Whether a text looks into a catalog and does nothing else.
fn is_look_up(sql: &str) -> bool {
    let mut lexer = Lexer::new(sql);
    let mut first = true;
    loop {
        match lexer.next() {
            Ok(None) => return !first,
            Ok(Some(token)) => {
                if (first && !token.is("pg_catalog")) || matches!(token, Tok::Mark(b'(' | b')' | b';')) {
                    return false;
                }
                first = false;
            }
            Err(_) => return false,
        }
    }
}

/// Returns the statement that only servers from 16 on know.
pub(super) fn from_16_on(body: &str) -> Option<String> {
    let statement = body
        .strip_prefix(
            "BEGIN IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 THEN EXECUTE ",
        )?
        .strip_suffix("; END IF; END")?;
    Some(format!("{};", unliteral(statement)?))
}
