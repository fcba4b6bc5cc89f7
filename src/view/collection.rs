//! One collection as it was after a commit.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use imbl::{OrdMap, OrdSet, Vector};
use tokio::sync::watch;

use super::Home;
use super::listed::{Clusters, Listed, SizeClass};
use crate::engine::changes::{Changes, Constraint, PairOfFaces, Released};
use crate::engine::event::{Change, Cluster, Event};
use crate::face::{ClusterId, FaceId};

/// A face in the cluster that is its home. Of none: before all who are at home there.
pub(super) type Resident = (ClusterId, Option<FaceId>);

/// Who is in which cluster. To clone it costs next to nothing.
#[derive(Debug, Clone)]
pub struct CollectionView {
    homes: imbl::HashMap<FaceId, ClusterId>,
    pub(super) clusters: Clusters,
    pub(super) residents: OrdSet<Resident>,
    pub(super) constraints: OrdMap<PairOfFaces, Constraint>,
    /// The newest, without a gap.
    events: Vector<Arc<Held>>,
    /// Of the last event.
    sequence: u64,
    /// Tells whoever waits for the next commit.
    told: watch::Sender<u64>,
}

impl Default for CollectionView {
    fn default() -> CollectionView {
        CollectionView {
            homes: imbl::HashMap::default(),
            clusters: Clusters::default(),
            residents: OrdSet::default(),
            constraints: OrdMap::default(),
            events: Vector::default(),
            sequence: 0,
            told: watch::Sender::new(0),
        }
    }
}

/// An event that is held, for whoever follows.
#[derive(Debug)]
pub struct Held {
    pub event: Event,
    written: OnceLock<Box<str>>,
}

impl Held {
    pub(super) fn new(event: Event) -> Held {
        Held { event, written: OnceLock::new() }
    }

    /// How it is written: by `write`, once for all who follow.
    pub fn written(&self, write: impl FnOnce(&Event) -> String) -> &str {
        self.written.get_or_init(|| write(&self.event).into())
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.event == other.event
    }
}

/// What came after a sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Since {
    /// In order, as many as were asked for at most; none: nothing came.
    Events(Vec<Arc<Held>>),
    /// They are not held any more. The first that is, if there is one.
    Gone { first: Option<u64> },
}

impl CollectionView {
    pub fn faces(&self) -> usize {
        self.homes.len()
    }

    /// How many clusters live.
    pub fn living(&self) -> usize {
        self.clusters.living()
    }

    /// Sequence of the last event.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn sizes(&self) -> Vec<SizeClass> {
        self.clusters.sizes()
    }

    /// The living cluster of a face.
    pub fn cluster_of(&self, face: &FaceId) -> Option<&Listed> {
        self.clusters.living_of(*self.homes.get(face)?)
    }

    /// A cluster, also one that merged as long as somebody's way goes through it.
    pub fn cluster(&self, id: ClusterId) -> Option<&Listed> {
        self.clusters.get(id)
    }

    /// The living cluster that it went into, or it itself.
    pub fn living_of(&self, id: ClusterId) -> Option<&Listed> {
        self.clusters.living_of(id)
    }

    pub fn constraint(&self, pair: &PairOfFaces) -> Option<&Constraint> {
        self.constraints.get(pair)
    }

    /// At most `most` events after `sequence`.
    pub fn events_after(&self, sequence: u64, most: usize) -> Since {
        if sequence >= self.sequence {
            // A sequence of the future is one of a state that was: whoever has it has to begin anew.
            return if sequence == self.sequence { Since::Events(Vec::new()) } else { Since::Gone { first: None } };
        }
        let first = self.sequence + 1 - self.events.len() as u64;
        if sequence + 1 < first {
            return Since::Gone { first: (!self.events.is_empty()).then_some(first) };
        }
        let skipped = (sequence + 1 - first) as usize;
        Since::Events(self.events.skip(skipped).iter().take(most).cloned().collect())
    }

    /// Is told the last event's sequence at every commit.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    pub(super) fn tell(&self) {
        self.told.send_replace(self.sequence);
    }

    pub(super) fn fill<'a>(
        &mut self,
        homes: impl Iterator<Item = Home>,
        clusters: impl Iterator<Item = &'a Cluster>,
        constraints: impl Iterator<Item = &'a Constraint>,
        sequence: u64,
    ) {
        clusters.for_each(|cluster| self.clusters.put(cluster.clone(), None));
        homes.for_each(|Home { face, home }| self.move_to(face, home));
        constraints.for_each(|constraint| self.constrain(constraint.clone()));
        self.sequence = sequence;
    }

    /// `held`: how many events are kept.
    pub(super) fn update(&mut self, changes: &Changes, held: usize) {
        let changed = changed_by(&changes.events);
        let is_told_anew = changes.events.first().is_some_and(|event| event.sequence <= self.sequence);
        if is_told_anew {
            self.events.clear();
        }
        self.events.extend(changes.events.iter().cloned().map(Held::new).map(Arc::new));
        while self.events.len() > held {
            self.events.pop_front();
        }
        self.sequence = changes.events.last().map_or(self.sequence, |event| event.sequence);
        for cluster in &changes.clusters {
            // One that was pinned or named changed without an event.
            let sequence = changed.get(&cluster.id).copied().unwrap_or(self.sequence);
            self.clusters.put(cluster.clone(), Some(sequence));
        }
        changes.faces.iter().for_each(|face| self.move_to(face.record.id.clone(), face.record.home));
        changes.gone_ids.iter().for_each(|face| self.forget(face));
        changes.retired.iter().for_each(|&cluster| self.clusters.remove(cluster));
        changes.constraints.iter().for_each(|constraint| self.constrain(constraint.clone()));
        for Released { a, b } in &changes.released {
            self.constraints.remove(&PairOfFaces::new(a, b));
        }
    }

    fn move_to(&mut self, face: FaceId, home: ClusterId) {
        if let Some(before) = self.homes.insert(face.clone(), home) {
            self.residents.remove(&(before, Some(face.clone())));
        }
        self.residents.insert((home, Some(face)));
    }

    fn forget(&mut self, face: &FaceId) {
        if let Some(home) = self.homes.remove(face) {
            self.residents.remove(&(home, Some(face.clone())));
        }
    }

    fn constrain(&mut self, constraint: Constraint) {
        self.constraints.insert(PairOfFaces::new(&constraint.a, &constraint.b), constraint);
    }
}

/// Clusters that events changed, and the last that did.
fn changed_by(events: &[Event]) -> HashMap<ClusterId, u64> {
    let mut changed = HashMap::new();
    for Event { sequence, change, .. } in events {
        let other = match change {
            Change::Merged { merged, .. } => Some(merged),
            Change::Split { into, .. } | Change::Left { into, .. } => Some(into),
            Change::Created { .. } | Change::Joined { .. } | Change::Erased { .. } | Change::Settled { .. } => None,
        };
        changed.extend(change.cluster().into_iter().chain(other).map(|cluster| (cluster.id, *sequence)));
    }
    changed
}
