//! Promise: each stage of the paper's ablation that a model's folder holds runs as the whole model does. `facetd
//! cluster --stage` gives the clusters that a few lines of brute force here give, and a daemon's stream with the
//! stage settles to the same.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::broker::MockBroker;
use common::chance::Chance;
use common::daemon::{Installation, Settings};
use common::shard::DrivenShard;
use common::{facetd, output_of, project};
use facetd::config::{Config, Index};
use facetd::daemon::LoadedModel;
use facetd::face::{Embedding, Face, FaceId, Offset, Partition, Place};
use facetd::features::{Features, read_labels};
use facetd::model::onnx::RunOptions;
use facetd::model::{Artefact, Device, FaceTransformer, Neighbourhoods, OnnxModel, Runtime, Shape, Stage};
use facetd::replay::face_id_of_row;

const FACES: usize = 240;
const PEOPLE: usize = 40;
const BATCH: usize = 16;
/// The stages beside the whole model, which has tests of its own.
const STAGES: [Stage; 3] = [Stage::Naive, Stage::OnlyRe, Stage::OnlyLp];

#[test]
fn a_stage_clusters_as_brute_force_does_at_once_and_in_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::load(None).unwrap();
    let whole = load(&runtime, &project().join("tests/fixtures/model"), Stage::ReLp);
    let rows = faces(whole.artefact.shape.dimension);
    let features = folder.path().join("features.npy");
    Features::new(whole.artefact.shape.dimension, rows.concat()).unwrap().write(&features).unwrap();
    let linkages: BTreeMap<Stage, Vec<Linkage>> =
        STAGES.into_iter().map(|stage| (stage, linkages(&whole, &rows, stage))).collect();
    let thresholds: BTreeMap<Stage, f32> =
        linkages.iter().map(|(&stage, linkages)| (stage, between_two(linkages))).collect();
    let model = model_with_stages(folder.path(), &thresholds);

    for stage in STAGES {
        let expected = components(&linkages[&stage], thresholds[&stage]);
        let sizes: Vec<usize> = expected.iter().map(BTreeSet::len).collect();
        let largest = sizes.iter().max().unwrap();
        println!("{stage}: threshold {}, {} clusters, the largest of {largest}", thresholds[&stage], sizes.len());
        assert!(
            (PEOPLE / 4..FACES - PEOPLE).contains(&sizes.len()) && *largest > 2,
            "{stage} proves little: {sizes:?}"
        );
        assert_eq!(clustered(&features, &model, stage, folder.path()), expected, "facetd cluster --stage {stage}");
        assert_eq!(streamed(&rows, load(&runtime, &model, stage)), expected, "the stream with model.stage = {stage:?}");
    }
}

#[test]
fn a_stage_that_the_folder_does_not_hold_is_told_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let features = folder.path().join("features.npy");
    Features::new(16, faces(16).concat()).unwrap().write(&features).unwrap();
    let fixture = project().join("tests/fixtures/model");
    let output = cluster(&features, &fixture, "only_re", &folder.path().join("l.meta")).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for word in ["model.toml", "[stages.only_re]", "fit --stages"] {
        assert!(told.contains(word), "{word:?} is not in: {told}");
    }
    let output = cluster(&features, &fixture, "RE", &folder.path().join("l.meta")).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("only_re"));
}

#[test]
fn a_daemon_runs_the_stage_its_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_with_stages(folder.path(), &STAGES.map(|stage| (stage, 0.8)).into());
    let broker = MockBroker::start();
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let naive = |command: &mut Command| {
        command.env("FACETD_MODEL__STAGE", "naive");
    };

    let mut check = facetd();
    naive(check.args(["check", "--config"]).arg(installation.config()));
    let told = output_of(&mut check);
    assert!(told.lines().any(|line| line.starts_with("model") && line.ends_with("on cpu, stage naive")), "{told}");

    let daemon = installation.start_with(naive);
    assert_eq!(daemon.metric("facetd_model_stage_info{stage=\"naive\"}"), 1.0);
    assert!(daemon.terminate().success());
    assert!(!installation.command().status().unwrap().success(), "the whole model took over a state of a stage");
    let log = installation.log();
    assert!(log.contains("made with another model") && log.contains("model.stage"), "{log}");
}

