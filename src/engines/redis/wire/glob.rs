//! Patterns of keys as Redis has them: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character that stands for itself.
//!
//! Keys are bytes and know no separators, so the globs of file paths do not fit.

use crate::base::exact;

/// Returns whether `text` matches `pattern`. Time is at most the product of both lengths.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` fails: the star takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        let rest = exact::part(pattern, p.., "no more of a pattern matches than there is");
        if rest.first() == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some(used) = text.get(t).and_then(|byte| one(rest, *byte)) {
            (p, t) = (p + used, t + 1);
            continue;
        }
        match star {
            Some((after, from)) if from < text.len() => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
    true
}

/// Compares one byte with the beginning of a pattern; returns how much of the pattern that was.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => {
            let (negated, mut rest) = match class {
                [b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut found = false;
            loop {
                match rest {
                    [] | [b']', ..] => break,
                    [b'\\', escaped, after @ ..] => {
                        found |= *escaped == byte;
                        rest = after;
                    }
                    [from, b'-', to, after @ ..] if *to != b']' => {
                        found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                        rest = after;
                    }
                    [single, after @ ..] => {
                        found |= *single == byte;
                        rest = after;
                    }
                }
            }
            let used = pattern.len() - rest.len() + usize::from(!rest.is_empty());
            (found != negated).then_some(used)
        }
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_on_the_server() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("user:*", "user:1", true),
            ("user:*", "users:1", false),
            ("*:1", "a:b:1", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxbxx", false),
            ("abc", "ab", false),
            ("", "a", false),
            ("[", "[", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
