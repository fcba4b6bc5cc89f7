//! Which faces have been kept long enough: by age, and by how many there may be. The oldest go first,
//! by event time. Cost: O(log n) a face that comes, goes or expires.

use std::collections::BTreeSet;

use super::faces::Faces;
use crate::face::{Arrival, NodeId, Timestamp};

/// What a collection keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds after which a face expires; none: never.
    pub max_age: Option<i64>,
    /// Faces kept at most; none: any number.
    pub max_faces: Option<usize>,
}

impl Retention {
    /// Whether a face of that time is too old at `now`.
    pub fn is_over(&self, time: Timestamp, now: Timestamp) -> bool {
        self.max_age.is_some_and(|max_age| time.0.saturating_add(max_age) < now.0)
    }
}

/// A face in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Aged {
    time: Timestamp,
    arrival: Arrival,
    node: NodeId,
}

/// The faces of a collection, oldest first. Empty where nothing expires.
#[derive(Debug, Default)]
pub struct Ages {
    retention: Retention,
    faces: BTreeSet<Aged>,
}

impl Ages {
    pub fn new(retention: Retention) -> Ages {
        Ages { retention, faces: BTreeSet::new() }
    }

    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    pub fn add(&mut self, node: NodeId, faces: &Faces) {
        if self.retention != Retention::default() {
            self.faces.insert(aged(node, faces));
        }
    }

    /// To be called while `faces` still holds the face as it was added.
    pub fn remove(&mut self, node: NodeId, faces: &Faces) {
        self.faces.remove(&aged(node, faces));
    }

    /// The face to go first, if one is too old at `now` or there are too many with `incoming` more.
    pub fn next_to_expire(&self, now: Timestamp, incoming: usize) -> Option<NodeId> {
        let oldest = self.faces.first()?;
        let too_many = self.retention.max_faces.is_some_and(|most| self.faces.len() + incoming > most);
        (too_many || self.retention.is_over(oldest.time, now)).then_some(oldest.node)
    }
}

fn aged(node: NodeId, faces: &Faces) -> Aged {
    Aged { time: faces.time(node), arrival: faces.arrival(node), node }
}
