//! Tables: stand-alone partitions with their full column list, then ATTACH; children with INHERITS.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::comments::comment;
use super::foreign::options as foreign_options;
use super::node::class;
use super::options::{self, Of};
use super::rows::{Columns, query};
use super::write::{Context, Rendered, relation};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{options_list, qualified, quote_ident};

/// One column as it is printed.
struct Column {
    number: i16,
    name: String,
    raw: Row,
    /// Printed in the column list; inherited ones are not, except in partitions and stand-alone children.
    printed: bool,
    /// Comes by ALTER TABLE (see [`super::inherit`]).
    late: bool,
    not_null: Option<NotNull>,
}

/// A NOT NULL that is printed.
struct NotNull {
    /// The name, unless it is the usual one.
    name: Option<String>,
    no_inherit: bool,
}

impl NotNull {
    fn text(&self, column: &str) -> String {
        let name = self.name.as_deref().map(|n| format!("CONSTRAINT {} ", quote_ident(n)));
        let no_inherit = if self.no_inherit { " NO INHERIT" } else { "" };
        format!("{}NOT NULL{column}{no_inherit}", name.unwrap_or_default())
    }
}

pub(super) async fn tables(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition, \
         pg_catalog.pg_get_userbyid(c.relowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = c.oid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = 0), am.amname::text, ts.spcname::text, \
         c.reloptions, t.reloptions, CASE WHEN c.reloftype <> 0 THEN pg_catalog.format_type(c.reloftype, NULL) END, c.relreplident::text, \
         c.relforcerowsecurity, CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END, \
         ARRAY(SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition ORDER BY i.inhseqno), \
         fs.srvname::text, ft.ftoptions \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
         LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
         LEFT JOIN pg_catalog.pg_foreign_table ft ON ft.ftrelid = c.oid LEFT JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver \
         WHERE c.oid = ANY($1::oid[])";
    let mut columns = columns(context, oids).await?;
    let mut checks = checks(context, oids).await?;
    let mut rendered = Rendered::new();
    for row in query(context.client, "tables", sql, &[&oids]).await? {
        let oid = row.oid(0)?;
        let columns = columns.remove(&oid).unwrap_or_default();
        rendered.insert(
            oid,
            table(context, &row, &columns, &checks.remove(&oid).unwrap_or_default())?,
        );
    }
    Ok(rendered)
}

