//! Cuts SQL into tokens exactly as the server does, or refuses it.
//!
//! [`super::guard`] judges statements by it, so the two must never disagree on where a string or a statement ends. What the
//! server reads in a way that depends on its settings or version, and what this program never writes, is therefore refused
//! instead of guessed at: comments, `U&'…'`, strings that go on behind a line break, numbers with letters at their end.
//!
//! Rules: `src/backend/parser/scan.l`, with `standard_conforming_strings` on, as every session of a restore has it.

/// A token, as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tok<'a> {
    /// A keyword or an unquoted name.
    Word(&'a str),
    /// A quoted name, quotes included.
    Name(&'a str),
    /// A string of any notation, quotes included.
    Text(&'a str),
    /// A number, or a parameter of a function (`$1`).
    Number,
    /// Any other character.
    Mark(u8),
}

impl Tok<'_> {
    /// Returns whether it is this keyword, in whatever case.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// What is wrong with a text.
pub(crate) type Refusal = String;

const CUT: &str = "a character that is cut";

/// Reads tokens one after another.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    after_text: bool,
}

fn begins_word(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b >= 0x80
}

fn continues_word(b: u8) -> bool {
    begins_word(b) || b.is_ascii_digit() || b == b'$'
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self {
            sql,
            at: 0,
            after_text: false,
        }
    }

    /// Returns the next token; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Tok<'a>>, Refusal> {
        while self
            .byte(0)
            .is_some_and(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c))
        {
            self.at += 1;
        }
        let Some(first) = self.byte(0) else { return Ok(None) };
        let second = self.byte(1);
        let token = match (first, second) {
            (b'-', Some(b'-')) | (b'/', Some(b'*')) => return Err("a comment".to_owned()),
            (b'U' | b'u', Some(b'&')) if matches!(self.byte(2), Some(b'\'' | b'"')) => {
                return Err("a string or a name with Unicode escapes".to_owned());
            }
            (b'E' | b'e', Some(b'\'')) => self.quoted(1, true)?,
            (b'B' | b'b' | b'X' | b'x' | b'N' | b'n', Some(b'\'')) => self.quoted(1, false)?,
            (b'\'' | b'"', _) => self.quoted(0, false)?,
            (b'$', Some(b)) if b.is_ascii_digit() => self.number(1)?,
            (b'$', _) => self.dollar_quoted()?,
            (b, _) if b.is_ascii_digit() => self.number(0)?,
            (b'.', Some(b)) if b.is_ascii_digit() => self.number(0)?,
            (b, _) if begins_word(b) => Tok::Word(self.take_while(continues_word)?),
            (b, _) if b < b' ' || b == 0x7f || b == b'\\' => return Err(format!("character {b:#04x}")),
            (mark, _) => {
                self.at += 1;
                Tok::Mark(mark)
            }
        };
        let is_text = matches!(token, Tok::Text(_));
        if is_text && self.after_text {
            return Err("a string right behind another".to_owned());
        }
        self.after_text = is_text;
        Ok(Some(token))
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    /// Returns the text from `start` to here.
    fn since(&self, start: usize) -> Result<&'a str, Refusal> {
        self.sql.get(start..self.at).ok_or_else(|| CUT.to_owned())
    }

    fn take_while(&mut self, wanted: fn(u8) -> bool) -> Result<&'a str, Refusal> {
        let start = self.at;
        while self.byte(0).is_some_and(wanted) {
            self.at += 1;
        }
        self.since(start)
    }

    /// Takes a string or a quoted name, whose quote stands `ahead`.
    fn quoted(&mut self, ahead: usize, escapes: bool) -> Result<Tok<'a>, Refusal> {
        let start = self.at;
        self.at += ahead;
        let quote = self.byte(0).unwrap_or(b'\'');
        self.at += 1;
        loop {
            match (self.byte(0), self.byte(1)) {
                (None, _) => return Err("a string that does not end".to_owned()),
                (Some(b'\\'), Some(_)) if escapes => self.at += 2,
                (Some(b), Some(next)) if b == quote && next == quote => self.at += 2,
                (Some(b), _) if b == quote => break,
                (Some(_), _) => self.at += 1,
            }
        }
        self.at += 1;
        let text = self.since(start)?;
        Ok(if quote == b'"' {
            Tok::Name(text)
        } else {
            Tok::Text(text)
        })
    }

    fn dollar_quoted(&mut self) -> Result<Tok<'a>, Refusal> {
        let start = self.at;
        self.at += 1;
        if self.byte(0).is_some_and(begins_word) {
            self.take_while(|b| continues_word(b) && b != b'$')?;
        }
        if self.byte(0) != Some(b'$') {
            return Err("a lone $".to_owned());
        }
        self.at += 1;
        let tag = self.since(start)?;
        let rest = self.sql.get(self.at..).ok_or(CUT)?;
        let end = rest.find(tag).ok_or("a string that does not end")?;
        self.at += end + tag.len();
        Ok(Tok::Text(self.since(start)?))
    }

    /// Takes a number. Versions differ in what may follow one directly.
    fn number(&mut self, ahead: usize) -> Result<Tok<'a>, Refusal> {
        self.at += ahead;
        self.take_while(|b| b.is_ascii_digit() || b == b'.')?;
        let exponent = matches!(self.byte(0), Some(b'e' | b'E'))
            && match self.byte(1) {
                Some(b'+' | b'-') => self.byte(2).is_some_and(|b| b.is_ascii_digit()),
                other => other.is_some_and(|b| b.is_ascii_digit()),
            };
        if exponent {
            self.at += 2;
            self.take_while(|b| b.is_ascii_digit())?;
        }
        match self.byte(0) {
            Some(b) if continues_word(b) || matches!(b, b'\'' | b'"') => {
                Err("a number with something at its end".to_owned())
            }
            _ => Ok(Tok::Number),
        }
    }
}

