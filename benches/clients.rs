//! What HTTP clients cost the stream: faces through a daemon with nobody there, and with 500 idle and 200 busy clients,
//! slow readers among them, in turns.
//!
//! The daemon is held to one core and all else, Kafka and clients, to another. The topic is full before the daemon
//! starts, so the stream is at capacity. An idle client holds an event stream of a collection in which nothing happens.
//! Of the busy ones 150 ask once a second, for a face, a page of clusters or a collection in turn; 30 follow the events
//! of all faces as they are told; 20 do so and read a kilobyte a second.
//!
//! A machine that others share is faster in one minute than in the next, so turns are short: clients come and leave
//! again and again within a stream. The faces of one turn may ask more of the engine than those of another, so streams
//! come in twos: in the second, clients are there for the turns in which the first was alone. A ratio is of two turns
//! that follow one another in both, which leaves neither the faces' part in it nor the minute's:
//! √(with₁/alone₁ · with₂/alone₂).
//!
//! FACES says how many in a stream (24000), STREAMS how many of these (14). Read the ratios: absolute numbers are of one
//! machine at one moment. Of a core that is never idle, the engine's share is the same ratio less what others do to the
//! speed of that core.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::broker::RealKafka;
use common::daemon::{Installation, Running, Settings};
use common::kafka_client::Feed;
use common::{output_of, project, wait_for};
use facetd::codec::{Message, json};
use facetd::replay::face_id_of_row;
use facetd::synth::{Kind, Synth};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const DIMENSION: usize = 128;
const SEED: u64 = 21;
const LIMIT: Duration = Duration::from_secs(600);
/// Faces before the first turn: the smaller the index, the more changes from one face to the next.
const SMALL: usize = 8000;
/// Faces of a turn, of which the second half is measured: in the first, clients come or leave.
const TURN: usize = 4000;
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
const FACES: &str = "facetd_engine_faces";
const CONNECTIONS: &str = "facetd_http_connections";

fn main() {
    let number = |name: &str, usual: usize| {
        std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (count, streams) = (number("FACES", 24_000), number("STREAMS", 14));
    let turns = count.saturating_sub(SMALL) / TURN / 2 * 2;
    assert!(turns > 0 && streams % 2 == 0, "FACES has to be at least {}, and STREAMS even", SMALL + 2 * TURN);
    // Threads that come later are where the one is that made them.
    pin(std::process::id(), OUR_CORE);
    let embeddings = Synth { kind: Kind::Albums, faces: count, dimension: DIMENSION, seed: SEED }.generate().embeddings;
    let Some(kafka) = RealKafka::start("what clients cost the stream") else { return };
    let runtime = Runtime::new().unwrap();
    println!(
        "{streams} streams of {count} faces; {IDLE} idle clients, {ASKING} that ask, {FOLLOWING} that follow, {SLOW} slow"
    );
    println!("           faces/s            engine's share of the core          seen by clients");
    println!("    alone    with   ratio      alone    with   ratio      answers/s   p50 ms   p99 ms   events/s");
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..streams / 2 {
        let stream = |first| stream(&kafka, &embeddings, &runtime, turns, first);
        let (first, second) = (stream(false), stream(true));
        for (first, second) in first.chunks(2).zip(second.chunks(2)) {
            let ([alone, with], [with_too, alone_too]) = (first, second) else { unreachable!("turns are even") };
            let of = |value: fn(&Turn) -> f64| {
                let mean = |one, two| (value(one) * value(two)).sqrt();
                (mean(alone, alone_too), mean(with, with_too))
            };
            let (rate, share) = (of(|turn| turn.rate), of(|turn| turn.share));
            let (rate_ratio, share_ratio) = (rate.1 / rate.0, share.1 / share.0);
            let load = with.load.as_ref().expect("there were clients");
            println!(
                "   {:>6.0}  {:>6.0}   {rate_ratio:>5.3}     {:>6.3}  {:>6.3}   {share_ratio:>5.3}         {:>6.0}   {:>6.1}   {:>6.1}     {:>6.0}",
                rate.0,
                rate.1,
                share.0,
                share.1,
                load.milliseconds.len() as f64 / load.seconds,
                quantile(&load.milliseconds, 0.5),
                quantile(&load.milliseconds, 0.99),
                load.events as f64 / load.seconds,
            );
            rates.push(rate_ratio);
            shares.push(share_ratio);
        }
    }
    for (what, mut ratios) in [("the stream's rate", rates), ("the engine's share", shares)] {
        ratios.sort_by(f64::total_cmp);
        let [quarter, half, three_quarters] = [0.25, 0.5, 0.75].map(|place| quantile(&ratios, place));
        println!(
            "{what}: {:.1} % lost (median ratio {half:.3} of {}, quartiles {quarter:.3} and {three_quarters:.3})",
            100.0 * (1.0 - half),
            ratios.len(),
        );
    }
}

fn pin(process: u32, core: &str) {
    output_of(Command::new("taskset").args(["-a", "-c", "-p", core, &process.to_string()]));
}

/// Of values in order; between two of them where it lies between two.
fn quantile(values: &[f64], quantile: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = quantile * last as f64;
    let (below, above) = (values[place as usize], values[last.min(place as usize + 1)]);
    below + (above - below) * place.fract()
}

/// All faces through a daemon of its own, with clients in every second turn: the first, or the one after it.
fn stream(kafka: &RealKafka, embeddings: &[f32], runtime: &Runtime, turns: usize, mut with: bool) -> Vec<Turn> {
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
        wait_for(&path, LIMIT, || is_there(&path).then_some(()));
    }
    let begin = (SMALL..).step_by(TURN).take(turns);
    let turn = |begin: usize| {
        daemon.wait_metric(FACES, begin as f64, LIMIT);
        let clients = with.then(|| Clients::come(runtime, &daemon, installation.address()));
        with = !with;
        let turn = Turn::measure(&daemon, begin + TURN / 2, begin + TURN);
        Turn { load: clients.map(|clients| clients.leave(runtime, &daemon)), ..turn }
    };
    begin.map(turn).collect()
}

