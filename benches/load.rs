//! The load test: how many faces a second, beside the ceiling of each stage in the same run.
//!
//! Faces are synthetic, the model is the shipped one. First each stage alone (index; inference;
//! store), then the engine alone, then the daemon as a process behind Kafka: flooded for its rate, and
//! at half that rate for the time from append to event. FACES sets how many (20000); KAFKA_BROKERS or
//! scripts/kafka gives the broker. Read the ratios: absolute numbers are of one machine at one moment.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::broker::{RealKafka, Topics};
use common::daemon::{Installation, Settings};
use facetd::config::Config;
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::ShardSettings;
use facetd::engine::changes::{Batch, Request, Work};
use facetd::engine::faces::{Faces, Known, NewFace};
use facetd::engine::index::Query;
use facetd::engine::{Engine, Observer, Step};
use facetd::face::{
    Arrival, CollectionName, Embedding, Face, FaceId, NodeId, Offset, Partition, Place, Position, Timestamp,
};
use facetd::model::onnx::LARGEST_RUN;
use facetd::model::{FaceTransformer, Neighbourhoods};
use facetd::replay::{FaceProducer, face_id_of_row};
use facetd::store::{CollectionCommit, Commit, Store};
use facetd::synth::{Kind, Synth};
use rayon::prelude::*;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

const DIMENSION: usize = 128;
const SEED: u64 = 21;
/// Every face of the flood has its event by then, or something is wrong.
const LIMIT: Duration = Duration::from_secs(900);

fn main() {
    // cargo bench hands on arguments of its own; there is nothing to choose here.
    let count: usize = std::env::var("FACES").map_or(20_000, |text| text.parse().expect("FACES is a number"));
    let labelled = Synth { kind: Kind::Albums, faces: count, dimension: DIMENSION, seed: SEED }.generate();
    let faces: Vec<Face> = labelled.embeddings.chunks(DIMENSION).enumerate().map(|(row, v)| face(row, v)).collect();
    let mut config = Config::parse("", std::iter::empty()).unwrap();
    config.model.dir = common::project().join("models/demo-128");
    config.model.device = facetd::model::Device::Cpu;
    let LoadedModel { artefact, model } = LoadedModel::load(&config.model).unwrap();
    let settings = ShardSettings::new(&config, &artefact);
    println!(
        "{count} synthetic faces, {DIMENSION}-d, model {} on {}, {} cores, batches of {}\n",
        artefact.name,
        model.device(),
        std::thread::available_parallelism().map_or(1, usize::from),
        config.engine.batch_faces
    );

    let engine = engine_alone(&faces, &config, &settings, model.clone());
    let index = index_alone(&faces, &config, &settings, artefact.shape.hop1);
    let inference = inference_alone(&engine.work, model.as_ref(), count);
    let store = store_alone(&engine.commits, &settings);
    let rate = |seconds: f64| count as f64 / seconds;
    println!("stage alone          faces/s");
    println!("index insert+search  {:>8.0}", rate(index));
    println!("RE+LP inference      {:>8.0}", rate(inference));
    println!("store commit         {:>8.0}", rate(store));
    let ceiling = rate(index + inference);
    println!(
        "\nengine alone         {:>8.0}   {:.2} of index and inference one after the other",
        rate(engine.seconds),
        rate(engine.seconds) / ceiling
    );
    for (step, seconds) in &engine.steps {
        println!("  {step:<8} {:>5.1} %", 100.0 * seconds / engine.seconds);
    }
    let Work { encoded, linked, affected, refreshed, searched, reclustered, .. } = engine.work;
    let per_face = |total: usize| total as f64 / count as f64;
    println!(
        "  a face: {:.2} rows of RE, {:.2} of LP; {:.1} affected, {:.2} refreshed; {:.2} searches; {:.1} reclustered",
        per_face(encoded),
        per_face(linked),
        per_face(affected),
        per_face(refreshed),
        per_face(searched),
        per_face(reclustered)
    );
    through_kafka(&faces, &config, rate(engine.seconds));
}

fn face(row: usize, values: &[f32]) -> Face {
    Face {
        id: FaceId::new(&face_id_of_row(row)).unwrap(),
        embedding: Embedding::normalise(values, DIMENSION).unwrap(),
        frame_id: None,
        quality: None,
        captured_at: None,
        place: Place { partition: Partition(0), offset: Offset(row as i64) },
    }
}

