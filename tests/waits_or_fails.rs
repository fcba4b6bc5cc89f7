//! Promise: what cannot go on waits or fails with a clear line, and nothing is lost: at a limit records wait
//! in Kafka until there is room; an error of ONNX Runtime, or of the disk in the middle of a commit, ends the daemon and the
//! next start goes on; without snapshots it does as well. Brokers that go in the middle of a transaction hold up no stop.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::{Feed, read_topic};
use common::project;
use facetd::codec::{Message, json};

const LIMIT: Duration = Duration::from_secs(120);
/// A stop takes no longer.
const PROMISED: Duration = Duration::from_secs(10);
const FACES: usize = 60;

fn feed(broker: &MockBroker) {
    let feed = Feed::connect(&broker.topics);
    for face in 0..FACES {
        let embedding = (0..16).map(|place| ((face * 31 + place * 17) % 29) as f32 - 14.0).collect();
        let payload = json::encode(&Message { embedding, ..Message::default() });
        feed.send(&format!("{face:08}"), Some(&payload), "default");
    }
    feed.flush();
}

fn installation(broker: &MockBroker, more: &str) -> Installation {
    Installation::new(&Settings { topics: &broker.topics, model: &project().join("tests/fixtures/model"), more })
}

/// Each face came in one event, and the state has them all.
fn check(broker: &MockBroker, installation: &Installation) {
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for record in read_topic(&broker.topics.brokers, &broker.topics.events()) {
        let event = record.json();
        if event["type"] == "created" || event["type"] == "joined" {
            *came.entry(event["face_id"].as_str().unwrap().to_string()).or_default() += 1;
        }
    }
    assert_eq!(came.len(), FACES);
    assert!(came.values().all(|&times| times == 1), "{came:?}");
    assert_eq!(installation.inspect(&["faces"]).lines().count(), FACES);
}

#[test]
fn at_a_limit_of_faces_records_wait_in_kafka() {
    let broker = MockBroker::start();
    let installation = installation(&broker, "[limits]\nfaces = 25\n");
    feed(&broker);
    let daemon = installation.start();
    daemon.wait_metric("facetd_daemon_full{limit=\"faces\"}", 1.0, LIMIT);
    daemon.wait_metric("facetd_source_lag_records", (FACES - 25) as f64, LIMIT);
    assert_eq!(daemon.metric("facetd_engine_faces"), 25.0);
    assert!(installation.log().contains("limits.faces of 25 is reached"), "{}", installation.log());
    assert!(daemon.terminate().success());

    let daemon = installation.start_with(|command| {
        command.env("FACETD_LIMITS__FACES", "100");
    });
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    assert_eq!(daemon.metric("facetd_daemon_full{limit=\"faces\"}"), 0.0);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success());
    check(&broker, &installation);
}

#[test]
fn at_a_limit_of_memory_too() {
    let broker = MockBroker::start();
    let installation = installation(&broker, "");
    feed(&broker);
    let daemon = installation.start_with(|command| {
        command.env("FACETD_LIMITS__MEMORY_BYTES", "1000000");
    });
    daemon.wait_metric("facetd_daemon_full{limit=\"memory\"}", 1.0, LIMIT);
    daemon.wait_metric("facetd_source_lag_records", FACES as f64, LIMIT);
    assert!(daemon.metric("facetd_daemon_resident_bytes") > 1e6);
    assert!(daemon.terminate().success());
    goes_on(&broker, &installation);
}

#[test]
fn an_error_of_onnx_runtime_ends_the_daemon_and_the_next_goes_on() {
    let broker = MockBroker::start();
    let installation = installation(&broker, "[engine]\nbatch_faces = 8\n");
    feed(&broker);
    let daemon = installation.spawn(|command| {
        // The first runs are those that try the model at the start.
        command.env("FAILPOINTS", "model::run=8*off->return");
    });
    assert!(!daemon.ended(LIMIT).success());
    let log = installation.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("facetd: ") && (last.contains("LP") || last.contains("RE")), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    goes_on(&broker, &installation);
}

/// The next start has all of it.
fn goes_on(broker: &MockBroker, installation: &Installation) {
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success());
    check(broker, installation);
}

#[test]
fn a_disk_that_refuses_in_the_middle_of_a_commit_ends_the_daemon_and_the_next_goes_on() {
    for step in ["vectors::append", "store::apply", "store::flush"] {
        let broker = MockBroker::start();
        let installation = installation(&broker, "[engine]\nbatch_faces = 4\n");
        feed(&broker);
        let daemon = installation.spawn(|command| {
            command.env("FAILPOINTS", format!("{step}=6*off->return"));
        });
        assert!(!daemon.ended(LIMIT).success(), "{step}");
        let log = installation.log();
        let last = log.lines().last().unwrap();
        let state = installation.state();
        assert!(last.starts_with("facetd: ") && last.contains(state.to_str().unwrap()), "{step}: {log}");
        assert!(!log.contains("panicked"), "{step}: {log}");
        goes_on(&broker, &installation);
    }
}

#[test]
fn a_disk_that_refuses_snapshots_stops_nobody() {
    let broker = MockBroker::start();
    let installation = installation(&broker, "");
    feed(&broker);
    let daemon = installation.start_with(|command| {
        command.env("FAILPOINTS", "snapshot::write=return").env("FACETD_STATE__SNAPSHOT_INTERVAL", "100ms");
    });
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    daemon.wait_metric("facetd_snapshot_failures_total", 1.0, LIMIT);
    assert!(daemon.terminate().success());
    goes_on(&broker, &installation);
}

#[test]
fn a_stop_does_not_wait_for_brokers_that_went_in_a_transaction() {
    let broker = MockBroker::start();
    let installation = installation(&broker, "");
    // The first has only the mark in it. In the next one librdkafka waits for the group's coordinator without end.
    let gone = Duration::from_secs(3);
    let hang = format!("publish::sent=1*off->1*sleep({})->off", gone.as_millis());
    let daemon = installation.start_with(|command| {
        command.env("FAILPOINTS", hang);
    });
    feed(&broker);
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    drop(broker);
    let asked = Instant::now();
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(asked.elapsed() < gone + PROMISED, "it left after {:?}", asked.elapsed());
    let log = installation.log();
    assert!(log.contains("published at the next start"), "{log}");
    assert_eq!(installation.inspect(&["faces"]).lines().count(), FACES);
}
