//! How long is a restart? COUNT faces (100,000) of DIMENSION values (256) with as many neighbours as the shipped
//! model's; the model itself is a plain mean, so that what is timed is facetd. The state is made up, since
//! searching for so many takes a while: eight faces a person, each linked to the other seven and to nine
//! strangers, written as a daemon writes it: commits of 256, in which four other faces a newcomer have their
//! linkages written again, and events, which are published. So it is settled, and a snapshot says so.
//!
//! Prints the pause of a cut and what it takes to write, then each part of a restart alone, then the whole as
//! the daemon does it: settled, after TAIL more faces (256), and, with REBUILD=1, without a snapshot.
//! Beside each time, the processor's: on a machine that is busy with other work it is the one to read.
//! Files are read from the page cache: where the machine was restarted too, the disk's own time comes on top.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use facetd::config::Config;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::Engine;
use facetd::engine::changes::{Changes, Counters, FaceRecord, KeptFace, KeptLinkage, KeptLinkages, NewVector};
use facetd::engine::event::{Cause, Change, Cluster, Event};
use facetd::engine::graph::Lists;
use facetd::engine::snapshot::Snapshot;
use facetd::face::{
    Arrival, ClusterId, CollectionName, Embedding, Face, FaceId, NodeId, Offset, Partition, Place, Timestamp,
};
use facetd::metrics::Metrics;
use facetd::model::{Artefact, EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Shape, Stage};
use facetd::source::{Content, Intake, Record};
use facetd::store::{CollectionCommit, Commit, Model, Published, SnapshotName, Store};
use facetd::view::View;

/// g is the mean of a face and its neighbours; a linkage is the cosine of two g above a half.
struct Mean(Shape);

impl FaceTransformer for Mean {
    fn shape(&self) -> Shape {
        self.0
    }

    fn edges(&self) -> &[EdgeFeature] {
        &[]
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let Shape { dimension, hop2, .. } = self.0;
        let mut enhanced = rows.faces.clone();
        for (row, g) in enhanced.chunks_mut(dimension).enumerate() {
            let neighbours = rows.neighbours.chunks(dimension).zip(&rows.mask).skip(row * hop2).take(hop2);
            for (neighbour, _) in neighbours.filter(|(_, there)| **there) {
                g.iter_mut().zip(neighbour).for_each(|(g, value)| *g += value);
            }
            let length = g.iter().map(|value| value * value).sum::<f32>().sqrt();
            g.iter_mut().for_each(|g| *g /= length.max(f32::MIN_POSITIVE));
        }
        Ok(enhanced)
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let Shape { dimension, hop1, .. } = self.0;
        let linkage = |(place, &there): (usize, &bool)| {
            let face = &rows.faces[place / hop1 * dimension..][..dimension];
            let neighbour = &rows.neighbours[place * dimension..][..dimension];
            let cosine: f32 = face.iter().zip(neighbour).map(|(a, b)| a * b).sum();
            if there { ((cosine - 0.5) * 2.0).clamp(0.0, 1.0) } else { 0.0 }
        };
        Ok(rows.mask.iter().enumerate().map(linkage).collect())
    }
}

struct Bench {
    state: PathBuf,
    settings: ShardSettings,
    model: Arc<Mean>,
    collection: CollectionName,
}

impl Bench {
    fn open(&self) -> Shard {
        let (view, metrics) = (Arc::new(View::default()), Arc::new(Metrics::new()));
        Shard::open(&self.state, self.settings.clone(), self.model.clone(), view, metrics).unwrap()
    }
}

fn main() {
    let number = |name, or| std::env::var(name).map_or(or, |text: String| text.parse().expect("a number"));
    let (count, dimension, tail) = (number("COUNT", 100_000), number("DIMENSION", 256), number("TAIL", 256));
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artefact = Artefact::open(&project.join("models/demo-128"), Stage::ReLp).unwrap();
    let mut settings = ShardSettings::new(&Config::parse("", std::iter::empty()).unwrap(), &artefact);
    settings.model = Model { fingerprint: "mean".into(), dimension };
    // Only when it stops: nothing else is to be timed meanwhile.
    settings.snapshot_interval = Some(Duration::MAX);
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        state: folder.path().join("state"),
        settings,
        model: Arc::new(Mean(Shape { dimension, ..artefact.shape })),
        collection: CollectionName::new("default").unwrap(),
    };
    println!("{count} faces, {dimension}-d, {} neighbours, {} cores", artefact.shape.hop1, cores());
    let mut people = People { dimension, last: 0, sequence: 0, random: 88_172_645_463_325_252 };
    let started = Instant::now();
    people.fill(&bench, count as u64);
    println!("state made up in {:.0} s", started.elapsed().as_secs_f64());
    cut(&bench);
    parts(&bench);
    println!("\nthe whole, as the daemon does it");
    for _ in 0..3 {
        whole(&bench, "settled");
    }
    let mut shard = bench.open();
    let faces: Vec<Intake> = (0..tail).map(|row| face(row, people.embedding(row as u64))).collect();
    let (_, seconds) = timed(|| shard.apply(faces, Timestamp(1)).unwrap());
    println!("  ({tail} more faces applied in {seconds})");
    drop(shard);
    whole(&bench, &format!("{tail} faces came since"));
    if number("REBUILD", 0) == 1 {
        std::fs::remove_dir_all(bench.state.join("snapshots")).unwrap();
        whole(&bench, "without a snapshot");
    }
}

