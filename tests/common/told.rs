//! What the topics tell, read raw by an independent client that reads committed records only and does not
//! de-duplicate: a record that is there twice, out of order or missing fails the test that asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use facetd::face::FaceId;
use facetd::reader::EventReader;

use super::broker::Topics;
use super::daemon::Installation;
use super::faces::Dataset;
use super::kafka_client::{Read, latest_by_key, read_topic};
use super::{facetd, output_of};

/// Face to cluster.
pub type Partition = BTreeMap<String, u64>;

/// A record of the input: partition and offset.
pub type Cause = (i64, i64);

/// What the events of collection `default` say.
#[derive(Debug, Default)]
pub struct Told {
    pub partition: Partition,
    /// How many events there are of each type.
    pub kinds: BTreeMap<String, usize>,
    /// The records that brought faces and those that erased some, and which.
    pub came: BTreeMap<Cause, String>,
    pub erased: BTreeMap<Cause, String>,
}

/// Every event of a collection, each once, in order and gapless.
pub fn told(topics: &Topics, collection: &str) -> Told {
    told_by(topics, collection, "")
}

/// Those of one incarnation of the state, by its uuid or the beginning of it.
pub fn told_by(topics: &Topics, collection: &str, state_uuid: &str) -> Told {
    let mut told = Told::default();
    let mut homes: HashMap<String, u64> = HashMap::new();
    let mut merged_into: HashMap<u64, u64> = HashMap::new();
    let mut sequence = 0;
    let records = read_topic(&topics.brokers, &topics.events());
    let is_meant = |record: &&Read| {
        record.key.as_deref() == Some(collection) && record.header("ce_id").unwrap().starts_with(state_uuid)
    };
    for record in records.iter().filter(is_meant) {
        let event = record.json();
        sequence += 1;
        assert_eq!(event["sequence"], sequence, "an event is missing, out of order or there twice");
        check_cloud_event(record, &event);
        let kind = event["type"].as_str().unwrap();
        *told.kinds.entry(kind.to_string()).or_default() += 1;
        let cluster = || cluster_id(&event["cluster_id"]);
        let face = || event["face_id"].as_str().unwrap().to_string();
        match kind {
            "created" | "joined" => {
                assert_eq!(homes.insert(face(), cluster()), None, "face {} was applied twice", face());
                if let Some(cause) = cause(&event) {
                    assert_eq!(told.came.insert(cause, face()), None, "two faces came from one record");
                }
            }
            "merged" => {
                let merged = cluster_id(&event["merged"]["cluster_id"]);
                assert_eq!(merged_into.insert(merged, cluster()), None, "cluster {merged} merged twice");
            }
            "split" | "left" => {
                let home = homes.insert(face(), cluster_id(&event["into"]["cluster_id"]));
                assert!(home.is_some(), "face {} moved before it came", face());
            }
            "settled" => assert_eq!(event["faces"], homes.len(), "settled with other faces than have come"),
            "erased" => {
                assert!(homes.remove(&face()).is_some(), "face {} was erased before it came", face());
                if let Some(cause) = cause(&event) {
                    assert_eq!(told.erased.insert(cause, face()), None, "a record erased twice");
                }
            }
            kind => panic!("what is a {kind:?} event?"),
        }
    }
    told.partition = resolve(homes, &merged_into);
    told
}

/// The record an event is because of, if it is because of one.
fn cause(event: &serde_json::Value) -> Option<Cause> {
    let cause = &event["cause"];
    (cause["kind"] == "record").then(|| (cause["partition"].as_i64().unwrap(), cause["offset"].as_i64().unwrap()))
}

fn check_cloud_event(record: &Read, event: &serde_json::Value) {
    let header = |name: &str| record.header(name).unwrap_or_else(|| panic!("no {name} in {record:?}"));
    assert_eq!(header("ce_specversion"), "1.0");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("ce_type"), format!("facetd.cluster.{}.v1", event["type"].as_str().unwrap()));
    let sequence = event["sequence"].as_u64().unwrap();
    assert_eq!(header("ce_sequence"), format!("{sequence:020}"));
    let collection = event["collection"].as_str().unwrap();
    assert!(header("ce_id").ends_with(&format!("/{collection}/{sequence}")));
    assert_eq!(record.key.as_deref(), Some(collection));
}

