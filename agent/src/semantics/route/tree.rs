//! What one service's paths have in common: a tree of segments, bounded in width (a position with too
//! many fixed values becomes `{param}`), in depth and in size (what does not fit becomes `*`).

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::HashTable;

use super::segment::{Shape, shape};

/// Segments of a route; what is deeper becomes `*`.
const MAX_DEPTH: usize = 16;
const ROOT: u32 = 0;
/// Doubtful segments below one prefix that are told apart.
const MAX_DOUBTFUL: usize = 8;
const PARAM: &str = "{param}";
const REST: &str = "*";

#[derive(Debug)]
struct Node {
    parent: u32,
    /// As it stands in routes.
    name: Box<str>,
    /// Children that are fixed text.
    fixed: usize,
    /// Fixed text is not told apart below this any more.
    collapsed: bool,
    /// Whether it may be a value, and how many such children there are.
    doubtful: bool,
    doubtful_children: usize,
    /// Doubtful segments are not told apart below this any more.
    counted: bool,
    /// The route that ends here, once one did.
    route: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Tree {
    /// `nodes[ROOT]` is the empty path; freed ones wait in `free`.
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// All nodes but the root, by parent and name.
    edges: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
    max_siblings: usize,
    max_segments: usize,
}

impl Tree {
    pub(super) fn new(max_siblings: usize, max_segments: usize) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: foldhash::fast::FixedState::default(),
            max_siblings,
            max_segments,
        };
        tree.nodes.push(Node::new(ROOT, ""));
        tree
    }

    /// Segments remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    /// The route of a path that begins with `/`. Without `learn` nothing is remembered, and what is
    /// unknown has no route.
    pub(super) fn route(&mut self, path: &str, learn: bool) -> Option<Arc<str>> {
        let mut node = ROOT;
        let mut segments = path[1..].split('/').peekable();
        let mut depth = 0;
        while let Some(segment) = segments.next() {
            // Parameters of a segment (RFC 3986 section 3.3) are no part of a route.
            let segment = segment.split_once(';').map_or(segment, |(name, _)| name);
            depth += 1;
            if depth > MAX_DEPTH {
                node = self.rest(node, learn)?;
                break;
            }
            let Node { collapsed, counted, doubtful_children, .. } = self.nodes[node as usize];
            let shape = shape(segment, segments.peek().is_none());
            let keyed = if let Shape::Keyed(name) = shape {
                format!("{name}({{id}})")
            } else {
                String::new()
            };
            let (name, fixed) = match shape {
                Shape::Value(name) => (name, false),
                Shape::Doubtful(name) if collapsed || counted => (name, false),
                Shape::Fixed | Shape::Keyed(_) if collapsed && !segment.is_empty() => {
                    (PARAM, false)
                }
                Shape::Keyed(_) => (&*keyed, true),
                Shape::Fixed | Shape::Doubtful(_) => (segment, true),
            };
            node = match self.child(node, name) {
                Some(child) => child,
                None if !learn => return None,
                None if fixed && self.nodes[node as usize].fixed >= self.max_siblings => {
                    self.collapse(node, |_| true);
                    self.nodes[node as usize].collapsed = true;
                    self.add(node, PARAM, false)
                }
                None if let Shape::Doubtful(name) = shape
                    && fixed
                    && doubtful_children >= MAX_DOUBTFUL =>
                {
                    self.collapse(node, |child| child.doubtful);
                    self.nodes[node as usize].counted = true;
                    match self.child(node, name) {
                        Some(child) => child,
                        None => self.add(node, name, false),
                    }
                }
                // One place stays free for the `*` that says there is no place.
                None if self.edges.len() + 1 >= self.max_segments => {
                    node = self.rest(node, learn)?;
                    break;
                }
                None => {
                    let child = self.add(node, name, fixed);
                    let doubtful = fixed && matches!(shape, Shape::Doubtful(_));
                    self.nodes[child as usize].doubtful = doubtful;
                    self.nodes[node as usize].doubtful_children += usize::from(doubtful);
                    child
                }
            };
        }
        let end = &self.nodes[node as usize];
        if let Some(route) = &end.route {
            return Some(Arc::clone(route));
        }
        let route: Arc<str> = self.render(node).into();
        self.nodes[node as usize].route = Some(Arc::clone(&route));
        Some(route)
    }

    fn hash(&self, parent: u32, name: &str) -> u64 {
        hash(&self.hasher, parent, name)
    }

    fn child(&self, parent: u32, name: &str) -> Option<u32> {
        let same = |&at: &u32| {
            let node = &self.nodes[at as usize];
            node.parent == parent && *node.name == *name
        };
        self.edges.find(self.hash(parent, name), same).copied()
    }

    fn add(&mut self, parent: u32, name: &str, fixed: bool) -> u32 {
        let node = Node::new(parent, name);
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("far fewer than max_segments")
            }
        };
        self.nodes[parent as usize].fixed += usize::from(fixed);
        let Self { nodes, edges, hasher, .. } = self;
        edges.insert_unique(hash(hasher, parent, name), at, |&at| {
            let node = &nodes[at as usize];
            hash(hasher, node.parent, &node.name)
        });
        at
    }

    /// The `*` below `node`; where even that is new and there is no place for it, the one at the root.
    fn rest(&mut self, node: u32, learn: bool) -> Option<u32> {
        if let Some(rest) = self.child(node, REST).or_else(|| {
            let full = self.edges.len() >= self.max_segments;
            if full { self.child(ROOT, REST) } else { None }
        }) {
            return Some(rest);
        }
        if !learn {
            return None;
        }
        let full = self.edges.len() + 1 >= self.max_segments;
        let below = if full { ROOT } else { node };
        Some(self.child(below, REST).unwrap_or_else(|| self.add(below, REST, false)))
    }

    /// Forgets those fixed children of `node` that `which` is true of, with everything below them.
    fn collapse(&mut self, node: u32, which: impl Fn(&Node) -> bool) {
        let mut gone = vec![false; self.nodes.len()];
        let placeholder = |name: &str| name.starts_with(['{', '*']);
        let parents: Vec<u32> = self.edges.iter().copied().collect();
        // A child may come before its parent: until nothing changes, at most once per level.
        loop {
            let before = gone.iter().filter(|&&gone| gone).count();
            for &at in &parents {
                let child @ Node { parent, name, .. } = &self.nodes[at as usize];
                let fixed = !placeholder(name) && !name.is_empty();
                let first = *parent == node && fixed && which(child);
                gone[at as usize] |= first || (gone[*parent as usize] && *parent != ROOT);
            }
            if gone.iter().filter(|&&gone| gone).count() == before {
                break;
            }
        }
        self.edges.retain(|&mut at| !gone[at as usize]);
        self.free.extend((0..).zip(&gone).filter_map(|(at, gone)| gone.then_some(at)));
        let left = self.edges.iter().map(|&at| &self.nodes[at as usize]);
        let left = left.filter(|child| child.parent == node && !placeholder(&child.name));
        let fixed = left.filter(|child| !child.name.is_empty()).count();
        let node = &mut self.nodes[node as usize];
        node.fixed = fixed;
        node.doubtful_children = 0;
    }

    fn render(&self, mut node: u32) -> String {
        let mut names = Vec::new();
        while node != ROOT {
            let Node { parent, name, .. } = &self.nodes[node as usize];
            names.push(&**name);
            node = *parent;
        }
        names.iter().rev().fold(String::new(), |route, name| route + "/" + name)
    }
}

impl Node {
    fn new(parent: u32, name: &str) -> Self {
        Self {
            parent,
            name: name.into(),
            fixed: 0,
            collapsed: false,
            doubtful: false,
            doubtful_children: 0,
            counted: false,
            route: None,
        }
    }
}

fn hash(hasher: &foldhash::fast::FixedState, parent: u32, name: &str) -> u64 {
    let mut state = hasher.build_hasher();
    parent.hash(&mut state);
    name.hash(&mut state);
    std::hash::Hasher::finish(&state)
}
