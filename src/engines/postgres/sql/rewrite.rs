//! Changes to the SQL of a backup on its way back: other owners, no rights, other tablespaces, another schema.
//!
//! Texts are cut into statements and tokens, so that nothing within strings, bodies of functions and comments is taken for
//! a statement. Only statements that begin in a known way are changed; all others are passed on as they are.

use std::ops::Range;

use super::current_database::change_here;
use super::quote::{literal, quote_ident};
use crate::base::exact;

/// What is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Leave out `ALTER … OWNER TO`.
    pub(crate) no_owner: bool,
    /// Leave out rights.
    pub(crate) no_privileges: bool,
    /// Roles by other names.
    pub(crate) roles: Vec<(String, String)>,
    /// Tablespaces by other names; an empty one is the database's own.
    pub(crate) tablespaces: Vec<(String, String)>,
    /// Relations that get another schema: schema and name, and the new schema.
    pub(crate) moved: Vec<(String, String)>,
    pub(crate) into_schema: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A quoted identifier, quotes included.
    Quoted(Range<usize>),
    /// A keyword or unquoted identifier.
    Word(Range<usize>),
    /// Any other single character that is no space.
    Mark(u8),
    /// A string.
    Text(Range<usize>),
}

impl Rewrite {
    fn is_needed(&self) -> bool {
        *self != Self::default()
    }

    /// Returns the changed text.
    pub(crate) fn apply(&self, sql: String) -> String {
        if !self.is_needed() {
            return sql;
        }
        let sql = self.move_relations(sql);
        let mut out = String::with_capacity(sql.len());
        for range in statements(&sql) {
            let statement = sql.get(range).unwrap_or_default();
            match self.statement(statement) {
                Some(changed) => out.push_str(&changed),
                None => out.push_str(statement),
            }
        }
        out
    }

    fn move_relations(&self, mut sql: String) -> String {
        for (schema, name) in &self.moved {
            let (old, new) = (
                format!("{}.{}", quote_ident(schema), quote_ident(name)),
                format!("{}.{}", quote_ident(&self.into_schema), quote_ident(name)),
            );
            let mut out = String::with_capacity(sql.len());
            let mut rest = sql.as_str();
            while let Some(at) = rest.find(&old) {
                let (before, found) = rest.split_at(at);
                let after = exact::text(found, old.len().., "it was found there");
                // A doubled quote is within a longer name.
                let whole = !before.ends_with('"') && !after.starts_with('"');
                out.push_str(before);
                out.push_str(if whole { &new } else { &old });
                rest = after;
            }
            out.push_str(rest);
            sql = out;
        }
        sql
    }

    /// Returns the changed statement; none if it stays. What is left out becomes empty.
    fn statement(&self, sql: &str) -> Option<String> {
        if sql.starts_with("DO ") {
            return change_here(sql, &|inner| self.statement(inner));
        }
        let tokens = tokens(sql);
        let word = |at: usize| match tokens.get(at) {
            Some(Token::Word(range)) => exact::text(sql, range.clone(), TOKENS).to_ascii_uppercase(),
            _ => String::new(),
        };
        let (first, second) = (word(0), word(1));
        let (first, second) = (first.as_str(), second.as_str());
        let has = |a: &str, b: &str| {
            tokens
                .iter()
                .enumerate()
                .any(|(at, _)| word(at) == a && word(at + 1) == b)
        };
        let owner = first == "ALTER" && has("OWNER", "TO");
        let rights = matches!(first, "GRANT" | "REVOKE")
            || (first == "ALTER" && second == "DEFAULT")
            || (matches!(first, "SET" | "RESET") && second == "SESSION");
        if (owner && self.no_owner) || (rights && self.no_privileges) {
            return Some(String::new());
        }
        if !self.tablespaces.is_empty() && first == "SET" && second == "DEFAULT_TABLESPACE" {
            return self.default_tablespace(sql, &tokens);
        }
        let mut changes: Vec<(Range<usize>, String)> = Vec::new();
        let policy = matches!(first, "CREATE" | "ALTER") && second == "POLICY";
        let mapping = first == "CREATE" && second == "USER";
        let role = matches!(first, "CREATE" | "ALTER" | "COMMENT") && (second == "ROLE" || word(2) == "ROLE");
        if owner || rights || policy || mapping || role {
            self.role_changes(sql, &tokens, &mut changes);
        }
        if first == "CREATE" {
            self.tablespace_changes(sql, &tokens, &mut changes);
        }
        if changes.is_empty() {
            return None;
        }
        Some(replace(sql, changes))
    }

