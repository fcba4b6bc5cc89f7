//! Runs the two graphs with ONNX Runtime, one session a graph. Where the stage does without one, what stands in for it is
//! computed here ([`super::stage`]).
//!
//! Runs are padded to a few fixed row counts: on a GPU every new shape makes the arena grow
//! (onnxruntime#14474), and a row computed in the same shape gives the same bits whoever its
//! companions are.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::stage::similarities;
use super::{Artefact, Device, EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Runtime, Shape};
use crate::failpoint;

/// The row counts a run is padded to; more rows than the last are run in parts.
const BUCKETS: [usize; 3] = [4, 16, 64];
/// The rows of one run at most.
pub const LARGEST_RUN: usize = BUCKETS[BUCKETS.len() - 1];

/// How to run a model.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    pub device: Device,
    /// Threads of one run on the CPU.
    pub threads: usize,
}

/// The model of a folder, ready to run.
pub struct OnnxModel {
    shape: Shape,
    edges: Vec<EdgeFeature>,
    device: Device,
    /// Why it is not CUDA, where that was tried first.
    fell_back: Option<String>,
    relation_encoder: Option<Mutex<Session>>,
    linkage_predictor: Option<Mutex<Session>>,
}

impl OnnxModel {
    pub fn load(runtime: &Runtime, artefact: &Artefact, options: RunOptions) -> Result<OnnxModel, ModelError> {
        let mut got = None;
        let mut why = None;
        let mut session = |graph: &Option<PathBuf>| {
            let Some(path) = graph else { return Ok(None) };
            // What the first graph could not get, the second is not asked for.
            let Opened { session, device, fell_back } =
                open(runtime, path, RunOptions { device: got.unwrap_or(options.device), ..options })?;
            got = Some(device);
            why = why.take().or(fell_back);
            Ok(Some(Mutex::new(session)))
        };
        let (relation_encoder, linkage_predictor) =
            (session(&artefact.relation_encoder)?, session(&artefact.linkage_predictor)?);
        let model = OnnxModel {
            shape: artefact.shape,
            edges: artefact.edges.clone(),
            relation_encoder,
            linkage_predictor,
            fell_back: why,
            // Without a graph there is only what is computed here.
            device: got.unwrap_or(Device::Cpu),
        };
        model.try_out(artefact)?;
        Ok(model)
    }

    /// A row through each graph that runs: whether they take what model.toml says is known before a face is.
    fn try_out(&self, artefact: &Artefact) -> Result<(), ModelError> {
        let Shape { dimension, hop1, hop2 } = self.shape;
        let row = vec![1.0; dimension];
        let rows = |hop, edge_features| {
            let mut rows = Neighbourhoods::with_edges(dimension, hop, edge_features);
            rows.push(&row, [&row[..]]);
            rows
        };
        let tried = self.encode(&mut rows(hop2, 0)).and_then(|_| self.link(&mut rows(hop1, self.edges.len())));
        tried.map(drop).map_err(|error| ModelError::Artefact {
            path: artefact.folder.join("model.toml"),
            reason: format!("the graphs do not take what it describes ({error}); export the model again"),
        })
    }

    /// Where the model runs in the end: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        self.device
    }

    /// Why `auto` did not get CUDA, if so.
    pub fn fell_back(&self) -> Option<&str> {
        self.fell_back.as_deref()
    }
}

impl FaceTransformer for OnnxModel {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn edges(&self) -> &[EdgeFeature] {
        &self.edges
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        match &self.relation_encoder {
            Some(session) => run("RE", session, "enhanced", rows, self.shape.dimension),
            None => Ok(rows.faces.clone()),
        }
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let hop = rows.hop();
        match &self.linkage_predictor {
            Some(session) => run("LP", session, "linkage", rows, hop),
            None => Ok(similarities(rows)),
        }
    }
}

/// A session and the device it got.
struct Opened {
    session: Session,
    device: Device,
    fell_back: Option<String>,
}

