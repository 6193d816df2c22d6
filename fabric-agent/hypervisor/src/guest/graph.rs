//! What QEMU's block nodes are connected with.
//!
//! A guest's disk is a chain of nodes, each with the node of its file. What they are called follows from how
//! the chain came about (the command line, `blockdev-add`, snapshots, merges), not from what it is now,
//! so QEMU is asked. `x-debug-query-block-graph` (QEMU 4.0, `qapi/block-core.json`) is the only command
//! that tells: files' names say nothing, as all are descriptors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::GuestError;
use super::devices::Devices;

/// The nodes of one QEMU, by their names.
#[derive(Debug, Default)]
pub(super) struct BlockGraph {
    /// Node, and what it has as its `file` or `backing`.
    children: BTreeMap<String, BTreeMap<String, String>>,
}

impl BlockGraph {
    pub(super) async fn of(devices: &Devices<'_>) -> Result<Self, GuestError> {
        Ok(Self::parse(&devices.execute("x-debug-query-block-graph", json!({})).await?))
    }

    fn parse(answer: &Value) -> Self {
        let items = |name: &str| answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_node = |node: &&Value| node["type"] == "block-driver";
        let named = |node: &Value| Some((node["id"].as_u64()?, node["name"].as_str()?.to_owned()));
        let names: BTreeMap<u64, String> =
            items("nodes").iter().filter(is_node).filter_map(named).collect();
        let mut graph = Self::default();
        for name in names.values() {
            graph.children.entry(name.clone()).or_default();
        }
        for edge in items("edges") {
            let end = |end: &str| edge[end].as_u64().and_then(|id| names.get(&id)).cloned();
            if let (Some(parent), Some(child), Some(role)) =
                (end("parent"), end("child"), edge["name"].as_str())
            {
                graph.children.entry(parent).or_default().insert(role.to_owned(), child);
            }
        }
        graph
    }

    fn child(&self, node: &str, role: &str) -> Option<&str> {
        self.children.get(node)?.get(role).map(String::as_str)
    }

    /// The node of a disk's file.
    pub(super) fn file_of(&self, node: &str) -> Option<&str> {
        self.child(node, "file")
    }

    /// What lies below `top`, bottom to top.
    pub(super) fn below(&self, top: &str) -> Vec<&str> {
        let mut chain: Vec<&str> =
            std::iter::successors(self.child(top, "backing"), |node| self.child(node, "backing"))
                .collect();
        chain.reverse();
        chain
    }

    /// All nodes that have to do with those whose names `is_ours`: what lies over them, and what all
    /// that consists of, each before what it has. Nodes of different disks are never connected.
    pub(super) fn connected(&self, is_ours: impl Fn(&str) -> bool) -> Vec<String> {
        let mut ours: BTreeSet<&str> =
            self.children.keys().map(String::as_str).filter(|name| is_ours(name)).collect();
        loop {
            let mut more = BTreeSet::new();
            for (parent, children) in &self.children {
                let mut children = children.values().map(String::as_str);
                if ours.contains(parent.as_str()) {
                    more.extend(children);
                } else if children.any(|child| ours.contains(child)) {
                    more.insert(parent);
                }
            }
            let before = ours.len();
            ours.extend(more);
            if ours.len() == before {
                break;
            }
        }
        let mut ordered = Vec::new();
        while !ours.is_empty() {
            let has = |node: &&&str| {
                let mut parents = ours.iter().filter_map(|parent| self.children.get(*parent));
                !parents.any(|children| children.values().any(|child| child == **node))
            };
            let tops: Vec<&str> = ours.iter().filter(has).copied().collect();
            if tops.is_empty() {
                break; // Nodes never lie over themselves.
            }
            for top in tops {
                ours.remove(top);
                ordered.push(top.to_owned());
            }
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU tells of nodes, each with its children.
    fn graph(nodes: &[(&str, &[(&str, &str)])]) -> BlockGraph {
        let id = |name: &str| nodes.iter().position(|(node, _)| *node == name).unwrap() + 2;
        let mut edges = vec![json!({ "parent": 1, "child": 2, "name": "root" })];
        for (parent, children) in nodes {
            for (role, child) in *children {
                edges.push(json!({ "parent": id(parent), "child": id(child), "name": role }));
            }
        }
        let mut all: Vec<Value> = nodes
            .iter()
            .map(|(name, _)| json!({ "id": id(name), "type": "block-driver", "name": name }))
            .collect();
        all.push(json!({ "id": 1, "type": "block-backend", "name": "/machine/peripheral/root" }));
        BlockGraph::parse(&json!({ "nodes": all, "edges": edges }))
    }

    #[test]
    fn chains_are_told_from_the_bottom_and_disks_from_each_other() {
        let graph = graph(&[
            ("seal-1", &[("file", "seal-1-file"), ("backing", "vol-1")]),
            ("vol-1", &[("file", "vol-1-f"), ("backing", "vol-1-b0")]),
            ("vol-1-b0", &[("file", "vol-1-b0-f")]),
            ("seal-1-file", &[]),
            ("vol-1-f", &[]),
            ("vol-1-b0-f", &[]),
            ("vol-2", &[("file", "vol-2-f")]),
            ("vol-2-f", &[]),
        ]);
        assert_eq!(graph.below("seal-1"), ["vol-1-b0", "vol-1"]);
        assert_eq!(graph.file_of("vol-1"), Some("vol-1-f"));
        assert!(graph.below("vol-2").is_empty() && graph.below("nothing").is_empty());
        let of = |prefix: &str| graph.connected(|name| name.starts_with(prefix));
        let first = of("vol-1-b0");
        let place = |name: &str| first.iter().position(|other| other == name).unwrap();
        assert_eq!(first.len(), 6, "{first:?}");
        assert!(place("seal-1") < place("vol-1") && place("vol-1") < place("vol-1-b0"));
        assert!(place("seal-1") < place("seal-1-file") && place("vol-1-b0") < place("vol-1-b0-f"));
        assert_eq!(of("vol-2"), ["vol-2", "vol-2-f"]);
        assert!(of("vol-3").is_empty());
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_a_graph_without_nodes() {
        for answer in [json!({}), json!({ "nodes": 3, "edges": [1] }), json!([])] {
            assert!(BlockGraph::parse(&answer).connected(|_| true).is_empty());
        }
    }
}
