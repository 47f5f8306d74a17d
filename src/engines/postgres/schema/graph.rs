//! The graph of a database's objects: read in bulk, repaired and ordered, held in memory.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::TryStreamExt;
use tokio_postgres::Client;

use super::catalog::{self, NodeQuery};
use super::node::{Kind, NONE, Node, class, flag, number_of};
use super::rows::{Columns, failed, query};
use super::{DataTable, SchemaOptions, members, order, refresh};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::postgres::sql::guard::judge_condition;
use crate::engines::postgres::sql::quote;
use crate::engines::postgres::sql::template::with_names;

const TRIGGER_ROOTS: &str = include_str!("sql/trigger_roots.sql");
const ATTACHMENTS: &str = include_str!("sql/attachments.sql");
const SPLIT_KEYS: &str = include_str!("sql/keys_of_tables.sql");
const HASHED_PARTITIONS: &str = include_str!("sql/hashed_partitions.sql");
const CONFIGURATION_TABLES: &str = include_str!("sql/configuration_tables.sql");
const FOREIGN_KEYS: &str = include_str!("sql/foreign_keys_between.sql");
const SIZES: &str = include_str!("sql/table_sizes.sql");
const BY_FILE: &str = include_str!("sql/size_by_file.sql");
const BY_CATALOG: &str = include_str!("sql/size_by_catalog.sql");

/// Above so many tables their sizes are estimated.
const MANY_TABLES: usize = 10_000;

/// Size in bytes from which on a table's keys are made in two steps.
const LARGE_TABLE_BYTES: u64 = 32 << 20;

/// Bytes of SQL in one `LOCK TABLE`.
const LOCK_BATCH_BYTES: usize = 100_000;

/// The objects of one database in the order in which they are written.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    /// All names, one after another.
    pub(super) text: String,
    pub(super) schemas: Vec<String>,
    /// (class, oid, node), sorted: what the node is, or is a part of.
    pub(super) lookup: Vec<(u32, u32, u32)>,
    /// (class, oid, node of the extension), sorted: members of extensions and their parts.
    pub(super) owners: Vec<(u32, u32, u32)>,
    /// Parts of extensions' relations that are no work of the extension's script: (class, oid), sorted.
    added_parts: Vec<(u32, u32)>,
    /// (node, node it depends on), sorted, between containers.
    pub(super) edges: Vec<(u32, u32)>,
    /// Nodes in writing order, those before the data first.
    pub(super) order: Vec<u32>,
    pub(super) tables: Vec<DataTable>,
    /// (table oid, lock number), sorted.
    pub(super) lock_numbers: Vec<(u32, u32)>,
    /// (parent node, partition node), sorted.
    pub(super) partitions: Vec<(u32, u32)>,
    pub(super) column_order: super::inherit::ColumnOrder,
    pub(super) notes: Vec<Note>,
    pub(super) options: SchemaOptions,
    pub(super) version: i32,
    /// Constraints whose index is made on its own, before them.
    pub(super) split_keys: HashSet<u32>,
    /// Foreign keys that are made without a check of the rows.
    pub(super) not_valid: HashSet<u32>,
    pub(super) next_item: AtomicU32,
    /// Numbers of the items that were written, by their nodes.
    pub(super) written: std::sync::Mutex<std::collections::HashMap<u32, u32>>,
    /// What was found while the definitions were read.
    pub(super) note_collector: super::note_collector::NoteCollector,
    /// What was written, for [`super::census`].
    pub(super) accounted: std::sync::Mutex<super::census::Written>,
}

