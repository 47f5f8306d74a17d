//! Repairs dependency loops and sorts the graph: stable, iterative, `O((n + e) log n)` per round of repairs.
//!
//! Column defaults and validated CHECKs are printed within their table as long as that closes no loop. A loop is
//! broken by the first remedy that fits: print such a part on its own; make a view as a placeholder first and replace
//! it after the data; else drop an edge and say so. What needs something from after the data moves there too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::Graph;
use super::node::{Kind, NONE, flag};
use crate::base::report::Note;

/// Breaks loops, chooses sections, and fills `graph.order` and `graph.edges`.
pub(super) fn arrange(graph: &mut Graph) {
    let of_themselves: Vec<u32> = graph.edges.iter().filter(|e| e.0 == e.1).map(|e| e.0).collect();
    for view in of_themselves {
        if graph.node(view).is_some_and(|n| n.kind == Kind::View) {
            split_view(graph, view);
        }
    }
    loop {
        graph.edges.sort_unstable();
        graph.edges.dedup();
        let repaired = repair_loops(graph) | move_after_data(graph);
        if !repaired {
            break;
        }
    }
    let edges = between_containers(graph);
    graph.order = sorted(graph, &edges);
    graph.edges = edges;
    graph.edges.shrink_to_fit();
    graph.nodes.shrink_to_fit();
    graph.text.shrink_to_fit();
}

/// Returns the node that prints `index`: its container for inline parts.
fn container(graph: &Graph, index: u32) -> u32 {
    match graph.node(index) {
        Some(node) if node.has(flag::INLINE) => node.parent,
        _ => index,
    }
}

