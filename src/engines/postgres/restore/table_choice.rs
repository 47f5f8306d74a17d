//! Chooses single tables out of a backup: each with its partitions and all that belongs to it, and what it needs.
//!
//! The closure goes along `depends_on` of the table of contents. A table that something needs comes whole, with its rows; of a
//! partition's parent only the definition comes, for its other partitions were not asked for.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ownership::{Name, Ownership, makes_table, name_of};
use super::selection::{Chosen, Needs, Patterns, Selection};
use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::postgres::stored::streams::{POST_DATA, TocEntry};
use crate::engines::postgres::stored::text::Contents;

/// What is left out when a table comes back beside the living one.
const NOT_BESIDE: [&str; 7] = [
    "FK CONSTRAINT",
    "TRIGGER",
    "TRIGGER STATE",
    "RULE",
    "ROW SECURITY",
    "POLICY",
    "ACL",
];

/// Leaves the chosen tables, and what they need.
pub(crate) async fn only_tables(
    selection: &Selection,
    beside: bool,
    needs: Needs,
    contents: &Contents,
    chosen: &mut Chosen<'_>,
) -> Result<()> {
    let lines: Vec<&TocEntry> = chosen.pre_data.iter().chain(&chosen.post_data).copied().collect();
    let own = Ownership::read(contents, &lines).await?;
    let asked = matching(selection, &own, chosen)?;
    let mut picker = Picker::new(&own, &lines, needs, beside);
    for name in asked {
        picker.add_table(&name, true);
    }
    picker.asked = false;
    picker.follow();
    picker.settle(chosen);
    Ok(())
}

/// Leaves what lies in the chosen schemas, partitions of their tables that lie elsewhere, and, if asked, what all that needs.
pub(crate) async fn only_schemas(
    selection: &Selection,
    needs: Needs,
    contents: &Contents,
    chosen: &mut Chosen<'_>,
) -> Result<()> {
    let wanted = |schema: &str| selection.schemas.iter().any(|s| s == schema);
    for schema in &selection.schemas {
        let known = chosen
            .pre_data
            .iter()
            .any(|l| l.item.schema.as_deref() == Some(schema) || (l.item.kind == "SCHEMA" && &l.item.name == schema));
        if !known {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the backup has no schema \"{schema}\""),
            ));
        }
    }
    let lines: Vec<&TocEntry> = chosen.pre_data.iter().chain(&chosen.post_data).copied().collect();
    let own = Ownership::read(contents, &lines).await?;
    let mut picker = Picker::new(&own, &lines, needs, false);
    let mut texts = contents.texts();
    for &line in &lines {
        let inside = match (&line.item.schema, line.item.kind.as_str()) {
            (Some(schema), _) => wanted(schema),
            (None, "SCHEMA") => wanted(&line.item.name),
            (None, "PUBLICATION TABLE") => false,
            (None, "ACL") if wanted(&line.item.name) => texts.get(line).await?.contains(" ON SCHEMA "),
            (None, _) => own.whole(line).is_some_and(|(schema, _)| wanted(schema)),
        };
        if inside {
            picker.take(line);
        }
    }
    let inside = own.tables.keys().filter(|(schema, _)| wanted(schema)).cloned();
    let inside: Vec<Name> = inside.collect();
    let configuration = chosen.tables.iter().filter(|t| t.filter.is_some() && wanted(&t.schema));
    picker
        .relations
        .extend(configuration.map(|t| (t.schema.clone(), t.name.clone())));
    picker.relations.extend(inside.iter().cloned());
    for name in own.with_partitions(inside) {
        picker.add_table(&name, true);
    }
    picker.sequences = chosen
        .sequences
        .iter()
        .map(|l| name_of(l))
        .filter(|(schema, _)| wanted(schema))
        .collect();
    picker.asked = false;
    picker.follow();
    picker.settle(chosen);
    Ok(())
}

