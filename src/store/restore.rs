//! What a state directory holds, read whole, and the links between records that an engine relies
//! on: each is checked, since an engine that goes on from a damaged state would publish its damage.
//!
//! O(faces + linkages) time and memory; every record's checksum is verified, every vector read once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::keys::{self, Key};
use super::records::{CollectionRecord, LinkagesRecord};
use super::snapshots::{Found, SnapshotName};
use super::{Store, StoreError};
use crate::engine::changes::{Counters, FaceRecord, KeptLinkages, Restored, RestoredFace};
use crate::engine::event::Cluster;
use crate::engine::snapshot::Since;
use crate::face::{ClusterId, CollectionName, NodeId, Partition, Position};

/// What was found in a state directory.
#[derive(Debug, Default)]
pub struct Contents {
    pub collections: BTreeMap<CollectionName, Restored>,
    /// How far each partition of the input is applied.
    pub positions: BTreeMap<Partition, Position>,
}

/// What the engine of a collection goes on from.
#[derive(Debug)]
pub struct Resumed {
    pub restored: Restored,
    pub snapshot: Option<SnapshotUsed>,
}

/// The snapshot that an engine goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotUsed {
    /// The commit after which it was cut.
    pub sequence: u64,
    /// Faces that came since.
    pub tail: usize,
    /// Nothing has happened since.
    pub is_current: bool,
}

impl Store {
    /// Reads everything engines go on from.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        let mut contents = Contents { positions: self.outbox.durable().positions, ..Contents::default() };
        for name in self.collections.keys() {
            contents.collections.insert(name.clone(), self.restored(name)?);
        }
        Ok(contents)
    }

    /// Reads what the engine of one collection goes on from, with the newest of `snapshots` that can be used.
    pub fn resumed(&self, name: &CollectionName, snapshots: &[SnapshotName]) -> Result<Resumed, StoreError> {
        let find = || self.snapshots().newest(name, snapshots, self.commit_sequence);
        let (found, read) = rayon::join(find, || self.read_collection(name));
        let (mut restored, written_at) = read?;
        let Some(Found { sequence, snapshot }) = found else { return Ok(Resumed { restored, snapshot: None }) };
        let written_after = |(kept, at): (&KeptLinkages, u64)| (at > sequence).then_some(kept.node);
        let rescored: Vec<NodeId> = restored.linkages.iter().zip(written_at).filter_map(written_after).collect();
        let is_new = |face: &&RestoredFace| snapshot.arrival(face.node) != Some(face.record.arrival);
        let tail = restored.faces.iter().filter(is_new).count();
        let is_current = tail == 0 && rescored.is_empty() && snapshot.faces() == restored.faces.len();
        let used = SnapshotUsed { sequence, tail, is_current };
        restored.since = Some(Since { snapshot, rescored });
        Ok(Resumed { restored, snapshot: Some(used) })
    }

    /// Reads what the engine of one collection goes on from: nothing, when there is no such collection.
    pub fn restored(&self, name: &CollectionName) -> Result<Restored, StoreError> {
        Ok(self.read_collection(name)?.0)
    }

    /// Also, for each of the linkages, the commit that wrote them.
    fn read_collection(&self, name: &CollectionName) -> Result<(Restored, Vec<u64>), StoreError> {
        let Some(record) = self.collections.get(name) else { return Ok(Default::default()) };
        let (faces, linkages) = rayon::join(|| self.restored_faces(name, record), || self.restored_linkages(name));
        let (linkages, written_at) = linkages?;
        let clusters = self.space.scan::<Cluster>(&keys::clusters(name))?;
        let restored = Restored {
            faces: faces?,
            linkages,
            clusters: clusters.into_iter().map(|(_, cluster)| cluster).collect(),
            constraints: self.constraints(name)?,
            counters: record.counters,
            since: None,
        };
        let nodes = self.space.scan::<NodeId>(&keys::nodes(name))?;
        check(name, &restored, &nodes).map_err(|what| self.damaged(&format!("{what} of collection {name}")))?;
        Ok((restored, written_at))
    }

    fn restored_faces(
        &self,
        name: &CollectionName,
        record: &CollectionRecord,
    ) -> Result<Vec<RestoredFace>, StoreError> {
        let records = self.space.scan::<FaceRecord>(&keys::faces(name))?;
        if records.len() as u64 != record.faces {
            let what = format!("collection {name} has {} face records, not {}", records.len(), record.faces);
            return Err(self.damaged(&what));
        }
        let nodes: HashSet<NodeId> = records.iter().filter_map(|(key, _)| keys::node_in(key)).collect();
        let mut embeddings = self.vectors(name, record).read(|node| nodes.contains(&node))?;
        let restored = records.into_iter().map(|(key, record)| {
            let missing = || self.damaged(&format!("face {} of collection {name} has no embedding", record.id));
            let node = keys::node_in(&key).ok_or_else(missing)?;
            let embedding = embeddings.remove(&node).ok_or_else(missing)?;
            Ok(RestoredFace { node, record, embedding })
        });
        restored.collect()
    }

    fn restored_linkages(&self, name: &CollectionName) -> Result<(Vec<KeptLinkages>, Vec<u64>), StoreError> {
        let records = self.space.scan::<LinkagesRecord>(&keys::all_linkages(name))?;
        let named = records.into_iter().filter_map(|(key, LinkagesRecord { written_at, linkages })| {
            Some((KeptLinkages { node: keys::node_in(&key)?, linkages }, written_at))
        });
        Ok(named.unzip())
    }
}

