//! The store's promises, a file for each kind. What they share: a collection of faces that are
//! each alone in a cluster, and the changes an engine would tell of them.

mod backups;
mod commits;
mod compacts;
mod damage;
mod erases;
mod model;
mod restores;
mod snapshots;
mod upgrades;
mod verifies;

use std::path::Path;

use super::*;
use crate::engine::changes::{Changes, Counters, KeptFace, KeptLinkage, KeptLinkages, NewVector};
use crate::engine::event::{Cause, Change, Event};
use crate::face::{Arrival, Embedding, Offset, Partition, Place};

const DIMENSION: usize = 8;

fn model() -> Model {
    Model { fingerprint: "abc".repeat(8), dimension: DIMENSION }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, &model()).unwrap()
}

fn lobby() -> CollectionName {
    CollectionName::new("lobby").unwrap()
}

fn place(offset: u64) -> Place {
    Place { partition: Partition(2), offset: Offset(offset as i64) }
}

/// Another one for every `number`.
fn embedding(number: u64) -> Embedding {
    let values = [1.0, number as f32, 0.5, -2.0, 3.0, number as f32 * 0.25, -0.125, 7.0];
    Embedding::normalise(&values, DIMENSION).unwrap()
}

/// The face that arrived as `number`, from 1, alone in its cluster of that number.
fn face(number: u64) -> FaceRecord {
    FaceRecord {
        id: FaceId::new(&format!("portrait-of-somebody-{number:04}")).unwrap(),
        arrival: Arrival(number),
        home: ClusterId(number),
        home_version: 1,
        frame_id: Some(FaceId::new("frame").unwrap()),
        quality: Some(0.5),
        captured_at: Some(Timestamp(3)),
        arrived_at: Timestamp(7),
        place: place(number),
    }
}

fn cluster(number: u64) -> Cluster {
    Cluster { id: ClusterId(number), merged_into: None, size: 1, version: 1, pinned: false, name: None }
}

/// The linkage of a face to the one before it: below any floor.
fn linkages(number: u64) -> Vec<KeptLinkage> {
    vec![KeptLinkage { candidate: Arrival(number.saturating_sub(1)), probability: 0.001 }]
}

fn counters(last: u64) -> Counters {
    Counters { sequence: last, settled: 0, cluster: last, arrival: last }
}

/// Face `number`, the last there was, arrives at `node`.
fn arrives(number: u64, node: u32) -> Changes {
    let (node, record) = (NodeId(node), face(number));
    let change = Change::Created { cluster: cluster(number), face: record.id.clone() };
    Changes {
        faces: vec![KeptFace { node, record }],
        vectors: vec![NewVector { node, embedding: embedding(number) }],
        linkages: vec![KeptLinkages { node, linkages: linkages(number) }],
        clusters: vec![cluster(number)],
        events: vec![Event { sequence: number, cause: Cause::Record(place(number)), change, retired: Vec::new() }],
        counters: counters(number),
        ..Changes::default()
    }
}

/// Face `number` at `node` is erased, when `last` was the last that arrived.
fn goes(number: u64, node: u32, last: u64) -> Changes {
    Changes {
        gone_nodes: vec![NodeId(node)],
        gone_ids: vec![face(number).id],
        retired: vec![ClusterId(number)],
        counters: counters(last),
        ..Changes::default()
    }
}

fn commit_of(changes: Changes) -> Commit {
    Commit {
        collections: vec![CollectionCommit { collection: lobby(), changes }],
        now: Timestamp(9),
        ..Commit::default()
    }
}

/// A store of faces 1 to `last` at nodes from 0.
fn filled(folder: &Path, last: u64) -> Store {
    let mut store = open(folder);
    for number in 1..=last {
        store.commit(&commit_of(arrives(number, number as u32 - 1))).unwrap();
    }
    store
}

/// The numbers of the faces a store holds, by node; everything about each is checked.
fn held(store: &Store) -> Vec<u64> {
    let restored = store.restored(&lobby()).unwrap();
    let numbers = restored.faces.iter().map(|restored| {
        let number = restored.record.arrival.0;
        assert_eq!(restored.record, face(number));
        assert_eq!(restored.embedding, embedding(number));
        assert_eq!(store.face(&lobby(), &restored.record.id).unwrap().as_ref(), Some(&restored.record));
        number
    });
    let numbers: Vec<u64> = numbers.collect();
    for (kept, &number) in restored.linkages.iter().zip(&numbers) {
        assert_eq!(kept.linkages, linkages(number));
    }
    assert_eq!((restored.linkages.len(), restored.clusters.len()), (numbers.len(), numbers.len()));
    numbers
}

/// Every file of a directory and of the folders in it.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Whether `bytes` stand in any file of a directory.
fn anywhere(folder: &Path, bytes: &[u8]) -> bool {
    files(folder).iter().any(|file| std::fs::read(file).unwrap().windows(bytes.len()).any(|window| window == bytes))
}
