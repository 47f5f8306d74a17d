//! Which roles a database names: a server has many, and a restore of one database needs only its own.

use tokio_postgres::Client;

use super::rows::{Columns, query};
use crate::base::error::Result;

/// More roles than these are not listed: all of the server's count as named then.
const MAX_ROLES: usize = 10_000;

/// Returns the roles that own something in the database or the database, have rights or policies, or settings in it.
///
/// The server keeps that account itself (`pg_shdepend`), but for the role that made the cluster (OID 10), which always exists at home.
pub async fn named_roles(client: &Client) -> Result<Option<Vec<String>>> {
    let owned = [
        ("pg_class", "relowner"),
        ("pg_proc", "proowner"),
        ("pg_type", "typowner"),
        ("pg_namespace", "nspowner"),
        ("pg_foreign_server", "srvowner"),
        ("pg_publication", "pubowner"),
        ("pg_event_trigger", "evtowner"),
        ("pg_largeobject_metadata", "lomowner"),
    ];
    let granted = [
        ("pg_class", "relacl"),
        ("pg_proc", "proacl"),
        ("pg_namespace", "nspacl"),
    ];
    let owns = owned.map(|(catalog, owner)| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.{catalog} o WHERE o.{owner} = 10 AND o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
             WHERE d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = o.oid AND d.deptype = 'e'))"
        )
    });
    let has = granted.map(|(catalog, acl)| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.{catalog} o, pg_catalog.aclexplode(o.{acl}) x WHERE x.grantee = 10 AND o.oid >= 16384)"
        )
    });
    let sql = format!(
        "SELECT r.rolname::text FROM pg_catalog.pg_database b, pg_catalog.pg_roles r WHERE b.datname = pg_catalog.current_database() AND r.rolname !~ '^pg_' \
         AND (r.oid IN (SELECT s.refobjid FROM pg_catalog.pg_shdepend s WHERE s.refclassid = 1260 \
         AND (s.dbid = b.oid OR (s.dbid = 0 AND s.classid = 1262 AND s.objid = b.oid))) \
         OR r.oid IN (SELECT s.setrole FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = b.oid) \
         OR r.oid = b.datdba OR (r.oid = 10 AND ({} OR {}))) ORDER BY 1 LIMIT {}",
        owns.join(" OR "),
        has.join(" OR "),
        MAX_ROLES + 1
    );
    let rows = query(client, "the roles that the database names", &sql, &[]).await?;
    if rows.len() > MAX_ROLES {
        return Ok(None);
    }
    rows.iter().map(|row| row.text(0)).collect::<Result<_>>().map(Some)
}