    fn default_tablespace(&self, sql: &str, tokens: &[Token]) -> Option<String> {
        let (range, name) = tokens.iter().find_map(|t| match t {
            Token::Quoted(range) => Some((range, unquote(sql.get(range.clone())?, '"'))),
            Token::Text(range) => Some((range, unquote(sql.get(range.clone())?, '\''))),
            _ => None,
        })?;
        let new = mapped(&self.tablespaces, &name)?;
        let new = if new.is_empty() { literal("") } else { quote_ident(new) };
        Some(format!(
            "{}{new}{}",
            exact::text(sql, ..range.start, TOKENS),
            exact::text(sql, range.end.., TOKENS)
        ))
    }

    /// Roles stand behind TO, FROM, ROLE, FOR and AUTHORIZATION, and in lists of those.
    fn role_changes(&self, sql: &str, tokens: &[Token], changes: &mut Vec<(Range<usize>, String)>) {
        let mut in_list = false;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                Token::Word(range) => {
                    let word = exact::text(sql, range.clone(), TOKENS).to_ascii_uppercase();
                    in_list = matches!(word.as_str(), "TO" | "FROM" | "ROLE" | "FOR" | "AUTHORIZATION" | "USER");
                }
                Token::Mark(b',') => {}
                Token::Mark(_) | Token::Text(_) => in_list = false,
                Token::Quoted(range) => {
                    let qualified = tokens.get(at + 1) == Some(&Token::Mark(b'.'));
                    let name = unquote(exact::text(sql, range.clone(), TOKENS), '"');
                    if let Some(new) = mapped(&self.roles, &name).filter(|_| in_list && !qualified) {
                        changes.push((range.clone(), quote_ident(new)));
                    }
                }
            }
        }
    }

    fn tablespace_changes(&self, sql: &str, tokens: &[Token], changes: &mut Vec<(Range<usize>, String)>) {
        for pair in tokens.windows(2) {
            let [Token::Word(word), Token::Quoted(name)] = pair else {
                continue;
            };
            let is_keyword = sql
                .get(word.clone())
                .is_some_and(|w| w.eq_ignore_ascii_case("TABLESPACE"));
            let old = unquote(exact::text(sql, name.clone(), TOKENS), '"');
            match mapped(&self.tablespaces, &old).filter(|_| is_keyword) {
                Some("") => changes.push((word.start..name.end, String::new())),
                Some(new) => changes.push((name.clone(), quote_ident(new))),
                None => {}
            }
        }
    }
}

/// Returns the text with other words in the places of some tokens.
pub(crate) fn replace(sql: &str, mut changes: Vec<(Range<usize>, String)>) -> String {
    changes.sort_by_key(|(range, _)| range.start);
    let (mut out, mut at) = (String::new(), 0);
    for (range, text) in changes {
        out.push_str(exact::text(sql, at..range.start, TOKENS));
        out.push_str(&text);
        at = range.end;
    }
    out.push_str(exact::text(sql, at.., TOKENS));
    out
}

fn mapped<'a>(map: &'a [(String, String)], name: &str) -> Option<&'a str> {
    map.iter().find(|(old, _)| old == name).map(|(_, new)| new.as_str())
}

pub(crate) fn unquote(text: &str, quote: char) -> String {
    let inner = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    inner
        .unwrap_or(text)
        .replace(&format!("{quote}{quote}"), &quote.to_string())
}

/// Returns the relation that a statement after the table's creation belongs to: schema and name.
///
/// The word that stands before the relation depends on the kind of item; names are always quoted and qualified.
pub(crate) fn relation_of(kind: &str, sql: &str) -> Option<(String, String)> {
    let before: Option<&[&str]> = match kind {
        "INDEX" | "TRIGGER" | "POLICY" | "COMMENT" => Some(&["ON", "ONLY"]),
        "RULE" => Some(&["TO"]),
        "STATISTICS" => Some(&["FROM", "ONLY"]),
        // Rights to functions and types name objects of the same form.
        "RELATION ACL" => Some(&["TABLE", "SEQUENCE"]),
        "REFERENCES" => Some(&["REFERENCES"]),
        _ => None,
    };
    for range in statements(sql) {
        let statement = sql.get(range).unwrap_or_default();
        let tokens = tokens(statement);
        for (at, window) in tokens.windows(3).enumerate() {
            let [Token::Quoted(schema), Token::Mark(b'.'), Token::Quoted(name)] = window else {
                continue;
            };
            let fits = before.is_none_or(|words| {
                let last = at.checked_sub(1).and_then(|b| tokens.get(b));
                matches!(last, Some(Token::Word(range)) if statement.get(range.clone()).is_some_and(|w| words.iter().any(|k| w.eq_ignore_ascii_case(k))))
            });
            if fits {
                let text = |range: &Range<usize>| unquote(statement.get(range.clone()).unwrap_or_default(), '"');
                return Some((text(schema), text(name)));
            }
        }
    }
    None
}

