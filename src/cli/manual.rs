//! What a package installs beside the program: shell completions and the manual page, made of the flags themselves.

use clap::CommandFactory;

use crate::base::error::{Context, Result};
use crate::cli::args::{Cli, Verb};

/// Returns the text of `completions` and `man`, which need neither configuration nor repository.
pub(super) fn text(verb: &Verb) -> Option<Result<Vec<u8>>> {
    match verb {
        Verb::Completions(options) => {
            let mut out = Vec::new();
            clap_complete::generate(options.shell, &mut Cli::command(), "wirevault", &mut out);
            Some(Ok(out))
        }
        Verb::Man(options) => Some(page(options.verb.as_deref())),
        _ => None,
    }
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
                crate::base::error::Error::invalid(format!("there is no verb \"{verb}\""))
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