/// Faces of people who do not exist.
struct People {
    dimension: usize,
    last: u64,
    sequence: u64,
    random: u64,
}

/// Faces a person.
const A_PERSON: u64 = 8;
/// Faces of a commit, and how many others have their linkages written again for each.
const BATCH: u64 = 256;
const REFRESHED: u64 = 4;
/// How like each other two faces of a person are, and two of different people who are neighbours.
const ALIKE: f32 = 0.7;
const UNLIKE: f32 = 0.3;

impl People {
    fn fill(&mut self, bench: &Bench, count: u64) {
        let mut store = Store::open(&bench.state, &bench.settings.model).unwrap();
        while self.last < count {
            let changes = self.batch(BATCH.min(count - self.last));
            let collections = vec![CollectionCommit { collection: bench.collection.clone(), changes }];
            store.commit(&Commit { collections, ..Commit::default() }).unwrap();
            let outbox = store.outbox();
            outbox.acknowledge(&Published::up_to(outbox.durable().sequence)).unwrap();
        }
        let name = SnapshotName { collection: bench.collection.clone(), sequence: store.commit_sequence() };
        store.snapshots().write(&name, &self.snapshot(bench), None, &|| false).unwrap();
    }

    fn batch(&mut self, faces: u64) -> Changes {
        let mut changes = Changes::default();
        let first = self.last + 1;
        self.last += faces;
        for number in first..=self.last {
            changes.faces.push(KeptFace { node: node(number), record: record(number) });
            changes.vectors.push(NewVector { node: node(number), embedding: self.embedding(number) });
            self.sequence += 1;
            let change = Change::Created { cluster: self.cluster(number), face: id(number) };
            let cause = Cause::Record(place(number));
            changes.events.push(Event { sequence: self.sequence, cause, change, retired: Vec::new() });
        }
        for number in
            (first..=self.last).chain((0..faces * REFRESHED).map(|_| 1 + self.next() % self.last).collect::<Vec<_>>())
        {
            let neighbours = self.neighbours(number).into_iter().take(16);
            let kept = |(other, similarity): (u64, f32)| KeptLinkage {
                candidate: Arrival(other),
                probability: if similarity > UNLIKE { 0.9 } else { 0.01 },
            };
            changes.linkages.push(KeptLinkages { node: node(number), linkages: neighbours.map(kept).collect() });
        }
        // A person who was there grows.
        let clusters = (first - 1) / A_PERSON..=(self.last - 1) / A_PERSON;
        changes.clusters = clusters.map(|person| self.cluster(person * A_PERSON + 1)).collect();
        let cluster = (self.last - 1) / A_PERSON + 1;
        changes.counters = Counters { sequence: self.sequence, settled: self.sequence, cluster, arrival: self.last };
        changes
    }

    /// The cluster of a face's person, as large as it is by now.
    fn cluster(&self, number: u64) -> Cluster {
        let person = (number - 1) / A_PERSON;
        let size = (self.last - person * A_PERSON).min(A_PERSON) as u32;
        Cluster { id: ClusterId(person + 1), merged_into: None, size, version: 1, pinned: false, name: None }
    }

    /// The neighbours of a face and its reserve, by number, nearest first: its person, then strangers. The same
    /// whenever it is asked, but that a person may have grown.
    fn neighbours(&mut self, number: u64) -> Vec<(u64, f32)> {
        let first = (number - 1) / A_PERSON * A_PERSON + 1;
        let person = (first..=self.last.min(first + A_PERSON - 1)).filter(|&other| other != number);
        let mut neighbours: Vec<(u64, f32)> = person.map(|other| (other, ALIKE)).collect();
        let before = first - 1;
        let strangers = before.min(24 - neighbours.len() as u64);
        neighbours.extend((0..strangers).map(|step| (1 + (number * 7919 + step * 104_729) % before, UNLIKE)));
        neighbours.dedup();
        neighbours
    }

    /// What an engine would have derived.
    fn snapshot(&mut self, bench: &Bench) -> Snapshot {
        let empty = Engine::new(&bench.settings.engine(&bench.collection), bench.model.clone()).cut();
        let mut lists = Lists::default();
        for number in 1..=self.last {
            let neighbours = self.neighbours(number);
            lists.lengths.push(neighbours.len() as u16);
            lists.flags.push(0);
            lists.searched_at.push(number);
            lists.nodes.extend(neighbours.iter().map(|&(other, _)| node(other).0));
            lists.similarities.extend(neighbours.iter().map(|&(_, similarity)| similarity));
        }
        let person = |number: u64| (number - 1) / A_PERSON;
        let width = self.dimension;
        Snapshot {
            arrivals: (1..=self.last).collect(),
            enhanced: (0..self.last as usize * width).map(|_| self.value()).collect(),
            lists,
            components: (1..=self.last).map(|number| person(number) as u32).collect(),
            clusters: (1..=self.last).map(|number| person(number) + 1).collect(),
            ..empty
        }
    }

