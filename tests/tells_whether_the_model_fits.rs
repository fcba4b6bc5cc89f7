//! Promise: whether the model was trained on faces like one's own is told beforehand by `facetd check --sample`, and by the
//! daemon's metrics and one line of its log while they stream. It is a warning; a file that is no sample is an error.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::faces::Dataset;
use common::{facetd, output_of, project};
use facetd::features::Features;

const DIMENSION: usize = 128;
/// More than `check` asks about, and fewer than the model was trained on.
const FACES: usize = 2400;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_sample_is_held_against_what_the_model_was_trained_at() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let folder = tempfile::tempdir().unwrap();

    let fits = check(&installation, &Dataset::synthetic("like it", FACES, 5).features);
    assert_says(&fits, "sample  ok", &["2400 faces", "of 2000 of them, evenly drawn", "q0.5", "[the model's]"]);
    assert!(fits.status.success());

    let warned = check(&installation, &written(folder.path(), "unlike.npy", &unlike()));
    assert_says(&warned, "sample  WARN", &["unlike.npy", "more than 0.12", "closer together", "models/train"]);
    assert!(warned.status.success(), "a warning is no error");

    let few = Features::new(DIMENSION, unlike()[..100 * DIMENSION].to_vec()).unwrap();
    let path = folder.path().join("few.npy");
    few.write(&path).unwrap();
    assert_says(&check(&installation, &path), "sample  WARN", &["100 faces", "too few to tell", "1211 or more"]);
}

#[test]
fn a_file_that_is_no_sample_is_an_error_with_the_way_out() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, words: &[&str]| {
        let output = check(&installation, path);
        assert_says(&output, "sample  FAIL", words);
        assert!(!output.status.success());
    };
    let narrow = folder.path().join("narrow.npy");
    Features::new(64, unlike()).unwrap().write(&narrow).unwrap();
    refused(&narrow, &["narrow.npy", "64 wide", "takes 128", "another embedder"]);
    let cut = folder.path().join("cut.bin");
    std::fs::write(&cut, [0; 4 * DIMENSION - 4]).unwrap();
    refused(&cut, &["cut.bin", "508 bytes", "128"]);
    let mut rows = unlike();
    rows[700 * DIMENSION + 3] = f32::NAN;
    refused(&written(folder.path(), "nan.npy", &rows), &["nan.npy", "row 700", "leave it out"]);
    refused(Path::new("/nowhere.npy"), &["/nowhere.npy"]);
}

#[test]
fn the_daemon_shows_it_and_says_it_once() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let folder = tempfile::tempdir().unwrap();
    let daemon = installation.start();
    assert_eq!(daemon.metric("facetd_model_neighbour_similarity{q=\"0.5\"}"), 0.3435);

    let features = written(folder.path(), "unlike.npy", &unlike());
    let (brokers, topic) = (&broker.topics.brokers, broker.topics.input());
    output_of(facetd().args(["replay", "--brokers", brokers, "--topic", &topic, "--features"]).arg(&features));
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    // Looked at once a second.
    daemon.wait_metric("facetd_neighbour_similarity{collection=\"default\",q=\"0.5\"}", 0.6, LIMIT);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success());
    let log = installation.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("facetd check --sample")).collect();
    assert!(told.len() == 1 && told[0].contains("WARN") && told[0].contains("collection=default"), "{told:#?}");
}

fn installation(broker: &MockBroker) -> Installation {
    Installation::new(&Settings { topics: &broker.topics, model: &project().join("models/demo-128"), more: "" })
}

fn check(installation: &Installation, sample: &Path) -> Output {
    facetd().args(["check", "--config"]).arg(installation.config()).arg("--sample").arg(sample).output().unwrap()
}

/// The answer has one line that begins so, and it has all of these words.
fn assert_says(output: &Output, beginning: &str, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("{beginning}: {text}"));
    println!("{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// As from an embedder whose embeddings all lean one way.
fn unlike() -> Vec<f32> {
    let mut rows = Dataset::synthetic("unlike", FACES, 6).rows();
    for row in &mut rows {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value += 1.5 * length / (DIMENSION as f32).sqrt());
    }
    rows.concat()
}

fn written(folder: &Path, name: &str, rows: &[f32]) -> PathBuf {
    let path = folder.join(name);
    Features::new(DIMENSION, rows.to_vec()).unwrap().write(&path).unwrap();
    path
}