struct EngineRun {
    seconds: f64,
    work: Work,
    steps: BTreeMap<&'static str, f64>,
    commits: Vec<Commit>,
}

struct Times {
    since: Instant,
    steps: BTreeMap<&'static str, f64>,
}

impl Observer for Times {
    fn finished(&mut self, step: Step) {
        *self.steps.entry(step.name()).or_default() += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
    }
}

fn engine_alone(
    faces: &[Face],
    config: &Config,
    settings: &ShardSettings,
    model: Arc<dyn FaceTransformer>,
) -> EngineRun {
    let mut engine = Engine::new(&settings.engine(&config.collections.default), model);
    let mut run = EngineRun { seconds: 0.0, work: Work::default(), steps: BTreeMap::new(), commits: Vec::new() };
    for (number, faces) in faces.chunks(config.engine.batch_faces).enumerate() {
        let requests = faces.iter().cloned().map(Request::Face).collect();
        let refresh_budget = faces.len() * settings.refresh_per_face;
        let batch = Batch { requests, refresh_budget, ..Batch::default() };
        let started = Instant::now();
        let mut times = Times { since: started, steps: std::mem::take(&mut run.steps) };
        let changes = engine.apply(batch, &mut times).unwrap();
        run.seconds += started.elapsed().as_secs_f64();
        run.steps = times.steps;
        run.work.encoded += changes.work.encoded;
        run.work.linked += changes.work.linked;
        run.work.affected += changes.work.affected;
        run.work.refreshed += changes.work.refreshed;
        run.work.searched += changes.work.searched;
        run.work.reclustered += changes.work.reclustered;
        run.commits.push(Commit {
            collections: vec![CollectionCommit { collection: CollectionName::new("default").unwrap(), changes }],
            positions: BTreeMap::from([(Partition(0), Position { next: Offset(number as i64), last: None })]),
            ..Commit::default()
        });
    }
    run
}

fn index_alone(faces: &[Face], config: &Config, settings: &ShardSettings, hop1: usize) -> f64 {
    let mut index = settings.engine(&config.collections.default).index.build();
    let mut table = Faces::new(DIMENSION);
    let mut seconds = 0.0;
    for part in faces.chunks(config.engine.batch_faces) {
        let new: Vec<NodeId> = part.iter().map(|face| table.add(row(face))).collect();
        let started = Instant::now();
        index.insert(&table, &new);
        let found: Vec<usize> =
            new.par_iter().map(|&node| index.search(&table, Query::of(&table, node), hop1, &|_| true).len()).collect();
        seconds += started.elapsed().as_secs_f64();
        assert_eq!(found.len(), part.len());
    }
    seconds
}

fn row(face: &Face) -> NewFace<'_> {
    let known = Known {
        id: face.id.clone(),
        arrival: Arrival(face.place.offset.0 as u64 + 1),
        frame: None,
        quality: None,
        captured_at: None,
        arrived_at: Timestamp(0),
        place: face.place,
    };
    NewFace { embedding: &face.embedding, known }
}

/// As many rows as the engine ran, all there from the beginning.
fn inference_alone(work: &Work, model: &dyn FaceTransformer, faces: usize) -> f64 {
    let shape = model.shape();
    let row = vec![0.088f32; shape.dimension];
    let mut started = Duration::ZERO;
    let mut run = |rows: usize, hop: usize, call: &dyn Fn(&mut Neighbourhoods)| {
        let mut done = 0;
        while done < rows {
            let size = LARGEST_RUN.min(rows - done);
            let mut input = Neighbourhoods::new(shape.dimension, hop);
            for _ in 0..size {
                input.push(&row, std::iter::repeat_n(&row[..], hop));
            }
            let before = Instant::now();
            call(&mut input);
            started += before.elapsed();
            done += size;
        }
    };
    assert!(work.encoded >= faces && work.linked >= faces);
    run(work.encoded, shape.hop2, &|input| drop(model.encode(input).unwrap()));
    run(work.linked, shape.hop1, &|input| drop(model.link(input).unwrap()));
    started.as_secs_f64()
}

