//! CREATE DATABASE: encoding, locale and tablespace of the source, or of the database that is there already.

use std::time::Duration;

use crate::base::error::{Context as _, Error, Result};
use crate::engines::postgres::backup::snapshot::ServerFacts;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::wire::server_error::sqlstate;
use crate::engines::postgres::wire::text_row::TextRow;

/// How long others that create databases at the same time are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a database is made. What is empty is the server's own choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) encoding: String,
    pub(crate) collate: String,
    pub(crate) ctype: String,
    pub(crate) provider: String,
    pub(crate) locale: String,
    pub(crate) rules: String,
    pub(crate) tablespace: String,
}

impl Made {
    /// Takes a row of `target_state.sql`.
    pub(crate) fn from_row(row: TextRow<'_>) -> Result<Self> {
        let text = |name| row.text(name).map(str::to_owned);
        Ok(Self {
            encoding: text("encoding")?,
            collate: text("lc_collate")?,
            ctype: text("lc_ctype")?,
            provider: text("locale_provider")?,
            locale: text("locale")?,
            rules: text("locale_rules")?,
            tablespace: text("tablespace")?,
        })
    }

    /// As the source was.
    pub(crate) fn of_facts(facts: &ServerFacts) -> Self {
        Self {
            encoding: facts.encoding.clone(),
            collate: facts.collate.clone(),
            ctype: facts.ctype.clone(),
            provider: facts.locale_provider.clone(),
            locale: facts.locale.clone(),
            rules: facts.locale_rules.clone(),
            tablespace: facts.tablespace.clone(),
        }
    }

    /// Returns encoding and locale for a message.
    pub(crate) fn words(&self) -> String {
        let locale = if self.locale.is_empty() {
            format!("{}/{}", self.collate, self.ctype)
        } else {
            self.locale.clone()
        };
        format!("{} with locale {locale}", self.encoding)
    }

    /// Returns whether text of the two sorts and is stored alike.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let of = |m: &Self| (m.encoding.clone(), m.collate.clone(), m.ctype.clone(), m.locale.clone());
        of(self) == of(other)
    }

    fn sql(&self, name: &str) -> String {
        let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", quote_ident(name));
        if !self.encoding.is_empty() {
            sql.push_str(&format!(
                " ENCODING {} LC_COLLATE {} LC_CTYPE {}",
                literal(&self.encoding),
                literal(&self.collate),
                literal(&self.ctype)
            ));
        }
        // The template's provider may be another one.
        match self.provider.as_str() {
            "c" => sql.push_str(" LOCALE_PROVIDER libc"),
            "i" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(&self.locale))),
            "b" => sql.push_str(&format!(
                " LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
                literal(&self.locale)
            )),
            _ => {}
        }
        if !self.rules.is_empty() {
            sql.push_str(&format!(" ICU_RULES {}", literal(&self.rules)));
        }
        if !self.tablespace.is_empty() {
            sql.push_str(&format!(" TABLESPACE {}", quote_ident(&self.tablespace)));
        }
        sql
    }

    /// Creates the database. Others that create one at the same moment are waited for.
    pub(crate) async fn create(&self, admin: &mut Connection, name: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match admin.execute(&self.sql(name)).await {
                Ok(()) => return Ok(()),
                // The unique index of names; the template while another session is in it.
                Err(error)
                    if matches!(sqlstate(&error), Some("23505" | "55006"))
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(explain(error, name)),
            }
        }
    }
}

fn explain(error: Error, name: &str) -> Error {
    let hint = match sqlstate(&error) {
        Some("42501") => Some(
            "The role needs CREATEDB; without it, restore into an existing empty database that the role can write to.",
        ),
        Some("22023" | "42809") => Some(
            "The server lacks the locale, or it does not match the encoding: install it, or set --locale (C.UTF-8, C) \
             and --encoding.",
        ),
        Some("22021") => Some(
            "The encoding of the database that it is created from cannot hold the name: let the role connect to a \
             \"postgres\" or \"template1\" in UTF8, or choose an ASCII name.",
        ),
        _ => None,
    };
    let error = error.context(format!("create database \"{name}\""));
    match hint {
        Some(hint) => error.with_hint_instead(hint),
        None => error,
    }
}

/// Returns whether the role may put a database into a tablespace.
pub(crate) async fn may_use_tablespace(admin: &mut Connection, name: &str) -> Result<bool> {
    let sql = format!(
        "SELECT pg_catalog.has_tablespace_privilege(spcname, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = {}",
        literal(name)
    );
    let found = admin.query(&sql).await.context("look for the tablespace")?;
    Ok(found.scalar() == Some("t"))
}
