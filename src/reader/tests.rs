use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::engine::changes::Changes;
use crate::face::{CollectionName, Timestamp};
use crate::histories::{History, face_ids, steps};
use crate::publish::cloudevents::Wire;
use crate::store::Entry;

/// The values on the topic of events.
fn payloads(wire: &Wire, changes: Changes) -> Vec<Vec<u8>> {
    let entry =
        |event| Entry::Event { collection: CollectionName::new("lobby").unwrap(), event, committed_at: Timestamp(0) };
    changes.events.into_iter().map(|event| wire.records(&entry(event)).remove(0).payload.unwrap()).collect()
}

fn wire() -> Wire {
    Wire::new(&Config::parse("", std::iter::empty()).unwrap().kafka, "uuid")
}

proptest! {
    /// Whatever happens to a collection, its events alone tell who is with whom, also when some come twice.
    #[test]
    fn the_events_tell_the_partition(steps in steps(), repeat in any::<bool>()) {
        let wire = wire();
        let (mut history, mut reader) = (History::default(), EventReader::default());
        let mut all = Vec::new();
        for step in steps {
            for payload in payloads(&wire, history.take(step)) {
                reader.read(&payload).unwrap();
                all.push(payload);
            }
            prop_assert_eq!(reader.clusters("lobby"), history.members());
            prop_assert_eq!(reader.faces("lobby"), history.homes.len());
            for face in face_ids() {
                let cluster = history.members().iter().find(|(_, faces)| faces.contains(&face)).map(|(id, _)| *id);
                prop_assert_eq!(reader.cluster_of("lobby", &face), cluster);
            }
            let known = reader.collections.get("lobby").map(Collection::cluster_ids).unwrap_or_default();
            prop_assert!(known.iter().eq(history.clusters.keys()), "it keeps what nobody needs: {:?}", known);
        }
        prop_assert_eq!(reader.counts.events(), all.len());
        if repeat {
            let before = reader.clusters("lobby");
            for payload in &all {
                reader.read(payload).unwrap();
            }
            prop_assert_eq!(reader.clusters("lobby"), before);
            prop_assert_eq!(reader.counts.repeated, all.len());
        }
    }

    /// An event that says another size, or is about another face or cluster, is noticed, and what
    /// was known before is still known.
    #[test]
    fn a_false_event_is_noticed(steps in steps(), at in any::<prop::sample::Index>(), how in 0..5) {
        let wire = wire();
        let mut history = History::default();
        let all: Vec<_> = steps.into_iter().flat_map(|step| payloads(&wire, history.take(step))).collect();
        prop_assume!(!all.is_empty());
        let at = at.index(all.len());
        let mut reader = EventReader::default();
        all[..at].iter().for_each(|payload| reader.read(payload).unwrap());
        let mut event: Value = serde_json::from_slice(&all[at]).unwrap();
        let settled = event["type"] == "settled";
        match how {
            0 if settled => event["faces"] = json!(event["faces"].as_u64().unwrap() + 1),
            0 => event["size_after"] = json!(event["size_after"].as_u64().unwrap() + 1),
            1 if settled => event["clusters"] = json!(event["clusters"].as_u64().unwrap() + 1),
            1 => event["size_before"] = json!(event["size_before"].as_u64().unwrap() + 1),
            2 if event["type"] != "created" && !settled => event["cluster_id"] = json!("1000"),
            3 if event.get("into").is_some() => event["into"]["cluster_id"] = event["cluster_id"].clone(),
            4 if event.get("merged").is_some() => event["merged"]["size_before"] = json!(100),
            _ => return Ok(()),
        }
        let before = reader.clusters("lobby");
        let error = reader.read(event.to_string().as_bytes()).unwrap_err();
        prop_assert!(matches!(error, ReaderError::Contradiction { .. }), "{}", error);
        prop_assert_eq!(reader.clusters("lobby"), before);
        reader.read(&all[at]).unwrap();
    }
}

/// An event of the collection "lobby" with the fields of `more`.
fn event(event_type: &str, sequence: u64, more: Value) -> Vec<u8> {
    let mut event = json!({ "type": event_type, "collection": "lobby", "sequence": sequence });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.to_string().into_bytes()
}

fn created(sequence: u64, cluster: &str, face: &str) -> Vec<u8> {
    let more = json!({ "cluster_id": cluster, "version": 1, "size_before": 0, "size_after": 1, "face_id": face });
    event("created", sequence, more)
}

#[test]
fn a_gap_is_told_and_not_passed_over() {
    let mut reader = EventReader::default();
    reader.read(&created(1, "1", "a")).unwrap();
    let error = reader.read(&created(3, "3", "c")).unwrap_err();
    assert_eq!(error.to_string(), "collection lobby: event 3 follows 1; some are missing");
    reader.read(&created(2, "2", "b")).unwrap();
    reader.read(&created(3, "3", "c")).unwrap();
    assert_eq!((reader.faces("lobby"), reader.counts.of(EventType::Created)), (3, 3));
}

#[test]
fn settled_holds_until_the_next_event() {
    let mut reader = EventReader::default();
    assert_eq!(reader.settled("lobby"), None);
    reader.read(&created(1, "1", "a")).unwrap();
    reader.read(&event("settled", 2, json!({ "faces": 1, "clusters": 1 }))).unwrap();
    assert_eq!(reader.settled("lobby"), Some(Settled { faces: 1, clusters: 1 }));
    reader.read(&created(3, "2", "b")).unwrap();
    assert_eq!(reader.settled("lobby"), None);
    let error = reader.read(&event("settled", 4, json!({ "faces": 1, "clusters": 1 }))).unwrap_err().to_string();
    assert!(error.contains("contradicts") && error.contains("faces: 2"), "{error}");
}

#[test]
fn collections_do_not_mix() {
    let mut reader = EventReader::default();
    reader.read(&created(1, "1", "a")).unwrap();
    let hall = String::from_utf8(created(1, "1", "a")).unwrap().replace("lobby", "hall");
    reader.read(hall.as_bytes()).unwrap();
    assert_eq!((reader.faces("lobby"), reader.faces("hall"), reader.faces("attic")), (1, 1, 0));
    assert!(reader.clusters("attic").is_empty());
}

#[test]
fn what_is_no_event_is_an_error() {
    for payload in ["", "{}", r#"{"type":"lost","collection":"lobby","sequence":1}"#] {
        let error = EventReader::default().read(payload.as_bytes()).unwrap_err();
        assert!(matches!(error, ReaderError::Malformed(_)), "{error}");
    }
}
