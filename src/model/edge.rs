//! What a linkage predictor may be told of a face q and one of its candidates k beside their `g`: how the two stand
//! in each other's neighbourhood. model.toml names the features its LP was trained with; `engine::edges` computes
//! them. models/train/EDGES.md has the formulas and why it is these.

use serde::Deserialize;

/// A feature of the pair (q, k), k in q's neighbourhood N(q).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeFeature {
    /// Of f(q) and f(k).
    Cosine,
    /// Where k is in N(q): 0 for the nearest, up to 1.
    Rank,
    /// Where q is in N(k), 1 where it is not.
    ReverseRank,
    /// How much the circles of q and k, each a face and its 5 nearest, have in common: 0 to 1.
    #[serde(rename = "weighted_shared_5")]
    WeightedShared5,
    /// The same of all of N(q) and N(k).
    #[serde(rename = "weighted_shared_hop1")]
    WeightedSharedHop1,
    /// The cosine above the mean cosine of q's 10 nearest.
    DensityQuery,
    /// The cosine above the mean cosine of k's 10 nearest.
    DensityCandidate,
}

impl EdgeFeature {
    pub const ALL: [EdgeFeature; 7] = [
        EdgeFeature::Cosine,
        EdgeFeature::Rank,
        EdgeFeature::ReverseRank,
        EdgeFeature::WeightedShared5,
        EdgeFeature::WeightedSharedHop1,
        EdgeFeature::DensityQuery,
        EdgeFeature::DensityCandidate,
    ];

    /// Whether it changes when only the candidate's neighbourhood does.
    pub fn reads_candidate(self) -> bool {
        match self {
            EdgeFeature::Cosine | EdgeFeature::Rank | EdgeFeature::DensityQuery => false,
            EdgeFeature::ReverseRank
            | EdgeFeature::WeightedShared5
            | EdgeFeature::WeightedSharedHop1
            | EdgeFeature::DensityCandidate => true,
        }
    }
}
