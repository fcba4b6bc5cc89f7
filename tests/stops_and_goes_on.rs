//! Promise: SIGTERM commits what is at hand and leaves within ten seconds; the next start goes on
//! where it was; a queue far too small for the input loses nothing.

mod common;

use std::collections::HashSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::faces::Dataset;
use common::kafka_client::{Client, read_topic};
use common::{facetd, output_of, project};

const LIMIT: Duration = Duration::from_secs(180);
const PROMISED: Duration = Duration::from_secs(10);
const FACES: usize = 2000;

#[test]
fn a_stop_does_not_wait_for_brokers_that_are_gone() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let daemon = installation.start();
    let embedding: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let octets = [("content-type", "application/octet-stream")];
    Client::connect(&broker.topics.brokers).send(&broker.topics.input(), Some(b"a"), Some(&embedding), &octets);
    daemon.wait_metric("facetd_engine_faces", 1.0, LIMIT);
    drop(broker);
    let asked = Instant::now();
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(asked.elapsed() < PROMISED, "it left after {:?}", asked.elapsed());
    assert_eq!(installation.inspect(&["faces"]), "a\t1\n");
}

#[test]
fn a_stop_in_the_middle_of_a_flood_loses_nothing() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("flood", FACES, 5);
    let more = "[limits]\nqueued_faces = 64\n[engine]\nbatch_faces = 50\n";
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more });
    let mut replay = facetd();
    replay.args(["replay", "--dimension", "128", "--brokers", &topics.brokers, "--topic", &topics.input()]);
    output_of(replay.arg("--features").arg(&dataset.features));

    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", 500.0, LIMIT);
    assert!(daemon.metric("facetd_source_queued_faces") <= 64.0);
    // Somebody who connects and never asks holds up nothing.
    let _idle = TcpStream::connect(installation.address()).unwrap();
    assert!(daemon.terminate().success(), "{}", installation.log());
    let after_stop = installation.inspect(&["faces"]).lines().count();
    assert!((500..FACES).contains(&after_stop), "{after_stop} faces when it stopped");
    assert!(installation.inspect(&["stats", "--json"]).contains("\"unpublished\": 0"));

    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert_eq!(installation.inspect(&["faces"]).lines().count(), FACES);

    let events = read_topic(&topics.brokers, &topics.events());
    let came = |event: &serde_json::Value| event["type"] == "created" || event["type"] == "joined";
    let events = events.iter().map(|event| event.json()).filter(came);
    let faces: Vec<String> = events.map(|event| event["face_id"].as_str().unwrap().to_string()).collect();
    assert_eq!(faces.len(), FACES, "a face came more than once, or never");
    assert_eq!(faces.iter().collect::<HashSet<_>>().len(), FACES);
}
