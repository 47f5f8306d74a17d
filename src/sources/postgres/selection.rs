//! Which part of a backup a restore brings back: tables, schemas, definitions, rows.

use std::collections::HashSet;

use globset::{GlobBuilder, GlobMatcher};

use super::load::TableData;
use super::sql_rewrite::relation_of;
use super::sql_streams::{LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES, STATISTICS, TocLine};
use super::sql_text::Contents;
use crate::error::{Error, ErrorKind, Result};

/// What is wanted. Patterns are names of tables, `schema.table` or `table`, in which `*` and `?` stand for any letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these tables, with what belongs to them.
    pub tables: Vec<String>,
    /// Only these schemas.
    pub schemas: Vec<String>,
    /// Definitions, but not the rows, of these tables.
    pub exclude_table_data: Vec<String>,
    /// No rows at all.
    pub schema_only: bool,
    /// Only rows and sequence values.
    pub data_only: bool,
}

impl Selection {
    /// Returns whether everything is wanted.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether only some objects are wanted: such a restore never replaces a whole database.
    pub fn is_partial(&self) -> bool {
        !self.tables.is_empty() || !self.schemas.is_empty() || self.data_only
    }
}

/// Items that come with a table that is restored alone.
const WITH_TABLE: [&str; 16] = [
    "TABLE",
    "TABLE COLUMNS",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "NOT NULL CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "STATISTICS",
    "TRIGGER",
    "RULE",
    "ROW SECURITY",
    "POLICY",
    "ACL",
    "COMMENT",
    "SEQUENCE",
];

/// What is left out of [`WITH_TABLE`] when a table comes back beside the living one.
const NOT_BESIDE: [&str; 6] = ["FK CONSTRAINT", "TRIGGER", "RULE", "ROW SECURITY", "POLICY", "ACL"];

/// The chosen part of a backup.
#[derive(Debug, Default)]
pub(super) struct Chosen<'a> {
    pub(super) pre_data: Vec<&'a TocLine>,
    pub(super) large_objects: Vec<&'a TocLine>,
    pub(super) tables: Vec<TableData>,
    pub(super) sequences: Vec<&'a TocLine>,
    pub(super) post_data: Vec<&'a TocLine>,
    /// Planner statistics of the chosen tables.
    pub(super) statistics: Vec<&'a TocLine>,
    /// Chosen tables and their sequences: schema and name.
    pub(super) relations: Vec<(String, String)>,
}

struct Patterns(Vec<(String, GlobMatcher)>);

impl Patterns {
    fn new(patterns: &[String]) -> Result<Self> {
        let compile = |text: &String| {
            let glob = GlobBuilder::new(text).literal_separator(false).build();
            let glob = glob.map_err(|e| Error::invalid(format!("invalid pattern \"{text}\"")).with_cause(e))?;
            Ok((text.clone(), glob.compile_matcher()))
        };
        patterns.iter().map(compile).collect::<Result<_>>().map(Self)
    }

    fn matching(&self, schema: &str, name: &str) -> Option<usize> {
        let full = format!("{schema}.{name}");
        self.0
            .iter()
            .position(|(text, glob)| text == &full || text == name || glob.is_match(&full) || glob.is_match(name))
    }
}

/// Chooses. Reads the SQL of items only if single tables or schemas are wanted.
pub(super) async fn choose<'a>(
    selection: &Selection,
    beside: bool,
    contents: &Contents,
    toc: &'a [TocLine],
    tables: Vec<TableData>,
) -> Result<Chosen<'a>> {
    let of = |stream: &str| toc.iter().filter(|l| l.stream == stream).collect::<Vec<_>>();
    let mut chosen = Chosen {
        pre_data: of(PRE_DATA),
        large_objects: of(LARGE_OBJECTS),
        sequences: of(SEQUENCES),
        post_data: of(POST_DATA),
        statistics: of(STATISTICS),
        tables,
        relations: Vec::new(),
    };
    if !selection.tables.is_empty() {
        only_tables(selection, beside, contents, &mut chosen).await?;
    } else if !selection.schemas.is_empty() {
        only_schemas(selection, contents, &mut chosen).await?;
    }
    let excluded = Patterns::new(&selection.exclude_table_data)?;
    chosen
        .tables
        .retain(|t| t.pieces.is_some() || excluded.matching(&t.schema, &t.name).is_none());
    if !selection.data_only {
        // Without its root a partition comes back as a table of its own.
        let made: HashSet<(&str, &str)> = chosen
            .pre_data
            .iter()
            .filter(|l| l.item.kind == "TABLE")
            .map(|l| (l.item.schema.as_deref().unwrap_or_default(), l.item.name.as_str()))
            .collect();
        let is_made = |root: &(String, String)| made.contains(&(root.0.as_str(), root.1.as_str()));
        for table in &mut chosen.tables {
            table.root = table.root.take().filter(is_made);
        }
    }
    if selection.schema_only {
        chosen.tables.clear();
        chosen.large_objects.clear();
        chosen.sequences.clear();
        chosen.post_data.retain(|l| l.item.kind != "LARGE OBJECT ACL");
    }
    if *selection != Selection::default() {
        let filled: HashSet<(&str, &str)> = chosen
            .tables
            .iter()
            .map(|t| (t.schema.as_str(), t.name.as_str()))
            .collect();
        let is_filled = |line: &TocLine| {
            filled.contains(&(line.item.schema.as_deref().unwrap_or_default(), line.item.name.as_str()))
        };
        chosen.statistics.retain(|l| is_filled(l));
    }
    if selection.data_only {
        chosen.pre_data.clear();
        chosen.post_data.retain(|l| l.item.kind == "LARGE OBJECT ACL");
    }
    Ok(chosen)
}

