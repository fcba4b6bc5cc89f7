//! What HTTP clients cost the stream: the same faces through the daemon with nobody there, and with 500 idle and 200
//! busy clients, slow readers among them, in turns.
//!
//! The daemon is held to one core and all else, Kafka and clients, to another. The topic is full before the daemon
//! starts, so the stream is at capacity. An idle client holds an event stream of a collection in which nothing happens.
//! Of the busy ones 150 ask once a second, for a face, a page of clusters or a collection in turn; 30 follow the events
//! of all faces as they are told; 20 do so and read a kilobyte a second. FACES and PAIRS set how many (20000, 7). Read
//! the ratios: absolute numbers are of one machine at one moment.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::broker::RealKafka;
use common::daemon::{Installation, Running, Settings};
use common::kafka_client::Feed;
use common::{output_of, project};
use facetd::codec::{Message, json};
use facetd::replay::face_id_of_row;
use facetd::synth::{Kind, Synth};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const DIMENSION: usize = 128;
const SEED: u64 = 21;
const LIMIT: Duration = Duration::from_secs(600);
const IDLE: usize = 500;
const ASKING: usize = 150;
const FOLLOWING: usize = 30;
const SLOW: usize = 20;
/// How often somebody who asks does.
const EVERY: Duration = Duration::from_secs(1);
/// What a slow reader takes in that time, in bytes.
const SIP: usize = 1024;
/// Faces that are asked for.
const FIRST: usize = 100;
const DAEMON_CORE: &str = "0";
const OUR_CORE: &str = "1";

