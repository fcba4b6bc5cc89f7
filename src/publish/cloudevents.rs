//! What an outbox entry looks like on the wire.
//!
//! An event becomes a CloudEvent 1.0 in binary mode and the records of the two compacted topics
//! that follow from it; a rejected record becomes a dead letter. Everything is a function of the
//! entry, so publishing twice writes the same bytes twice.
//!
//! Schemas: schemas/cluster-event.schema.json, face-state, cluster-state, dead-letter.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::config::Kafka;
use crate::engine::cluster::{Change, Cluster, Event};
use crate::face::{CollectionName, FaceId, Timestamp};
use crate::rejection::DeadLetter;
use crate::store::Entry;

const JSON: &str = "application/json";
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
                records.extend(self.states(collection, &event.change));
                records
            }
            Entry::DeadLetter(dead_letter) => vec![self.dead_letter(dead_letter)],
        }
    }

    fn event(&self, collection: &CollectionName, event: &Event, committed_at: Timestamp) -> OutgoingRecord {
        let Event { sequence, cause, change } = event;
        let cluster = change.cluster();
        let mut data = json!({
            "type": change.name(),
            "collection": collection,
            "sequence": sequence,
            "cluster_id": cluster.id,
            "version": cluster.version,
            "size_after": cluster.size,
            "cause": { "partition": cause.partition, "offset": cause.offset },
        });
        match change {
            Change::Created { face, .. } => {
                data["face_id"] = json!(face);
                data["size_before"] = json!(0);
            }
            Change::Joined { face, size_before, .. } => {
                data["face_id"] = json!(face);
                data["size_before"] = json!(size_before);
            }
            Change::Merged { merged, size_before, .. } => {
                data["size_before"] = json!(size_before);
                data["merged"] =
                    json!({ "cluster_id": merged.id, "size_before": merged.size, "version": merged.version });
            }
        }
        let headers = [
            ("content-type", JSON.to_string()),
            ("ce_specversion", "1.0".to_string()),
            ("ce_id", format!("{}/{collection}/{sequence}", self.state_uuid)),
            ("ce_source", format!("/facetd/{}/{collection}", self.state_uuid)),
            ("ce_type", format!("facetd.cluster.{}.v1", change.name())),
            ("ce_subject", cluster.id.to_string()),
            ("ce_time", rfc3339(committed_at)),
            ("ce_sequence", format!("{sequence:0SEQUENCE_DIGITS$}")),
        ];
        self.record(&self.events, collection.as_str().as_bytes().to_vec(), data, &headers)
    }

    /// The compacted topics' records of a change: one a face and one a cluster it touched.
    fn states(&self, collection: &CollectionName, change: &Change) -> Vec<OutgoingRecord> {
        match change {
            Change::Created { cluster, face } | Change::Joined { cluster, face, .. } => {
                vec![self.face_state(collection, face, cluster), self.cluster_state(collection, cluster)]
            }
            Change::Merged { cluster, merged, .. } => {
                vec![self.cluster_state(collection, merged), self.cluster_state(collection, cluster)]
            }
        }
    }

    fn face_state(&self, collection: &CollectionName, face: &FaceId, cluster: &Cluster) -> OutgoingRecord {
        // A face's home changes only when it moves, which begins its second version.
        let value = json!({ "home": cluster.id, "version": 1 });
        let key = format!("{collection}/{face}").into_bytes();
        self.record(&self.face_state, key, value, &[("content-type", JSON.to_string())])
    }

    fn cluster_state(&self, collection: &CollectionName, cluster: &Cluster) -> OutgoingRecord {
        let status = if cluster.merged_into.is_some() { "merged" } else { "live" };
        let value = json!({
            "status": status,
            "merged_into": cluster.merged_into,
            "size": cluster.size,
            "version": cluster.version,
        });
        let key = format!("{collection}/{}", cluster.id).into_bytes();
        self.record(&self.cluster_state, key, value, &[("content-type", JSON.to_string())])
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
        self.record(&self.dead_letters, key.clone().unwrap_or_default(), value, &headers)
    }

    fn record(&self, topic: &Arc<str>, key: Vec<u8>, value: Value, headers: &[(&str, String)]) -> OutgoingRecord {
        let headers = headers.iter().map(|(name, value)| RecordHeader { name: name.to_string(), value: value.clone() });
        OutgoingRecord {
            topic: topic.clone(),
            key,
            payload: Some(value.to_string().into_bytes()),
            headers: headers.collect(),
        }
    }
}

