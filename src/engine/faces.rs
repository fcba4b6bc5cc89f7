//! The table of faces: one row a node, append-only, shared by every step of the engine.
//!
//! Vectors lie flat, row after row, so that a step can walk them without chasing pointers.

use std::collections::HashMap;
use std::ops::Range;

use crate::face::{Embedding, FaceId, NodeId};

/// Vectors of one width, row after row.
#[derive(Debug, Clone)]
pub struct Rows {
    dimension: usize,
    values: Vec<f32>,
}

impl Rows {
    pub fn new(dimension: usize) -> Rows {
        Rows { dimension, values: Vec::new() }
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn row(&self, node: NodeId) -> &[f32] {
        &self.values[node.index() * self.dimension..][..self.dimension]
    }

    pub fn row_mut(&mut self, node: NodeId) -> &mut [f32] {
        &mut self.values[node.index() * self.dimension..][..self.dimension]
    }

    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.dimension, "a row of another width");
        self.values.extend_from_slice(row);
    }

    /// Makes room up to `len` rows; new ones are zero.
    pub fn grow(&mut self, len: usize) {
        self.values.resize(len * self.dimension, 0.0);
    }
}

/// Every face of a collection: its name, its embedding `f` and its enhanced embedding `g`.
#[derive(Debug)]
pub struct Faces {
    ids: Vec<FaceId>,
    nodes: HashMap<FaceId, NodeId>,
    embeddings: Rows,
    /// Zero until encoded.
    pub(crate) enhanced: Rows,
}

impl Faces {
    pub fn new(dimension: usize) -> Faces {
        Faces {
            ids: Vec::new(),
            nodes: HashMap::new(),
            embeddings: Rows::new(dimension),
            enhanced: Rows::new(dimension),
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Gives `id` the next node. The caller has made sure that it has none yet.
    pub fn add(&mut self, id: FaceId, embedding: &Embedding) -> NodeId {
        let node = NodeId(u32::try_from(self.ids.len()).expect("the engine refuses faces past NodeId's range"));
        self.embeddings.push(embedding.values());
        self.enhanced.grow(self.ids.len() + 1);
        self.nodes.insert(id.clone(), node);
        self.ids.push(id);
        node
    }

    pub fn id(&self, node: NodeId) -> &FaceId {
        &self.ids[node.index()]
    }

    pub fn node(&self, id: &FaceId) -> Option<NodeId> {
        self.nodes.get(id).copied()
    }

    pub fn embedding(&self, node: NodeId) -> &[f32] {
        self.embeddings.row(node)
    }

    pub fn enhanced(&self, node: NodeId) -> &[f32] {
        self.enhanced.row(node)
    }

    pub fn dimension(&self) -> usize {
        self.embeddings.dimension()
    }

    /// The cosine of two faces' embeddings.
    pub fn similarity(&self, a: NodeId, b: NodeId) -> f32 {
        dot(self.embedding(a), self.embedding(b))
    }
}

/// The nodes from `range.start` up to but without `range.end`, in order of arrival.
pub fn nodes(range: Range<usize>) -> impl ExactSizeIterator<Item = NodeId> + Clone {
    (range.start as u32..range.end as u32).map(NodeId).collect::<Vec<_>>().into_iter()
}

/// The dot product, summed in 16 lanes: the compiler turns them into vector registers, and the
/// result depends on nothing but the values. Of two embeddings, it is their cosine.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (chunk_a, chunk_b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            lanes[lane] += chunk_a[lane] * chunk_b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_product_is_that_of_the_textbook_at_every_width() {
        for width in [1usize, 15, 16, 17, 128, 130] {
            let a: Vec<f32> = (0..width).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..width).map(|i| (i as f32 * 0.91).cos()).collect();
            let expected: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-5, "width {width}");
        }
    }
}
