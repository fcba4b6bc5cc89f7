//! Step 4, link: LP over faces and their neighbourhoods, to linkages.
//!
//! One run of the graph per [`LARGEST_RUN`] faces.

use serde::{Deserialize, Serialize};

use super::edges::Edges;
use super::faces::Faces;
use super::graph::Graph;
use crate::face::NodeId;
use crate::model::onnx::LARGEST_RUN;
use crate::model::{FaceTransformer, ModelError, Neighbourhoods};

/// `p(q→k)`: LP's probability that `candidate` has the identity of the face it was scored for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Linkage {
    pub candidate: NodeId,
    pub probability: f32,
}

/// A face's linkages to its whole neighbourhood, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub node: NodeId,
    pub linkages: Vec<Linkage>,
}

/// Scores each of `nodes`, whose `g` and whose neighbours' are written.
pub fn link(
    model: &dyn FaceTransformer,
    graph: &Graph,
    faces: &Faces,
    nodes: &[NodeId],
) -> Result<Vec<Scored>, ModelError> {
    let shape = model.shape();
    let mut edges = Edges::new(model.edges(), shape.hop1);
    let mut rows = Neighbourhoods::with_edges(shape.dimension, shape.hop1, model.edges().len());
    let mut scored = Vec::with_capacity(nodes.len());
    for part in nodes.chunks(LARGEST_RUN) {
        rows.clear();
        for &node in part {
            let candidates = graph.neighbourhood(node).iter().map(|neighbour| faces.enhanced(neighbour.node));
            rows.push(faces.enhanced(node), candidates);
            rows.set_edges(edges.of(graph, node));
        }
        let probabilities = model.link(&mut rows)?;
        for (&node, row) in part.iter().zip(probabilities.chunks(shape.hop1)) {
            let linkages = graph.neighbourhood(node).iter().zip(row);
            let linkages = linkages.map(|(neighbour, &probability)| Linkage { candidate: neighbour.node, probability });
            scored.push(Scored { node, linkages: linkages.collect() });
        }
    }
    Ok(scored)
}