/// Returns the publication and the table of `ALTER PUBLICATION "p" ADD TABLE ONLY "s"."t"`.
pub(crate) fn publication_of(sql: &str) -> Option<(String, (String, String))> {
    let table = relation_of("RELATION ACL", &sql.replacen(" ONLY ", " ", 1))?;
    let name = tokens(sql).into_iter().find_map(|t| match t {
        Token::Quoted(range) => Some(unquote(sql.get(range)?, '"')),
        _ => None,
    })?;
    Some((name, table))
}

/// Cuts a text into statements, each with its semicolon and what follows on the line.
pub(crate) fn statements(sql: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    scan(sql, &mut |token, end| {
        if token == Token::Mark(b';') {
            let line_end = end + usize::from(sql.as_bytes().get(end) == Some(&b'\n'));
            ranges.push(start..line_end);
            start = line_end;
        }
    });
    if start < sql.len() {
        ranges.push(start..sql.len());
    }
    ranges
}

pub(crate) fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    scan(sql, &mut |token, _| tokens.push(token));
    tokens
}

/// Why places of tokens can be cut out of their text.
pub(crate) const TOKENS: &str = "tokens begin and end between characters, and none lies within another";

/// Calls `found` with each token and where it ends.
fn scan(sql: &str, found: &mut dyn FnMut(Token, usize)) {
    let bytes = sql.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let until = |from: usize, end: &str| {
        let rest = exact::text(sql, from.., TOKENS);
        rest.find(end).map_or(sql.len(), |at| from + at + end.len())
    };
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match byte(at) {
            b if b.is_ascii_whitespace() => at += 1,
            b'-' if byte(at + 1) == b'-' => at = until(at, "\n"),
            b'/' if byte(at + 1) == b'*' => at = until(at + 2, "*/"),
            quote @ (b'\'' | b'"') => {
                // `E'…'` has backslash escapes: its E was the word before, all of it (a name may end in `$E`).
                let escapes = quote == b'\''
                    && start > 0
                    && matches!(byte(start - 1), b'E' | b'e')
                    && !(start > 1 && (is_word(byte(start - 2)) || byte(start - 2) == b'$'));
                at += 1;
                while at < bytes.len() {
                    if escapes && byte(at) == b'\\' {
                        at += 2;
                    } else if byte(at) != quote {
                        at += 1;
                    } else if byte(at + 1) == quote {
                        at += 2;
                    } else {
                        break;
                    }
                }
                at = (at + 1).min(bytes.len());
                found(
                    if quote == b'"' {
                        Token::Quoted(start..at)
                    } else {
                        Token::Text(start..at)
                    },
                    at,
                );
            }
            b'$' => {
                let mut end = at + 1;
                while is_word(byte(end)) {
                    end += 1;
                }
                if byte(end) == b'$' {
                    let tag = exact::text(sql, at..=end, TOKENS);
                    at = until(end + 1, tag);
                    found(Token::Text(start..at), at);
                } else {
                    at = end;
                }
            }
            b if is_word(b) => {
                while is_word(byte(at)) || (byte(at) == b'$' && at > start) {
                    at += 1;
                }
                found(Token::Word(start..at), at);
            }
            mark => {
                at += 1;
                found(Token::Mark(mark), at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SQL: &str = "CREATE TABLE \"s\".\"t\" (\n \"a\" text DEFAULT ';OWNER TO'\n)\nTABLESPACE \"fast\";\nALTER TABLE \"s\".\"t\" OWNER TO \"o\"\"ld\";\n\
        GRANT SELECT ON TABLE \"s\".\"t\" TO \"o\"\"ld\", \"b\";\nSET default_tablespace = \"fast\";\nCREATE FUNCTION \"s\".\"f\"() RETURNS text LANGUAGE sql AS $f$\n\
        ALTER TABLE x OWNER TO \"o\"\"ld\"; GRANT a TO \"o\"\"ld\"; $f$;\nCREATE POLICY \"p\" ON \"s\".\"t\" TO \"o\"\"ld\" USING ((\"a\" = 'to \"o\"\"ld\"'::text));\n";

    #[test]
    fn changes_lose_nothing_in_whatever_order_they_were_found() {
        let changes = vec![(14..15, "Z".to_owned()), (7..8, "Y".to_owned())];
        assert_eq!(replace("SELECT a FROM b;", changes), "SELECT Y FROM Z;");
        // Backslashes before letters of several bytes do not cut them.
        for sql in ["E'\\é' \"é\" $é$ x $é$ é", "E'\\é", "$é", "\"é", "/* é", "-- é", "E'\\"] {
            for token in tokens(sql) {
                if let Token::Word(range) | Token::Quoted(range) | Token::Text(range) = token {
                    assert!(sql.get(range.clone()).is_some(), "{sql}: {range:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_wanted_changes_nothing() {
        assert_eq!(Rewrite::default().apply(SQL.to_owned()), SQL);
        let none = Rewrite {
            roles: vec![("other".into(), "x".into())],
            ..Rewrite::default()
        };
        assert_eq!(none.apply(SQL.to_owned()), SQL);
    }

    #[test]
    fn owners_rights_roles_and_tablespaces_are_changed_outside_of_strings_only() {
        let bare = Rewrite {
            no_owner: true,
            no_privileges: true,
            tablespaces: vec![("fast".into(), String::new())],
            ..Rewrite::default()
        };
        let text = bare.apply(SQL.to_owned());
        assert_eq!(text.matches("OWNER TO").count(), 2, "{text}");
        assert_eq!(text.matches("GRANT").count(), 1, "{text}");
        assert!(
            !text.contains("TABLESPACE \"") && text.contains("SET default_tablespace = '';"),
            "{text}"
        );
        let mapped = Rewrite {
            roles: vec![("o\"ld".into(), "new".into())],
            tablespaces: vec![("fast".into(), "slow".into())],
            ..Rewrite::default()
        };
        let text = mapped.apply(SQL.to_owned());
        assert_eq!(text.matches("\"new\"").count(), 3, "{text}");
        assert_eq!(text.matches("\"slow\"").count(), 2, "{text}");
        assert!(text.contains("$f$\nALTER TABLE x OWNER TO \"o\"\"ld\""));
    }

    #[test]
    fn relations_are_moved_by_their_whole_name() {
        let moved = Rewrite {
            moved: vec![("s".into(), "t".into())],
            into_schema: "r".into(),
            ..Rewrite::default()
        };
        let text = moved.apply("ALTER TABLE \"s\".\"t\" ADD \"x\"; ALTER TABLE \"s\".\"t\"\"u\";".into());
        assert_eq!(text, "ALTER TABLE \"r\".\"t\" ADD \"x\"; ALTER TABLE \"s\".\"t\"\"u\";");
    }

    #[test]
    fn the_relation_of_an_item_stands_where_its_kind_says() {
        let own = Some(("s".to_owned(), "t".to_owned()));
        for (kind, sql) in [
            (
                "INDEX",
                "SET default_tablespace = \"f\";\nCREATE INDEX \"i\" ON ONLY \"s\".\"t\" USING btree (\"x\".\"y\");\n",
            ),
            (
                "TRIGGER",
                "CREATE TRIGGER \"g\" AFTER UPDATE OF \"a\" ON \"s\".\"t\" FOR EACH ROW EXECUTE FUNCTION \"u\".\"f\"();",
            ),
            (
                "RULE",
                "CREATE RULE \"r\" AS ON INSERT TO \"s\".\"t\" DO ALSO INSERT INTO \"u\".\"v\" VALUES (1);",
            ),
            (
                "STATISTICS",
                "CREATE STATISTICS \"u\".\"x\" (ndistinct) ON \"a\", \"b\" FROM \"s\".\"t\";",
            ),
            (
                "FK CONSTRAINT",
                "ALTER TABLE ONLY \"s\".\"t\" ADD CONSTRAINT \"c\" FOREIGN KEY (\"a\") REFERENCES \"u\".\"v\"(\"b\");",
            ),
        ] {
            assert_eq!(relation_of(kind, sql), own, "{sql}");
        }
    }
}
