//! The book of clusters: who is in which, under which name, and what is told of it.
//!
//! A face keeps the cluster it joined or moved to, its home; a merge only writes into one cluster
//! which other it went into. So a merge costs one record, however large the clusters are, and the
//! chain home → merged_into → … is the same in memory, in sled and for a reader of the topics. The
//! record of a merged cluster ends when no chain goes through it any more.
//!
//! Cost: O(1) to create, join, move and erase; a merge relabels the faces of the one that goes.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use crate::engine::changes::Counters;
use crate::engine::event::{Cause, Change, Cluster, Event};
use crate::face::{Arrival, ClusterId, FaceId, NodeId};

/// Where a face is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    pub home: ClusterId,
    /// Counts its homes from 1.
    pub home_version: u32,
    /// The living cluster its home is or went into.
    pub cluster: ClusterId,
    /// Its place among that cluster's members.
    place: u32,
}

/// A cluster as it was restored.
#[derive(Debug)]
struct Record {
    cluster: Cluster,
    /// How many live faces have their home here, and how many records merged into this one.
    references: u32,
    /// Of a living one: its faces, in no order.
    members: Vec<NodeId>,
}

/// The clusters of a collection.
#[derive(Debug, Default)]
pub struct Book {
    records: FxHashMap<ClusterId, Record>,
    /// By node.
    seats: Vec<Option<Seat>>,
    living: usize,
    last_cluster: u64,
    sequence: u64,
    settled: u64,
    events: Vec<Event>,
    changed: BTreeSet<ClusterId>,
    retired: BTreeSet<ClusterId>,
    described: BTreeSet<ClusterId>,
    moved: BTreeSet<NodeId>,
}

/// What the book wrote since it was last asked.
#[derive(Debug, Default)]
pub struct Written {
    pub events: Vec<Event>,
    /// Records that are new or changed.
    pub clusters: Vec<Cluster>,
    pub retired: Vec<ClusterId>,
    /// Records an operator pinned or named, and no event tells of that.
    pub described: Vec<Cluster>,
    /// Faces whose seat is new or changed.
    pub moved: BTreeSet<NodeId>,
}

/// The home of a restored face.
#[derive(Debug, Clone, Copy)]
pub struct Home {
    pub node: NodeId,
    pub home: ClusterId,
    pub home_version: u32,
}

impl Book {
    /// As the store kept it, which has made sure that every chain ends at a living cluster.
    pub fn restore(clusters: Vec<Cluster>, homes: impl Iterator<Item = Home>, counters: &Counters) -> Book {
        let mut book = Book {
            last_cluster: counters.cluster,
            sequence: counters.sequence,
            settled: counters.settled,
            living: clusters.iter().filter(|cluster| cluster.lives()).count(),
            ..Book::default()
        };
        let merged: BTreeMap<ClusterId, ClusterId> =
            clusters.iter().filter_map(|cluster| Some((cluster.id, cluster.merged_into?))).collect();
        for cluster in clusters {
            book.records.insert(cluster.id, Record { cluster, references: 0, members: Vec::new() });
        }
        for into in merged.values() {
            book.record_mut(*into).references += 1;
        }
        for Home { node, home, home_version } in homes {
            let mut cluster = home;
            while let Some(&into) = merged.get(&cluster) {
                cluster = into;
            }
            book.sit(node, home, home_version, cluster);
        }
        book
    }

    /// Seats a face in a living cluster, where its home is or went into.
    fn sit(&mut self, node: NodeId, home: ClusterId, home_version: u32, cluster: ClusterId) {
        self.record_mut(home).references += 1;
        let members = &mut self.record_mut(cluster).members;
        members.push(node);
        let place = members.len() as u32 - 1;
        if self.seats.len() <= node.index() {
            self.seats.resize(node.index() + 1, None);
        }
        self.seats[node.index()] = Some(Seat { home, home_version, cluster, place });
    }

    pub fn seat(&self, node: NodeId) -> Option<Seat> {
        self.seats.get(node.index()).copied().flatten()
    }

    /// The living cluster a face is in; none while it is on its way into its first.
    pub fn cluster_of(&self, node: NodeId) -> Option<ClusterId> {
        self.seat(node).map(|seat| seat.cluster)
    }

    pub fn get(&self, id: ClusterId) -> Option<&Cluster> {
        self.records.get(&id).map(|record| &record.cluster)
    }

    /// Where the way of a cluster ends: itself, while it lives.
    pub fn living_of(&self, id: ClusterId) -> Option<ClusterId> {
        let mut cluster = self.get(id)?;
        while let Some(into) = cluster.merged_into {
            cluster = self.get(into)?;
        }
        Some(cluster.id)
    }

