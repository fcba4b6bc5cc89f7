//! A snapshot comes back as it was written or not at all; one that cannot be used costs time and nothing
//! else, and the log names it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::engine::graph::Lists;
use crate::engine::refresh::{Stale, Staleness};
use crate::engine::snapshot::{Snapshot, UNSETTLED};
use crate::model::Shape;

const SHAPE: Shape = Shape { dimension: DIMENSION, hop1: 3, hop2: 2 };
const NEVER: &dyn Fn() -> bool = &|| false;

/// Of `slots` nodes, of which every fifth is nobody's; the face that arrived as n + 1 is at node n.
fn snapshot(slots: u32) -> Snapshot {
    let lives = |node: u32| node % 5 != 4;
    let neighbours = |node: u32| (0..slots).filter(move |&other| other != node && lives(other)).take(4);
    let lists: Vec<Vec<u32>> =
        (0..slots).map(|node| if lives(node) { neighbours(node).collect() } else { Vec::new() }).collect();
    Snapshot {
        shape: SHAPE,
        now: Timestamp(1_700_000_000_000),
        rules: [7; 32],
        arrivals: (0..slots).map(|node| if lives(node) { u64::from(node) + 1 } else { 0 }).collect(),
        enhanced: (0..slots)
            .flat_map(|node| {
                (0..DIMENSION).map(move |i| if lives(node) { (node + 1) as f32 + 0.01 * i as f32 } else { 0.0 })
            })
            .collect(),
        lists: Lists {
            lengths: lists.iter().map(|list| list.len() as u16).collect(),
            flags: (0..slots).map(|node| if lives(node) { (node % 4) as u8 } else { 0 }).collect(),
            searched_at: (0..slots).map(|node| u64::from(node) * 3).collect(),
            nodes: lists.concat(),
            similarities: lists.concat().iter().map(|&node| 1.0 / (node + 1) as f32).collect(),
        },
        components: (0..slots).map(|node| if node % 3 == 0 { UNSETTLED } else { node / 2 }).collect(),
        clusters: (0..slots).map(|node| u64::from(node) + 1).collect(),
        stale: (0..slots).filter(|&node| lives(node) && node % 2 == 0).map(stale).collect(),
    }
}

fn stale(node: u32) -> Stale {
    let staleness = Staleness { change: 0.25 * node as f32, enhanced: node.is_multiple_of(4), since: Timestamp(-5) };
    Stale { node: NodeId(node), staleness }
}

fn named(sequence: u64) -> SnapshotName {
    SnapshotName { collection: lobby(), sequence }
}

fn write(snapshots: &Snapshots, sequence: u64, snapshot: &Snapshot, keep: Option<u64>) {
    let bytes = snapshots.write(&named(sequence), snapshot, keep, NEVER).unwrap().expect("nobody abandoned it");
    assert_eq!(bytes, std::fs::metadata(file(snapshots, sequence)).unwrap().len());
}

fn file(snapshots: &Snapshots, sequence: u64) -> PathBuf {
    snapshots.folder.join(format!("lobby.{sequence:020}.snapshot"))
}

fn sequences(snapshots: &Snapshots) -> Vec<u64> {
    snapshots.names().unwrap().iter().map(|name| name.sequence).collect()
}

fn newest(snapshots: &Snapshots) -> Option<u64> {
    snapshots.newest(&lobby(), &snapshots.names().unwrap(), 1000).map(|found| found.sequence)
}

/// Those of a state that is nowhere else.
fn alone(folder: &Path) -> Snapshots {
    Snapshots { folder: folder.join("snapshots"), state_uuid: "uuid".into(), model: "model".into() }
}

/// What is logged while `work` is done.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, work);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    // The last has sections of several pieces.
    for slots in [0, 1, 7, 100_000] {
        let written = snapshot(slots);
        write(&snapshots, 3, &written, None);
        assert!(snapshots.read(&named(3), 3).unwrap() == written, "{slots} nodes");
        assert_eq!(files(folder.path()), [file(&snapshots, 3)], "nothing unfinished is left");
    }
}

