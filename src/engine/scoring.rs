//! Who is scored in a batch: the newcomers, and of the stale faces as many as there is time for.
//!
//! `g` of a face depends on nobody's `g`, so what is stale does not spread for ever: whoever enters
//! the first `hop2` of a face changes its `g`, that makes the linkages of those it is a neighbour of
//! stale, and there it ends. All `g` of a batch are written before any linkage is scored. Where LP reads
//! features of a candidate's neighbourhood ([`super::edges`]), a neighbourhood that changes makes
//! stale whoever has its face for a candidate, and there that ends too.
//!
//! A refresh searches again when erasures have used up the reserve of a neighbourhood, and, where the
//! index is approximate, once the collection has grown by [`GROWN`] since the last search: those who
//! came later have met the face or not by their own search alone.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::event::Cause;
use super::faces::dot;
use super::graph::{Affected, Neighbour};
use super::index::Query;
use super::link::Linkage;
use super::snapshot::Reach;
use super::{Engine, EngineError, Observer, Step, encode, link};
use crate::face::NodeId;

/// The share by which more faces have come since a face's last search when an approximate index is
/// asked again: with it a face is searched for O(log n) times while n arrive.
const GROWN: f64 = 0.25;
/// Faces that are indexed anew, where that is under way, in a batch in which nobody waits.
const REBUILT_WHEN_IDLE: usize = 256;

impl Engine {
    /// Inserts who is arriving, lets them meet the others and notes whom they affect.
    pub(super) fn admit(&mut self, observer: &mut dyn Observer) {
        let arriving: Vec<NodeId> = self.ledger.arriving.iter().copied().collect();
        self.index.insert(&self.faces, &arriving);
        observer.finished(Step::Insert);
        self.meet(observer);
    }

    /// Lets who is arriving, and is in the index, meet the others and notes whom they affect.
    pub(super) fn meet(&mut self, observer: &mut dyn Observer) {
        let arriving: Vec<NodeId> = self.ledger.arriving.iter().copied().collect();
        self.graph.grow(self.faces.slots());
        self.clusters.grow(self.faces.slots());
        let met = self.search(&arriving);
        observer.finished(Step::Search);
        let exact = self.index.is_exact();
        for (&newcomer, found) in arriving.iter().zip(&met) {
            self.graph.renew(&self.faces, newcomer, found.clone(), self.arrival, exact);
        }
        let mut nearest: BTreeMap<NodeId, Affected> = BTreeMap::new();
        for (&newcomer, found) in arriving.iter().zip(&met) {
            for &met in found {
                let Some(affected) = self.graph.offer(&self.faces, met, newcomer) else { continue };
                if self.ledger.arriving.contains(&met.node) {
                    continue;
                }
                self.affect(&affected, false);
                let entry = nearest.entry(met.node).or_insert(affected);
                let enhanced_is_stale = entry.enhanced_is_stale || affected.enhanced_is_stale;
                if affected.similarity > entry.similarity {
                    *entry = affected;
                }
                entry.enhanced_is_stale = enhanced_is_stale;
            }
        }
        for Affected { node, because, enhanced_is_stale, .. } in nearest.into_values() {
            let cause = self.ledger.causes.get(&because).copied().unwrap_or(Cause::Refresh);
            self.ledger.causes.entry(node).or_insert(cause);
            if enhanced_is_stale {
                self.ledger.encode.insert(node);
            }
        }
        observer.finished(Step::Graph);
    }

    fn search(&mut self, nodes: &[NodeId]) -> Vec<Vec<Neighbour>> {
        self.ledger.work.searched += nodes.len();
        let (faces, index, graph) = (&self.faces, &self.index, &self.graph);
        // Whoever arrives in the same batch finds all of its neighbours itself where the index is exact. To note each
        // of them for each other, while their lists are empty, would take the square of a batch's faces in memory.
        let mut finds_itself = vec![false; if index.is_exact() { faces.slots() } else { 0 }];
        for node in self.ledger.arriving.iter().filter(|_| index.is_exact()) {
            finds_itself[node.index()] = true;
        }
        let search = |&node: &NodeId| {
            index.search(faces, Query::of(faces, node), graph.capacity(), &|met| {
                !finds_itself.get(met.node.index()).is_some_and(|&it| it) && graph.would_enter(faces, met, node)
            })
        };
        nodes.par_iter().map(search).collect()
    }

