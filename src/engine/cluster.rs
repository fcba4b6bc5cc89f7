//! Step 5, cluster: linkages to clusters, and clusters to changes.
//!
//! A persistent union-find over clusters. A face keeps the cluster it joined, its home, for good;
//! a merge only writes into the younger cluster which one it merged into. So a merge costs one
//! record, however large the clusters are, and the chain home → merged_into → … is the same in
//! memory, in sled and for a reader of the topics. Chains are shortened in memory alone: a look-up
//! costs O(log n) amortised, as union by age with path compression does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::link::Scored;
use crate::face::{ClusterId, FaceId, NodeId, Place};
use crate::model::artefact::{Merging, Rule};

/// A cluster's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    /// The older cluster it went into; `None` while it lives.
    pub merged_into: Option<ClusterId>,
    /// Its faces; of a merged one, those it had.
    pub size: u32,
    /// Counts its changes from 1.
    pub version: u64,
}

/// What happened to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `face` is the first of a new `cluster`.
    Created { cluster: Cluster, face: FaceId },
    /// `face` is new in `cluster`, which is as it is after.
    Joined { cluster: Cluster, face: FaceId, size_before: u32 },
    /// `merged` went into `cluster`; both are as they are after.
    Merged { cluster: Cluster, merged: Cluster, size_before: u32 },
}

impl Change {
    /// The type of event it is.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Created { .. } => "created",
            Change::Joined { .. } => "joined",
            Change::Merged { .. } => "merged",
        }
    }

    /// The cluster that lives on.
    pub fn cluster(&self) -> &Cluster {
        match self {
            Change::Created { cluster, .. } | Change::Joined { cluster, .. } | Change::Merged { cluster, .. } => {
                cluster
            }
        }
    }
}

/// A change and the record that caused it, in the collection's own gapless sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub sequence: u64,
    pub cause: Place,
    pub change: Change,
}

/// Two faces whose linkage is above τ, and the record that made it be scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    pub a: NodeId,
    pub b: NodeId,
    pub cause: Place,
}

/// The pairs a merging rule joins, out of what was scored. For `single` a pair is linked when the
/// larger of its two directions is above τ, which is when either is.
pub fn links(merging: &Merging, scored: &[Scored], cause: impl Fn(NodeId) -> Place) -> Vec<Link> {
    match merging.rule {
        Rule::Single => scored
            .iter()
            .flat_map(|Scored { node, linkages }| {
                let above = linkages.iter().filter(|linkage| linkage.probability > merging.threshold);
                let cause = cause(*node);
                above.map(move |linkage| Link { a: *node, b: linkage.candidate, cause })
            })
            .collect(),
    }
}

/// The clusters of a collection.
#[derive(Debug)]
pub struct Clusters {
    /// By id from 1.
    records: Vec<Cluster>,
    /// By id from 1: a cluster on the way to the living one, itself when it lives.
    shortcuts: Vec<ClusterId>,
    /// By node: the cluster joined.
    homes: Vec<ClusterId>,
    /// Sequence of the last event.
    sequence: u64,
    /// Records written since [`Clusters::take_changed`].
    changed: BTreeSet<ClusterId>,
}

impl Clusters {
    /// As the store kept them: `records` by id from 1, `homes` by node.
    pub fn restore(records: Vec<Cluster>, homes: Vec<ClusterId>, sequence: u64) -> Clusters {
        let shortcuts = records.iter().map(|cluster| cluster.merged_into.unwrap_or(cluster.id)).collect();
        Clusters { records, shortcuts, homes, sequence, changed: BTreeSet::new() }
    }

    pub fn home(&self, node: NodeId) -> ClusterId {
        self.homes[node.index()]
    }

    pub fn record(&self, id: ClusterId) -> &Cluster {
        &self.records[place_of(id)]
    }