/// Checks the links between the records of a collection; `nodes` is what its ids lead to. The error
/// says what is damaged.
fn check(name: &CollectionName, restored: &Restored, nodes: &[(Key, NodeId)]) -> Result<(), String> {
    check_ids(name, restored, nodes)?;
    check_arrivals(restored)?;
    check_clusters(restored)
}

/// Ids lead to their faces, and linkages are somebody's.
fn check_ids(name: &CollectionName, restored: &Restored, nodes: &[(Key, NodeId)]) -> Result<(), String> {
    let faces = &restored.faces;
    let face_of = |node: NodeId| faces.binary_search_by_key(&node, |face| face.node).ok().map(|place| &faces[place]);
    for (key, node) in nodes {
        if face_of(*node).is_none_or(|face| keys::node_of(name, &face.record.id) != *key) {
            return Err(format!("the face_id of node {node}"));
        }
    }
    // Keys differ, so as many as there are faces means one for each.
    if nodes.len() != faces.len() {
        return Err(format!("the list of {} face_ids, of {} faces,", nodes.len(), faces.len()));
    }
    match restored.linkages.iter().find(|kept| face_of(kept.node).is_none()) {
        Some(kept) => Err(format!("the linkages of node {}, which has no face,", kept.node)),
        None => Ok(()),
    }
}

fn check_arrivals(restored: &Restored) -> Result<(), String> {
    let mut given = HashSet::with_capacity(restored.faces.len());
    for face in &restored.faces {
        let arrival = face.record.arrival;
        if arrival.0 == 0 || arrival.0 > restored.counters.arrival || !given.insert(arrival) {
            return Err(format!("the arrival of face {}", face.record.id));
        }
    }
    Ok(())
}

/// Every face leads to a living cluster, which counts it.
fn check_clusters(restored: &Restored) -> Result<(), String> {
    let Counters { cluster: last, .. } = restored.counters;
    let clusters: HashMap<ClusterId, &Cluster> =
        restored.clusters.iter().map(|cluster| (cluster.id, cluster)).collect();
    if clusters.len() != restored.clusters.len() {
        return Err("the id of a cluster".to_string());
    }
    let mut living = HashMap::with_capacity(clusters.len());
    for cluster in &restored.clusters {
        if cluster.id.0 == 0 || cluster.id.0 > last {
            return Err(format!("cluster {}, beyond the {last} that were made,", cluster.id));
        }
        resolve(cluster.id, &clusters, &mut living)?;
    }
    let mut sizes: HashMap<ClusterId, u32> = HashMap::new();
    for RestoredFace { record, .. } in &restored.faces {
        let home = living.get(&record.home).ok_or_else(|| format!("the home of face {}", record.id))?;
        *sizes.entry(*home).or_default() += 1;
    }
    for cluster in restored.clusters.iter().filter(|cluster| cluster.lives()) {
        let counted = sizes.get(&cluster.id).copied().unwrap_or(0);
        if counted != cluster.size {
            return Err(format!("cluster {}, which says {} faces and has {counted},", cluster.id, cluster.size));
        }
    }
    Ok(())
}

/// Notes in `living` where `start`, and every cluster on the way, went in the end.
fn resolve(
    start: ClusterId,
    clusters: &HashMap<ClusterId, &Cluster>,
    living: &mut HashMap<ClusterId, ClusterId>,
) -> Result<(), String> {
    let mut way = Vec::new();
    let mut id = start;
    let end = loop {
        if let Some(&end) = living.get(&id) {
            break end;
        }
        let cluster = clusters.get(&id).ok_or_else(|| format!("cluster {id}, which others merged into,"))?;
        way.push(id);
        match cluster.merged_into {
            // Longer than there are clusters is a circle.
            Some(_) if way.len() > clusters.len() => return Err(format!("cluster {id}, which merged into itself,")),
            Some(into) => id = into,
            None => break id,
        }
    };
    living.extend(way.into_iter().map(|id| (id, end)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(id: u64, merged_into: Option<u64>) -> Cluster {
        Cluster {
            id: ClusterId(id),
            merged_into: merged_into.map(ClusterId),
            size: 0,
            version: 1,
            pinned: false,
            name: None,
        }
    }

    fn checked(clusters: Vec<Cluster>) -> Result<(), String> {
        let counters = Counters { cluster: 5, ..Counters::default() };
        check_clusters(&Restored { clusters, counters, ..Restored::default() })
    }

    #[test]
    fn a_cluster_may_go_into_a_younger_one_but_not_into_itself() {
        checked(vec![cluster(1, Some(3)), cluster(2, Some(1)), cluster(3, None)]).unwrap();
        let circle = checked(vec![cluster(1, Some(3)), cluster(2, Some(1)), cluster(3, Some(2))]).unwrap_err();
        assert!(circle.contains("merged into itself"), "{circle}");
        let nowhere = checked(vec![cluster(1, Some(4))]).unwrap_err();
        assert!(nowhere.contains("cluster 4"), "{nowhere}");
        let beyond = checked(vec![cluster(6, None)]).unwrap_err();
        assert!(beyond.contains("cluster 6"), "{beyond}");
    }
}
