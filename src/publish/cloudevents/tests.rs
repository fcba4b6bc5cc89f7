use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::schema::Schema;
use super::*;
use crate::config::Config;
use crate::engine::event::EventType;
use crate::face::{Offset, Partition, Place};
use crate::histories::{History, Members, steps};
use crate::rejection::{Reason, Rejection};

const PLACE: Place = Place { partition: Partition(1), offset: Offset(42) };

fn cluster(id: u64, size: u32) -> Cluster {
    Cluster { id: ClusterId(id), merged_into: None, size, version: 4, pinned: false, name: None }
}

fn entry(sequence: u64, cause: Cause, change: Change, retired: &[u64]) -> Entry {
    let retired = retired.iter().copied().map(ClusterId).collect();
    entry_of(Event { sequence, cause, change, retired })
}

fn entry_of(event: Event) -> Entry {
    let collection = CollectionName::new("lobby").unwrap();
    Entry::Event { collection, event, committed_at: Timestamp(1_763_920_800_120) }
}

fn face() -> FaceId {
    FaceId::new("cam/1").unwrap()
}

/// One of each type, and a dead letter.
fn entries() -> Vec<Entry> {
    let merged = Cluster { merged_into: Some(ClusterId(1)), pinned: true, name: Some("Ada".into()), ..cluster(2, 3) };
    let (cause, face) = (Cause::Record(PLACE), face());
    vec![
        entry(7, cause, Change::Created { cluster: cluster(1, 1), face: face.clone() }, &[]),
        entry(8, cause, Change::Joined { cluster: cluster(1, 3), face: face.clone(), size_before: 2 }, &[]),
        entry(9, cause, Change::Merged { cluster: cluster(1, 5), merged, size_before: 2 }, &[]),
        entry(
            10,
            Cause::Refresh,
            Change::Split {
                cluster: cluster(1, 4),
                into: cluster(3, 1),
                face: face.clone(),
                home_version: 2,
                size_before: 5,
            },
            &[],
        ),
        entry(
            11,
            Cause::Refresh,
            Change::Left {
                cluster: cluster(1, 3),
                into: cluster(3, 2),
                face: face.clone(),
                home_version: 3,
                size_before: 4,
            },
            &[2],
        ),
        entry(12, Cause::Expired, Change::Erased { cluster: cluster(3, 0), face, size_before: 1 }, &[4, 3]),
        entry(13, Cause::Api, Change::Settled { faces: 3, clusters: 1 }, &[]),
        Entry::DeadLetter(DeadLetter {
            rejection: Rejection::new(Reason::ZeroVector, "no direction"),
            place: PLACE,
            key: None,
            payload_bytes: 9,
            payload_sha256: "0".repeat(64),
        }),
    ]
}

fn wire() -> Wire {
    Wire::new(&Config::parse("", std::iter::empty()).unwrap().kafka, "uuid")
}

/// Topic, key and value of each record but the event itself.
fn states(entry: &Entry) -> Vec<String> {
    let records = wire().records(entry);
    let shown = records.iter().skip(1).map(|record| {
        let payload = record.payload.as_deref().unwrap_or(b"null");
        format!(
            "{} {} {}",
            record.topic,
            String::from_utf8_lossy(&record.key),
            String::from_utf8_lossy(payload).replace('"', "")
        )
    });
    shown.collect()
}

fn value(record: &OutgoingRecord) -> Value {
    serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap()
}

