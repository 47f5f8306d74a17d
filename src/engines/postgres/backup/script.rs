//! `restore.sql`: how psql alone brings the database back from the extracted archive.
//!
//! It names members one by one and runs no program. Names of objects never stand in comments. A psql command ends at
//! the line's end, so a name with a line break is replaced for the time of its load by renaming.

use std::fmt::Write as _;

use crate::engines::postgres::schema::DataTable;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::{Context, Session};
use crate::engines::postgres::sql::GLOBALS;
use crate::engines::postgres::sql::quote::{qualified, quote_ident};
use crate::engines::postgres::stored::copy_table::CopyTable;
use crate::engines::postgres::stored::large_objects;
use crate::engines::postgres::stored::streams::{LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES};
use crate::engines::postgres::stored::table_stream::{PartResult, TextResult};
use crate::engines::postgres::wire::binary_copy::CopyFormat;

/// Returns the text of `restore.sql`. There are `join_scripts` scripts `restore/join-0000.sh` and following, and
/// `data_scripts` scripts `restore/0000.sql` and following; `objects` loads large objects.
pub(crate) fn main_script(
    sql: &[TextResult],
    join_scripts: u32,
    data_scripts: u32,
    objects: Option<&str>,
    context: &Context,
) -> String {
    let globals = sql.iter().find(|s| s.name == GLOBALS);
    let mut text = format!(
        "-- Restores this database with psql only. Create an empty database, then, in the extracted directory:\n\
         --   psql -X -d DATABASE -f restore.sql\n\
         -- Roles and settings of the whole server are in {}/ and are not restored by this script.\n",
        globals.map_or(GLOBALS, |s| s.prefix.as_str())
    );
    if join_scripts > 0 {
        text.push_str(
            "-- Some data is in several members that psql needs as one file. Join them first, in this directory:\n\
             --   for script in restore/join-*.sh; do sh \"$script\"; done\n",
        );
    }
    text.push_str("\\set ON_ERROR_STOP on\n");
    text.push_str(&settings::sql(Session::Writing, context));
    let found = settings::context_sql(context);
    if !found.is_empty() {
        text.push_str(
            "-- Settings that expressions relied on at the source; errors here are ignored.\n\\set \
                       ON_ERROR_STOP off\n",
        );
        text.extend(found);
        text.push_str("\\set ON_ERROR_STOP on\n");
    }
    include_stream(&mut text, sql, PRE_DATA);
    for number in 0..data_scripts {
        let _ = writeln!(text, "\\ir restore/{number:04}.sql");
    }
    if let Some(objects) = objects {
        include_stream(&mut text, sql, LARGE_OBJECTS);
        text.push_str(objects);
    }
    include_stream(&mut text, sql, SEQUENCES);
    include_stream(&mut text, sql, POST_DATA);
    text.push_str("ANALYZE;\n");
    text
}

fn include_stream(text: &mut String, streams: &[TextResult], name: &str) {
    let Some(stream) = streams.iter().find(|s| s.name == name && name != GLOBALS) else {
        return;
    };
    for file in files(&stream.prefix, stream.chunks, &stream.joined) {
        let _ = writeln!(text, "\\ir {file}");
    }
}

/// Returns the files of a stream; a run of chunks that belong together is one joined file.
fn files(prefix: &str, chunks: u32, joined: &[(u32, u32)]) -> Vec<String> {
    let mut names = Vec::new();
    let mut number = 0;
    while number < chunks {
        if let Some(&(_, last)) = joined.iter().find(|(first, _)| *first == number) {
            names.push(format!("{prefix}/{number:08}.joined"));
            number = last + 1;
        } else {
            names.push(format!("{prefix}/{number:08}"));
            number += 1;
        }
    }
    names
}

/// Returns the commands that join a stream's runs. Prefixes hold only letters, digits, `.`, `_`, `-` and `/`.
pub(crate) fn joins(prefix: &str, joined: &[(u32, u32)]) -> String {
    let command = |&(first, last): &(u32, u32)| {
        let members: Vec<String> = (first..=last).map(|n| format!("{prefix}/{n:08}")).collect();
        format!("cat {} > {prefix}/{first:08}.joined\n", members.join(" "))
    };
    joined.iter().map(command).collect()
}

/// Returns the commands that join the members of a table as far as psql needs it: rows larger than a chunk in text
/// format; everything in binary format, where only the table's first member has COPY's header and its last the trailer.
pub(crate) fn table_joins(table: &CopyTable, parts: &[PartResult]) -> String {
    if table.format == CopyFormat::Text {
        return parts.iter().map(|p| joins(&p.prefix, &p.joined)).collect();
    }
    if alone(parts) {
        return String::new();
    }
    let target = format!("{}.joined", table.stream_name());
    // A directory holds one attempt at one part and nothing else.
    let command = |(at, part): (usize, &PartResult)| {
        let into = if at == 0 { ">" } else { ">>" };
        format!("for f in {}/*; do cat \"$f\"; done {into} {target}\n", part.prefix)
    };
    let parts = parts.iter().filter(|p| p.chunks > 0).enumerate();
    parts.map(command).collect()
}

