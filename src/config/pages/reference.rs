//! `wirevault config --reference`: docs/reference-configuration.md.

use super::whole;
use crate::base::environment::{Scope, VARIABLES};
use crate::base::keys::{Key, Kind};
use crate::config::keys::Form;

const HEAD: &str = "\
# Reference: the configuration

This page is made of the declarations of the keys in the source: `wirevault config --reference > docs/reference-configuration.md`
writes it, and a test refuses an old one. `wirevault config --example` prints a file with every key, `wirevault config --schema` a
JSON Schema for editors, `wirevault config` what holds at present. What the keys are good for: [operations](operations.md).

A configuration is `wirevault.toml`, or the file of `--config`; with no file, the [environment](#environment). An unknown key, one
that stands twice, a value of another type or out of its bounds is an error with file and line, and nothing is started. A scheduler
that runs takes new values at SIGHUP, but for those marked *at start*. A *variable* of the environment says the same where there
is no file; those that hold beside a file too stand [below](#what-holds-beside-a-file-too).

| value | is written as |
| --- | --- |
| duration | a string, `\"500ms\"`, `\"30s\"`, `\"10min\"`, `\"1h30m\"`, `\"2d\"` |
| size | a string, `\"256MiB\"`, `\"1.5GiB\"`, `\"20MB\"`; a number alone is bytes |
| rate | a size for each second, `\"20MiB/s\"` |
| path, URL, address | a string |

An editor that reads schemas (VS Code with Even Better TOML, taplo) completes and checks a file that begins with
`#:schema ./wirevault.schema.json`, beside which `wirevault config --schema > wirevault.schema.json` stands.
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
                Form::Top => "Above all sections".to_owned(),
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
                page.push_str(&format!("`kind = \"{old}\"` is the older name of it.\n"));
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
    page.push_str("| key | value | without it | |\n| --- | --- | --- | --- |\n");
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
        "\n## Environment\n\nOf a variable marked *file*, `NAME_FILE` names a file whose first line is the value; both together are refused. \
         A name\nthat begins with `BACKUP_` and is none of these is refused: always if it is near one of them, and otherwise if the \
         environment\nconfigures a job.\n",
    );
    for (scope, title) in [
        (Scope::NoFile, "What makes a configuration where there is no file"),
        (Scope::Always, "What holds beside a file too"),
    ] {
        page.push_str(&format!("\n### {title}\n\n| variable | |\n| --- | --- |\n"));
        for variable in VARIABLES.iter().filter(|variable| variable.scope == scope) {
            let file = if variable.has_file { " *File.*" } else { "" };
            page.push_str(&format!("| `{}` | {}{file} |\n", variable.name, variable.help));
        }
    }
}
