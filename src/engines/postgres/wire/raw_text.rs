//! Columns of text as the server sends them, in whatever encoding: see [`crate::base::raw_text`].

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, Type};

use crate::base::raw_text::from_bytes;

/// A column of text that tokio-postgres reads without asking for UTF-8.
#[derive(Debug)]
pub(crate) struct RawText(pub(crate) String);

impl<'a> FromSql<'a> for RawText {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(from_bytes(raw).into_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}
