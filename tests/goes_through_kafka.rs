//! Promise: every face put into a real Kafka comes out as cluster changes exactly once; once the
//! stream has settled the clusters are those of `facetd cluster` on the same faces, whatever the order
//! and also after `kill -9` in the middle or after faces were erased; and a reader of the topics alone
//! knows the same clusters as the state.

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use common::broker::{RealKafka, Topics};
use common::daemon::{Installation, Running, Settings};
use common::faces::Dataset;
use common::kafka_client::{Client, Read, end_of_topic, latest_by_key, read_topic};
use common::{facetd, output_of, wait_for};
use facetd::evaluate::{Scores, evaluate};
use facetd::face::FaceId;
use facetd::reader::EventReader;

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

/// The paper's batch pipeline on the rows `kept` of the same faces: who is together, by row.
fn batch_partition(dataset: &Dataset, kept: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let folder = tempfile::tempdir().unwrap();
    let (features, labels) = (folder.path().join("kept.bin"), folder.path().join("kept.meta"));
    let rows: Vec<usize> = (0..dataset.labels().len()).filter(|&row| kept(row)).collect();
    let all = dataset.rows();
    let bytes = rows.iter().flat_map(|&row| &all[row]).flat_map(|value| value.to_le_bytes());
    std::fs::write(&features, bytes.collect::<Vec<u8>>()).unwrap();
    let mut cluster = facetd();
    cluster.args(["cluster", "--device", "cpu", "--features"]).arg(&features);
    output_of(cluster.arg("--model").arg(&dataset.model).arg("--labels").arg(&labels));
    let mut clusters: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (row, label) in rows.into_iter().zip(read_labels(&labels)) {
        clusters.entry(label).or_default().push(row);
    }
    canonical(clusters.into_values())
}

fn read_labels(path: &Path) -> Vec<i64> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

/// The same for the same partition, whatever clusters are called.
fn canonical(clusters: impl Iterator<Item = Vec<usize>>) -> Vec<Vec<usize>> {
    let mut clusters: Vec<Vec<usize>> = clusters.collect();
    clusters.iter_mut().for_each(|rows| rows.sort_unstable());
    clusters.sort_unstable();
    clusters
}

fn rows_together(partition: &Partition) -> Vec<Vec<usize>> {
    let mut clusters: HashMap<u64, Vec<usize>> = HashMap::new();
    for (face, cluster) in partition {
        clusters.entry(*cluster).or_default().push(face.parse().unwrap());
    }
    canonical(clusters.into_values())
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
    settled(&daemon);
    assert!(daemon.terminate().success());
    assert_eq!(end_of_topic(&topics.brokers, &topics.input()), faces as i64);
    let kept = state_partition(&installation, faces);
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
    settled(&daemon);
    assert!(daemon.terminate().success());
    assert_eq!(end_of_topic(&topics.brokers, &topics.dead_letters()), 0);
    let kept = state_partition(&installation, faces - erased.len());
    let batch = batch_partition(dataset, |row| row % ERASED != 0);
    assert!(rows_together(&kept) == batch, "after erasing, the settled stream is not the batch of those left");
    let told = events_partition(&topics);
    assert_eq!(told, kept, "the events and the state tell different partitions");
    assert_eq!(compacted_partition(&topics), kept, "the compacted topics and the state tell different partitions");
    assert_eq!(reader_partition(&topics, &kept), kept, "the reference consumer and the state differ");
    scores
}

/// Waits until nothing is left to do: no input, nothing stale, everything published.
fn settled(daemon: &Running) {
    for metric in ["facetd_source_lag_records", "facetd_engine_unsettled_collections", "facetd_publish_outbox_entries"]
    {
        wait_for(&format!("{metric} to be 0"), STREAM, || (daemon.metric(metric) == 0.0).then_some(()));
    }
}

/// Face to cluster.
type Partition = BTreeMap<String, u64>;

/// What the reference consumer makes of the events, of the faces of `expected`.
fn reader_partition(topics: &Topics, expected: &Partition) -> Partition {
    let mut reader = EventReader::default();
    for record in read_topic(&topics.brokers, &topics.events()) {
        reader.read(record.payload.unwrap().as_bytes()).unwrap();
    }
    let settled = reader.settled("default").expect("the last event says that it has settled");
    assert_eq!((settled.faces as usize, reader.faces("default")), (expected.len(), expected.len()));
    let cluster_of = |face: &String| reader.cluster_of("default", &FaceId::new(face).unwrap()).unwrap().0;
    expected.keys().map(|face| (face.clone(), cluster_of(face))).collect()
}

/// What an independent reader makes of the events.
fn events_partition(topics: &Topics) -> Partition {
    let records = read_topic(&topics.brokers, &topics.events());
    let mut seen: HashSet<String> = HashSet::new();
    let mut homes: HashMap<String, u64> = HashMap::new();
    let mut merged_into: HashMap<u64, u64> = HashMap::new();
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut causes: HashSet<(i64, i64)> = HashSet::new();
    for record in records {
        let event = record.json();
        check_cloud_event(&record, &event);
        let id = record.header("ce_id").unwrap();
        assert!(seen.insert(id.to_string()), "event {id} was published twice");
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
            "erased" => drop(homes.remove(event["face_id"].as_str().unwrap()).expect("it was there")),
            kind => panic!("what is a {kind:?} event?"),
        }
    }
    for kind in ["created", "joined", "merged", "split", "left", "erased", "settled"] {
        assert!(kinds.get(kind).is_some_and(|&count| count > 0), "no {kind} event among {kinds:?}");
    }
    println!("{} event records: {kinds:?}", seen.len());
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