#[test]
fn whatever_byte_is_another_or_missing_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(6), None);
    let path = file(&snapshots, 3);
    let whole = std::fs::read(&path).unwrap();
    for place in 0..whole.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= bits;
            std::fs::write(&path, bytes).unwrap();
            snapshots.read(&named(3), 3).expect_err(&format!("byte {place} is another"));
        }
        std::fs::write(&path, &whole[..place]).unwrap();
        snapshots.read(&named(3), 3).expect_err(&format!("it ends before byte {place}"));
    }
    std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    snapshots.read(&named(3), 3).expect_err("it goes on behind its end");
    std::fs::write(&path, whole).unwrap();
    snapshots.read(&named(3), 3).expect("whole again");
}

proptest! {
    #[test]
    fn whatever_its_bytes_are_it_is_refused_or_as_it_was(
        slots in 0u32..12,
        end in 0.0f64..1.5,
        changes in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = alone(folder.path());
        let written = snapshot(slots);
        write(&snapshots, 3, &written, None);
        let path = file(&snapshots, 3);
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, byte) in changes {
            let place = (place * bytes.len() as f64) as usize;
            bytes[place] = byte;
        }
        bytes.truncate((end * bytes.len() as f64) as usize);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(read) = snapshots.read(&named(3), 3) {
            prop_assert_eq!(read, written);
        }
    }

    /// Checksums that match do not make an engine panic.
    #[test]
    fn what_no_engine_wrote_is_refused(place in 0usize..40, value in any::<u32>()) {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = alone(folder.path());
        let mut wrong = snapshot(8);
        match place % 5 {
            0 => wrong.lists.nodes[place % 24] = value | 8,
            1 => wrong.lists.lengths[place % 8] += 1 + (value % 9) as u16,
            2 => wrong.stale.push(stale(value | 8)),
            3 => wrong.arrivals[[0, 1, 2, 3, 5, 6, 7][place % 7]] = 0,
            _ => wrong.stale[place % 3].staleness.change = f32::NAN,
        }
        write(&snapshots, 3, &wrong, None);
        prop_assert!(matches!(snapshots.read(&named(3), 3), Err(Unusable::Damaged(_))));
    }
}

/// The file of a snapshot with another version, or whose header says something else, checksummed.
fn forged(snapshots: &Snapshots, version: u32, header: &[u8]) -> Vec<u8> {
    let whole = std::fs::read(file(snapshots, 3)).unwrap();
    let length = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let mut bytes = [&b"facetd-s"[..], &version.to_le_bytes(), &(header.len() as u32).to_le_bytes(), header].concat();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(&whole[16 + length + 4..]);
    bytes
}

#[test]
fn a_length_that_the_file_has_not_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(6), None);
    let whole = std::fs::read(file(&snapshots, 3)).unwrap();
    let length = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let header = &whole[16..16 + length];
    // The last three numbers are slots, held and stale.
    let most = postcard::to_stdvec(&u64::MAX).unwrap();
    for last in 1..=3 {
        let forgery = [&header[..length - last], &most.repeat(last)].concat();
        std::fs::write(file(&snapshots, 3), forged(&snapshots, 1, &forgery)).unwrap();
        let refused = snapshots.read(&named(3), 3).unwrap_err().to_string();
        assert_eq!(refused, "it is damaged: it is not as long as its header says");
        std::fs::write(file(&snapshots, 3), &whole).unwrap();
    }
    std::fs::write(file(&snapshots, 3), forged(&snapshots, 1, header)).unwrap();
    snapshots.read(&named(3), 3).expect("the forgery is as good as its header");
}

#[test]
fn a_newer_version_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(6), None);
    let newer = forged(&snapshots, 9, b"whatever a newer one writes");
    std::fs::write(file(&snapshots, 3), newer).unwrap();
    let refused = snapshots.read(&named(3), 3).unwrap_err().to_string();
    assert!(refused.contains("version 9") && refused.contains("a newer facetd wrote it"), "{refused}");
}