impl Graph {
    /// Reads the graph. The connection is in a read-only repeatable-read transaction and has the settings of
    /// [`Session::Reading`](crate::engines::postgres::session::settings::Session).
    pub async fn read(client: &Client, options: &SchemaOptions) -> Result<Self> {
        let mut graph = Self {
            options: options.clone(),
            ..Self::default()
        };
        graph.version = server_version(client).await?;
        graph.added_parts = members::added_parts(client).await?;
        for query in catalog::node_queries(graph.version, reads_subscriptions(client).await?) {
            graph.read_nodes(client, &query).await?;
        }
        graph.lookup.sort_unstable();
        members::read_owners(&mut graph, client).await?;
        graph.read_aliases(client).await?;
        graph.read_dependencies(client).await?;
        graph.read_trigger_roots(client).await?;
        graph.need_casts();
        graph.exclude(client).await?;
        // What is left out need not be readable.
        if !options.no_lock {
            graph.lock_tables(client).await?;
        }
        graph.read_attachments(client).await?;
        graph.read_tables(client).await?;
        graph.split_keys(client).await?;
        graph.add_row_security(client).await?;
        refresh::add_nodes(&mut graph);
        super::inherit::arrange(&mut graph, client).await?;
        order::arrange(&mut graph);
        graph.count_not_covered(client).await?;
        Ok(graph)
    }

    /// Returns the tables whose rows are to be copied, numbered from 1.
    pub fn tables(&self) -> &[DataTable] {
        &self.tables
    }

    /// Returns the OIDs of every table that is in the backup, with rows or without.
    pub fn table_oids(&self) -> impl Iterator<Item = u32> {
        let defined = self
            .nodes
            .iter()
            .filter(|n| n.kind == Kind::Table && !n.has(flag::EXCLUDED));
        let defined = defined.map(|n| n.oid);
        defined.chain(self.tables.iter().map(|t| t.oid))
    }

    /// Returns what the reader of the backup must know: classes not carried, loops broken.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Takes what was found while definitions were written: what is not carried, and of which object. To be asked when all is written.
    pub fn take_findings(&self) -> Vec<Note> {
        self.note_collector.take()
    }

    /// Returns how many objects the graph holds.
    pub fn object_count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns `server_version_num`.
    pub fn server_version(&self) -> i32 {
        self.version
    }

