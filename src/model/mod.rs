//! The Face Transformer (Ye, Peng et al. 2021) behind one trait: a relation encoder RE and a
//! linkage predictor LP, both reading a face and its neighbours.
//!
//! [`artefact`] reads the model's folder, [`onnx`] runs its two graphs, [`runtime`] finds ONNX
//! Runtime; [`edge`] names what LP may be told of a pair, [`stage`] which of the two run, [`fit`] whether a model is
//! made for the faces it meets. The engine runs a model through [`FaceTransformer`].

pub mod artefact;
pub mod edge;
pub mod fit;
pub mod onnx;
pub mod runtime;
pub mod stage;

use std::path::PathBuf;

pub use artefact::{Artefact, Shape};
pub use edge::EdgeFeature;
pub use onnx::OnnxModel;
pub use runtime::{Device, Runtime};
pub use stage::Stage;

/// What can be wrong with a model. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read {}: {source}; model.dir must name a folder with model.toml, re.onnx and lp.onnx", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Artefact { path: PathBuf, reason: String },
    #[error(
        "{} has sha256 {found}, model.toml says {expected}: the file is damaged or of another model; export it again",
        path.display()
    )]
    Hash { path: PathBuf, expected: String, found: String },
    #[error(
        "no ONNX Runtime: {reason}; run `scripts/setup runtime`, or set model.runtime (FACETD_MODEL__RUNTIME) to libonnxruntime.so"
    )]
    Runtime { reason: String },
    #[error(
        "device {device}: {reason}; install onnxruntime-gpu's library and CUDA, or set model.device to \"cpu\" or \"auto\""
    )]
    Device { device: String, reason: String },
    #[error("{}: ONNX Runtime cannot load it: {reason}", path.display())]
    Session { path: PathBuf, reason: String },
    #[error("ONNX Runtime failed in {graph}: {reason}")]
    Run { graph: &'static str, reason: String },
}

/// Neighbourhoods for one run: each a face, its neighbours and a mask that says which of them are there.
///
/// Flat and row-major: `faces` [B,d], `neighbours` [B,hop,d], `mask` [B,hop], `edges` [B,hop,e].
#[derive(Debug, Clone)]
pub struct Neighbourhoods {
    dimension: usize,
    hop: usize,
    /// e: how much is told of a face and one of its neighbours.
    edge_features: usize,
    pub faces: Vec<f32>,
    pub neighbours: Vec<f32>,
    pub mask: Vec<bool>,
    pub edges: Vec<f32>,
}

impl Neighbourhoods {
    pub fn new(dimension: usize, hop: usize) -> Neighbourhoods {
        Neighbourhoods::with_edges(dimension, hop, 0)
    }

    pub fn with_edges(dimension: usize, hop: usize, edge_features: usize) -> Neighbourhoods {
        let (faces, neighbours, mask, edges) = Default::default();
        Neighbourhoods { dimension, hop, edge_features, faces, neighbours, mask, edges }
    }

    pub fn len(&self) -> usize {
        self.faces.len() / self.dimension
    }

    pub fn is_empty(&self) -> bool {
        self.faces.is_empty()
    }

    pub fn hop(&self) -> usize {
        self.hop
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    pub fn edge_features(&self) -> usize {
        self.edge_features
    }

    /// Appends a face with at most `hop` neighbours; the places left are masked out.
    pub fn push<'a>(&mut self, face: &[f32], neighbours: impl IntoIterator<Item = &'a [f32]>) {
        self.faces.extend_from_slice(face);
        let end = self.mask.len() + self.hop;
        for neighbour in neighbours.into_iter().take(self.hop) {
            self.neighbours.extend_from_slice(neighbour);
            self.mask.push(true);
        }
        self.pad(end);
    }

    /// The edge features of the face appended last, neighbour after neighbour.
    pub fn set_edges(&mut self, values: &[f32]) {
        let start = self.edges.len() - self.hop * self.edge_features;
        self.edges[start..][..values.len()].copy_from_slice(values);
    }

    /// Appends rows of nothing until there are `rows`.
    pub(crate) fn pad_to(&mut self, rows: usize) {
        self.faces.resize(rows * self.dimension, 0.0);
        self.pad(rows * self.hop);
    }

    fn pad(&mut self, places: usize) {
        self.mask.resize(places, false);
        self.neighbours.resize(places * self.dimension, 0.0);
        self.edges.resize(places * self.edge_features, 0.0);
    }

    pub fn clear(&mut self) {
        self.faces.clear();
        self.neighbours.clear();
        self.mask.clear();
        self.edges.clear();
    }
}

/// The two learned modules. A row's result does not depend on the rows beside it.
pub trait FaceTransformer: Send + Sync {
    fn shape(&self) -> Shape;

    /// What LP is told of a face and a neighbour beside their `g`, in this order; the paper's LP nothing.
    fn edges(&self) -> &[EdgeFeature];

    /// RE (equations 4 to 6): embeddings `f` of faces and of their `hop2` neighbours to enhanced
    /// embeddings `g`, [B,d].
    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError>;

    /// LP (equations 7 to 9): `g` of faces and of their `hop1` neighbours, and their edge features, to linkages,
    /// [B,hop1] in 0..1.
    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError>;
}
