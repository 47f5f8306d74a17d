//! Repairs of the SQL that older versions of this program wrote, done whenever an item of a backup is read.
//!
//! 1. Options of columns that only the server that was backed up accepts: PostgreSQL 15.20 keeps `pg_attver` with every column,
//!    and nothing of such a backup could be created elsewhere.
//! 2. `GRANT ALL` on tables of a server before 17. There it meant seven privileges; to 17 and newer it means MAINTAIN as well.
//!
//! Both look for their words first: texts without them, nearly all, are not cut into tokens.

use std::ops::Range;

use super::rewrite::{TOKENS, Token, replace, statements, tokens, unquote};
use crate::base::exact;

/// Options of columns that a backup carries.
pub(crate) const COLUMN_OPTIONS: [&str; 2] = ["n_distinct", "n_distinct_inherited"];

/// First version whose tables know the privilege MAINTAIN.
pub(crate) const MAINTAIN_SINCE: u32 = 170_000;

/// The privileges on tables before 17.
pub(crate) const TABLE_PRIVILEGES: &str = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER";

/// Returns the text as it is run; `version` is `server_version_num` of the server that was backed up, 0 if nobody knows.
pub(crate) fn clean(sql: String, version: u32) -> String {
    let options = sql.contains(" SET (\"");
    let rights = sql.contains("GRANT ALL ON TABLE") && (1..MAINTAIN_SINCE).contains(&version);
    if !options && !rights {
        return sql;
    }
    let mut out = String::with_capacity(sql.len());
    for range in statements(&sql) {
        let statement = sql.get(range).unwrap_or_default();
        let changed = match statement.trim_start().split(' ').next() {
            Some("ALTER") if options && statement.contains(" SET (\"") => column_options(statement),
            Some("ALTER" | "GRANT") if rights => spelled(statement),
            _ => None,
        };
        out.push_str(changed.as_deref().unwrap_or(statement));
    }
    out
}

/// Returns `ALTER … ALTER COLUMN … SET (…)` with those options that every server knows; empty if none is left.
fn column_options(statement: &str) -> Option<String> {
    let tokens = tokens(statement);
    let word = |at: usize, wanted: &str| match tokens.get(at) {
        Some(Token::Word(range)) => statement.get(range.clone()) == Some(wanted),
        _ => false,
    };
    let column = (0..tokens.len()).find(|&at| word(at, "ALTER") && word(at + 1, "COLUMN"))?;
    let set = column + 3;
    if !word(set, "SET") || tokens.get(set + 1) != Some(&Token::Mark(b'(')) {
        return None;
    }
    // Each option is four tokens: name, `=`, value, and the comma or bracket behind it. `E'…'` is one more.
    let list = tokens.get(set + 2..)?;
    let (mut kept, mut dropped, mut at) = (Vec::new(), false, 0);
    while let Some(Token::Quoted(name)) = list.get(at) {
        let end = (at..list.len()).find(|&i| matches!(list.get(i), Some(Token::Mark(b',' | b')'))))?;
        let Some(Token::Text(value)) = list.get(end.checked_sub(1)?) else {
            return None;
        };
        let text = statement.get(name.start..value.end)?;
        if COLUMN_OPTIONS.contains(&unquote(statement.get(name.clone())?, '"').as_str()) {
            kept.push(text);
        } else {
            dropped = true;
        }
        at = end + 1;
    }
    if !dropped {
        return None;
    }
    if kept.is_empty() {
        return Some(String::new());
    }
    let head = statement.get(..set_end(&tokens, set)?)?;
    Some(format!("{head} ({});\n", kept.join(", ")))
}

fn set_end(tokens: &[Token], at: usize) -> Option<usize> {
    match tokens.get(at)? {
        Token::Word(range) => Some(range.end),
        _ => None,
    }
}

/// Returns `GRANT ALL ON TABLE` and `… GRANT ALL ON TABLES` of default privileges with the privileges spelled out.
fn spelled(statement: &str) -> Option<String> {
    let tokens = tokens(statement);
    let text = |at: usize| match tokens.get(at) {
        Some(Token::Word(range)) => exact::text(statement, range.clone(), TOKENS),
        _ => "",
    };
    let grant = (0..tokens.len()).find(|&at| text(at) == "GRANT" && text(at + 1) == "ALL" && text(at + 2) == "ON")?;
    let starts = grant == 0 && text(3) == "TABLE";
    let defaults = text(0) == "ALTER" && text(1) == "DEFAULT" && text(grant + 3) == "TABLES";
    let Some(Token::Word(all)) = tokens.get(grant + 1).filter(|_| starts || defaults) else {
        return None;
    };
    let changes: Vec<(Range<usize>, String)> = vec![(all.clone(), TABLE_PRIVILEGES.to_owned())];
    Some(replace(statement, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_15_20_is_made_without_what_only_15_20_knows() {
        let sql = "CREATE TABLE \"t\" (\n    \"a\" text DEFAULT ' SET (\"pg_attver\"=''1'');'\n);\n\
            ALTER TABLE ONLY \"t\" ALTER COLUMN \"a\" SET (\"pg_attver\"='22158912');\n\
            ALTER TABLE ONLY \"t\" ALTER COLUMN \"b SET (\" SET (\"n_distinct\"='-0.5', \"pg_attver\"='1');\n\
            ALTER TABLE ONLY \"t\" ALTER COLUMN \"c\" SET (\"n_distinct\"='5');\n\
            ALTER FOREIGN TABLE ONLY \"t\" ALTER COLUMN \"d\" SET (\"pg_attver\"='1');\n\
            ALTER TABLE \"t\" OWNER TO \"o\";\n";
        assert_eq!(
            clean(sql.to_owned(), 150_020),
            "CREATE TABLE \"t\" (\n    \"a\" text DEFAULT ' SET (\"pg_attver\"=''1'');'\n);\n\
             ALTER TABLE ONLY \"t\" ALTER COLUMN \"b SET (\" SET (\"n_distinct\"='-0.5');\n\
             ALTER TABLE ONLY \"t\" ALTER COLUMN \"c\" SET (\"n_distinct\"='5');\n\
             ALTER TABLE \"t\" OWNER TO \"o\";\n"
        );
    }

    #[test]
    fn other_lists_in_brackets_stay() {
        let sql = "ALTER TABLESPACE \"s\" SET (\"seq_page_cost\"='1');\nALTER STATISTICS \"s\" SET STATISTICS 5;\n";
        assert_eq!(clean(sql.to_owned(), 150_000), sql);
    }

    #[test]
    fn all_rights_of_an_older_server_are_the_seven_it_knew() {
        let sql = "REVOKE ALL ON TABLE \"t\" FROM \"o\";\nGRANT ALL ON TABLE \"t\" TO \"GRANT ALL ON TABLE\";\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" GRANT ALL ON TABLES TO \"r\";\nGRANT ALL ON SEQUENCE \"s\" TO \"r\";\n";
        let changed = clean(sql.to_owned(), 160_014);
        assert_eq!(
            changed,
            format!(
                "REVOKE ALL ON TABLE \"t\" FROM \"o\";\nGRANT {TABLE_PRIVILEGES} ON TABLE \"t\" TO \"GRANT ALL ON TABLE\";\n\
                 ALTER DEFAULT PRIVILEGES FOR ROLE \"o\" GRANT {TABLE_PRIVILEGES} ON TABLES TO \"r\";\nGRANT ALL ON SEQUENCE \"s\" TO \"r\";\n"
            )
        );
        assert_eq!(clean(sql.to_owned(), 170_000), sql);
        assert_eq!(clean(sql.to_owned(), 0), sql);
    }
}
