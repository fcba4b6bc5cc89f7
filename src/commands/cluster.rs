//! `facetd cluster`: the paper's batch pipeline on a file. One batch through the daemon's engine; or, as a stream, many, as
//! they would reach the daemon.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use facetd::config::{Config, Model};
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::ShardSettings;
use facetd::engine::changes::{Batch, Request};
use facetd::engine::{Engine, Observer, Step};
use facetd::face::{ClusterId, Embedding, Face, FaceId, Offset, Partition, Place, Timestamp};
use facetd::features::{Features, write_labels};
use facetd::model::{Device, Stage};
use facetd::replay::face_id_of_row;
use indicatif::ProgressBar;
use serde::Serialize;

use super::ending::{self, whole_file};
use super::output::Output;
use super::progress;

/// Rows of a batch of a stream: about what waits for a daemon that is kept busy.
const STREAM_BATCH: usize = 64;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd cluster --features features.bin --model models/demo-128 --labels predicted.meta
  facetd cluster --features features.npy --model models/varied-256 --labels predicted.meta --index hnsw
  facetd cluster --features features.bin --model models/demo-128 --labels predicted.meta --stream

With --stream the rows are taken in order, 64 at a time and with the daemon's refresh budget, as while records keep
coming. LABELS.25, LABELS.50, LABELS.75 and LABELS.100 get the labels of so many percent of the rows as they stood when
the last of those had come; LABELS those once nothing was stale any more.")]
pub struct Arguments {
    /// Features, .npy or learn-to-cluster .bin; the model gives the .bin its width
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Folder with model.toml, re.onnx and lp.onnx
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Where to write a cluster number a line
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Take the rows as a stream, and write the labels at each quarter of it too
    #[arg(long)]
    stream: bool,
    /// How neighbours are found; exact compares every pair
    #[arg(long, value_enum, default_value = "exact")]
    index: Index,
    /// How much of the model is used: re_lp, all of it, or naive, only_re or only_lp of the paper's ablation
    #[arg(long, value_name = "STAGE", default_value_t)]
    stage: Stage,
    /// cpu, cuda:N or auto
    #[arg(long, default_value = "auto")]
    device: Device,
    /// ONNX Runtime's shared library, when it is not in the usual places
    #[arg(long, value_name = "FILE", env = "FACETD_MODEL__RUNTIME")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Clustered<'a> {
    faces: usize,
    clusters: usize,
    labels: &'a Path,
}

impl fmt::Display for Clustered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Clustered { faces, clusters, labels } = self;
        write!(f, "{faces} faces in {clusters} clusters: {}", labels.display())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Index {
    Exact,
    Hnsw,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = Config::parse("", std::iter::empty())?;
    super::start_logging(&facetd::config::Log { level: "warn".into(), ..config.log.clone() });
    let Arguments { model, stage, device, runtime, .. } = arguments;
    let runtime = runtime.clone().unwrap_or_default();
    config.model = Model { dir: model.clone(), stage: *stage, device: *device, runtime, threads: 0 };
    config.engine.index = match arguments.index {
        Index::Exact => facetd::config::Index::Exact,
        Index::Hnsw => facetd::config::Index::Hnsw,
    };
    ending::if_interrupted(|| "labels that were begun are not there".to_string());
    let busy = progress::busy("the model and the features are being read");
    let LoadedModel { artefact, model } = LoadedModel::load(&config.model)?;
    let dimension = artefact.shape.dimension;
    let features = Features::read(&arguments.features, Some(dimension))?;
    anyhow::ensure!(
        features.dimension() == dimension,
        "{}: features are {} wide, the model takes {dimension}",
        arguments.features.display(),
        features.dimension()
    );

    let settings = ShardSettings::new(&config, &artefact);
    let mut engine = Engine::new(&settings.engine(&config.collections.default), model);
    let faces = features.rows().enumerate().map(|(row, values)| face(row, values, dimension));
    let faces = faces.collect::<anyhow::Result<Vec<Face>>>();
    let faces = faces.with_context(|| arguments.features.display().to_string())?;
    drop(busy);
    match arguments.stream {
        false => batch(&mut engine, faces)?,
        true => stream(&mut engine, faces, settings.refresh_per_face, &arguments.labels)?,
    }
    let labels = labels(&engine);
    whole_file(&arguments.labels, |path| write_labels(path, &labels))?;
    let clusters = labels.iter().max().map_or(0, |last| last + 1);
    arguments.output.answer(&Clustered { faces: engine.len(), clusters, labels: &arguments.labels })
}

