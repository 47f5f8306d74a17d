//! Queries of `.sql` files: the lines that a server's version has, and the names of catalogs and columns that a table of this
//! program puts into a query which several catalogs share.
//!
//! A file may choose lines by the server's major version. The first part of a block whose condition holds stays:
//!
//! ```sql
//!     -- since 17
//!     c.colllocale AS locale,
//!     -- since 15
//!     c.colliculocale AS locale,
//!     -- before 15
//!     NULL::text AS locale,
//!     -- end
//! ```
//!
//! Names stand as psql's variables do, `:catalog`; but psql leaves those within quotes alone, and here `'pg_catalog.:catalog'::regclass`
//! gets its value too. Values are catalogs, columns and conditions of this program, fragments that stand in files of their own, numbers, and
//! what a server, a backup or a user says (names, patterns): the last only as literals of [`super::quote::literal`]. A value is
//! put in as it is and never read for names. The test `queries` reads every file for blocks and names that are wrong.

/// Condition of a part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Since(i32),
    Before(i32),
    End,
}

impl Marker {
    fn of(line: &str) -> Option<Self> {
        let words = line.trim().strip_prefix("-- ")?;
        let major = |prefix: &str| words.strip_prefix(prefix)?.parse().ok();
        if words == "end" {
            return Some(Self::End);
        }
        major("since ")
            .map(Self::Since)
            .or_else(|| major("before ").map(Self::Before))
    }

    /// Returns whether lines under this marker belong to a query for this major version.
    fn holds(self, major: i32) -> bool {
        match self {
            Self::Since(first) => major >= first,
            Self::Before(end) => major < end,
            Self::End => true,
        }
    }
}

/// Returns the lines of a query that a server of `version` (`server_version_num`) is given.
pub(crate) fn for_version(query: &str, version: i32) -> String {
    let major = version / 10_000;
    let (mut keeps, mut is_chosen) = (true, false);
    let mut text = String::with_capacity(query.len());
    for line in query.split_inclusive('\n') {
        match Marker::of(line) {
            Some(Marker::End) => (keeps, is_chosen) = (true, false),
            Some(marker) => {
                keeps = !is_chosen && marker.holds(major);
                is_chosen |= keeps;
            }
            None if keeps => text.push_str(line),
            None => {}
        }
    }
    text
}

/// Returns the statements of a file without the comment that it begins with, for where they are kept or shown.
pub(crate) fn statements(file: &str) -> &str {
    let mut rest = file;
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

/// Puts the values for names into a query, which loses the comment that it begins with: a value may have several lines, and may be a
/// file as it is, which loses its comment and its last line break. A name that has no value is a mistake of this program; it stays, and no
/// server takes such a query.
pub(crate) fn with_names(query: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(query.len());
    let mut rest = statements(query);
    while let Some((before, name, after)) = split_at_name(rest) {
        text.push_str(before);
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            text.push_str(statements(value).trim_end());
        } else {
            debug_assert!(false, "a query has no value for :{name}");
            text.extend([":", name]);
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Returns what stands before the first name, the name, and what follows it. A word after two colons is a type.
fn split_at_name(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices(':').find_map(|(at, colon)| {
        let (before, rest) = text.split_at(at);
        let rest = rest.strip_prefix(colon)?;
        let end = rest
            .find(|c: char| !c.is_ascii_lowercase() && c != '_')
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        (!before.ends_with(':') && !name.is_empty()).then_some((before, name, after))
    })
}

/// Returns the names that a query still lacks values for.
#[cfg(test)]
pub(crate) fn missing_names(query: &str) -> Vec<&str> {
    let mut rest = statements(query);
    std::iter::from_fn(|| {
        let (_, name, after) = split_at_name(rest)?;
        rest = after;
        Some(name)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_that_holds_stays() {
        let query = "SELECT\n    -- since 17\n    a\n    -- since 15\n    b\n    -- before 15\n    c\n    -- end\nFROM t\n-- since 16\nJOIN u\n-- end\n";
        for (version, wanted) in [
            (130_004, "SELECT\n    c\nFROM t\n"),
            (150_000, "SELECT\n    b\nFROM t\n"),
            (160_010, "SELECT\n    b\nFROM t\nJOIN u\n"),
            (180_001, "SELECT\n    a\nFROM t\nJOIN u\n"),
        ] {
            assert_eq!(for_version(query, version), wanted, "{version}");
        }
    }

    #[test]
    fn statements_begin_after_the_comment() {
        assert_eq!(statements("-- a\n-- b\nSELECT 1 -- c\n"), "SELECT 1 -- c\n");
        assert_eq!(statements("-- a"), "");
    }

    #[test]
    fn a_comment_is_no_marker() {
        let query = "-- since 17 all is well\n-- beforehand\nSELECT 1\n";
        assert_eq!(for_version(query, 130_000), query);
    }

    #[test]
    fn names_are_put_in_and_types_are_left_alone() {
        let query = "-- of :catalog\nSELECT o.:name_column::text, ':catalog'::regclass FROM pg_catalog.:catalog o\n";
        let values = [("catalog", "pg_am"), ("name_column", "amname")];
        assert_eq!(
            with_names(query, &values),
            "SELECT o.amname::text, 'pg_am'::regclass FROM pg_catalog.pg_am o\n"
        );
        assert_eq!(missing_names(query), ["name_column", "catalog", "catalog"]);
        assert!(missing_names(&with_names(query, &values)).is_empty());
    }

    #[test]
    fn a_value_is_never_read_for_names() {
        let values = [("a", "':b'"), ("b", "1")];
        assert_eq!(with_names("SELECT :a, :b", &values), "SELECT ':b', 1");
    }

    #[test]
    fn a_file_is_a_value_without_its_comment_and_its_last_line_break() {
        let values = [("condition", "-- Which rows.\n(\n    a -- b\n)\n")];
        assert_eq!(
            with_names("SELECT\nWHERE NOT :condition AND c\n", &values),
            "SELECT\nWHERE NOT (\n    a -- b\n) AND c\n"
        );
    }
}