    pub(super) fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(index).ok()?)
    }

    pub(super) fn find(&self, class: u32, oid: u32) -> Option<u32> {
        let at = self.lookup.binary_search_by_key(&(class, oid), |e| (e.0, e.1)).ok()?;
        self.lookup.get(at).map(|e| e.2)
    }

    /// Returns the node of the extension that makes the object, if one does.
    pub(super) fn owner(&self, class: u32, oid: u32) -> Option<u32> {
        let at = self.owners.binary_search_by_key(&(class, oid), |e| (e.0, e.1)).ok()?;
        self.owners.get(at).map(|e| e.2)
    }

    /// Returns the node that has to be there so that the object is: its own, or that of its extension.
    fn provider(&self, class: u32, oid: u32) -> Option<u32> {
        self.find(class, oid).or_else(|| self.owner(class, oid))
    }

    /// Returns whether the column default or CHECK constraint is printed within its container.
    pub(super) fn is_inline(&self, class: u32, oid: u32) -> bool {
        self.find(class, oid)
            .and_then(|n| self.node(n))
            .is_some_and(|n| n.has(flag::INLINE))
    }

    pub(super) fn name(&self, node: &Node) -> &str {
        let start = exact::usize_from(node.name.0.into());
        let end = start + exact::usize_from(node.name.1.into());
        exact::text(&self.text, start..end, "names lie where they were put")
    }

    /// Returns the schema's name of a node, or of the table it belongs to.
    pub(super) fn schema(&self, node: &Node) -> Option<&str> {
        match usize::try_from(node.schema).ok().and_then(|s| self.schemas.get(s)) {
            Some(name) => Some(name),
            None => self
                .node(node.parent)
                .filter(|p| !p.kind.is_schema())
                .and_then(|p| self.schema(p)),
        }
    }

    /// Returns the quoted `schema.name` of a node.
    pub(super) fn qualified(&self, node: &Node) -> String {
        match self.schema(node).filter(|_| !node.kind.is_schema()) {
            Some(schema) => quote::qualified(schema, self.name(node)),
            None => quote::quote_ident(self.name(node)),
        }
    }

    /// Returns the quoted `schema.name` of the object with this oid, if the graph holds it.
    pub(super) fn qualified_oid(&self, class: u32, oid: u32) -> Option<String> {
        self.find(class, oid)
            .and_then(|n| self.node(n))
            .map(|n| self.qualified(n))
    }

    pub(super) fn push_node(&mut self, mut node: Node, name: &str) -> u32 {
        node.name = (number_of(self.text.len()), number_of(name.len()));
        self.text.push_str(name);
        self.nodes.push(node);
        number_of(self.nodes.len() - 1)
    }

    /// Adds a node that shares name and schema with `of`.
    pub(super) fn push_derived(&mut self, of: u32, kind: Kind) -> Option<u32> {
        let source = *self.node(of)?;
        self.nodes.push(Node {
            kind,
            parent: of,
            flags: source.flags & (flag::PARTITIONED | flag::PARTITION | flag::EXCLUDED),
            ..source
        });
        let index = u32::try_from(self.nodes.len() - 1).ok()?;
        self.edges.push((index, of));
        Some(index)
    }

    async fn read_nodes(&mut self, client: &Client, query: &NodeQuery) -> Result<()> {
        let no_params: [i32; 0] = [];
        let rows = client
            .query_raw(query.sql.as_str(), no_params)
            .await
            .map_err(|e| failed(query.act, e))?;
        tokio::pin!(rows);
        // Parents of this query are complete, those of later ones are not: sort what is there.
        self.lookup.sort_unstable();
        let mut added = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|e| failed(query.act, e))? {
            let Some(kind) = catalog::kind_of(&row.text("tag")?) else {
                continue;
            };
            let (oid, namespace, name) = (row.oid("oid")?, row.oid("schema")?, row.text("name")?);
            let parent_oid = row.oid("parent")?;
            let parent = if parent_oid == 0 {
                NONE
            } else {
                self.find(query.parent_class, parent_oid).unwrap_or(NONE)
            };
            let schema_node = if namespace == 0 {
                None
            } else {
                self.find(class::NAMESPACE, namespace)
            };
            // Parts of what is not dumped, and objects in system or temporary schemas.
            if (parent_oid != 0 && parent == NONE) || (namespace != 0 && schema_node.is_none()) {
                continue;
            }
            // What an extension's script made of its own relations comes with the extension.
            if self.node(parent).is_some_and(|p| p.kind == Kind::Member)
                && self.added_parts.binary_search(&(query.class, oid)).is_err()
            {
                continue;
            }
            let schema = schema_node.and_then(|n| self.node(n)).map_or(NONE, |n| n.schema);
            let mut bits = flags(row.col("flags")?)? | if row.flag("has_acl")? { flag::ACL } else { 0 };
            // Nothing is printed within what an extension makes.
            if self.node(parent).is_some_and(|p| p.kind == Kind::Member) {
                bits &= !flag::INLINE;
            }
            let mut node = Node {
                oid,
                schema,
                name: (0, 0),
                parent,
                kind,
                flags: bits,
            };
            if kind.is_schema() {
                // A schema's own `schema` is the number of its name; `schema()` of the node itself is not asked.
                node.schema = number_of(self.schemas.len());
                self.schemas.push(name.clone());
            }
            if self.text.len() + name.len() >= exact::usize_from(NONE.into()) {
                let message = "the names of the database's objects are 4 GiB long or longer";
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            let index = self.push_node(node, &name);
            added.push((query.class, oid, index));
            if let Some(schema_node) = schema_node {
                self.edges.push((index, schema_node));
            }
            if parent != NONE {
                self.edges.push((index, parent));
            }
        }
        self.lookup.append(&mut added);
        Ok(())
    }

    async fn read_aliases(&mut self, client: &Client) -> Result<()> {
        let mut queries = catalog::ALIASES.to_vec();
        if self.version >= 140_000 {
            // Before the last one: functions of multiranges are told by their type.
            queries.insert(queries.len().saturating_sub(1), catalog::MULTIRANGE_ALIASES);
        }
        for (act, sql) in queries {
            let no_params: [i32; 0] = [];
            let rows = client.query_raw(sql, no_params).await.map_err(|e| failed(act, e))?;
            tokio::pin!(rows);
            let (mut added, mut owned) = (Vec::new(), Vec::new());
            while let Some(row) = rows.try_next().await.map_err(|e| failed(act, e))? {
                let own = (row.oid("class")?, row.oid("oid")?);
                let of = (row.oid("of_class")?, row.oid("of_oid")?);
                if self.provider(own.0, own.1).is_some() {
                    continue;
                }
                if let Some(node) = self.find(of.0, of.1) {
                    added.push((own.0, own.1, node));
                } else if let Some(extension) = self.owner(of.0, of.1) {
                    owned.push((own.0, own.1, extension));
                }
            }
            for (list, added) in [(&mut self.lookup, added), (&mut self.owners, owned)] {
                list.extend(added);
                list.sort_unstable();
                list.dedup_by_key(|e| (e.0, e.1));
            }
        }
        Ok(())
    }

    /// Locks every table against changes of its definition, in batches, unless the caller did.
    async fn lock_tables(&self, client: &Client) -> Result<()> {
        let mut batch = String::new();
        let tables = self
            .nodes
            .iter()
            .filter(|n| n.kind == Kind::Table && !n.has(flag::EXCLUDED));
        for node in tables.filter(|n| !self.options.locked.contains(&n.oid)) {
            batch.push_str(if batch.is_empty() {
                "LOCK TABLE ONLY "
            } else {
                ", ONLY "
            });
            batch.push_str(&self.qualified(node));
            if batch.len() >= LOCK_BATCH_BYTES {
                lock(client, &mut batch).await?;
            }
        }
        lock(client, &mut batch).await
    }

    async fn read_dependencies(&mut self, client: &Client) -> Result<()> {
        let no_params: [i32; 0] = [];
        let rows = client
            .query_raw(catalog::DEPENDENCIES, no_params)
            .await
            .map_err(|e| failed("dependencies", e))?;
        tokio::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|e| failed("dependencies", e))? {
            // What a member needs, its extension needs, which makes all of its members.
            let (class, oid) = (row.oid("class")?, row.oid("oid")?);
            let from = self.owner(class, oid).or_else(|| self.find(class, oid));
            let to = self.provider(row.oid("needed_class")?, row.oid("needed_oid")?);
            if let (Some(from), Some(to)) = (from, to)
                && from != to
                && !self.node(to).is_some_and(|n| n.kind.is_member() && n.parent == from)
            {
                self.edges.push((from, to));
            }
        }
        for row in query(client, "views of themselves", catalog::VIEWS_OF_THEMSELVES, &[]).await? {
            self.edges
                .extend(self.find(class::RELATION, row.oid("view")?).map(|view| (view, view)));
        }
        self.edges.sort_unstable();
        self.edges.dedup();
        Ok(())
    }

    /// A partition has a trigger from the table above it; its state can be set when that trigger is made, at whatever level.
    async fn read_trigger_roots(&mut self, client: &Client) -> Result<()> {
        let states = self.nodes.iter().filter(|n| n.kind == Kind::TriggerState);
        let states: Vec<u32> = states.map(|n| n.oid).collect();
        if states.is_empty() {
            return Ok(());
        }
        for row in query(client, "triggers above those of partitions", TRIGGER_ROOTS, &[&states]).await? {
            let (state, above) = (
                self.find(class::TRIGGER, row.oid("oid")?),
                self.find(class::TRIGGER, row.oid("parent")?),
            );
            if let (Some(state), Some(above)) = (state, above) {
                self.edges.push((state, above));
            }
        }
        self.edges.sort_unstable();
        self.edges.dedup();
        Ok(())
    }

    /// An expression that casts depends on the cast's function alone, but is printed as the cast.
    fn need_casts(&mut self) {
        let kind = |index: u32| self.node(index).map(|n| n.kind);
        let mut casts: std::collections::HashMap<u32, Vec<u32>> = std::collections::HashMap::new();
        for &(from, to) in &self.edges {
            if kind(from) == Some(Kind::Cast) && kind(to) == Some(Kind::Function) {
                casts.entry(to).or_default().push(from);
            }
        }
        let prints = |index: u32| {
            use Kind as K;
            let expression = matches!(
                kind(index),
                Some(K::Default | K::Check | K::Constraint | K::Index | K::Statistics)
            );
            let query = matches!(
                kind(index),
                Some(K::View | K::MatView | K::Rule | K::Trigger | K::Policy)
            );
            expression || query
        };
        let needs = |from: u32, to: u32| self.edges.binary_search(&(from, to)).is_ok();
        let mut added = Vec::new();
        for &(from, to) in self.edges.iter().filter(|e| prints(e.0)) {
            // A cast of a relation's own row comes after the relation.
            let whole = self.node(from).map_or(NONE, |n| n.parent);
            let own = |cast: u32| needs(cast, from) || needs(cast, whole);
            let casts = casts.get(&to).into_iter().flatten();
            added.extend(casts.filter(|&&cast| !own(cast)).map(|&cast| (from, cast)));
        }
        self.edges.append(&mut added);
        self.edges.sort_unstable();
        self.edges.dedup();
    }

    /// Adds the attachments of partitions and of their indexes.
    async fn read_attachments(&mut self, client: &Client) -> Result<()> {
        let mut roots: std::collections::HashMap<u32, u32> = std::collections::HashMap::new();
        let mut attached = Vec::new();
        for row in query(client, "partitions", ATTACHMENTS, &[]).await? {
            let child_oid = row.oid("oid")?;
            let child = self.find(class::RELATION, child_oid);
            let parent = self.find(class::RELATION, row.oid("parent")?);
            let (Some(child), Some(parent)) = (child, parent) else {
                continue;
            };
            if self.is_excluded(child) || self.is_excluded(parent) {
                continue;
            }
            let Some(kind) = self.node(child).map(|n| n.kind).filter(|k| !k.is_member()) else {
                continue;
            };
            let derived = if kind.is_table() {
                Kind::Attach
            } else {
                Kind::IndexAttach
            };
            let Some(attach) = self.push_derived(child, derived) else {
                continue;
            };
            self.edges.push((attach, parent));
            if derived == Kind::Attach {
                self.partitions.push((parent, child));
            } else {
                roots.insert(child, parent);
                attached.push((attach, parent));
                // The child may be the node of a constraint: what is attached is its index.
                if let Some(node) = self.nodes.last_mut() {
                    node.oid = child_oid;
                }
            }
        }
        self.partitions.sort_unstable();
        self.keys_wait_for_attachments(&roots, &attached);
        Ok(())
    }

    /// A foreign key to a partitioned table needs its key's index whole: every attachment below it.
    fn keys_wait_for_attachments(&mut self, roots: &std::collections::HashMap<u32, u32>, attached: &[(u32, u32)]) {
        let mut below: std::collections::HashMap<u32, Vec<u32>> = std::collections::HashMap::new();
        for &(attach, parent) in attached {
            let mut root = parent;
            while let Some(&next) = roots.get(&root) {
                root = next;
            }
            below.entry(root).or_default().push(attach);
        }
        let mut added = Vec::new();
        for &(from, to) in &self.edges {
            if self.node(from).is_some_and(|n| n.kind == Kind::ForeignKey)
                && let Some(list) = below.get(&to)
            {
                added.extend(list.iter().map(|&attach| (from, attach)));
            }
        }
        self.edges.append(&mut added);
    }

    async fn read_tables(&mut self, client: &Client) -> Result<()> {
        let mut chosen: Vec<u32> = (0..number_of(self.nodes.len()))
            .filter(|&i| {
                self.node(i)
                    .is_some_and(|n| n.kind == Kind::Table && n.has(flag::DATA) && !n.has(flag::EXCLUDED))
            })
            .collect();
        chosen.sort_by(|&a, &b| self.sort_key(a).cmp(&self.sort_key(b)));
        let few = chosen.len() <= MANY_TABLES;
        let by_file = may_see_files(client).await?;
        let (size, empty) = if by_file {
            (BY_FILE, "c.relam = 2 AND s.size = 0")
        } else {
            (BY_CATALOG, "false")
        };
        let sql = with_names(SIZES, &[("size", size), ("empty", empty)]);
        let exact = by_file && !self.options.no_lock;
        for page in chosen.chunks(500) {
            let oids: Vec<u32> = page.iter().filter_map(|&i| self.node(i)).map(|n| n.oid).collect();
            let mut rows = std::collections::HashMap::new();
            for row in query(client, "table sizes", &sql, &[&oids, &few]).await? {
                rows.insert(row.oid("oid")?, row);
            }
            for &index in page {
                let Some(node) = self.node(index).copied() else {
                    continue;
                };
                let Some(row) = rows.get(&node.oid) else { continue };
                let (heap, toast, block): (i64, i64, i64) =
                    (row.col("heap")?, row.col("toast")?, row.col("block_size")?);
                let pages = heap
                    .checked_div(block)
                    .ok_or_else(|| Error::corrupt("the server has a block size of 0"))?;
                let number = number_of(self.tables.len() + 1);
                let table = DataTable {
                    number,
                    oid: node.oid,
                    schema: self.schema(&node).unwrap_or_default().to_owned(),
                    name: self.name(&node).to_owned(),
                    columns: row.list("columns")?,
                    empty: exact && row.flag("empty")?,
                    pages: exact::count(pages, "the number of a table's pages")?,
                    bytes: exact::count(heap.saturating_add(toast), "the size of a table")?,
                    ctid_ranges: self.version >= 140_000 && row.flag("is_heap")?,
                    root: None,
                    filter: None,
                };
                self.lock_numbers.push((node.oid, number));
                self.tables.push(table);
            }
        }
        self.read_roots(client).await?;
        self.read_configuration_tables(client).await?;
        let mut number = number_of(self.tables.len());
        for node in &self.nodes {
            let relation = matches!(
                node.kind,
                Kind::Table | Kind::ForeignTable | Kind::View | Kind::MatView | Kind::Member
            );
            if relation && !(node.kind == Kind::Table && node.has(flag::DATA)) {
                number = number.saturating_add(1);
                self.lock_numbers.push((node.oid, number));
            }
        }
        // A table that an extension makes and whose rows are the backup's has the number of those rows, which is the lower one.
        self.lock_numbers.sort_unstable();
        self.lock_numbers.dedup_by_key(|e| e.0);
        Ok(())
    }

    /// Has the indexes of large tables' keys made on their own: `CREATE INDEX` runs beside others on the same table, `ADD CONSTRAINT`
    /// does not, and has nothing left to do.
    async fn split_keys(&mut self, client: &Client) -> Result<()> {
        let large: Vec<u32> = self
            .tables
            .iter()
            .filter(|t| t.bytes >= LARGE_TABLE_BYTES)
            .map(|t| t.oid)
            .collect();
        if large.is_empty() {
            return Ok(());
        }
        for row in query(client, "keys of large tables", SPLIT_KEYS, &[&large]).await? {
            let oid = row.oid("oid")?;
            let Some(key) = self.find(class::CONSTRAINT, oid) else {
                continue;
            };
            let Some(source) = self.node(key).copied().filter(|n| n.kind == Kind::Constraint) else {
                continue;
            };
            let index = number_of(self.nodes.len());
            self.nodes.push(Node {
                kind: Kind::KeyIndex,
                ..source
            });
            let needs: Vec<(u32, u32)> = self.edges.iter().filter(|e| e.0 == key).map(|e| (index, e.1)).collect();
            self.edges.extend(needs);
            self.edges.push((key, index));
            self.split_keys.insert(oid);
        }
        Ok(())
    }

    /// Returns whether the node is a constraint whose index is made before it.
    pub(super) fn has_key_index(&self, index: u32) -> bool {
        self.node(index)
            .is_some_and(|n| n.kind == Kind::Constraint && self.split_keys.contains(&n.oid))
    }

    async fn add_row_security(&mut self, client: &Client) -> Result<()> {
        let sql = "SELECT oid FROM pg_catalog.pg_class WHERE relrowsecurity AND oid >= 16384";
        for row in query(client, "row security", sql, &[]).await? {
            if let Some(table) = self.find(class::RELATION, row.oid("oid")?) {
                self.push_derived(table, Kind::RowSecurity);
            }
        }
        Ok(())
    }

    /// Finds partitions by a hash that another database computes otherwise: an enum's is that of its OIDs, and so is that of
    /// an array or row that may hold one; a collation's rests on its library.
    async fn read_roots(&mut self, client: &Client) -> Result<()> {
        let mut roots = std::collections::HashMap::new();
        for row in query(client, "partitions by hash", HASHED_PARTITIONS, &[]).await? {
            roots.insert(
                row.oid("oid")?,
                (
                    (row.text("root_schema")?, row.text("root_name")?),
                    row.list("root_columns")?,
                ),
            );
        }
        for table in &mut self.tables {
            if let Some((root, columns)) = roots.remove(&table.oid) {
                table.root = Some(root);
                table.columns = columns;
            }
        }
        Ok(())
    }

    /// Adds the tables whose rows extensions ask to be dumped.
    async fn read_configuration_tables(&mut self, client: &Client) -> Result<()> {
        let rows = query(client, "configuration tables of extensions", CONFIGURATION_TABLES, &[]).await?;
        for row in referred_first(client, rows).await? {
            let oid = row.oid("oid")?;
            if self.excludes(class::RELATION, oid) || self.options.excluded.rows.contains(&oid) {
                continue;
            }
            if let Err(why) = judge_condition(&row.text("condition")?) {
                let text =
                    format!("its extension's condition holds {why}, which a restore refuses: please report this");
                let name = format!("TABLE {}.{}", row.text("schema")?, row.text("name")?);
                self.notes.push(Note::new("not-restorable", name, text));
            }
            let number = number_of(self.tables.len() + 1);
            self.lock_numbers.push((row.oid("oid")?, number));
            self.tables.push(DataTable {
                number,
                oid: row.oid("oid")?,
                schema: row.text("schema")?,
                name: row.text("name")?,
                columns: row.list("columns")?,
                empty: false,
                pages: 0,
                bytes: exact::count(row.col("bytes")?, "the size of a table")?,
                ctid_ranges: false,
                root: None,
                filter: Some(row.text("condition")?),
            });
        }
        Ok(())
    }

    async fn count_not_covered(&mut self, client: &Client) -> Result<()> {
        let names = [catalog::UNLOGGED_ON_STANDBY, catalog::INVALID_INDEXES];
        let [unlogged, invalid] = &names;
        for row in query(
            client,
            "classes that are not carried",
            catalog::NOT_COVERED,
            &[unlogged, invalid],
        )
        .await?
        {
            let (what, count): (String, i64) = (row.text("what")?, row.col("number")?);
            if count > 0 {
                // No query uses such an index, and pg_dump leaves it out as well: its absence is no loss.
                let (code, why) = match what.as_str() {
                    catalog::INVALID_INDEXES => ("invalid-index", "REINDEX or drop them"),
                    catalog::UNLOGGED_ON_STANDBY => ("unlogged-on-standby", "back the primary up if they matter"),
                    _ => ("not-covered", "this class is not supported yet, or not for this role"),
                };
                let text = format!("{count} are not in this backup: {why}");
                self.notes.push(Note::new(code, what, text));
            }
        }
        Ok(())
    }

    /// Returns what the order of otherwise equal objects rests on.
    pub(super) fn sort_key(&self, index: u32) -> (&str, &str, &str, u32) {
        let Some(node) = self.node(index) else {
            return ("", "", "", index);
        };
        let parent = self.node(node.parent).map_or("", |p| self.name(p));
        let schema = if node.kind.is_schema() {
            ""
        } else {
            self.schema(node).unwrap_or("")
        };
        if parent.is_empty() {
            (schema, self.name(node), "", node.oid)
        } else {
            (schema, parent, self.name(node), node.oid)
        }
    }

    pub(super) fn take_item_id(&self) -> u32 {
        self.next_item.fetch_add(1, Ordering::Relaxed)
    }
}

