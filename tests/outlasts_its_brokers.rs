//! Promise: a transaction that lay still for longer than the brokers allow, since the daemon hung or the brokers were
//! gone, is no reason to stop: the daemon finds out what became of it and goes on, each event once. Only a real
//! Kafka can prove it.

mod common;

use std::process::Command;
use std::time::Duration;

use common::broker::RealKafka;
use common::daemon::Running;
use common::kafka_client::has_open_records;
use common::scene::{LIMIT, Scene, installation};
use common::told::{check_outbox, compacted_partition, state_partition, told};
use common::wait_for;

const PROMISE: &str = "transactions that lay still are begun anew, each event once, with a real Kafka";
/// Short, and still enough for a transaction on a busy machine.
const TRANSACTION: Duration = Duration::from_secs(5);
/// Longer, by more than the broker's own look-out for such transactions takes.
const OUTAGE: Duration = Duration::from_secs(10);
/// So long that an outage or another daemon has come and the transaction is over, all of it while it hangs.
const HANG: Duration = Duration::from_secs(40);
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

/// A daemon whose first transaction with records is open, and stays so for [`HANG`]. The one before it has its mark.
fn hanging(scene: &Scene) -> Running<'_> {
    let hang = format!("publish::offsets_sent=1*off->1*sleep({})->off", HANG.as_millis());
    let daemon = scene.installation.start_with(|command| settings(command, &hang));
    scene.send("default", 0..FACES);
    let (brokers, events) = (&scene.topics.brokers, scene.topics.events());
    wait_for("a transaction to be open", LIMIT, || has_open_records(brokers, &events).then_some(()));
    daemon
}

#[test]
fn a_daemon_that_hung_in_a_transaction_goes_on() {
    let Some(kafka) = RealKafka::start_own(PROMISE) else { return };
    for step in ["publish::sent", "publish::offsets_sent"] {
        let scene = Scene::new(&kafka);
        scene.send("default", 0..FACES);
        // The first has only the mark in it.
        let hang = format!("{step}=1*off->1*sleep({})->off", OUTAGE.as_millis());
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
    let daemon = hanging(&scene);
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

#[test]
fn a_daemon_that_hung_does_not_take_the_shard_back_from_its_successor() {
    let Some(kafka) = RealKafka::start_own(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    let first = hanging(&scene);
    let second = installation(&scene.topics);
    let successor = second.start_with(|command| {
        settings(command, "");
        command.arg("--new-incarnation");
    });
    scene.wait(&successor);
    assert!(!first.ended(LIMIT).success());
    let log = scene.installation.log();
    assert!(log.contains(GOES_ON) && log.contains("belongs to state"), "{log}");
    scene.send("default", FACES..FACES + 4);
    scene.wait(&successor);
    assert!(successor.terminate().success(), "{}", second.log());
    assert!(!second.log().contains(GOES_ON), "{}", second.log());
    let state = state_partition(&second, "default");
    assert_eq!(state.len(), FACES + 4);
    assert_eq!(compacted_partition(&scene.topics), state);
}
