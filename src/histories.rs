//! Random histories of a collection, for tests: a model of what the engine may tell, kept in the
//! plainest way, for those who read what it tells.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::engine::changes::{Changes, FaceRecord, KeptFace};
use crate::engine::event::{Cause, Change, Cluster, Event};
use crate::face::{Arrival, ClusterId, FaceId, NodeId, Offset, Partition, Place, Timestamp};

/// What happens next. Numbers pick among what is there; what cannot happen just then does not.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Create { face: u8 },
    Join { face: u8, cluster: u8 },
    Merge { a: u8, b: u8 },
    Split { face: u8 },
    Leave { face: u8, cluster: u8 },
    Erase { face: u8 },
    Describe { cluster: u8, pinned: bool },
    Settle,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => any::<u8>().prop_map(|face| Step::Create { face }),
        2 => any::<(u8, u8)>().prop_map(|(face, cluster)| Step::Join { face, cluster }),
        3 => any::<(u8, u8)>().prop_map(|(a, b)| Step::Merge { a, b }),
        1 => any::<u8>().prop_map(|face| Step::Split { face }),
        2 => any::<(u8, u8)>().prop_map(|(face, cluster)| Step::Leave { face, cluster }),
        2 => any::<u8>().prop_map(|face| Step::Erase { face }),
        1 => any::<(u8, bool)>().prop_map(|(cluster, pinned)| Step::Describe { cluster, pinned }),
        1 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 0..120)
}

/// The living clusters and who is in them.
pub type Members = BTreeMap<ClusterId, BTreeSet<FaceId>>;

/// A collection and all it knows.
#[derive(Debug, Default)]
pub struct History {
    pub homes: BTreeMap<FaceId, Home>,
    pub clusters: BTreeMap<ClusterId, Cluster>,
    last_cluster: u64,
    sequence: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Home {
    pub cluster: ClusterId,
    pub version: u32,
}

/// Names of faces there are.
const FACES: u8 = 12;

impl History {
    /// Takes a step, and says what it changed.
    pub fn take(&mut self, step: Step) -> Changes {
        let before = self.clusters.clone();
        let homes_before: BTreeSet<FaceId> = self.homes.keys().cloned().collect();
        let change = self.change(step);
        let reached: BTreeSet<ClusterId> = self.homes.values().flat_map(|home| self.way(home.cluster)).collect();
        let retired: Vec<ClusterId> = self.clusters.keys().filter(|id| !reached.contains(id)).copied().collect();
        self.clusters.retain(|id, _| reached.contains(id));

        let moved = change.as_ref().and_then(moved);
        let gone_ids = homes_before.into_iter().filter(|face| !self.homes.contains_key(face)).collect();
        let kept = moved.and_then(|face| Some(kept(face, *self.homes.get(face)?)));
        let clusters = self.clusters.values().filter(|cluster| before.get(&cluster.id) != Some(cluster)).cloned();
        let clusters = clusters.collect();
        let faces = kept.into_iter().collect();
        let events = change.into_iter().map(|change| {
            self.sequence += 1;
            // Something of everything.
            let causes = [Cause::Record(PLACE), Cause::Refresh, Cause::Expired, Cause::Api];
            let cause = causes[self.sequence as usize % causes.len()];
            Event { sequence: self.sequence, cause, change, retired: retired.clone() }
        });
        Changes { faces, gone_ids, clusters, events: events.collect(), retired, ..Changes::default() }
    }