fn store_alone(commits: &[Commit], settings: &ShardSettings) -> f64 {
    // On the project's own disk: a temporary folder may be in memory, where a sync costs nothing.
    let folder = tempfile::tempdir_in(common::project().join("target")).unwrap();
    let mut store = Store::open(folder.path(), &settings.model).unwrap();
    let started = Instant::now();
    for commit in commits {
        store.commit(commit).unwrap();
    }
    started.elapsed().as_secs_f64()
}

fn through_kafka(faces: &[Face], config: &Config, engine_rate: f64) {
    let Some(kafka) = RealKafka::start("the rate through a real Kafka") else { return };
    let flood = daemon_run(&kafka, faces, &config.model.dir, None);
    println!("\nthrough Kafka        {:>8.0}   {:.2} of the engine alone", flood.rate, flood.rate / engine_rate);
    println!("  peak resident memory {:.1} MiB, {:.1} KiB a face", flood.peak_kib / 1024.0, flood.peak_kib_per_face);
    let paced = daemon_run(&kafka, &faces[..faces.len() / 2], &config.model.dir, Some(flood.rate / 2.0));
    println!(
        "  append to event at half that rate: p50 {:.0} ms, p99 {:.0} ms",
        paced.quantile(0.50) * 1000.0,
        paced.quantile(0.99) * 1000.0
    );
}

struct DaemonRun {
    rate: f64,
    peak_kib: f64,
    /// Above what the daemon had before the first face.
    peak_kib_per_face: f64,
    /// Seconds from append to event, sorted.
    latencies: Vec<f64>,
}

impl DaemonRun {
    fn quantile(&self, q: f64) -> f64 {
        self.latencies[((self.latencies.len() - 1) as f64 * q) as usize]
    }
}

fn daemon_run(kafka: &RealKafka, faces: &[Face], model: &Path, rate: Option<f64>) -> DaemonRun {
    let topics = kafka.topics(None);
    let installation = Installation::new(&Settings { topics: &topics, model, more: "" });
    let daemon = installation.start();
    let before = peak_kib(daemon.process_id());
    let events = subscribe(&topics);
    let mut producer = FaceProducer::connect(&topics.brokers, &topics.input()).unwrap();
    let (mut sent, mut latencies): (HashMap<String, Instant>, Vec<f64>) = (HashMap::new(), Vec::new());
    let started = Instant::now();
    let mut rows = faces.iter().enumerate().peekable();
    while latencies.len() < faces.len() {
        assert!(started.elapsed() < LIMIT, "{} of {} faces after {LIMIT:?}", latencies.len(), faces.len());
        let due = |row: usize| rate.is_none_or(|rate| started.elapsed().as_secs_f64() >= row as f64 / rate);
        for _ in 0..100 {
            let Some((_, face)) = rows.next_if(|(row, _)| due(*row)) else { break };
            producer.send(face.id.as_str(), face.embedding.values()).unwrap();
            sent.insert(face.id.as_str().to_string(), Instant::now());
        }
        producer.delivered();
        let mut wait = Duration::from_millis(1);
        while let Some(message) = events.poll(wait) {
            wait = Duration::ZERO;
            let event: serde_json::Value = serde_json::from_slice(message.unwrap().payload().unwrap()).unwrap();
            // Later events of a face tell that it moved.
            if matches!(event["type"].as_str(), Some("created" | "joined"))
                && let Some(face) = event["face_id"].as_str()
            {
                latencies.push(sent.remove(face).expect("a face comes once").elapsed().as_secs_f64());
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let peak = peak_kib(daemon.process_id());
    assert!(daemon.terminate().success());
    latencies.sort_by(f64::total_cmp);
    let count = faces.len() as f64;
    DaemonRun { rate: count / seconds, peak_kib: peak, peak_kib_per_face: (peak - before) / count, latencies }
}

fn subscribe(topics: &Topics) -> BaseConsumer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &topics.brokers).set("group.id", "load").set("fetch.wait.max.ms", "5");
    let consumer: BaseConsumer = client.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    let metadata = consumer.fetch_metadata(Some(&topics.events()), Duration::from_secs(10)).unwrap();
    for partition in metadata.topics()[0].partitions() {
        assignment.add_partition_offset(&topics.events(), partition.id(), rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    consumer
}

/// The most memory a process ever had resident.
fn peak_kib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says VmHWM");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
