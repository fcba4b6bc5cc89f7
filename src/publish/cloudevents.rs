//! What an outbox entry looks like on the wire.
//!
//! An event becomes a CloudEvent 1.0 in binary mode and the records of the two compacted topics
//! that follow from it; a rejected record becomes a dead letter; a pin or a name becomes the state
//! of its cluster. Everything is a function of the
//! entry, so publishing twice writes the same bytes twice. Cost: O(1) records an event, and one
//! for each cluster that retired with it.
//!
//! DESIGN.md deletes a cluster's state when no live face has it as home. A merged cluster that no
//! face calls home may still lie between others and the living one: A, home of a face, went into
//! B, and B into C. Without B a reader could not go from A to C. So a state stays while any live
//! face's way home → merged_into → … goes through it; which ends are over, the engine says
//! ([`Event::retired`]).
//!
//! Schemas: schemas/cluster-event.schema.json, face-state, cluster-state, dead-letter.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::config::Kafka;
use crate::engine::event::{Cause, Change, Cluster, Event};
use crate::face::{ClusterId, CollectionName, FaceId, Timestamp};
use crate::rejection::DeadLetter;
use crate::store::{Entry, Forgotten, StateTopic};

const JSON: &str = "application/json";
/// A face's home is its first until it moves.
const FIRST_HOME: u32 = 1;
/// Wide enough for every sequence, so that text order is number order.
const SEQUENCE_DIGITS: usize = 20;

/// A header of a Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    pub name: String,
    pub value: String,
}

/// A record on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRecord {
    pub topic: Arc<str>,
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<RecordHeader>,
}

/// Writes entries for the topics of a configuration and the state of one directory.
pub struct Wire {
    state_uuid: String,
    events: Arc<str>,
    face_state: Arc<str>,
    cluster_state: Arc<str>,
    dead_letters: Arc<str>,
    input: String,
}

impl Wire {
    pub fn new(config: &Kafka, state_uuid: &str) -> Wire {
        Wire {
            state_uuid: state_uuid.to_string(),
            events: config.events_topic.as_str().into(),
            face_state: config.face_state_topic.as_str().into(),
            cluster_state: config.cluster_state_topic.as_str().into(),
            dead_letters: config.dead_letters_topic.as_str().into(),
            input: config.input_topic.clone(),
        }
    }

    /// The records of an entry, in the order they are written.
    pub fn records(&self, entry: &Entry) -> Vec<OutgoingRecord> {
        match entry {
            Entry::Event { collection, event, committed_at } => {
                let mut records = vec![self.event(collection, event, *committed_at)];
                records.extend(self.states(collection, event));
                records
            }
            Entry::DeadLetter(dead_letter) => vec![self.dead_letter(dead_letter)],
            Entry::ClusterState { collection, cluster } => vec![self.cluster_state(collection, cluster)],
            Entry::Forgotten(Forgotten { topic, key }) => {
                let topic = match topic {
                    StateTopic::FaceState => &self.face_state,
                    StateTopic::ClusterState => &self.cluster_state,
                };
                vec![self.record(topic, key.clone(), None, &[])]
            }
        }
    }

    fn event(&self, collection: &CollectionName, event: &Event, committed_at: Timestamp) -> OutgoingRecord {
        let Event { sequence, change, .. } = event;
        let name = change.event_type().name();
        let subject = match change.cluster() {
            Some(cluster) => cluster.id.to_string(),
            None => collection.to_string(),
        };
        let data = data_of_event(collection, event);
        let headers = [
            ("content-type", JSON.to_string()),
            ("ce_specversion", "1.0".to_string()),
            ("ce_id", format!("{}/{collection}/{sequence}", self.state_uuid)),
            ("ce_source", format!("/facetd/{}/{collection}", self.state_uuid)),
            ("ce_type", format!("facetd.cluster.{name}.v1")),
            ("ce_subject", subject),
            ("ce_time", rfc3339(committed_at)),
            ("ce_sequence", format!("{sequence:0SEQUENCE_DIGITS$}")),
        ];
        self.record(&self.events, collection.as_str().as_bytes().to_vec(), Some(data), &headers)
    }

    /// The compacted topics' records of an event: clusters before the face whose home they are,
    /// and what ended at the end.
    fn states(&self, collection: &CollectionName, event: &Event) -> Vec<OutgoingRecord> {
        let mut records = Vec::new();
        // The state of a cluster that ended would only be written to be deleted.
        let mut clusters = |clusters: &[&Cluster]| {
            let stay = clusters.iter().filter(|cluster| !event.retired.contains(&cluster.id));
            records.extend(stay.map(|cluster| self.cluster_state(collection, cluster)));
        };
        match &event.change {
            Change::Created { cluster, face } | Change::Joined { cluster, face, .. } => {
                clusters(&[cluster]);
                records.push(self.face_state(collection, face, cluster.id, FIRST_HOME));
            }
            Change::Merged { cluster, merged, .. } => clusters(&[cluster, merged]),
            Change::Split { cluster, into, face, home_version, .. }
            | Change::Left { cluster, into, face, home_version, .. } => {
                clusters(&[into, cluster]);
                records.push(self.face_state(collection, face, into.id, *home_version));
            }
            Change::Erased { cluster, face, .. } => {
                clusters(&[cluster]);
                records.push(self.tombstone(&self.face_state, format!("{collection}/{face}")));
            }
            Change::Settled { .. } => {}
        }
        let tombstone = |id: &ClusterId| self.tombstone(&self.cluster_state, format!("{collection}/{id}"));
        records.extend(event.retired.iter().map(tombstone));
        records
    }