fn table(context: &Context<'_>, row: &Row, columns: &[Column], checks: &[Check]) -> Result<String> {
    let name = qualified(&row.text(1)?, &row.text(2)?);
    let server = row.opt(17)?;
    let word = if server.is_some() { "FOREIGN TABLE" } else { "TABLE" };
    let what = format!("{word} {name}");
    let oid = row.oid(0)?;
    let standalone = context.graph.column_order.standalone.contains(&oid);
    let full = row.flag(5)? || standalone;
    let of_type = row.opt(12)?;
    let mut lines = Vec::new();
    for column in columns.iter().filter(|c| c.printed && !c.late) {
        let definition = column_definition(context, column, full)?;
        match &of_type {
            // The type gives names and types; only what the column adds is said.
            Some(_) if definition.1.is_empty() => {}
            Some(_) => lines.push(format!("{} WITH OPTIONS{}", quote_ident(&column.name), definition.1)),
            None => lines.push(format!(
                "{} {}{}",
                quote_ident(&column.name),
                definition.0,
                definition.1
            )),
        }
    }
    // From 18 on the NOT NULL of an inherited column can be the child's own.
    if context.at_least(18) {
        let inherited = columns.iter().filter(|c| !c.printed && !c.late);
        lines.extend(inherited.filter_map(|c| Some(c.not_null.as_ref()?.text(&format!(" {}", quote_ident(&c.name))))));
    }
    lines.extend(
        checks
            .iter()
            .map(|c| format!("CONSTRAINT {} {}", quote_ident(&c.name), c.definition)),
    );
    let body = if lines.is_empty() {
        String::new()
    } else {
        format!("\n    {}\n", lines.join(",\n    "))
    };
    let unlogged = if row.text(4)? == "u" { "UNLOGGED " } else { "" };
    let mut sql = format!("CREATE {unlogged}{what}");
    match &of_type {
        Some(of) if body.is_empty() => sql.push_str(&format!(" OF {of}")),
        Some(of) => sql.push_str(&format!(" OF {of} ({body})")),
        None => sql.push_str(&format!(" ({body})")),
    }
    let parents: Vec<u32> = row.col(16)?;
    let names: Vec<String> = parents.iter().filter_map(|&p| relation(context, p)).collect();
    if names.len() < parents.len() {
        let message = "inherits from a table that is not in this backup, and comes back without it";
        context.graph.note_collector.add("not-stored", message, what.as_str());
    }
    if !names.is_empty() && !standalone {
        sql.push_str(&format!("\nINHERITS ({})", names.join(", ")));
    }
    if let Some(key) = row.opt(15)? {
        sql.push_str(&format!("\nPARTITION BY {key}"));
    }
    if let Some(server) = server {
        sql.push_str(&format!(
            "\nSERVER {}{}",
            quote_ident(&server),
            foreign_options(&row.list(18)?)
        ));
    }
    if let Some(am) = row.opt(8)?.filter(|am| am != "heap") {
        sql.push_str(&format!("\nUSING {}", quote_ident(&am)));
    }
    // A server drops the options of a TOAST table that no column needs yet: they follow the columns that come late.
    let toast = if columns.iter().any(|c| c.late) {
        Vec::new()
    } else {
        row.list(11)?
    };
    let options = options::of_table(context, row.list(10)?, toast, &name);
    if !options.is_empty() {
        sql.push_str(&format!("\nWITH ({options})"));
    }
    if let Some(space) = row.opt(9)? {
        sql.push_str(&format!("\nTABLESPACE {}", quote_ident(&space)));
    }
    sql.push_str(";\n");
    for column in columns.iter().filter(|c| !c.late) {
        column_settings(context, &mut sql, &format!("{word} ONLY {name}"), column)?;
    }
    if standalone {
        for parent in names {
            sql.push_str(&format!("ALTER {what} INHERIT {parent};\n"));
        }
    }
    match row.text(13)?.as_str() {
        // Foreign tables have none, and say so by the same letter.
        "n" if word == "FOREIGN TABLE" => {}
        "n" => sql.push_str(&format!("ALTER TABLE ONLY {name} REPLICA IDENTITY NOTHING;\n")),
        "f" => sql.push_str(&format!("ALTER TABLE ONLY {name} REPLICA IDENTITY FULL;\n")),
        _ => {}
    }
    if row.flag(14)? {
        sql.push_str(&format!("ALTER TABLE ONLY {name} FORCE ROW LEVEL SECURITY;\n"));
    }
    context.owner(&mut sql, &what, &row.text(6)?);
    comment(&mut sql, &what, row.opt(7)?.as_deref());
    for column in columns.iter().filter(|c| !c.late) {
        column_comments(&mut sql, &name, column)?;
    }
    for check in checks {
        comment(
            &mut sql,
            &format!("CONSTRAINT {} ON {name}", quote_ident(&check.name)),
            check.comment.as_deref(),
        );
    }
    Ok(sql)
}

fn column_comments(sql: &mut String, table: &str, column: &Column) -> Result<()> {
    comment(
        sql,
        &format!("COLUMN {table}.{}", quote_ident(&column.name)),
        column.raw.opt(15)?.as_deref(),
    );
    if let (Some(constraint), Some(_)) = (column.raw.opt(20)?, &column.not_null) {
        comment(
            sql,
            &format!("CONSTRAINT {} ON {table}", quote_ident(&constraint)),
            column.raw.opt(21)?.as_deref(),
        );
    }
    Ok(())
}

