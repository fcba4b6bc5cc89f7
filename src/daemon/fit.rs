//! Watches whether the model fits the collections: what it was trained at beside what their faces have, as metrics, and a
//! line in the log where the two are too far apart.
//!
//! One collection at a look, in turn, and of it a draw of faces: a look takes about a millisecond however many
//! there are, and a fit does not change in a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::engine::Engine;
use crate::face::{CollectionName, NodeId};
use crate::metrics::Metrics;
use crate::model::fit::{BOUND, Difference, Quantiles, TrainedAt};

/// Faces below which a collection's quantiles say little.
const ENOUGH: usize = 1000;
/// Faces of one look.
const DRAWN: usize = 256;

pub struct FitWatch {
    metrics: Arc<Metrics>,
    trained_at: Option<TrainedAt>,
    /// The collection looked at last.
    turn: Option<CollectionName>,
    /// Those that have a series.
    shown: BTreeSet<CollectionName>,
    /// Those the log has told of: once is enough.
    told: BTreeSet<CollectionName>,
}

impl FitWatch {
    pub fn new(metrics: Arc<Metrics>, trained_at: Option<TrainedAt>) -> FitWatch {
        if let Some(TrainedAt { quantiles, .. }) = trained_at {
            for (quantile, cosine) in quantiles.named() {
                metrics.model_neighbour_similarity.with_label_values(&[quantile]).set(cosine);
            }
        }
        FitWatch { metrics, trained_at, turn: None, shown: BTreeSet::new(), told: BTreeSet::new() }
    }

    /// Looks at the next collection that has enough faces.
    pub fn look(&mut self, engines: &BTreeMap<CollectionName, Engine>) {
        let enough = |name: &CollectionName| engines.get(name).is_some_and(|engine| engine.len() >= ENOUGH);
        for emptied in self.shown.extract_if(.., |name| !enough(name)) {
            // Nor need this one be there: not every collection is compared.
            let _ = self.metrics.neighbour_similarity_difference.remove_label_values(&[emptied.as_str()]);
            for quantile in Quantiles::NAMES {
                // It was shown, so it is there.
                let _ = self.metrics.neighbour_similarity.remove_label_values(&[emptied.as_str(), quantile]);
            }
        }
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut in_turn = engines.range::<CollectionName, _>((after, Bound::Unbounded)).chain(engines);
        let Some((name, engine)) = in_turn.find(|(name, _)| enough(name)) else { return };
        self.turn = Some(name.clone());
        self.show(name, engine);
    }

    fn show(&mut self, name: &CollectionName, engine: &Engine) {
        let neighbourhoods = drawn(engine);
        let Some(quantiles) = Quantiles::of(neighbourhoods.concat()) else { return };
        for (quantile, cosine) in quantiles.named() {
            self.metrics.neighbour_similarity.with_label_values(&[name.as_str(), quantile]).set(cosine);
        }
        self.shown.insert(name.clone());
        let fit = self.trained_at.and_then(|trained_at| trained_at.compare(engine.len(), &neighbourhoods));
        let Some(fit) = fit else { return };
        let Difference { quantile, by } = fit.furthest();
        self.metrics.neighbour_similarity_difference.with_label_values(&[name.as_str()]).set(f64::from(by));
        if !fit.is_good() && self.told.insert(name.clone()) {
            tracing::warn!(
                collection = %name, faces = engine.len(), quantile, by, bound = BOUND,
                "neighbours are nearer (by above 0) or farther than those the model was trained at: is it for these faces? \
                 `facetd check --sample` compares a file of them"
            );
        }
    }
}

/// The neighbours' cosines of faces evenly drawn.
fn drawn(engine: &Engine) -> Vec<Vec<f32>> {
    let slots = engine.faces().slots();
    let count = DRAWN.min(slots);
    let nodes = (0..count).map(|place| NodeId((place * slots / count) as u32));
    let live = nodes.filter(|&node| engine.faces().is_live(node));
    live.map(|node| engine.graph().neighbourhood(node).iter().map(|held| held.similarity).collect()).collect()
}
