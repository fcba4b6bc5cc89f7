//! Faces to stream: the test half of the real ones when they are there, synthetic ones otherwise.

use std::path::PathBuf;
use std::process::Command;

use super::{facetd, output_of, project};

/// The low-resolution faces, as their folder and files are called.
const LOWRES: &str = "lfw_mobilefacenet128_lowres_derived";

/// A labelled file of features and a model that was not trained on its people.
pub struct Dataset {
    pub name: &'static str,
    pub features: PathBuf,
    pub labels: PathBuf,
    pub model: PathBuf,
    pub dimension: usize,
    /// Whether the faces are of real people.
    pub real: bool,
}

impl Dataset {
    /// The low-resolution test half, made by `make real-model` when the faces are there. Where they are
    /// not, synthetic faces stand in and the promise is printed as not proved.
    pub fn real_or_synthetic(promise: &str) -> Dataset {
        let real = project().join("target/real");
        let (features, labels) = (real.join("test.bin"), real.join("test.meta"));
        Dataset::real("lfw lowres, test half", features, labels).unwrap_or_else(|| Dataset::stand_in(promise, 4000))
    }

    /// All 13,233 low-resolution faces, the half that the model was trained on among them: to hold a
    /// stream against the batch, which is as good on them as it is. Synthetic ones stand in as above.
    pub fn every_real_face_or_synthetic(promise: &str) -> Dataset {
        let file = |ending| data_folder().join(LOWRES).join(format!("{LOWRES}.{ending}"));
        let real = Dataset::real("lfw lowres", file("bin"), file("meta"));
        real.unwrap_or_else(|| Dataset::stand_in(promise, 8000))
    }

    fn real(name: &'static str, features: PathBuf, labels: PathBuf) -> Option<Dataset> {
        if !real_faces_are_there() {
            return None;
        }
        let model = project().join("target/real/model");
        assert!(model.join("model.toml").is_file(), "there are real faces but no model for them: make real-model");
        Some(Dataset { name, features, labels, model, dimension: 128, real: true })
    }

    fn stand_in(promise: &str, faces: usize) -> Dataset {
        println!("NOT PROVED on real faces (no FACETD_DATA): {promise}");
        Dataset::synthetic("stand-in", faces, 11)
    }

    /// Synthetic faces and the shipped model.
    pub fn synthetic(name: &'static str, faces: usize, seed: u64) -> Dataset {
        let folder = project().join(format!("target/tmp/synthetic-{faces}-{seed}"));
        let (faces, seed) = (faces.to_string(), seed.to_string());
        let arguments = ["synth", "--faces", &faces, "--dimension", "128", "--seed", &seed, "--out"];
        output_of(facetd().args(arguments).arg(&folder));
        Dataset {
            name,
            features: folder.join("features.bin"),
            labels: folder.join("labels.meta"),
            model: project().join("models/demo-128"),
            dimension: 128,
            real: false,
        }
    }

    /// The features, row by row.
    pub fn rows(&self) -> Vec<Vec<f32>> {
        let bytes = std::fs::read(&self.features).unwrap();
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
        values.chunks(self.dimension).map(<[f32]>::to_vec).collect()
    }

    pub fn labels(&self) -> Vec<i64> {
        let text = std::fs::read_to_string(&self.labels).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// Where the real faces are: FACETD_DATA, or the usual place beside the project.
pub fn data_folder() -> PathBuf {
    std::env::var_os("FACETD_DATA").map_or_else(|| project().join("../shared/data"), PathBuf::from)
}

fn real_faces_are_there() -> bool {
    data_folder().join(LOWRES).is_dir()
}

/// Python with numpy, scipy and onnxruntime, and without torch.
pub fn light_python() -> Command {
    let mut environment = Command::new(project().join("models/train/environment"));
    Command::new(output_of(environment.arg("light")).trim())
}
