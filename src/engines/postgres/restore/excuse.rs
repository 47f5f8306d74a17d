//! Refusals that are no failure of a restore: what they concern does not exist on this server, and nothing of the database is lost by that.
//!
//! 1. Rights of a member of an extension that the target's version of the extension does not have.
//! 2. With `--no-owner --no-privileges`, and in a drill: a policy, user mapping or setting of a role that this server does not
//!    have. Who asks for a database without its roles has no use for them.
//!
//! Both are told, one by one.

use super::statements::FailedItem;
use super::{PostgresRestore, RestoreReport};
use crate::base::error::Error;
use crate::base::report::Note;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::wire::server_error::{server_error, sqlstate};

/// Why a refused statement may be no failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// The statement names this role, which the server does not have.
    Role(String),
    /// It gives or takes rights of something that the server does not have.
    Absent,
}

/// Returns the name in `role "x" does not exist`.
pub(crate) fn missing_role(error: &Error) -> Option<String> {
    // The second code is that of SET SESSION AUTHORIZATION, by which rights are given in another's name.
    let refusal = server_error(error).filter(|e| matches!(e.code.as_str(), "42704" | "22023"))?;
    let (_, rest) = refusal.message.split_once("role \"")?;
    rest.split_once("\" does not exist").map(|(name, _)| name.to_owned())
}

/// Names of objects whose rights were changed and that the backup does not make begin with the word that `GRANT` has for them.
const GRANTED: [&str; 6] = ["ROUTINE ", "TABLE ", "SEQUENCE ", "TYPE ", "LANGUAGE ", "FOREIGN "];

/// Finds out why a statement may be no failure.
pub(crate) fn excuse(line: &TocEntry, error: &Error) -> Option<Excuse> {
    if let Some(role) = missing_role(error) {
        return Some(Excuse::Role(role));
    }
    let foreign = line.item.kind == "ACL"
        && line.item.schema.is_none()
        && GRANTED.iter().any(|word| line.item.name.starts_with(word));
    // No function, no table, no column, no type or other object of this name.
    let absent = matches!(sqlstate(error), Some("42883" | "42P01" | "42703" | "42704"));
    (foreign && absent).then_some(Excuse::Absent)
}

impl PostgresRestore {
    /// Takes what is no failure out of the failures, and tells it.
    pub(crate) fn tell_left_out(&self, report: &mut RestoreReport) {
        let without_roles = self.options.no_owner && self.options.no_privileges;
        (report.failed, report.left_out) = apart(std::mem::take(&mut report.failed), without_roles);
        for item in &report.left_out {
            let note = Note::new("left-out", format!("{} {}", item.kind, item.name), item.error.clone());
            self.reporter.note(&self.task, note);
        }
    }
}

/// Parts what failed into failures and what is only told.
fn apart(all: Vec<FailedItem>, without_roles: bool) -> (Vec<FailedItem>, Vec<FailedItem>) {
    all.into_iter().partition(|item| match &item.excuse {
        None => true,
        Some(Excuse::Role(_)) => !without_roles,
        Some(Excuse::Absent) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::schema::{Section, TocItem};
    use crate::engines::postgres::wire::server_error::ServerError;

    fn refusal(code: &str, message: &str) -> Error {
        ServerError {
            code: code.into(),
            message: message.into(),
            ..ServerError::default()
        }
        .into_error()
    }

    fn line(kind: &str, name: &str) -> TocEntry {
        TocEntry {
            stream: "post-data.sql".into(),
            offset: 0,
            item: TocItem::new(1, Section::PostData, kind, name),
        }
    }

    #[test]
    fn only_what_does_not_exist_here_is_excused() {
        let role = refusal("42704", "role \"a\" does not exist");
        assert_eq!(excuse(&line("POLICY", "t p"), &role), Some(Excuse::Role("a".into())));
        let function = refusal("42883", "function public.f() does not exist");
        assert_eq!(
            excuse(&line("ACL", "ROUTINE public.f()"), &function),
            Some(Excuse::Absent)
        );
        assert_eq!(excuse(&line("VIEW", "v"), &function), None);
        let denied = refusal("42501", "permission denied for function f");
        assert_eq!(excuse(&line("ACL", "ROUTINE public.f()"), &denied), None);
    }
}