/// Every entry of the outbox is in Kafka once, by the marks of the topics that keep everything.
pub fn check_outbox(topics: &Topics) {
    let mut sequences = BTreeSet::new();
    let mut states = BTreeSet::new();
    for topic in [topics.events(), topics.dead_letters()] {
        let mut last: HashMap<i32, u64> = HashMap::new();
        for record in read_topic(&topics.brokers, &topic) {
            let mark = record.header("facetd-outbox").unwrap();
            let (state, sequence) = (mark.split(':').next().unwrap(), mark.rsplit(':').next().unwrap());
            let sequence: u64 = sequence.parse().unwrap();
            assert!(sequences.insert(sequence), "entry {sequence} is in Kafka twice");
            let before = last.insert(record.partition, sequence).unwrap_or(0);
            assert!(before < sequence, "{topic}: entry {sequence} comes after {before}");
            states.insert(state.to_string());
        }
    }
    assert_eq!(states.len(), 1, "more than one state has written");
    let missing = (1..=sequences.len() as u64).find(|sequence| !sequences.contains(sequence));
    assert_eq!(missing, None, "this entry is missing");
}

/// The partition that `facetd inspect` reads from a stopped daemon's state.
pub fn state_partition(installation: &Installation, collection: &str) -> Partition {
    let listed = installation.inspect(&["--collection", collection, "faces"]);
    let lines = listed.lines().map(|line| line.split_once('\t').unwrap());
    lines.map(|(face, cluster)| (face.to_string(), cluster.parse().unwrap())).collect()
}

/// The partition of collection `default` that the compacted topics tell.
pub fn compacted_partition(topics: &Topics) -> Partition {
    let face_state = latest_by_key(read_topic(&topics.brokers, &topics.face_state()));
    let cluster_state = latest_by_key(read_topic(&topics.brokers, &topics.cluster_state()));
    let bare = |key: &str| key.strip_prefix("default/").map(str::to_string);
    let homes: HashMap<String, u64> =
        face_state.iter().filter_map(|(key, value)| Some((bare(key)?, cluster_id(&value["home"])))).collect();
    let of_clusters = || cluster_state.iter().filter_map(|(key, value)| Some((bare(key)?.parse().unwrap(), value)));
    let merged = of_clusters().filter(|(_, value)| value["status"] == "merged");
    let merged_into: HashMap<u64, u64> = merged.map(|(id, value)| (id, cluster_id(&value["merged_into"]))).collect();
    let partition = resolve(homes, &merged_into);
    let mut sizes: HashMap<u64, u64> = HashMap::new();
    for cluster in partition.values() {
        *sizes.entry(*cluster).or_default() += 1;
    }
    for (id, value) in of_clusters().filter(|(_, value)| value["status"] == "live") {
        assert_eq!(value["size"].as_u64(), sizes.get(&id).copied(), "size of cluster {id}");
    }
    partition
}

/// What the reference consumer makes of the events of collection `default`, of the faces of `expected`.
pub fn reader_partition(topics: &Topics, expected: &Partition) -> Partition {
    let mut reader = EventReader::default();
    for record in read_topic(&topics.brokers, &topics.events()) {
        reader.read(record.payload.unwrap().as_bytes()).unwrap();
    }
    let settled = reader.settled("default").expect("the last event says that it has settled");
    assert_eq!((settled.faces as usize, reader.faces("default")), (expected.len(), expected.len()));
    let cluster_of = |face: &String| reader.cluster_of("default", &FaceId::new(face).unwrap()).unwrap().0;
    expected.keys().map(|face| (face.clone(), cluster_of(face))).collect()
}

/// The paper's batch pipeline on the rows `kept` of a dataset: who is together, by row.
pub fn batch_partition(dataset: &Dataset, kept: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
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

/// Who is together, by row, where faces are called by their row.
pub fn rows_together(partition: &Partition) -> Vec<Vec<usize>> {
    let mut clusters: HashMap<u64, Vec<usize>> = HashMap::new();
    for (face, cluster) in partition {
        clusters.entry(*cluster).or_default().push(face.parse().unwrap());
    }
    canonical(clusters.into_values())
}

/// The same for the same partition, whatever clusters are called.
fn canonical(clusters: impl Iterator<Item = Vec<usize>>) -> Vec<Vec<usize>> {
    let mut clusters: Vec<Vec<usize>> = clusters.collect();
    clusters.iter_mut().for_each(|rows| rows.sort_unstable());
    clusters.sort_unstable();
    clusters
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