    fn face_state(
        &self,
        collection: &CollectionName,
        face: &FaceId,
        home: ClusterId,
        home_version: u32,
    ) -> OutgoingRecord {
        let value = json!({ "home": home, "version": home_version });
        let key = format!("{collection}/{face}").into_bytes();
        self.record(&self.face_state, key, Some(value), &[("content-type", JSON.to_string())])
    }

    fn cluster_state(&self, collection: &CollectionName, cluster: &Cluster) -> OutgoingRecord {
        let mut value = json!({
            "status": if cluster.lives() { "live" } else { "merged" },
            "merged_into": cluster.merged_into,
            "size": cluster.size,
            "version": cluster.version,
        });
        describe(&mut value, cluster);
        let key = format!("{collection}/{}", cluster.id).into_bytes();
        self.record(&self.cluster_state, key, Some(value), &[("content-type", JSON.to_string())])
    }

    fn tombstone(&self, topic: &Arc<str>, key: String) -> OutgoingRecord {
        self.record(topic, key.into_bytes(), None, &[])
    }

    fn dead_letter(&self, dead_letter: &DeadLetter) -> OutgoingRecord {
        let DeadLetter { rejection, place, key, payload_bytes, payload_sha256 } = dead_letter;
        let reason = rejection.reason.as_str();
        let value = json!({
            "reason": reason,
            "detail": rejection.detail,
            "topic": self.input,
            "partition": place.partition,
            "offset": place.offset,
            "payload_bytes": payload_bytes,
            "payload_sha256": payload_sha256,
        });
        let headers = [("content-type", JSON.to_string()), ("reason", reason.to_string())];
        self.record(&self.dead_letters, key.clone().unwrap_or_default(), Some(value), &headers)
    }

    fn record(
        &self,
        topic: &Arc<str>,
        key: Vec<u8>,
        value: Option<Value>,
        headers: &[(&str, String)],
    ) -> OutgoingRecord {
        let headers = headers.iter().map(|(name, value)| RecordHeader { name: name.to_string(), value: value.clone() });
        OutgoingRecord {
            topic: topic.clone(),
            key,
            payload: value.map(|value| value.to_string().into_bytes()),
            headers: headers.collect(),
        }
    }
}

/// An event as schemas/cluster-event.schema.json describes it.
pub fn data_of_event(collection: &CollectionName, event: &Event) -> Value {
    let Event { sequence, cause, change, retired: _ } = event;
    let mut data = data_of(change);
    data["type"] = json!(change.event_type().name());
    data["collection"] = json!(collection);
    data["sequence"] = json!(sequence);
    data["cause"] = data_of_cause(*cause);
    data
}

/// What an event says of its own change.
fn data_of(change: &Change) -> Value {
    match change {
        Change::Created { cluster, face } => {
            let mut data = data_of_cluster(cluster, 0);
            data["face_id"] = json!(face);
            data
        }
        Change::Joined { cluster, face, size_before } | Change::Erased { cluster, face, size_before } => {
            let mut data = data_of_cluster(cluster, *size_before);
            data["face_id"] = json!(face);
            data
        }
        Change::Merged { cluster, merged, size_before } => {
            let mut data = data_of_cluster(cluster, *size_before);
            data["merged"] = json!({ "cluster_id": merged.id, "size_before": merged.size, "version": merged.version });
            describe(&mut data["merged"], merged);
            data
        }
        Change::Split { cluster, into, face, size_before, .. }
        | Change::Left { cluster, into, face, size_before, .. } => {
            let mut data = data_of_cluster(cluster, *size_before);
            data["face_id"] = json!(face);
            data["into"] = json!({ "cluster_id": into.id, "size_after": into.size, "version": into.version });
            data
        }
        Change::Settled { faces, clusters } => json!({ "faces": faces, "clusters": clusters }),
    }
}

fn data_of_cluster(cluster: &Cluster, size_before: u32) -> Value {
    json!({
        "cluster_id": cluster.id,
        "version": cluster.version,
        "size_before": size_before,
        "size_after": cluster.size,
    })
}

fn data_of_cause(cause: Cause) -> Value {
    let mut data = json!({ "kind": cause.kind() });
    if let Cause::Record(place) = cause {
        data["partition"] = json!(place.partition);
        data["offset"] = json!(place.offset);
    }
    data
}

/// Adds what an operator said of a cluster, where anything was said.
pub fn describe(value: &mut Value, cluster: &Cluster) {
    if cluster.pinned {
        value["pinned"] = json!(true);
    }
    if let Some(name) = &cluster.name {
        value["name"] = json!(name);
    }
}

fn rfc3339(timestamp: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(timestamp.0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
