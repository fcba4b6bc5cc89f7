//! The soak: does anything grow for ever? The daemon as a process behind a real Kafka, with synthetic 128-d faces and
//! the shipped model, at a share of what it can do, while faces come, are replaced (10 % of the records), are
//! erased (2 %) and expire, because the collection is at its limit; snapshots are written every 20 s, and vector
//! files are compacted when that is due.
//!
//! First the collection is filled and the capacity measured on the very mix, with a backlog that never ends;
//! then SECONDS (1800) at RATE (0.8) of it. FACES (10000) is the collection's limit. Every 5 s a sample: resident memory,
//! open file descriptors, bytes of the state directory; the lag every second. At the end the slopes of the second half
//! by least squares, and a row for the README.
//!
//! One thing does grow, by design: an erased face leaves a keyed hash of its id, or reading the topic again would
//! bring it back.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::broker::RealKafka;
use common::daemon::{Installation, Running, Settings};
use common::footprint::{MEBIBYTE, resident, size_of};
use common::kafka_client::{Feed, end_of_topic};
use common::{facetd, output_of};
use facetd::codec::{Message, json};
use facetd::replay::face_id_of_row;
use facetd::synth::{Kind, Synth};

const DIMENSION: usize = 128;
const SEED: u64 = 34;
const SNAPSHOT_INTERVAL: &str = "20s";
const SAMPLE: Duration = Duration::from_secs(5);
const LAG_SAMPLE: Duration = Duration::from_secs(1);
/// How often the feed has its turn.
const TICK: Duration = Duration::from_millis(10);
/// Records kept waiting while the capacity is measured: more than the daemon's queue.
const BACKLOG: u64 = 8_000;
const CAPACITY_FOR: Duration = Duration::from_secs(30);
/// Filling, and what is left to settle at the end, end by then, or something is wrong.
const LIMIT: Duration = Duration::from_secs(900);

