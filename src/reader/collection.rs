//! What a reader knows of one collection, and what it lets an event say.

use std::collections::HashMap;

use super::{Change, Clusters, Merge, Move, OneFace, Settled, Subject};
use crate::face::{ClusterId, FaceId};

#[derive(Debug, Default)]
pub(super) struct Collection {
    /// Sequence of the last event.
    pub(super) last: u64,
    /// Of the last event, if it was of that type.
    pub(super) settled: Option<Settled>,
    homes: HashMap<FaceId, ClusterId>,
    clusters: HashMap<ClusterId, Known>,
    living: u64,
}

/// A cluster, for as long as the way of a face goes through it.
#[derive(Debug)]
struct Known {
    merged_into: Option<ClusterId>,
    size: u64,
    version: u64,
    /// Faces whose home it is and clusters that merged into it: at 0 nobody needs it any more.
    users: u64,
}

/// What does not fit, for people.
type Contradiction = String;

impl Collection {
    pub(super) fn faces(&self) -> usize {
        self.homes.len()
    }

    pub(super) fn cluster_of(&self, face: &FaceId) -> Option<ClusterId> {
        let mut id = *self.homes.get(face)?;
        while let Some(into) = self.clusters.get(&id)?.merged_into {
            id = into;
        }
        Some(id)
    }

    pub(super) fn clusters(&self) -> Clusters {
        let mut clusters = Clusters::new();
        for face in self.homes.keys() {
            if let Some(cluster) = self.cluster_of(face) {
                clusters.entry(cluster).or_default().insert(face.clone());
            }
        }
        clusters
    }

