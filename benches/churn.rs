//! Does a state grow for ever while faces come and go? A store under what retention does to it:
//! every commit brings 64
//! faces and erases the 64 oldest, writes the linkages of five faces for each newcomer and tells two
//! events, which are published; the vector file is compacted and sled written anew when that is due.
//!
//! Prints the bytes on disk and resident at each tenth, the most on disk in each half and the slope of memory
//! over the last, in bytes an arrival; then what compacting, opening and backing up cost. LIVE (20000) and ARRIVALS (200000) set the size; SUPPRESS=1 has every erased id suppressed,
//! whose list does grow.

#[path = "../tests/common/footprint.rs"]
#[allow(dead_code)] // the others' parts
mod footprint;

use std::time::Instant;

use facetd::engine::changes::{Changes, Counters, FaceRecord, KeptFace, KeptLinkage, KeptLinkages, NewVector};
use facetd::engine::event::{Cause, Change, Cluster, Event};
use facetd::face::{
    Arrival, ClusterId, CollectionName, Embedding, FaceId, NodeId, Offset, Partition, Place, Timestamp,
};
use facetd::store::{CollectionCommit, Commit, FaceKey, Model, Published, Store};

use footprint::{resident, size_of};

const DIMENSION: usize = 128;
const BATCH: u64 = 64;
const LINKAGES: u64 = 24;
/// Other faces whose linkages are scored again, for each newcomer.
const REFRESHED: u64 = 4;

fn main() {
    let number = |name, or| std::env::var(name).map_or(or, |text: String| text.parse().expect("a number"));
    let (live, arrivals): (u64, u64) = (number("LIVE", 20_000), number("ARRIVALS", 200_000));
    let suppress = number("SUPPRESS", 0) == 1;
    let folder = tempfile::tempdir().unwrap();
    let model = Model { fingerprint: "model".into(), dimension: DIMENSION };
    let mut store = Store::open(folder.path(), &model).unwrap();
    let collection = CollectionName::new("default").unwrap();
    let mut churn = Churn { live, last: 0, sequence: 0, random: 88_172_645_463_325_252 };
    let mut points = Vec::new();
    let (mut longest_compaction, mut longest_rewrite) = (0.0f64, 0.0f64);
    let (mut compactions, mut rewrites, started) = (0, 0, Instant::now());
    println!("{live} live faces of {DIMENSION} values, {arrivals} arrivals, {BATCH} a commit\n");
    println!("arrivals   seconds   sled MB   vectors MB   resident MB   compactions   rewrites");
    while churn.last < arrivals {
        let changes = churn.batch();
        let erased = if suppress { changes.gone_ids.clone() } else { Vec::new() };
        let suppress = erased.into_iter().map(|face| FaceKey { collection: collection.clone(), face }).collect();
        let collections = vec![CollectionCommit { collection: collection.clone(), changes }];
        store.commit(&Commit { collections, suppress, ..Commit::default() }).unwrap();
        let outbox = store.outbox();
        outbox.acknowledge(&Published::up_to(outbox.durable().sequence)).unwrap();
        for due in store.needs_compaction() {
            let since = Instant::now();
            store.compact(&due).unwrap();
            longest_compaction = longest_compaction.max(since.elapsed().as_secs_f64());
            compactions += 1;
        }
        if store.sled_needs_rewrite().unwrap() {
            let since = Instant::now();
            store.rewrite_sled().unwrap();
            longest_rewrite = longest_rewrite.max(since.elapsed().as_secs_f64());
            rewrites += 1;
        }
        let tenths = |arrivals_now: u64| arrivals_now * 10 / arrivals;
        if tenths(churn.last) > tenths(churn.last - BATCH) {
            let point = Point {
                arrivals: churn.last,
                sled: size_of(&folder.path().join("sled")),
                vectors: size_of(&folder.path().join("vectors")),
                resident: resident(std::process::id()),
            };
            println!(
                "{:>8} {:>9.1} {:>9.1} {:>12.1} {:>13.1} {compactions:>13} {rewrites:>10}",
                point.arrivals,
                started.elapsed().as_secs_f64(),
                megabytes(point.sled),
                megabytes(point.vectors),
                megabytes(point.resident),
            );
            points.push(point);
        }
    }
    let (first, last) = points.split_at(points.len() / 2);
    let highest = |half: &[Point]| megabytes(half.iter().map(|point| point.sled + point.vectors).max().unwrap_or(0));
    // Files grow and are written anew, again and again, so their height counts.
    println!("\non disk at most {:.1} MB in the first half, {:.1} MB in the last", highest(first), highest(last));
    println!("resident, slope over the last half: {:.1} bytes an arrival", slope(last, |point| point.resident));
    println!(
        "longest compaction of the vector file {longest_compaction:.3} s, longest rewrite of sled {longest_rewrite:.3} s"
    );

    drop(store);
    let since = Instant::now();
    let compacted = Store::open_existing(folder.path()).unwrap().compact_all(&mut |_| ()).unwrap();
    println!(
        "compact_all: {:.1} MB to {:.1} MB in {:.2} s",
        megabytes(compacted.bytes_before),
        megabytes(compacted.bytes_after),
        since.elapsed().as_secs_f64()
    );
    let since = Instant::now();
    let store = Store::open(folder.path(), &model).unwrap();
    let opened = since.elapsed().as_secs_f64();
    let faces = store.contents().unwrap().collections[&collection].faces.len();
    println!("opened in {opened:.2} s, {faces} faces read in {:.2} s", since.elapsed().as_secs_f64() - opened);

    let since = Instant::now();
    let to = tempfile::tempdir().unwrap();
    let cut = store.cut(&to.path().join("backup")).unwrap();
    let pause = cut.pause.as_secs_f64();
    cut.finish(Timestamp::default(), &mut |_| ()).unwrap();
    println!(
        "backup in {:.2} s, of which commits wait {:.0} ms, {:.0} ms for 10,000 faces",
        since.elapsed().as_secs_f64(),
        pause * 1e3,
        pause * 1e3 / (faces as f64 / 1e4)
    );
}