/// Puts tables (oid first) so that what a foreign key refers to comes before what refers to it: these keys exist when the rows are
/// loaded. Tables in a circle stay as they stood.
async fn referred_first(client: &Client, rows: Vec<tokio_postgres::Row>) -> Result<Vec<tokio_postgres::Row>> {
    let oids: Vec<u32> = rows.iter().map(|row| row.oid("oid")).collect::<Result<_>>()?;
    let mut needs = HashSet::new();
    for row in query(client, "foreign keys of configuration tables", FOREIGN_KEYS, &[&oids]).await? {
        needs.insert((row.oid("relation")?, row.oid("referenced")?));
    }
    let mut left: HashSet<u32> = oids.into_iter().collect();
    let mut open: Vec<(u32, tokio_postgres::Row)> = Vec::with_capacity(rows.len());
    for row in rows {
        open.push((row.oid("oid")?, row));
    }
    let mut done = Vec::with_capacity(open.len());
    while !open.is_empty() {
        let waits = |oid: u32| left.iter().any(|&other| needs.contains(&(oid, other)));
        let (rest, mut ready): (Vec<_>, Vec<_>) = open.into_iter().partition(|(oid, _)| waits(*oid));
        open = rest;
        if ready.is_empty() {
            ready = std::mem::take(&mut open);
        }
        for (oid, row) in ready {
            left.remove(&oid);
            done.push(row);
        }
    }
    Ok(done)
}

