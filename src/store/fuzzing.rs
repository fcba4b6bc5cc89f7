//! What the store takes from files and from sled, for [`crate::fuzzing`]. Each takes bytes of any kind, and a second
//! time with the checksums put right, since else nothing but the checksums would be looked at.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backup::{BackedUp, Manifest, parse_manifest};
use super::committed::{self, SLOT_BYTES};
use super::records::{CollectionRecord, Format, Identity, LinkagesRecord, OLDEST};
use super::snapshots::{self, SnapshotName, Snapshots};
use super::vectors::{self, HEADER_BYTES, VectorFile};
use super::{Claim, Entry, FORMAT, Forgotten, Model, Published, StateTopic, keys, upgrade};
use crate::config::Config;
use crate::engine::changes::{Constraint, ConstraintKind, Counters, FaceRecord, KeptLinkage, NewVector};
use crate::engine::event::{Cause, Change, Cluster, Event};
use crate::engine::graph::{Graph, Lists};
use crate::engine::refresh::{Stale, Staleness};
use crate::engine::snapshot::{AsComputed, Reach, Snapshot};
use crate::face::{
    Arrival, ClusterId, CollectionName, Embedding, FaceId, NodeId, Offset, OutputPartition, Partition, Place, Position,
    RecordHash, Timestamp,
};
use crate::model::Shape;
use crate::publish::cloudevents::Wire;
use crate::rejection::{DeadLetter, Reason, Rejection};

const STATE: [u8; 16] = [7; 16];
const DIMENSION: usize = 2;
const SHAPE: Shape = Shape { dimension: DIMENSION, hop1: 3, hop2: 2 };
/// What the first bytes of an input stand for, in front of a vector file.
const CLAIMS_BYTES: usize = 8;

/// Eight bytes, how many records the collection's record claims; then a file.
pub(crate) fn vectors(bytes: &[u8]) {
    let Some((records, file)) = bytes.split_first_chunk::<CLAIMS_BYTES>() else { return };
    let claims = VectorFile {
        path: PathBuf::from("a.1.vectors"),
        dimension: DIMENSION,
        generation: 1,
        records: u64::from_le_bytes(*records),
    };
    for file in [file.to_vec(), vectors::resealed(file, DIMENSION)] {
        let faces: Vec<(NodeId, Arrival)> = (0..4).map(|node| (NodeId(node), Arrival(u64::from(node) + 1))).collect();
        let lives = |found: NodeId| faces.iter().any(|&(node, _)| node == found);
        let read = claims.read_from(&file, lives);
        let survey = claims.survey_of(&file, lives);
        let victims: HashSet<NodeId> = survey.victims(&faces);
        assert!(victims.into_iter().all(lives), "a victim who is nobody");
        if let Ok(read) = read {
            let undamaged = survey.damaged.is_empty() && survey.missing == 0 && survey.wrong.is_empty();
            assert!(undamaged, "it can be read, and is said to be damaged");
            assert_eq!(read.len(), survey.embeddings.len(), "read, and seen");
        }
    }
}

/// COMMITTED is two slots of these.
pub(crate) fn committed(bytes: &[u8]) {
    let slot_of = |bytes: &[u8]| {
        let mut slot = [0; SLOT_BYTES];
        let length = bytes.len().min(SLOT_BYTES);
        slot[..length].copy_from_slice(&bytes[..length]);
        slot
    };
    for slot in bytes.chunks(SLOT_BYTES).map(slot_of) {
        if let Some(commit) = committed::commit_in(&STATE, &slot) {
            assert_eq!(slot, committed::slot(&STATE, commit), "what it says was not written so");
        }
    }
}

