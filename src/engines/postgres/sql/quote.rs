//! Names and literals as SQL text. Everything is quoted, so no keyword list of any version matters.

use crate::base::raw_text::{has_bytes, to_bytes};

/// Returns a name as a quoted identifier.
pub(crate) fn quote_ident(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for c in name.chars() {
        if c == '"' {
            text.push('"');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// Returns `schema.name`, both quoted.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Returns a string literal that means the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let escape = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 3);
    if escape {
        out.push('E');
    }
    out.push('\'');
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// Returns the condition that a column of type `name` is this name. Names of what all databases share may be in any encoding, and a
/// literal must be in the session's.
pub(crate) fn is_named(column: &str, name: &str) -> String {
    if !has_bytes(name) {
        return format!("{column} = {}", literal(name));
    }
    format!(
        "pg_catalog.replace({column}::text, E'\\\\', E'\\\\\\\\')::bytea = '\\x{}'::bytea",
        hex::encode(to_bytes(name))
    )
}

/// Returns `name = value` settings (`reloptions`, `attoptions`) as a list with literal values.
pub(crate) fn options_list(options: &[String], prefix: &str) -> String {
    let one = |option: &String| {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        format!("{prefix}{}={}", quote_ident(name), literal(value))
    };
    options.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Settings whose value is a list of identifiers: each element is a literal of its own.
const LIST_SETTINGS: [&str; 7] = [
    "local_preload_libraries",
    "oauth_validator_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Returns `SET`'s name and value (`"work_mem" TO '64MB'`) for a stored `name=value`.
pub(crate) fn setting(stored: &str) -> String {
    let (name, value) = stored.split_once('=').unwrap_or((stored, ""));
    let quoted = name.split('.').map(quote_ident).collect::<Vec<_>>().join(".");
    let listed = LIST_SETTINGS.iter().any(|known| known.eq_ignore_ascii_case(name));
    let elements = if listed { split_identifiers(value) } else { None };
    let value = match elements {
        Some(list) if !list.is_empty() => list.iter().map(|e| literal(e)).collect::<Vec<_>>().join(", "),
        _ => literal(value),
    };
    format!("{quoted} TO {value}")
}

/// Splits a stored list of possibly quoted identifiers; `None` when it is malformed.
fn split_identifiers(value: &str) -> Option<Vec<String>> {
    let mut list = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        if let Some(mut inner) = rest.strip_prefix('"') {
            let mut element = String::new();
            loop {
                let end = inner.find('"')?;
                let (head, tail) = inner.split_at_checked(end)?;
                element.push_str(head);
                inner = tail.strip_prefix('"')?;
                match inner.strip_prefix('"') {
                    Some(more) => {
                        element.push('"');
                        inner = more;
                    }
                    None => break,
                }
            }
            list.push(element);
            rest = inner.trim_start();
        } else {
            let (head, _) = rest.split_once(',').unwrap_or((rest, ""));
            list.push(head.trim().to_owned());
            rest = rest.get(head.len()..)?.trim_start();
        }
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_survive_quotes_backslashes_and_newlines() {
        assert_eq!(quote_ident("a\"b\n-- c"), "\"a\"\"b\n-- c\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'"), "E'a\\\\b'''");
    }

    #[test]
    fn list_settings_become_one_literal_per_element() {
        assert_eq!(
            setting("search_path=\"$user\", public"),
            "\"search_path\" TO '$user', 'public'"
        );
        assert_eq!(setting("search_path=\"a\"\"b, c\""), "\"search_path\" TO 'a\"b, c'");
        assert_eq!(setting("search_path=\"\""), "\"search_path\" TO ''");
        assert_eq!(setting("app.x=1=2"), "\"app\".\"x\" TO '1=2'");
    }
}
