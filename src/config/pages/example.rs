//! `wirevault config --example`: a file with every key, each behind a `#`, with its help, type and default.

use std::collections::BTreeSet;

use super::{instances, plain, whole};
use crate::base::keys::{Key, Kind};
use crate::config::keys::Form;

/// Columns of the text.
const WIDTH: usize = 110;

const HEAD: &str = "\
# Every key of wirevault.toml, printed by `wirevault config --example`. Uncomment the lines you need: the key and the section
# above it. `wirevault check` checks the file, `wirevault config` prints the effective values. All keys and environment variables
# on one page: docs/reference-configuration.md.
";

/// Returns the text. Without the first `#` of the lines on which no blank follows it, it is a configuration with every key.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    // Sources of every kind have some keys in common, which are explained once.
    let mut told = BTreeSet::new();
    let mut above = "";
    for (section, kind, keys) in whole() {
        if section.word != above {
            above = section.word;
            text.push('\n');
            comment(&mut text, "", &plain(section.about));
        }
        if let Some(kind) = kind {
            text.push('\n');
            comment(&mut text, "", &plain(kind.about));
        }
        for one in instances(section, kind) {
            text.push('\n');
            match section.form {
                Form::Top => {}
                Form::OneOrNamed | Form::Named => text.push_str(&format!("#[{}.{}]\n", section.word, one.name)),
            }
            for key in keys.iter().filter(|key| one.has(key)) {
                let is_common = section.keys.iter().any(|common| common.name == key.name);
                let of_kind = kind.filter(|_| !is_common).map(|kind| kind.word);
                if told.insert((section.word, of_kind, key.name)) {
                    explain(&mut text, key);
                }
                text.push_str(&format!("#{} = {}\n", key.name, one.value(key)));
            }
        }
    }
    text
}

/// Writes the help of a key, what it may be, and what holds without it.
fn explain(text: &mut String, key: &Key) {
    comment(text, "", &plain(key.help()));
    let without = match (key.required, key.default) {
        (true, _) => "; required".to_owned(),
        (false, None | Some("[]")) => String::new(),
        (false, Some(default)) => format!("; default {default}"),
    };
    comment(text, "", &format!("({}{without})", plain(&key.kind.bounds())));
    match key.kind {
        Kind::Tables(_) => comment(text, "  ", "Each has the keys of keep."),
        kind => {
            for inner in kind.keys().unwrap_or_default() {
                let bounds = plain(&inner.kind.bounds());
                comment(
                    text,
                    "  ",
                    &format!("{} ({bounds}): {}", inner.name, plain(inner.help())),
                );
            }
        }
    }
}

/// Writes a comment, cut into lines at blanks.
fn comment(text: &mut String, indent: &str, words: &str) {
    let mut line = format!("# {indent}");
    let start = line.len();
    for word in words.split_whitespace() {
        if line.len() > start && line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = format!("# {indent}");
        }
        if line.len() > start {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