fn batch(engine: &mut Engine, faces: Vec<Face>) -> anyhow::Result<()> {
    let mut progress = Progress(progress::bar(Step::ALL.len(), "{bar:30} {msg} {elapsed}"));
    progress.0.set_message("clustering");
    // A step takes minutes with many faces.
    progress.0.enable_steady_tick(Duration::from_secs(1));
    let requests = faces.into_iter().map(Request::Face).collect();
    engine.apply(Batch { requests, ..Batch::default() }, &mut progress)?;
    // With an approximate index some were met only by those who came later.
    settle(engine)?;
    progress.0.finish_and_clear();
    Ok(())
}

/// Streams, and writes the labels at each quarter beside `to`.
fn stream(engine: &mut Engine, faces: Vec<Face>, refresh_per_face: usize, to: &Path) -> anyhow::Result<()> {
    let progress = progress::bar(faces.len(), "{bar:30} {pos}/{len} faces {msg} {elapsed}");
    let rows = faces.len();
    let mut faces = faces.into_iter();
    for percent in [25, 50, 75, 100] {
        let until = rows * percent / 100;
        while engine.len() < until {
            let next = STREAM_BATCH.min(until - engine.len());
            let requests = faces.by_ref().take(next).map(Request::Face).collect();
            engine.apply(Batch { requests, refresh_budget: next * refresh_per_face, ..Batch::default() }, &mut ())?;
            progress.inc(next as u64);
        }
        let mut path = OsString::from(to);
        path.push(format!(".{percent}"));
        whole_file(Path::new(&path), |path| write_labels(path, &labels(engine)))?;
    }
    progress.set_message("settling");
    settle(engine)?;
    progress.finish_and_clear();
    Ok(())
}

/// Quiet moments until nothing is left to do.
fn settle(engine: &mut Engine) -> anyhow::Result<()> {
    while engine.has_work(Timestamp::default()) {
        engine.apply(Batch { refresh_budget: usize::MAX, idle: true, ..Batch::default() }, &mut ())?;
    }
    Ok(())
}

/// A number for each face, in order of arrival. Numbered in order of first appearance: ids of the clusters that merged
/// away leave no gaps.
fn labels(engine: &Engine) -> Vec<usize> {
    let mut numbers: HashMap<ClusterId, usize> = HashMap::new();
    let clusters = engine.faces().live().filter_map(|node| engine.clusters().book().cluster_of(node));
    let number = |cluster| {
        let next = numbers.len();
        *numbers.entry(cluster).or_insert(next)
    };
    clusters.map(number).collect()
}

fn face(row: usize, values: &[f32], dimension: usize) -> anyhow::Result<Face> {
    let embedding = Embedding::normalise(values, dimension).map_err(|error| anyhow::anyhow!("row {row}: {error}"))?;
    Ok(Face {
        id: FaceId::new(&face_id_of_row(row))?,
        embedding,
        frame_id: None,
        quality: None,
        captured_at: None,
        place: Place { partition: Partition(0), offset: Offset(row as i64) },
    })
}

struct Progress(ProgressBar);

impl Observer for Progress {
    fn finished(&mut self, step: Step) {
        self.0.set_message(format!("{} done", step.name()));
        self.0.inc(1);
    }
}