/// The schemas by topic.
struct Schemas(BTreeMap<&'static str, Schema>);

impl Schemas {
    fn read() -> Schemas {
        let files = [
            ("cluster-events", "cluster-event"),
            ("face-state", "face-state"),
            ("cluster-state", "cluster-state"),
            ("faces-dead-letters", "dead-letter"),
        ];
        Schemas(files.into_iter().map(|(topic, file)| (topic, Schema::read(file))).collect())
    }

    fn check(&self, record: &OutgoingRecord) {
        if record.payload.is_some() {
            self.0[record.topic.as_ref()].check(&value(record)).unwrap_or_else(|error| panic!("{record:?}: {error}"));
        }
    }
}

#[test]
fn every_record_follows_its_schema() {
    let (wire, schemas) = (wire(), Schemas::read());
    let records: Vec<OutgoingRecord> = entries().iter().flat_map(|entry| wire.records(entry)).collect();
    records.iter().for_each(|record| schemas.check(record));
    let count = |topic| records.iter().filter(|record| record.topic.as_ref() == topic).count();
    assert_eq!(["cluster-events", "face-state", "faces-dead-letters"].map(count), [7, 5, 1]);
}

#[test]
fn a_schema_refuses_what_is_not_so() {
    let schema = Schema::read("cluster-event");
    let good: Vec<Value> = entries()[..7].iter().map(|entry| value(&wire().records(entry)[0])).collect();
    for event in &good {
        for field in event.as_object().unwrap().keys() {
            let mut without = event.clone();
            without.as_object_mut().unwrap().remove(field);
            assert!(schema.check(&without).is_err(), "{event} may do without {field}");
        }
    }
    for (field, wrong) in [
        ("type", json!("lost")),
        ("type", json!("settled")),
        ("sequence", json!(0)),
        ("cluster_id", json!(1)),
        ("cluster_id", json!("01")),
        ("face_id", json!("")),
        ("cause", json!({ "kind": "record" })),
        ("cause", json!({ "kind": "whim" })),
        ("cause", json!({ "kind": "refresh", "partition": 1 })),
        ("colour", json!("red")),
    ] {
        let mut event = good[1].clone();
        event[field] = wrong;
        assert!(schema.check(&event).is_err(), "{event} is taken");
    }
}

#[test]
fn an_event_is_a_cloud_event_in_binary_mode() {
    let entries = entries();
    let record = wire().records(&entries[2]).remove(0);
    let header = |record: &OutgoingRecord, name: &str| {
        record.headers.iter().find(|header| header.name == name).unwrap().value.clone()
    };
    assert_eq!(header(&record, "ce_id"), "uuid/lobby/9");
    assert_eq!(header(&record, "ce_type"), "facetd.cluster.merged.v1");
    assert_eq!(header(&record, "ce_subject"), "1");
    assert_eq!(header(&record, "ce_time"), "2025-11-23T18:00:00.120Z");
    assert_eq!(header(&record, "ce_sequence"), "00000000000000000009");
    assert_eq!((record.topic.as_ref(), record.key.as_slice()), ("cluster-events", &b"lobby"[..]));
    let settled = wire().records(&entries[6]).remove(0);
    assert_eq!((header(&settled, "ce_subject"), header(&settled, "ce_id")), ("lobby".into(), "uuid/lobby/13".into()));
}

#[test]
fn every_type_says_what_it_changed_and_why() {
    let data: Vec<Value> = entries()[..7].iter().map(|entry| value(&wire().records(entry)[0])).collect();
    for (data, event_type) in data.iter().zip(EventType::ALL) {
        assert_eq!(data["type"], event_type.name());
    }
    assert_eq!((&data[0]["size_before"], &data[0]["size_after"]), (&json!(0), &json!(1)));
    assert_eq!(data[0]["cause"], json!({ "kind": "record", "partition": 1, "offset": 42 }));
    let loser = json!({ "cluster_id": "2", "size_before": 3, "version": 4, "pinned": true, "name": "Ada" });
    assert_eq!(data[2]["merged"], loser);
    assert_eq!((&data[3]["face_id"], &data[3]["cause"]), (&json!("cam/1"), &json!({ "kind": "refresh" })));
    assert_eq!(data[4]["into"], json!({ "cluster_id": "3", "size_after": 2, "version": 4 }));
    assert_eq!((&data[5]["size_after"], &data[5]["cause"]["kind"]), (&json!(0), &json!("expired")));
    assert_eq!((&data[6]["faces"], &data[6]["clusters"], data[6].get("cluster_id")), (&json!(3), &json!(1), None));
}

#[test]
fn the_compacted_topics_follow() {
    let states: Vec<Vec<String>> = entries()[..7].iter().map(states).collect();
    let live =
        |id: u64, size: u32| format!("cluster-state lobby/{id} {{merged_into:null,size:{size},status:live,version:4}}");
    let home = |id: u64, version: u32| format!("face-state lobby/cam/1 {{home:{id},version:{version}}}");
    assert_eq!(states[0], [live(1, 1), home(1, 1)]);
    assert_eq!(states[1], [live(1, 3), home(1, 1)]);
    let merged = "cluster-state lobby/2 {merged_into:1,name:Ada,pinned:true,size:3,status:merged,version:4}";
    assert_eq!(states[2], [live(1, 5), merged.to_string()]);
    assert_eq!(states[3], [live(3, 1), live(1, 4), home(3, 2)]);
    assert_eq!(states[4], [live(3, 2), live(1, 3), home(3, 3), "cluster-state lobby/2 null".to_string()]);
    let gone = ["face-state lobby/cam/1 null", "cluster-state lobby/4 null", "cluster-state lobby/3 null"];
    assert_eq!(states[5], gone, "a cluster that ended is not written once more");
    assert!(states[6].is_empty());
}

#[test]
fn a_pin_and_a_name_go_into_the_state_alone() {
    let collection = CollectionName::new("lobby").unwrap();
    let named = Cluster { pinned: true, name: Some("Ada".into()), ..cluster(1, 3) };
    let records = wire().records(&Entry::ClusterState { collection, cluster: named });
    let [state] = &records[..] else { panic!("{records:?}") };
    Schemas::read().check(state);
    assert_eq!((state.topic.as_ref(), state.key.as_slice()), ("cluster-state", &b"lobby/1"[..]));
    assert_eq!((&value(state)["pinned"], &value(state)["name"]), (&json!(true), &json!("Ada")));
}

#[test]
fn publishing_twice_writes_the_same_twice() {
    let wire = wire();
    for entry in entries() {
        assert_eq!(wire.records(&entry), wire.records(&entry));
    }
}

/// What a reader of the compacted topics keeps: the last value of each key.
#[derive(Default)]
struct Compacted(BTreeMap<Arc<str>, BTreeMap<String, Value>>);

impl Compacted {
    fn read(&mut self, record: &OutgoingRecord) {
        let key = String::from_utf8(record.key.clone()).unwrap().strip_prefix("lobby/").unwrap().to_string();
        let topic = self.0.entry(record.topic.clone()).or_default();
        match &record.payload {
            Some(_) => drop(topic.insert(key, value(record))),
            None => drop(topic.remove(&key).expect("what is deleted was there")),
        }
    }

    fn topic(&self, name: &str) -> BTreeMap<String, Value> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn members(&self) -> Members {
        let (faces, clusters) = (self.topic("face-state"), self.topic("cluster-state"));
        let mut members = Members::new();
        for (face, state) in faces {
            let mut id = state["home"].as_str().unwrap().to_string();
            while let Some(into) = clusters[&id]["merged_into"].as_str() {
                id = into.to_string();
            }
            let id = ClusterId(id.parse().unwrap());
            members.entry(id).or_default().insert(FaceId::new(&face).unwrap());
        }
        members
    }
}

proptest! {
    /// A reader of the compacted topics alone knows the partition, and nothing stays that no face needs.
    #[test]
    fn the_compacted_topics_tell_the_partition(steps in steps()) {
        let (wire, schemas) = (wire(), Schemas::read());
        let (mut history, mut compacted) = (History::default(), Compacted::default());
        for step in steps {
            for event in history.take(step).events {
                for (place, record) in wire.records(&entry_of(event)).iter().enumerate() {
                    schemas.check(record);
                    if place > 0 {
                        compacted.read(record);
                    }
                }
            }
            prop_assert_eq!(compacted.members(), history.members());
            let clusters = compacted.topic("cluster-state");
            let known: BTreeSet<ClusterId> = clusters.keys().map(|id| ClusterId(id.parse().unwrap())).collect();
            prop_assert!(known.iter().eq(history.clusters.keys()), "{:?} are kept", known);
            for cluster in history.clusters.values() {
                prop_assert_eq!(&clusters[&cluster.id.to_string()]["size"], cluster.size);
            }
            for (face, home) in &history.homes {
                prop_assert_eq!(&compacted.topic("face-state")[face.as_str()]["version"], home.version);
            }
        }
    }
}
