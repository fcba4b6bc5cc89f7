//! Which clusters an embedding would join, if it were a face's.
//!
//! Scored as a newcomer is, but that nobody's `g` or linkages are touched: those it would enter among the first
//! `hop2` of keep the `g` they have. What it says of a pair stands for both directions, as a newcomer's word does.
//! Cost: one search of the index, one row of RE and of LP.

use std::collections::BTreeMap;

use crate::engine::edges::Edges;
use crate::engine::graph::{Neighbour, nearest_first};
use crate::engine::index::Query;
use crate::engine::{Engine, EngineError};
use crate::face::{ClusterId, Embedding, FaceId};
use crate::model::Neighbourhoods;

/// What an embedding looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The cluster with the most evidence, if that is above τ; none: it would found one.
    pub would_join: Option<ClusterId>,
    /// By evidence, the highest first.
    pub clusters: Vec<FoundCluster>,
}

/// A living cluster that some of its neighbours are in.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundCluster {
    pub id: ClusterId,
    /// What the merging rule would go by, 0 to 1.
    pub evidence: f32,
    /// Nearest first.
    pub faces: Vec<FoundFace>,
}

/// A face in the neighbourhood.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundFace {
    pub face: FaceId,
    /// p(embedding → face).
    pub linkage: f32,
    /// Their cosine.
    pub similarity: f32,
}

impl Engine {
    /// `embedding` has the model's dimension.
    pub fn find(&self, embedding: &Embedding) -> Result<Found, EngineError> {
        let near = self.nearest(embedding);
        let linkages = self.linkages_of_stranger(embedding, &near)?;
        let mut by_cluster: BTreeMap<ClusterId, Vec<FoundFace>> = BTreeMap::new();
        for (neighbour, linkage) in near.iter().zip(linkages) {
            let Some(cluster) = self.clusters.book().cluster_of(neighbour.node) else { continue };
            let face = self.faces.id(neighbour.node).clone();
            by_cluster.entry(cluster).or_default().push(FoundFace { face, linkage, similarity: neighbour.similarity });
        }
        let merging = self.clusters.merging();
        let found = by_cluster.into_iter().map(|(id, faces)| {
            let linkages: Vec<f32> = faces.iter().map(|face| face.linkage).collect();
            FoundCluster { id, evidence: merging.evidence_of_one(&linkages), faces }
        });
        let mut clusters: Vec<FoundCluster> = found.collect();
        clusters.sort_by(|a, b| b.evidence.total_cmp(&a.evidence).then(a.id.cmp(&b.id)));
        let would_join = clusters.first().filter(|best| best.evidence > merging.threshold).map(|best| best.id);
        Ok(Found { would_join, clusters })
    }

    /// Its neighbourhood, nearest first.
    fn nearest(&self, embedding: &Embedding) -> Vec<Neighbour> {
        let hop1 = self.model.shape().hop1;
        let query = Query { embedding: embedding.values(), face: None };
        let mut near = self.index.search(&self.faces, query, hop1, &|_| false);
        near.sort_unstable_by(|a, b| nearest_first(&self.faces, a, b));
        near.truncate(hop1);
        near
    }

    /// p(embedding → k) for each of its neighbourhood.
    fn linkages_of_stranger(&self, embedding: &Embedding, near: &[Neighbour]) -> Result<Vec<f32>, EngineError> {
        if near.is_empty() {
            return Ok(Vec::new());
        }
        let (model, shape) = (self.model.as_ref(), self.model.shape());
        let mut rows = Neighbourhoods::new(shape.dimension, shape.hop2);
        let inner = near.iter().take(shape.hop2).map(|neighbour| self.faces.embedding(neighbour.node));
        rows.push(embedding.values(), inner);
        let enhanced = model.encode(&mut rows)?;
        let mut rows = Neighbourhoods::with_edges(shape.dimension, shape.hop1, model.edges().len());
        let candidates = near.iter().map(|neighbour| self.faces.enhanced(neighbour.node));
        rows.push(&enhanced[..shape.dimension], candidates);
        rows.set_edges(Edges::new(model.edges(), shape.hop1).of_stranger(&self.graph, near));
        Ok(model.link(&mut rows)?)
    }
}