/// Returns whether one member holds all rows.
fn alone(parts: &[PartResult]) -> bool {
    parts.iter().map(|p| p.chunks).sum::<u32>() <= 1
}

/// Returns the files that psql loads one after another.
fn data_files(table: &CopyTable, parts: &[PartResult]) -> Vec<String> {
    if table.format == CopyFormat::Binary && !alone(parts) {
        return vec![format!("{}.joined", table.stream_name())];
    }
    parts
        .iter()
        .flat_map(|p| files(&p.prefix, p.chunks, &p.joined))
        .collect()
}

/// Returns the lines that fill large objects that exist.
pub(crate) fn large_object_lines(table: &CopyTable, parts: &[PartResult]) -> String {
    let mut text = large_objects::staging_sql();
    for file in data_files(table, parts) {
        let options = table.format.options(&[]).to_lowercase();
        let _ = writeln!(text, "\\copy {} from '{file}'{options}", large_objects::STAGING);
    }
    text.push_str(&large_objects::unstaging_sql());
    text
}

/// Returns the lines that load one table.
pub(crate) fn table_lines(copied: &CopyTable, parts: &[PartResult]) -> String {
    let table = &copied.table;
    let mut text = String::new();
    let breaks = |name: &str| name.contains(['\n', '\r']);
    let safe_name = if breaks(&table.name) {
        format!("wirevault load {}", table.number)
    } else {
        table.name.clone()
    };
    let safe_schema = if breaks(&table.schema) {
        format!("wirevault load schema {}", table.number)
    } else {
        table.schema.clone()
    };
    let renames = rename_lines(table, &safe_schema, &safe_name, &breaks);
    text.extend(renames.iter().map(|(to, _)| to.as_str()));
    let columns: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, c)| quote_ident(&safe_column(at, c, &breaks)))
        .collect();
    let list = if columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", columns.join(", "))
    };
    let name = match &table.root {
        Some((schema, name)) if !breaks(schema) && !breaks(name) => qualified(schema, name),
        _ => qualified(&safe_schema, &safe_name),
    };
    let options = copied.format.options(&[]).to_lowercase();
    for file in data_files(copied, parts) {
        let _ = writeln!(text, "\\copy {name}{list} from '{file}'{options}");
    }
    text.extend(renames.iter().rev().map(|(_, back)| back.as_str()));
    text
}

fn safe_column(at: usize, column: &str, breaks: &dyn Fn(&str) -> bool) -> String {
    if breaks(column) {
        format!("wirevault load column {at}")
    } else {
        column.to_owned()
    }
}

/// Returns pairs of statements: rename for loading, rename back.
fn rename_lines(table: &DataTable, schema: &str, name: &str, breaks: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut pair = |what: &str, from: &str, to: &str, place: &dyn Fn(&str) -> String| {
        let statement = |a: &str, b: &str| format!("ALTER {what} {} RENAME TO {};\n", place(a), quote_ident(b));
        pairs.push((statement(from, to), statement(to, from)));
    };
    if schema != table.schema {
        pair("SCHEMA", &table.schema, schema, &|n| quote_ident(n));
    }
    if name != table.name {
        pair("TABLE", &table.name, name, &|n| qualified(schema, n));
    }
    for (at, column) in table.columns.iter().enumerate().filter(|(_, c)| breaks(c)) {
        let safe = safe_column(at, column, breaks);
        let statement = |a: &str, b: &str| {
            format!(
                "ALTER TABLE {} RENAME COLUMN {} TO {};\n",
                qualified(schema, name),
                quote_ident(a),
                quote_ident(b)
            )
        };
        pairs.push((statement(column, &safe), statement(&safe, column)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::wire::row_digest::RowDigest;

    #[test]
    fn names_with_line_breaks_are_renamed_for_the_load_only() {
        let table = DataTable {
            number: 7,
            oid: 1,
            schema: "a\"b".into(),
            name: "x\n\\! rm".into(),
            columns: vec!["id".into(), "c\n".into()],
            pages: 0,
            bytes: 0,
            empty: false,
            ctid_ranges: true,
            root: None,
            filter: None,
        };
        let part = PartResult {
            prefix: "tables/00007.x".into(),
            chunks: 4,
            bytes: 1,
            digest: RowDigest::default(),
            joined: vec![(1, 2)],
        };
        let copied = CopyTable::of_table(table.clone(), CopyFormat::Text);
        let text = table_lines(&copied, std::slice::from_ref(&part));
        let copies: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with('\\') && l.contains("from"))
            .collect();
        assert_eq!(copies.len(), 3, "{text}");
        assert!(copies.iter().all(|l| l.starts_with(
            "\\copy \"a\"\"b\".\"wirevault load 7\" (\"id\", \"wirevault load column 1\") from 'tables/"
        )));
        assert!(text.contains("00000001.joined"));
        let join = "cat tables/00007.x/00000001 tables/00007.x/00000002 > tables/00007.x/00000001.joined\n";
        assert_eq!(table_joins(&copied, std::slice::from_ref(&part)), join);

        // In binary format the members of a table are one COPY file together.
        let binary = CopyTable::of_table(table, CopyFormat::Binary);
        let (first, second) = (part.clone(), part);
        assert_eq!(table_joins(&binary, &[first, second]).lines().count(), 2);
    }
}
