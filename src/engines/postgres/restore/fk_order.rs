//! Tables in the order of the foreign keys that the target has: what is referred to comes first.

use std::collections::{HashMap, HashSet};

use super::load::TableData;
use super::ownership::Name;
use super::replace::rows;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;

/// Puts tables in that order. Tables that refer to each other in a circle stay as they stood.
pub(crate) async fn by_foreign_keys(connection: &mut Connection, tables: &mut Vec<TableData>) -> Result<()> {
    let names: Vec<String> = tables.iter().map(|t| literal(&t.qualified())).collect();
    let mut needs: HashMap<Name, HashSet<Name>> = HashMap::new();
    for page in names.chunks(1000) {
        let sql = format!(
            "SELECT DISTINCT n.nspname, c.relname, rn.nspname, r.relname FROM pg_catalog.unnest(ARRAY[{}]) u(name) \
             JOIN pg_catalog.pg_constraint k ON k.contype = 'f' AND k.conrelid = pg_catalog.to_regclass(u.name) AND k.confrelid <> k.conrelid \
             JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace",
            page.join(", ")
        );
        for row in rows(connection, &sql).await.context("read the foreign keys")? {
            if let [schema, name, other_schema, other] = row.as_slice() {
                let needed = needs.entry((schema.clone(), name.clone())).or_default();
                needed.insert((other_schema.clone(), other.clone()));
            }
        }
    }
    *tables = sorted(std::mem::take(tables), &needs);
    Ok(())
}

fn sorted(tables: Vec<TableData>, needs: &HashMap<Name, HashSet<Name>>) -> Vec<TableData> {
    let mut left: HashSet<Name> = tables.iter().map(name).collect();
    let (mut open, mut done) = (tables, Vec::new());
    while !open.is_empty() {
        let (ready, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|t| needs.get(&name(t)).is_none_or(|n| n.is_disjoint(&left)));
        if ready.is_empty() {
            done.extend(rest);
            break;
        }
        for table in &ready {
            left.remove(&name(table));
        }
        done.extend(ready);
        open = rest;
    }
    done
}

fn name(table: &TableData) -> Name {
    (table.schema.clone(), table.name.clone())
}