    pub fn records(&self) -> &[Cluster] {
        &self.records
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The living cluster a node is in.
    pub fn cluster_of(&self, node: NodeId) -> ClusterId {
        let mut id = self.homes[node.index()];
        while self.shortcuts[place_of(id)] != id {
            id = self.shortcuts[place_of(id)];
        }
        id
    }

    /// The records written since the last call, by id.
    pub fn take_changed(&mut self) -> Vec<Cluster> {
        std::mem::take(&mut self.changed).into_iter().map(|id| self.record(id).clone()).collect()
    }

    /// Brings in the newcomers, numbered on from the last node, and joins what `links` joins:
    /// newcomers first and in order, each into the oldest cluster it is linked to, then the links
    /// between faces that were there. The partition depends only on the links, the events on the
    /// order of arrival.
    pub fn apply(&mut self, newcomers: &[Newcomer], links: &[Link]) -> Vec<Event> {
        let first_new = self.homes.len();
        // A link belongs to the later of its two faces: when that one is placed, the other is.
        let mut linked: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for link in links {
            linked.entry(link.a.max(link.b)).or_default().push(link.a.min(link.b));
        }
        let mut events = Vec::new();
        for (number, newcomer) in newcomers.iter().enumerate() {
            let node = NodeId((first_new + number) as u32);
            let linked = linked.get(&node).map_or(&[][..], Vec::as_slice);
            self.place(newcomer, linked, &mut events);
        }
        for link in links.iter().filter(|link| link.a.max(link.b).index() < first_new) {
            let clusters = BTreeSet::from([self.find(link.a), self.find(link.b)]);
            self.merge(clusters, link.cause, &mut events);
        }
        events
    }

    fn place(&mut self, newcomer: &Newcomer, linked: &[NodeId], events: &mut Vec<Event>) {
        let clusters: BTreeSet<ClusterId> = linked.iter().map(|&node| self.find(node)).collect();
        let face = newcomer.face.clone();
        let change = match clusters.first() {
            None => {
                let id = ClusterId(self.records.len() as u64 + 1);
                let cluster = Cluster { id, merged_into: None, size: 1, version: 1 };
                self.records.push(cluster.clone());
                self.shortcuts.push(id);
                self.homes.push(id);
                self.changed.insert(id);
                Change::Created { cluster, face }
            }
            Some(&oldest) => {
                self.homes.push(oldest);
                let size_before = self.record(oldest).size;
                let cluster = self.change(oldest, |cluster| cluster.size += 1);
                Change::Joined { cluster, face, size_before }
            }
        };
        self.emit(newcomer.place, change, events);
        self.merge(clusters, newcomer.place, events);
    }

    /// Merges living clusters into the oldest of them, one after the other.
    fn merge(&mut self, clusters: BTreeSet<ClusterId>, cause: Place, events: &mut Vec<Event>) {
        let mut clusters = clusters.into_iter();
        let Some(oldest) = clusters.next() else { return };
        for younger in clusters {
            self.shortcuts[place_of(younger)] = oldest;
            let merged = self.change(younger, |cluster| cluster.merged_into = Some(oldest));
            let size_before = self.record(oldest).size;
            let cluster = self.change(oldest, |cluster| cluster.size += merged.size);
            self.emit(cause, Change::Merged { cluster, merged, size_before }, events);
        }
    }

    fn change(&mut self, id: ClusterId, write: impl FnOnce(&mut Cluster)) -> Cluster {
        let record = &mut self.records[place_of(id)];
        write(record);
        record.version += 1;
        self.changed.insert(id);
        record.clone()
    }

    fn emit(&mut self, cause: Place, change: Change, events: &mut Vec<Event>) {
        self.sequence += 1;
        events.push(Event { sequence: self.sequence, cause, change });
    }

    /// [`Clusters::cluster_of`], halving the way for those who come after.
    fn find(&mut self, node: NodeId) -> ClusterId {
        let mut id = self.homes[node.index()];
        loop {
            let next = self.shortcuts[place_of(id)];
            if next == id {
                return id;
            }
            self.shortcuts[place_of(id)] = self.shortcuts[place_of(next)];
            id = next;
        }
    }
}

/// A face on its way into its first cluster.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub face: FaceId,
    pub place: Place,
}

