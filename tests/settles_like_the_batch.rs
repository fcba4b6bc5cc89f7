//! Promise: on real faces, with the HNSW graph, a stream is nearly as good as the batch at any moment, and the
//! same once it has settled; every type of event occurs, and at every `settled` who read the events
//! alone knows the engine's clusters.
//!
//! The graph is used from the first face on. Batch is `facetd cluster`: the exact index, all faces at once.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use common::chance::Chance;
use common::faces::Dataset;
use common::shard::{DrivenShard, expired};
use facetd::config::{Config, Index};
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::ShardSettings;
use facetd::engine::Engine;
use facetd::engine::changes::{Batch, Outcome, Request};
use facetd::engine::event::EventType;
use facetd::evaluate::{Scores, evaluate};
use facetd::face::{ClusterId, Embedding, Face, FaceId, Offset, Partition, Place};
use facetd::model::Device;
use facetd::replay::face_id_of_row;

const PROMISE: &str = "a stream through HNSW settles like the batch";
const BATCH: usize = 64;
/// How far the stream's F may be below the batch's while it runs: BCubed F at each moment, pairwise F in the mean of them. One
/// identity of 530 faces has most of the pairs, so at one moment pairwise F says whether that one is joined with another, and
/// hardly more: of two trainings of the model it is 1.9 points below at the first quarter with one, and 1.3 above with the other.
const WHILE_IT_RUNS: f64 = 0.015;
/// BCubed F of the settled stream, the batch taken for the truth.
const ONCE_SETTLED: f64 = 0.995;
/// Faces that are erased, replaced and too many at the end, each.
const CHANGED: usize = 200;

#[test]
fn on_real_faces_with_hnsw() {
    let people = People::read();
    let mut stream = DrivenShard::open(people.config(), &people.model.artefact, people.model.model.clone());
    let order = people.shuffled();
    let mut missed = Vec::new();
    println!("{}: {} faces in batches of {BATCH}", people.dataset.name, order.len());
    println!("F against the labels while it runs, stream / batch");
    let (mut streamed, mut pairwise_below) = (0, 0.0);
    let mut seconds = 0.0;
    for quarter in 1..=4 {
        let until = order.len() * quarter / 4;
        let started = Instant::now();
        for rows in order[streamed..until].chunks(BATCH) {
            people.stream(&mut stream, rows);
        }
        streamed = until;
        seconds += started.elapsed().as_secs_f64();
        let (of_stream, of_batch) =
            (people.scores(&labels(stream.engine())), people.scores(&people.batch(&order[..until])));
        let stale = stream.engine().stale();
        let mut line = format!("{:>5} %", 25 * quarter);
        for (name, stream, batch) in
            [("BCubed", of_stream.bcubed.f, of_batch.bcubed.f), ("pairwise", of_stream.pairwise.f, of_batch.pairwise.f)]
        {
            line += &format!("   {name} {:.2} / {:.2}", 100.0 * stream, 100.0 * batch);
        }
        if of_stream.bcubed.f < of_batch.bcubed.f - WHILE_IT_RUNS {
            missed.push(format!("BCubed F at {} %: {:.4} of the stream", 25 * quarter, of_stream.bcubed.f));
        }
        pairwise_below += (of_batch.pairwise.f - of_stream.pairwise.f) / 4.0;
        println!("{line}   {stale} faces stale");
    }
    println!("pairwise F is {:.2} below in the mean", 100.0 * pairwise_below);
    if pairwise_below > WHILE_IT_RUNS {
        missed.push(format!("pairwise F is {pairwise_below:.4} below the batch's in the mean"));
    }
    let started = Instant::now();
    stream.settle();
    println!("streamed in {seconds:.0} s, settled after {:.0} s more", started.elapsed().as_secs_f64());
    missed.extend(agreement("once settled", &people.batch(&order), &labels(stream.engine())));

    let left = live_and_let_die(&people, &mut stream, &order);
    missed.extend(agreement("after a restart and many changes", &people.batch(&left), &labels(stream.engine())));

    let counts = &stream.consumer.counts;
    let told = EventType::ALL.map(|kind| format!("{} {}", counts.of(kind), kind.name()));
    println!("events: {}; the consumer agreed at {} settled", told.join(", "), stream.comparisons);
    assert!(EventType::ALL.iter().all(|&kind| counts.of(kind) > 0), "a type of event never occurred");
    assert_eq!(counts.of(EventType::Settled), stream.comparisons);
    assert!(missed.is_empty() || !people.dataset.real, "{}", missed.join("\n"));
}

/// Erases, replaces, has an operator erase a person, settles; starts again with room for fewer, and settles.
/// Answers the rows that are left.
fn live_and_let_die(people: &People, stream: &mut DrivenShard, order: &[Row]) -> Vec<Row> {
    let mut left: BTreeMap<usize, Row> = order.iter().map(|&row| (row.id, row)).collect();
    let erased: Vec<FaceId> = order[..CHANGED].iter().map(Row::face_id).collect();
    let records = erased.into_iter().map(|id| stream.erasure(id)).collect();
    stream.apply(records);
    left.retain(|id, _| !order[..CHANGED].iter().any(|row| row.id == *id));
    // Another embedding of the same id: that of some other face.
    let replaced = order[CHANGED..2 * CHANGED].iter().zip(&order[2 * CHANGED..]);
    let replaced: Vec<Row> = replaced.map(|(row, other)| Row { id: row.id, values: other.values }).collect();
    people.stream(stream, &replaced);
    left.extend(replaced.iter().map(|&row| (row.id, row)));
    stream.settle();

    let clusters = stream.clusters();
    let (&cluster, faces) = clusters.iter().max_by_key(|(_, faces)| faces.len()).unwrap();
    assert_eq!(stream.operate(Request::EraseCluster { cluster }).outcome, Outcome::Erased(faces.len()));
    left.retain(|_, row| !faces.contains(&row.face_id()));
    stream.settle();

    let mut config = people.config();
    config.collections.max_faces = left.len() - CHANGED;
    stream.restart_with(config, &people.model.artefact);
    let gone: BTreeSet<FaceId> = expired(&stream.settle()).into_iter().collect();
    assert_eq!(gone.len(), CHANGED);
    left.retain(|_, row| !gone.contains(&row.face_id()));
    left.into_values().collect()
}