fn main() {
    let number = |name, or: f64| std::env::var(name).map_or(or, |text| text.parse().expect("a number"));
    let (seconds, share, faces) = (number("SECONDS", 1_800.0), number("RATE", 0.8), number("FACES", 10_000.0) as usize);
    let Some(kafka) = RealKafka::start("nothing grows for ever") else { return };
    let topics = kafka.topics(None);
    let more = format!("[collections]\nmax_faces = {faces}\n");
    let model = common::project().join("models/demo-128");
    let installation = Installation::new(&Settings { topics: &topics, model: &model, more: &more });
    let daemon = installation.start_with(|command| {
        command.env("FACETD_STATE__SNAPSHOT_INTERVAL", SNAPSHOT_INTERVAL);
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{faces} faces kept, {DIMENSION}-d, {cores} cores, load at the start {}", load());

    let mut mix = Mix::new(faces, Feed::connect(&topics));
    let capacity = capacity(&daemon, &mut mix, faces);
    let rate = capacity * share;
    println!("capacity {capacity:.0} records/s; {seconds:.0} s at {rate:.0} records/s\n");
    wait_for_lag(&daemon);

    let soak = soak(&daemon, &installation.state(), &mut mix, rate, Duration::from_secs_f64(seconds));
    wait_for_lag(&daemon);
    daemon.wait_settled(LIMIT);
    let metric = |name: &str| daemon.metric(name);
    let Mix { new, replaced, erased, .. } = mix;
    println!("\nsent: {new} new, {replaced} replaced, {erased} erased; load at the end {}", load());
    println!(
        "daemon: {} faces, {} replaced, {} duplicates, {} dead letters, {} compactions, {} snapshots failed, {} stale at the end",
        metric("facetd_engine_faces"),
        metric("facetd_engine_replaced_faces_total"),
        metric("facetd_engine_duplicates_total"),
        end_of_topic(&topics.brokers, &topics.dead_letters()),
        metric("facetd_store_compactions_total"),
        metric("facetd_snapshot_failures_total"),
        metric("facetd_engine_stale_faces"),
    );
    assert!(daemon.terminate().success());
    // How much of the state directory is what sled and the vector files have not given back yet.
    print!("facetd compact: {}", output_of(facetd().args(["compact", "--config"]).arg(installation.config())));
    soak.print();
    soak.print_row(faces, cores, capacity, rate);
}

/// Faces that come, are replaced and are erased, always in the same shares.
struct Mix {
    feed: Feed,
    /// Ten times as many as are kept, so that one comes again long after it went.
    embeddings: Vec<f32>,
    /// New ones that are surely there: the younger half of what is kept.
    young: Vec<usize>,
    /// How many that are.
    most_young: usize,
    new: usize,
    replaced: usize,
    erased: usize,
    random: u64,
}

impl Mix {
    fn new(faces: usize, feed: Feed) -> Mix {
        let embeddings =
            Synth { kind: Kind::Albums, faces: 10 * faces, dimension: DIMENSION, seed: SEED }.generate().embeddings;
        let random = 88_172_645_463_325_252;
        Mix { feed, embeddings, young: Vec::new(), most_young: faces / 2, new: 0, replaced: 0, erased: 0, random }
    }

    fn sent(&self) -> u64 {
        (self.new + self.replaced + self.erased) as u64
    }

    fn send(&mut self) {
        let place = self.next() as usize % self.young.len().max(1);
        match self.next() % 100 {
            0..2 if !self.young.is_empty() => {
                // The order of the others is their age.
                let erased = self.young.remove(place);
                self.feed.send(&face_id_of_row(erased), None, "default");
                self.erased += 1;
            }
            2..12 if !self.young.is_empty() => {
                self.send_face(self.young[place], self.new + 5 * self.most_young);
                self.replaced += 1;
            }
            _ => {
                self.send_face(self.new, self.new);
                self.young.push(self.new);
                self.new += 1;
                if self.young.len() > self.most_young {
                    self.young.remove(0);
                }
            }
        }
    }

    fn send_face(&self, face: usize, embedding: usize) {
        let rows = self.embeddings.len() / DIMENSION;
        let embedding = self.embeddings[embedding % rows * DIMENSION..][..DIMENSION].to_vec();
        let payload = json::encode(&Message { embedding, ..Message::default() });
        self.feed.send(&face_id_of_row(face), Some(&payload), "default");
    }

    /// xorshift.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn lag(daemon: &Running) -> u64 {
    daemon.metric("facetd_source_lag_records") as u64
}

fn read(daemon: &Running) -> u64 {
    daemon.metric("facetd_source_records_total") as u64
}

fn wait_for_lag(daemon: &Running) {
    common::wait_for("the backlog to be worked off", LIMIT, || (lag(daemon) == 0).then_some(()));
}

/// Records a second with a backlog that never ends, once the collection is at its limit.
fn capacity(daemon: &Running, mix: &mut Mix, faces: usize) -> f64 {
    let keep_busy = |mix: &mut Mix| {
        while mix.sent() < read(daemon) + BACKLOG {
            (0..500).for_each(|_| mix.send());
            mix.feed.flush();
        }
        std::thread::sleep(TICK);
    };
    let filling = Instant::now();
    while (daemon.metric("facetd_engine_faces") as usize) < faces {
        assert!(filling.elapsed() < LIMIT, "the collection is not full after {LIMIT:?}");
        keep_busy(mix);
    }
    let (started, before) = (Instant::now(), read(daemon));
    while started.elapsed() < CAPACITY_FOR {
        keep_busy(mix);
    }
    (read(daemon) - before) as f64 / started.elapsed().as_secs_f64()
}

/// What is measured at one moment.
struct Sample {
    seconds: f64,
    records: f64,
    resident: f64,
    descriptors: f64,
    sled: f64,
    vectors: f64,
    snapshots: f64,
}

impl Sample {
    fn state(&self) -> f64 {
        self.sled + self.vectors + self.snapshots
    }
}

struct Soak {
    samples: Vec<Sample>,
    /// In records.
    lags: Vec<u64>,
}

fn soak(daemon: &Running, state: &Path, mix: &mut Mix, rate: f64, length: Duration) -> Soak {
    let mut soak = Soak { samples: Vec::new(), lags: Vec::new() };
    let (started, before) = (Instant::now(), mix.sent());
    let (mut next_sample, mut next_lag) = (SAMPLE, LAG_SAMPLE);
    println!("  second    records   resident MiB   descriptors   sled MiB   vectors MiB   snapshots MiB    lag");
    while started.elapsed() < length {
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        while mix.sent() - before < due {
            mix.send();
        }
        std::thread::sleep(TICK);
        if started.elapsed() >= next_lag {
            next_lag += LAG_SAMPLE;
            // Answers are heard while flushing.
            mix.feed.flush();
            soak.lags.push(lag(daemon));
        }
        if started.elapsed() >= next_sample {
            next_sample += SAMPLE;
            let process = daemon.process_id();
            let sample = Sample {
                seconds: started.elapsed().as_secs_f64(),
                records: (mix.sent() - before) as f64,
                resident: resident(process) as f64,
                descriptors: std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as f64,
                sled: size_of(&state.join("sled")) as f64,
                vectors: size_of(&state.join("vectors")) as f64,
                snapshots: size_of(&state.join("snapshots")) as f64,
            };
            println!(
                "{:>8.0} {:>10} {:>14.1} {:>13} {:>10.1} {:>13.1} {:>15.1} {:>6}",
                sample.seconds,
                sample.records,
                mebibytes(sample.resident),
                sample.descriptors,
                mebibytes(sample.sled),
                mebibytes(sample.vectors),
                mebibytes(sample.snapshots),
                soak.lags.last().copied().unwrap_or_default()
            );
            soak.samples.push(sample);
        }
    }
    soak
}

impl Soak {
    fn half(&self) -> &[Sample] {
        &self.samples[self.samples.len() / 2..]
    }

    /// Of the second half, a second and a record.
    fn slopes(&self, value: impl Fn(&Sample) -> f64) -> (f64, f64) {
        let by_time = slope(self.half(), |sample| sample.seconds, &value);
        (by_time, slope(self.half(), |sample| sample.records, &value))
    }

    fn lag(&self, quantile: f64) -> u64 {
        let mut lags = self.lags.clone();
        lags.sort_unstable();
        lags[((lags.len() - 1) as f64 * quantile) as usize]
    }

    fn print(&self) {
        println!("\nslopes of the second half    an hour   1,000 records");
        let row = |name: &str, unit: f64, value: &dyn Fn(&Sample) -> f64| {
            let (by_second, by_record) = self.slopes(value);
            println!("{name:<26} {:>9.2} {:>15.4}", by_second * 3_600.0 / unit, by_record * 1_000.0 / unit);
        };
        row("resident memory, MiB", MEBIBYTE, &|sample| sample.resident);
        row("descriptors", 1.0, &|sample| sample.descriptors);
        row("state directory, MiB", MEBIBYTE, &Sample::state);
        row("  of it sled, MiB", MEBIBYTE, &|sample| sample.sled);
        let (p50, p99, most) = (self.lag(0.5), self.lag(0.99), self.lag(1.0));
        println!("\nlag in records: p50 {p50}, p99 {p99}, most {most}; {} samples", self.lags.len());
    }

    fn print_row(&self, faces: usize, cores: usize, capacity: f64, rate: f64) {
        let last = self.samples.last().expect("a soak takes longer than a sample");
        let most = |value: &dyn Fn(&Sample) -> f64| self.samples.iter().map(value).fold(0.0, f64::max);
        let (memory, state) = (self.slopes(|sample| sample.resident), self.slopes(Sample::state));
        println!(
            "\n| faces kept | cores | capacity, records/s | fed, records/s | for | memory, most | its slope | state directory, \
             most | its slope | lag p50, p99 |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        println!(
            "| {faces} | {cores} | {capacity:.0} | {rate:.0} | {:.0} s | {:.0} MiB | {:+.1} MiB/h, {:+.1} bytes a record | {:.0} MiB \
             | {:+.1} MiB/h, {:+.1} bytes a record | {}, {} records |",
            last.seconds,
            mebibytes(most(&|sample| sample.resident)),
            mebibytes(memory.0 * 3_600.0),
            memory.1,
            mebibytes(most(&Sample::state)),
            mebibytes(state.0 * 3_600.0),
            state.1,
            self.lag(0.5),
            self.lag(0.99),
        );
    }
}

/// The slope of the line of least squares.
fn slope(samples: &[Sample], x: impl Fn(&Sample) -> f64, y: impl Fn(&Sample) -> f64) -> f64 {
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    let (middle, level) = (mean(&x), mean(&y));
    let rise = mean(&|sample| (x(sample) - middle) * (y(sample) - level));
    rise / mean(&|sample| (x(sample) - middle).powi(2))
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / MEBIBYTE
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_string()
}