pub(crate) fn snapshot(bytes: &[u8]) {
    let files = [Some(bytes.to_vec()), snapshots::resealed(bytes)];
    for file in files.into_iter().flatten() {
        let Ok(mut read) = place().read_from(&file[..], file.len() as u64, &snapshot_name(), 3) else { continue };
        if read.shape != SHAPE {
            continue; // no engine goes on from one of another shape
        }
        // All that an engine does with it before it looks at faces of its own.
        let slots = read.slots();
        read.resize(slots + 1);
        read.retain(Reach::Onlookers, |node, _| node.0 % 3 != 1);
        let graph = Graph::restore(read.shape, &read.lists);
        let nodes: Vec<NodeId> = (0..=slots as u32).map(NodeId).collect();
        assert!(nodes.iter().all(|&node| graph.neighbour_of(node).count() <= slots), "more neighbours than nodes");
        AsComputed::of(&mut read, &nodes[..1]).holds(&nodes, |_| Some(ClusterId(1)));
    }
}

/// A byte for the kind of record, then the record without its checksum.
pub(crate) fn record(bytes: &[u8]) {
    let Some((kind, value)) = bytes.split_first() else { return };
    match kind % 16 {
        0 => drop(reads_as_written::<Identity>(value).map(|identity| identity.check(Path::new("a")))),
        1 => drop(reads_as_written::<Format>(value).map(|format| format.check(Path::new("a")))),
        2 => drop(reads_as_written::<CollectionRecord>(value).map(|record| record.dead())),
        3 => drop(reads_as_written::<FaceRecord>(value)),
        4 => drop(reads_as_written::<LinkagesRecord>(value)),
        5 => drop(reads_as_written::<Cluster>(value)),
        6 => drop(reads_as_written::<Constraint>(value)),
        7 => drop(reads_as_written::<Entry>(value).map(|entry| wire().records(&entry))),
        8 => drop(reads_as_written::<Published>(value)),
        9 => drop(reads_as_written::<Position>(value)),
        10 => drop(reads_as_written::<Timestamp>(value)),
        11 => drop(reads_as_written::<u64>(value)),
        12 => drop(reads_as_written::<NodeId>(value)),
        // Of an older format.
        13 => drop(upgrade::from_2(&keys::identity(), value)),
        14 => drop(upgrade::from_2(&keys::linkages_of_all(), value)),
        _ => drop(upgrade::from_2(&keys::positions(), value)),
    }
}

/// Keys, which say of what their records are.
pub(crate) fn key(bytes: &[u8]) {
    let (_, _, _) = (keys::node_in(bytes), keys::cluster_in(bytes), keys::outbox_sequence_of(bytes));
    let (_, _, _) = (keys::partition_of(bytes), keys::suppressed_of(bytes), keys::is_of_the_state(bytes));
    if let Some(name) = keys::collection_of(bytes) {
        assert_eq!(keys::collection(&name), bytes);
    }
    if let Some(owner) = keys::owner_of(bytes)
        && let Some(face) = keys::face_id_in(bytes, &owner)
    {
        assert_eq!(keys::node_of(&owner, &face), bytes);
    }
}

pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = parse_manifest(Path::new("a"), bytes) {
        let _ = manifest.bytes();
    }
}

/// Whatever is read is written so that the same is read again.
fn reads_as_written<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read: T = postcard::from_bytes(bytes).ok()?;
    let written = postcard::to_stdvec(&read).expect("what was read can be written");
    let again: T = postcard::from_bytes(&written).expect("what was written can be read");
    assert!(postcard::to_stdvec(&again).expect("as before") == written, "it reads otherwise than it was written");
    Some(read)
}

fn wire() -> Wire {
    thread_local!(static CONFIG: Config = Config::parse("", std::iter::empty()).expect("the defaults are right"));
    CONFIG.with(|config| Wire::new(&config.kafka, "state"))
}

fn place() -> Snapshots {
    Snapshots { folder: PathBuf::new(), state_uuid: "state".to_string(), model: "model".to_string() }
}

fn lobby() -> CollectionName {
    CollectionName::new("lobby").expect("a name")
}

fn snapshot_name() -> SnapshotName {
    SnapshotName { collection: lobby(), sequence: 3 }
}

