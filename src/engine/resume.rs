//! Stopping and going on: an engine from what a store kept, and what it derived to be kept beside that.
//!
//! Clusters and linkages are the store's and as they were. Neighbourhoods and `g` come from a snapshot,
//! if there is one; the faces that came since are the tail: they are searched for and offered to the
//! others, without an event, and they, whom they affect, and who was scored since are stale.
//! [`super::snapshot`] says why that misses nobody. Without a snapshot every face is the tail.
//!
//! Cost with a snapshot: O(what it holds), and for each face of the tail a search and a row of RE;
//! without one that is for each face. A graph of the index is not built here but where there is a snapshot:
//! it is built while the engine serves.

use std::sync::Arc;

use super::changes::Restored;
use super::cluster::{Clusters, RestoredClusters, Waiting};
use super::faces::Rows;
use super::graph::Graph;
use super::refresh::Stale;
use super::snapshot::{AsComputed, Since, Snapshot};
use super::standing::Standing;
use super::{Engine, EngineError, EngineSettings, Ledger, encode};
use crate::face::NodeId;
use crate::model::FaceTransformer;

impl Engine {
    /// What is derived, as it is now. To be called between two batches.
    pub fn cut(&self) -> Snapshot {
        let slots = self.faces.slots();
        let arrivals = |node: NodeId| if self.faces.is_live(node) { self.faces.arrival(node).0 } else { 0 };
        let cluster = |node: NodeId| self.clusters.book().cluster_of(node).map_or(0, |cluster| cluster.0);
        let nodes = || (0..slots as u32).map(NodeId);
        Snapshot {
            shape: self.model.shape(),
            now: self.now,
            rules: self.clusters.rules(),
            arrivals: nodes().map(arrivals).collect(),
            enhanced: self.faces.enhanced.values().to_vec(),
            lists: self.graph.cut(slots),
            components: self.clusters.settled_components(slots),
            clusters: nodes().map(cluster).collect(),
            stale: self.stale.all(),
        }
    }

    /// An engine that goes on from what a store kept.
    pub fn restore(
        settings: &EngineSettings,
        model: Arc<dyn FaceTransformer>,
        mut restored: Restored,
    ) -> Result<Engine, EngineError> {
        let mut engine = Engine::new(settings, model);
        let (since, counters) = (restored.since.take(), restored.counters);
        let standing = Standing::of(restored, engine.faces.dimension());
        engine.faces = standing.faces;
        engine.arrival = counters.arrival;
        for node in engine.faces.live() {
            // Time goes on from the latest that is known: stale faces count from it, not from 1970.
            engine.now = engine.now.max(engine.faces.known(node).arrived_at);
            engine.ages.add(node, &engine.faces);
        }
        // A snapshot of another model is of no use here.
        let mut since = since.filter(|since| since.snapshot.shape == engine.model.shape());
        let reach = engine.reach();
        let as_computed = since.as_mut().map(|Since { snapshot, rescored }| {
            engine.now = engine.now.max(snapshot.now);
            snapshot.retain(reach, |node, arrival| engine.faces.is_live(node) && engine.faces.arrival(node) == arrival);
            snapshot.resize(engine.faces.slots());
            AsComputed::of(snapshot, rescored)
        });
        match since {
            Some(since) => engine.go_on_from(since)?,
            None => engine.rebuild()?,
        }
        let clusters = RestoredClusters { as_computed, ..standing.clusters };
        let waiting = engine.waiting();
        engine.clusters = Clusters::restore(settings.clusters.clone(), &engine.faces, clusters, waiting);
        engine.ledger = Ledger::default();
        Ok(engine)
    }

    /// Who is stale, with each they have met.
    fn waiting(&self) -> impl Iterator<Item = Waiting> {
        let met = |Stale { node, .. }| self.graph.neighbourhood(node).iter().map(move |met| (node, met.node));
        self.stale.all().into_iter().flat_map(met).map(|(node, candidate)| Waiting { node, candidate })
    }

    /// Derives everything anew; every face is stale.
    fn rebuild(&mut self) -> Result<(), EngineError> {
        let all: Vec<NodeId> = self.faces.live().collect();
        self.ledger.arriving.extend(&all);
        self.admit(&mut ());
        encode::encode(self.model.as_ref(), &self.graph, &mut self.faces, &all)?;
        for node in all {
            self.stale.mark(node, 0.0, false, self.now);
        }
        Ok(())
    }

    /// Takes over what a snapshot, from which whoever is gone was taken out, still says, and derives the
    /// rest anew.
    fn go_on_from(&mut self, Since { snapshot, rescored }: Since) -> Result<(), EngineError> {
        let all: Vec<NodeId> = self.faces.live().collect();
        let newcomers: Vec<NodeId> =
            all.iter().copied().filter(|&node| snapshot.arrival(node) != Some(self.faces.arrival(node))).collect();
        self.graph = Graph::restore(snapshot.shape, &snapshot.lists);
        self.faces.enhanced = Rows::of(snapshot.shape.dimension, snapshot.enhanced);
        for Stale { node, staleness } in snapshot.stale {
            self.stale.mark(node, staleness.change, staleness.enhanced, staleness.since);
        }
        self.index.adopt(&all);
        self.ledger.arriving.extend(&newcomers);
        self.meet(&mut ());
        // Those who came have no `g` yet; that of the others can wait for their refresh.
        encode::encode(self.model.as_ref(), &self.graph, &mut self.faces, &newcomers)?;
        for node in std::mem::take(&mut self.ledger.encode) {
            self.stale.mark(node, 0.0, true, self.now);
        }
        for node in newcomers.into_iter().chain(rescored) {
            self.stale.mark(node, 0.0, false, self.now);
        }
        Ok(())
    }
}
