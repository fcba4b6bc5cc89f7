//! How large a machine does it take? The daemon as a process behind a real Kafka, with the shipped `varied-*` models and
//! synthetic faces of albums, as many as each of FACES ("10000,100000") says, for each of DIMENSIONS
//! ("128,256,512").
//!
//! At each number: faces a second over the last fifth, with all of them sent beforehand; how long the settling took once
//! the last had come; the most resident memory since the start; the state directory after it; then how long the daemon,
//! stopped, takes to be ready again, and its memory then. A row of the README each. Where Kafka is on the same machine, as
//! here, it takes its share of the cores.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::broker::RealKafka;
use common::daemon::{Installation, Running, Settings};
use common::footprint::{MEBIBYTE, peak_resident, resident, size_of};
use common::kafka_client::Feed;
use common::project;
use facetd::codec::{Message, json};
use facetd::replay::face_id_of_row;
use facetd::synth::{Kind, Synth};

const SEED: u64 = 21;
/// What a number of faces may take.
const LIMIT: Duration = Duration::from_secs(4 * 3_600);

fn main() {
    let numbers = |name: &str, usual: &str| -> Vec<usize> {
        let text = std::env::var(name).unwrap_or_else(|_| usual.to_string());
        text.split(',')
            .map(|number| number.parse().unwrap_or_else(|_| panic!("{name}: {number} is no number")))
            .collect()
    };
    let (stops, dimensions) = (numbers("FACES", "10000,100000"), numbers("DIMENSIONS", "128,256,512"));
    assert!(stops.is_sorted(), "FACES has to grow");
    let Some(kafka) = RealKafka::start("how large a machine it takes") else { return };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores");
    println!(
        "| faces | width | faces/s | settled after | memory, most | state directory | ready again in | memory then |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for dimension in dimensions {
        grow(&kafka, dimension, &stops);
    }
}

/// One daemon that gets more and more faces.
fn grow(kafka: &RealKafka, dimension: usize, stops: &[usize]) {
    let faces = stops.last().copied().unwrap_or_default();
    let embeddings = Synth { kind: Kind::Albums, faces, dimension, seed: SEED }.generate().embeddings;
    let topics = kafka.topics(None);
    let model = project().join(format!("models/varied-{dimension}"));
    let installation = Installation::new(&Settings { topics: &topics, model: &model, more: "" });
    let feed = Feed::connect(&topics);
    let mut daemon = installation.start();
    let mut sent = 0;
    for &stop in stops {
        for row in sent..stop {
            let embedding = embeddings[row * dimension..][..dimension].to_vec();
            let message = Message { embedding, ..Message::default() };
            feed.send(&face_id_of_row(row), Some(&json::encode(&message)), "default");
        }
        feed.flush();
        sent = stop;
        let measured_from = stop - stop / 5;
        wait_for_faces(&daemon, measured_from);
        let (began, from) = (Instant::now(), engine_faces(&daemon));
        wait_for_faces(&daemon, stop);
        let rate = (stop - from) as f64 / began.elapsed().as_secs_f64();
        let settling = Instant::now();
        daemon.wait_settled(LIMIT);
        let settled = settling.elapsed().as_secs_f64();
        let peak = peak_resident(daemon.process_id());
        assert!(daemon.terminate().success(), "{}", installation.log());
        let state = size_of(&installation.state());
        let starting = Instant::now();
        daemon = installation.start();
        let ready = starting.elapsed().as_secs_f64();
        println!(
            "| {stop} | {dimension} | {rate:.0} | {settled:.0} s | {:.0} MiB | {:.0} MiB | {ready:.1} s | {:.0} MiB |",
            peak as f64 / MEBIBYTE,
            state as f64 / MEBIBYTE,
            resident(daemon.process_id()) as f64 / MEBIBYTE,
        );
    }
    assert!(daemon.terminate().success(), "{}", installation.log());
}

fn engine_faces(daemon: &Running) -> usize {
    daemon.metric("facetd_engine_faces") as usize
}

fn wait_for_faces(daemon: &Running, faces: usize) {
    common::wait_for(&format!("{faces} faces"), LIMIT, || (engine_faces(daemon) >= faces).then_some(()));
}
