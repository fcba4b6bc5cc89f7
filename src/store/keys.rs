//! The keys of the one sled tree.
//!
//! The first byte of a key is its kind; numbers are big-endian so that sled's order is theirs; a
//! collection's name ends with a zero byte, which no name contains. A `face_id` may contain any
//! character, so where two of them stand in one key the first goes with its length.

use super::suppressed::KeyedHash;
use crate::face::{ClusterId, CollectionName, FaceId, NodeId, Partition};

pub type Key = Vec<u8>;

pub fn identity() -> Key {
    b"!identity".to_vec()
}

pub fn outbox_sequence() -> Key {
    b"!outbox-sequence".to_vec()
}

pub fn published() -> Key {
    b"!published".to_vec()
}

pub fn commit_sequence() -> Key {
    b"!commit-sequence".to_vec()
}

/// How large sled's log was when it was last written anew.
pub fn bytes_when_written_anew() -> Key {
    b"!bytes-when-written-anew".to_vec()
}

/// How the keys of sums begin.
pub fn sums() -> Key {
    b"!sum/".to_vec()
}

/// How the keys of all records begin that belong to no collection, of whatever kind.
pub fn of_no_collection() -> Vec<Key> {
    let of_collections = [b'f', b'i', b'l', b'k', b'x'];
    (0..=u8::MAX).filter(|kind| !of_collections.contains(kind)).map(|kind| vec![kind]).collect()
}

pub fn outbox(sequence: u64) -> Key {
    [b"o", &sequence.to_be_bytes()[..]].concat()
}

pub fn outbox_entries() -> Key {
    b"o".to_vec()
}

/// The sequence in an outbox key.
pub fn outbox_sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(b"o")?.try_into().ok()?))
}

pub fn position(partition: Partition) -> Key {
    [b"p", &partition.0.to_be_bytes()[..]].concat()
}

pub fn positions() -> Key {
    b"p".to_vec()
}

/// The partition in a position's key.
pub fn partition_of(key: &[u8]) -> Option<Partition> {
    Some(Partition(i32::from_be_bytes(key.strip_prefix(b"p")?.try_into().ok()?)))
}

pub fn collections() -> Key {
    b"c".to_vec()
}

pub fn collection(name: &CollectionName) -> Key {
    [b"c", name.as_str().as_bytes()].concat()
}

/// The name in a collection's key.
pub fn collection_of(key: &[u8]) -> Option<CollectionName> {
    CollectionName::new(std::str::from_utf8(key.strip_prefix(b"c")?).ok()?).ok()
}

pub fn faces(collection: &CollectionName) -> Key {
    inside(b"f", collection, &[])
}

pub fn face(collection: &CollectionName, node: NodeId) -> Key {
    inside(b"f", collection, &node.0.to_be_bytes())
}

/// The node in the key of a face or of a face's linkages.
pub fn node_in(key: &[u8]) -> Option<NodeId> {
    key.last_chunk().map(|bytes| NodeId(u32::from_be_bytes(*bytes)))
}

/// The id in the key of a cluster.
pub fn cluster_in(key: &[u8]) -> Option<ClusterId> {
    key.last_chunk().map(|bytes| ClusterId(u64::from_be_bytes(*bytes)))
}

/// The face_id in a key that leads to a node.
pub fn face_id_in(key: &[u8], collection: &CollectionName) -> Option<FaceId> {
    FaceId::new(std::str::from_utf8(key.strip_prefix(&nodes(collection)[..])?).ok()?).ok()
}

/// The collection that a record of this key is of: none, where it is of the state as a whole.
pub fn owner_of(key: &[u8]) -> Option<CollectionName> {
    let (kind, rest) = key.split_first()?;
    let name = match kind {
        b'c' => rest,
        b'f' | b'i' | b'k' | b'l' | b'x' => rest.split(|&byte| byte == 0).next()?,
        _ => return None,
    };
    CollectionName::new(std::str::from_utf8(name).ok()?).ok()
}

/// Whether a key is of a kind that is of the state as a whole.
pub fn is_of_the_state(key: &[u8]) -> bool {
    key.starts_with(b"!")
        || outbox_sequence_of(key).is_some()
        || partition_of(key).is_some()
        || suppressed_of(key).is_some()
}

/// Whether a key is of one of the three records that each face has: itself, its id, its linkages.
pub fn is_of_a_face(key: &[u8]) -> bool {
    matches!(key.first(), Some(b'f' | b'i' | b'l'))
}

pub fn nodes(collection: &CollectionName) -> Key {
    inside(b"i", collection, &[])
}

pub fn node_of(collection: &CollectionName, id: &FaceId) -> Key {
    inside(b"i", collection, id.as_str().as_bytes())
}

/// The linkages of all faces of all collections.
pub fn linkages_of_all() -> Key {
    b"l".to_vec()
}

pub fn all_linkages(collection: &CollectionName) -> Key {
    inside(b"l", collection, &[])
}

pub fn linkages(collection: &CollectionName, node: NodeId) -> Key {
    inside(b"l", collection, &node.0.to_be_bytes())
}

pub fn clusters(collection: &CollectionName) -> Key {
    inside(b"k", collection, &[])
}

pub fn cluster(collection: &CollectionName, id: ClusterId) -> Key {
    inside(b"k", collection, &id.0.to_be_bytes())
}

pub fn constraints(collection: &CollectionName) -> Key {
    inside(b"x", collection, &[])
}

/// The same whichever of the two is named first.
pub fn constraint(collection: &CollectionName, a: &FaceId, b: &FaceId) -> Key {
    let (first, second) = (a.min(b).as_str().as_bytes(), a.max(b).as_str().as_bytes());
    let length = first.len() as u16; // at most MAX_FACE_ID_BYTES
    inside(b"x", collection, &[&length.to_be_bytes(), first, second].concat())
}

pub fn all_suppressed() -> Key {
    b"s".to_vec()
}

pub fn suppressed(hash: KeyedHash) -> Key {
    [b"s", &hash.0[..]].concat()
}

/// The hash in a suppressed id's key.
pub fn suppressed_of(key: &[u8]) -> Option<KeyedHash> {
    Some(KeyedHash(key.strip_prefix(b"s")?.try_into().ok()?))
}

fn inside(kind: &[u8], collection: &CollectionName, rest: &[u8]) -> Key {
    [kind, collection.as_str().as_bytes(), &[0], rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_has_one_key_and_no_other_shares_it() {
        let lobby = CollectionName::new("lobby").unwrap();
        // Whatever separates two ids, an id may hold it.
        let ids = ["a", "a\0", "a\0\0", "a\0b", "b", "\0", "\0a", "ab", "\0\u{1}a"].map(|id| FaceId::new(id).unwrap());
        let mut keys = std::collections::BTreeSet::new();
        for (place, a) in ids.iter().enumerate() {
            for b in &ids[place + 1..] {
                assert_eq!(constraint(&lobby, a, b), constraint(&lobby, b, a));
                assert!(keys.insert(constraint(&lobby, a, b)), "{a:?} and {b:?} share a key");
            }
        }
    }
}