    /// The faces of a living cluster, in no order.
    pub fn members(&self, id: ClusterId) -> &[NodeId] {
        self.records.get(&id).map_or(&[], |record| &record.members)
    }

    /// Every record, in no order.
    pub fn records(&self) -> impl Iterator<Item = &Cluster> {
        self.records.values().map(|record| &record.cluster)
    }

    /// How many clusters live.
    pub fn living(&self) -> usize {
        self.living
    }

    /// Sequence of the last event.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Sequence of the last `settled` event.
    pub fn settled_at(&self) -> u64 {
        self.settled
    }

    pub fn last_cluster(&self) -> u64 {
        self.last_cluster
    }

    pub fn take_written(&mut self) -> Written {
        let changed = std::mem::take(&mut self.changed);
        let retired = std::mem::take(&mut self.retired);
        let described = std::mem::take(&mut self.described);
        Written {
            events: std::mem::take(&mut self.events),
            clusters: changed.iter().filter_map(|&id| self.get(id).cloned()).collect(),
            // One that was never kept would only be a deletion of nothing.
            retired: retired.into_iter().collect(),
            described: described.iter().filter_map(|&id| self.get(id).cloned()).collect(),
            moved: std::mem::take(&mut self.moved),
        }
    }

    // --- changes, each one event

    /// A face becomes the first of a new cluster.
    pub fn create(&mut self, node: NodeId, face: FaceId, cause: Cause) -> ClusterId {
        let id = self.open();
        self.enter(node, id, 1);
        let cluster = self.update(id, |cluster| cluster.size = 1);
        self.emit(cause, Change::Created { cluster, face }, Vec::new());
        id
    }

    /// A new face joins a cluster.
    pub fn join(&mut self, node: NodeId, face: FaceId, id: ClusterId, cause: Cause) {
        self.enter(node, id, 1);
        let size_before = self.record(id).cluster.size;
        let cluster = self.update(id, |cluster| cluster.size += 1);
        self.emit(cause, Change::Joined { cluster, face, size_before }, Vec::new());
    }

    /// A face leaves its cluster as the first of a new one.
    pub fn split_off(&mut self, node: NodeId, face: FaceId, cause: Cause) -> ClusterId {
        let id = self.open();
        self.migrate(node, face, id, cause, true);
        id
    }

    /// A face leaves its cluster for another.
    pub fn leave_for(&mut self, node: NodeId, face: FaceId, id: ClusterId, cause: Cause) {
        self.migrate(node, face, id, cause, false);
    }

    fn migrate(&mut self, node: NodeId, face: FaceId, id: ClusterId, cause: Cause, is_new: bool) {
        let seat = self.stand_up(node);
        let home_version = seat.home_version + 1;
        self.enter(node, id, home_version);
        let size_before = self.record(seat.cluster).cluster.size;
        let cluster = self.update(seat.cluster, |cluster| cluster.size -= 1);
        let into = self.update(id, |cluster| cluster.size += 1);
        let retired = self.retire_from(seat.home);
        let change = match is_new {
            true => Change::Split { cluster, into, face, home_version, size_before },
            false => Change::Left { cluster, into, face, home_version, size_before },
        };
        self.emit(cause, change, retired);
    }

    /// A cluster goes into another.
    pub fn merge(&mut self, from: ClusterId, into: ClusterId, cause: Cause) {
        let members = std::mem::take(&mut self.record_mut(from).members);
        let target = self.record_mut(into);
        target.references += 1;
        let first = target.members.len() as u32;
        target.members.extend(&members);
        for (place, member) in (first..).zip(members) {
            let seat = self.seats[member.index()].as_mut().expect("members sit");
            (seat.cluster, seat.place) = (into, place);
        }
        self.living -= 1;
        let size_before = self.record(into).cluster.size;
        let merged = self.update(from, |cluster| cluster.merged_into = Some(into));
        let cluster = self.update(into, |cluster| cluster.size += merged.size);
        // Its faces may all have moved away before: then nobody has it as home.
        let retired = self.retire_from_none(from);
        self.emit(cause, Change::Merged { cluster, merged, size_before }, retired);
    }

    /// A face is erased.
    pub fn erase(&mut self, node: NodeId, face: FaceId, cause: Cause) {
        let seat = self.stand_up(node);
        let size_before = self.record(seat.cluster).cluster.size;
        let cluster = self.update(seat.cluster, |cluster| cluster.size -= 1);
        let retired = self.retire_from(seat.home);
        self.seats[node.index()] = None;
        self.moved.remove(&node);
        self.emit(cause, Change::Erased { cluster, face, size_before }, retired);
    }

    /// Nothing is stale any more.
    pub fn settle(&mut self, faces: usize, cause: Cause) {
        let change = Change::Settled { faces: faces as u64, clusters: self.living as u64 };
        self.emit(cause, change, Vec::new());
        self.settled = self.sequence;
    }

