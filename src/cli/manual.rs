//! What is made of the program itself: shell completions and the manual page of its flags, example, schema and reference page of the keys of
//! its configuration.

use clap::CommandFactory;

use crate::base::error::{Context, Result};
use crate::cli::args::{Cli, ConfigFlags, Verb};
use crate::config::pages;

/// Returns the text of `completions`, `man` and the pages of `config`, which need neither configuration nor repository.
pub(super) fn text(verb: &Verb) -> Option<Result<Vec<u8>>> {
    match verb {
        Verb::Completions(options) => {
            let mut out = Vec::new();
            clap_complete::generate(options.shell, &mut Cli::command(), "wirevault", &mut out);
            Some(Ok(out))
        }
        Verb::Man(options) => Some(page(options.verb.as_deref())),
        Verb::Config(flags) => of_keys(flags),
        _ => None,
    }
}

/// What is made of the declared keys, if one of it is asked for.
fn of_keys(flags: &ConfigFlags) -> Option<Result<Vec<u8>>> {
    if flags.example {
        return Some(Ok(pages::example().into_bytes()));
    }
    if flags.reference {
        return Some(Ok(pages::reference().into_bytes()));
    }
    flags
        .schema
        .then(|| Ok(format!("{:#}\n", pages::schema()).into_bytes()))
}

/// The page of the program, or of one of its verbs.
fn page(verb: Option<&str>) -> Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let command = match verb {
        None => command,
        Some(verb) => {
            let found = command.find_subcommand(verb).cloned();
            found.ok_or_else(|| {
                crate::base::error::Error::invalid(format!("unknown command \"{verb}\""))
                    .with_hint("See wirevault --help.")
            })?
        }
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut out)
        .context("write the manual page")?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_every_shell_its_completions() {
        for verb in Cli::command().get_subcommands() {
            let page = String::from_utf8(page(Some(verb.get_name())).unwrap()).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains("\\-\\-config"), "{page}");
        }
        assert!(page(Some("backap")).is_err());
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let verb = Verb::Completions(crate::cli::args::Completions { shell });
            let text = String::from_utf8(text(&verb).unwrap().unwrap()).unwrap();
            assert!(text.contains("if-changed"), "{text}");
        }
    }
}
