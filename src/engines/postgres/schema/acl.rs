//! Rights: what must be revoked from and granted on top of the rights an object has when it is made.
//!
//! An access list is read through `aclexplode`, so role names need no parsing. The base is `acldefault` (for `public`
//! the list of a new database); items of the base that the object lacks are revoked, items it has beyond are granted,
//! the owner's own first, the others in the order in which they are stored.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::graph::Graph;
use futures_util::TryStreamExt;
use tokio_postgres::Row;

use super::node::{Kind, Node, class, flag};
use super::rows::{Columns, query};
use super::write::Context;
use super::{Section, SqlSink, system_rights};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::quote::{literal, quote_ident};
use crate::engines::postgres::sql::template::{for_version, with_names};

const DEFAULT_PRIVILEGES: &str = include_str!("sql/default_privileges.sql");

/// One entry of an access list: who gave what to whom. An empty grantee is PUBLIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    grantee: Option<String>,
    grantor: String,
    /// Privilege and whether it may be passed on, in the server's order.
    privileges: Vec<(String, bool)>,
}

/// Adds one exploded privilege to the list of its side: rows of one entry come one after another. An empty list explodes to nothing.
pub(super) fn add_row(row: &Row, base: &mut Vec<Entry>, wanted: &mut Vec<Entry>) -> Result<()> {
    let Some(privilege) = row.opt("privilege")? else {
        return Ok(());
    };
    let entries = if row.col::<i32>("side")? == 0 { base } else { wanted };
    let (grantee, grantor) = (row.opt("grantee")?, row.text("grantor")?);
    let privilege = (privilege, row.flag("grantable")?);
    match entries
        .iter_mut()
        .find(|e| e.grantee == grantee && e.grantor == grantor)
    {
        Some(entry) => entry.privileges.push(privilege),
        None => entries.push(Entry {
            grantee,
            grantor,
            privileges: vec![privilege],
        }),
    }
    Ok(())
}

/// How many privileges a kind of object has: so many together are `ALL`. 0: they are always named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct All {
    revoked: usize,
    granted: usize,
}

impl All {
    /// Says `ALL` for so many privileges.
    pub(super) fn of(count: usize) -> Self {
        Self {
            revoked: count,
            granted: count,
        }
    }

    /// Names each privilege.
    pub(super) fn never() -> Self {
        Self::of(0)
    }

    /// From 17 on tables have one privilege more. What `ALL` meant before must not give that one too, but `REVOKE ALL` may take it:
    /// it precedes what is granted.
    fn of_table(self, version: i32) -> Self {
        Self {
            granted: if version < 170_000 { 0 } else { self.granted },
            ..self
        }
    }
}

/// Returns the statements that turn `base` into `wanted`. `prefix` stands before GRANT (default privileges), `on` names
/// the object, `all` tells when `ALL` may be said, `columns` is `(column)` for column rights.
pub(super) fn difference(
    base: &[Entry],
    wanted: &[Entry],
    owner: &str,
    prefix: &str,
    on: &str,
    all: All,
    columns: &str,
) -> String {
    let mut sql = String::new();
    let list = |privileges: &[&str], all: usize| {
        let names: Vec<String> = if privileges.len() == all && all > 0 {
            vec![format!("ALL{columns}")]
        } else {
            privileges.iter().map(|p| format!("{p}{columns}")).collect()
        };
        names.join(", ")
    };
    let whom = |grantee: &Option<String>| grantee.as_deref().map_or("PUBLIC".to_owned(), quote_ident);
    for entry in base.iter().filter(|b| !wanted.contains(b)) {
        let names: Vec<&str> = entry.privileges.iter().map(|p| p.0.as_str()).collect();
        sql.push_str(&format!(
            "{prefix}REVOKE {} ON {on} FROM {};\n",
            list(&names, all.revoked),
            whom(&entry.grantee)
        ));
    }
    let own = |e: &&Entry| e.grantee.as_deref() == Some(owner) && e.grantor == owner;
    let missing = || wanted.iter().filter(|w| !base.contains(w));
    for entry in missing().filter(own).chain(missing().filter(|e| !own(e))) {
        let foreign = entry.grantor != owner;
        if foreign {
            sql.push_str(&format!("SET SESSION AUTHORIZATION {};\n", quote_ident(&entry.grantor)));
        }
        for passable in [false, true] {
            let names: Vec<&str> = entry
                .privileges
                .iter()
                .filter(|p| p.1 == passable)
                .map(|p| p.0.as_str())
                .collect();
            if !names.is_empty() {
                let option = if passable { " WITH GRANT OPTION" } else { "" };
                sql.push_str(&format!(
                    "{prefix}GRANT {} ON {on} TO {}{option};\n",
                    list(&names, all.granted),
                    whom(&entry.grantee)
                ));
            }
        }
        if foreign {
            sql.push_str("RESET SESSION AUTHORIZATION;\n");
        }
    }
    sql
}

