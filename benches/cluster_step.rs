//! What the cluster step costs in a stream: the merging rule on the components that changed, against the
//! whole of each batch.
//!
//! Synthetic faces and the shipped model and configuration through the engine as the daemon drives it: batches of
//! `batch_faces`, `refresh_per_face`, and no quiet moment. COUNT (200000) sets how many faces, INDEX "exact" another
//! index. Read `p99 of the step / p99 of the batch`, to stay within 0.20, and the share of batches within it.
//! With SETTLE=1 the collection settles afterwards, timed too.

use std::time::{Duration, Instant};

use facetd::config::{Config, Index};
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::ShardSettings;
use facetd::engine::changes::{Batch, Request, Work};
use facetd::engine::{Engine, Observer, Step};
use facetd::face::{Embedding, Face, FaceId, Offset, Partition, Place, Timestamp};
use facetd::model::Device;
use facetd::replay::face_id_of_row;
use facetd::synth::{Kind, Synth};

const DIMENSION: usize = 128;
const SEED: u64 = 21;
/// The share of a batch that the cluster step may take.
const SHARE: f64 = 0.20;
/// Faces refreshed at once in a quiet moment, as the daemon does.
const REFRESHED_WHEN_IDLE: usize = 256;
/// Rows of the table.
const ROWS: usize = 10;

fn main() {
    let count: usize = std::env::var("COUNT").map_or(200_000, |text| text.parse().expect("COUNT is a number"));
    let mut config = Config::parse("", std::iter::empty()).unwrap();
    config.model.dir = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo-128").into();
    config.model.device = Device::Cpu;
    if std::env::var("INDEX").is_ok_and(|index| index == "exact") {
        config.engine.index = Index::Exact;
    }
    let LoadedModel { artefact, model } = LoadedModel::load(&config.model).unwrap();
    let settings = ShardSettings::new(&config, &artefact);
    let batch_faces = config.engine.batch_faces;
    println!(
        "{count} synthetic faces, model {}, {:?}, batches of {batch_faces}, {} refreshed for each face, max_component {}\n",
        artefact.name, artefact.merging, settings.refresh_per_face, config.engine.max_component
    );
    println!(
        "  faces   batch ms p50   p99   cluster ms p50   p99   reclustered a batch   largest component    owed   stale   within {SHARE:.2}"
    );

    let mut run =
        Run { engine: Engine::new(&settings.engine(&config.collections.default), model), batches: Vec::new() };
    let labelled = Synth { kind: Kind::Albums, faces: count, dimension: DIMENSION, seed: SEED }.generate();
    let rows: Vec<&[f32]> = labelled.embeddings.chunks(DIMENSION).collect();
    let a_row = count.div_ceil(ROWS).next_multiple_of(batch_faces);
    let mut from = 0;
    let mut row = 0;
    for part in rows.chunks(batch_faces) {
        let requests = (row..).zip(part).map(|(row, values)| Request::Face(face(row, values))).collect();
        let refresh_budget = part.len() * settings.refresh_per_face;
        row += part.len();
        run.apply(Batch { requests, refresh_budget, now: now(row), ..Batch::default() });
        if row.is_multiple_of(a_row) || row == count {
            run.print(row, &run.batches[from..]);
            from = run.batches.len();
        }
    }
    run.sum_up();
    if std::env::var("SETTLE").is_ok_and(|settle| settle == "1") {
        run.settle(now(row));
    }
}