#[test]
fn one_of_another_state_model_name_or_time_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(6), None);
    let other = Snapshots { state_uuid: "another".into(), ..snapshots.clone() };
    assert!(matches!(other.read(&named(3), 3), Err(Unusable::OtherState { .. })));
    let other = Snapshots { model: "another".into(), ..snapshots.clone() };
    assert!(matches!(other.read(&named(3), 3), Err(Unusable::OtherModel { .. })));
    assert!(matches!(snapshots.read(&named(3), 2), Err(Unusable::Ahead { found: 3 })));
    std::fs::rename(file(&snapshots, 3), file(&snapshots, 2)).unwrap();
    assert!(matches!(snapshots.read(&named(2), 3), Err(Unusable::OtherName { sequence: 3, .. })));
    assert!(matches!(snapshots.read(&named(3), 3), Err(Unusable::Io(_))));
}

#[test]
fn a_damaged_one_falls_back_to_the_one_before_and_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(6), None);
    write(&snapshots, 8, &snapshot(7), Some(3));
    assert_eq!(newest(&snapshots), Some(8));
    let half = std::fs::read(file(&snapshots, 8)).unwrap();
    std::fs::write(file(&snapshots, 8), &half[..half.len() / 2]).unwrap();
    let mut used = None;
    let log = logged(|| used = newest(&snapshots));
    assert_eq!(used, Some(3));
    let warning =
        format!("WARN facetd::store::snapshots: cannot use a snapshot file={}", file(&snapshots, 8).display());
    assert!(log.contains(&warning) && log.contains("reason=it is damaged"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    std::fs::write(file(&snapshots, 3), b"nothing").unwrap();
    let log = logged(|| used = newest(&snapshots));
    assert_eq!((used, log.lines().count()), (None, 2), "{log}");
}

#[test]
fn the_newest_two_of_each_collection_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    // A name that begins like the other's, and ends like a sequence.
    let other = SnapshotName { collection: CollectionName::new("lobby.7").unwrap(), sequence: 1 };
    snapshots.write(&other, &snapshot(2), None, NEVER).unwrap();
    write(&snapshots, 3, &snapshot(3), None);
    write(&snapshots, 5, &snapshot(4), Some(3));
    write(&snapshots, 9, &snapshot(5), Some(5));
    assert_eq!(sequences(&snapshots), [5, 9, 1]);
    // The one at 9 turned out to be damaged.
    write(&snapshots, 12, &snapshot(5), Some(5));
    assert_eq!(sequences(&snapshots), [5, 12, 1]);
    assert_eq!(snapshots.names().unwrap()[2], other);
    let sizes = files(folder.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>();
    assert_eq!(snapshots.bytes().unwrap(), sizes);
}

#[test]
fn one_that_is_abandoned_or_refused_by_the_disk_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = alone(folder.path());
    write(&snapshots, 3, &snapshot(3), None);
    assert_eq!(snapshots.write(&named(4), &snapshot(3), Some(3), &|| true).unwrap(), None);
    // Something is in the way.
    std::fs::create_dir(snapshots.folder.join(format!("lobby.{:020}.snapshot.tmp", 5))).unwrap();
    let refused = snapshots.write(&named(5), &snapshot(3), Some(3), NEVER).unwrap_err();
    assert!(matches!(refused, StoreError::Io { .. }));
    assert_eq!((sequences(&snapshots), newest(&snapshots)), (vec![3], Some(3)));
    assert_eq!(files(folder.path()), [file(&snapshots, 3)]);
}

/// A state of faces 1 to 6 at nodes from 0, which is what the snapshots of this file say.
fn with_snapshot(folder: &Path) -> Store {
    let store = filled(folder, 6);
    assert_eq!(store.commit_sequence(), 6);
    let mut snapshot = snapshot(6);
    // In this store everyone is there.
    snapshot.arrivals[4] = 5;
    snapshot.enhanced[4 * DIMENSION..5 * DIMENSION].fill(5.5);
    write(&store.snapshots(), 6, &snapshot, None);
    store
}