pub(crate) fn vectors_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for seeds");
    let mut file =
        VectorFile { path: folder.path().join("a.1.vectors"), dimension: DIMENSION, generation: 1, records: 0 };
    let vector = |node, values: [f32; DIMENSION]| NewVector {
        node: NodeId(node),
        embedding: Embedding::normalise(&values, DIMENSION).expect("a direction"),
    };
    file.append(&[vector(0, [1.0, 0.0]), vector(3, [0.6, 0.8]), vector(0, [0.0, -1.0])]).expect("a seed is written");
    file.records = 3;
    let whole = std::fs::read(&file.path).expect("a seed is read");
    let claimed = |records: u64, bytes: &[u8]| [&records.to_le_bytes(), bytes].concat();
    vec![
        claimed(3, &whole),
        claimed(2, &whole),
        claimed(1 << 40, &whole),
        claimed(u64::MAX / 16, &whole),
        claimed(u64::MAX, &whole[..HEADER_BYTES]),
        claimed(1, &[]),
    ]
}

pub(crate) fn committed_seeds() -> Vec<Vec<u8>> {
    vec![[committed::slot(&STATE, 6), committed::slot(&STATE, 7)].concat(), vec![0; SLOT_BYTES]]
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let stale = Staleness { change: 0.5, enhanced: true, since: Timestamp(-5) };
    let of_three = Snapshot {
        shape: SHAPE,
        now: Timestamp(1_700_000_000_000),
        rules: [7; 32],
        arrivals: vec![1, 2, 0],
        enhanced: vec![0.5; 3 * DIMENSION],
        lists: Lists {
            lengths: vec![1, 1, 0],
            flags: vec![1, 3, 0],
            searched_at: vec![2, 2, 0],
            nodes: vec![1, 0],
            similarities: vec![0.75; 2],
        },
        components: vec![0, 0, u32::MAX],
        clusters: vec![1, 1, 0],
        stale: vec![Stale { node: NodeId(1), staleness: stale }],
    };
    let of_none = Snapshot {
        arrivals: Vec::new(),
        enhanced: Vec::new(),
        lists: Lists::default(),
        components: Vec::new(),
        clusters: Vec::new(),
        stale: Vec::new(),
        ..of_three
    };
    let folder = tempfile::tempdir().expect("a folder for seeds");
    let snapshots = Snapshots { folder: folder.path().join("snapshots"), ..place() };
    let written = |snapshot: &Snapshot| {
        let name = snapshot_name();
        snapshots.write(&name, snapshot, None, &|| false).expect("a seed is written");
        std::fs::read(snapshots.folder.join("lobby.00000000000000000003.snapshot")).expect("a seed is read")
    };
    vec![written(&of_three), written(&of_none)]
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let face = |id: &str| FaceId::new(id).expect("a name");
    let place = Place { partition: Partition(2), offset: Offset(40) };
    let cluster = |id: u64| Cluster {
        id: ClusterId(id),
        merged_into: Some(ClusterId(id + 1)),
        size: 2,
        version: 3,
        pinned: true,
        name: Some("somebody".to_string()),
    };
    let identity = Identity::new(&Model { fingerprint: "model".to_string(), dimension: 128 }).expect("a seed");
    let record = FaceRecord {
        id: face("a"),
        arrival: Arrival(5),
        home: ClusterId(300),
        home_version: 1,
        frame_id: Some(face("f/1")),
        quality: Some(0.5),
        captured_at: Some(Timestamp(3)),
        arrived_at: Timestamp(7),
        place,
    };
    let linkages = vec![KeptLinkage { candidate: Arrival(4), probability: 0.25 }; 3];
    let constraint = Constraint {
        kind: ConstraintKind::CannotLink,
        a: face("a"),
        b: face("b"),
        by: "me".to_string(),
        at: Timestamp(1),
    };
    let event = |change| Entry::Event {
        collection: lobby(),
        event: Event { sequence: 9, cause: Cause::Record(place), change, retired: vec![ClusterId(2), ClusterId(300)] },
        committed_at: Timestamp(1_700_000_000_000),
    };
    let dead_letter = DeadLetter {
        rejection: Rejection::new(Reason::Malformed, "payload is not JSON"),
        place,
        key: Some(b"a".to_vec()),
        payload_bytes: 3,
        payload_sha256: "ab".repeat(32),
    };
    let split =
        Change::Split { cluster: cluster(1), into: cluster(2), face: face("a"), home_version: 2, size_before: 3 };
    let of_a_partition = OutputPartition { topic: "face-state".to_string(), partition: 0 };
    let published = Published {
        sequence: 8,
        ends: BTreeMap::from([(of_a_partition, Offset(12))]),
        claims: vec![Claim(1), Claim(u32::MAX)],
        takes_over: false,
    };
    let position = Position { next: Offset(41), last: Some(RecordHash([3; 32])) };
    let forgotten = Forgotten { topic: StateTopic::FaceState, key: b"lobby/a".to_vec() };
    let seed = |kind: u8, written: postcard::Result<Vec<u8>>| [vec![kind], written.expect("a seed")].concat();
    vec![
        seed(0, postcard::to_stdvec(&identity)),
        seed(1, postcard::to_stdvec(&Format(FORMAT))),
        seed(
            2,
            postcard::to_stdvec(&CollectionRecord { records: 9, counters: Counters::default(), ..Default::default() }),
        ),
        seed(3, postcard::to_stdvec(&record)),
        seed(4, postcard::to_stdvec(&LinkagesRecord { written_at: 300, linkages: linkages.clone() })),
        seed(5, postcard::to_stdvec(&cluster(7))),
        seed(6, postcard::to_stdvec(&constraint)),
        seed(7, postcard::to_stdvec(&event(split))),
        seed(7, postcard::to_stdvec(&event(Change::Settled { faces: 3, clusters: 2 }))),
        seed(7, postcard::to_stdvec(&Entry::DeadLetter(dead_letter))),
        seed(7, postcard::to_stdvec(&Entry::Forgotten(forgotten))),
        seed(7, postcard::to_stdvec(&Entry::ClusterState { collection: lobby(), cluster: cluster(7) })),
        seed(8, postcard::to_stdvec(&published)),
        seed(9, postcard::to_stdvec(&position)),
        seed(10, postcard::to_stdvec(&Timestamp(i64::MIN))),
        seed(11, postcard::to_stdvec(&u64::MAX)),
        seed(12, postcard::to_stdvec(&NodeId(9))),
        seed(13, postcard::to_stdvec(&Identity { format: Format(OLDEST), ..identity })),
        seed(14, postcard::to_stdvec(&linkages)),
        seed(15, postcard::to_stdvec(&Offset(41))),
    ]
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let (lobby, face) = (lobby(), FaceId::new("a").expect("a name"));
    vec![
        keys::identity(),
        keys::outbox(9),
        keys::position(Partition(2)),
        keys::collection(&lobby),
        keys::face(&lobby, NodeId(1)),
        keys::node_of(&lobby, &face),
        keys::linkages(&lobby, NodeId(1)),
        keys::cluster(&lobby, ClusterId(7)),
        keys::constraint(&lobby, &face, &FaceId::new("b").expect("a name")),
    ]
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let file = |path: &str| BackedUp { path: PathBuf::from(path), bytes: u64::MAX, sha256: "ab".repeat(32) };
    let manifest = Manifest {
        version: 1,
        state_uuid: "b7c1".to_string(),
        commit_sequence: 7,
        at: Timestamp(3),
        files: vec![file("state/sled/db"), file("state/vectors/lobby.1.vectors")],
    };
    vec![serde_json::to_vec(&manifest).expect("a seed"), br#"{"version":2,"more":[]}"#.to_vec()]
}
