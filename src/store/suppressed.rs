//! The suppression list: ids of faces that were erased and must not come back, not even when the
//! input is read again from its start, until they are allowed to.
//!
//! An id may itself say who somebody is, so the list holds HMAC-SHA256 of it under a random key
//! that is made with the state and never leaves it: without the key nobody can tell who is on the
//! list, nor whether two states list the same id. In memory 32 bytes an id and the table around
//! them; asking costs one hash.

use std::collections::HashSet;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::StoreError;
use crate::face::{CollectionName, FaceId};

const HASH_BYTES: usize = 32;

/// A face by its full name, whether or not it is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FaceKey {
    pub collection: CollectionName,
    pub face: FaceId,
}

/// What the hashes of one state are keyed with.
#[derive(Clone, Serialize, Deserialize)]
pub struct SuppressionKey([u8; HASH_BYTES]);

impl SuppressionKey {
    pub fn random() -> Result<SuppressionKey, StoreError> {
        let mut key = [0; HASH_BYTES];
        getrandom::fill(&mut key).map_err(|source| StoreError::Random { source })?;
        Ok(SuppressionKey(key))
    }
}

/// What the list keeps of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyedHash(pub [u8; HASH_BYTES]);

/// The list, in memory.
pub struct Suppressed {
    key: SuppressionKey,
    hashes: HashSet<KeyedHash>,
}

impl Suppressed {
    pub fn new(key: SuppressionKey, hashes: HashSet<KeyedHash>) -> Suppressed {
        Suppressed { key, hashes }
    }

    /// A collection's name contains no zero byte, so no two pairs of names hash the same bytes.
    pub fn hash(&self, collection: &CollectionName, face: &FaceId) -> KeyedHash {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.0).expect("HMAC takes a key of any length");
        mac.update(collection.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(face.as_str().as_bytes());
        KeyedHash(mac.finalize().into_bytes().into())
    }

    pub fn contains(&self, collection: &CollectionName, face: &FaceId) -> bool {
        // Most states never erase anything, and need not hash every arrival for it.
        !self.hashes.is_empty() && self.hashes.contains(&self.hash(collection, face))
    }

    pub fn insert(&mut self, hash: KeyedHash) {
        self.hashes.insert(hash);
    }

    pub fn remove(&mut self, hash: KeyedHash) {
        self.hashes.remove(&hash);
    }

    pub fn len(&self) -> usize {
        self.hashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(key: u8) -> Suppressed {
        Suppressed::new(SuppressionKey([key; HASH_BYTES]), HashSet::new())
    }

    #[test]
    fn a_hash_depends_on_the_key_the_collection_and_the_id() {
        let (lobby, gate) = (CollectionName::new("lobby").unwrap(), CollectionName::new("lobb").unwrap());
        let (face, longer) = (FaceId::new("a").unwrap(), FaceId::new("ya").unwrap());
        let known = list(1).hash(&lobby, &face);
        assert_eq!(known, list(1).hash(&lobby, &face));
        assert_ne!(known, list(2).hash(&lobby, &face));
        assert_ne!(known, list(1).hash(&gate, &face));
        assert_ne!(known, list(1).hash(&gate, &longer));
    }

    #[test]
    fn an_id_is_listed_until_it_is_allowed() {
        let (lobby, face) = (CollectionName::new("lobby").unwrap(), FaceId::new("a").unwrap());
        let mut list = list(1);
        assert!(!list.contains(&lobby, &face));
        list.insert(list.hash(&lobby, &face));
        assert!(list.contains(&lobby, &face));
        assert!(!list.contains(&lobby, &FaceId::new("b").unwrap()));
        list.remove(list.hash(&lobby, &face));
        assert!(!list.contains(&lobby, &face));
    }
}
