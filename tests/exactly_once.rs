//! Promise: state and Kafka go together or the daemon refuses to start, with the way out; a second daemon on the
//! same shard fences the first; offsets that Kafka lost are found again in the topics; a new incarnation tells
//! everything anew; a collection has one home. Only a real Kafka can prove any of it.

mod common;

use std::path::Path;
use std::process::Command;

use common::broker::RealKafka;
use common::daemon::{Installation, Running};
use common::kafka_client::{Admin, Feed, group_lag, read_topic};
use common::scene::{LIMIT, Scene, id, installation, payload};
use common::told::{check_outbox, compacted_partition, state_partition, told, told_by};
use common::{output_of, wait_for};

const PROMISE: &str = "a state and a real Kafka go together or are refused, and a second daemon fences the first";

impl Scene {
    /// One life in which all that was sent is applied.
    fn live(&self) {
        let daemon = self.installation.start();
        self.wait(&daemon);
        assert!(daemon.terminate().success(), "{}", self.installation.log());
    }

    /// A new incarnation's first life.
    fn live_anew(&self) {
        let daemon = self.installation.start_with(|command| {
            command.arg("--new-incarnation");
        });
        self.wait(&daemon);
        assert!(daemon.terminate().success(), "{}", self.installation.log());
    }

    /// A start that has to fail; what it says.
    fn refused(&self) -> String {
        let before = self.installation.log().len();
        let ended = self.installation.spawn(|_| {}).ended(LIMIT);
        assert!(!ended.success());
        self.installation.log()[before..].to_string()
    }

    /// Events of the incarnation at hand, compacted topics and state tell the same `faces`.
    fn check(&self, faces: usize) {
        let state = state_partition(&self.installation, "default");
        assert_eq!(state.len(), faces);
        assert_eq!(
            told_by(&self.topics, "default", &state_uuid(&self.installation)).partition,
            state,
            "events and state"
        );
        assert_eq!(compacted_partition(&self.topics), state, "compacted topics and state");
    }
}

fn state_uuid(installation: &Installation) -> String {
    let stats: serde_json::Value = serde_json::from_str(&installation.inspect(&["stats", "--json"])).unwrap();
    stats["state_uuid"].as_str().unwrap().to_string()
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    output_of(Command::new("cp").arg("-r").arg(from).arg(to));
}

#[test]
fn a_second_daemon_on_the_shard_fences_the_first() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    scene.live();
    let second = installation(&scene.topics);
    copy(&scene.installation.state(), &second.state());

    // A copy is turned away, and the first is not disturbed by it.
    let first = scene.installation.start();
    scene.send("default", 20..40);
    scene.wait(&first);
    assert!(!second.spawn(|_| {}).ended(LIMIT).success());
    assert!(second.log().contains("--new-incarnation"), "{}", second.log());
    scene.send("default", 40..60);
    scene.wait(&first);

    // Told to take the first one's place it does: the first finds out with its next publication.
    let running = second.start_with(|command| {
        command.arg("--new-incarnation");
    });
    let audit = std::fs::read_to_string(second.state().join("audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"new_incarnation\"").count(), 2, "asked and done: {audit}");
    scene.send("default", 60..80);
    assert!(!first.ended(LIMIT).success());
    let log = scene.installation.log();
    assert!(log.contains("another facetd has taken over"), "{log}");
    scene.wait(&running);
    assert!(running.terminate().success());
    let state = state_partition(&second, "default");
    assert_eq!(state.len(), 80);
    assert_eq!(told_by(&scene.topics, "default", &state_uuid(&second)).partition, state);
    assert_eq!(compacted_partition(&scene.topics), state);
    let refused = scene.refused();
    assert!(refused.contains("belongs to state") && refused.contains("--new-incarnation"), "{refused}");
}

#[test]
fn a_state_that_is_older_than_what_was_told_begins_a_new_incarnation() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    scene.live();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("state");
    copy(&scene.installation.state(), &backup);
    let first = state_uuid(&scene.installation);
    scene.send("default", 20..40);
    scene.erase("default", &id(3));
    scene.live();
    scene.check(39);

    copy(&backup, &scene.installation.state());
    let refused = scene.refused();
    assert!(refused.contains("it is older") && refused.contains("--new-incarnation"), "{refused}");
    scene.live_anew();
    assert_ne!(state_uuid(&scene.installation), first);
    scene.check(39);
    // From here on it is a state like any other; the flag, left in by mistake, changes nothing.
    let second = state_uuid(&scene.installation);
    scene.send("default", 40..50);
    scene.live_anew();
    assert_eq!(state_uuid(&scene.installation), second);
    scene.check(49);
}

