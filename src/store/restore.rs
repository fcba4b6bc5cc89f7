//! What a state directory holds, read whole, and the links between records that an engine relies
//! on: each is checked ([`super::checks`]), since an engine that goes on from a damaged state would
//! publish its damage.
//!
//! O(faces + linkages) time and memory; every record's checksum is verified, every vector read once.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::checks::{self, Broken, Parts};
use super::snapshots::{Found, SnapshotName};
use super::{Store, StoreError};
use crate::engine::changes::{KeptLinkages, Restored, RestoredFace};
use crate::engine::snapshot::Since;
use crate::face::{CollectionName, Embedding, NodeId, Partition, Position};

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
        let Some(&record) = self.collections.get(name) else { return Ok(Default::default()) };
        let mut damaged = Vec::new();
        let parts = Parts::read(&self.space, name, record, &mut damaged)?;
        if let Some(key) = damaged.first() {
            return Err(self.space.damaged(key));
        }
        self.space.check_sum(name.as_str().as_bytes(), parts.sum)?;
        self.refuse(&parts, &[checks::faces])?;
        let embeddings = self.embeddings(&parts)?;
        let checks = [checks::ids, checks::owners_of_linkages, checks::arrivals, checks::clusters];
        self.refuse(&parts, &checks)?;
        let written_at = parts.linkages.iter().map(|(_, record)| record.written_at).collect();
        Ok((joined(parts, embeddings), written_at))
    }

    /// Refuses what an engine cannot go on from.
    fn refuse(&self, parts: &Parts, checks: &[fn(&Parts, &mut Vec<Broken>)]) -> Result<(), StoreError> {
        let mut broken = Vec::new();
        checks.iter().for_each(|check| check(parts, &mut broken));
        broken.first().map_or(Ok(()), |broken| Err(self.damaged(&broken.to_string())))
    }

    fn embeddings(&self, parts: &Parts) -> Result<HashMap<NodeId, Embedding>, StoreError> {
        let nodes: HashSet<NodeId> = parts.faces.iter().map(|&(node, _)| node).collect();
        let embeddings = self.vectors(&parts.name, &parts.record).read(|node| nodes.contains(&node))?;
        match parts.faces.iter().find(|(node, _)| !embeddings.contains_key(node)) {
            Some((_, face)) => {
                Err(self.damaged(&format!("face {} of collection {} has no embedding", face.id, parts.name)))
            }
            None => Ok(embeddings),
        }
    }
}

/// What an engine goes on from, of faces that all have their embedding.
pub(super) fn joined(parts: Parts, mut embeddings: HashMap<NodeId, Embedding>) -> Restored {
    let faces = parts.faces.into_iter().filter_map(|(node, record)| {
        let embedding = embeddings.remove(&node)?;
        Some(RestoredFace { node, record, embedding })
    });
    let linkages = parts.linkages.into_iter();
    Restored {
        faces: faces.collect(),
        linkages: linkages.map(|(node, record)| KeptLinkages { node, linkages: record.linkages }).collect(),
        clusters: parts.clusters.into_iter().map(|(_, cluster)| cluster).collect(),
        constraints: parts.constraints.into_iter().map(|(_, constraint)| constraint).collect(),
        counters: parts.record.counters,
        since: None,
    }
}