fn resumed(store: &Store) -> Resumed {
    store.resumed(&lobby(), &store.snapshots().names().unwrap()).unwrap()
}

#[test]
fn a_state_knows_what_happened_after_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = with_snapshot(folder.path());
    let used = SnapshotUsed { sequence: 6, tail: 0, is_current: true };
    assert_eq!(resumed(&store).snapshot, Some(used));
    store.commit(&commit_of(arrives(7, 6))).unwrap();
    let again = KeptLinkages { node: NodeId(2), linkages: linkages(3) };
    store.commit(&commit_of(Changes { linkages: vec![again], counters: counters(7), ..Changes::default() })).unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.commit_sequence(), 8);
    let Resumed { restored, snapshot } = resumed(&store);
    assert_eq!(snapshot, Some(SnapshotUsed { tail: 1, is_current: false, ..used }));
    assert_eq!(restored.since.unwrap().rescored, [NodeId(2), NodeId(6)]);
    assert_eq!(held(&store), (1..=7).collect::<Vec<_>>());
}

#[test]
fn opening_clears_up_what_no_collection_or_no_time_of_this_state_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_snapshot(folder.path());
    let snapshots = store.snapshots();
    let gone = SnapshotName { collection: CollectionName::new("gone").unwrap(), sequence: 2 };
    snapshots.write(&gone, &snapshot(2), None, NEVER).unwrap();
    write(&snapshots, 7, &snapshot(2), Some(6));
    std::fs::write(snapshots.folder.join("lobby.9.snapshot.tmp"), b"half").unwrap();
    drop(store);
    let log = logged(|| drop(open(folder.path())));
    assert_eq!(sequences(&snapshots), [6]);
    assert_eq!(files(&snapshots.folder).len(), 1);
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("cut after commit 7"), "{log}");
}

#[test]
fn compaction_leaves_one_snapshot_without_whoever_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = with_snapshot(folder.path());
    let older = snapshot(6);
    write(&store.snapshots(), 4, &older, Some(6));
    store.commit(&commit_of(goes(2, 1, 6))).unwrap();
    let last = store.outbox().durable().sequence;
    store.outbox().acknowledge(&Published::up_to(last)).unwrap();
    drop(store);
    let g: Vec<u8> = older.enhanced[DIMENSION..2 * DIMENSION].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(anywhere(folder.path(), &g), "the search finds what compaction is to remove");
    Store::open_existing(folder.path()).unwrap().compact_all(&mut |_| ()).unwrap();
    assert!(!anywhere(folder.path(), &g));
    let store = open(folder.path());
    let Resumed { restored, snapshot } = resumed(&store);
    assert_eq!(snapshot.map(|used| (used.sequence, used.tail)), Some((6, 0)));
    let left = restored.since.unwrap().snapshot;
    assert_eq!((left.faces(), left.arrival(NodeId(1))), (5, None));
    assert!(!left.lists.nodes.contains(&1), "somebody's neighbour is who is gone");
    assert_eq!(sequences(&store.snapshots()), [6]);
    // Nobody has gone since: the file is left as it is.
    drop(store);
    let before = std::fs::metadata(files(&folder.path().join("snapshots")).remove(0)).unwrap().modified().unwrap();
    Store::open_existing(folder.path()).unwrap().compact_all(&mut |_| ()).unwrap();
    let after = std::fs::metadata(files(&folder.path().join("snapshots")).remove(0)).unwrap().modified().unwrap();
    assert_eq!(before, after);
}

#[test]
fn another_model_has_no_use_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = with_snapshot(folder.path());
    let other = Model { fingerprint: "another".into(), ..model() };
    store.commit(&Commit { model: Some(other), ..Commit::default() }).unwrap();
    assert!(store.snapshots().names().unwrap().is_empty());
}
