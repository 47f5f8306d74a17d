//! Tables in the order of the foreign keys that the target has: what is referred to comes first.

use std::collections::{HashMap, HashSet};

use super::load::TableData;
use super::ownership::Name;
use crate::base::error::{Context as _, Result};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;

const FOREIGN_KEYS: &str = include_str!("sql/foreign_keys.sql");

/// Puts tables in that order. Tables that refer to each other in a circle stay as they stood.
pub(crate) async fn by_foreign_keys(connection: &mut Connection, tables: &mut Vec<TableData>) -> Result<()> {
    let names: Vec<String> = tables.iter().map(|t| literal(&t.qualified())).collect();
    let mut needs: HashMap<Name, HashSet<Name>> = HashMap::new();
    for page in names.chunks(1000) {
        let sql = with_names(FOREIGN_KEYS, &[("names", &page.join(", "))]);
        let found = connection.query(&sql).await.context("read the foreign keys")?;
        for row in found.named() {
            let name = (row.text("schema")?.to_owned(), row.text("name")?.to_owned());
            let referenced = (
                row.text("referenced_schema")?.to_owned(),
                row.text("referenced_name")?.to_owned(),
            );
            needs.entry(name).or_default().insert(referenced);
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