/// Returns the type (with its collation) and what follows it: default, generation, NOT NULL.
fn column_definition(context: &Context<'_>, column: &Column, full: bool) -> Result<(String, String)> {
    let row = &column.raw;
    let mut kind = row.text(3)?;
    if let (Some(schema), Some(collation)) = (row.opt(5)?, row.opt(6)?) {
        kind.push_str(&format!(" COLLATE {}", qualified(&schema, &collation)));
    }
    let mut rest = String::new();
    if let (Some(expression), Some(oid)) = (row.opt(13)?, row.col::<Option<u32>>(14)?) {
        let inherited = row.opt(19)?.as_deref() == Some(expression.as_str()) && !full;
        match row.text(12)?.as_str() {
            "s" | "v" if inherited => {}
            "s" => rest.push_str(&format!(" GENERATED ALWAYS AS ({expression}) STORED")),
            "v" => rest.push_str(&format!(" GENERATED ALWAYS AS ({expression})")),
            _ if context.graph.is_inline(class::ATTRDEF, oid) => rest.push_str(&format!(" DEFAULT {expression}")),
            _ => {}
        }
    } else if row.flag(17)? && !full {
        rest.push_str(" DEFAULT NULL");
    }
    if let Some(not_null) = &column.not_null {
        rest.push_str(&format!(" {}", not_null.text("")));
    }
    Ok((kind, rest))
}

/// Appends what a column has beside its definition.
fn column_settings(context: &Context<'_>, sql: &mut String, table: &str, column: &Column) -> Result<()> {
    let row = &column.raw;
    let alter = format!("ALTER {table} ALTER COLUMN {}", quote_ident(&column.name));
    if !column.printed {
        if let (Some(expression), Some(oid)) = (row.opt(13)?, row.col::<Option<u32>>(14)?) {
            if row.text(12)?.is_empty() && context.graph.is_inline(class::ATTRDEF, oid) {
                sql.push_str(&format!("{alter} SET DEFAULT {expression};\n"));
            }
        } else if row.flag(17)? {
            sql.push_str(&format!("{alter} SET DEFAULT NULL;\n"));
        }
        match &column.not_null {
            Some(not_null) if context.at_least(18) && column.late => {
                let text = not_null.text(&format!(" {}", quote_ident(&column.name)));
                sql.push_str(&format!("ALTER {table} ADD {text};\n"));
            }
            Some(_) if !context.at_least(18) => sql.push_str(&format!("{alter} SET NOT NULL;\n")),
            _ => {}
        }
    }
    if let Some(target) = row.col::<Option<i32>>(7)?.filter(|t| *t >= 0) {
        sql.push_str(&format!("{alter} SET STATISTICS {target};\n"));
    }
    if let Some(storage) = row.opt(8)? {
        sql.push_str(&format!("{alter} SET STORAGE {storage};\n"));
    }
    if let Some(method) = row.opt(9)? {
        sql.push_str(&format!("{alter} SET COMPRESSION {method};\n"));
    }
    let what = format!("{table} column {}", quote_ident(&column.name));
    let options = options::known(context, Of::Column, row.list(10)?, &what);
    if !options.is_empty() {
        sql.push_str(&format!("{alter} SET ({});\n", options_list(&options, "")));
    }
    let foreign = row.list(24)?;
    if !foreign.is_empty() {
        sql.push_str(&format!("{alter}{};\n", foreign_options(&foreign)));
    }
    Ok(())
}