    /// Scores the newcomers and at most `budget` stale faces. In an `idle` batch those whose change
    /// is small have their turn too.
    pub(super) fn score(&mut self, budget: usize, idle: bool, observer: &mut dyn Observer) -> Result<(), EngineError> {
        let mut scored = std::mem::take(&mut self.ledger.arriving);
        let mut to_encode = std::mem::take(&mut self.ledger.encode);
        to_encode.extend(&scored);
        self.encode(&to_encode, &scored)?;

        let mut refreshed = Vec::new();
        let mut to_encode = BTreeSet::new();
        while refreshed.len() < budget
            && let Some(stale) = self.stale.take(idle)
        {
            refreshed.push(stale.node);
            if stale.staleness.enhanced {
                to_encode.insert(stale.node);
            }
        }
        scored.extend(&refreshed);
        to_encode.extend(self.search_again(&refreshed, &scored));
        self.encode(&to_encode, &scored)?;
        observer.finished(Step::Encode);

        let to_link: Vec<NodeId> = scored.into_iter().collect();
        self.ledger.work.refreshed += refreshed.len();
        self.ledger.work.linked += to_link.len();
        for scored in link::link(self.model.as_ref(), &self.graph, &self.faces, &to_link)? {
            let cause = self.ledger.causes.get(&scored.node).copied().unwrap_or(Cause::Refresh);
            self.clusters.rescore(&scored, Some(cause));
            for &Linkage { candidate, .. } in &scored.linkages {
                if to_link.binary_search(&candidate).is_err() && self.graph.has_met(candidate, scored.node) {
                    self.clusters.presume(candidate, scored.node);
                }
            }
            self.ledger.linkages.insert(scored.node, scored.linkages);
        }
        if idle {
            self.index.maintain(&self.faces, REBUILT_WHEN_IDLE);
        }
        observer.finished(Step::Link);
        Ok(())
    }

    /// Whether the model reads candidates' neighbourhoods.
    pub(super) fn reach(&self) -> Reach {
        match self.model.edges().iter().any(|feature| feature.reads_candidate()) {
            true => Reach::Onlookers,
            false => Reach::Itself,
        }
    }

    /// Who has `node` for a candidate and reads its neighbourhood.
    pub(super) fn onlookers(&self, node: NodeId) -> Vec<NodeId> {
        match self.reach() {
            Reach::Onlookers => self.graph.neighbour_of(node).collect(),
            Reach::Itself => Vec::new(),
        }
    }

    /// How much it changes for them: of one candidate in `hop1`, about one neighbour in `hop1`.
    pub(super) fn seen_from_afar(&self, change: f32) -> f32 {
        let hop1 = self.model.shape().hop1 as f32;
        change / (hop1 * hop1)
    }

    /// Searches again for those whose neighbourhood may not be what the index would find, and notes whose linkages that
    /// makes stale, but for those that are about to be scored. Answers whose `g` is.
    fn search_again(&mut self, nodes: &[NodeId], scored: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let exact = self.index.is_exact();
        let grown = |node: NodeId| self.arrival as f64 >= (1.0 + GROWN) * self.graph.searched_at(node) as f64;
        let is_due = |&node: &NodeId| self.graph.is_short(node) || (!exact && grown(node));
        let due: Vec<NodeId> = nodes.iter().copied().filter(is_due).collect();
        let found = self.search(&due);
        let mut stale = Vec::new();
        for (node, found) in due.into_iter().zip(found) {
            let renewed = self.graph.renew(&self.faces, node, found, self.arrival, exact);
            if renewed.inner_changed {
                stale.push(node);
            }
            let onlookers = if renewed.neighbourhood_changed { self.onlookers(node) } else { Vec::new() };
            for onlooker in onlookers.into_iter().filter(|onlooker| !scored.contains(onlooker)) {
                self.stale.mark(onlooker, self.seen_from_afar(1.0), false, self.now);
            }
        }
        stale
    }

    /// Writes `g` of `nodes` anew, and notes whose linkages that makes stale, but for those that are
    /// about to be scored.
    fn encode(&mut self, nodes: &BTreeSet<NodeId>, scored: &BTreeSet<NodeId>) -> Result<(), EngineError> {
        let nodes: Vec<NodeId> = nodes.iter().copied().collect();
        let before: Vec<Vec<f32>> = nodes.iter().map(|&node| self.faces.enhanced(node).to_vec()).collect();
        encode::encode(self.model.as_ref(), &self.graph, &mut self.faces, &nodes)?;
        self.ledger.work.encoded += nodes.len();
        for (&node, before) in nodes.iter().zip(&before) {
            let after = self.faces.enhanced(node);
            // Whoever had no `g` yet came with this batch, and whom that affects is known already.
            if before == after || before.iter().all(|&value| value == 0.0) {
                continue;
            }
            let change = 1.0 - cosine(before, after);
            for holder in self.graph.neighbour_of(node) {
                if !scored.contains(&holder) {
                    self.stale.mark(holder, change, false, self.now);
                }
            }
            if !scored.contains(&node) {
                self.stale.mark(node, change, false, self.now);
            }
        }
        Ok(())
    }
}

/// 0 where either has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}