struct Turn {
    /// Faces a second.
    rate: f64,
    /// Of the core, that the engine's threads had.
    share: f64,
    load: Option<Load>,
}

impl Turn {
    /// From the end of a batch to the end of another.
    fn measure(daemon: &Running, from: usize, to: usize) -> Turn {
        let already = daemon.metric(FACES);
        assert!(
            already < from as f64,
            "clients came so slowly, or the faces went by so fast, that TURN has to be longer"
        );
        daemon.wait_metric(FACES, from as f64, LIMIT);
        let (started, busy_before, before) = (Instant::now(), busy(daemon), daemon.metric(FACES));
        daemon.wait_metric(FACES, to as f64, LIMIT);
        let (seconds, busy, after) = (started.elapsed().as_secs_f64(), busy(daemon), daemon.metric(FACES));
        Turn { rate: (after - before) / seconds, share: (busy - busy_before) / seconds, load: None }
    }
}

/// Processor time of the engine's threads, in seconds.
fn busy(daemon: &Running) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.process_id())).expect("the daemon runs");
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let read = |name| fs::read_to_string(thread.path().join(name)).ok();
        let is_engine = read("comm")?.trim_end() == "engine";
        is_engine.then(|| read("schedstat")?.split(' ').next()?.parse::<f64>().ok()).flatten()
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// What the clients saw.
struct Load {
    seconds: f64,
    events: u64,
    /// Of each answer, in order.
    milliseconds: Vec<f64>,
}

struct Clients {
    all: JoinSet<()>,
    since: Instant,
    events: Arc<AtomicU64>,
    times: mpsc::UnboundedReceiver<f64>,
}

impl Clients {
    /// When all of them are there.
    fn come(runtime: &Runtime, daemon: &Running, address: &str) -> Clients {
        let address = address.parse().expect("the daemon's address is one");
        let (sender, mut times) = mpsc::unbounded_channel();
        let (mut all, events) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        let mut follow = |path: &'static str, counted: Option<Arc<AtomicU64>>, slowly: bool| {
            all.spawn_on(follow(address, path, counted, slowly), runtime.handle());
        };
        (0..IDLE).for_each(|_| follow("/v1/collections/quiet/events", None, false));
        (0..FOLLOWING).for_each(|_| follow("/v1/collections/default/events", Some(events.clone()), false));
        (0..SLOW).for_each(|_| follow("/v1/collections/default/events", None, true));
        for client in 0..ASKING {
            all.spawn_on(ask(address, client, sender.clone()), runtime.handle());
        }
        daemon.wait_metric(CONNECTIONS, (IDLE + FOLLOWING + SLOW + ASKING) as f64, LIMIT);
        while times.try_recv().is_ok() {}
        events.store(0, Ordering::Relaxed);
        Clients { all, since: Instant::now(), events, times }
    }

    fn leave(mut self, runtime: &Runtime, daemon: &Running) -> Load {
        let (seconds, events) = (self.since.elapsed().as_secs_f64(), self.events.load(Ordering::Relaxed));
        assert!(self.all.try_join_next().is_none(), "a client stopped");
        let mut milliseconds: Vec<f64> = std::iter::from_fn(|| self.times.try_recv().ok()).collect();
        milliseconds.sort_by(f64::total_cmp);
        runtime.block_on(self.all.shutdown());
        // The one left is who asks for it.
        wait_for("all clients to be gone", LIMIT, || (daemon.metric(CONNECTIONS) <= 1.0).then_some(()));
        Load { seconds, events, milliseconds }
    }
}

/// Asks at its own moment of each second. Whatever fails is a panic that the bench shows.
async fn ask(address: SocketAddr, client: usize, times: mpsc::UnboundedSender<f64>) {
    tokio::time::sleep(EVERY * client as u32 / ASKING as u32).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("the daemon takes connections"));
    let mut due = tokio::time::interval(EVERY);
    let mut turn = client;
    loop {
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

async fn follow(address: SocketAddr, path: &str, counted: Option<Arc<AtomicU64>>, slowly: bool) {
    let socket = TcpSocket::new_v4().expect("a socket");
    if slowly {
        // Else the system takes some megabytes for it before the daemon sees how slow it is.
        socket.set_recv_buffer_size(SIP as u32).expect("a socket");
    }
    let stream = socket.connect(address).await.expect("the daemon takes connections");
    let mut stream = BufReader::with_capacity(if slowly { SIP } else { 1 << 16 }, stream);
    stream.write_all(request(path).as_bytes()).await.expect("a request is taken");
    head(&mut stream).await;
    let mut sip = vec![0; SIP];
    loop {
        if slowly {
            tokio::time::sleep(EVERY).await;
            assert!(stream.read(&mut sip).await.expect("a connection") > 0, "it is not let go of");
            continue;
        }
        let read = stream.fill_buf().await.expect("a connection");
        assert!(!read.is_empty(), "it is not let go of");
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
