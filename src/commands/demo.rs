//! `facetd demo`: a broker, a stream of synthetic faces and the daemon in one process.
//!
//! The daemon is the one of `facetd run`, word for word; only the broker is librdkafka's own mock
//! of one. It holds about 5 MiB a partition and silently drops the oldest, so the stream is paced
//! by how far the daemon has come. On a terminal it stays once it is through, for its page to be looked at. What is scored, at the last face and once everything has settled, is
//! not the daemon's memory but what a reader of its events knows.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use facetd::config::Config;
use facetd::daemon::{Daemon, Incarnation};
use facetd::engine::event::EventType;
use facetd::evaluate::{Scores, evaluate};
use facetd::face::{ClusterId, FaceId};
use facetd::reader::EventReader;
use facetd::replay::{FaceProducer, face_id_of_row};
use facetd::synth::{Kind, Synth};
use indicatif::ProgressBar;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Serialize;

use super::ending::{Ear, Interrupted, Temporary};
use super::output::{Output, note};
use super::progress;

/// Width of the shipped model's embeddings.
const DIMENSION: usize = 128;
/// The faces the shipped model was not trained on.
const SEED: u64 = 7;
/// Where faces go that name no collection.
const COLLECTION: &str = "default";
const INPUT_PARTITIONS: i32 = 4;
/// Faces in the topic and not yet applied, at most: far below what makes the mock drop some.
const AHEAD: usize = 4096;
/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// How long nothing may happen.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(after_help = "Examples:
  facetd demo
  facetd demo --faces 3000 --json

Its state is a temporary folder that goes with it, and it listens on a free port of 127.0.0.1; `facetd top --url` of the
address it names shows it from another terminal.")]
pub struct Arguments {
    /// How many faces to stream
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    faces: u32,
    /// The model; one of 128-d embeddings
    #[arg(long, value_name = "DIR", default_value = "models/demo-128")]
    model: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = super::edges()?;
    runtime.block_on(async { tokio::task::block_in_place(|| stream(arguments)) })
}

fn stream(arguments: &Arguments) -> anyhow::Result<()> {
    let ear = Ear::open()?;
    let broker: MockCluster<'_, _> = MockCluster::new(1).context("the in-process broker does not start")?;
    // However it is ended, its state goes with it.
    let state = Temporary::new("facetd-demo-").context("no folder for the state; see TMPDIR")?;
    let config = config(arguments, &broker.bootstrap_servers(), state.path())?;
    super::start_logging(&config.log);
    let kafka = config.kafka.clone();
    broker.create_topic(&kafka.input_topic, INPUT_PARTITIONS, 1)?;
    for topic in [&kafka.events_topic, &kafka.face_state_topic, &kafka.cluster_state_topic, &kafka.dead_letters_topic] {
        broker.create_topic(topic, 1, 1)?;
    }

    let labelled =
        Synth { kind: Kind::Albums, faces: arguments.faces as usize, dimension: DIMENSION, seed: SEED }.generate();
    let edges = tokio::runtime::Handle::current();
    let daemon = edges.block_on(Daemon::start(config, Incarnation::Same))?;
    ear.stops(daemon.shutdown());
    note(format_args!("its page is http://{}/, with {} faces to come", daemon.address(), labelled.labels.len()));
    let mut demo = Demo {
        producer: FaceProducer::connect(&kafka.brokers, &kafka.input_topic)?,
        events: subscribe(&kafka.brokers, &kafka.events_topic)?,
        reader: EventReader::default(),
        progress: Progress::new(labelled.labels.len()),
    };
    let outcome = demo.run(&labelled.embeddings, &labelled.labels, &daemon);
    demo.progress.finish();
    let reported = outcome
        .and_then(|outcome| report(&demo.reader, &labelled.labels, &outcome))
        .and_then(|report| arguments.output.answer(&report));
    if reported.is_ok() && std::io::stdout().is_terminal() {
        note(format_args!("the clusters are still to be seen at http://{}/; Ctrl-C ends it", daemon.address()));
        let shutdown = daemon.shutdown();
        edges.block_on(shutdown.requested());
    }
    daemon.shutdown().request();
    let stopped = edges.block_on(daemon.wait());
    match (reported, ear.signal()) {
        (Err(_), Some(signal)) => Err(Interrupted { signal, said: "stopped before it was through".to_string() }.into()),
        (reported, _) => reported.and(stopped.map_err(Into::into)),
    }
}

fn config(arguments: &Arguments, brokers: &str, state: &std::path::Path) -> anyhow::Result<Config> {
    let mut config = Config::parse("", std::iter::empty())?;
    config.kafka.brokers = brokers.to_string();
    config.state.dir = state.to_path_buf();
    config.model.dir = arguments.model.clone();
    config.model.device = facetd::model::Device::Cpu;
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.log.level = "warn,librdkafka=off".to_string();
    Ok(config)
}

fn subscribe(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "demo-reader").create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, rdkafka::Offset::Beginning)?;
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// The demo's own ends of the stream.
struct Demo {
    producer: FaceProducer,
    events: BaseConsumer,
    reader: EventReader,
    progress: Progress,
}

/// How it went.
struct Outcome {
    /// From the first face sent to the last one's event.
    streaming: Duration,
    at_the_last_face: Scores,
    /// From there until nothing was left to be scored again.
    settling: Duration,
}

impl Demo {
    fn run(&mut self, embeddings: &[f32], labels: &[u32], daemon: &Daemon) -> anyhow::Result<Outcome> {
        let streaming = self.stream(embeddings, daemon)?;
        let at_the_last_face = scores(&self.reader, labels)?;
        let settling = self.settle(daemon)?;
        Ok(Outcome { streaming, at_the_last_face, settling })
    }