/// Returns flags as the query of the nodes gives them.
fn flags(said: i32) -> Result<u8> {
    u8::try_from(said).map_err(|_| Error::corrupt(format!("the flags of an object are {said}")))
}

/// Returns whether the role may look at the files of tables.
///
/// `pg_relation_size` opens the relation, which costs more than all else with very many tables, and calls a missing file
/// empty: whoever may asks for the file. Else, with very many tables, the last VACUUM's figure has to do, which only orders them.
async fn may_see_files(client: &Client) -> Result<bool> {
    let sql =
        "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE') AS allowed";
    let rows = query(client, "the role's rights", sql, &[]).await?;
    rows.first().map_or(Ok(false), |row| row.flag("allowed"))
}

async fn lock(client: &Client, batch: &mut String) -> Result<()> {
    if !batch.is_empty() {
        batch.push_str(" IN ACCESS SHARE MODE");
        client
            .batch_execute(batch)
            .await
            .map_err(|e| failed("tables (LOCK TABLE)", e))?;
        batch.clear();
    }
    Ok(())
}

/// Returns whether connection strings of subscriptions may be read: without them nothing of a subscription can be made.
pub(super) async fn reads_subscriptions(client: &Client) -> Result<bool> {
    let sql =
        "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT') AS allowed";
    let rows = query(client, "the role's rights", sql, &[]).await?;
    rows.first().map_or(Ok(false), |row| row.flag("allowed"))
}

/// Returns `server_version_num`.
pub(super) async fn server_version(client: &Client) -> Result<i32> {
    let rows = query(
        client,
        "the server's version",
        "SELECT pg_catalog.current_setting('server_version_num')::int4 AS version",
        &[],
    )
    .await?;
    rows.first().map_or(Ok(0), |row| row.col("version"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flags_that_are_none_are_an_error() {
        assert_eq!(flags(255).unwrap(), 255);
        for wrong in [-1, 256, i32::MIN] {
            assert_eq!(flags(wrong).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
