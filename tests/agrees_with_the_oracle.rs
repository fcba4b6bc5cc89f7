//! Promise: `facetd cluster` is the paper's pipeline. A few lines of Python with brute-force neighbours,
//! onnxruntime and scipy's connected components give the same partition.

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::faces::{Dataset, light_python};
use common::{facetd, output_of, project};

fn labels(path: &Path) -> Vec<i64> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

/// The same partition under other names: names in order of first appearance.
fn canonical(labels: &[i64]) -> Vec<usize> {
    let mut names = HashMap::new();
    labels
        .iter()
        .map(|label| {
            let next = names.len();
            *names.entry(label).or_insert(next)
        })
        .collect()
}

fn assert_agreement(dataset: &Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.meta"), folder.path().join("theirs.meta"));
    let mut cluster = facetd();
    cluster.args(["cluster", "--index", "exact", "--device", "cpu", "--features"]).arg(&dataset.features);
    output_of(cluster.arg("--model").arg(&dataset.model).arg("--labels").arg(&ours));
    let mut oracle = light_python();
    oracle.arg(project().join("tests/python/oracle.py")).arg("--features").arg(&dataset.features);
    oracle.args(["--dimension", &dataset.dimension.to_string(), "--model"]).arg(&dataset.model);
    output_of(oracle.arg("--labels").arg(&theirs));
    let (ours, theirs) = (canonical(&labels(&ours)), canonical(&labels(&theirs)));
    let clusters = ours.iter().max().unwrap() + 1;
    assert!(clusters > 1 && clusters < ours.len(), "{clusters} clusters of {} faces prove little", ours.len());
    let apart = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    assert_eq!(apart, 0, "{apart} of {} faces of {} are elsewhere", ours.len(), dataset.name);
    println!("{}: {} faces, {clusters} clusters, the same partition", dataset.name, ours.len());
}

#[test]
fn the_partition_is_the_oracles() {
    assert_agreement(&Dataset::synthetic("synthetic", 3000, 12));
    let dataset = Dataset::real_or_synthetic("facetd cluster agrees with the oracle");
    assert_agreement(&dataset);
}