async fn columns(context: &Context<'_>, oids: &[u32]) -> Result<HashMap<u32, Vec<Column>>> {
    // NOT NULL: a flag before 18, printed where no parent has it; a named constraint from 18 on, printed where it is the
    // table's own or where it is valid while those of all parents are not.
    let not_null = context.since(
        18,
        "(k.oid IS NOT NULL AND k.convalidated AND (k.conislocal OR c.relispartition OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i \
         JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped \
         JOIN pg_catalog.pg_constraint pk ON pk.conrelid = i.inhparent AND pk.contype = 'n' AND pk.conkey = ARRAY[p.attnum] \
         WHERE i.inhrelid = a.attrelid AND pk.convalidated))), ",
        "(a.attnotnull AND (c.relispartition OR a.attrelid = ANY($2::oid[]) OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i \
         JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped \
         WHERE i.inhrelid = a.attrelid AND p.attnotnull))), ",
    );
    // The name is said when it is not the usual one, has a comment, or is that of another constraint in the schema: whichever
    // is made later would be called otherwise.
    let constraint = context.since(
        18,
        "k.conname::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = k.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0), k.conname <> c.relname || '_' || a.attname || '_not_null' \
         OR (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = k.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0) IS NOT NULL \
         OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint o WHERE o.conname = k.conname AND o.connamespace = k.connamespace AND o.oid <> k.oid), k.connoinherit, a.attfdwoptions ",
        "NULL::text, NULL::text, false, false, a.attfdwoptions ",
    );
    let join = context.since(18, "LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] ", "");
    let compression = context.since(
        14,
        "CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END",
        "NULL::text",
    );
    let parent = "FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped";
    let sql = format!(
        "SELECT a.attrelid, a.attnum, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), {not_null}\
         cn.nspname::text, co.collname::text, a.attstattarget::int4, \
         CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'x' THEN 'EXTENDED' ELSE 'MAIN' END END, \
         {compression}, a.attoptions, a.attislocal OR c.relispartition OR a.attrelid = ANY($2::oid[]), a.attgenerated::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid), d.oid, \
         (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = a.attrelid AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND ds.objsubid = a.attnum), a.attidentity::text, \
         a.attinhcount > 0 AND NOT a.atthasdef AND EXISTS (SELECT 1 {parent} WHERE i.inhrelid = a.attrelid AND p.atthasdef AND p.attgenerated = ''), \
         a.attinhcount, CASE WHEN a.attgenerated <> '' AND a.attinhcount > 0 THEN (SELECT pg_catalog.pg_get_expr(pd.adbin, pd.adrelid) {parent} \
         JOIN pg_catalog.pg_attrdef pd ON pd.adrelid = p.attrelid AND pd.adnum = p.attnum WHERE i.inhrelid = a.attrelid ORDER BY i.inhseqno LIMIT 1) END, \
         {constraint}\
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation AND a.attcollation <> t.typcollation \
         LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace {join}\
         WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"
    );
    let mut columns: HashMap<u32, Vec<Column>> = HashMap::new();
    let order = &context.graph.column_order;
    let standalone: Vec<u32> = oids.iter().copied().filter(|o| order.standalone.contains(o)).collect();
    for raw in query(context.client, "columns", &sql, &[&oids, &standalone]).await? {
        let (table, number) = (raw.oid(0)?, raw.col(1)?);
        let not_null = if raw.flag(4)? {
            Some(NotNull {
                name: if raw.flag(22)? { raw.opt(20)? } else { None },
                no_inherit: raw.flag(23)?,
            })
        } else {
            None
        };
        let column = Column {
            number,
            name: raw.text(2)?,
            printed: raw.flag(11)?,
            late: order.is_late(table, number),
            not_null,
            raw,
        };
        columns.entry(table).or_default().push(column);
    }
    for list in columns.values_mut() {
        list.sort_by_key(|c| c.number);
    }
    Ok(columns)
}

/// Columns that come after CREATE TABLE; `numbers` are positions in the list of additions.
pub(super) async fn late_columns(context: &Context<'_>, numbers: &[u32]) -> Result<Rendered> {
    let order = &context.graph.column_order;
    let chosen: Vec<_> = numbers
        .iter()
        .filter_map(|&n| Some((n, order.additions.get(usize::try_from(n).ok()?)?)))
        .collect();
    let mut oids: Vec<u32> = chosen
        .iter()
        .flat_map(|(_, a)| a.completes.iter().copied().chain([a.table]))
        .collect();
    oids.sort_unstable();
    oids.dedup();
    let columns = columns(context, &oids).await?;
    let mut toast = toast_options(context, &oids).await?;
    let mut rendered = Rendered::new();
    for (number, addition) in chosen {
        let mut sql = String::new();
        let all = columns.get(&addition.table).map(Vec::as_slice).unwrap_or_default();
        if let (Some(table), Some(column)) = (
            relation(context, addition.table),
            all.iter().find(|c| c.number == addition.column),
        ) {
            let (kind, rest) = column_definition(context, column, false)?;
            sql.push_str(&format!(
                "ALTER TABLE {table} ADD COLUMN {} {kind}{rest};\n",
                quote_ident(&column.name)
            ));
        }
        for &oid in &addition.completes {
            let Some(table) = relation(context, oid) else { continue };
            for column in columns.get(&oid).into_iter().flatten().filter(|c| c.late) {
                column_settings(context, &mut sql, &format!("TABLE ONLY {table}"), column)?;
                column_comments(&mut sql, &table, column)?;
            }
            let options = options::of_toast(context, toast.remove(&oid).unwrap_or_default(), &table);
            if !options.is_empty() {
                sql.push_str(&format!("ALTER TABLE ONLY {table} SET ({options});\n"));
            }
        }
        rendered.insert(number, sql);
    }
    Ok(rendered)
}

