//! Passwords of the servers that come back: from the environment, restored `.env` files, and the stored environments of
//! containers, in this order. They are handed to connections and never printed.

use std::collections::BTreeMap;
use std::path::Path;

/// Variables found, first come first kept. What they mean to a server, its engine knows.
#[derive(Default)]
pub struct Secrets {
    found: BTreeMap<String, String>,
    /// Their values, and those of later variables of the same name: URLs with a password, whatever their variable is called.
    values: Vec<String>,
    has_process: bool,
}

impl Secrets {
    /// Adds a variable.
    pub fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.values.push(value.to_owned());
        self.found.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Adds variables of this process.
    pub fn add_process<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        self.has_process = true;
        for name in names {
            if let Ok(value) = std::env::var(name) {
                self.add(name, &value);
            }
        }
    }

    /// Adds the lines of a `.env` file, if it is there.
    pub fn add_file(&mut self, path: &Path) -> bool {
        let Ok(text) = crate::base::small_file::read_small(path) else {
            return false;
        };
        for (name, value) in variables(&text) {
            self.add(&name, &value);
        }
        true
    }

    /// Adds the environment of a container: `NAME=value` each.
    pub fn add_environment(&mut self, environment: &serde_json::Value) {
        for line in environment
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
        {
            if let Some((name, value)) = line.split_once('=') {
                self.add(name, value);
            }
        }
    }

    /// Returns the first variable that was found of these.
    pub(crate) fn first_of(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.found.get(*name)).map(String::as_str)
    }

    /// Returns all values, in the order in which they were found.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// Returns whether what this process has is among it.
    pub(crate) fn has_process(&self) -> bool {
        self.has_process
    }
}

/// Reads the lines of a `.env` file as compose does: comments, `export`, quotes; nothing is expanded.
fn variables(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let value = value.trim();
        let quoted = |quote: char| {
            value
                .strip_prefix(quote)
                .and_then(|rest| rest.find(quote).and_then(|end| rest.get(..end)))
        };
        let value = match quoted('"').or_else(|| quoted('\'')) {
            Some(inner) => inner,
            None => value.split(" #").next().unwrap_or_default().trim_end(),
        };
        found.push((name.trim().to_owned(), value.to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_env_file_are_read_as_compose_reads_them() {
        let lines = "# comment\nexport A=\"a b/c#d\" # x\nB=redis://:r%40t@cache:6379 # y\nEMPTY=\nX='q'\n";
        let mut secrets = Secrets::default();
        for (name, value) in variables(lines) {
            secrets.add(&name, &value);
        }
        secrets.add("A", "later ones do not count");
        assert_eq!(secrets.first_of(&["EMPTY", "A"]), Some("a b/c#d"));
        assert_eq!(secrets.first_of(&["B"]), Some("redis://:r%40t@cache:6379"));
        assert_eq!(secrets.values().last(), Some("later ones do not count"));
    }
}
