//! How long is a restart? COUNT faces (100,000) of DIMENSION values (256), in neighbourhoods as large as the shipped
//! model's; the model itself is a plain mean, so that what is timed is facetd. The state is built as a daemon
//! builds it, in commits of BATCH faces (1024), into STATE (a folder that is kept and used again; else one
//! that goes).
//!
//! Prints the pause of a cut and what it takes to write, then each part of a restart alone, then the whole as
//! the daemon does it: settled, with a tail of TAIL faces (256), and, with REBUILD=1, without a snapshot.
//! Files are read from the page cache: of a machine that was restarted too, the disk's own time comes on top.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use facetd::config::Config;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::Engine;
use facetd::face::{CollectionName, Embedding, Face, FaceId, Offset, Partition, Place, Timestamp};
use facetd::metrics::Metrics;
use facetd::model::{Artefact, FaceTransformer, ModelError, Neighbourhoods, Shape};
use facetd::source::{Content, Intake, Record};
use facetd::store::{Model, SnapshotName, Store};
use facetd::synth::Synth;
use facetd::view::View;

/// How long a stop of the bench may take.
const LIMIT: Duration = Duration::from_secs(600);

/// g is the mean of a face and its neighbours; a linkage is the cosine of two g above a half.
struct Mean(Shape);

impl FaceTransformer for Mean {
    fn shape(&self) -> Shape {
        self.0
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
}

impl Bench {
    fn open(&self) -> Shard {
        let (view, metrics) = (Arc::new(View::default()), Arc::new(Metrics::new()));
        Shard::open(&self.state, self.settings.clone(), self.model.clone(), view, metrics).unwrap()
    }

    /// Records in commits of `batch`, and quiet moments until nothing is left to do.
    fn apply(&self, shard: &mut Shard, faces: &[Intake], batch: usize) {
        for part in faces.chunks(batch) {
            shard.apply(part.to_vec(), Timestamp(1)).unwrap();
            let outbox = shard.outbox();
            outbox.acknowledge(&outbox.pending(0, usize::MAX).unwrap()).unwrap();
        }
    }
}

fn main() {
    let number = |name, or| std::env::var(name).map_or(or, |text: String| text.parse().expect("a number"));
    let (count, dimension, batch) = (number("COUNT", 100_000), number("DIMENSION", 256), number("BATCH", 1024));
    let tail = number("TAIL", 256);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artefact = Artefact::open(&project.join("models/demo-128")).unwrap();
    let mut settings = ShardSettings::new(&Config::parse("", std::iter::empty()).unwrap(), &artefact);
    settings.model = Model { fingerprint: "mean".into(), dimension };
    // Only when it stops: nothing else is to be timed meanwhile.
    settings.snapshot_interval = Some(Duration::MAX);
    let folder = tempfile::tempdir().unwrap();
    let state = std::env::var_os("STATE").map_or(folder.path().join("state"), PathBuf::from);
    let bench = Bench { state, settings, model: Arc::new(Mean(Shape { dimension, ..artefact.shape })) };
    println!("{count} synthetic faces, {dimension}-d, {} neighbours, {} cores", artefact.shape.hop1, cores());

    let labelled = Synth { faces: count + tail, dimension, seed: 5 }.generate();
    let faces: Vec<Intake> = labelled.embeddings.chunks(dimension).enumerate().map(|(row, v)| face(row, v)).collect();
    let (faces, tail) = faces.split_at(count);
    if !bench.state.exists() {
        let started = Instant::now();
        let mut shard = bench.open();
        bench.apply(&mut shard, faces, batch);
        while shard.idle(Timestamp(1)).unwrap() {}
        println!("built in {:.0} s, commits of {batch}", started.elapsed().as_secs_f64());
        shard.cut_snapshots(LIMIT);
    }
    let name = CollectionName::new("default").unwrap();
    cut(&bench, &name);
    parts(&bench, &name);
    println!("\nthe whole, as the daemon does it");
    for _ in 0..3 {
        whole(&bench, "settled");
    }
    let mut shard = bench.open();
    bench.apply(&mut shard, tail, batch);
    drop(shard);
    whole(&bench, &format!("{} faces came since", tail.len()));
    if number("REBUILD", 0) == 1 {
        std::fs::remove_dir_all(bench.state.join("snapshots")).unwrap();
        whole(&bench, "without a snapshot");
    }
    // As it was, for the next time.
    bench.open().cut_snapshots(LIMIT);
}

/// The pause, and what a thread in the background does after it.
fn cut(bench: &Bench, name: &CollectionName) {
    let shard = bench.open();
    let engine = shard.engine(name).expect("it was built");
    println!("{} faces, {} clusters, {} stale", engine.len(), engine.clusters().book().living(), engine.stale());
    let (snapshot, pause) = timed(|| engine.cut());
    let snapshots = shard.store().snapshots();
    let name = SnapshotName { collection: name.clone(), sequence: shard.store().commit_sequence() };
    let (bytes, written) = timed(|| snapshots.write(&name, &snapshot, None, &|| false).unwrap());
    println!("\na snapshot   pause {pause:.3} s, {:.0} MB written in {written:.2} s", megabytes(bytes.unwrap()));
    println!("the state    {:.0} MB", megabytes(shard.store().size_on_disk().unwrap()));
}

fn parts(bench: &Bench, name: &CollectionName) {
    println!("\neach part alone");
    let (store, seconds) = timed(|| Store::open(&bench.state, &bench.settings.model).unwrap());
    println!("  sled opened          {seconds:>6.2} s");
    let snapshots = store.snapshots();
    let names = snapshots.names().unwrap();
    let (_, seconds) = timed(|| snapshots.newest(name, &names, store.commit_sequence()).expect("there is one"));
    println!("  snapshot read        {seconds:>6.2} s");
    let (_, seconds) = timed(|| store.restored(name).unwrap());
    println!("  sled and vectors     {seconds:>6.2} s");
    let (resumed, seconds) = timed(|| store.resumed(name, &names).unwrap());
    println!("  both                 {seconds:>6.2} s");
    let (engine, seconds) =
        timed(|| Engine::restore(&bench.settings.engine(name), bench.model.clone(), resumed.restored).unwrap());
    println!("  engine               {seconds:>6.2} s");
    let (_, seconds) = timed(|| drop(engine));
    println!("  (engine dropped      {seconds:>6.2} s)");
}

fn whole(bench: &Bench, what: &str) {
    let (shard, seconds) = timed(|| bench.open());
    let name = CollectionName::new("default").unwrap();
    let engine = shard.engine(&name).expect("it was built");
    println!("  {what:<24} {seconds:>6.2} s, {} faces, {} stale", engine.len(), engine.stale());
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed().as_secs_f64())
}

fn face(row: usize, values: &[f32]) -> Intake {
    let place = Place { partition: Partition(0), offset: Offset(row as i64) };
    let id = FaceId::new(&format!("camera-{}/frame-{row:08}/0", row % 16)).unwrap();
    let record =
        Record { place, key: Some(id.as_str().as_bytes().to_vec()), payload_bytes: 0, payload_sha256: [0; 32] };
    let face = Face {
        id,
        embedding: Embedding::normalise(values, values.len()).unwrap(),
        frame_id: None,
        quality: None,
        captured_at: None,
        place,
    };
    Intake { record, content: Content::Face { collection: CollectionName::new("default").unwrap(), face } }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