    fn change(&mut self, step: Step) -> Option<Change> {
        match step {
            Step::Create { face } => {
                let face = self.absent(face)?;
                let cluster = self.found();
                self.homes.insert(face.clone(), Home { cluster: cluster.id, version: 1 });
                Some(Change::Created { cluster, face })
            }
            Step::Join { face, cluster } => {
                let (face, id) = (self.absent(face)?, self.living(cluster)?);
                self.homes.insert(face.clone(), Home { cluster: id, version: 1 });
                Some(Change::Joined { size_before: self.clusters[&id].size, cluster: self.grow(id, 1), face })
            }
            Step::Merge { a, b } => {
                let (a, b) = (self.living(a)?, self.living(b)?);
                if a == b {
                    return None;
                }
                let rank = |id: &ClusterId| (!self.clusters[id].pinned, *id);
                let (stays, goes) = if rank(&a) < rank(&b) { (a, b) } else { (b, a) };
                let loser = self.clusters.get_mut(&goes).unwrap();
                (loser.merged_into, loser.version) = (Some(stays), loser.version + 1);
                let merged = loser.clone();
                let size_before = self.clusters[&stays].size;
                Some(Change::Merged { cluster: self.grow(stays, merged.size as i32), merged, size_before })
            }
            Step::Split { face } => {
                let (face, from) = self.present(face)?;
                let size_before = self.clusters[&from].size;
                if size_before == 1 {
                    return None;
                }
                let (into, cluster) = (self.found(), self.grow(from, -1));
                let home_version = self.rehome(&face, into.id);
                Some(Change::Split { cluster, into, face, home_version, size_before })
            }
            Step::Leave { face, cluster } => {
                let ((face, from), to) = (self.present(face)?, self.living(cluster)?);
                if from == to {
                    return None;
                }
                let size_before = self.clusters[&from].size;
                let (cluster, into) = (self.grow(from, -1), self.grow(to, 1));
                let home_version = self.rehome(&face, to);
                Some(Change::Left { cluster, into, face, home_version, size_before })
            }
            Step::Erase { face } => {
                let (face, from) = self.present(face)?;
                let size_before = self.clusters[&from].size;
                self.homes.remove(&face);
                Some(Change::Erased { cluster: self.grow(from, -1), face, size_before })
            }
            Step::Describe { cluster, pinned } => {
                let id = self.living(cluster)?;
                let cluster = self.clusters.get_mut(&id).unwrap();
                let name = pinned.then(|| format!("person {id}"));
                (cluster.pinned, cluster.name, cluster.version) = (pinned, name, cluster.version + 1);
                None
            }
            Step::Settle => {
                Some(Change::Settled { faces: self.homes.len() as u64, clusters: self.members().len() as u64 })
            }
        }
    }

    fn found(&mut self) -> Cluster {
        self.last_cluster += 1;
        let id = ClusterId(self.last_cluster);
        let cluster = Cluster { id, merged_into: None, size: 1, version: 1, pinned: false, name: None };
        self.clusters.insert(id, cluster.clone());
        cluster
    }

    fn grow(&mut self, id: ClusterId, by: i32) -> Cluster {
        let cluster = self.clusters.get_mut(&id).unwrap();
        (cluster.size, cluster.version) = (cluster.size.strict_add_signed(by), cluster.version + 1);
        cluster.clone()
    }

    fn rehome(&mut self, face: &FaceId, cluster: ClusterId) -> u32 {
        let home = self.homes.get_mut(face).unwrap();
        *home = Home { cluster, version: home.version + 1 };
        home.version
    }

    fn absent(&self, face: u8) -> Option<FaceId> {
        let face = face_id(face);
        (!self.homes.contains_key(&face)).then_some(face)
    }

    fn present(&self, face: u8) -> Option<(FaceId, ClusterId)> {
        let face = face_id(face);
        let home = self.homes.get(&face)?.cluster;
        Some((face, *self.way(home).last().unwrap()))
    }

    fn living(&self, cluster: u8) -> Option<ClusterId> {
        let living: Vec<ClusterId> = self.clusters.values().filter(|c| c.lives()).map(|c| c.id).collect();
        (!living.is_empty()).then(|| living[usize::from(cluster) % living.len()])
    }

    /// home → merged_into → …
    pub fn way(&self, home: ClusterId) -> Vec<ClusterId> {
        std::iter::successors(Some(home), |id| self.clusters[id].merged_into).collect()
    }

    pub fn members(&self) -> Members {
        let mut members = Members::new();
        for (face, home) in &self.homes {
            members.entry(*self.way(home.cluster).last().unwrap()).or_default().insert(face.clone());
        }
        members
    }
}

/// Every name a face of a history may have.
pub fn face_ids() -> impl Iterator<Item = FaceId> {
    (0..FACES).map(face_id)
}

fn face_id(number: u8) -> FaceId {
    FaceId::new(&format!("cam/{}", number % FACES)).unwrap()
}

/// The face whose home a change sets.
fn moved(change: &Change) -> Option<&FaceId> {
    match change {
        Change::Created { face, .. }
        | Change::Joined { face, .. }
        | Change::Split { face, .. }
        | Change::Left { face, .. } => Some(face),
        Change::Merged { .. } | Change::Erased { .. } | Change::Settled { .. } => None,
    }
}

const PLACE: Place = Place { partition: Partition(1), offset: Offset(42) };

fn kept(face: &FaceId, home: Home) -> KeptFace {
    let record = FaceRecord {
        id: face.clone(),
        arrival: Arrival(1),
        home: home.cluster,
        home_version: home.version,
        frame_id: None,
        quality: None,
        captured_at: None,
        arrived_at: Timestamp(0),
        place: PLACE,
    };
    KeptFace { node: NodeId(0), record }
}