/// Batches come at some pace; what waits longest is known by it.
fn now(row: usize) -> Timestamp {
    Timestamp(row as i64)
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

/// What one batch took.
struct Took {
    all: Duration,
    steps: [Duration; Step::ALL.len()],
    work: Work,
}

impl Took {
    fn cluster(&self) -> Duration {
        self.steps[Step::Cluster as usize]
    }

    fn is_within(&self) -> bool {
        self.cluster().as_secs_f64() <= SHARE * self.all.as_secs_f64()
    }
}

struct Times {
    since: Instant,
    steps: [Duration; Step::ALL.len()],
}

impl Observer for Times {
    fn finished(&mut self, step: Step) {
        self.steps[step as usize] += self.since.elapsed();
        self.since = Instant::now();
    }
}

struct Run {
    engine: Engine,
    batches: Vec<Took>,
}

impl Run {
    fn apply(&mut self, batch: Batch) {
        let started = Instant::now();
        let mut times = Times { since: started, steps: Default::default() };
        let work = self.engine.apply(batch, &mut times).unwrap().work;
        self.batches.push(Took { all: started.elapsed(), steps: times.steps, work });
    }

    fn print(&self, faces: usize, batches: &[Took]) {
        let clusters = self.engine.clusters();
        let reclustered: usize = batches.iter().map(|took| took.work.reclustered).sum();
        println!(
            "{faces:>7}   {:>12.1} {:>5.0}   {:>14.2} {:>5.1}   {:>19}   {:>17}   {:>5}   {:>5}   {:>10.3}",
            quantile(batches, 0.5, |took| took.all),
            quantile(batches, 0.99, |took| took.all),
            quantile(batches, 0.5, Took::cluster),
            quantile(batches, 0.99, Took::cluster),
            reclustered / batches.len(),
            clusters.largest_component(),
            clusters.owed_faces(),
            self.engine.stale(),
            within(batches),
        );
    }

    fn sum_up(&self) {
        let batches = &self.batches[..];
        let (cluster, all) = (quantile(batches, 0.99, Took::cluster), quantile(batches, 0.99, |took| took.all));
        let seconds: f64 = batches.iter().map(|took| took.all.as_secs_f64()).sum();
        println!("\n{:.0} faces/s; the steps' shares of the time:", self.engine.len() as f64 / seconds);
        for step in Step::ALL {
            let own: f64 = batches.iter().map(|took| took.steps[step as usize].as_secs_f64()).sum();
            println!("  {:<8} {:>5.1} %", step.name(), 100.0 * own / seconds);
        }
        println!(
            "p50 of the step / p50 of the batch  {:.3}",
            quantile(batches, 0.5, Took::cluster) / quantile(batches, 0.5, |t| t.all)
        );
        println!("p99 of the step / p99 of the batch  {:.3}   ({cluster:.1} of {all:.1} ms)", cluster / all);
        println!("p99 of step / batch, batch by batch {:.3}", {
            let mut shares: Vec<f64> =
                batches.iter().map(|took| took.cluster().as_secs_f64() / took.all.as_secs_f64()).collect();
            shares.sort_by(f64::total_cmp);
            shares[place(shares.len(), 0.99)]
        });
        println!("batches with the step within {SHARE:.2}     {:.4}", within(batches));
        let sizes = self.engine.clusters().book().living();
        println!("{} faces in {sizes} clusters", self.engine.len());
    }

    fn settle(&mut self, now: Timestamp) {
        let (from, started) = (self.batches.len(), Instant::now());
        while self.engine.has_work(now) {
            self.apply(Batch { refresh_budget: REFRESHED_WHEN_IDLE, idle: true, now, ..Batch::default() });
        }
        let batches = &self.batches[from..];
        println!("\nsettled in {:.1} s and {} quiet moments", started.elapsed().as_secs_f64(), batches.len());
        self.print(self.engine.len(), batches);
    }
}

/// In milliseconds.
fn quantile(batches: &[Took], q: f64, of: impl Fn(&Took) -> Duration) -> f64 {
    let mut times: Vec<Duration> = batches.iter().map(of).collect();
    times.sort_unstable();
    times[place(times.len(), q)].as_secs_f64() * 1e3
}

/// Where the quantile is in a sorted list.
fn place(len: usize, q: f64) -> usize {
    ((len - 1) as f64 * q).round() as usize
}

fn within(batches: &[Took]) -> f64 {
    batches.iter().filter(|took| took.is_within()).count() as f64 / batches.len() as f64
}