    /// Tells every face anew, oldest first, in its living cluster, and counts events and versions from 1:
    /// for who has never heard of this book. What merged is over: nobody calls it home any more.
    pub fn retell(&mut self, id_of: impl Fn(NodeId) -> FaceId, age: impl Fn(NodeId) -> Arrival, cause: Cause) {
        (self.sequence, self.settled) = (0, 0);
        self.events.clear();
        let merged = self.records.extract_if(|_, record| record.cluster.merged_into.is_some()).map(|(id, _)| id);
        self.retired.extend(merged);
        self.changed.retain(|id| self.records.contains_key(id));
        let mut living: Vec<ClusterId> = self.records.keys().copied().collect();
        living.sort_unstable();
        for id in living {
            let record = self.record_mut(id);
            record.cluster.version = 0;
            record.references = record.members.len() as u32;
            let mut members = record.members.clone();
            members.sort_unstable_by_key(|&member| age(member));
            for (size_before, node) in (0..).zip(members) {
                let seat = self.seats[node.index()].as_mut().expect("members sit");
                (seat.home, seat.home_version) = (id, 1);
                self.moved.insert(node);
                let face = id_of(node);
                let cluster = self.update(id, |cluster| cluster.size = size_before + 1);
                let change = match size_before {
                    0 => Change::Created { cluster, face },
                    _ => Change::Joined { cluster, face, size_before },
                };
                self.emit(cause, change, Vec::new());
            }
        }
    }

    /// Pins and names a living cluster. That is no event, since nobody is elsewhere; only its state is told.
    pub fn describe(&mut self, id: ClusterId, pinned: bool, name: Option<String>) {
        self.update(id, |cluster| (cluster.pinned, cluster.name) = (pinned, name));
        self.described.insert(id);
    }

    // --- parts of changes

    /// A record for a cluster nobody is in yet.
    fn open(&mut self) -> ClusterId {
        self.last_cluster += 1;
        let id = ClusterId(self.last_cluster);
        let cluster = Cluster { id, merged_into: None, size: 0, version: 0, pinned: false, name: None };
        self.records.insert(id, Record { cluster, references: 0, members: Vec::new() });
        self.living += 1;
        id
    }

    fn enter(&mut self, node: NodeId, id: ClusterId, home_version: u32) {
        self.sit(node, id, home_version, id);
        self.moved.insert(node);
    }

    /// Takes a face out of its cluster's members; its home is still counted.
    fn stand_up(&mut self, node: NodeId) -> Seat {
        let seat = self.seats[node.index()].expect("only faces that sit in a cluster leave one");
        let members = &mut self.record_mut(seat.cluster).members;
        members.swap_remove(seat.place as usize);
        if let Some(&moved) = members.get(seat.place as usize) {
            self.seats[moved.index()].as_mut().expect("members sit").place = seat.place;
        }
        seat
    }

    /// Counts one home less, and ends every record that no chain goes through any more.
    fn retire_from(&mut self, home: ClusterId) -> Vec<ClusterId> {
        self.record_mut(home).references -= 1;
        self.retire_from_none(home)
    }

    fn retire_from_none(&mut self, start: ClusterId) -> Vec<ClusterId> {
        let mut ended = Vec::new();
        let mut id = start;
        loop {
            let record = self.record(id);
            // A living cluster ends with its last face. Faces that moved in made it their home.
            let over = record.references == 0 && (record.cluster.merged_into.is_some() || record.cluster.size == 0);
            if !over {
                return ended;
            }
            let into = record.cluster.merged_into;
            self.records.remove(&id);
            self.changed.remove(&id);
            self.retired.insert(id);
            ended.push(id);
            match into {
                Some(into) => {
                    self.record_mut(into).references -= 1;
                    id = into;
                }
                None => {
                    self.living -= 1;
                    return ended;
                }
            }
        }
    }

    fn record(&self, id: ClusterId) -> &Record {
        self.records.get(&id).expect("chains and seats name records that are there")
    }

    fn record_mut(&mut self, id: ClusterId) -> &mut Record {
        self.records.get_mut(&id).expect("chains and seats name records that are there")
    }

    fn update(&mut self, id: ClusterId, write: impl FnOnce(&mut Cluster)) -> Cluster {
        let record = self.record_mut(id);
        write(&mut record.cluster);
        record.cluster.version += 1;
        let cluster = record.cluster.clone();
        self.changed.insert(id);
        cluster
    }

    fn emit(&mut self, cause: Cause, change: Change, retired: Vec<ClusterId>) {
        self.sequence += 1;
        self.events.push(Event { sequence: self.sequence, cause, change, retired });
    }
}
