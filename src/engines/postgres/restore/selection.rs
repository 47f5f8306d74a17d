//! Which part of a backup a restore brings back: tables, schemas, definitions, rows.

use std::collections::{HashMap, HashSet};

use globset::{GlobBuilder, GlobMatcher};

use crate::base::error::{Error, Result};
use crate::engines::postgres::restore::load::TableData;
use crate::engines::postgres::restore::ownership::{Name, Ownership};
use crate::engines::postgres::restore::table_choice::{only_schemas, only_tables};
use crate::engines::postgres::stored::streams::{LARGE_OBJECTS, POST_DATA, PRE_DATA, SEQUENCES, STATISTICS, TocEntry};
use crate::engines::postgres::stored::text::Contents;

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
    /// What the chosen objects need comes too, where the target lacks it.
    pub with_dependencies: bool,
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

/// What comes beside what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: the target has it.
    Nothing,
    /// What the definitions of tables name: types, functions, sequences, parents, extensions.
    Definitions,
    /// Also what their indexes, keys and triggers name: referenced tables, functions.
    Everything,
}

/// The chosen part of a backup.
#[derive(Debug, Default)]
pub(crate) struct Chosen<'a> {
    pub(crate) pre_data: Vec<&'a TocEntry>,
    pub(crate) large_objects: Vec<&'a TocEntry>,
    pub(crate) tables: Vec<TableData>,
    pub(crate) sequences: Vec<&'a TocEntry>,
    pub(crate) post_data: Vec<&'a TocEntry>,
    /// Planner statistics of the chosen tables.
    pub(crate) statistics: Vec<&'a TocEntry>,
    /// Chosen tables and their sequences: schema and name.
    pub(crate) relations: Vec<Name>,
    /// Attachments of chosen partitions to tables that were not chosen, with those tables.
    pub(crate) attach: Vec<(&'a TocEntry, Name)>,
    /// Places of the chosen tables in publications.
    pub(crate) publications: Vec<&'a TocEntry>,
    /// Items that were not asked for but are needed, with the relation that they belong to.
    pub(crate) needed: HashMap<u32, Option<Name>>,
}

pub(crate) struct Patterns(Vec<(String, GlobMatcher)>);

impl Patterns {
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let compile = |text: &String| {
            let glob = GlobBuilder::new(text).literal_separator(false).build();
            let glob = glob.map_err(|e| Error::invalid(format!("invalid pattern \"{text}\"")).with_cause(e))?;
            Ok((text.clone(), glob.compile_matcher()))
        };
        patterns.iter().map(compile).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn matching(&self, schema: &str, name: &str) -> Option<usize> {
        let full = format!("{schema}.{name}");
        self.0
            .iter()
            .position(|(text, glob)| text == &full || text == name || glob.is_match(&full) || glob.is_match(name))
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(text, _)| text)
    }
}

/// Chooses. Reads the SQL of items only if single tables or schemas are wanted.
pub(crate) async fn choose<'a>(
    selection: &Selection,
    beside: bool,
    needs: Needs,
    contents: &Contents,
    toc: &'a [TocEntry],
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
        ..Chosen::default()
    };
    let excluded = excluded(selection, contents, &chosen).await?;
    if !selection.tables.is_empty() {
        only_tables(selection, beside, needs, contents, &mut chosen).await?;
    } else if !selection.schemas.is_empty() {
        only_schemas(selection, needs, contents, &mut chosen).await?;
    }
    chosen
        .tables
        .retain(|t| t.pieces.is_some() || !excluded.contains(&(t.schema.clone(), t.name.clone())));
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
        let is_filled = |line: &TocEntry| {
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

/// Returns the tables whose rows are left out: those that are named, and the partitions of those.
async fn excluded(selection: &Selection, contents: &Contents, all: &Chosen<'_>) -> Result<HashSet<Name>> {
    let patterns = Patterns::new(&selection.exclude_table_data)?;
    if selection.exclude_table_data.is_empty() {
        return Ok(HashSet::new());
    }
    let own = Ownership::read(contents, &all.pre_data).await?;
    let tables = all.tables.iter().map(|t| (t.schema.clone(), t.name.clone()));
    let names = own.tables.keys().cloned().chain(tables);
    let named = names.filter(|(schema, name)| patterns.matching(schema, name).is_some());
    Ok(own.with_partitions(named.collect()).into_iter().collect())
}