/// Returns the text that a literal of this program's stands for; none if it is anything but one literal.
pub(crate) fn unliteral(sql: &str) -> Option<String> {
    let mut lexer = Lexer::new(sql);
    let Ok(Some(Tok::Text(text))) = lexer.next() else {
        return None;
    };
    if !matches!(lexer.next(), Ok(None)) {
        return None;
    }
    let (inner, escapes) = match text.strip_prefix(['E', 'e']) {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let inner = inner.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            // Doubled, as the lexer made sure.
            '\'' => out.extend(chars.next()),
            // Only the two escapes that are ever written.
            '\\' if escapes => match chars.next()? {
                '\\' => out.push('\\'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(sql: &str) -> Result<Vec<Tok<'_>>, Refusal> {
        let mut lexer = Lexer::new(sql);
        let mut found = Vec::new();
        while let Some(token) = lexer.next()? {
            found.push(token);
        }
        Ok(found)
    }

    #[test]
    fn strings_and_names_end_where_the_server_ends_them() {
        let sql = "SELECT E'a\\'b;', 'it''s \\', \"x\"\"y\", $t$ $ $$ 'q' $t$, a$$b$$c, $1, 1.5e+3::\"s\".t, B'01'";
        let found = all(sql).unwrap();
        let texts: Vec<_> = found.iter().filter(|t| matches!(t, Tok::Text(_))).collect();
        assert_eq!(texts.len(), 4, "{found:?}");
        assert!(
            found.contains(&Tok::Text("'it''s \\'")) && found.contains(&Tok::Word("a$$b$$c")),
            "{found:?}"
        );
        assert!(found.contains(&Tok::Name("\"x\"\"y\"")) && found.contains(&Tok::Text("$t$ $ $$ 'q' $t$")));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for sql in [
            "SELECT 1 -- x",
            "SELECT /* x */ 1",
            "U&'\\0041'",
            "u&\"x\"",
            "'a'\n'b'",
            "E'a'\n'b\\''",
            "1a",
            "1E'x'",
            "1$$a$$",
            "$a",
            "'open",
            "\"open",
            "$t$ open $T$",
            "E'open\\'",
            "a \\ b",
            "a\u{1}b",
        ] {
            assert!(all(sql).is_err(), "{sql:?}");
        }
    }

    #[test]
    fn literals_are_read_back() {
        for text in ["", "it's", "back\\slash", "'", "''", "\\'"] {
            let literal = super::super::quote::literal(text);
            assert_eq!(unliteral(&literal).as_deref(), Some(text), "{literal}");
        }
        for sql in ["'a' || 'b'", "a", "'a'; DROP TABLE t", "", "E'\\x41'"] {
            assert_eq!(unliteral(sql), None, "{sql}");
        }
    }
}