/// Returns the tables that the patterns name.
fn matching(selection: &Selection, own: &Ownership<'_>, chosen: &Chosen<'_>) -> Result<BTreeSet<Name>> {
    let wanted = Patterns::new(&selection.tables)?;
    let mut matched = HashSet::new();
    let mut asked = BTreeSet::new();
    // An extension makes its configuration tables itself; their rows can be chosen all the same.
    let configuration = chosen.tables.iter().filter(|t| t.filter.is_some());
    let configuration = configuration.map(|t| (t.schema.clone(), t.name.clone()));
    for name in own.tables.keys().cloned().chain(configuration) {
        if let Some(pattern) = wanted.matching(&name.0, &name.1) {
            matched.insert(pattern);
            asked.insert(name);
        }
    }
    for (at, text) in wanted.texts().enumerate() {
        if !matched.contains(&at) {
            let name = |(schema, name): &Name| {
                if text.contains('.') {
                    format!("{schema}.{name}")
                } else {
                    name.clone()
                }
            };
            let names: Vec<String> = own.tables.keys().map(name).collect();
            let error = Error::new(
                ErrorKind::NotFound,
                format!("no table of the backup matches \"{text}\""),
            );
            return Err(
                match crate::base::nearest::nearest(text, names.iter().map(String::as_str)) {
                    Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
                    None => error,
                },
            );
        }
    }
    Ok(asked)
}

/// Gathers items.
struct Picker<'a, 'o> {
    own: &'o Ownership<'a>,
    by_id: HashMap<u32, &'a TocEntry>,
    needs: Needs,
    beside: bool,
    /// Whether what is added now was asked for.
    asked: bool,
    relations: HashSet<Name>,
    /// Those whose partitions come too.
    whole: HashSet<Name>,
    kept: HashSet<u32>,
    needed: HashMap<u32, Option<Name>>,
    open: Vec<&'a TocEntry>,
    /// Sequences that come whether or not their making does.
    sequences: HashSet<Name>,
}

