//! Keys of the compacted topics that mean nobody: what an earlier incarnation of a state wrote and this
//! one does not have. A reader would take them for faces and clusters that live.
//!
//! Cost: both topics read once; memory by their keys.

use std::collections::BTreeSet;

use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::group::Group;
use crate::config::Kafka;
use crate::face::{ClusterId, CollectionName, FaceId};
use crate::store::{Forgotten, StateTopic};

/// What a key of a compacted topic names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateKey {
    Face(CollectionName, FaceId),
    Cluster(CollectionName, ClusterId),
}

/// The keys whose last record is no tombstone, and for which `is_left_over` says so.
pub fn leftovers(config: &Kafka, is_left_over: &dyn Fn(&StateKey) -> bool) -> Result<Vec<Forgotten>, KafkaError> {
    let group = Group::connect(config, &[], "read_committed")?;
    let mut found = Vec::new();
    for of in group.output_partitions()? {
        let topic = match &of.topic {
            topic if *topic == config.face_state_topic => StateTopic::FaceState,
            topic if *topic == config.cluster_state_topic => StateTopic::ClusterState,
            _ => continue,
        };
        let mut keys: BTreeSet<Vec<u8>> = BTreeSet::new();
        group.read(&of, group.watermarks(&of)?.low, |record| {
            let Some(key) = record.key() else { return };
            match record.payload() {
                Some(_) => drop(keys.insert(key.to_vec())),
                None => drop(keys.remove(key)),
            }
        })?;
        // A key that facetd cannot have written is somebody else's.
        let left = keys.into_iter().filter(|key| parse(topic, key).is_some_and(|key| is_left_over(&key)));
        found.extend(left.map(|key| Forgotten { topic, key }));
    }
    Ok(found)
}

/// `collection/face_id` or `collection/cluster_id`: a collection's name contains no slash.
pub(crate) fn parse(topic: StateTopic, key: &[u8]) -> Option<StateKey> {
    let (collection, rest) = std::str::from_utf8(key).ok()?.split_once('/')?;
    let collection = CollectionName::new(collection).ok()?;
    Some(match topic {
        StateTopic::FaceState => StateKey::Face(collection, FaceId::new(rest).ok()?),
        StateTopic::ClusterState => StateKey::Cluster(collection, ClusterId(rest.parse().ok()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_a_face_or_a_cluster_of_a_collection() {
        let lobby = CollectionName::new("lobby").unwrap();
        let face = StateKey::Face(lobby.clone(), FaceId::new("cam/3/0").unwrap());
        assert_eq!(parse(StateTopic::FaceState, b"lobby/cam/3/0"), Some(face));
        assert_eq!(parse(StateTopic::ClusterState, b"lobby/7"), Some(StateKey::Cluster(lobby, ClusterId(7))));
        for key in [&b"lobby"[..], b"lobby/", b"/7", b"lobby/x", b"lob by/7", b"\xff/7", b""] {
            assert_eq!(parse(StateTopic::ClusterState, key), None, "{}", key.escape_ascii());
        }
    }
}
