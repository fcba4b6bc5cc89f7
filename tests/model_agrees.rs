//! Promise: the model gives in Rust what it gave in PyTorch, with and without masks, whatever the
//! size of the batch, and whoever a row's companions are.

use std::path::Path;

use facetd::model::onnx::RunOptions;
use facetd::model::{Artefact, Device, FaceTransformer, Neighbourhoods, OnnxModel, Runtime, Stage};
use serde::Deserialize;

/// A run recorded in PyTorch (models/train, `fixtures`): flat, row-major.
#[derive(Deserialize)]
struct Case {
    name: String,
    batch: usize,
    re: Recorded,
    lp: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    face: Vec<f32>,
    neighbours: Vec<f32>,
    mask: Vec<u8>,
    #[serde(alias = "enhanced", alias = "linkage")]
    output: Vec<f32>,
}

struct Fixture {
    model: OnnxModel,
    cases: Vec<Case>,
}

fn fixture() -> Fixture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model");
    let artefact = Artefact::open(&folder, Stage::ReLp).unwrap();
    let runtime = Runtime::load(None).unwrap();
    let options = RunOptions { device: Device::Cpu, threads: 2 };
    let model = OnnxModel::load(&runtime, &artefact, options).unwrap();
    let cases = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    Fixture { model, cases: serde_json::from_str(&cases).unwrap() }
}

/// The recorded input as the engine would give it: only the neighbours that are there. The
/// recorded masks are true up to a point and false after it, as the engine's always are.
fn rows(recorded: &Recorded, dimension: usize, hop: usize, which: impl Iterator<Item = usize>) -> Neighbourhoods {
    let mut rows = Neighbourhoods::new(dimension, hop);
    for row in which {
        let mask = &recorded.mask[row * hop..][..hop];
        let there = mask.iter().take_while(|&&there| there == 1).count();
        assert!(mask[there..].iter().all(|&there| there == 0), "a mask with a hole");
        let neighbours = recorded.neighbours[row * hop * dimension..][..there * dimension].chunks(dimension);
        rows.push(&recorded.face[row * dimension..][..dimension], neighbours);
    }
    rows
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_recorded_output_is_met_to_a_ten_thousandth() {
    let Fixture { model, cases } = fixture();
    let shape = model.shape();
    let batches: Vec<usize> = cases.iter().map(|case| case.batch).collect();
    assert!(batches.contains(&1) && batches.contains(&64), "recorded batches are {batches:?}");
    assert!(cases.iter().any(|case| case.lp.mask.contains(&0)) && cases.iter().any(|case| !case.lp.mask.contains(&0)));
    for case in &cases {
        let enhanced = model.encode(&mut rows(&case.re, shape.dimension, shape.hop2, 0..case.batch)).unwrap();
        let difference = largest_difference(&enhanced, &case.re.output);
        assert!(difference < 1e-4, "RE differs by {difference} in {}", case.name);
        let linkage = model.link(&mut rows(&case.lp, shape.dimension, shape.hop1, 0..case.batch)).unwrap();
        let difference = largest_difference(&linkage, &case.lp.output);
        assert!(difference < 1e-4, "LP differs by {difference} in {}", case.name);
    }
}

#[test]
fn a_row_alone_and_a_row_among_others_give_the_same() {
    let Fixture { model, cases } = fixture();
    let shape = model.shape();
    let re = |rows: &mut Neighbourhoods| model.encode(rows).unwrap();
    let lp = |rows: &mut Neighbourhoods| model.link(rows).unwrap();
    for case in cases.iter().filter(|case| case.batch == 64) {
        check_companions("RE", &re, &case.re, shape.dimension, shape.hop2, shape.dimension);
        check_companions("LP", &lp, &case.lp, shape.dimension, shape.hop1, shape.hop1);
    }
}

fn check_companions(
    graph: &str,
    run: &dyn Fn(&mut Neighbourhoods) -> Vec<f32>,
    recorded: &Recorded,
    dimension: usize,
    hop: usize,
    width: usize,
) {
    let all = run(&mut rows(recorded, dimension, hop, 0..64));
    // Same size of run, other companions: the same bits.
    let turned = run(&mut rows(recorded, dimension, hop, (0..64).rev()));
    let turned_back: Vec<f32> = turned.chunks(width).rev().flatten().copied().collect();
    assert_eq!(all, turned_back, "companions change a row of {graph}");
    for size in [1, 3, 10, 40] {
        let some = run(&mut rows(recorded, dimension, hop, 0..size));
        let difference = largest_difference(&some, &all[..some.len()]);
        assert!(difference < 1e-6, "a run of {size} of {graph} differs by {difference}");
    }
}
