//! Every metric, declared in one place: `facetd_<room>_<what>_<unit>`.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::engine::Step;
use crate::rejection::Reason;

/// The daemon's metrics. One registry a daemon, so that two in one process do not mix.
pub struct Metrics {
    registry: Registry,
    pub source_records: IntCounter,
    pub source_errors: IntCounter,
    pub source_queued_faces: IntGauge,
    pub source_paused: IntGauge,
    pub source_lag_records: IntGauge,
    pub rejected: IntCounterVec,
    pub duplicates: IntCounter,
    pub faces: IntGauge,
    pub clusters: IntGauge,
    pub collections: IntGauge,
    pub events: IntCounterVec,
    pub encoded: IntCounter,
    pub linked: IntCounter,
    pub affected: IntCounter,
    pub deferred: IntCounter,
    pub step_seconds: HistogramVec,
    pub batch_seconds: Histogram,
    pub batch_faces: Histogram,
    pub commit_seconds: Histogram,
    pub published: IntCounterVec,
    pub publish_failures: IntCounter,
    pub outbox_entries: IntGauge,
    pub device: IntGaugeVec,
    pub ready: IntGauge,
}

impl Metrics {
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let metrics = Metrics {
            source_records: counter("facetd_source_records_total", "Records read from the input topic"),
            source_errors: counter(
                "facetd_source_errors_total",
                "Errors the consumer reported; it goes on trying, see the log for their text",
            ),
            source_queued_faces: gauge("facetd_source_queued_faces", "Decoded faces that wait for the engine"),
            source_paused: gauge(
                "facetd_source_paused",
                "1 while the consumer is paused because the engine is slower than the input",
            ),
            source_lag_records: gauge(
                "facetd_source_lag_records",
                "Records in the input topic that are not applied yet",
            ),
            rejected: counters("facetd_source_rejected_total", "Records sent to the dead letters, by reason", "reason"),
            duplicates: counter("facetd_engine_duplicates_total", "Faces ignored: same id, same embedding"),
            faces: gauge("facetd_engine_faces", "Faces held"),
            clusters: gauge("facetd_engine_clusters", "Clusters that live"),
            collections: gauge("facetd_engine_collections", "Collections held"),
            events: counters("facetd_engine_events_total", "Changes of clusters, by type", "type"),
            encoded: counter("facetd_engine_encoded_faces_total", "Faces run through the relation encoder"),
            linked: counter("facetd_engine_linked_faces_total", "Faces run through the linkage predictor"),
            affected: counter("facetd_engine_affected_faces_total", "Faces whose neighbourhood a newcomer entered"),
            deferred: counter(
                "facetd_engine_deferred_faces_total",
                "Affected faces the budget left unscored; raise engine.refresh_per_face when there is time to spare",
            ),
            step_seconds: histograms("facetd_engine_step_seconds", "Time a batch spends in a step", "step"),
            batch_seconds: histogram("facetd_engine_batch_seconds", "Time of a batch, engine and commit", 0.0005, 16),
            batch_faces: histogram("facetd_engine_batch_faces", "Faces of a batch", 1.0, 13),
            commit_seconds: histogram("facetd_store_commit_seconds", "Time of a commit", 0.0005, 14),
            published: counters("facetd_publish_records_total", "Records Kafka has acknowledged, by topic", "topic"),
            publish_failures: counter(
                "facetd_publish_failures_total",
                "Records Kafka did not take; they stay in the outbox and are tried again",
            ),
            outbox_entries: gauge("facetd_publish_outbox_entries", "Committed entries that are not published yet"),
            device: gauges("facetd_model_device_info", "1 for the device the models run on", "device"),
            ready: gauge("facetd_daemon_ready", "1 once the state is loaded and input is taken"),
            registry,
        };
        metrics.register();
        for reason in Reason::ALL {
            metrics.rejected.with_label_values(&[reason.as_str()]);
        }
        for step in Step::ALL {
            metrics.step_seconds.with_label_values(&[step.name()]);
        }
        metrics
    }

    fn register(&self) {
        let collectors: Vec<Box<dyn prometheus::core::Collector>> = vec![
            Box::new(self.source_records.clone()),
            Box::new(self.source_errors.clone()),
            Box::new(self.source_queued_faces.clone()),
            Box::new(self.source_paused.clone()),
            Box::new(self.source_lag_records.clone()),
            Box::new(self.rejected.clone()),
            Box::new(self.duplicates.clone()),
            Box::new(self.faces.clone()),
            Box::new(self.clusters.clone()),
            Box::new(self.collections.clone()),
            Box::new(self.events.clone()),
            Box::new(self.encoded.clone()),
            Box::new(self.linked.clone()),
            Box::new(self.affected.clone()),
            Box::new(self.deferred.clone()),
            Box::new(self.step_seconds.clone()),
            Box::new(self.batch_seconds.clone()),
            Box::new(self.batch_faces.clone()),
            Box::new(self.commit_seconds.clone()),
            Box::new(self.published.clone()),
            Box::new(self.publish_failures.clone()),
            Box::new(self.outbox_entries.clone()),
            Box::new(self.device.clone()),
            Box::new(self.ready.clone()),
        ];
        for collector in collectors {
            self.registry.register(collector).expect("each metric is declared once, as a test proves");
        }
    }

    /// The text Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing to memory does not fail");
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

const DECLARED: &str = "names and labels are constants, as a test proves";

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(DECLARED)
}

fn counters(name: &str, help: &str, label: &str) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), &[label]).expect(DECLARED)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect(DECLARED)
}

fn gauges(name: &str, help: &str, label: &str) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), &[label]).expect(DECLARED)
}

/// Buckets from `first`, each twice the one before.
fn histogram(name: &str, help: &str, first: f64, buckets: usize) -> Histogram {
    let buckets = prometheus::exponential_buckets(first, 2.0, buckets).expect(DECLARED);
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect(DECLARED)
}

fn histograms(name: &str, help: &str, label: &str) -> HistogramVec {
    let buckets = prometheus::exponential_buckets(0.0001, 2.0, 16).expect(DECLARED);
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label]).expect(DECLARED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_declared_once_with_a_help_text() {
        let text = Metrics::new().text();
        for name in ["facetd_source_records_total", "facetd_engine_step_seconds_bucket", "facetd_source_rejected_total"]
        {
            assert!(text.contains(name), "{name} is missing");
        }
        assert!(text.lines().filter(|line| line.starts_with("# HELP")).all(|line| line.split(' ').count() > 4));
    }
}
