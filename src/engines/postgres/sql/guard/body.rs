//! Bodies of functions that are statements themselves: their semicolons end no statement.

use crate::engines::postgres::sql::lexer::{Refusal, Tok};

/// Words that stand before `CASE` where an expression begins. As a label it would not begin one, and the count of `END` would be wrong.
const BEFORE_CASE: &[&str] = &[
    "ALL",
    "AND",
    "ARRAY",
    "BETWEEN",
    "BY",
    "CASE",
    "DISTINCT",
    "ELSE",
    "ESCAPE",
    "FILTER",
    "FOR",
    "FROM",
    "HAVING",
    "ILIKE",
    "IN",
    "LIKE",
    "LIMIT",
    "NOT",
    "OFFSET",
    "ON",
    "OR",
    "RETURN",
    "RETURNING",
    "ROW",
    "SELECT",
    "SET",
    "SYMMETRIC",
    "THEN",
    "TO",
    "USING",
    "VALUES",
    "VARIADIC",
    "WHEN",
    "WHERE",
    "ZONE",
];

/// What the statements of a body begin with.
const IN_BODY: &[&str] = &[
    "DELETE", "END", "INSERT", "MERGE", "RETURN", "SELECT", "UPDATE", "VALUES", "WITH",
];

/// Where one is in a body of SQL statements: `BEGIN ATOMIC … END`, with an `END` for each `CASE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Open(u32),
    Over,
}

impl Body {
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(super) fn after(self, token: Tok<'_>, tail: &[Option<Tok<'_>>; 3]) -> Result<Self, Refusal> {
        let [_, before, Some(last)] = *tail else {
            return Ok(self);
        };
        let Self::Open(open) = self else {
            return Ok(if token.is("ATOMIC") && last.is("BEGIN") {
                Self::Open(1)
            } else {
                self
            });
        };
        let begins = last == Tok::Mark(b';') || (last.is("ATOMIC") && before.is_some_and(|t| t.is("BEGIN")));
        // An empty body has nothing between; a bracket begins a query.
        let known = IN_BODY.iter().any(|word| token.is(word)) || matches!(token, Tok::Mark(b'(' | b';'));
        if begins && !known {
            return Err("a statement in a function's body that this program does not write".to_owned());
        }
        if token.is("CASE") {
            let plain = |t: Tok<'_>| match t {
                Tok::Mark(b'*') => before != Some(Tok::Mark(b'.')),
                Tok::Mark(mark) => !matches!(mark, b')' | b']' | b'.'),
                Tok::Word(_) => {
                    BEFORE_CASE.iter().any(|w| t.is(w))
                        && before != Some(Tok::Mark(b'.'))
                        && !before.is_some_and(|b| b.is("AS"))
                }
                _ => false,
            };
            return if plain(last) {
                Ok(Self::Open(open + 1))
            } else {
                Err("a label CASE".to_owned())
            };
        }
        Ok(match (token.is("END"), open) {
            (true, 1) => Self::Over,
            (true, open) => Self::Open(open - 1),
            (false, _) => self,
        })
    }
}