/// Reads the options of the TOAST tables of these tables.
async fn toast_options(context: &Context<'_>, oids: &[u32]) -> Result<HashMap<u32, Vec<String>>> {
    let sql = "SELECT c.oid, t.reloptions FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
               WHERE c.oid = ANY($1::oid[]) AND t.reloptions IS NOT NULL";
    let rows = query(context.client, "options of TOAST tables", sql, &[&oids]).await?;
    rows.iter().map(|row| Ok((row.oid(0)?, row.list(1)?))).collect()
}

struct Check {
    name: String,
    definition: String,
    comment: Option<String>,
}

/// Reads the CHECKs that are printed within their table.
async fn checks(context: &Context<'_>, oids: &[u32]) -> Result<HashMap<u32, Vec<Check>>> {
    let sql = "SELECT k.conrelid, k.oid, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = k.oid AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND ds.objsubid = 0) \
               FROM pg_catalog.pg_constraint k WHERE k.conrelid = ANY($1::oid[]) AND k.contype = 'c' ORDER BY k.conrelid, k.conname";
    let mut checks: HashMap<u32, Vec<Check>> = HashMap::new();
    for row in query(context.client, "CHECK constraints", sql, &[&oids]).await? {
        if context.graph.is_inline(class::CONSTRAINT, row.oid(1)?) {
            let check = Check {
                name: row.text(2)?,
                definition: row.text(3)?,
                comment: row.opt(4)?,
            };
            checks.entry(row.oid(0)?).or_default().push(check);
        }
    }
    Ok(checks)
}

pub(super) async fn attachments(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT c.oid, i.inhparent, pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "partitions", sql, &[&oids]).await? {
        if let (Some(child), Some(parent)) = (relation(context, row.oid(0)?), relation(context, row.oid(1)?)) {
            rendered.insert(
                row.oid(0)?,
                format!("ALTER TABLE ONLY {parent} ATTACH PARTITION {child} {};\n", row.text(2)?),
            );
        }
    }
    Ok(rendered)
}

/// Column defaults that could not be printed within their table, and all defaults of views.
pub(super) async fn defaults(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT d.oid, d.adrelid, a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid), c.relkind::text \
               FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
               JOIN pg_catalog.pg_class c ON c.oid = d.adrelid WHERE d.oid = ANY($1::oid[]) AND a.attgenerated = ''";
    let mut rendered = Rendered::new();
    for row in query(context.client, "column defaults", sql, &[&oids]).await? {
        let Some(table) = relation(context, row.oid(1)?) else {
            continue;
        };
        let what = match row.text(4)?.as_str() {
            "v" => "VIEW",
            "f" => "FOREIGN TABLE ONLY",
            _ => "TABLE ONLY",
        };
        let sql = format!(
            "ALTER {what} {table} ALTER COLUMN {} SET DEFAULT {};\n",
            quote_ident(&row.text(2)?),
            row.text(3)?
        );
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) fn row_security(context: &Context<'_>, oids: &[u32]) -> Rendered {
    let enable = |oid: &u32| {
        Some((
            *oid,
            format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY;\n", relation(context, *oid)?),
        ))
    };
    oids.iter().filter_map(enable).collect()
}
