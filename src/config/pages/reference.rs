//! `wirevault config --reference`: docs/reference-configuration.md.

use super::whole;
use crate::base::environment::{Scope, VARIABLES};
use crate::base::keys::{Key, Kind};
use crate::config::keys::Form;

const HEAD: &str = "\
# Reference: the configuration

This page is generated from the source: `wirevault config --reference > docs/reference-configuration.md` writes it, and a test
fails if it is out of date. `wirevault config --example` prints a file with every key, `wirevault config --schema` a JSON Schema
for editors, `wirevault config` the effective values. How the keys are used: [operations](operations.md).

The configuration is read from `wirevault.toml` or the file given with `--config`; without a file, from the
[environment](#environment). An unknown key, a key that is set twice, or a value of the wrong type or out of range is an error with
file and line, and nothing is started. A running scheduler reloads the file at SIGHUP, except for keys marked *at start*. A
*variable* sets the same value where there is no file; variables that also apply with a file are listed
[below](#variables-that-always-apply).

| value | written as |
| --- | --- |
| duration | a string, `\"500ms\"`, `\"30s\"`, `\"10min\"`, `\"1h30m\"`, `\"2d\"` |
| size | a string, `\"256MiB\"`, `\"1.5GiB\"`, `\"20MB\"`; a number alone is bytes |
| rate | a size for each second, `\"20MiB/s\"` |
| path, URL, address | a string |

Editors that support schemas (VS Code with Even Better TOML, taplo) complete and check a file that starts with
`#:schema ./wirevault.schema.json`; create the schema next to it with `wirevault config --schema > wirevault.schema.json`.
";

/// Returns the page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut above = "";
    for (section, kind, _) in whole() {
        let first = above != section.word || section.form == Form::Top;
        above = section.word;
        if first {
            let title = match section.form {
                Form::Top => "Top-level keys".to_owned(),
                Form::OneOrNamed => format!("[{0}] or [{0}.NAME]", section.word),
                Form::Named => format!("[{}.NAME]", section.word),
            };
            page.push_str(&format!("\n## {title}\n\n{}\n\n", section.about.trim()));
            table(&mut page, section.keys);
            for key in section.keys {
                inner(&mut page, key);
            }
        }
        if let Some(kind) = kind {
            page.push_str(&format!("\n### kind = \"{}\"\n\n{}\n", kind.word, kind.about.trim()));
            if let Some(old) = kind.formerly {
                page.push_str(&format!("`kind = \"{old}\"` is its older name.\n"));
            }
            page.push('\n');
            table(&mut page, kind.keys);
        }
    }
    environment(&mut page);
    page
}

/// The keys of the tables that a key may be; those of `keep_in` are those of `keep`.
fn inner(page: &mut String, key: &Key) {
    let (Kind::Table(keys) | Kind::UrlOrTable(keys)) = key.kind else {
        return;
    };
    let also = if key.name == "keep" {
        ", and each table of `keep_in`"
    } else {
        ""
    };
    page.push_str(&format!("\n`{}`{also} has these keys:\n\n", key.name));
    table(page, keys);
}

fn table(page: &mut String, keys: &[Key]) {
    page.push_str("| key | value | default | description |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let without = match (key.required, key.default) {
            (true, _) => "*required*".to_owned(),
            (false, None | Some("[]")) => String::new(),
            (false, Some(default)) => format!("`{default}`"),
        };
        let mut help = key.help().replace('|', "\\|");
        if let Some(old) = key.formerly {
            help.push_str(&format!(" Older name: `{old}`."));
        }
        if let Some(variable) = key.variable {
            help.push_str(&format!(" Variable: `{variable}`."));
        }
        if let Some(parameter) = key.parameter {
            help.push_str(&format!(" In a URL: `?{parameter}=`."));
        }
        if key.secret {
            help.push_str(" *Secret.*");
        }
        if !key.reloads {
            help.push_str(" *At start.*");
        }
        if !key.example.is_empty() {
            help.push_str(&format!(" Example: `{}`", key.example));
        }
        page.push_str(&format!(
            "| `{}` | {} | {without} | {help} |\n",
            key.name,
            key.kind.bounds()
        ));
    }
}

fn environment(page: &mut String) {
    page.push_str(
        "\n## Environment\n\nFor a variable marked *file*, `NAME_FILE` can name a file whose first line is the value; setting both is an error. \
         An\nunknown name that starts with `BACKUP_` is an error if it is similar to one of these, or if the environment\nconfigures \
         a job.\n",
    );
    for (scope, title) in [
        (Scope::NoFile, "Variables that replace a configuration file"),
        (Scope::Always, "Variables that always apply"),
    ] {
        page.push_str(&format!("\n### {title}\n\n| variable | description |\n| --- | --- |\n"));
        for variable in VARIABLES.iter().filter(|variable| variable.scope == scope) {
            let file = if variable.has_file { " *File.*" } else { "" };
            page.push_str(&format!("| `{}` | {}{file} |\n", variable.name, variable.help));
        }
    }
}
