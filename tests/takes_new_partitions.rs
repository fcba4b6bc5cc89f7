//! Promise: partitions that the input topic is given while a daemon reads all of it end the daemon with a clear line, and the
//! next start reads them from their beginning, each face once. Only a real Kafka can prove it.

mod common;

use common::broker::RealKafka;
use common::kafka_client::{Admin, Feed, read_topic};
use common::scene::{LIMIT, Scene, id, payload};
use common::told::{state_partition, told};

const PROMISE: &str = "new partitions of the input are read, with a real Kafka";
const SOON: &str = r#"{ "topic.metadata.refresh.interval.ms" = "500" }"#;

#[test]
fn new_partitions_end_the_daemon_and_the_next_start_reads_them() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..40);
    let daemon = scene.installation.start_with(|command| {
        command.env("FACETD_KAFKA__LIBRDKAFKA_OPTIONS", SOON);
    });
    scene.wait(&daemon);
    Admin::connect(&scene.topics.brokers).add_partitions(&scene.topics.input(), 8);
    // One that knows of them.
    let feed = Feed::connect(&scene.topics);
    (40..80).for_each(|face| feed.send(&id(face), Some(&payload(face)), "default"));
    feed.flush();
    assert!(!daemon.ended(LIMIT).success());
    let log = scene.installation.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("has a new partition") && last.contains("start again"), "{log}");

    let daemon = scene.installation.start();
    scene.wait(&daemon);
    assert!(daemon.terminate().success(), "{}", scene.installation.log());
    let input = read_topic(&scene.topics.brokers, &scene.topics.input());
    assert!(input.iter().any(|record| record.partition >= 4), "nothing is in the new ones");
    let state = state_partition(&scene.installation, "default");
    assert_eq!(state.len(), 80);
    assert_eq!(told(&scene.topics, "default").partition, state);
}