/// Returns the edges between printed nodes, sorted, without duplicates and self-references.
fn between_containers(graph: &Graph) -> Vec<(u32, u32)> {
    let mut edges: Vec<(u32, u32)> = graph
        .edges
        .iter()
        .map(|&(from, to)| (container(graph, from), container(graph, to)))
        .filter(|e| e.0 != e.1)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// Breaks each loop once; returns whether there was one.
fn repair_loops(graph: &mut Graph) -> bool {
    let edges = between_containers(graph);
    let components = components(graph.nodes.len(), &edges);
    let mut members: std::collections::BTreeMap<u32, Vec<u32>> = std::collections::BTreeMap::new();
    for (node, &component) in (0u32..).zip(&components) {
        if component != NONE {
            members.entry(component).or_default().push(node);
        }
    }
    for (&component, nodes) in &members {
        repair(graph, &components, component, nodes);
    }
    !members.is_empty()
}

fn at<T: Copy>(list: &[T], index: u32) -> Option<T> {
    list.get(usize::try_from(index).ok()?).copied()
}

fn repair(graph: &mut Graph, components: &[u32], component: u32, nodes: &[u32]) {
    let inside = |index: u32| at(components, index) == Some(component);
    // Parts whose own needs lead into the loop are printed on their own.
    let mut parts: Vec<u32> = graph
        .edges
        .iter()
        .filter(|&&(from, to)| {
            let (own, other) = (container(graph, from), container(graph, to));
            own != from && own != other && inside(own) && inside(other)
        })
        .map(|e| e.0)
        .collect();
    parts.dedup();
    if !parts.is_empty() {
        for part in parts {
            set(graph, part, flag::INLINE, false);
        }
        return;
    }
    let mut ranked = nodes.to_vec();
    ranked.sort_by(|&a, &b| graph.sort_key(a).cmp(&graph.sort_key(b)));
    let of_kind = |graph: &Graph, kind| {
        ranked.iter().copied().find(|&i| {
            graph
                .node(i)
                .is_some_and(|n| n.kind == kind && !n.has(flag::PLACEHOLDER))
        })
    };
    if let Some(own) = of_kind(graph, Kind::BaseType).or_else(|| of_kind(graph, Kind::Range)) {
        add_shell(graph, own, &inside);
        return;
    }
    if let Some(view) = of_kind(graph, Kind::View) {
        split_view(graph, view);
        return;
    }
    break_edge(graph, &ranked, &inside);
}

/// Makes the view a placeholder that needs only what its column types need; its definition follows after the data.
fn split_view(graph: &mut Graph, view: u32) {
    let Some(body) = graph.push_derived(view, Kind::ViewBody) else {
        return;
    };
    set(graph, view, flag::PLACEHOLDER, true);
    let mut edges = std::mem::take(&mut graph.edges);
    for edge in edges.iter_mut().filter(|e| e.0 == view) {
        let light = graph
            .node(edge.1)
            .is_some_and(|n| n.kind.priority() <= Kind::Enum.priority());
        if !light {
            edge.0 = body;
        }
    }
    // Whoever waits for materialized data or reads the whole view after the data needs the body.
    let late: Vec<(u32, u32)> = edges
        .iter()
        .filter(|e| {
            e.1 == view && e.0 != body && graph.node(e.0).is_some_and(|n| n.is_post() && n.kind != Kind::ViewBody)
        })
        .map(|e| (e.0, body))
        .collect();
    edges.extend(late);
    edges.retain(|e| e.0 != e.1);
    graph.edges = edges;
}

/// Functions of a range's own definition depend on its shell instead.
fn add_shell(graph: &mut Graph, range: u32, inside: &dyn Fn(u32) -> bool) {
    let Some(shell) = graph.push_derived(range, Kind::ShellType) else {
        return;
    };
    set(graph, range, flag::PLACEHOLDER, true);
    let mut edges = std::mem::take(&mut graph.edges);
    edges.retain(|&e| e != (shell, range));
    for edge in edges.iter_mut().filter(|e| e.1 == range) {
        if inside(edge.0) && graph.node(edge.0).is_some_and(|n| n.kind == Kind::Function) {
            edge.1 = shell;
        }
    }
    let schemas: Vec<(u32, u32)> = edges
        .iter()
        .filter(|e| e.0 == range && graph.node(e.1).is_some_and(|n| n.kind == Kind::Schema))
        .map(|e| (shell, e.1))
        .collect();
    edges.extend(schemas);
    edges.push((range, shell));
    graph.edges = edges;
}

fn break_edge(graph: &mut Graph, ranked: &[u32], inside: &dyn Fn(u32) -> bool) {
    let Some(&victim) = ranked.last() else { return };
    let name = graph.node(victim).map(|n| graph.qualified(n)).unwrap_or_default();
    let mut edges = std::mem::take(&mut graph.edges);
    edges.retain(|&(from, to)| {
        !(container(graph, from) == victim && container(graph, to) != victim && inside(container(graph, to)))
    });
    graph.edges = edges;
    graph.notes.push(Note::new(
        "dependency-loop",
        name,
        "depends on itself through other objects; its place in the order is a guess",
    ));
}

fn set(graph: &mut Graph, index: u32, bit: u8, on: bool) {
    if let Some(node) = usize::try_from(index).ok().and_then(|i| graph.nodes.get_mut(i)) {
        node.flags = if on { node.flags | bit } else { node.flags & !bit };
    }
}

/// Moves what needs something from after the data there too; returns whether the graph changed its shape.
///
/// A view becomes a placeholder; a part leaves its container; a table stays, since its rows need it.
fn move_after_data(graph: &mut Graph) -> bool {
    let mut dependants: Vec<(u32, u32)> = graph.edges.iter().map(|&(from, to)| (to, from)).collect();
    dependants.sort_unstable();
    let mut open: Vec<u32> = (0u32..)
        .zip(&graph.nodes)
        .filter(|(_, n)| n.is_post())
        .map(|(i, _)| i)
        .collect();
    let mut changed = false;
    while let Some(late) = open.pop() {
        let start = dependants.partition_point(|e| e.0 < late);
        for &(_, index) in dependants.iter().skip(start).take_while(|e| e.0 == late) {
            let Some(node) = graph.node(index).copied() else {
                continue;
            };
            if node.is_post() {
                continue;
            }
            if node.has(flag::INLINE) {
                // A part always needs its container; only other needs count, and containers are never late.
                set(graph, index, flag::INLINE, false);
                set(graph, index, flag::POST, true);
                changed = true;
            } else if node.kind == Kind::View && !node.has(flag::PLACEHOLDER) {
                split_view(graph, index);
                return true;
            } else if matches!(
                node.kind,
                Kind::Table
                    | Kind::ForeignTable
                    | Kind::LateColumns
                    | Kind::Sequence
                    | Kind::View
                    | Kind::Schema
                    | Kind::Extension
            ) {
                continue;
            } else {
                set(graph, index, flag::POST, true);
            }
            open.push(index);
        }
    }
    changed
}

/// Returns for each node the number of its strongly connected component, [`NONE`] for those alone (Tarjan, iterative).
fn components(count: usize, edges: &[(u32, u32)]) -> Vec<u32> {
    let mut starts = vec![0usize; count + 1];
    for &(from, _) in edges {
        if let Some(slot) = usize::try_from(from).ok().and_then(|f| starts.get_mut(f + 1)) {
            *slot += 1;
        }
    }
    let mut sum = 0;
    for slot in &mut starts {
        sum += *slot;
        *slot = sum;
    }
    let mut state = Tarjan {
        index: vec![NONE; count],
        low: vec![0; count],
        on_stack: vec![false; count],
        stack: Vec::new(),
        result: vec![NONE; count],
        next: 0,
        components: 0,
    };
    for root in 0..count {
        if state.index.get(root) == Some(&NONE) {
            state.visit(root, &starts, edges);
        }
    }
    state.result
}

struct Tarjan {
    index: Vec<u32>,
    low: Vec<u32>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    result: Vec<u32>,
    next: u32,
    components: u32,
}

#[allow(clippy::indexing_slicing)] // every index is a node number below `count`, the length of each vector
impl Tarjan {
    fn enter(&mut self, node: usize) {
        self.index[node] = self.next;
        self.low[node] = self.next;
        self.next += 1;
        self.stack.push(node);
        self.on_stack[node] = true;
    }

    fn visit(&mut self, root: usize, starts: &[usize], edges: &[(u32, u32)]) {
        let mut calls = vec![(root, starts[root])];
        self.enter(root);
        while let Some((node, cursor)) = calls.pop() {
            if cursor < starts[node + 1] {
                calls.push((node, cursor + 1));
                let Ok(target) = usize::try_from(edges[cursor].1) else {
                    continue;
                };
                if self.index[target] == NONE {
                    self.enter(target);
                    calls.push((target, starts[target]));
                } else if self.on_stack[target] {
                    self.low[node] = self.low[node].min(self.index[target]);
                }
                continue;
            }
            if self.low[node] == self.index[node] {
                self.close(node);
            }
            if let Some(&(caller, _)) = calls.last() {
                self.low[caller] = self.low[caller].min(self.low[node]);
            }
        }
    }

    fn close(&mut self, node: usize) {
        let alone = self.stack.last() == Some(&node);
        while let Some(member) = self.stack.pop() {
            self.on_stack[member] = false;
            if !alone {
                self.result[member] = self.components;
            }
            if member == node {
                break;
            }
        }
        self.components += 1;
    }
}

/// Returns the printed nodes: before the data first, each after what it needs, else by priority, schema and name.
fn sorted(graph: &Graph, edges: &[(u32, u32)]) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0u32..)
        .zip(&graph.nodes)
        .filter(|(_, n)| !n.has(flag::INLINE | flag::EXCLUDED))
        .map(|(i, _)| i)
        .collect();
    let key = |i: u32| {
        graph
            .node(i)
            .map(|n| (n.kind.is_last_pass(), n.is_post(), n.kind.priority()))
    };
    ranked.sort_by(|&a, &b| {
        key(a)
            .cmp(&key(b))
            .then_with(|| graph.sort_key(a).cmp(&graph.sort_key(b)))
    });
    let mut rank = vec![NONE; graph.nodes.len()];
    for (place, &node) in (0u32..).zip(&ranked) {
        if let Some(slot) = usize::try_from(node).ok().and_then(|n| rank.get_mut(n)) {
            *slot = place;
        }
    }
    let mut waits = vec![0u32; graph.nodes.len()];
    let mut dependants: Vec<(u32, u32)> = edges.iter().map(|&(from, to)| (to, from)).collect();
    dependants.sort_unstable();
    for &(from, _) in edges {
        if let Some(slot) = usize::try_from(from).ok().and_then(|n| waits.get_mut(n)) {
            *slot += 1;
        }
    }
    let mut ready: BinaryHeap<Reverse<u32>> = ranked
        .iter()
        .filter(|&&n| at(&waits, n) == Some(0))
        .filter_map(|&n| at(&rank, n))
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(ranked.len());
    while let Some(Reverse(place)) = ready.pop() {
        let Some(node) = at(&ranked, place) else { continue };
        order.push(node);
        let start = dependants.partition_point(|e| e.0 < node);
        for &(_, waiting) in dependants.iter().skip(start).take_while(|e| e.0 == node) {
            if let Some(left) = usize::try_from(waiting).ok().and_then(|n| waits.get_mut(n)) {
                *left = left.saturating_sub(1);
                if *left == 0
                    && let Some(place) = at(&rank, waiting)
                {
                    ready.push(Reverse(place));
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::node::Node;
    use super::*;

    fn graph(nodes: &[(Kind, &str, u32, u8)], edges: &[(u32, u32)]) -> Graph {
        let mut graph = Graph::default();
        for (oid, &(kind, name, parent, flags)) in (0u32..).zip(nodes) {
            graph.push_node(
                Node {
                    oid,
                    schema: NONE,
                    name: (0, 0),
                    parent,
                    kind,
                    flags,
                },
                name,
            );
        }
        graph.edges = edges.to_vec();
        arrange(&mut graph);
        graph
    }

    fn names(graph: &Graph) -> Vec<String> {
        graph
            .order
            .iter()
            .map(|&i| graph.node(i).unwrap())
            .map(|n| format!("{} {}", n.kind.word(), graph.name(n)))
            .collect()
    }

    #[test]
    fn objects_without_needs_stand_by_priority_and_name() {
        let graph = graph(
            &[
                (Kind::Table, "b", NONE, 0),
                (Kind::Table, "a", NONE, 0),
                (Kind::Enum, "z", NONE, 0),
                (Kind::Index, "i", 0, 0),
            ],
            &[(3, 0)],
        );
        assert_eq!(names(&graph), ["TYPE z", "TABLE a", "TABLE b", "INDEX i"]);
    }

    #[test]
    fn a_serial_default_leaves_its_table_because_the_sequence_belongs_to_it() {
        // default -> table, default -> sequence, sequence -> table
        let graph = graph(
            &[
                (Kind::Table, "t", NONE, 0),
                (Kind::Default, "id", 0, flag::INLINE),
                (Kind::Sequence, "s", NONE, 0),
            ],
            &[(1, 0), (1, 2), (2, 0)],
        );
        assert_eq!(names(&graph), ["TABLE t", "SEQUENCE s", "DEFAULT id"]);
    }

    #[test]
    fn a_default_stays_within_its_table_otherwise() {
        let graph = graph(
            &[
                (Kind::Table, "t", NONE, 0),
                (Kind::Default, "id", 0, flag::INLINE),
                (Kind::Sequence, "s", NONE, 0),
            ],
            &[(1, 0), (1, 2)],
        );
        assert_eq!(names(&graph), ["SEQUENCE s", "TABLE t"]);
    }

    #[test]
    fn views_in_a_loop_get_a_placeholder() {
        let graph = graph(
            &[(Kind::View, "v", NONE, 0), (Kind::View, "w", NONE, 0)],
            &[(0, 1), (1, 0)],
        );
        assert_eq!(names(&graph), ["VIEW v", "VIEW w", "RULE v"]);
        assert!(graph.notes.is_empty());
    }

    #[test]
    fn a_view_that_needs_a_key_is_completed_after_it() {
        let graph = graph(
            &[
                (Kind::Table, "t", NONE, 0),
                (Kind::Constraint, "t_pkey", 0, 0),
                (Kind::View, "v", NONE, 0),
                (Kind::MatView, "m", NONE, 0),
            ],
            &[(1, 0), (2, 0), (2, 1), (3, 1)],
        );
        assert_eq!(
            names(&graph),
            [
                "TABLE t",
                "VIEW v",
                "MATERIALIZED VIEW m",
                "CONSTRAINT t_pkey",
                "RULE v"
            ]
            .map(String::from)
            .to_vec()
            .tap_sorted(&graph)
        );
    }

    trait TapSorted {
        fn tap_sorted(self, graph: &Graph) -> Vec<String>;
    }

    impl TapSorted for Vec<String> {
        /// The materialized view must stand after the key; its exact place follows its priority.
        fn tap_sorted(self, graph: &Graph) -> Vec<String> {
            let got = names(graph);
            let place = |word: &str| got.iter().position(|n| n == word).unwrap();
            assert!(place("MATERIALIZED VIEW m") > place("CONSTRAINT t_pkey"));
            assert!(place("RULE v") > place("CONSTRAINT t_pkey"));
            assert!(place("VIEW v") < place("CONSTRAINT t_pkey"));
            assert_eq!(got.len(), self.len());
            got
        }
    }

    #[test]
    fn a_chain_of_200_000_objects_needs_no_recursion() {
        let nodes: Vec<(Kind, &str, u32, u8)> = (0..200_000).map(|_| (Kind::Table, "t", NONE, 0)).collect();
        let edges: Vec<(u32, u32)> = (0..199_999).map(|i| (i, i + 1)).collect();
        let graph = graph(&nodes, &edges);
        assert_eq!(graph.order.len(), 200_000);
        assert_eq!(graph.order[0], 199_999);
    }
}