async fn only_tables(selection: &Selection, beside: bool, contents: &Contents, chosen: &mut Chosen<'_>) -> Result<()> {
    let wanted = Patterns::new(&selection.tables)?;
    let mut matched = HashSet::new();
    let mut relations: HashSet<(String, String)> = HashSet::new();
    for line in chosen.pre_data.iter().filter(|l| l.item.kind == "TABLE") {
        let schema = line.item.schema.clone().unwrap_or_default();
        if let Some(pattern) = wanted.matching(&schema, &line.item.name) {
            matched.insert(pattern);
            relations.insert((schema, line.item.name.clone()));
        }
    }
    // An extension makes its configuration tables itself; their rows can be chosen all the same.
    for table in chosen.tables.iter().filter(|t| t.filter.is_some()) {
        if let Some(pattern) = wanted.matching(&table.schema, &table.name) {
            matched.insert(pattern);
            relations.insert((table.schema.clone(), table.name.clone()));
        }
    }
    for (at, (text, _)) in wanted.0.iter().enumerate() {
        if !matched.contains(&at) {
            let tables = chosen.pre_data.iter().filter(|l| l.item.kind == "TABLE");
            let names: Vec<String> = tables
                .map(|l| match (&l.item.schema, text.contains('.')) {
                    (Some(schema), true) => format!("{schema}.{}", l.item.name),
                    _ => l.item.name.clone(),
                })
                .collect();
            let error = Error::new(
                ErrorKind::NotFound,
                format!("no table of the backup matches \"{text}\""),
            );
            return Err(match crate::config::nearest(text, names.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                None => error,
            });
        }
    }
    chosen.relations = relations.iter().cloned().collect();
    chosen.relations.sort();
    // A sequence belongs to a table by the column that owns it.
    let mut texts = contents.texts();
    let mut sequences = HashSet::new();
    let mut kept = Vec::new();
    for line in std::mem::take(&mut chosen.pre_data) {
        let own = line
            .item
            .schema
            .as_ref()
            .map(|s| (s.clone(), line.item.name.clone()))
            .is_some_and(|name| relations.contains(&name));
        let keep = match line.item.kind.as_str() {
            "TABLE" => own,
            "SEQUENCE" => {
                let sql = texts.get(line).await?;
                let of_table = owner_of_sequence(&sql).is_some_and(|table| relations.contains(&table));
                if of_table {
                    let schema = line.item.schema.clone().unwrap_or_default();
                    sequences.insert((schema.clone(), line.item.name.clone()));
                    chosen.relations.push((schema, line.item.name.clone()));
                }
                of_table
            }
            kind if WITH_TABLE.contains(&kind) => {
                relation_of(kind, &texts.get(line).await?).is_some_and(|r| relations.contains(&r))
            }
            _ => false,
        };
        if keep {
            kept.push(line);
        }
    }
    chosen.pre_data = kept;
    let named = |line: &TocLine| (line.item.schema.clone().unwrap_or_default(), line.item.name.clone());
    chosen.sequences.retain(|&l| sequences.contains(&named(l)));
    chosen.large_objects.clear();
    chosen
        .tables
        .retain(|t| t.pieces.is_none() && relations.contains(&(t.schema.clone(), t.name.clone())));
    let mut kept = Vec::new();
    for line in std::mem::take(&mut chosen.post_data) {
        let kind = line.item.kind.as_str();
        if !WITH_TABLE.contains(&kind) || (beside && NOT_BESIDE.contains(&kind)) {
            continue;
        }
        let belongs = relation_of(kind, &texts.get(line).await?)
            .is_some_and(|r| relations.contains(&r) || (kind == "ACL" && sequences.contains(&r)));
        if belongs {
            kept.push(line);
        }
    }
    chosen.post_data = kept;
    Ok(())
}

/// Returns the table whose column owns a sequence.
fn owner_of_sequence(sql: &str) -> Option<(String, String)> {
    if sql.starts_with("ALTER TABLE ") {
        return relation_of("SEQUENCE", sql);
    }
    let (_, rest) = sql.rsplit_once(" OWNED BY ")?;
    relation_of("SEQUENCE", rest)
}

async fn only_schemas(selection: &Selection, contents: &Contents, chosen: &mut Chosen<'_>) -> Result<()> {
    let wanted = |schema: &str| selection.schemas.iter().any(|s| s == schema);
    for schema in &selection.schemas {
        let known = chosen
            .pre_data
            .iter()
            .any(|l| l.item.schema.as_deref() == Some(schema) || (l.item.kind == "SCHEMA" && &l.item.name == schema));
        if !known {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the backup holds nothing of a schema \"{schema}\""),
            ));
        }
    }
    let mut texts = contents.texts();
    for list in [&mut chosen.pre_data, &mut chosen.sequences, &mut chosen.post_data] {
        let mut kept = Vec::new();
        for line in std::mem::take(list) {
            let kind = line.item.kind.as_str();
            let keep = match (&line.item.schema, kind) {
                (Some(schema), _) => wanted(schema),
                (None, "SCHEMA") => wanted(&line.item.name),
                (None, _) if WITH_TABLE.contains(&kind) => {
                    let sql = texts.get(line).await?;
                    let of_schema = kind == "ACL" && wanted(&line.item.name) && sql.contains(" ON SCHEMA ");
                    of_schema || relation_of(kind, &sql).is_some_and(|(schema, _)| wanted(&schema))
                }
                _ => false,
            };
            if keep {
                kept.push(line);
            }
        }
        *list = kept;
    }
    chosen.large_objects.clear();
    chosen.tables.retain(|t| t.pieces.is_none() && wanted(&t.schema));
    Ok(())
}