/// Access lists of one object: base and wanted of the object (0) and of its columns.
#[derive(Default)]
struct Lists {
    owner: String,
    column: BTreeMap<i32, ColumnLists>,
    signature: String,
}

#[derive(Default)]
struct ColumnLists {
    name: String,
    base: Vec<Entry>,
    wanted: Vec<Entry>,
}

const OF_SCHEMAS: &str = include_str!("sql/rights/schemas.sql");
const OF_RELATIONS: &str = include_str!("sql/rights/relations.sql");
const OF_CATALOG: &str = include_str!("sql/rights/of_catalog.sql");

/// Returns the query for one catalog, as a server of `version` is given it.
fn list_query(kind: Kind, version: i32) -> Option<Cow<'static, str>> {
    let of_catalog = |catalog: &str, prefix: &str, letter: &str| {
        let signature = if catalog == "pg_proc" {
            "pg_catalog.pg_get_function_identity_arguments(o.oid)"
        } else {
            "''"
        };
        let names = [
            ("catalog", catalog),
            ("owner_column", &format!("{prefix}owner")),
            ("acl_column", &format!("{prefix}acl")),
            ("letter", &literal(letter)),
            ("signature", signature),
        ];
        Cow::Owned(with_names(OF_CATALOG, &names))
    };
    Some(match kind {
        Kind::Schema => for_version(OF_SCHEMAS, version).into(),
        Kind::Function | Kind::Procedure | Kind::Aggregate => of_catalog("pg_proc", "pro", "f"),
        Kind::Table | Kind::ForeignTable | Kind::View | Kind::MatView | Kind::Sequence => OF_RELATIONS.into(),
        kind if kind.is_type() => of_catalog("pg_type", "typ", "T"),
        Kind::Language => of_catalog("pg_language", "lan", "l"),
        Kind::Fdw => of_catalog("pg_foreign_data_wrapper", "fdw", "F"),
        Kind::Server => of_catalog("pg_foreign_server", "srv", "S"),
        _ => return None,
    })
}

/// Writes the rights of every object that has some, then default privileges.
pub(super) async fn write(context: &Context<'_>, items: &HashMap<u32, u32>, sink: &mut dyn SqlSink) -> Result<()> {
    let graph = context.graph;
    let extra = column_rights(context).await?;
    let wanted = |n: &Node| {
        (n.has(flag::ACL)
            || (matches!(n.kind, Kind::Table | Kind::ForeignTable | Kind::View | Kind::MatView)
                && extra.contains(&n.oid)))
            && list_query(n.kind, graph.version).is_some()
    };
    let chosen: Vec<u32> = graph
        .order
        .iter()
        .copied()
        .filter(|&i| graph.node(i).is_some_and(wanted))
        .collect();
    // Whoever grants on must reach the object: rights to its schema come first.
    let mut of_schemas: HashMap<String, u32> = HashMap::new();
    let pages = context.read_pages(&chosen, read_page);
    tokio::pin!(pages);
    while let Some((page, mut lists)) = pages.try_next().await? {
        for &index in page {
            let Some(node) = graph.node(index) else { continue };
            let Some(found) = lists.remove(&(node.kind, node.oid)) else {
                continue;
            };
            let sql = statements(graph, node, &found);
            if sql.is_empty() {
                continue;
            }
            let mut item = graph.plain_item(node, "ACL", Section::PostData);
            item.depends_on = items.get(&index).copied().into_iter().collect();
            if node.kind == Kind::Schema {
                of_schemas.insert(item.name.clone(), item.id);
            } else if let Some(schema) = graph.schema(node) {
                item.depends_on.extend(of_schemas.get(schema));
            }
            sink.item(item, &sql).await?;
        }
    }
    system_rights::write(context, sink).await?;
    default_privileges(context, sink).await
}