    /// Reads events until one says that the collection has settled; answers how long that took.
    fn settle(&mut self, daemon: &Daemon) -> anyhow::Result<Duration> {
        let metrics = daemon.metrics();
        let started = Instant::now();
        let mut last_news = (u64::MAX, started);
        while self.reader.settled(COLLECTION).is_none() {
            self.read_events()?;
            let work = metrics.linked_refreshes.get() + self.reader.counts.events() as u64;
            if work != last_news.0 {
                last_news = (work, Instant::now());
            }
            let stale = metrics.stale_faces.get();
            self.progress.line(|| format!("settling, {stale} faces to score again"));
            ensure!(!daemon.shutdown().is_requested(), "the daemon stopped with {stale} stale faces");
            ensure!(last_news.1.elapsed() < STALLED, "nothing happened for {STALLED:?} with {stale} stale faces");
        }
        Ok(started.elapsed())
    }

    /// Sends every face and reads events until each has its own; answers how long that took.
    fn stream(&mut self, embeddings: &[f32], daemon: &Daemon) -> anyhow::Result<Duration> {
        let faces = embeddings.len() / DIMENSION;
        let started = Instant::now();
        let mut rows = embeddings.chunks(DIMENSION).enumerate().peekable();
        let mut last_news = (0, started);
        loop {
            let seen = self.reader.faces(COLLECTION);
            while let Some((row, values)) = rows.next_if(|(row, _)| row - seen < AHEAD) {
                self.producer.send(&face_id_of_row(row), values)?;
            }
            self.producer.delivered();
            self.read_events()?;
            let seen = self.reader.faces(COLLECTION);
            self.progress.show(seen, &self.reader, daemon, started);
            if seen == faces {
                return Ok(started.elapsed());
            }
            if seen > last_news.0 {
                last_news = (seen, Instant::now());
            }
            ensure!(!daemon.shutdown().is_requested(), "the daemon stopped after {seen} faces");
            ensure!(last_news.1.elapsed() < STALLED, "no event for {STALLED:?} after {seen} faces");
        }
    }

    fn read_events(&mut self) -> anyhow::Result<()> {
        let mut wait = Duration::from_millis(20);
        while let Some(message) = self.events.poll(wait) {
            self.reader.read(message?.payload().unwrap_or_default())?;
            wait = Duration::ZERO;
        }
        Ok(())
    }
}

/// A live line on a terminal, a plain one now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    faces: usize,
    last_line: Instant,
}

impl Progress {
    fn new(faces: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| progress::bar(faces, "{bar:30} {msg}"));
        Progress { bar, faces, last_line: Instant::now() }
    }

    fn show(&mut self, seen: usize, reader: &EventReader, daemon: &Daemon, started: Instant) {
        let metrics = daemon.metrics();
        let rate = seen as f64 / started.elapsed().as_secs_f64();
        let (events, clusters) = (reader.counts.events(), metrics.clusters.get());
        let (lag, faces) = (metrics.source_lag_records.get(), self.faces);
        if let Some(bar) = &self.bar {
            bar.set_position(seen as u64);
        }
        self.line(|| {
            format!("{seen}/{faces} faces, {rate:.0} a second, {clusters} clusters, {events} events, lag {lag}")
        });
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(text()),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                note(text());
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The scores of what a reader knows by now.
fn scores(reader: &EventReader, labels: &[u32]) -> anyhow::Result<Scores> {
    let clusters: Vec<ClusterId> = (0..labels.len())
        .map(|row| {
            let face = FaceId::new(&face_id_of_row(row))?;
            reader.cluster_of(COLLECTION, &face).with_context(|| format!("face {face} is in no event"))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(evaluate(labels, &clusters)?)
}

/// How it went, for whoever asked.
#[derive(Serialize)]
struct Report {
    faces: usize,
    streaming_seconds: f64,
    faces_per_second: f64,
    at_the_last_face: Scores,
    settling_seconds: f64,
    settled: Scores,
    events: BTreeMap<&'static str, usize>,
    repeated_events: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { faces, streaming_seconds, faces_per_second, at_the_last_face: before, .. } = self;
        writeln!(
            f,
            "all {faces} faces applied exactly once, in {streaming_seconds:.1} s ({faces_per_second:.0} faces/s)"
        )?;
        let (pairwise, bcubed) = (100.0 * before.pairwise.f, 100.0 * before.bcubed.f);
        writeln!(f, "at the last face: pairwise F {pairwise:.2}, BCubed F {bcubed:.2}, {} clusters", before.clusters)?;
        writeln!(f, "settled {:.1} s later:\n{}", self.settling_seconds, self.settled)?;
        let by_type: Vec<String> = EventType::ALL
            .iter()
            .map(|kind| format!("{} {}", self.events.get(kind.name()).copied().unwrap_or_default(), kind.name()))
            .collect();
        write!(f, "events: {}, {} repeated", by_type.join(", "), self.repeated_events)
    }
}

fn report(reader: &EventReader, labels: &[u32], outcome: &Outcome) -> anyhow::Result<Report> {
    let counts = &reader.counts;
    let arrived = counts.of(EventType::Created) + counts.of(EventType::Joined);
    ensure!(arrived == labels.len(), "some faces were applied twice: {counts:?}");
    let (faces, streaming_seconds) = (labels.len(), outcome.streaming.as_secs_f64());
    Ok(Report {
        faces,
        streaming_seconds,
        faces_per_second: faces as f64 / streaming_seconds,
        at_the_last_face: outcome.at_the_last_face,
        settling_seconds: outcome.settling.as_secs_f64(),
        settled: scores(reader, labels)?,
        events: EventType::ALL.iter().map(|&kind| (kind.name(), counts.of(kind))).collect(),
        repeated_events: counts.repeated,
    })
}