fn rfc3339(timestamp: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(timestamp.0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::face::{ClusterId, Offset, Partition, Place};
    use crate::rejection::{Reason, Rejection};

    fn place() -> Place {
        Place { partition: Partition(1), offset: Offset(42) }
    }

    fn cluster(id: u64, merged_into: Option<u64>) -> Cluster {
        Cluster { id: ClusterId(id), merged_into: merged_into.map(ClusterId), size: 3, version: 4 }
    }

    fn entries() -> Vec<Entry> {
        let face = FaceId::new("cam/1").unwrap();
        let changes = [
            Change::Created { cluster: cluster(1, None), face: face.clone() },
            Change::Joined { cluster: cluster(1, None), face, size_before: 2 },
            Change::Merged { cluster: cluster(1, None), merged: cluster(2, Some(1)), size_before: 1 },
        ];
        let collection = CollectionName::new("lobby").unwrap();
        let event = |(number, change)| Entry::Event {
            collection: collection.clone(),
            event: Event { sequence: number, cause: place(), change },
            committed_at: Timestamp(1_763_920_800_120),
        };
        let mut entries: Vec<Entry> = (7..).zip(changes).map(event).collect();
        entries.push(Entry::DeadLetter(DeadLetter {
            rejection: Rejection::new(Reason::ZeroVector, "no direction"),
            place: place(),
            key: None,
            payload_bytes: 9,
            payload_sha256: "0".repeat(64),
        }));
        entries
    }

    fn wire() -> Wire {
        Wire::new(&Config::parse("", std::iter::empty()).unwrap().kafka, "uuid")
    }

    /// The fields a schema of schemas/ requires and allows.
    fn check_fields(schema: &str, value: &Value) {
        let path = format!("{}/schemas/{schema}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let value = value.as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            assert!(value.contains_key(required.as_str().unwrap()), "{required} is missing in {value:?}");
        }
        for field in value.keys() {
            assert!(schema["properties"].get(field).is_some(), "the schema does not know {field}");
        }
    }

    #[test]
    fn every_record_has_the_fields_of_its_schema() {
        let wire = wire();
        let records: Vec<OutgoingRecord> = entries().iter().flat_map(|entry| wire.records(entry)).collect();
        for record in &records {
            let schema = match record.topic.as_ref() {
                "cluster-events" => "cluster-event",
                "faces-dead-letters" => "dead-letter",
                state => state,
            };
            check_fields(schema, &serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap());
        }
        let count = |topic| records.iter().filter(|record| record.topic.as_ref() == topic).count();
        let counts = ["cluster-events", "face-state", "cluster-state", "faces-dead-letters"].map(count);
        assert_eq!(counts, [3, 2, 4, 1]);
    }

    #[test]
    fn an_event_is_a_cloud_event_in_binary_mode() {
        let record = wire().records(&entries()[2]).remove(0);
        let header = |name: &str| record.headers.iter().find(|header| header.name == name).unwrap().value.clone();
        assert_eq!(header("ce_id"), "uuid/lobby/9");
        assert_eq!(header("ce_type"), "facetd.cluster.merged.v1");
        assert_eq!(header("ce_subject"), "1");
        assert_eq!(header("ce_time"), "2025-11-23T18:00:00.120Z");
        assert_eq!(header("ce_sequence"), "00000000000000000009");
        let data: Value = serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
        assert_eq!(data["merged"], json!({ "cluster_id": "2", "size_before": 3, "version": 4 }));
        assert_eq!((&data["size_before"], &data["size_after"]), (&json!(1), &json!(3)));
        assert_eq!(data["cause"], json!({ "partition": 1, "offset": 42 }));
    }

    #[test]
    fn publishing_twice_writes_the_same_twice() {
        let wire = wire();
        for entry in entries() {
            assert_eq!(wire.records(&entry), wire.records(&entry));
        }
    }
}