async fn column_rights(context: &Context<'_>) -> Result<std::collections::HashSet<u32>> {
    let sql = "SELECT DISTINCT a.attrelid AS relation FROM pg_catalog.pg_attribute a WHERE a.attacl IS NOT NULL AND a.attrelid >= 16384";
    let rows = query(context.client, "column rights", sql, &[]).await?;
    rows.iter().map(|row| row.oid("relation")).collect()
}

/// Reads the access lists of a page of nodes.
async fn read_page(context: Context<'_>, page: &[u32]) -> Result<HashMap<(Kind, u32), Lists>> {
    let mut kinds: BTreeMap<Kind, Vec<u32>> = BTreeMap::new();
    for node in page.iter().filter_map(|&i| context.graph.node(i)) {
        kinds.entry(node.kind).or_default().push(node.oid);
    }
    let mut lists: HashMap<(Kind, u32), Lists> = HashMap::new();
    for (kind, oids) in kinds {
        read_lists(&context, kind, &oids, &mut lists).await?;
    }
    Ok(lists)
}

async fn read_lists(
    context: &Context<'_>,
    kind: Kind,
    oids: &[u32],
    lists: &mut HashMap<(Kind, u32), Lists>,
) -> Result<()> {
    let Some(sql) = list_query(kind, context.graph.version) else {
        return Ok(());
    };
    for row in query(context.client, "rights", &sql, &[&oids]).await? {
        let object = lists.entry((kind, row.oid("oid")?)).or_default();
        object.owner = row.text("owner")?;
        object.signature = row.text("signature")?;
        let column = object.column.entry(row.col("sub")?).or_default();
        column.name = row.text("column_name")?;
        add_row(&row, &mut column.base, &mut column.wanted)?;
    }
    Ok(())
}

fn statements(graph: &Graph, node: &Node, lists: &Lists) -> String {
    let name = graph.qualified(node);
    let on = match node.kind {
        Kind::Schema => format!("SCHEMA {name}"),
        Kind::Procedure => format!("PROCEDURE {name}({})", lists.signature),
        Kind::Function | Kind::Aggregate => format!("FUNCTION {name}({})", lists.signature),
        Kind::Sequence => format!("SEQUENCE {name}"),
        Kind::Language => format!("LANGUAGE {name}"),
        Kind::Fdw => format!("FOREIGN DATA WRAPPER {name}"),
        Kind::Server => format!("FOREIGN SERVER {name}"),
        kind if kind.is_type() => format!("TYPE {name}"),
        _ => format!("TABLE {name}"),
    };
    let mut sql = String::new();
    let all = match node.kind {
        Kind::Schema => 2,
        _ => lists
            .column
            .get(&0)
            .and_then(|c| c.base.iter().map(|e| e.privileges.len()).max())
            .unwrap_or(0),
    };
    let all = match node.kind {
        Kind::Table | Kind::ForeignTable | Kind::View | Kind::MatView => All::of(all).of_table(graph.version),
        _ => All::of(all),
    };
    for (&number, column) in &lists.column {
        let (all, columns) = if number == 0 {
            (all, String::new())
        } else {
            (All::never(), format!("({})", quote_ident(&column.name)))
        };
        sql.push_str(&difference(
            &column.base,
            &column.wanted,
            &lists.owner,
            "",
            &on,
            all,
            &columns,
        ));
    }
    sql
}

