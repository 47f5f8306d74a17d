//! Which items of a backup belong to which table: the table of contents names objects, the statements say whose they are.

use std::collections::HashMap;

use crate::base::error::Result;
use crate::engines::postgres::sql::rewrite::relation_of;
use crate::engines::postgres::stored::streams::TocEntry;
use crate::engines::postgres::stored::text::Contents;

/// Schema and name of a relation.
pub(crate) type Name = (String, String);

/// Kinds of items that belong to a relation, beside the relation itself.
const PARTS: [&str; 17] = [
    "TABLE COLUMNS",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "NOT NULL CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "STATISTICS",
    "TRIGGER",
    "TRIGGER STATE",
    "RULE",
    "ROW SECURITY",
    "POLICY",
    "ACL",
    "COMMENT",
    "SEQUENCE",
    "PUBLICATION TABLE",
];

/// Returns whether an item makes a table or a foreign table.
pub(crate) fn makes_table(line: &TocEntry) -> bool {
    matches!(line.item.kind.as_str(), "TABLE" | "FOREIGN TABLE")
}

/// Returns schema and name of an item's object.
pub(crate) fn name_of(line: &TocEntry) -> Name {
    (line.item.schema.clone().unwrap_or_default(), line.item.name.clone())
}

/// Whose items are whose.
#[derive(Debug, Default)]
pub(crate) struct Ownership<'a> {
    /// What makes each table and foreign table.
    pub(crate) tables: HashMap<Name, &'a TocEntry>,
    /// What belongs to each relation; an owned sequence belongs to its table.
    parts: HashMap<Name, Vec<&'a TocEntry>>,
    /// By an item's number, the relation that it is a part of.
    wholes: HashMap<u32, Name>,
    /// By partition, its attachment and the table it is attached to.
    attached: HashMap<Name, (&'a TocEntry, Name)>,
    partitions: HashMap<Name, Vec<Name>>,
    /// Tables that foreign keys refer to, by the keys' numbers.
    referenced: HashMap<u32, Name>,
}

impl<'a> Ownership<'a> {
    /// Reads the statements of what comes before and after the data.
    pub(crate) async fn read(contents: &Contents, lines: &[&'a TocEntry]) -> Result<Self> {
        let mut own = Self::default();
        let mut texts = contents.texts();
        for &line in lines {
            let kind = line.item.kind.as_str();
            if makes_table(line) {
                own.tables.insert(name_of(line), line);
            } else if kind == "TABLE ATTACH" {
                let Some(parent) = relation_of(kind, &texts.get(line).await?) else {
                    continue;
                };
                let child = name_of(line);
                own.partitions.entry(parent.clone()).or_default().push(child.clone());
                own.attached.insert(child, (line, parent));
            } else if PARTS.contains(&kind) {
                let sql = texts.get(line).await?;
                let whole = match kind {
                    "SEQUENCE" => owner_of_sequence(&sql),
                    // The body of a view that was made as a placeholder bears the view's name.
                    "RULE" => relation_of(kind, &sql).or_else(|| Some(name_of(line))),
                    "ACL" => relation_of("RELATION ACL", &sql),
                    kind => relation_of(kind, &sql),
                };
                if kind == "FK CONSTRAINT"
                    && let Some(table) = relation_of("REFERENCES", &sql)
                {
                    own.referenced.insert(line.item.id, table);
                }
                if let Some(whole) = whole {
                    own.wholes.insert(line.item.id, whole.clone());
                    own.parts.entry(whole).or_default().push(line);
                }
            }
        }
        Ok(own)
    }

    /// Returns what belongs to a relation.
    pub(crate) fn parts(&self, relation: &Name) -> &[&'a TocEntry] {
        self.parts.get(relation).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the relation that an item is a part of.
    pub(crate) fn whole(&self, line: &TocEntry) -> Option<&Name> {
        self.wholes.get(&line.item.id)
    }

    /// Returns the partitions that stand directly below a table.
    pub(crate) fn partitions(&self, table: &Name) -> &[Name] {
        self.partitions.get(table).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns a partition's attachment and the table it is attached to.
    pub(crate) fn attachment(&self, partition: &Name) -> Option<(&'a TocEntry, &Name)> {
        self.attached.get(partition).map(|(line, parent)| (*line, parent))
    }

    /// Returns the table that a foreign key refers to.
    pub(crate) fn referenced(&self, line: &TocEntry) -> Option<&Name> {
        self.referenced.get(&line.item.id)
    }

    /// Adds to the names all partitions below them, at every level.
    pub(crate) fn with_partitions(&self, mut names: Vec<Name>) -> Vec<Name> {
        let mut seen: std::collections::HashSet<Name> = names.iter().cloned().collect();
        let mut next = 0;
        while let Some(name) = names.get(next).cloned() {
            next += 1;
            let below = self.partitions(&name).iter().filter(|p| seen.insert((*p).clone()));
            names.extend(below.cloned().collect::<Vec<_>>());
        }
        names
    }
}

/// Returns the table whose column owns a sequence.
fn owner_of_sequence(sql: &str) -> Option<Name> {
    if sql.starts_with("ALTER TABLE ") {
        return relation_of("SEQUENCE", sql);
    }
    let (_, rest) = sql.rsplit_once(" OWNED BY ")?;
    relation_of("SEQUENCE", rest)
}
