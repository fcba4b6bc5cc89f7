//! Step 3, encode: RE over faces and their first `hop2` neighbours, to enhanced embeddings `g`.
//!
//! One run of the graph per [`LARGEST_RUN`] faces.

use super::faces::Faces;
use super::graph::Graph;
use crate::face::NodeId;
use crate::model::onnx::LARGEST_RUN;
use crate::model::{FaceTransformer, ModelError, Neighbourhoods};

/// Writes `g` of each of `nodes` anew.
pub fn encode(
    model: &dyn FaceTransformer,
    graph: &Graph,
    faces: &mut Faces,
    nodes: &[NodeId],
) -> Result<(), ModelError> {
    let shape = model.shape();
    let mut rows = Neighbourhoods::new(shape.dimension, shape.hop2);
    for part in nodes.chunks(LARGEST_RUN) {
        rows.clear();
        for &node in part {
            let neighbours = graph.inner(node).iter().map(|neighbour| faces.embedding(neighbour.node));
            rows.push(faces.embedding(node), neighbours);
        }
        let enhanced = model.encode(&mut rows)?;
        for (&node, row) in part.iter().zip(enhanced.chunks(shape.dimension)) {
            faces.enhanced.row_mut(node).copy_from_slice(row);
        }
    }
    Ok(())
}
