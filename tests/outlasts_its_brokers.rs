//! Promise: a transaction that lay still for longer than the brokers allow, since the daemon hung or the brokers were
//! gone, is no reason to stop: the daemon finds out what became of it and goes on, each event once. Only a real
//! Kafka can prove it.

mod common;

use std::process::Command;
use std::time::Duration;

use common::broker::RealKafka;
use common::scene::{LIMIT, Scene};
use common::told::{check_outbox, compacted_partition, state_partition, told};

const PROMISE: &str = "transactions that lay still are begun anew, each event once, with a real Kafka";
/// The shortest that leaves the transactions between them time to end.
const TRANSACTION: Duration = Duration::from_secs(3);
/// Twice as long, and the broker's own look-out for such transactions.
const OUTAGE: Duration = Duration::from_secs(8);
const FACES: usize = 400;
const GOES_ON: &str = "going on with a new producer";

/// `failpoints` keep a transaction open.
fn settings(command: &mut Command, failpoints: &str) {
    let milliseconds = TRANSACTION.as_millis();
    let options =
        format!(r#"{{ "transaction.timeout.ms" = "{milliseconds}", "message.timeout.ms" = "{milliseconds}" }}"#);
    command.env("FACETD_KAFKA__LIBRDKAFKA_OPTIONS", options).env("FACETD_ENGINE__BATCH_FACES", "8");
    command.env("FAILPOINTS", failpoints);
}

/// Kafka, read by a client that does not de-duplicate, and state tell the same.
fn check(scene: &Scene) {
    check_outbox(&scene.topics);
    let state = state_partition(&scene.installation, "default");
    assert_eq!(state.len(), FACES);
    assert_eq!(told(&scene.topics, "default").partition, state, "events and state");
    assert_eq!(compacted_partition(&scene.topics), state, "compacted topics and state");
}

#[test]
fn a_daemon_that_hung_in_a_transaction_goes_on() {
    let Some(kafka) = RealKafka::start_own(PROMISE) else { return };
    for step in ["publish::sent", "publish::offsets_sent"] {
        let scene = Scene::new(&kafka);
        scene.send("default", 0..FACES);
        let hang = format!("{step}=1*sleep({})->off", OUTAGE.as_millis());
        let daemon = scene.installation.start_with(|command| settings(command, &hang));
        scene.wait(&daemon);
        assert!(daemon.terminate().success(), "{}", scene.installation.log());
        let log = scene.installation.log();
        assert!(log.contains(GOES_ON), "it did not hang in a transaction at {step}: {log}");
        check(&scene);
    }
}

#[test]
fn brokers_gone_for_longer_than_a_transaction_may_last_are_waited_for() {
    let Some(kafka) = RealKafka::start_own(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..FACES);
    // Slow enough that the brokers surely go in the middle of one, and of the stream.
    let daemon = scene.installation.start_with(|command| settings(command, "publish::offsets_sent=6*sleep(500)->off"));
    scene.wait_published(&daemon);
    kafka.kill();
    std::thread::sleep(OUTAGE);
    assert!(daemon.get("/healthz").is_some(), "{}", scene.installation.log());
    kafka.start_again();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success(), "{}", scene.installation.log());
    let log = scene.installation.log();
    assert!(log.contains(GOES_ON), "the brokers did not go in a transaction: {log}");
    check(&scene);
}
