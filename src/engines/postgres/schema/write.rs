//! Writes the graph as SQL: nodes in order, details in pages of one kind, rights and refreshes last.

use crate::engines::postgres::sql::quote::quote_ident;
use std::collections::{BTreeMap, HashMap};

use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio_postgres::Client;

use super::graph::Graph;
use super::node::{Kind, Node, class, flag};
use super::{
    Section, SqlSink, TocItem, acl, constraints, database, extensions, foreign, functions, indexes, members, operators,
    replication, sequences, system_rights, tables, text, triggers, types, views,
};
use crate::base::error::Result;
use crate::base::exact;
use crate::engines::postgres::sql::template;

/// Objects whose details are in memory at once.
const PAGE: usize = 500;

/// SQL by oid.
pub(super) type Rendered = HashMap<u32, String>;

/// What renderers need.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) client: &'a Client,
    pub(super) graph: &'a Graph,
    /// Further sessions on the same snapshot.
    pub(super) helpers: &'a [Client],
}

impl<'a> Context<'a> {
    /// Reads something for each page, several pages at once, and gives it back in the order of the pages.
    ///
    /// Only the leader holds the tables' locks: what a helper reads could stand behind a statement that waits for the leader,
    /// so a helper waits only shortly (its session's `lock_timeout`), and what it fails at the leader reads again.
    pub(super) fn read_pages<T: Send, F: Future<Output = Result<T>> + Send>(
        self,
        pages: &'a [u32],
        read: impl Fn(Self, &'a [u32]) -> F + Copy + Send + 'a,
    ) -> impl Stream<Item = Result<(&'a [u32], T)>> + Send {
        let sessions = self.helpers.len() + 1;
        let page = move |(number, page): (usize, &'a [u32])| async move {
            // The leader has the pages that the helpers leave: it is asked last, so that it is free for what they fail at.
            let helper = self.helpers.get(number % sessions);
            if let Some(client) = helper
                && let Ok(done) = read(Self { client, ..self }, page).await
            {
                return Ok((page, done));
            }
            read(self, page).await.map(|done| (page, done))
        };
        futures_util::stream::iter(pages.chunks(PAGE).enumerate().map(page)).buffered(sessions)
    }

    pub(super) fn at_least(&self, major: i32) -> bool {
        self.graph.version >= major * 10_000
    }

    /// Returns a query of an `.sql` file as this server is given it.
    pub(super) fn sql(&self, query: &str) -> String {
        template::for_version(query, self.graph.version)
    }

    /// Appends `ALTER … OWNER TO`, if owners are wanted.
    pub(super) fn owner(&self, sql: &mut String, what: &str, owner: &str) {
        if !self.graph.options.no_owner {
            sql.push_str(&format!("ALTER {what} OWNER TO {};\n", quote_ident(owner)));
        }
    }
}

impl Graph {
    /// Writes one section. Call it for the sections in order: items are numbered through.
    ///
    /// `helpers` are further sessions on the client's snapshot, which read a share of the definitions.
    pub async fn write(
        &self,
        client: &Client,
        helpers: &[Client],
        section: Section,
        sink: &mut dyn SqlSink,
    ) -> Result<()> {
        let context = Context {
            client,
            graph: self,
            helpers,
        };
        if section == Section::Data {
            return sequences::write_values(&context, sink).await;
        }
        let post = section == Section::PostData;
        let chosen: Vec<u32> = self
            .order
            .iter()
            .copied()
            .filter(|&i| {
                self.node(i)
                    .is_some_and(|n| n.is_post() == post && n.kind != Kind::DefaultAcl)
            })
            .collect();
        let last_pass = chosen.partition_point(|&i| !self.node(i).is_some_and(|n| n.kind.is_last_pass()));
        let (main, last) = chosen.split_at(last_pass);
        let triggers = last.partition_point(|&i| self.node(i).is_some_and(|n| n.kind != Kind::EventTrigger));
        let (refreshes, event_triggers) = last.split_at(triggers);
        // Items after the data say what they need before it, too.
        let mut items = std::mem::take(&mut *self.written());
        self.write_pages(context, section, main, &mut items, sink).await?;
        if post && !self.options.no_acl {
            acl::write(&context, &items, sink).await?;
        }
        if post {
            system_rights::labels(&context, sink).await?;
        }
        self.write_pages(context, section, refreshes, &mut items, sink).await?;
        if post {
            database::write(&context, sink).await?;
        }
        // They watch every statement that would come after them.
        self.write_pages(context, section, event_triggers, &mut items, sink)
            .await?;
        *self.written() = items;
        Ok(())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<u32, u32>> {
        self.written.lock().expect("no panic happens under this lock")
    }

    async fn write_pages(
        &self,
        context: Context<'_>,
        section: Section,
        nodes: &[u32],
        items: &mut HashMap<u32, u32>,
        sink: &mut dyn SqlSink,
    ) -> Result<()> {
        let pages = context.read_pages(nodes, read_page);
        tokio::pin!(pages);
        while let Some((page, rendered)) = pages.try_next().await? {
            self.write_page(section, page, rendered, items, sink).await?;
        }
        Ok(())
    }

    async fn write_page(
        &self,
        section: Section,
        page: &[u32],
        mut rendered: HashMap<Kind, Rendered>,
        items: &mut HashMap<u32, u32>,
        sink: &mut dyn SqlSink,
    ) -> Result<()> {
        for &index in page {
            let Some(node) = self.node(index) else { continue };
            let Some(sql) = rendered
                .get_mut(&node.kind)
                .and_then(|r| r.remove(&node.oid))
                .filter(|sql| !sql.is_empty())
            else {
                continue;
            };
            let mut item = self.item(index, node, section, items);
            // One processor builds these, entry by entry.
            if node.kind == Kind::Index && !sql.contains(" USING btree ") {
                item.weight = item.weight.saturating_mul(4);
            }
            items.insert(index, item.id);
            let parent = self.node(node.parent).filter(|p| p.kind == Kind::Member);
            let sql = match parent {
                Some(table) => members::unless_there(self, table, node, &sql),
                None => sql,
            };
            sink.item(item, &sql).await?;
            self.note_written(index, &sql);
        }
        Ok(())
    }

    fn item(&self, index: u32, node: &Node, section: Section, items: &HashMap<u32, u32>) -> TocItem {
        let mut depends_on = Vec::new();
        // A node without SQL of its own stands for what it needs.
        let (mut open, mut seen) = (vec![index], std::collections::HashSet::new());
        while let Some(from) = open.pop() {
            let start = self.edges.partition_point(|e| e.0 < from);
            for &(_, to) in self.edges.iter().skip(start).take_while(|e| e.0 == from) {
                if let Some(&item) = items.get(&to) {
                    depends_on.push(item);
                } else if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        depends_on.sort_unstable();
        depends_on.dedup();
        let (locks, shares, weight) = self.locks_and_weight(index, node);
        TocItem {
            depends_on,
            locks,
            shares,
            self_contained: self.is_self_contained(index, node),
            weight,
            ..self.plain_item(node, node.kind.word(), section)
        }
    }

    /// Returns an item without needs.
    pub(super) fn plain_item(&self, node: &Node, kind: &str, section: Section) -> TocItem {
        let name = match self.node(node.parent).filter(|_| node.schema == super::node::NONE) {
            Some(parent) => format!("{} {}", self.name(parent), self.name(node)),
            None => self.name(node).to_owned(),
        };
        TocItem {
            schema: self.schema(node).filter(|_| !node.kind.is_schema()).map(str::to_owned),
            ..TocItem::new(self.take_item_id(), section, kind, name)
        }
    }

    /// Returns which tables an item after the data locks, which ones it shares with its like, and the bytes it must read.
    fn locks_and_weight(&self, index: u32, node: &Node) -> (Vec<u32>, Vec<u32>, u64) {
        let mut relations = Vec::new();
        let mut exclusive = true;
        match node.kind {
            Kind::KeyIndex | Kind::Index | Kind::Statistics => {
                relations.push(node.parent);
                exclusive = false;
            }
            Kind::IndexAttach => {
                // Both indexes, each with its table.
                let start = self.edges.partition_point(|e| e.0 < index);
                let both = self.edges.iter().skip(start).take_while(|e| e.0 == index).map(|e| e.1);
                relations.extend(both.filter_map(|i| self.node(i)).map(|n| n.parent));
            }
            Kind::ViewBody | Kind::Refresh => relations.push(node.parent),
            // Parents are locked by who is made below them.
            Kind::Table => {
                let start = self.edges.partition_point(|e| e.0 < index);
                let needs = self.edges.iter().skip(start).take_while(|e| e.0 == index).map(|e| e.1);
                relations.extend(needs.filter(|&i| self.node(i).is_some_and(|n| n.kind == Kind::Table)));
            }
            Kind::ForeignKey => {
                let start = self.edges.partition_point(|e| e.0 < index);
                relations.push(node.parent);
                relations.extend(
                    self.edges
                        .iter()
                        .skip(start)
                        .take_while(|e| e.0 == index)
                        .map(|e| e.1)
                        .filter(|&i| {
                            self.node(i)
                                .is_some_and(|n| matches!(n.kind, Kind::Table | Kind::Member))
                        }),
                );
                self.with_partitions(&mut relations);
            }
            Kind::Check | Kind::NotNull | Kind::Trigger => {
                relations.push(node.parent);
                self.with_partitions(&mut relations);
            }
            Kind::Constraint | Kind::Rule | Kind::RowSecurity | Kind::Policy | Kind::Default | Kind::TriggerState => {
                relations.push(node.parent);
            }
            _ => {}
        }
        let mut locks: Vec<u32> = relations
            .iter()
            .filter_map(|&i| self.node(i))
            .filter_map(|n| self.lock_number(n.oid))
            .collect();
        locks.sort_unstable();
        locks.dedup();
        let weighs = matches!(
            node.kind,
            Kind::KeyIndex | Kind::Index | Kind::Constraint | Kind::ForeignKey | Kind::Check | Kind::Refresh
        ) && !self.has_key_index(index);
        let bytes = |number: u32| {
            // Numbers begin with 1; those above the tables' are other relations'.
            let at = number.checked_sub(1).map(|at| exact::usize_from(at.into()));
            at.and_then(|at| self.tables.get(at)).map_or(0, |t| t.bytes)
        };
        let weight = if weighs {
            locks.iter().map(|&n| bytes(n)).fold(0, u64::saturating_add)
        } else {
            0
        };
        if exclusive {
            (locks, Vec::new(), weight)
        } else {
            (Vec::new(), locks, weight)
        }
    }

    fn is_self_contained(&self, index: u32, node: &Node) -> bool {
        use Kind as K;
        let start = self.edges.partition_point(|e| e.0 < index);
        let mut needs = self.edges.iter().skip(start).take_while(|e| e.0 == index).map(|e| e.1);
        let without_code = |kind: K| {
            let relation = matches!(kind, K::Table | K::LateColumns | K::Attach | K::Index | K::IndexAttach);
            let of_types = matches!(kind, K::Enum | K::Composite | K::Range | K::BaseType | K::Collation);
            let of_keys = matches!(kind, K::KeyIndex | K::Constraint | K::NotNull);
            relation || of_types || of_keys || matches!(kind, K::Schema | K::Default | K::Sequence)
        };
        // A statement about a partitioned table locks partitions as well, which their loads hold.
        let whole = |n: u32| self.node(n).is_none_or(|n| !n.has(flag::PARTITIONED));
        matches!(node.kind, K::KeyIndex | K::Index | K::Constraint | K::ForeignKey)
            && whole(node.parent)
            && needs.clone().all(whole)
            && needs.all(|n| self.node(n).is_some_and(|n| without_code(n.kind)))
    }

    fn lock_number(&self, oid: u32) -> Option<u32> {
        let at = self.lock_numbers.binary_search_by_key(&oid, |e| e.0).ok()?;
        self.lock_numbers.get(at).map(|e| e.1)
    }

    /// Adds the partitions, at every level, of the relations listed.
    fn with_partitions(&self, relations: &mut Vec<u32>) {
        let mut next = 0;
        while let Some(&relation) = relations.get(next) {
            next += 1;
            if self.node(relation).is_some_and(|n| n.has(flag::PARTITIONED)) {
                let start = self.partitions.partition_point(|e| e.0 < relation);
                relations.extend(
                    self.partitions
                        .iter()
                        .skip(start)
                        .take_while(|e| e.0 == relation)
                        .map(|e| e.1),
                );
            }
        }
    }
}

/// Reads the definitions of a page of nodes.
async fn read_page(context: Context<'_>, page: &[u32]) -> Result<HashMap<Kind, Rendered>> {
    let mut kinds: BTreeMap<Kind, Vec<u32>> = BTreeMap::new();
    for node in page.iter().filter_map(|&i| context.graph.node(i)) {
        kinds.entry(node.kind).or_default().push(node.oid);
    }
    let mut rendered: HashMap<Kind, Rendered> = HashMap::new();
    for (kind, oids) in kinds {
        rendered.insert(kind, render(&context, kind, &oids).await?);
    }
    Ok(rendered)
}

async fn render(context: &Context<'_>, kind: Kind, oids: &[u32]) -> Result<Rendered> {
    match kind {
        Kind::Schema => extensions::schemas(context, oids).await,
        Kind::Extension => extensions::extensions(context, oids).await,
        Kind::ShellType => Ok(types::shells(context, oids)),
        Kind::Enum => types::enums(context, oids).await,
        Kind::Domain => types::domains(context, oids).await,
        Kind::Composite => types::composites(context, oids).await,
        Kind::Range => types::ranges(context, oids).await,
        Kind::Function | Kind::Procedure => functions::functions(context, oids).await,
        Kind::Aggregate => functions::aggregates(context, oids).await,
        Kind::Sequence => sequences::sequences(context, oids).await,
        Kind::Table | Kind::ForeignTable => tables::tables(context, oids).await,
        Kind::View => views::views(context, oids, false).await,
        Kind::ViewBody => views::views(context, oids, true).await,
        Kind::MatView => views::matviews(context, oids).await,
        Kind::Refresh => Ok(views::refreshes(context, oids)),
        Kind::Attach => tables::attachments(context, oids).await,
        Kind::Default => tables::defaults(context, oids).await,
        Kind::RowSecurity => Ok(tables::row_security(context, oids)),
        Kind::DomainCheck | Kind::Check | Kind::NotNull | Kind::Constraint | Kind::ForeignKey => {
            constraints::constraints(context, oids).await
        }
        Kind::KeyIndex => indexes::of_keys(context, oids).await,
        Kind::Index => indexes::indexes(context, oids).await,
        Kind::IndexAttach => indexes::attachments(context, oids).await,
        Kind::Statistics => indexes::statistics(context, oids).await,
        Kind::Rule => triggers::rules(context, oids).await,
        Kind::Trigger => triggers::triggers(context, oids).await,
        Kind::Policy => triggers::policies(context, oids).await,
        Kind::EventTrigger => triggers::event_triggers(context, oids).await,
        Kind::MemberSchema | Kind::Member | Kind::DefaultAcl => Ok(Rendered::new()),
        Kind::UndefinedType => types::undefined(context, oids).await,
        Kind::BaseType => types::base_types(context, oids).await,
        Kind::Language => text::languages(context, oids).await,
        Kind::Collation => text::collations(context, oids).await,
        Kind::Conversion => text::conversions(context, oids).await,
        Kind::TsParser => text::parsers(context, oids).await,
        Kind::TsTemplate => text::templates(context, oids).await,
        Kind::TsDict => text::dictionaries(context, oids).await,
        Kind::TsConfig => text::configurations(context, oids).await,
        Kind::Transform => operators::transforms(context, oids).await,
        Kind::Cast => operators::casts(context, oids).await,
        Kind::AccessMethod => operators::access_methods(context, oids).await,
        Kind::Operator => operators::operators(context, oids).await,
        Kind::OpFamily => operators::families(context, oids).await,
        Kind::OpClass => operators::classes(context, oids).await,
        Kind::Fdw => foreign::wrappers(context, oids).await,
        Kind::Server => foreign::servers(context, oids).await,
        Kind::UserMapping => foreign::user_mappings(context, oids).await,
        Kind::Publication => replication::publications(context, oids).await,
        Kind::PublicationTable => replication::tables(context, oids).await,
        Kind::PublicationSchema => replication::schemas(context, oids).await,
        Kind::Subscription => replication::subscriptions(context, oids).await,
        Kind::TriggerState => triggers::states(context, oids).await,
        Kind::LateColumns => tables::late_columns(context, oids).await,
    }
}

/// Returns the quoted name of a relation by oid.
pub(super) fn relation(context: &Context<'_>, oid: u32) -> Option<String> {
    context.graph.qualified_oid(class::RELATION, oid)
}
