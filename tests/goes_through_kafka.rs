//! Promise: every face put into a real Kafka comes out as cluster changes exactly once; once the
//! stream has settled the clusters are those of `facetd cluster` on the same faces, whatever the order
//! and also after `kill -9` in the middle or after faces were erased; and a reader of the topics alone
//! knows the same clusters as the state.

mod common;

use std::time::Duration;

use common::broker::RealKafka;
use common::daemon::{Installation, Settings};
use common::faces::Dataset;
use common::facetd;
use common::kafka_client::{Client, end_of_topic};
use common::told::{
    batch_partition, check_outbox, compacted_partition, reader_partition, rows_together, state_partition, told,
};
use facetd::evaluate::{Scores, evaluate};

const PROMISE: &str = "every face through a real Kafka, exactly once, to the clusters of the batch, also after kill -9";
/// How long streaming the whole set may take on a machine that does other things too.
const STREAM: Duration = Duration::from_secs(600);
/// One face in so many is erased in the end.
const ERASED: usize = 40;

#[test]
fn every_face_goes_through_once_and_the_events_tell_the_state() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let dataset = Dataset::real_or_synthetic(PROMISE);
    for interruption in [Interruption::None, Interruption::KillInTheMiddle] {
        let scores = stream(&kafka, &dataset, interruption);
        println!(
            "{interruption:?}: the settled stream is the batch pipeline's partition, on {}:\n{scores}",
            dataset.name
        );
        assert!(!dataset.real || scores.bcubed.f >= 0.80, "BCubed F of the stream is {:.4}", scores.bcubed.f);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Interruption {
    None,
    KillInTheMiddle,
}

fn stream(kafka: &RealKafka, dataset: &Dataset, interruption: Interruption) -> Scores {
    let topics = kafka.topics(None);
    let installation =
        Installation::new(&Settings { topics: &topics, model: &dataset.model, more: "[engine]\nbatch_faces = 64\n" });
    let faces = dataset.labels().len();
    let mut daemon = installation.start();
    let mut replay = facetd()
        .args(["replay", "--dimension", "128", "--brokers", &topics.brokers, "--topic", &topics.input(), "--features"])
        .arg(&dataset.features)
        .spawn()
        .unwrap();
    if interruption == Interruption::KillInTheMiddle {
        daemon.wait_metric("facetd_engine_faces", faces as f64 / 3.0, STREAM);
        daemon.kill();
        daemon = installation.start();
        let restored = daemon.metric("facetd_engine_faces");
        assert!(restored >= faces as f64 / 3.0, "only {restored} faces are there after the restart");
        assert!(restored < faces as f64, "it was killed too late to prove anything");
    }
    assert!(replay.wait().unwrap().success());
    daemon.wait_metric("facetd_engine_faces", faces as f64, STREAM);
    daemon.wait_settled(STREAM);
    assert!(daemon.terminate().success());
    assert_eq!(end_of_topic(&topics.brokers, &topics.input()), faces as i64);
    let kept = state_partition(&installation, "default");
    assert_eq!(kept.len(), faces);
    assert!(rows_together(&kept) == batch_partition(dataset, |_| true), "the settled stream is not the batch");
    let predicted: Vec<u64> = (0..faces).map(|row| kept[&format!("{row:08}")]).collect();
    let scores = evaluate(&dataset.labels(), &predicted).unwrap();

    let daemon = installation.start();
    let client = Client::connect(&topics.brokers);
    let erased = (0..faces).step_by(ERASED);
    for row in erased.clone() {
        client.send(&topics.input(), Some(format!("{row:08}").as_bytes()), None, &[]);
    }
    daemon.wait_metric("facetd_engine_erased_faces_total{cause=\"record\"}", erased.len() as f64, STREAM);
    daemon.wait_settled(STREAM);
    assert!(daemon.terminate().success());
    assert_eq!(end_of_topic(&topics.brokers, &topics.dead_letters()), 0);
    let kept = state_partition(&installation, "default");
    assert_eq!(kept.len(), faces - erased.len());
    let batch = batch_partition(dataset, |row| row % ERASED != 0);
    assert!(rows_together(&kept) == batch, "after erasing, the settled stream is not the batch of those left");
    check_outbox(&topics);
    let told = told(&topics, "default");
    println!("{:?}", told.kinds);
    for kind in ["created", "joined", "merged", "split", "left", "erased", "settled"] {
        assert!(told.kinds.get(kind).is_some_and(|&count| count > 0), "no {kind} event");
    }
    assert_eq!(told.partition, kept, "the events and the state tell different partitions");
    assert_eq!(compacted_partition(&topics), kept, "the compacted topics and the state tell different partitions");
    assert_eq!(reader_partition(&topics, &kept), kept, "the reference consumer and the state differ");
    scores
}
