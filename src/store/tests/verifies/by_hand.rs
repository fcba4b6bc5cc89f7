//! Damage by hand to the six faces of [`super::sound`], a case for each way a state can be wrong.

use super::*;
use crate::engine::changes::{Constraint, ConstraintKind};
use crate::store::records::LinkagesRecord;

/// Damage by hand, the checks it breaks, words that name it, and the faces that cannot be kept.
pub struct Case {
    pub name: &'static str,
    pub damage: fn(&Store),
    pub broken: &'static [Check],
    pub named: &'static str,
    pub lost: &'static [u64],
}

fn put(store: &Store, write: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    write(&mut batch);
    store.space.apply(batch).unwrap();
}

fn garble(store: &Store, key: keys::Key) {
    let mut value = store.space.raw(&key).to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 0x20;
    store.space.put_raw(&key, value.into());
}

/// Flips a byte of the record of the vector file that is the nth.
fn garble_vector(store: &Store, nth: usize, byte: usize) {
    let path = store.directory.vectors(&lobby(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[32 + nth * (8 + 4 * DIMENSION) + byte] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

fn stored_face(store: &Store, number: u64) -> FaceRecord {
    store.face(&lobby(), &face(number).id).unwrap().unwrap()
}

fn put_face(store: &Store, number: u64, change: impl FnOnce(FaceRecord) -> FaceRecord) {
    let record = change(stored_face(store, number));
    put(store, |batch| batch.put(keys::face(&lobby(), NodeId(number as u32 - 1)), &record));
}

fn put_cluster(store: &Store, id: u64, change: impl FnOnce(Cluster) -> Cluster) {
    let cluster = change(store.cluster(&lobby(), ClusterId(id)).unwrap().unwrap());
    put(store, |batch| batch.put(keys::cluster(&lobby(), ClusterId(id)), &cluster));
}

pub fn put_linkages(store: &Store, node: u32, linkages: &[(u64, f32)], written_at: u64) {
    let linkages = linkages
        .iter()
        .map(|&(candidate, probability)| KeptLinkage { candidate: Arrival(candidate), probability })
        .collect();
    let record = LinkagesRecord { written_at, linkages };
    put(store, |batch| batch.put(keys::linkages(&lobby(), NodeId(node)), &record));
}

fn put_record(store: &Store, change: impl FnOnce(CollectionRecord) -> CollectionRecord) {
    let record = change(store.collections[&lobby()]);
    put(store, |batch| batch.put(keys::collection(&lobby()), &record));
}

fn cut_vectors(store: &Store, keep: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = store.directory.vectors(&lobby(), 1);
    std::fs::write(&path, keep(std::fs::read(&path).unwrap())).unwrap();
}

pub const CASES: &[Case] = &[
    Case {
        name: "the record of a face",
        damage: |store| garble(store, keys::face(&lobby(), NodeId(1))),
        broken: &[Check::Records],
        named: "the record flobby",
        lost: &[2],
    },
    Case {
        name: "the record of an id",
        damage: |store| garble(store, keys::node_of(&lobby(), &face(2).id)),
        broken: &[Check::Records],
        named: "the record ilobby",
        lost: &[],
    },
    Case {
        name: "the record of linkages",
        damage: |store| garble(store, keys::linkages(&lobby(), NodeId(1))),
        broken: &[Check::Records],
        named: "the record llobby",
        lost: &[],
    },
    Case {
        name: "the record of a cluster",
        damage: |store| garble(store, keys::cluster(&lobby(), ClusterId(3))),
        broken: &[Check::Records],
        named: "the record klobby",
        lost: &[],
    },
    Case {
        name: "the record of a constraint",
        damage: |store| garble(store, keys::constraint(&lobby(), &face(3).id, &face(4).id)),
        broken: &[Check::Records],
        named: "the record xlobby",
        lost: &[],
    },
    Case {
        name: "the record of a collection",
        damage: |store| garble(store, keys::collection(&lobby())),
        broken: &[Check::Records],
        named: "the record clobby",
        lost: &[],
    },
    Case {
        name: "the record of a position",
        damage: |store| garble(store, keys::position(Partition(2))),
        broken: &[Check::Records],
        named: "the record p",
        lost: &[],
    },
    Case {
        name: "an outbox entry",
        damage: |store| garble(store, keys::outbox(4)),
        broken: &[Check::Records],
        named: "the record o",
        lost: &[],
    },
    Case {
        name: "the commit sequence",
        damage: |store| garble(store, keys::commit_sequence()),
        broken: &[Check::Records],
        named: "!commit-sequence",
        lost: &[],
    },
    Case {
        name: "the outbox sequence",
        damage: |store| garble(store, keys::outbox_sequence()),
        broken: &[Check::Records],
        named: "!outbox-sequence",
        lost: &[],
    },
    Case {
        name: "a record of no kind",
        damage: |store| put(store, |batch| batch.put(b"zebra".to_vec(), &1u8)),
        broken: &[Check::Records],
        named: "of no kind",
        lost: &[],
    },
    Case {
        name: "a collection without a record",
        damage: |store| {
            let gate = CollectionName::new("gate").unwrap();
            put(store, |batch| batch.put(keys::cluster(&gate, ClusterId(1)), &cluster(1)));
        },
        broken: &[Check::Collections],
        named: "collection gate",
        lost: &[],
    },
    Case {
        name: "fewer faces than it says",
        damage: |store| put_record(store, |record| CollectionRecord { faces: 3, ..record }),
        broken: &[Check::Faces],
        named: "4 face records, not 3",
        lost: &[],
    },
    Case {
        name: "an id that leads to another face",
        damage: |store| put(store, |batch| batch.put(keys::node_of(&lobby(), &face(2).id), &NodeId(2))),
        broken: &[Check::Ids],
        named: "the face_id of node 2",
        lost: &[],
    },
    Case {
        name: "an id that is not listed",
        damage: |store| put(store, |batch| batch.remove(keys::node_of(&lobby(), &face(2).id))),
        broken: &[Check::Ids],
        named: "without portrait-of-somebody-0002",
        lost: &[],
    },
    Case {
        name: "an arrival beyond the counter",
        damage: |store| {
            put_record(store, |record| CollectionRecord {
                counters: Counters { arrival: 3, ..record.counters },
                ..record
            })
        },
        broken: &[Check::Arrivals, Check::Linkages],
        named: "the arrival of face",
        lost: &[],
    },
    Case {
        name: "a byte of an embedding",
        damage: |store| garble_vector(store, 2, 9),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "the checksum of record 2",
        lost: &[3],
    },
    Case {
        name: "the node of an embedding",
        damage: |store| garble_vector(store, 2, 0),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "the checksum of record 2",
        lost: &[3],
    },
    Case {
        name: "the header of the vectors",
        damage: |store| cut_vectors(store, |bytes| [&[9; 4], &bytes[4..]].concat()),
        broken: &[Check::Vectors],
        named: "its header",
        lost: &[],
    },
    Case {
        name: "vectors that end early",
        damage: |store| cut_vectors(store, |bytes| bytes[..bytes.len() - 50].to_vec()),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "records need",
        lost: &[3, 4],
    },
    Case {
        name: "vectors that are not there",
        damage: |store| std::fs::remove_file(store.directory.vectors(&lobby(), 1)).unwrap(),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "it is not there",
        lost: &[1, 2, 3, 4],
    },
    Case {
        name: "a home that is not there",
        damage: |store| put_face(store, 1, |face| FaceRecord { home: ClusterId(4), ..face }),
        broken: &[Check::Homes, Check::Sizes],
        named: "the home of face",
        lost: &[],
    },
    Case {
        name: "a cluster that is not there",
        damage: |store| put(store, |batch| batch.remove(keys::cluster(&lobby(), ClusterId(1)))),
        broken: &[Check::Clusters, Check::Homes],
        named: "cluster 1, which others merged into",
        lost: &[],
    },
    Case {
        name: "a circle of clusters",
        damage: |store| put_cluster(store, 1, |cluster| Cluster { merged_into: Some(ClusterId(2)), ..cluster }),
        broken: &[Check::Clusters],
        named: "merged into itself",
        lost: &[],
    },
    Case {
        name: "a cluster that nobody needs",
        damage: |store| {
            put(store, |batch| batch.put(keys::cluster(&lobby(), ClusterId(4)), &Cluster { size: 0, ..cluster(4) }))
        },
        broken: &[Check::Clusters],
        named: "cluster 4, which no face needs",
        lost: &[],
    },
    Case {
        name: "the size of a cluster",
        damage: |store| put_cluster(store, 3, |cluster| Cluster { size: 7, ..cluster }),
        broken: &[Check::Sizes],
        named: "cluster 3, which says 7 faces and has 2",
        lost: &[],
    },
    Case {
        name: "linkages of nobody",
        damage: |store| put_linkages(store, 9, &[(1, 0.5)], 1),
        broken: &[Check::Linkages],
        named: "the linkages of node 9",
        lost: &[],
    },
    Case {
        name: "a linkage that is no probability",
        damage: |store| put_linkages(store, 1, &[(1, f32::NAN)], 1),
        broken: &[Check::Linkages],
        named: "the linkages of face",
        lost: &[],
    },
    Case {
        name: "linkages of a commit to come",
        damage: |store| put_linkages(store, 1, &[(1, 0.9)], 1000),
        broken: &[Check::Linkages],
        named: "a commit that is to come",
        lost: &[],
    },
    Case {
        name: "a cluster that nothing holds together",
        damage: |store| {
            put_linkages(store, 0, &[(3, 0.9)], 1);
            put_linkages(store, 1, &[(1, 0.0)], 1);
        },
        broken: &[Check::Links],
        named: "cluster 1, whose 2 faces fall into 2 parts",
        lost: &[],
    },
    Case {
        name: "two of a frame in one cluster",
        damage: |store| {
            for number in [1, 2] {
                put_face(store, number, |record| FaceRecord { frame_id: face(number).frame_id, ..record });
            }
        },
        broken: &[Check::Apart],
        named: "of one frame",
        lost: &[],
    },
    Case {
        name: "a constraint of a face that is gone",
        damage: |store| {
            let (a, b) = (face(1).id, face(9).id);
            let key = keys::constraint(&lobby(), &a, &b);
            let word = Constraint { kind: ConstraintKind::CannotLink, a, b, by: "bob".into(), at: Timestamp(1) };
            put(store, |batch| batch.put(key, &word));
        },
        broken: &[Check::Constraints],
        named: "the constraint of faces",
        lost: &[],
    },
    Case {
        name: "a face that was erased for good",
        damage: |store| {
            let hash = store.suppressed.hash(&lobby(), &face(9).id);
            put(store, |batch| batch.put(keys::suppressed(hash), &Timestamp(1)));
            put_face(store, 1, |record| FaceRecord { id: face(9).id, ..record });
            put(store, |batch| {
                batch.remove(keys::node_of(&lobby(), &face(1).id));
                batch.put(keys::node_of(&lobby(), &face(9).id), &NodeId(0));
            });
        },
        broken: &[Check::Suppressed],
        named: "which was erased and is not to come back",
        lost: &[],
    },
    Case {
        name: "counters that run backwards",
        damage: |store| {
            put_record(store, |record| CollectionRecord {
                counters: Counters { settled: 9, ..record.counters },
                ..record
            })
        },
        broken: &[Check::Counters],
        named: "the counter of events",
        lost: &[],
    },
    Case {
        name: "a position that is none",
        damage: |store| {
            put(store, |batch| batch.put(keys::position(Partition(3)), &Position { next: Offset(-4), last: None }))
        },
        broken: &[Check::Positions],
        named: "the position -4",
        lost: &[],
    },
    Case {
        name: "an outbox with a gap",
        damage: |store| put(store, |batch| batch.remove(keys::outbox(4))),
        broken: &[Check::Outbox],
        named: "without the entries after 3 and before 5",
        lost: &[],
    },
    Case {
        name: "an outbox without its end",
        damage: |store| put(store, |batch| batch.remove(keys::outbox(5))),
        broken: &[Check::Outbox],
        named: "ends with entry 4 of 5",
        lost: &[],
    },
];