impl<'a, 'o> Picker<'a, 'o> {
    fn new(own: &'o Ownership<'a>, lines: &[&'a TocEntry], needs: Needs, beside: bool) -> Self {
        Self {
            own,
            by_id: lines.iter().map(|&l| (l.item.id, l)).collect(),
            needs,
            beside,
            asked: true,
            relations: HashSet::new(),
            whole: HashSet::new(),
            kept: HashSet::new(),
            needed: HashMap::new(),
            open: Vec::new(),
            sequences: HashSet::new(),
        }
    }

    fn take(&mut self, line: &'a TocEntry) {
        self.take_part(line, None);
    }

    fn take_part(&mut self, line: &'a TocEntry, of: Option<&Name>) {
        if self.beside && NOT_BESIDE.contains(&line.item.kind.as_str()) {
            return;
        }
        if self.kept.insert(line.item.id) {
            if !self.asked {
                self.needed.insert(line.item.id, of.cloned());
            }
            self.open.push(line);
        }
    }

    fn add_table(&mut self, name: &Name, with_partitions: bool) {
        let mut names = vec![name.clone()];
        if with_partitions {
            names = self.own.with_partitions(names);
            self.whole.extend(names.iter().cloned());
        }
        for name in names {
            if !self.relations.insert(name.clone()) {
                continue;
            }
            if let Some(&line) = self.own.tables.get(&name) {
                self.take_part(line, Some(&name));
            }
            self.take_parts(&name);
        }
    }

    /// Takes what belongs to a relation, and the rights to its sequences.
    fn take_parts(&mut self, name: &Name) {
        let own = self.own;
        for &part in own.parts(name) {
            if part.item.kind == "PUBLICATION TABLE" {
                continue;
            }
            self.take_part(part, Some(name));
            if part.item.kind == "SEQUENCE" {
                for &right in own.parts(&name_of(part)) {
                    self.take_part(right, Some(name));
                }
            }
        }
    }

    /// Takes what the items need, until nothing is missing.
    fn follow(&mut self) {
        if self.needs == Needs::Nothing {
            return;
        }
        let own = self.own;
        while let Some(line) = self.open.pop() {
            let all = self.needs == Needs::Everything;
            if line.stream == POST_DATA && !all {
                continue;
            }
            if all {
                if let Some(table) = own.referenced(line) {
                    self.add_table(table, true);
                }
                if let Some((_, parent)) = own.attachment(&name_of(line)).filter(|_| makes_table(line)) {
                    self.add_table(parent, false);
                }
            }
            for id in &line.item.depends_on {
                if let Some(&need) = self.by_id.get(id).filter(|_| !self.kept.contains(id)) {
                    self.take_need(need);
                }
            }
        }
    }

    fn take_need(&mut self, need: &'a TocEntry) {
        let own = self.own;
        let kind = need.item.kind.as_str();
        if makes_table(need) {
            self.add_table(&name_of(need), true);
        } else if matches!(kind, "TABLE ATTACH" | "INDEX ATTACH") {
            // They come with the tables that they join.
        } else if let Some(whole) = own.whole(need).filter(|w| own.tables.contains_key(*w)) {
            self.add_table(&whole.clone(), true);
        } else {
            let name = name_of(need);
            let relation = matches!(kind, "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE");
            self.take_part(need, relation.then_some(&name));
            if relation {
                self.take_parts(&name);
            }
        }
    }

    /// Leaves in `chosen` what was gathered.
    fn settle(self, chosen: &mut Chosen<'a>) {
        let kept = |l: &TocEntry| self.kept.contains(&l.item.id);
        let is_joined = |l: &TocEntry| {
            let ends = l.item.depends_on.iter().filter_map(|id| self.by_id.get(id));
            let mut ends = ends.filter(|e| matches!(e.item.kind.as_str(), "INDEX" | "CONSTRAINT"));
            l.item.kind == "INDEX ATTACH" && ends.clone().next().is_some() && ends.all(|e| kept(e))
        };
        // Rights to what is needed: the items of tables are known by their statements. Rights also come after those to their
        // schema, which says nothing of what they are rights to.
        let is_right = |l: &TocEntry| {
            let rights = |id: &u32| self.by_id.get(id).is_some_and(|l| l.item.kind == "ACL");
            let of_needed = |id: &u32| self.needed.get(id).is_some_and(Option::is_none) && !rights(id);
            l.item.kind == "ACL" && !self.beside && l.item.depends_on.iter().any(of_needed)
        };
        let mut attach = Vec::new();
        chosen.pre_data.retain(|&l| {
            if l.item.kind != "TABLE ATTACH" {
                return kept(l);
            }
            let Some((_, parent)) = self.own.attachment(&name_of(l)) else {
                return kept(l);
            };
            let child = self.relations.contains(&name_of(l));
            let both = child && self.relations.contains(parent);
            if child && !both {
                attach.push((l, parent.clone()));
            }
            both
        });
        chosen.attach = attach;
        let published = |l: &TocEntry| {
            let table = self.own.whole(l).filter(|_| l.item.kind == "PUBLICATION TABLE");
            table.is_some_and(|t| self.relations.contains(t)) && !self.beside
        };
        chosen.publications = chosen
            .post_data
            .iter()
            .copied()
            .filter(|&l| published(l) && !kept(l))
            .collect();
        chosen.post_data.retain(|&l| kept(l) || is_joined(l) || is_right(l));
        let made = chosen.pre_data.iter().filter(|l| l.item.kind == "SEQUENCE");
        let mut sequences: HashSet<Name> = made.map(|l| name_of(l)).collect();
        sequences.extend(self.sequences);
        chosen.sequences.retain(|&l| sequences.contains(&name_of(l)));
        chosen.large_objects.clear();
        chosen
            .tables
            .retain(|t| t.pieces.is_none() && self.relations.contains(&(t.schema.clone(), t.name.clone())));
        for table in &mut chosen.tables {
            // Rows go through the topmost table only if every partition is there to take them.
            table.root = table.root.take().filter(|root| self.whole.contains(root));
        }
        let mut relations: BTreeSet<Name> = self.relations.iter().cloned().collect();
        let owned = |l: &&&TocEntry| l.item.kind == "SEQUENCE" && self.own.whole(l).is_some();
        relations.extend(chosen.pre_data.iter().filter(owned).map(|l| name_of(l)));
        chosen.relations = relations.into_iter().collect();
        chosen.needed = self.needed;
    }
}
