//! Which roles a database names: a server has many, and a restore of one database needs only its own.

use tokio_postgres::Client;

use super::rows::{Columns, query};
use crate::base::error::Result;
use crate::base::exact;

const NAMED_ROLES: &str = include_str!("sql/named_roles.sql");

/// More roles than these are not listed: all of the server's count as named then.
const MAX_ROLES: i64 = 10_000;

/// Returns the roles that own something in the database or the database, have rights or policies, or settings in it.
///
/// The server keeps that account itself (`pg_shdepend`), but for the role that made the cluster (OID 10), which always exists at home.
pub async fn named_roles(client: &Client) -> Result<Option<Vec<String>>> {
    let limit = MAX_ROLES + 1;
    let rows = query(client, "the roles that the database names", NAMED_ROLES, &[&limit]).await?;
    if exact::u64_from(rows.len()) > exact::saturating_u64(MAX_ROLES) {
        return Ok(None);
    }
    rows.iter().map(|row| row.text("name")).collect::<Result<_>>().map(Some)
}