/// A face of the stream: its id, and the row of the file that has its embedding.
#[derive(Clone, Copy)]
struct Row {
    id: usize,
    values: usize,
}

impl Row {
    fn face_id(&self) -> FaceId {
        FaceId::new(&face_id_of_row(self.id)).unwrap()
    }
}

struct People {
    dataset: Dataset,
    rows: Vec<Vec<f32>>,
    truth: Vec<i64>,
    model: LoadedModel,
}

impl People {
    fn read() -> People {
        let dataset = Dataset::every_real_face_or_synthetic(PROMISE);
        let mut config = Config::parse("", std::iter::empty()).unwrap().model;
        config.dir = dataset.model.clone();
        config.device = Device::Cpu;
        let model = LoadedModel::load(&config).unwrap();
        People { rows: dataset.rows(), truth: dataset.labels(), dataset, model }
    }

    /// As shipped, but with the graph from the first face on.
    fn config(&self) -> Config {
        let mut config = Config::parse("", std::iter::empty()).unwrap();
        config.engine.hnsw_few = 0;
        config
    }

    /// The files have one person after the other; a camera has not.
    fn shuffled(&self) -> Vec<Row> {
        let mut order: Vec<Row> = (0..self.rows.len()).map(|row| Row { id: row, values: row }).collect();
        let mut chance = Chance::new(5);
        for last in (1..order.len()).rev() {
            order.swap(last, chance.below(last + 1));
        }
        order
    }

    fn face(&self, row: &Row) -> Face {
        Face {
            id: row.face_id(),
            embedding: Embedding::normalise(&self.rows[row.values], self.dataset.dimension).unwrap(),
            frame_id: None,
            quality: None,
            captured_at: None,
            place: Place { partition: Partition(0), offset: Offset(0) },
        }
    }

    fn stream(&self, stream: &mut DrivenShard, rows: &[Row]) {
        let records = rows.iter().map(|row| stream.arrival(self.face(row))).collect();
        stream.apply(records);
    }

    /// What `facetd cluster` makes of these faces.
    fn batch(&self, rows: &[Row]) -> Labels {
        let mut config = self.config();
        config.engine.index = Index::Exact;
        let settings = ShardSettings::new(&config, &self.model.artefact).engine(&config.collections.default);
        let mut engine = Engine::new(&settings, self.model.model.clone());
        let requests = rows.iter().map(|row| Request::Face(self.face(row))).collect();
        engine.apply(Batch { requests, ..Batch::default() }, &mut ()).unwrap();
        while !engine.is_settled() {
            engine.apply(Batch { refresh_budget: usize::MAX, idle: true, ..Batch::default() }, &mut ()).unwrap();
        }
        labels(&engine)
    }

    /// Against the labels of the file.
    fn scores(&self, labels: &Labels) -> Scores {
        let row = |id: &FaceId| id.as_str().parse::<usize>().unwrap();
        let truth: Vec<i64> = labels.keys().map(|id| self.truth[row(id)]).collect();
        evaluate(&truth, &labels.values().collect::<Vec<_>>()).unwrap()
    }
}

/// The cluster of each face.
type Labels = BTreeMap<FaceId, ClusterId>;

fn labels(engine: &Engine) -> Labels {
    let book = engine.clusters().book();
    let label = |node| (engine.faces().id(node).clone(), book.cluster_of(node).unwrap());
    engine.faces().live().map(label).collect()
}

/// Prints how much of the batch is in the stream; answers what was promised and is not so.
fn agreement(when: &str, batch: &Labels, stream: &Labels) -> Option<String> {
    assert!(batch.keys().eq(stream.keys()), "{when} there are other faces");
    let scores = evaluate(&batch.values().collect::<Vec<_>>(), &stream.values().collect::<Vec<_>>()).unwrap();
    let together = |labels: &Labels| {
        let mut clusters: BTreeMap<ClusterId, BTreeSet<FaceId>> = BTreeMap::new();
        for (face, &cluster) in labels {
            clusters.entry(cluster).or_default().insert(face.clone());
        }
        clusters.into_values().collect::<BTreeSet<_>>()
    };
    let (batch, stream) = (together(batch), together(stream));
    println!(
        "{when}: stream against batch, {} faces: BCubed F {:.4}, pairwise F {:.4}; clusters of the batch found whole",
        scores.faces, scores.bcubed.f, scores.pairwise.f
    );
    for (name, sizes) in
        [("1", 1..=1), ("2-4", 2..=4), ("5-16", 5..=16), ("17-64", 17..=64), ("65 and more", 65..=usize::MAX)]
    {
        let of_size = || batch.iter().filter(|cluster| sizes.contains(&cluster.len()));
        let (all, whole) = (of_size().count(), of_size().filter(|cluster| stream.contains(*cluster)).count());
        println!("  {name:>11} faces: {whole} of {all}, {:.2} %", 100.0 * whole as f64 / all.max(1) as f64);
    }
    let f = scores.bcubed.f;
    (f < ONCE_SETTLED).then(|| format!("BCubed F of stream against batch {when}: {f:.4}, not {ONCE_SETTLED}"))
}