/// p(q→k), by row.
struct Linkage {
    face: usize,
    candidate: usize,
    probability: f32,
}

fn load(runtime: &Runtime, folder: &Path, stage: Stage) -> LoadedModel {
    let artefact = Artefact::open(folder, stage).unwrap();
    let model = OnnxModel::load(runtime, &artefact, RunOptions { device: Device::Cpu, threads: 1 }).unwrap();
    LoadedModel { artefact, model: Arc::new(model) }
}

fn config() -> Config {
    let mut config = Config::parse("", std::iter::empty()).unwrap();
    config.engine.index = Index::Exact;
    config
}

/// People in random directions, their faces not far from them.
fn faces(dimension: usize) -> Vec<Vec<f32>> {
    let mut chance = Chance::new(3);
    let mut direction = || (0..dimension).map(|_| chance.below(2001) as f32 / 1000.0 - 1.0).collect::<Vec<f32>>();
    let people: Vec<_> = (0..PEOPLE).map(|_| direction()).collect();
    let near = |person: &[f32]| person.iter().zip(direction()).map(|(a, b)| a + 0.35 * b).collect();
    (0..FACES).map(|face| &people[face * 7 % PEOPLE][..]).map(near).collect()
}

/// Every face's linkages, with the whole model's own graphs where the stage runs one.
fn linkages(whole: &LoadedModel, rows: &[Vec<f32>], stage: Stage) -> Vec<Linkage> {
    let Shape { dimension, hop1, hop2 } = whole.artefact.shape;
    let unit = |row: &Vec<f32>| Embedding::normalise(row, dimension).unwrap().values().to_vec();
    let f: Vec<Vec<f32>> = rows.iter().map(unit).collect();
    let nearest = |face: usize| {
        let mut others: Vec<usize> = (0..f.len()).filter(|&other| other != face).collect();
        others.sort_by(|&a, &b| cosine(&f[face], &f[b]).total_cmp(&cosine(&f[face], &f[a])));
        others.truncate(hop1);
        others
    };
    let neighbourhoods: Vec<Vec<usize>> = (0..f.len()).map(nearest).collect();
    let run = |of: &[Vec<f32>], face: usize, hop: usize| {
        let mut row = Neighbourhoods::new(dimension, hop);
        row.push(&of[face], neighbourhoods[face].iter().map(|&other| &of[other][..]));
        row
    };
    let encode = |face| whole.model.encode(&mut run(&f, face, hop2)).unwrap();
    let g = if stage == Stage::OnlyRe { (0..f.len()).map(encode).collect() } else { f.clone() };
    let link = |face: usize| match stage {
        Stage::OnlyLp => whole.model.link(&mut run(&g, face, hop1)).unwrap(),
        _ => neighbourhoods[face].iter().map(|&other| (1.0 + cosine(&g[face], &g[other])) / 2.0).collect(),
    };
    let of_face = |face: usize| {
        let pairs = neighbourhoods[face].iter().zip(link(face)).collect::<Vec<_>>();
        pairs.into_iter().map(move |(&candidate, probability)| Linkage { face, candidate, probability })
    };
    (0..f.len()).flat_map(of_face).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

/// A threshold that some of the pairs are above, with no linkage so near that the last bit would matter: in the widest gap
/// around the upper third.
fn between_two(linkages: &[Linkage]) -> f32 {
    let mut all: Vec<f32> = linkages.iter().map(|linkage| linkage.probability).collect();
    all.sort_by(f32::total_cmp);
    let around = &all[all.len() * 6 / 10..all.len() * 8 / 10];
    let widest = around.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap();
    (widest[0] + widest[1]) / 2.0
}

/// Who is with whom, by row.
type Clusters = BTreeSet<BTreeSet<usize>>;

fn components(linkages: &[Linkage], threshold: f32) -> Clusters {
    let mut labels: Vec<usize> = (0..FACES).collect();
    for link in linkages.iter().filter(|linkage| linkage.probability > threshold) {
        let (from, to) = (labels[link.face], labels[link.candidate]);
        labels.iter_mut().filter(|label| **label == from).for_each(|label| *label = to);
    }
    by_label(labels)
}

fn by_label<L: Ord>(labels: impl IntoIterator<Item = L>) -> Clusters {
    let mut clusters: BTreeMap<L, BTreeSet<usize>> = BTreeMap::new();
    for (row, label) in labels.into_iter().enumerate() {
        clusters.entry(label).or_default().insert(row);
    }
    clusters.into_values().collect()
}

/// The fixture's model with every stage; its own graphs serve the stages too.
fn model_with_stages(folder: &Path, thresholds: &BTreeMap<Stage, f32>) -> PathBuf {
    let (fixture, model) = (project().join("tests/fixtures/model"), folder.join("model"));
    std::fs::create_dir(&model).unwrap();
    let described = std::fs::read_to_string(fixture.join("model.toml")).unwrap();
    let files = described.parse::<toml::Table>().unwrap()["files"].clone();
    let mut text = described;
    for (stage, threshold) in thresholds {
        text += &format!("\n[stages.{stage}]\nmerging = {{ rule = \"single\", threshold = {threshold} }}\n");
        for (graph, runs) in [("re", stage.runs_re()), ("lp", stage.runs_lp())] {
            let sealed = &files[graph];
            if runs {
                text += &format!("{graph} = {{ name = \"only_{graph}.onnx\", sha256 = {} }}\n", sealed["sha256"]);
            }
        }
    }
    std::fs::write(model.join("model.toml"), text).unwrap();
    for graph in ["re.onnx", "lp.onnx"] {
        std::fs::copy(fixture.join(graph), model.join(graph)).unwrap();
        std::fs::copy(fixture.join(graph), model.join(format!("only_{graph}"))).unwrap();
    }
    model
}

fn cluster(features: &Path, model: &Path, stage: &str, labels: &Path) -> Command {
    let mut command = facetd();
    command.args(["cluster", "--device", "cpu", "--stage", stage, "--features"]).arg(features);
    command.arg("--model").arg(model).arg("--labels").arg(labels);
    command
}

fn clustered(features: &Path, model: &Path, stage: Stage, folder: &Path) -> Clusters {
    let labels = folder.join("labels.meta");
    output_of(&mut cluster(features, model, stage.name(), &labels));
    by_label(read_labels(&labels).unwrap())
}

/// The same faces as the daemon takes them, until it has settled.
fn streamed(rows: &[Vec<f32>], model: LoadedModel) -> Clusters {
    let LoadedModel { artefact, model } = model;
    let dimension = artefact.shape.dimension;
    let mut stream = DrivenShard::open(config(), &artefact, model);
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let face = |(place, row): (usize, &Vec<f32>)| Face {
            id: FaceId::new(&face_id_of_row(batch * BATCH + place)).unwrap(),
            embedding: Embedding::normalise(row, dimension).unwrap(),
            frame_id: None,
            quality: None,
            captured_at: None,
            place: Place { partition: Partition(0), offset: Offset(0) },
        };
        let records = rows.iter().enumerate().map(face).map(|face| stream.arrival(face)).collect();
        stream.apply(records);
    }
    stream.settle();
    let row = |id: &FaceId| id.as_str().parse::<usize>().unwrap();
    stream.clusters().into_values().map(|faces| faces.iter().map(row).collect()).collect()
}
