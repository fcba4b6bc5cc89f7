//! Promise: JSON, base64, protobuf and raw f32 bring in the same face; a face that is there with the
//! same embedding is ignored and counted; collections are kept apart.

mod common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::{Client, read_topic};
use common::project;

const LIMIT: Duration = Duration::from_secs(60);
const DIMENSION: usize = 16;

#[test]
fn one_face_in_every_form_is_one_face() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics, model: &model, more: "[collections]\nmax = 2\n" });
    let daemon = installation.start();
    let client = Client::connect(&topics.brokers);
    let values: Vec<f32> = (0..DIMENSION).map(|i| (i as f32 - 7.5) / 3.0).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    // schemas/face.proto by hand: field 2, packed floats.
    let protobuf = [&[0x12, bytes.len() as u8][..], &bytes].concat();
    let forms: [(&str, Vec<u8>); 4] = [
        ("application/json", serde_json::json!({ "embedding": values }).to_string().into_bytes()),
        (
            "application/json; charset=utf-8",
            serde_json::json!({ "embedding": STANDARD.encode(&bytes) }).to_string().into_bytes(),
        ),
        ("application/x-protobuf", protobuf),
        ("application/octet-stream", bytes.clone()),
    ];
    for (content_type, payload) in &forms {
        client.send(&topics.input(), Some(b"cam/1"), Some(payload), &[("content-type", content_type)]);
    }
    daemon.wait_metric("facetd_engine_duplicates_total", 3.0, LIMIT);
    // A batch's duplicates are counted while it is sorted, its faces once it is committed.
    daemon.wait_metric("facetd_engine_faces", 1.0, LIMIT);
    assert_eq!(daemon.metric("facetd_engine_faces"), 1.0);

    // The same id elsewhere is another face; a third collection is one too many.
    let octets = ("content-type", "application/octet-stream");
    for collection in ["annex", "one-too-many"] {
        client.send(&topics.input(), Some(b"cam/1"), Some(&bytes), &[octets, ("collection", collection)]);
    }
    daemon.wait_metric("facetd_source_rejected_total{reason=\"collection_limit\"}", 1.0, LIMIT);
    daemon.wait_metric("facetd_engine_faces", 2.0, LIMIT);
    assert_eq!(daemon.metric("facetd_engine_faces"), 2.0);
    for collection in ["default", "annex"] {
        let answer = daemon.get(&format!("/v1/collections/{collection}/faces/cam%2F1")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"cluster_id\":\"1\""), "{answer}");
    }
    let answer = daemon.get("/v1/collections/annex/faces/cam%2F2").unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(daemon.terminate().success());

    let events = read_topic(&topics.brokers, &topics.events());
    let created: Vec<&str> = events
        .iter()
        .filter(|event| event.json()["type"] == "created")
        .map(|event| event.key.as_deref().unwrap())
        .collect();
    assert_eq!(created, ["default", "annex"]);
}