/// Default privileges: those of a schema are deltas to nothing, global ones to the built-in defaults.
async fn default_privileges(context: &Context<'_>, sink: &mut dyn SqlSink) -> Result<()> {
    let rows = query(context.client, "default privileges", DEFAULT_PRIVILEGES, &[]).await?;
    let mut at = 0;
    while let Some(first) = rows.get(at) {
        let (oid, role, schema) = (first.oid("oid")?, first.text("role")?, first.opt("schema")?);
        let (mut base, mut wanted) = (Vec::new(), Vec::new());
        let (kind, all): (String, i32) = (first.text("object_type")?, first.col("owner_privileges")?);
        while let Some(row) = rows.get(at).filter(|r| r.oid("oid").ok() == Some(oid)) {
            add_row(row, &mut base, &mut wanted)?;
            at += 1;
        }
        let Some(node) = context
            .graph
            .find(class::DEFAULT_ACL, oid)
            .and_then(|i| context.graph.node(i))
            .filter(|n| !n.has(flag::EXCLUDED))
        else {
            continue;
        };
        let on = match kind.as_str() {
            "r" => "TABLES",
            "S" => "SEQUENCES",
            "f" => "FUNCTIONS",
            "T" => "TYPES",
            "n" => "SCHEMAS",
            _ => "LARGE OBJECTS",
        };
        let mut prefix = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {} ", quote_ident(&role));
        if let Some(schema) = schema {
            prefix.push_str(&format!("IN SCHEMA {} ", quote_ident(&schema)));
        }
        let all = All::of(exact::usize_from(exact::count(
            all.into(),
            "the number of default privileges",
        )?));
        let all = if on == "TABLES" {
            all.of_table(context.graph.version)
        } else {
            all
        };
        let sql = difference(&base, &wanted, &role, &prefix, on, all, "");
        if !sql.is_empty() {
            sink.item(context.graph.plain_item(node, "DEFAULT ACL", Section::PostData), &sql)
                .await?;
        }
        if let Some(index) = context.graph.find(class::DEFAULT_ACL, oid) {
            context.graph.note_written(index, &sql);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::sql::template::missing_names;

    #[test]
    fn every_query_has_its_names() {
        for kind in [
            Kind::Schema,
            Kind::Function,
            Kind::Table,
            Kind::Enum,
            Kind::Language,
            Kind::Fdw,
            Kind::Server,
        ] {
            let query = list_query(kind, 180_000).unwrap_or_default();
            assert!(!query.is_empty() && missing_names(&query).is_empty(), "{query}");
        }
    }

    fn entry(grantee: Option<&str>, grantor: &str, privileges: &[(&str, bool)]) -> Entry {
        Entry {
            grantee: grantee.map(str::to_owned),
            grantor: grantor.to_owned(),
            privileges: privileges.iter().map(|p| (p.0.to_owned(), p.1)).collect(),
        }
    }

    #[test]
    fn what_both_lists_have_is_not_said() {
        let base = [entry(Some("o"), "o", &[("SELECT", false), ("INSERT", false)])];
        let wanted = [base[0].clone(), entry(None, "o", &[("SELECT", false)])];
        assert_eq!(
            difference(&base, &wanted, "o", "", "TABLE \"t\"", All::of(2), ""),
            "GRANT SELECT ON TABLE \"t\" TO PUBLIC;\n"
        );
    }

    #[test]
    fn a_reduced_owner_comes_first_and_grant_options_stand_apart() {
        let base = [entry(Some("o"), "o", &[("SELECT", false), ("INSERT", false)])];
        let wanted = [
            entry(Some("a\"b"), "o", &[("SELECT", true), ("INSERT", false)]),
            entry(Some("o"), "o", &[("SELECT", false)]),
        ];
        let expected = "REVOKE ALL ON TABLE \"t\" FROM \"o\";\nGRANT SELECT ON TABLE \"t\" TO \"o\";\n\
                        GRANT INSERT ON TABLE \"t\" TO \"a\"\"b\";\nGRANT SELECT ON TABLE \"t\" TO \"a\"\"b\" WITH GRANT OPTION;\n";
        assert_eq!(
            difference(&base, &wanted, "o", "", "TABLE \"t\"", All::of(2), ""),
            expected
        );
    }

    #[test]
    fn another_grantor_speaks_for_itself() {
        let wanted = [entry(Some("b"), "a", &[("SELECT", false)])];
        let expected = "SET SESSION AUTHORIZATION \"a\";\nGRANT SELECT(\"c\") ON TABLE \"t\" TO \"b\";\nRESET SESSION AUTHORIZATION;\n";
        assert_eq!(
            difference(&[], &wanted, "o", "", "TABLE \"t\"", All::never(), "(\"c\")"),
            expected
        );
    }
}