    /// Takes an event in, or none of it when it does not fit: every check comes before the first change.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), Contradiction> {
        let settled = match &change {
            Change::Settled(settled) => Some(*settled),
            _ => None,
        };
        match change {
            Change::Created(change) => self.created(change)?,
            Change::Joined(change) => self.joined(change)?,
            Change::Merged(change) => self.merged(&change)?,
            Change::Split(change) => self.split(change)?,
            Change::Left(change) => self.left(change)?,
            Change::Erased(change) => self.erased(&change)?,
            Change::Settled(settled) => self.check_settled(settled)?,
        }
        self.settled = settled;
        Ok(())
    }

    fn created(&mut self, OneFace { cluster, face_id }: OneFace) -> Result<(), Contradiction> {
        self.check_absent(&face_id)?;
        self.check_new(cluster.cluster_id)?;
        check_size("before", cluster.cluster_id, cluster.size_before, 0)?;
        check_size("after", cluster.cluster_id, cluster.size_after, 1)?;
        self.found(cluster.cluster_id, cluster.version);
        self.settle_in(face_id, cluster.cluster_id);
        Ok(())
    }

    fn joined(&mut self, OneFace { cluster, face_id }: OneFace) -> Result<(), Contradiction> {
        self.check_absent(&face_id)?;
        self.check_subject(&cluster, cluster.size_before.saturating_add(1))?;
        self.change(&cluster);
        self.settle_in(face_id, cluster.cluster_id);
        Ok(())
    }

    fn merged(&mut self, Merge { cluster, merged }: &Merge) -> Result<(), Contradiction> {
        let (id, loser) = (cluster.cluster_id, merged.cluster_id);
        if id == loser {
            return Err(format!("cluster {id} merged into itself"));
        }
        self.check_subject(cluster, cluster.size_before.saturating_add(merged.size_before))?;
        self.check_living(loser, merged.size_before, merged.version)?;
        self.change(cluster);
        if let Some(known) = self.clusters.get_mut(&loser) {
            known.merged_into = Some(id);
            known.version = merged.version;
        }
        self.use_cluster(id);
        self.living -= 1;
        Ok(())
    }

    fn split(&mut self, change: Move) -> Result<(), Contradiction> {
        let into = &change.into;
        self.check_new(into.cluster_id)?;
        check_size("after", into.cluster_id, into.size_after, 1)?;
        self.check_leaves(&change.cluster, &change.face_id)?;
        self.found(into.cluster_id, into.version);
        self.go_over(change);
        Ok(())
    }

    fn left(&mut self, change: Move) -> Result<(), Contradiction> {
        let (from, into) = (change.cluster.cluster_id, &change.into);
        if from == into.cluster_id {
            return Err(format!("face {} left cluster {from} for the same", change.face_id));
        }
        if into.size_after == 0 {
            return Err(format!("cluster {} has no face after one came to it", into.cluster_id));
        }
        self.check_living(into.cluster_id, into.size_after - 1, into.version)?;
        self.check_leaves(&change.cluster, &change.face_id)?;
        if let Some(known) = self.clusters.get_mut(&into.cluster_id) {
            (known.size, known.version) = (into.size_after, into.version);
        }
        self.go_over(change);
        Ok(())
    }

    fn erased(&mut self, OneFace { cluster, face_id }: &OneFace) -> Result<(), Contradiction> {
        self.check_leaves(cluster, face_id)?;
        self.change(cluster);
        self.move_out(face_id);
        Ok(())
    }

    fn go_over(&mut self, Move { cluster, face_id, into }: Move) {
        self.change(&cluster);
        self.move_out(&face_id);
        self.settle_in(face_id, into.cluster_id);
    }

    fn check_settled(&self, settled: Settled) -> Result<(), Contradiction> {
        let known = Settled { faces: self.homes.len() as u64, clusters: self.living };
        match known == settled {
            true => Ok(()),
            false => Err(format!("it says {settled:?} and there are {known:?}")),
        }
    }

    fn check_absent(&self, face: &FaceId) -> Result<(), Contradiction> {
        match self.homes.contains_key(face) {
            true => Err(format!("face {face} is there already")),
            false => Ok(()),
        }
    }

    fn check_new(&self, id: ClusterId) -> Result<(), Contradiction> {
        match self.clusters.contains_key(&id) {
            true => Err(format!("cluster {id} is there already")),
            false => Ok(()),
        }
    }

    fn check_living(&self, id: ClusterId, size_before: u64, version: u64) -> Result<(), Contradiction> {
        let known = self.clusters.get(&id).filter(|known| known.merged_into.is_none());
        let known = known.ok_or_else(|| format!("cluster {id} does not live"))?;
        check_size("before", id, size_before, known.size)?;
        match version > known.version {
            true => Ok(()),
            false => Err(format!("cluster {id} was at version {} before version {version}", known.version)),
        }
    }

    fn check_subject(&self, cluster: &Subject, size_after: u64) -> Result<(), Contradiction> {
        check_size("after", cluster.cluster_id, cluster.size_after, size_after)?;
        self.check_living(cluster.cluster_id, cluster.size_before, cluster.version)
    }

    /// Whether the face is in the cluster, which has one less after it.
    fn check_leaves(&self, cluster: &Subject, face: &FaceId) -> Result<(), Contradiction> {
        let id = cluster.cluster_id;
        match self.cluster_of(face) {
            Some(known) if known == id => self.check_subject(cluster, cluster.size_before.saturating_sub(1)),
            Some(known) => Err(format!("face {face} is in cluster {known}, not in {id}")),
            None => Err(format!("face {face} is not there")),
        }
    }

    fn found(&mut self, id: ClusterId, version: u64) {
        self.clusters.insert(id, Known { merged_into: None, size: 1, version, users: 0 });
        self.living += 1;
    }

    fn change(&mut self, cluster: &Subject) {
        if let Some(known) = self.clusters.get_mut(&cluster.cluster_id) {
            (known.size, known.version) = (cluster.size_after, cluster.version);
        }
    }

    fn settle_in(&mut self, face: FaceId, home: ClusterId) {
        self.homes.insert(face, home);
        self.use_cluster(home);
    }

    fn use_cluster(&mut self, id: ClusterId) {
        if let Some(known) = self.clusters.get_mut(&id) {
            known.users += 1;
        }
    }

    /// Takes a face from its home, and forgets the clusters that nobody needs after it.
    fn move_out(&mut self, face: &FaceId) {
        let mut left = self.homes.remove(face);
        while let Some(id) = left {
            let Some(known) = self.clusters.get_mut(&id) else { return };
            known.users -= 1;
            if known.users > 0 {
                return;
            }
            left = known.merged_into;
            self.living -= u64::from(left.is_none());
            self.clusters.remove(&id);
        }
    }

    #[cfg(test)]
    pub(super) fn cluster_ids(&self) -> std::collections::BTreeSet<ClusterId> {
        self.clusters.keys().copied().collect()
    }
}

fn check_size(when: &str, id: ClusterId, said: u64, known: u64) -> Result<(), Contradiction> {
    match said == known {
        true => Ok(()),
        false => Err(format!("cluster {id} has {known} faces {when} it, not {said}")),
    }
}
