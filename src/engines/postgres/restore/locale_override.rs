//! Encoding and locale of the database that a restore makes, where they are to be others than the source's.

use super::create_database::Made;
use super::inspect::TargetState;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::backup::snapshot::ServerFacts;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;

const CONVERSIONS: &str = include_str!("sql/conversions.sql");

/// What is wanted; what is empty stays as it would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocaleOverride {
    /// `UTF8` and the like. Rows and definitions are converted by the server as they arrive.
    pub encoding: Option<String>,
    /// Locale of the C library, or of the built-in provider.
    pub locale: Option<String>,
    /// `libc`, `icu` or `builtin`.
    pub provider: Option<String>,
    /// Locale of ICU.
    pub icu_locale: Option<String>,
}

impl LocaleOverride {
    /// Returns whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that the parts of a wish fit to each other.
    pub fn check(&self) -> Result<()> {
        let icu = self.provider.as_deref() == Some("icu");
        match self.provider.as_deref() {
            None | Some("libc" | "icu") => {}
            Some("builtin") if self.locale.is_some() => {}
            Some("builtin") => {
                return Err(Error::invalid("--locale-provider builtin needs a locale")
                    .with_hint("Give --locale C.UTF-8, C, or (18) PG_UNICODE_FAST."));
            }
            Some(other) => {
                return Err(Error::invalid(format!("unknown locale provider \"{other}\""))
                    .with_hint("Providers are libc, icu and builtin."));
            }
        }
        if icu && self.icu_locale.is_none() {
            return Err(Error::invalid("--locale-provider icu needs a locale")
                .with_hint("Give --icu-locale, for example de or und."));
        }
        if self.icu_locale.is_some() && !icu {
            return Err(Error::invalid("--icu-locale is for --locale-provider icu"));
        }
        Ok(())
    }

    /// Returns how a database is made with these wishes.
    pub(crate) fn applied(&self, mut made: Made) -> Made {
        if let Some(encoding) = &self.encoding {
            made.encoding.clone_from(encoding);
        }
        if let Some(locale) = &self.locale {
            (made.collate, made.ctype) = (locale.clone(), locale.clone());
            (made.provider, made.locale, made.rules) = (String::new(), String::new(), String::new());
            if self.provider.is_none() {
                "c".clone_into(&mut made.provider);
            }
        }
        match self.provider.as_deref() {
            Some("builtin") => {
                "b".clone_into(&mut made.provider);
                made.locale = self.locale.clone().unwrap_or_default();
                // What the C library is still asked for needs no locale of the operating system.
                (made.collate, made.ctype) = ("C".to_owned(), "C".to_owned());
                made.rules.clear();
            }
            Some("icu") => {
                "i".clone_into(&mut made.provider);
                made.locale = self.icu_locale.clone().unwrap_or_default();
                made.rules.clear();
            }
            Some(_) => {
                "c".clone_into(&mut made.provider);
                made.locale.clear();
                made.rules.clear();
            }
            None => {}
        }
        made
    }

    /// Refuses wishes on a database that is there and stays.
    pub(crate) fn refuse(&self, name: &str, in_place: bool, look: &TargetState) -> Result<()> {
        self.check()?;
        if in_place && look.exists && !self.is_empty() {
            return Err(Error::invalid(format!(
                "database \"{name}\" is kept: its encoding and locale cannot be changed"
            ))
            .with_hint(
                "--encoding and --locale are for databases that the restore creates: use another one with --into.",
            ));
        }
        Ok(())
    }
}

/// Refuses a backup whose encoding the server cannot convert into that of the target. Where the backup does not say its encoding,
/// nothing is refused.
pub(crate) async fn refuse_conversion(admin: &mut Connection, facts: &ServerFacts, target: &str) -> Result<()> {
    // What is sent, not what the source's database has: older versions of this program read every database in UTF8.
    let source = facts.context.client_encoding.as_deref().unwrap_or_default();
    if source.is_empty() || target.is_empty() || source == target || [source, target].contains(&"SQL_ASCII") {
        return Ok(());
    }
    let sql = with_names(
        CONVERSIONS,
        &[("source", &literal(source)), ("target", &literal(target))],
    );
    let found = admin.query(&sql).await.context("look for a conversion")?;
    if found.scalar() != Some("0") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("the backup is in {source}, and the server has no conversion from there to {target}"),
    )
    .with_hint(format!(
        "Restore into a database in {source} (the default for a new one), or in SQL_ASCII, which keeps the bytes."
    )))
}

/// Returns whether the server refused bytes that have no equivalent in its encoding.
pub(crate) fn is_untranslatable(code: Option<&str>) -> bool {
    matches!(code, Some("22P05" | "22021"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source() -> Made {
        Made {
            encoding: "LATIN1".into(),
            collate: "de_DE".into(),
            ctype: "de_DE".into(),
            provider: "i".into(),
            locale: "de".into(),
            rules: "&a<b".into(),
            tablespace: "fast".into(),
        }
    }

    #[test]
    fn a_locale_that_is_wanted_replaces_all_of_the_sources() {
        let locale_override = LocaleOverride {
            encoding: Some("UTF8".into()),
            locale: Some("C.UTF-8".into()),
            ..LocaleOverride::default()
        };
        let made = locale_override.applied(source());
        assert_eq!((made.encoding.as_str(), made.collate.as_str()), ("UTF8", "C.UTF-8"));
        assert_eq!(
            (made.provider.as_str(), made.locale.as_str(), made.rules.as_str()),
            ("c", "", "")
        );
        assert_eq!(made.tablespace, "fast");
        assert_eq!(LocaleOverride::default().applied(source()), source());
    }

    #[test]
    fn a_provider_needs_its_locale() {
        let of = |provider: &str, locale: Option<&str>, icu: Option<&str>| LocaleOverride {
            provider: Some(provider.into()),
            locale: locale.map(str::to_owned),
            icu_locale: icu.map(str::to_owned),
            encoding: None,
        };
        assert!(of("icu", None, Some("de")).check().is_ok() && of("builtin", Some("C"), None).check().is_ok());
        assert!(of("icu", Some("C"), None).check().is_err() && of("builtin", None, None).check().is_err());
        assert!(of("libc", None, Some("de")).check().is_err() && of("odbc", None, None).check().is_err());
        let made = of("icu", None, Some("sv")).applied(source());
        assert_eq!((made.provider.as_str(), made.locale.as_str()), ("i", "sv"));
    }
}
