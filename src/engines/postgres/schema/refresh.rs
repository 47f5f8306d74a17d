//! Materialized views are filled at the very end: one refresh each, after the refreshes it reads from.

use super::graph::Graph;
use super::node::{Kind, flag, number_of};

/// Adds a refresh node for each populated materialized view, with edges through plain views.
pub(super) fn add_nodes(graph: &mut Graph) {
    let count = number_of(graph.nodes.len());
    let populated = |g: &Graph, i: u32| g.node(i).is_some_and(|n| n.kind == Kind::MatView && n.has(flag::DATA));
    let mut refreshes = std::collections::HashMap::new();
    for index in (0..count).filter(|&i| populated(graph, i)).collect::<Vec<_>>() {
        if let Some(refresh) = graph.push_derived(index, Kind::Refresh) {
            refreshes.insert(index, refresh);
        }
    }
    let mut edges = std::mem::take(&mut graph.edges);
    edges.sort_unstable();
    edges.dedup();
    let mut added = Vec::new();
    for (&view, &refresh) in &refreshes {
        let mut seen = std::collections::HashSet::new();
        let mut open = vec![view];
        while let Some(at) = open.pop() {
            let start = edges.partition_point(|e| e.0 < at);
            for &(_, to) in edges.iter().skip(start).take_while(|e| e.0 == at) {
                if let Some(&other) = refreshes.get(&to) {
                    added.push((refresh, other));
                } else if graph.node(to).is_some_and(|n| n.kind == Kind::View) && seen.insert(to) {
                    added.push((refresh, to));
                    open.push(to);
                }
            }
        }
    }
    added.retain(|e| e.0 != e.1);
    edges.append(&mut added);
    graph.edges = edges;
}