#[test]
fn a_new_state_takes_another_ones_place_only_when_told_to() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    scene.live();
    std::fs::remove_dir_all(scene.installation.state()).unwrap();
    let refused = scene.refused();
    assert!(refused.contains("belongs to state") && refused.contains("--new-incarnation"), "{refused}");
    // What retention has deleted of the input meanwhile is not read again, and must not live on in the topics.
    Admin::connect(&scene.topics.brokers).delete_records(&scene.topics.input());
    scene.send("default", 30..40);
    scene.live_anew();
    scene.check(10);
}

#[test]
fn an_input_topic_made_anew_is_not_taken_for_the_one_that_was_read() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    scene.live();
    let admin = Admin::connect(&scene.topics.brokers);
    admin.make_anew(&scene.topics.input(), 4);
    let refused = scene.refused();
    assert!(refused.contains("the topic was made anew") && refused.contains("--new-incarnation"), "{refused}");
    // With as many records as were read of the old one, only the records tell.
    scene.send("default", 100..180);
    let refused = scene.refused();
    assert!(refused.contains("has another record at offset"), "{refused}");
    scene.live_anew();
    scene.check(100);
}

#[test]
fn an_output_topic_made_anew_is_told_everything_anew() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    scene.live();
    let admin = Admin::connect(&scene.topics.brokers);
    for topic in [scene.topics.events(), scene.topics.face_state(), scene.topics.cluster_state()] {
        admin.make_anew(&topic, 4);
    }
    let refused = scene.refused();
    assert!(refused.contains("has published up to") && refused.contains("--new-incarnation"), "{refused}");
    scene.live_anew();
    scene.check(20);
}

#[test]
fn an_output_topic_made_anew_beside_a_daemon_stops_it() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..60);
    let daemon = scene.installation.start();
    scene.wait(&daemon);
    Admin::connect(&scene.topics.brokers).make_anew(&scene.topics.events(), 4);
    scene.send("default", 60..64);
    assert!(!daemon.ended(LIMIT).success());
    let log = scene.installation.log();
    assert!(log.contains("has published up to") && log.contains("--new-incarnation"), "{log}");
    let refused = scene.refused();
    assert!(refused.contains("has published up to"), "{refused}");
    scene.live_anew();
    scene.check(64);
}

#[test]
fn offsets_that_kafka_lost_are_found_in_the_topics() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..40);
    scene.live();
    // A life in which there is nothing to tell but positions.
    scene.send("default", 0..1);
    scene.live();
    Admin::connect(&scene.topics.brokers).delete_group(&scene.topics.group());
    scene.send("default", 40..60);
    scene.live();
    check_outbox(&scene.topics);
    scene.check(60);
}

#[test]
fn without_transactions_nothing_is_lost_either() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..20);
    let daemon = scene.installation.start_with(|command| {
        command.env("FACETD_KAFKA__DELIVERY", "at_least_once");
    });
    scene.wait(&daemon);
    assert!(daemon.terminate().success());
    scene.check(20);
    // And the two go on from one another.
    scene.send("default", 20..40);
    scene.live();
    check_outbox(&scene.topics);
    scene.check(40);
}

#[test]
fn a_collection_has_one_home_shard() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let topics = kafka.topics(None);
    let feed = Feed::connect(&topics);
    // By CRC-32: of two shards the home of "default" is 1, of "gate" 0.
    let faces = 40;
    for face in 0..faces {
        for collection in ["default", "gate"] {
            feed.send(&format!("{face:08}"), Some(&payload(face)), collection);
        }
    }
    feed.flush();
    let shards = [installation(&topics), installation(&topics)];
    let daemons: Vec<Running> = (0..2)
        .map(|shard| {
            shards[shard].start_with(|command| {
                let partitions = format!("[{}, {}]", 2 * shard, 2 * shard + 1);
                command.env("FACETD_KAFKA__PARTITIONS", partitions);
                command.env("FACETD_KAFKA__SHARD", shard.to_string()).env("FACETD_KAFKA__SHARDS", "2");
            })
        })
        .collect();
    let read = || (group_lag(&topics.brokers, &topics.group(), &topics.input()) == 0).then_some(());
    wait_for("every record to be applied", LIMIT, read);
    for daemon in daemons {
        daemon.wait_settled(LIMIT);
        assert!(daemon.terminate().success());
    }
    let letters = read_topic(&topics.brokers, &topics.dead_letters());
    assert!(letters.iter().all(|letter| letter.header("reason") == Some("wrong_shard")));
    let at_home: usize = ["gate", "default"]
        .iter()
        .enumerate()
        .map(|(shard, collection)| {
            let state = state_partition(&shards[shard], collection);
            assert_eq!(told(&topics, collection).partition, state, "{collection}");
            state.len()
        })
        .sum();
    assert!(at_home > 0 && !letters.is_empty());
    assert_eq!(at_home + letters.len(), 2 * faces, "a record has more or less than one end");
}