fn place_of(id: ClusterId) -> usize {
    id.0 as usize - 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::face::{Offset, Partition};

    fn place(offset: i64) -> Place {
        Place { partition: Partition(0), offset: Offset(offset) }
    }

    fn newcomer(number: u32) -> Newcomer {
        Newcomer { face: FaceId::new(&format!("face-{number}")).unwrap(), place: place(i64::from(number)) }
    }

    fn link(a: u32, b: u32) -> Link {
        Link { a: NodeId(a), b: NodeId(b), cause: place(99) }
    }

    fn empty() -> Clusters {
        Clusters::restore(Vec::new(), Vec::new(), 0)
    }

    #[test]
    fn a_merge_keeps_the_older_cluster_and_names_the_younger() {
        let mut clusters = empty();
        let created = clusters.apply(&[newcomer(0), newcomer(1)], &[]);
        assert!(created.iter().all(|event| matches!(event.change, Change::Created { .. })));
        let events = clusters.apply(&[newcomer(2)], &[link(2, 1), link(2, 0)]);
        let Change::Joined { cluster, size_before, .. } = &events[0].change else { panic!("{events:?}") };
        assert_eq!((cluster.id, cluster.size, *size_before), (ClusterId(1), 2, 1));
        let Change::Merged { cluster, merged, size_before } = &events[1].change else { panic!("{events:?}") };
        assert_eq!((cluster.id, cluster.size, *size_before), (ClusterId(1), 3, 2));
        assert_eq!((merged.id, merged.merged_into, merged.size), (ClusterId(2), Some(ClusterId(1)), 1));
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn faces_of_one_batch_can_link_each_other_in_either_direction() {
        let mut clusters = empty();
        clusters.apply(&[newcomer(0), newcomer(1), newcomer(2)], &[link(0, 2)]);
        assert_eq!(clusters.cluster_of(NodeId(0)), clusters.cluster_of(NodeId(2)));
        assert_ne!(clusters.cluster_of(NodeId(0)), clusters.cluster_of(NodeId(1)));
    }

    /// What a reader of the events alone would know.
    #[derive(Default)]
    struct Reader {
        home: HashMap<FaceId, ClusterId>,
        merged_into: HashMap<ClusterId, ClusterId>,
        size: HashMap<ClusterId, u32>,
    }

    impl Reader {
        fn read(&mut self, event: &Event) {
            match &event.change {
                Change::Created { cluster, face } => {
                    assert_eq!(self.size.insert(cluster.id, 1), None, "an id came back");
                    self.home.insert(face.clone(), cluster.id);
                }
                Change::Joined { cluster, face, size_before } => {
                    assert_eq!(self.size.insert(cluster.id, cluster.size), Some(*size_before));
                    self.home.insert(face.clone(), cluster.id);
                }
                Change::Merged { cluster, merged, size_before } => {
                    assert!(cluster.id < merged.id, "the younger stayed");
                    assert_eq!(self.size.insert(cluster.id, cluster.size), Some(*size_before));
                    assert_eq!(self.size.remove(&merged.id), Some(merged.size));
                    self.merged_into.insert(merged.id, cluster.id);
                }
            }
        }

        fn cluster_of(&self, face: &FaceId) -> ClusterId {
            let mut id = self.home[face];
            while let Some(&next) = self.merged_into.get(&id) {
                id = next;
            }
            id
        }
    }

    /// Connected components by spreading the smallest member until nothing changes.
    fn components(faces: u32, links: &[Link]) -> Vec<u32> {
        let mut label: Vec<u32> = (0..faces).collect();
        loop {
            let mut changed = false;
            for link in links {
                let (a, b) = (link.a.index(), link.b.index());
                let smaller = label[a].min(label[b]);
                changed |= label[a] != smaller || label[b] != smaller;
                (label[a], label[b]) = (smaller, smaller);
            }
            if !changed {
                return label;
            }
        }
    }

    proptest! {
        /// Whatever the links, batches and restarts: clusters are the components of the links, a
        /// reader of the events knows the same partition, and sequences have no gap.
        #[test]
        fn clusters_are_components_and_events_tell_them(
            faces in 1u32..60,
            pairs in prop::collection::vec((0u32..60, 0u32..60), 0..80),
            batch in 1usize..20,
        ) {
            let links: Vec<Link> = pairs.into_iter()
                .map(|(a, b)| (a % faces, b % faces)).filter(|(a, b)| a != b)
                .map(|(a, b)| link(a, b)).collect();
            let (early, late) = links.split_at(links.len() / 2);
            let mut clusters = empty();
            let mut reader = Reader::default();
            let mut sequence = 0;
            let all: Vec<u32> = (0..faces).collect();
            let last = all.chunks(batch).count() - 1;
            for (number, part) in all.chunks(batch).enumerate() {
                let end = *part.last().unwrap();
                let mut now: Vec<Link> = early.iter().copied().filter(|l| (part[0]..=end).contains(&l.a.max(l.b).0)).collect();
                if number == last {
                    now.extend(late);
                }
                let newcomers: Vec<Newcomer> = part.iter().map(|&number| newcomer(number)).collect();
                for event in clusters.apply(&newcomers, &now) {
                    sequence += 1;
                    prop_assert_eq!(event.sequence, sequence);
                    reader.read(&event);
                }
                let homes = (0..=end).map(|node| clusters.home(NodeId(node))).collect();
                clusters = Clusters::restore(clusters.records().to_vec(), homes, clusters.sequence());
            }
            let truth = components(faces, &links);
            for a in 0..faces {
                let cluster = clusters.cluster_of(NodeId(a));
                prop_assert_eq!(cluster, reader.cluster_of(&newcomer(a).face));
                for b in 0..a {
                    let together = truth[a as usize] == truth[b as usize];
                    prop_assert_eq!(cluster == clusters.cluster_of(NodeId(b)), together);
                }
            }
        }
    }
}
