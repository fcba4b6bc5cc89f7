//! The faces that are stale, and in which order they are scored again.
//!
//! A face is stale when its linkages would differ if it were scored now: somebody entered or left
//! its neighbourhood, or somebody's `g` in it changed, or its own. Each has one entry, however often
//! that happens. Changes that matter wait in order, most changed first; small ones wait for idle
//! time in the order they came. A neighbour more or less counts for less where a face has no linkage
//! to another cluster, for clusters seldom change by it. At the paper's size one arrival changes the
//! `g` of a handful of faces, each a neighbour of 150: those many small changes must cost little, so
//! they are added up and not sorted.
//!
//! Cost: O(log n) to mark a face first or when it matters, else O(1).

use std::collections::BTreeSet;

use crate::face::{NodeId, Timestamp};

/// Below this the sum of changes of a face is small. The scale: a face of cosine s that enters or
/// leaves a neighbourhood changes it by s; a `g` that turns by an angle changes it by 1 − cosine.
const MATTERS: f32 = 0.05;
/// Where a face has no linkage to another cluster, who enters or leaves its neighbourhood changes it by this share of s.
/// At 1 such faces take the turns of those by whom clusters change, and a stream is further from its batch
/// (models/train/EXPERIMENTS.md, "Which stale faces come first").
pub const INSIDE: f32 = 0.2;

/// Why a face is stale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Staleness {
    /// How much has changed, summed up.
    pub change: f32,
    /// `g` is stale too.
    pub enhanced: bool,
    pub since: Timestamp,
}

/// A stale face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stale {
    pub node: NodeId,
    pub staleness: Staleness,
}

/// A place in the order: most changed first, then by node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// The bits of a change, which is not negative, order as it does; complemented, so that the
    /// largest comes first.
    change: u32,
    node: NodeId,
}

/// How long a face has been waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    since: Timestamp,
    node: NodeId,
}

/// The queue of stale faces.
#[derive(Debug, Default)]
pub struct StaleFaces {
    /// By node.
    entries: Vec<Option<Staleness>>,
    depth: usize,
    /// Those whose change matters.
    urgent: BTreeSet<Turn>,
    /// All of them; the others have their turn as they came.
    waiting: BTreeSet<Waiting>,
}

impl StaleFaces {
    /// Adds to what is stale of a face.
    pub fn mark(&mut self, node: NodeId, change: f32, enhanced: bool, now: Timestamp) {
        let change = change.max(0.0);
        if self.entries.len() <= node.index() {
            self.entries.resize(node.index() + 1, None);
        }
        match &mut self.entries[node.index()] {
            Some(staleness) => {
                let before = staleness.change;
                staleness.change += change;
                staleness.enhanced |= enhanced;
                let after = staleness.change;
                if after >= MATTERS && after != before {
                    self.urgent.remove(&turn(node, before));
                    self.urgent.insert(turn(node, after));
                }
            }
            empty => {
                *empty = Some(Staleness { change, enhanced, since: now });
                self.depth += 1;
                self.waiting.insert(Waiting { since: now, node });
                if change >= MATTERS {
                    self.urgent.insert(turn(node, change));
                }
            }
        }
    }

    /// Takes the face whose turn it is; with `idle`, also those whose change is small.
    pub fn take(&mut self, idle: bool) -> Option<Stale> {
        let urgent = self.urgent.first().map(|turn| turn.node);
        let node = urgent.or_else(|| self.waiting.first().filter(|_| idle).map(|waiting| waiting.node))?;
        self.remove(node).map(|staleness| Stale { node, staleness })
    }

    /// Takes a face out: it was scored, or is gone.
    pub fn remove(&mut self, node: NodeId) -> Option<Staleness> {
        let staleness = self.entries.get_mut(node.index())?.take()?;
        self.depth -= 1;
        self.urgent.remove(&turn(node, staleness.change));
        self.waiting.remove(&Waiting { since: staleness.since, node });
        Some(staleness)
    }

    /// All of them, in order of node.
    pub fn all(&self) -> Vec<Stale> {
        let entries = (0..).map(NodeId).zip(&self.entries);
        entries.filter_map(|(node, entry)| entry.map(|staleness| Stale { node, staleness })).collect()
    }

    pub fn len(&self) -> usize {
        self.depth
    }

    pub fn is_empty(&self) -> bool {
        self.depth == 0
    }

    /// Since when the longest waiting face is stale.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.waiting.first().map(|waiting| waiting.since)
    }
}

fn turn(node: NodeId, change: f32) -> Turn {
    Turn { change: !change.to_bits(), node }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(queue: &mut StaleFaces, idle: bool) -> Vec<u32> {
        std::iter::from_fn(|| queue.take(idle)).map(|stale| stale.node.0).collect()
    }

    #[test]
    fn most_changed_first_and_small_changes_only_when_idle() {
        let mut queue = StaleFaces::default();
        for (node, change) in [(1, 0.3), (2, 0.01), (3, 0.9), (4, 0.02), (5, 0.3)] {
            queue.mark(NodeId(node), change, false, Timestamp(i64::from(node)));
        }
        assert_eq!((queue.len(), queue.oldest()), (5, Some(Timestamp(1))));
        assert_eq!(order(&mut queue, false), [3, 1, 5]);
        assert_eq!((queue.len(), queue.oldest()), (2, Some(Timestamp(2))));
        assert_eq!(order(&mut queue, true), [2, 4]);
        assert!(queue.is_empty() && queue.oldest().is_none());
    }

    #[test]
    fn a_face_has_one_entry_in_which_changes_add_up() {
        let mut queue = StaleFaces::default();
        for _ in 0..6 {
            queue.mark(NodeId(7), 0.01, false, Timestamp(3));
        }
        queue.mark(NodeId(7), 0.0, true, Timestamp(9));
        assert_eq!(queue.len(), 1);
        let stale = queue.take(false).expect("six small changes matter together");
        assert!(stale.staleness.enhanced && stale.staleness.since == Timestamp(3));
        assert_eq!(queue.take(true), None, "nothing of it is left in the other lane");
        queue.mark(NodeId(7), 0.01, false, Timestamp(4));
        assert_eq!(order(&mut queue, true), [7]);
    }

    #[test]
    fn who_is_gone_is_not_taken() {
        let mut queue = StaleFaces::default();
        queue.mark(NodeId(1), 0.5, false, Timestamp(1));
        queue.mark(NodeId(2), 0.0, false, Timestamp(1));
        queue.mark(NodeId(3), 0.0, false, Timestamp(1));
        queue.remove(NodeId(1));
        queue.remove(NodeId(2));
        assert_eq!(order(&mut queue, true), [3]);
    }
}