fn open(runtime: &Runtime, path: &Path, options: RunOptions) -> Result<Opened, ModelError> {
    let (number, may_fall_back) = match options.device {
        Device::Cpu => return open_on(runtime, path, options.threads, None),
        Device::Cuda(number) => (number, false),
        Device::Auto => (0, true),
    };
    match open_on(runtime, path, options.threads, Some(number)) {
        Err(error) if may_fall_back => {
            tracing::warn!(%error, "cuda is not available, the models run on the cpu");
            let opened = open_on(runtime, path, options.threads, None)?;
            let why = match error {
                ModelError::Device { reason, .. } => reason,
                error => error.to_string(),
            };
            Ok(Opened { fell_back: Some(why), ..opened })
        }
        opened => opened,
    }
}

fn open_on(runtime: &Runtime, path: &Path, threads: usize, cuda: Option<i32>) -> Result<Opened, ModelError> {
    let refuse = |error: &dyn std::fmt::Display| match cuda {
        Some(number) => ModelError::Device { device: format!("cuda:{number}"), reason: error.to_string() },
        None => ModelError::Session { path: path.to_path_buf(), reason: error.to_string() },
    };
    let builder = Session::builder(&runtime.environment).map_err(|error| refuse(&error))?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|error| refuse(&error))?;
    // Spinning threads would take the cores from the index between two runs.
    let builder = builder.with_intra_op_spinning(false).map_err(|error| refuse(&error))?;
    let mut builder = builder.with_intra_threads(threads).map_err(|error| refuse(&error))?;
    if let Some(number) = cuda {
        let provider = ep::CUDA::default().with_device_id(number).build().error_on_failure();
        builder = builder.with_execution_providers([provider]).map_err(|error| refuse(&error))?;
    }
    let session = builder.commit_from_file(path).map_err(|error| refuse(&error))?;
    Ok(Opened { session, device: cuda.map_or(Device::Cpu, Device::Cuda), fell_back: None })
}

/// Runs a graph over `rows` and returns `width` values a row. Pads `rows` up to its bucket.
fn run(
    graph: &'static str,
    session: &Mutex<Session>,
    output: &str,
    rows: &mut Neighbourhoods,
    width: usize,
) -> Result<Vec<f32>, ModelError> {
    failpoint::refused("model::run").map_err(|error| ModelError::Run { graph, reason: error.to_string() })?;
    let wanted = rows.len();
    assert!(wanted <= LARGEST_RUN, "the caller runs more rows in parts");
    let bucket = BUCKETS.into_iter().find(|&bucket| bucket >= wanted).unwrap_or(LARGEST_RUN);
    rows.pad_to(bucket);

    let (hop, dimension) = (rows.hop(), rows.dimension());
    let failed = |error: ort::Error| ModelError::Run { graph, reason: error.to_string() };
    let mut inputs = ort::inputs! {
        "face" => TensorRef::from_array_view(([bucket, dimension], &rows.faces[..])).map_err(failed)?,
        "neighbours" => TensorRef::from_array_view(([bucket, hop, dimension], &rows.neighbours[..])).map_err(failed)?,
        "mask" => TensorRef::from_array_view(([bucket, hop], &rows.mask[..])).map_err(failed)?,
    };
    if rows.edge_features() > 0 {
        let shape = [bucket, hop, rows.edge_features()];
        let edges = TensorRef::from_array_view((shape, &rows.edges[..])).map_err(failed)?;
        inputs.push(("edges".into(), edges.into()));
    }
    // A panic of another run leaves the session as it was: nothing of a run is kept in it.
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = session.run(inputs).map_err(failed)?;
    let values = outputs.get(output).ok_or_else(|| ModelError::Run {
        graph,
        reason: format!("the graph has no output {output:?}; export it again"),
    })?;
    let (_, values) = values.try_extract_tensor::<f32>().map_err(failed)?;
    if values.len() != bucket * width {
        let reason = format!("{} values for {bucket} rows of {width}; export it again", values.len());
        return Err(ModelError::Run { graph, reason });
    }
    if values[..wanted * width].iter().any(|value| !value.is_finite()) {
        return Err(ModelError::Run { graph, reason: "it gave a value that is not a number".to_string() });
    }
    Ok(values[..wanted * width].to_vec())
}
