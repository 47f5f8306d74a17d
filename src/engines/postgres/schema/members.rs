//! Members of extensions: what `CREATE EXTENSION` makes, and what users add to it.
//!
//! An extension is the owner of its members, not another name for them. Its schemas and relations have nodes of their own, without SQL,
//! because users' objects name them: tables in a schema of the extension, children of its tables, publications of them. All
//! other members are known by their extension alone.
//!
//! Indexes, constraints, triggers, rules and policies on a member have no mark that tells the script's from a user's. The
//! transaction does: what came with a member's mark (`pg_depend`, type `e`) is the script's. After pg_upgrade every object
//! has another transaction, so what is taken for a user's is made only where it is missing.

use std::fmt::Write as _;

use futures_util::TryStreamExt;
use tokio_postgres::Client;

use super::graph::Graph;
use super::node::{Kind, Node, class};
use super::rows::{Columns, failed, query};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::literal;

const MEMBERS: &str = include_str!("sql/members.sql");
const ADDED_PARTS: &str = include_str!("sql/added_parts.sql");

/// Reads which objects are members, and of what extension.
pub(super) async fn read_owners(graph: &mut Graph, client: &Client) -> Result<()> {
    let act = "members of extensions";
    let no_params: [i32; 0] = [];
    let rows = client.query_raw(MEMBERS, no_params).await.map_err(|e| failed(act, e))?;
    tokio::pin!(rows);
    let mut owners = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
        if let Some(extension) = graph.find(class::EXTENSION, row.oid("extension")?) {
            owners.push((row.oid("class")?, row.oid("oid")?, extension));
        }
    }
    owners.sort_unstable();
    owners.dedup_by_key(|e| (e.0, e.1));
    graph.owners = owners;
    Ok(())
}

/// Reads the parts of members that came with none of the transactions in which their extension made members.
pub(super) async fn added_parts(client: &Client) -> Result<Vec<(u32, u32)>> {
    let rows = query(client, "parts of extensions' relations", ADDED_PARTS, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.oid("class")?, row.oid("oid")?)))
        .collect()
}

/// Returns the statements within a block that runs them only where the part is missing: a newer version of the extension may make
/// it itself.
pub(super) fn unless_there(graph: &Graph, table: &Node, part: &Node, sql: &str) -> String {
    let name = literal(graph.name(part));
    let relation = format!("{}::pg_catalog.regclass", literal(&graph.qualified(table)));
    let there = match part.kind {
        Kind::Index | Kind::KeyIndex => format!(
            "pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid WHERE c.relname = {name} AND i.indrelid = {relation}"
        ),
        Kind::Trigger => format!("pg_catalog.pg_trigger t WHERE t.tgname = {name} AND t.tgrelid = {relation}"),
        Kind::Rule => format!("pg_catalog.pg_rewrite r WHERE r.rulename = {name} AND r.ev_class = {relation}"),
        Kind::Policy => format!("pg_catalog.pg_policy p WHERE p.polname = {name} AND p.polrelid = {relation}"),
        Kind::Constraint | Kind::ForeignKey | Kind::Check | Kind::NotNull => {
            format!("pg_catalog.pg_constraint k WHERE k.conname = {name} AND k.conrelid = {relation}")
        }
        // Repeating it changes nothing.
        _ => return sql.to_owned(),
    };
    let mut body = String::from("BEGIN\n");
    let _ = write!(
        body,
        "IF NOT EXISTS (SELECT FROM {there}) THEN\nEXECUTE {};\nEND IF;\nEND",
        literal(sql)
    );
    format!("DO LANGUAGE plpgsql {};\n", literal(&body))
}
