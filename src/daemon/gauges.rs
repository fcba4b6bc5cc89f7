//! What the metrics say of the engines and the store: events are counted with each commit; what has
//! to be summed over all collections is looked at now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fit::FitWatch;
use crate::engine::Engine;
use crate::engine::event::Change;
use crate::face::{CollectionName, Timestamp};
use crate::metrics::Metrics;
use crate::model::fit::TrainedAt;
use crate::store::{CollectionCommit, Commit, FilesystemRoom, Store};

/// How often the sums are made while batches come.
const NOW_AND_THEN: Duration = Duration::from_secs(1);

pub struct Gauges {
    metrics: Arc<Metrics>,
    shown: Instant,
    fit: FitWatch,
}

impl Gauges {
    pub fn new(metrics: Arc<Metrics>, trained_at: Option<TrainedAt>) -> Gauges {
        Gauges { fit: FitWatch::new(metrics.clone(), trained_at), metrics, shown: Instant::now() }
    }

    /// Counts what a commit did.
    pub fn count(&self, commit: &Commit) {
        let metrics = &self.metrics;
        let mut entries = commit.dead_letters.len();
        for CollectionCommit { changes, .. } in &commit.collections {
            let work = &changes.work;
            metrics.encoded.inc_by(work.encoded as u64);
            metrics.linked_refreshes.inc_by(work.refreshed as u64);
            metrics.linked_arrivals.inc_by((work.linked - work.refreshed) as u64);
            metrics.affected.inc_by(work.affected as u64);
            metrics.reclustered.inc_by(work.reclustered as u64);
            metrics.index_searches.inc_by(work.searched as u64);
            for event in &changes.events {
                metrics.events.with_label_values(&[event.change.event_type().name()]).inc();
                if let Change::Erased { .. } = event.change {
                    metrics.erased.because_of(event.cause).inc();
                }
            }
            entries += changes.events.len() + changes.described.len();
        }
        metrics.outbox_entries.add(entries as i64);
    }

    /// Sums up: what is cheap always, the rest if that was not done a moment ago.
    pub fn show_now_and_then(&mut self, engines: &BTreeMap<CollectionName, Engine>, store: &Store, now: Timestamp) {
        if self.shown.elapsed() >= NOW_AND_THEN {
            self.show(engines, store, now);
        } else {
            self.show_sizes(engines);
        }
    }

    fn show_sizes(&self, engines: &BTreeMap<CollectionName, Engine>) {
        let metrics = &self.metrics;
        metrics.faces.set(sum(engines, Engine::len));
        metrics.clusters.set(sum(engines, |engine| engine.clusters().book().living()));
        metrics.collections.set(engines.len() as i64);
        let settled = engines.values().filter(|engine| engine.is_settled() && engine.has_told_it_is_settled()).count();
        metrics.settled_collections.set(settled as i64);
        metrics.unsettled_collections.set((engines.len() - settled) as i64);
    }

    /// Sums up everything.
    pub fn show(&mut self, engines: &BTreeMap<CollectionName, Engine>, store: &Store, now: Timestamp) {
        self.shown = Instant::now();
        self.show_sizes(engines);
        self.fit.look(engines);
        let metrics = &self.metrics;
        metrics.stale_faces.set(sum(engines, Engine::stale));
        let oldest = engines.values().filter_map(Engine::stale_since).min();
        metrics.stale_oldest_seconds.set(oldest.map_or(0.0, |since| (now.0 - since.0).max(0) as f64 / 1000.0));
        metrics.constraints.set(sum(engines, |engine| engine.clusters().constraints()));
        metrics.owed_faces.set(sum(engines, |engine| engine.clusters().owed_faces()));
        let largest = engines.values().map(|engine| engine.clusters().largest_component()).max();
        metrics.largest_component_faces.set(largest.unwrap_or(0) as i64);
        metrics.index_points.set(sum(engines, |engine| engine.index().points()));
        let dead = engines.values().map(|engine| engine.index().dead_share());
        metrics.index_dead_ratio.set(dead.fold(0.0, f64::max));
        let dead = store.collections().map(|collection| store.dead_share(collection));
        metrics.store_dead_vectors_ratio.set(dead.fold(0.0, f64::max));
        metrics.store_suppressed_ids.set(store.suppressed_count() as i64);
        // A folder that cannot be read is told of by the next commit.
        if let Ok(bytes) = store.size_on_disk() {
            metrics.store_bytes.set(bytes as i64);
        }
        if let Ok(FilesystemRoom { free, of }) = store.room() {
            metrics.store_free_bytes.set(free as i64);
            metrics.store_capacity_bytes.set(of as i64);
        }
    }
}

fn sum(engines: &BTreeMap<CollectionName, Engine>, of: fn(&Engine) -> usize) -> i64 {
    engines.values().map(of).sum::<usize>() as i64
}
