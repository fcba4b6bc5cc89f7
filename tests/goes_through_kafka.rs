//! Promise: every face put into a real Kafka comes out as cluster changes exactly once, and a
//! reader of the topics alone knows the same clusters as the state, also after `kill -9` in the middle.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use common::broker::{RealKafka, Topics};
use common::daemon::{Installation, Settings};
use common::faces::Dataset;
use common::kafka_client::{Read, end_of_topic, latest_by_key, read_topic};
use common::{facetd, output_of, wait_for};
use facetd::evaluate::{Scores, evaluate};

const PROMISE: &str = "every face through a real Kafka, exactly once, also after kill -9";
/// How long streaming the whole set may take on a machine that does other things too.
const STREAM: Duration = Duration::from_secs(600);

#[test]
fn every_face_goes_through_once_and_the_events_tell_the_state() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let dataset = Dataset::real_or_synthetic(PROMISE);
    let batch = batch_scores(&dataset);
    let quiet = stream(&kafka, &dataset, Interruption::None);
    let killed = stream(&kafka, &dataset, Interruption::KillInTheMiddle);
    println!("facetd cluster on {}:\n{batch}", dataset.name);
    println!("the stream:\n{quiet}");
    println!("the stream with a kill -9 in the middle:\n{killed}");
    for scores in [&quiet, &killed] {
        assert!(!dataset.real || scores.bcubed.f >= 0.70, "BCubed F of the stream is {:.4}", scores.bcubed.f);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Interruption {
    None,
    KillInTheMiddle,
}

/// The paper's batch pipeline on the same faces.
fn batch_scores(dataset: &Dataset) -> Scores {
    let labels = dataset.labels.with_extension("batch.meta");
    let mut cluster = facetd();
    cluster.args(["cluster", "--device", "cpu", "--features"]).arg(&dataset.features);
    output_of(cluster.arg("--model").arg(&dataset.model).arg("--labels").arg(&labels));
    let predicted: Vec<i64> =
        std::fs::read_to_string(&labels).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    evaluate(&dataset.labels(), &predicted).unwrap()
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
    wait_for("the outbox to be empty", STREAM, || {
        (daemon.metric("facetd_publish_outbox_entries") == 0.0).then_some(())
    });
    wait_for("the lag to be gone", STREAM, || (daemon.metric("facetd_source_lag_records") == 0.0).then_some(()));
    assert!(daemon.terminate().success());

    assert_eq!(end_of_topic(&topics.brokers, &topics.input()), faces as i64);
    assert_eq!(end_of_topic(&topics.brokers, &topics.dead_letters()), 0);
    let told = events_partition(&topics, faces, interruption);
    let kept = state_partition(&installation, faces);
    assert_eq!(told, kept, "the events and the state tell different partitions");
    assert_eq!(compacted_partition(&topics), kept, "the compacted topics and the state tell different partitions");

    let predicted: Vec<u64> = (0..faces).map(|row| kept[&format!("{row:08}")]).collect();
    evaluate(&dataset.labels(), &predicted).unwrap()
}

/// Face to cluster.
type Partition = BTreeMap<String, u64>;

/// What an independent reader makes of the events.
fn events_partition(topics: &Topics, faces: usize, interruption: Interruption) -> Partition {
    let records = read_topic(&topics.brokers, &topics.events());
    let mut seen: HashSet<String> = HashSet::new();
    let mut homes: HashMap<String, u64> = HashMap::new();
    let mut merged_into: HashMap<u64, u64> = HashMap::new();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut causes: HashSet<(i64, i64)> = HashSet::new();
    let raw = records.len();
    for record in records {
        let event = record.json();
        check_cloud_event(&record, &event);
        if !seen.insert(record.header("ce_id").unwrap().to_string()) {
            continue;
        }
        assert_eq!(event["sequence"], seen.len() as u64, "the sequence has a gap");
        *kinds.entry(event["type"].as_str().unwrap().to_string()).or_default() += 1;
        let cluster = || cluster_id(&event["cluster_id"]);
        match event["type"].as_str().unwrap() {
            "created" | "joined" => {
                let face = event["face_id"].as_str().unwrap();
                assert_eq!(homes.insert(face.to_string(), cluster()), None, "face {face} was applied twice");
                let cause = &event["cause"];
                assert_eq!(cause["kind"], "record");
                let cause = (cause["partition"].as_i64().unwrap(), cause["offset"].as_i64().unwrap());
                assert!(causes.insert(cause), "two faces came from record {cause:?}");
            }
            "merged" => {
                let merged = cluster_id(&event["merged"]["cluster_id"]);
                assert_eq!(merged_into.insert(merged, cluster()), None, "cluster {merged} merged twice");
            }
            "split" | "left" => {
                let face = event["face_id"].as_str().unwrap();
                let home = homes.insert(face.to_string(), cluster_id(&event["into"]["cluster_id"]));
                assert!(home.is_some(), "face {face} moved before it came");
            }
            "settled" => assert_eq!(event["faces"], homes.len(), "settled with other faces than have come"),
            kind => panic!("no face was erased, and yet there is a {kind:?} event"),
        }
    }
    assert_eq!(homes.len(), faces, "not every face is in an event");
    for kind in ["created", "joined", "merged"] {
        assert!(kinds.get(kind).is_some_and(|&count| count > 0), "no {kind} event among {kinds:?}");
    }
    let repeated = raw - seen.len();
    println!("{raw} event records, {repeated} of them repeated: {kinds:?}");
    assert!(interruption != Interruption::None || repeated == 0, "{repeated} events repeated without a kill");
    resolve(homes, &merged_into)
}

fn check_cloud_event(record: &Read, event: &serde_json::Value) {
    let header = |name: &str| record.header(name).unwrap_or_else(|| panic!("no {name} in {record:?}"));
    assert_eq!(header("ce_specversion"), "1.0");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("ce_type"), format!("facetd.cluster.{}.v1", event["type"].as_str().unwrap()));
    let sequence = event["sequence"].as_u64().unwrap();
    assert_eq!(header("ce_sequence"), format!("{sequence:020}"));
    assert!(header("ce_id").ends_with(&format!("/default/{sequence}")));
    assert_eq!(record.key.as_deref(), Some("default"));
}