    fn embedding(&mut self, number: u64) -> Embedding {
        let mut middle = People { random: 1 + (number / A_PERSON).wrapping_mul(0x9e37_79b9_7f4a_7c15), ..*self };
        let values: Vec<f32> = (0..self.dimension).map(|_| middle.value() + 0.6 * self.value()).collect();
        Embedding::normalise(&values, self.dimension).unwrap()
    }

    /// −1 to 1.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// xorshift: enough to keep anything from compressing or repeating.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn node(number: u64) -> NodeId {
    NodeId(number as u32 - 1)
}

fn id(number: u64) -> FaceId {
    FaceId::new(&format!("cam3/2026-11-23T18:00:00.{number:09}Z/0")).unwrap()
}

fn place(number: u64) -> Place {
    Place { partition: Partition(0), offset: Offset(number as i64) }
}

fn record(number: u64) -> FaceRecord {
    FaceRecord {
        id: id(number),
        arrival: Arrival(number),
        home: ClusterId((number - 1) / A_PERSON + 1),
        home_version: 1,
        frame_id: Some(FaceId::new(&format!("cam3/{number}")).unwrap()),
        quality: Some(0.83),
        captured_at: Some(Timestamp(1_795_000_000_000 + number as i64)),
        arrived_at: Timestamp(1_795_000_000_000 + number as i64),
        place: place(number),
    }
}

/// The pause, and what a thread in the background does after it.
fn cut(bench: &Bench) {
    let shard = bench.open();
    let engine = shard.engine(&bench.collection).expect("it was made up");
    println!("{} faces, {} clusters, {} stale", engine.len(), engine.clusters().book().living(), engine.stale());
    let (snapshot, pause) = timed(|| engine.cut());
    let snapshots = shard.store().snapshots();
    let name = SnapshotName { collection: bench.collection.clone(), sequence: shard.store().commit_sequence() };
    let (bytes, written) = timed(|| snapshots.write(&name, &snapshot, None, &|| false).unwrap());
    println!(
        "\na snapshot   pause {:.3} s, {:.0} MB written in {:.2} s",
        pause.seconds,
        megabytes(bytes.unwrap()),
        written.seconds
    );
    println!("the state    {:.0} MB", megabytes(shard.store().size_on_disk().unwrap()));
}

fn parts(bench: &Bench) {
    let name = &bench.collection;
    println!("\neach part alone            time  processor");
    let (store, seconds) = timed(|| Store::open(&bench.state, &bench.settings.model).unwrap());
    println!("  sled opened          {seconds}");
    let snapshots = store.snapshots();
    let names = snapshots.names().unwrap();
    let (_, seconds) = timed(|| snapshots.newest(name, &names, store.commit_sequence()).expect("there is one"));
    println!("  snapshot read        {seconds}");
    let (_, seconds) = timed(|| store.restored(name).unwrap());
    println!("  sled and vectors     {seconds}");
    let (resumed, seconds) = timed(|| store.resumed(name, &names).unwrap());
    println!("  both                 {seconds}");
    let (engine, seconds) =
        timed(|| Engine::restore(&bench.settings.engine(name), bench.model.clone(), resumed.restored).unwrap());
    println!("  engine               {seconds}");
    let (_, seconds) = timed(|| drop(engine));
    println!("  (engine dropped      {seconds})");
}

fn whole(bench: &Bench, what: &str) {
    let (shard, seconds) = timed(|| bench.open());
    let engine = shard.engine(&bench.collection).expect("it was made up");
    println!("  {what:<24} {seconds}, {} faces, {} stale", engine.len(), engine.stale());
}

/// How long something took.
struct Took {
    seconds: f64,
    /// Of all threads together.
    processor: f64,
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>6.2} s {:>6.2} s", self.seconds, self.processor)
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (started, before) = (Instant::now(), processor());
    let done = work();
    (done, Took { seconds: started.elapsed().as_secs_f64(), processor: processor() - before })
}

/// Seconds of processor time this process has used.
fn processor() -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = status.rsplit_once(')').expect("the name of the process ends so").1;
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS_A_SECOND
}

/// One that comes after all others.
fn face(row: usize, embedding: Embedding) -> Intake {
    let place = Place { partition: Partition(0), offset: Offset(row as i64) };
    let id = FaceId::new(&format!("cam4/{row}")).unwrap();
    let record = Record {
        place,
        key: Some(id.as_str().as_bytes().into()),
        payload_bytes: 0,
        payload_sha256: [0; 32],
        timestamp: None,
        followed: None,
    };
    let face = Face { id, embedding, frame_id: None, quality: None, captured_at: None, place };
    Intake { record, content: Content::Face { collection: CollectionName::new("default").unwrap(), face } }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
