//! The structural features of a face and its candidates, for linkage predictors that read them: models/train/EDGES.md
//! has the definitions, tests/python/oracle.py computes them apart.
//!
//! They are made of neighbourhoods alone, so a face's change when its own neighbourhood does, or that of a
//! candidate; see [`super::scoring`] for whom that makes stale.
//!
//! Cost: O(hop1²) look-ups a face where a feature reads the candidates' neighbourhoods, else O(hop1).

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::graph::{Graph, Neighbour};
use crate::face::NodeId;
use crate::model::EdgeFeature;

/// The neighbours that say how dense it is around a face.
const DENSITY: usize = 10;
/// Of the smaller circle.
const NEAR: usize = 5;

/// Stands for a face that is not there; no face's node is as high.
const STRANGER: NodeId = NodeId(u32::MAX);

/// Computes features, face after face.
pub struct Edges {
    features: Vec<EdgeFeature>,
    hop1: usize,
    reads_candidates: bool,
    /// Of the face at hand: whom its neighbourhood holds.
    places: FxHashMap<NodeId, Placed>,
    values: Vec<f32>,
}

/// Where a face is in the neighbourhood of the one at hand, and its weight in that one's circle.
#[derive(Debug, Clone, Copy)]
struct Placed {
    place: usize,
    weight: f32,
}

/// What a candidate's neighbourhood says of a pair.
#[derive(Debug, Clone, Copy, Default)]
struct FromTheCandidate {
    reverse_rank: f32,
    near: f32,
    whole: f32,
}

/// What two circles have in common, and the squared length of the candidate's weights.
struct Shared {
    common: f32,
    squares: f32,
}

impl Edges {
    pub fn new(features: &[EdgeFeature], hop1: usize) -> Edges {
        let reads_candidates = features.iter().any(|feature| feature.reads_candidate());
        Edges { features: features.to_vec(), hop1, reads_candidates, places: FxHashMap::default(), values: Vec::new() }
    }

    /// Of `node` and each candidate of its neighbourhood, nearest first: a row of features each.
    pub fn of(&mut self, graph: &Graph, node: NodeId) -> &[f32] {
        self.compute(node, graph.neighbourhood(node), |candidate| Cow::Borrowed(graph.neighbourhood(candidate.node)))
    }

    /// As [`Edges::of`], of a face that is not there, if it were: whoever it is nearer to than their neighbours are
    /// would have it for one.
    pub fn of_stranger(&mut self, graph: &Graph, neighbourhood: &[Neighbour]) -> &[f32] {
        let hop1 = self.hop1;
        self.compute(STRANGER, neighbourhood, |candidate| {
            let mut around = graph.neighbourhood(candidate.node).to_vec();
            let place = around.partition_point(|neighbour| neighbour.similarity >= candidate.similarity);
            around.insert(place, Neighbour { node: STRANGER, ..*candidate });
            around.truncate(hop1);
            Cow::Owned(around)
        })
    }

    fn compute<'a>(
        &mut self,
        node: NodeId,
        neighbourhood: &[Neighbour],
        around: impl Fn(&Neighbour) -> Cow<'a, [Neighbour]>,
    ) -> &[f32] {
        self.values.clear();
        if self.features.is_empty() {
            return &self.values;
        }
        if self.reads_candidates {
            let placed = |(place, neighbour): (usize, &Neighbour)| {
                (neighbour.node, Placed { place, weight: weight(*neighbour) })
            };
            self.places.clear();
            self.places.extend(neighbourhood.iter().enumerate().map(placed));
        }
        let mut values = std::mem::take(&mut self.values);
        let (near, whole) = (length(neighbourhood, NEAR), length(neighbourhood, self.hop1));
        let density = density(neighbourhood);
        for (place, candidate) in neighbourhood.iter().enumerate() {
            let around = around(candidate);
            let from = match self.reads_candidates {
                true => self.ask_the_candidate(node, place, candidate, &around),
                false => FromTheCandidate::default(),
            };
            let value = |feature: &EdgeFeature| match feature {
                EdgeFeature::Cosine => candidate.similarity,
                EdgeFeature::Rank => self.rank(place),
                EdgeFeature::ReverseRank => from.reverse_rank,
                EdgeFeature::WeightedShared5 => from.near / near,
                EdgeFeature::WeightedSharedHop1 => from.whole / whole,
                EdgeFeature::DensityQuery => candidate.similarity - density,
                EdgeFeature::DensityCandidate => candidate.similarity - self::density(&around),
            };
            values.extend(self.features.iter().map(value));
        }
        self.values = values;
        &self.values
    }

    fn rank(&self, place: usize) -> f32 {
        (place as f32).ln_1p() / (self.hop1 as f32).ln_1p()
    }

    fn ask_the_candidate(
        &self,
        node: NodeId,
        place: usize,
        candidate: &Neighbour,
        around: &[Neighbour],
    ) -> FromTheCandidate {
        let reverse = around.iter().position(|neighbour| neighbour.node == node);
        // The candidate is in its own circle, with weight 1.
        let itself = weight(*candidate);
        let begin = |circle: usize| Shared { common: if place < circle { itself } else { 0.0 }, squares: 1.0 };
        let (mut near, mut whole) = (begin(NEAR), begin(self.hop1));
        for (rank, &neighbour) in around.iter().enumerate() {
            let theirs = weight(neighbour);
            let placed = match neighbour.node == node {
                true => Some(Placed { place: 0, weight: 1.0 }),
                false => self.places.get(&neighbour.node).copied(),
            };
            for (shared, circle) in [(&mut near, NEAR), (&mut whole, self.hop1)] {
                if rank < circle {
                    shared.squares += theirs * theirs;
                    let ours = placed.filter(|placed| placed.place < circle).map_or(0.0, |placed| placed.weight);
                    shared.common += ours * theirs;
                }
            }
        }
        FromTheCandidate {
            reverse_rank: reverse.map_or(1.0, |place| self.rank(place)),
            near: near.common / near.squares.sqrt(),
            whole: whole.common / whole.squares.sqrt(),
        }
    }
}

/// Of a neighbour in the circle of the face whose neighbour it is.
fn weight(neighbour: Neighbour) -> f32 {
    neighbour.similarity.max(0.0)
}

/// Of the weights in a circle, the face itself among them.
fn length(neighbourhood: &[Neighbour], circle: usize) -> f32 {
    let squares = neighbourhood.iter().take(circle).map(|&neighbour| weight(neighbour).powi(2));
    (1.0 + squares.sum::<f32>()).sqrt()
}

/// The mean cosine of the nearest; 0 where there is none.
fn density(neighbourhood: &[Neighbour]) -> f32 {
    let nearest = &neighbourhood[..neighbourhood.len().min(DENSITY)];
    nearest.iter().map(|neighbour| neighbour.similarity).sum::<f32>() / nearest.len().max(1) as f32
}