fn state_partition(installation: &Installation, faces: usize) -> Partition {
    let listed = installation.inspect(&["faces"]);
    let partition: Partition = listed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(face, cluster)| (face.to_string(), cluster.parse().unwrap()))
        .collect();
    assert_eq!(partition.len(), faces);
    partition
}

fn compacted_partition(topics: &Topics) -> Partition {
    let face_state = latest_by_key(read_topic(&topics.brokers, &topics.face_state()));
    let cluster_state = latest_by_key(read_topic(&topics.brokers, &topics.cluster_state()));
    let bare = |key: &str| key.strip_prefix("default/").unwrap().to_string();
    let homes: HashMap<String, u64> =
        face_state.iter().map(|(key, value)| (bare(key), cluster_id(&value["home"]))).collect();
    let merged_into: HashMap<u64, u64> = cluster_state
        .iter()
        .filter(|(_, value)| value["status"] == "merged")
        .map(|(key, value)| (bare(key).parse().unwrap(), cluster_id(&value["merged_into"])))
        .collect();
    let partition = resolve(homes, &merged_into);
    let mut sizes: HashMap<u64, u64> = HashMap::new();
    for cluster in partition.values() {
        *sizes.entry(*cluster).or_default() += 1;
    }
    for (key, value) in cluster_state.iter().filter(|(_, value)| value["status"] == "live") {
        let id: u64 = bare(key).parse().unwrap();
        assert_eq!(value["size"].as_u64(), sizes.get(&id).copied(), "size of cluster {id}");
    }
    partition
}

fn resolve(homes: HashMap<String, u64>, merged_into: &HashMap<u64, u64>) -> Partition {
    let living = |mut id: u64| {
        while let Some(&older) = merged_into.get(&id) {
            id = older;
        }
        id
    };
    homes.into_iter().map(|(face, home)| (face, living(home))).collect()
}

fn cluster_id(value: &serde_json::Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}
