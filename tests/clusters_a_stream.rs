//! Promise: `facetd cluster --stream` gives the labels that the daemon has at each quarter of the stream, while records keep
//! coming, and once settled those of the batch.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::faces::Dataset;
use common::shard::DrivenShard;
use common::{facetd, output_of};
use facetd::config::{Config, Index};
use facetd::daemon::LoadedModel;
use facetd::face::{Embedding, Face, FaceId, Offset, Partition, Place};
use facetd::features::read_labels;
use facetd::model::Device;
use facetd::replay::face_id_of_row;

/// Not a multiple of four, nor of a batch.
const FACES: usize = 1203;
const BATCH: usize = 64;

#[test]
fn its_quarters_are_the_daemons_and_its_end_is_the_batch() {
    let dataset = Dataset::synthetic("stream", FACES, 21);
    let folder = tempfile::tempdir().unwrap();
    let labels = |name: &str| folder.path().join(name);
    cluster(&dataset, &labels("batch"), &[]);
    cluster(&dataset, &labels("stream"), &["--stream"]);

    let mut daemon = Daemon::start(&dataset);
    for (percent, rows) in [(25, 300), (50, 601), (75, 902), (100, FACES)] {
        daemon.stream_until(rows);
        let quarter = read_labels(&labels(&format!("stream.{percent}"))).unwrap();
        assert_eq!(quarter.len(), rows, "labels at {percent} %");
        assert_eq!(quarter, daemon.labels(), "at {percent} %");
    }
    assert!(daemon.stream.engine().stale() > 0, "nothing was left to settle, which proves little");
    let settled = read_labels(&labels("stream")).unwrap();
    assert_eq!(settled, read_labels(&labels("batch")).unwrap(), "settled");
    daemon.stream.settle();
    assert_eq!(settled, daemon.labels(), "the daemon's, settled");
}

#[test]
fn the_graph_may_be_used_too() {
    let dataset = Dataset::synthetic("stream", FACES, 21);
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("stream");
    cluster(&dataset, &labels, &["--stream", "--index", "hnsw"]);
    assert_eq!(read_labels(&labels).unwrap().len(), FACES);
}

fn cluster(dataset: &Dataset, labels: &Path, more: &[&str]) {
    let mut command = facetd();
    command.args(["cluster", "--device", "cpu", "--features"]).arg(&dataset.features);
    output_of(command.arg("--model").arg(&dataset.model).arg("--labels").arg(labels).args(more));
}

/// The daemon's shard on the same rows.
struct Daemon {
    rows: Vec<Vec<f32>>,
    streamed: usize,
    stream: DrivenShard,
}

impl Daemon {
    fn start(dataset: &Dataset) -> Daemon {
        let mut config = Config::parse("", std::iter::empty()).unwrap();
        config.engine.index = Index::Exact;
        config.model.dir = PathBuf::from(&dataset.model);
        config.model.device = Device::Cpu;
        let LoadedModel { artefact, model } = LoadedModel::load(&config.model).unwrap();
        Daemon { rows: dataset.rows(), streamed: 0, stream: DrivenShard::open(config, &artefact, model) }
    }

    fn stream_until(&mut self, end: usize) {
        while self.streamed < end {
            let batch = self.streamed..end.min(self.streamed + BATCH);
            self.streamed = batch.end;
            let records = batch.map(|row| {
                let face = face(row, &self.rows[row]);
                self.stream.arrival(face)
            });
            let records = records.collect();
            self.stream.apply(records);
        }
    }

    /// Numbered in order of first appearance.
    fn labels(&self) -> Vec<i64> {
        let clusters = self.stream.clusters();
        let of_face: HashMap<&FaceId, usize> = clusters
            .values()
            .enumerate()
            .flat_map(|(cluster, faces)| faces.iter().map(move |face| (face, cluster)))
            .collect();
        let mut numbers: HashMap<usize, i64> = HashMap::new();
        let number = |row: usize| {
            let next = numbers.len() as i64;
            *numbers.entry(of_face[&FaceId::new(&face_id_of_row(row)).unwrap()]).or_insert(next)
        };
        (0..self.streamed).map(number).collect()
    }
}

fn face(row: usize, values: &[f32]) -> Face {
    Face {
        id: FaceId::new(&face_id_of_row(row)).unwrap(),
        embedding: Embedding::normalise(values, values.len()).unwrap(),
        frame_id: None,
        quality: None,
        captured_at: None,
        place: Place { partition: Partition(0), offset: Offset(0) },
    }
}