/// What is measured at one moment.
struct Point {
    arrivals: u64,
    sled: u64,
    vectors: u64,
    resident: u64,
}

/// Faces that come and go, the oldest first; each is alone in its cluster.
struct Churn {
    live: u64,
    last: u64,
    sequence: u64,
    random: u64,
}

impl Churn {
    fn batch(&mut self) -> Changes {
        let mut changes = Changes::default();
        for _ in 0..BATCH {
            self.last += 1;
            let number = self.last;
            let node = self.node(number);
            if number > self.live {
                changes.gone_ids.push(id(number - self.live));
                changes.retired.push(ClusterId(number - self.live));
                let change = Change::Erased {
                    cluster: cluster(number - self.live),
                    face: id(number - self.live),
                    size_before: 1,
                };
                changes.events.push(self.event(Cause::Expired, change));
            }
            changes.faces.push(KeptFace { node, record: record(number) });
            changes.vectors.push(NewVector { node, embedding: self.embedding() });
            changes.linkages.push(self.linkages(node));
            changes.clusters.push(cluster(number));
            let change = Change::Created { cluster: cluster(number), face: id(number) };
            changes.events.push(self.event(Cause::Record(place(number)), change));
        }
        for _ in 0..BATCH * REFRESHED {
            let number = 1 + self.next() % self.last;
            let node = self.node(number);
            changes.linkages.push(self.linkages(node));
        }
        let Churn { last, sequence, .. } = *self;
        changes.counters = Counters { sequence, settled: 0, cluster: last, arrival: last };
        changes
    }

    fn node(&self, number: u64) -> NodeId {
        NodeId(((number - 1) % self.live) as u32)
    }

    fn event(&mut self, cause: Cause, change: Change) -> Event {
        self.sequence += 1;
        Event { sequence: self.sequence, cause, change, retired: Vec::new() }
    }

    fn linkages(&mut self, node: NodeId) -> KeptLinkages {
        let kept = |_| KeptLinkage { candidate: Arrival(1 + self.next() % self.last), probability: self.value() };
        KeptLinkages { node, linkages: (0..LINKAGES).map(kept).collect() }
    }

    fn embedding(&mut self) -> Embedding {
        let values: Vec<f32> = (0..DIMENSION).map(|_| self.value() - 0.5).collect();
        Embedding::normalise(&values, DIMENSION).unwrap()
    }

    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// xorshift: enough to keep anything from compressing or repeating.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn id(number: u64) -> FaceId {
    FaceId::new(&format!("cam3/2026-11-23T18:00:00.{number:09}Z/0")).unwrap()
}

fn place(number: u64) -> Place {
    Place { partition: Partition(0), offset: Offset(number as i64) }
}

fn cluster(number: u64) -> Cluster {
    Cluster { id: ClusterId(number), merged_into: None, size: 1, version: 1, pinned: false, name: None }
}

fn record(number: u64) -> FaceRecord {
    FaceRecord {
        id: id(number),
        arrival: Arrival(number),
        home: ClusterId(number),
        home_version: 1,
        frame_id: Some(FaceId::new(&format!("cam3/{number}")).unwrap()),
        quality: Some(0.83),
        captured_at: Some(Timestamp(1_795_000_000_000 + number as i64)),
        arrived_at: Timestamp(1_795_000_000_000 + number as i64),
        place: place(number),
    }
}

/// The slope of the line of least squares.
fn slope(points: &[Point], value: impl Fn(&Point) -> u64) -> f64 {
    let mean = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (middle, level) = (mean(&|point| point.arrivals as f64), mean(&|point| value(point) as f64));
    let rise = mean(&|point| (point.arrivals as f64 - middle) * (value(point) as f64 - level));
    rise / mean(&|point| (point.arrivals as f64 - middle).powi(2))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
