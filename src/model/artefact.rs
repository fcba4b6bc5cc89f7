//! A model's folder: `re.onnx`, `lp.onnx` and the `model.toml` that describes and seals them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ModelError;

/// The format of model.toml this program reads.
const FORMAT: u32 = 1;
/// Bounds that keep a wrong model.toml from asking for all the memory there is.
const LARGEST_DIMENSION: usize = 4096;
const LARGEST_HOP: usize = 1024;

/// What the engine must know of a model to feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of an embedding.
    pub dimension: usize,
    /// Neighbours that are link candidates.
    pub hop1: usize,
    /// Of those, how many feed RE.
    pub hop2: usize,
}

/// model.toml. What it says for readers alone ([training], [scores]) is not read here.
#[derive(Debug, Clone, Deserialize)]
struct Description {
    format: u32,
    name: String,
    dimension: usize,
    hop1: usize,
    hop2: usize,
    #[serde(default)]
    edges: Vec<String>,
    merging: Merging,
    files: Files,
}

/// How linkages become clusters: chosen with the model, on validation identities.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Merging {
    pub rule: Rule,
    /// τ: a linkage above it is a link.
    pub threshold: f32,
}

/// The merging rules of DESIGN.md that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Connected components of links.
    Single,
}

#[derive(Debug, Clone, Deserialize)]
struct Files {
    re: SealedFile,
    lp: SealedFile,
}

#[derive(Debug, Clone, Deserialize)]
struct SealedFile {
    name: String,
    sha256: String,
}

/// A checked model folder.
#[derive(Debug, Clone)]
pub struct Artefact {
    pub folder: PathBuf,
    pub name: String,
    pub shape: Shape,
    pub merging: Merging,
    pub relation_encoder: PathBuf,
    pub linkage_predictor: PathBuf,
    /// Changes whenever a state made with this model could not have been made with another.
    pub fingerprint: String,
}

impl Artefact {
    /// Reads `folder`/model.toml and checks the hash of both graphs.
    pub fn open(folder: &Path) -> Result<Artefact, ModelError> {
        let path = folder.join("model.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let refuse = |reason: String| ModelError::Artefact { path: path.clone(), reason };
        let description: Description = toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        description.check().map_err(refuse)?;

        let Description { name, dimension, hop1, hop2, merging, files, .. } = description;
        let (re, lp, Merging { rule, threshold }) = (&files.re.sha256, &files.lp.sha256, &merging);
        let fingerprint = format!("{re}:{lp}:{dimension}:{hop1}:{hop2}:{rule:?}:{threshold}");
        Ok(Artefact {
            folder: folder.to_path_buf(),
            name,
            shape: Shape { dimension, hop1, hop2 },
            relation_encoder: files.re.open(folder)?,
            linkage_predictor: files.lp.open(folder)?,
            fingerprint: hex(&Sha256::digest(fingerprint)),
            merging,
        })
    }
}

impl Description {
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format is {}, this facetd reads {FORMAT}: use a facetd that matches", self.format));
        }
        if !(1..=LARGEST_DIMENSION).contains(&self.dimension) {
            return Err(format!("dimension is {}, not 1 to {LARGEST_DIMENSION}", self.dimension));
        }
        if !(1..=LARGEST_HOP).contains(&self.hop1) || !(1..=self.hop1).contains(&self.hop2) {
            return Err(format!("hop1 {} must be 1 to {LARGEST_HOP}, hop2 {} at most hop1", self.hop1, self.hop2));
        }
        if !(0.0..1.0).contains(&self.merging.threshold) {
            return Err(format!("merging.threshold is {}, not 0 up to 1", self.merging.threshold));
        }
        if !self.edges.is_empty() {
            return Err("it wants edge features, which this facetd does not compute".to_string());
        }
        Ok(())
    }
}

impl SealedFile {
    fn open(&self, folder: &Path) -> Result<PathBuf, ModelError> {
        let path = folder.join(&self.name);
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let found = hex(&Sha256::digest(&bytes));
        if found != self.sha256.to_lowercase() {
            return Err(ModelError::Hash { path, expected: self.sha256.clone(), found });
        }
        Ok(path)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