fn main() {
    let number = |name: &str, usual: usize| {
        std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (count, pairs) = (number("FACES", 20_000), number("PAIRS", 7));
    // Threads that come later are where the one is that made them.
    pin(std::process::id(), OUR_CORE);
    let embeddings = Synth { kind: Kind::Albums, faces: count, dimension: DIMENSION, seed: SEED }.generate().embeddings;
    let Some(kafka) = RealKafka::start("what clients cost the stream") else { return };
    let runtime = Runtime::new().unwrap();
    println!(
        "{count} faces, {pairs} pairs; {IDLE} idle clients, {ASKING} that ask, {FOLLOWING} that follow, {SLOW} slow"
    );
    println!("pair   alone faces/s   with clients   ratio   answers/s   p50 ms   p99 ms   events/s to clients");
    let mut ratios = Vec::new();
    for pair in 1..=pairs {
        // Whoever goes first may find a warmer machine.
        let (alone, with) = match pair % 2 {
            0 => {
                let with = stream(&kafka, &embeddings, count, Some(&runtime));
                (stream(&kafka, &embeddings, count, None), with)
            }
            _ => (stream(&kafka, &embeddings, count, None), stream(&kafka, &embeddings, count, Some(&runtime))),
        };
        let ratio = with.rate / alone.rate;
        let load = with.load.expect("there were clients");
        println!(
            "{pair:>4}   {:>13.0}   {:>12.0}   {ratio:>5.3}   {:>9.0}   {:>6.1}   {:>6.1}   {:>8.0}",
            alone.rate,
            with.rate,
            load.answers as f64 / with.seconds,
            load.quantile(0.5),
            load.quantile(0.99),
            load.events as f64 / with.seconds,
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3}: the stream loses {:.1} %", ratios[pairs / 2], 100.0 * (1.0 - ratios[pairs / 2]));
}

fn pin(process: u32, core: &str) {
    output_of(Command::new("taskset").args(["-a", "-c", "-p", core, &process.to_string()]));
}

struct Streamed {
    /// Faces a second.
    rate: f64,
    seconds: f64,
    load: Option<Load>,
}

/// All faces through a daemon of its own; the first fifth is not measured.
fn stream(kafka: &RealKafka, embeddings: &[f32], count: usize, clients: Option<&Runtime>) -> Streamed {
    let topics = kafka.topics(None);
    let feed = Feed::connect(&topics);
    let send = |id: &str, embedding: &[f32], collection: &str| {
        let message = Message { embedding: embedding.to_vec(), ..Message::default() };
        feed.send(id, Some(&json::encode(&message)), collection);
    };
    send("nobody", &embeddings[..DIMENSION], "quiet");
    for (row, embedding) in embeddings.chunks(DIMENSION).enumerate() {
        send(&face_id_of_row(row), embedding, "default");
    }
    feed.flush();
    let model = project().join("models/demo-128");
    let more = "connections = 1000\n[log]\nlevel = \"warn\"";
    let installation = Installation::new(&Settings { topics: &topics, model: &model, more });
    let daemon = installation.start();
    pin(daemon.process_id(), DAEMON_CORE);
    // Whatever is asked for is there by then.
    let is_there = |path: &str| daemon.get(path).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
    let first_faces = (0..FIRST).map(|row| format!("/v1/collections/default/faces/{}", face_id_of_row(row)));
    for path in first_faces.chain(["/v1/collections/quiet".to_string()]) {
        common::wait_for(&path, LIMIT, || is_there(&path).then_some(()));
    }
    let clients = clients.map(|runtime| (runtime, Clients::come(runtime, installation.address())));
    daemon.wait_metric("facetd_engine_faces", (count / 5) as f64, LIMIT);
    let (started, before) = (Instant::now(), faces(&daemon));
    daemon.wait_metric("facetd_engine_faces", (count - count / 20) as f64, LIMIT);
    let (done, seconds) = (faces(&daemon) - before, started.elapsed().as_secs_f64());
    let load = clients.map(|(runtime, clients)| clients.leave(runtime));
    drop(daemon);
    Streamed { rate: done / seconds, seconds, load }
}

fn faces(daemon: &Running) -> f64 {
    daemon.metric("facetd_engine_faces")
}

/// What the clients saw.
struct Load {
    answers: usize,
    events: u64,
    /// Of each answer, in order.
    milliseconds: Vec<f64>,
}

impl Load {
    fn quantile(&self, quantile: f64) -> f64 {
        let place = (self.milliseconds.len() as f64 * quantile) as usize;
        self.milliseconds.get(place.min(self.milliseconds.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

struct Clients {
    stop: Arc<AtomicBool>,
    events: Arc<AtomicU64>,
    times: mpsc::UnboundedReceiver<f64>,
}

impl Clients {
    fn come(runtime: &Runtime, address: &str) -> Clients {
        let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sender, times) = mpsc::unbounded_channel();
        let follow = |path: &'static str, counted: Option<Arc<AtomicU64>>, slowly: bool| {
            let (address, stop) = (address.to_string(), stop.clone());
            runtime.spawn(async move { follow(&address, path, counted, slowly, &stop).await });
        };
        (0..IDLE).for_each(|_| follow("/v1/collections/quiet/events", None, false));
        (0..FOLLOWING).for_each(|_| follow("/v1/collections/default/events", Some(events.clone()), false));
        (0..SLOW).for_each(|_| follow("/v1/collections/default/events", None, true));
        for client in 0..ASKING {
            let (address, stop, sender) = (address.to_string(), stop.clone(), sender.clone());
            runtime.spawn(async move { ask(&address, client, &sender, &stop).await });
        }
        Clients { stop, events, times }
    }

    fn leave(mut self, runtime: &Runtime) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        let mut milliseconds = Vec::new();
        runtime.block_on(async {
            while let Some(time) = self.times.recv().await {
                milliseconds.push(time);
            }
        });
        milliseconds.sort_by(f64::total_cmp);
        Load { answers: milliseconds.len(), events: self.events.load(Ordering::Relaxed), milliseconds }
    }
}

/// Asks at its own moment of each second. Whatever fails is a panic that the bench shows.
async fn ask(address: &str, client: usize, times: &mpsc::UnboundedSender<f64>, stop: &AtomicBool) {
    tokio::time::sleep(EVERY * client as u32 / ASKING as u32).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("the daemon takes connections"));
    let mut due = tokio::time::interval(EVERY);
    let mut turn = client;
    while !stop.load(Ordering::Relaxed) {
        due.tick().await;
        turn += 1;
        let face = face_id_of_row(turn * 7919 % FIRST);
        let path = match turn % 3 {
            0 => format!("/v1/collections/default/faces/{face}"),
            1 => "/v1/collections/default/clusters?limit=20".to_string(),
            _ => "/v1/collections/default".to_string(),
        };
        let asked = Instant::now();
        stream.write_all(request(&path).as_bytes()).await.expect("a request is taken");
        let length = head(&mut stream).await.expect("an answer has a length");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("an answer is whole");
        // Nobody listens any more once the clients leave.
        let _ = times.send(asked.elapsed().as_secs_f64() * 1e3);
    }
}

async fn follow(address: &str, path: &str, counted: Option<Arc<AtomicU64>>, slowly: bool, stop: &AtomicBool) {
    let stream = TcpStream::connect(address).await.expect("the daemon takes connections");
    let mut stream = BufReader::with_capacity(if slowly { SIP } else { 1 << 16 }, stream);
    stream.write_all(request(path).as_bytes()).await.expect("a request is taken");
    head(&mut stream).await;
    let mut sip = vec![0; SIP];
    while !stop.load(Ordering::Relaxed) {
        if slowly {
            tokio::time::sleep(EVERY).await;
            if stream.read(&mut sip).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        }
        let Ok(Ok(read)) = tokio::time::timeout(EVERY, stream.fill_buf()).await else { continue };
        if read.is_empty() {
            return;
        }
        let (events, bytes) = (read.windows(5).filter(|part| part == b"\nid: ").count(), read.len());
        stream.consume(bytes);
        if let Some(counted) = &counted {
            counted.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")
}

/// Reads the head of an answer, which has to be 200; its content-length, if it has one.
async fn head(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let (mut line, mut length) = (String::new(), None);
    stream.read_line(&mut line).await.expect("an answer");
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line.trim_end() != "" {
        line.clear();
        stream.read_line(&mut line).await.expect("a head");
        length = line.to_lowercase().strip_prefix("content-length:").and_then(|it| it.trim().parse().ok()).or(length);
    }
    length
}
