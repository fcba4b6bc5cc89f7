//! Every metric, declared in one place: `facetd_<room>_<what>_<unit>`.
//!
//! No label takes its values from the input: names of collections would make as many series as
//! there are collections. What is of a collection is summed over all, and an age is the highest. The one exception
//! is how near the neighbours of a collection's faces are: of all together it would say nothing.
//!
//! Beside them stand Prometheus's own `process_*`: memory, descriptors, processor time, when it started.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::engine::Step;
use crate::engine::event::{Cause, EventType};
use crate::rejection::Reason;

/// The daemon's metrics. One registry a daemon, so that two in one process do not mix.
pub struct Metrics {
    registry: Registry,
    pub source_records: IntCounter,
    pub source_lost: IntCounter,
    pub source_errors: IntCounter,
    pub source_queued_faces: IntGauge,
    pub source_paused: IntGauge,
    pub source_lag_records: IntGauge,
    pub rejected: IntCounterVec,
    pub duplicates: IntCounter,
    pub replaced: IntCounter,
    pub erased: Erased,
    pub faces: IntGauge,
    pub clusters: IntGauge,
    pub collections: IntGauge,
    pub settled_collections: IntGauge,
    pub unsettled_collections: IntGauge,
    pub constraints: IntGauge,
    pub events: IntCounterVec,
    pub encoded: IntCounter,
    pub linked_arrivals: IntCounter,
    pub linked_refreshes: IntCounter,
    pub affected: IntCounter,
    pub stale_faces: IntGauge,
    pub stale_oldest_seconds: Gauge,
    pub reclustered: IntCounter,
    pub owed_faces: IntGauge,
    pub largest_component_faces: IntGauge,
    pub index_searches: IntCounter,
    pub index_points: IntGauge,
    pub index_dead_ratio: Gauge,
    pub step_seconds: HistogramVec,
    pub batch_seconds: Histogram,
    pub batch_faces: Histogram,
    pub commit_seconds: Histogram,
    pub store_bytes: IntGauge,
    pub store_free_bytes: IntGauge,
    pub store_capacity_bytes: IntGauge,
    pub store_dead_vectors_ratio: Gauge,
    pub store_compactions: IntCounter,
    pub store_suppressed_ids: IntGauge,
    pub snapshot_last_success: Gauge,
    pub snapshot_bytes: IntGauge,
    pub snapshot_seconds: Histogram,
    pub snapshot_pause_seconds: Histogram,
    pub snapshot_failures: IntCounter,
    pub snapshot_restored_faces: IntGauge,
    pub snapshot_rebuilt_faces: IntGauge,
    pub published: IntCounterVec,
    pub publish_chunk_seconds: Histogram,
    pub publish_failures: IntCounter,
    pub outbox_entries: IntGauge,
    pub device: IntGaugeVec,
    pub stage: IntGaugeVec,
    pub model_neighbour_similarity: GaugeVec,
    pub neighbour_similarity: GaugeVec,
    pub neighbour_similarity_difference: GaugeVec,
    pub full: IntGaugeVec,
    pub resident_bytes: IntGauge,
    pub latency_seconds: Histogram,
    pub ready: IntGauge,
    pub http_seconds: HistogramVec,
    pub http_responses: IntCounterVec,
    pub http_refused: IntCounter,
    pub http_connections: IntGauge,
    pub http_turned_away: IntCounter,
    pub http_cut_off: IntCounterVec,
    pub http_certificate_expiry: IntGauge,
    pub http_renewal_failures: IntCounterVec,
    pub audit_failures: IntCounter,
    pub traces_dropped: IntCounter,
}

/// Faces erased, by cause.
pub struct Erased(IntCounterVec);

impl Erased {
    pub fn because_of(&self, cause: Cause) -> IntCounter {
        self.0.with_label_values(&[cause.kind()])
    }
}

/// Where a client of HTTP took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutOff {
    Handshake,
    Head,
    Body,
    Answer,
}

impl CutOff {
    const ALL: [CutOff; 4] = [CutOff::Handshake, CutOff::Head, CutOff::Body, CutOff::Answer];

    pub fn name(self) -> &'static str {
        match self {
            CutOff::Handshake => "handshake",
            CutOff::Head => "head",
            CutOff::Body => "body",
            CutOff::Answer => "answer",
        }
    }
}

/// What is read again while the daemon runs.
#[derive(Debug, Clone, Copy)]
pub enum Renewed {
    Tokens,
    Certificate,
}

impl Renewed {
    const ALL: [Renewed; 2] = [Renewed::Tokens, Renewed::Certificate];

    pub fn name(self) -> &'static str {
        match self {
            Renewed::Tokens => "tokens",
            Renewed::Certificate => "certificate",
        }
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let new = Declare { registry: Registry::new() };
        new.registry.register(Box::new(ProcessCollector::for_self())).expect(DECLARED);
        let build = new.gauges("facetd_build_info", "1 for the version that runs", "version");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let linked = new.counters(
            "facetd_engine_linked_faces_total",
            "Faces run through the linkage predictor: arrivals, and stale faces that were refreshed. The rate of why=\"refresh\" \
             is refreshes a second, its part of the sum the share of work that convergence costs",
            "why",
        );
        let snapshot_faces = new.gauges(
            "facetd_snapshot_restored_faces",
            "Faces this daemon started with: taken from a snapshot, or searched for and encoded anew (rebuilt)",
            "how",
        );
        let metrics = Metrics {
            source_records: new.counter("facetd_source_records_total", "Records read from the input topic"),
            source_lost: new.counter(
                "facetd_source_lost_records_total",
                "Records that Kafka deleted before they were read; give the input topic a longer retention",
            ),
            source_errors: new.counter(
                "facetd_source_errors_total",
                "Errors the consumer reported; it goes on trying, see the log for their text",
            ),
            source_queued_faces: new.gauge("facetd_source_queued_faces", "Decoded faces that wait for the engine"),
            source_paused: new.gauge(
                "facetd_source_paused",
                "1 while the consumer is paused because the engine is slower than the input",
            ),
            source_lag_records: new.gauge(
                "facetd_source_lag_records",
                "Records in the input topic that are not applied yet",
            ),
            rejected: new.counters(
                "facetd_source_rejected_total",
                "Records sent to the dead letters, by reason; the dead letter says what is accepted",
                "reason",
            ),
            duplicates: new.counter("facetd_engine_duplicates_total", "Faces ignored: same id, same embedding"),
            replaced: new.counter(
                "facetd_engine_replaced_faces_total",
                "Faces given another embedding; many of them mean a producer that does not give each face its own id",
            ),
            erased: Erased(new.counters(
                "facetd_engine_erased_faces_total",
                "Faces erased: by a record with a null payload, because retention expired them, or by an operator (api)",
                "cause",
            )),
            faces: new.gauge("facetd_engine_faces", "Faces held"),
            clusters: new.gauge("facetd_engine_clusters", "Clusters that live"),
            collections: new.gauge("facetd_engine_collections", "Collections held; collections.max is the most"),
            settled_collections: new.gauge(
                "facetd_engine_settled_collections",
                "Collections where nothing is stale: their clusters are what the batch pipeline would make",
            ),
            unsettled_collections: new.gauge(
                "facetd_engine_unsettled_collections",
                "Collections with stale faces; with no input this falls to 0, or refreshing is too slow",
            ),
            constraints: new.gauge("facetd_engine_constraints", "Must-links and cannot-links of operators"),
            events: new.counters("facetd_engine_events_total", "Changes of clusters, by type", "type"),
            encoded: new.counter("facetd_engine_encoded_faces_total", "Faces run through the relation encoder"),
            linked_arrivals: linked.with_label_values(&["arrival"]),
            linked_refreshes: linked.with_label_values(&["refresh"]),
            affected: new.counter(
                "facetd_engine_affected_faces_total",
                "How often a face became stale, or more so: what refreshing has to keep up with",
            ),
            stale_faces: new.gauge(
                "facetd_engine_stale_faces",
                "Faces that wait to be refreshed; always growing, raise engine.refresh_per_face or slow the input",
            ),
            stale_oldest_seconds: new.level(
                "facetd_engine_stale_oldest_seconds",
                "How long the face that has waited longest for its refresh has been stale; 0 when none is. Under load small \
                 changes wait for idle time, so this is told, not bounded",
            ),
            reclustered: new.counter(
                "facetd_engine_reclustered_faces_total",
                "Faces of the components whose clusters were computed anew",
            ),
            owed_faces: new.gauge(
                "facetd_engine_owed_faces",
                "Faces of components above engine.max_component, extended greedily until there is time to compute them anew",
            ),
            largest_component_faces: new.gauge(
                "facetd_engine_largest_component_faces",
                "Faces of the largest component of links; one that holds much of a collection means that the model's \
                 threshold is too low for these faces",
            ),
            index_searches: new.counter("facetd_index_searches_total", "Searches, of arrivals and of refreshed faces"),
            index_points: new.gauge(
                "facetd_index_points",
                "Points in the indexes, those of erased faces included until the next rebuild",
            ),
            index_dead_ratio: new.level(
                "facetd_index_dead_ratio",
                "Part of the points whose face was erased or replaced, 0 to 1, highest of all collections; a rebuild in the \
                 background takes it to 0",
            ),
            step_seconds: new.histograms("facetd_engine_step_seconds", "Time a batch spends in a step", "step"),
            batch_seconds: new.histogram(
                "facetd_engine_batch_seconds",
                "Time of a batch, engine and commit",
                0.0005,
                16,
            ),
            batch_faces: new.histogram("facetd_engine_batch_faces", "Faces of a batch", 1.0, 13),
            commit_seconds: new.histogram("facetd_store_commit_seconds", "Time of a commit", 0.0005, 14),
            store_bytes: new.gauge("facetd_store_bytes", "Size of the state directory on disk"),
            store_free_bytes: new.gauge(
                "facetd_store_free_bytes",
                "Room that the filesystem of the state directory has left; without any, commits fail and the daemon ends",
            ),
            store_capacity_bytes: new.gauge(
                "facetd_store_capacity_bytes",
                "Size of the filesystem of the state directory",
            ),
            store_dead_vectors_ratio: new.level(
                "facetd_store_dead_vectors_ratio",
                "Part of the vector files that is of faces erased or replaced, 0 to 1, highest of all collections; compaction \
                 takes it to 0",
            ),
            store_compactions: new.counter(
                "facetd_store_compactions_total",
                "Files rewritten without what is dead: a collection's vectors, or sled's log",
            ),
            store_suppressed_ids: new.gauge(
                "facetd_store_suppressed_ids",
                "Erased face_ids that may not come back; `facetd allow` lets one",
            ),
            snapshot_last_success: new.level(
                "facetd_snapshot_last_success_timestamp_seconds",
                "When the last snapshot was written, in seconds since 1970; 0: none yet. One older than state.snapshot_interval \
                 while faces come means a slower restart",
            ),
            snapshot_bytes: new.gauge("facetd_snapshot_bytes", "Size of all snapshots on disk"),
            snapshot_seconds: new.histogram(
                "facetd_snapshot_seconds",
                "Time from cutting a snapshot to having it on disk, in the background",
                0.005,
                14,
            ),
            snapshot_pause_seconds: new.histogram(
                "facetd_snapshot_pause_seconds",
                "Time the engine stood still while what a snapshot holds was copied",
                0.0005,
                14,
            ),
            snapshot_failures: new.counter(
                "facetd_snapshot_failures_total",
                "Snapshots that could not be written; the log says why, and the next interval tries again",
            ),
            snapshot_restored_faces: snapshot_faces.with_label_values(&["snapshot"]),
            snapshot_rebuilt_faces: snapshot_faces.with_label_values(&["rebuilt"]),
            published: new.counters("facetd_publish_records_total", "Records Kafka has acknowledged, by topic", "topic"),
            publish_chunk_seconds: new.histogram(
                "facetd_publish_chunk_seconds",
                "Time to have a chunk of entries in Kafka, with kafka.delivery = \"exactly_once\" that of a transaction",
                0.001,
                17,
            ),
            publish_failures: new.counter(
                "facetd_publish_failures_total",
                "Records Kafka did not take; they stay in the outbox and are tried again",
            ),
            outbox_entries: new.gauge("facetd_publish_outbox_entries", "Committed entries that are not published yet"),
            device: new.gauges("facetd_model_device_info", "1 for the device the models run on", "device"),
            stage: new.gauges(
                "facetd_model_stage_info",
                "1 for the stage of the model that runs: re_lp is all of it, see model.stage",
                "stage",
            ),
            model_neighbour_similarity: new.levels(
                "facetd_model_neighbour_similarity",
                "Cosine quantiles of the neighbours of the faces the model was trained on",
                &["q"],
            ),
            neighbour_similarity: new.levels(
                "facetd_neighbour_similarity",
                "Cosine quantiles of the neighbours of a collection's faces, from 1000 faces on. Far from the model's, it is not for \
                 these faces; with fewer faces than it was trained on they are lower",
                &["collection", "q"],
            ),
            neighbour_similarity_difference: new.levels(
                "facetd_neighbour_similarity_difference",
                "How much nearer the neighbours of a collection's faces are than the model's, of the quantile that is farthest \
                 off; below 0, farther, as far as there being fewer faces does not account for it. Beyond 0.12 either way the \
                 model is not for these faces",
                &["collection"],
            ),
            full: new.gauges(
                "facetd_daemon_full",
                "1 while a limit is reached and nothing more is taken: raise it in [limits], or erase",
                "limit",
            ),
            resident_bytes: new.gauge("facetd_daemon_resident_bytes", "Memory of the process, looked at while limits.memory_bytes is set"),
            latency_seconds: new.histogram(
                "facetd_daemon_latency_seconds",
                "Time from the timestamp a record has in Kafka to the commit that has it applied or rejected",
                0.01,
                20,
            ),
            ready: new.gauge("facetd_daemon_ready", "1 once the state is loaded and input is taken"),
            http_seconds: new.histograms(
                "facetd_http_request_seconds",
                "Time until the answer to a request begins, by the route it took",
                "route",
            ),
            http_responses: new.counters("facetd_http_responses_total", "Answers to requests, by status", "status"),
            http_refused: new.counter(
                "facetd_http_refused_total",
                "Requests without a token that is known; rising, somebody tries, or a client has an old one",
            ),
            http_connections: new.gauge("facetd_http_connections", "Connections open; http.connections is the most"),
            http_turned_away: new.counter(
                "facetd_http_turned_away_total",
                "Connections closed at once because there were http.connections already; raise it, or see who holds them",
            ),
            http_cut_off: new.counters(
                "facetd_http_cut_off_total",
                "Connections and requests that took too long: in the handshake of TLS (a client without TLS, or that does not \
                 trust the certificate, counts here too), sending their head or body, or reading what they asked for",
                "at",
            ),
            http_certificate_expiry: new.gauge(
                "facetd_http_certificate_expiry_timestamp_seconds",
                "When the certificate of http.tls_certificate expires, in seconds since 1970; 0: there is no TLS",
            ),
            http_renewal_failures: new.counters(
                "facetd_http_renewal_failures_total",
                "Times that tokens or the certificate were read again and were not right, so that those of before go on; a token \
                 that was to be taken back with that still works, see the log for why",
                "of",
            ),
            audit_failures: new.counter(
                "facetd_audit_failures_total",
                "Lines that could not be written to the audit log: what was asked for by hand was refused, or was done and has no \
                 outcome written down; the log says which and why",
            ),
            traces_dropped: new.counter(
                "facetd_traces_dropped_total",
                "Spans that did not reach the collector of traces.endpoint: it is away, slow or refuses them, see the log for \
                 why; nothing else waits for it",
            ),
            registry: new.registry,
        };
        metrics.show_zeros();
        metrics
    }

    /// Every series whose label is known is there from the start, so that its first increase is one.
    fn show_zeros(&self) {
        for reason in Reason::ALL {
            self.rejected.with_label_values(&[reason.as_str()]);
        }
        for step in Step::ALL {
            self.step_seconds.with_label_values(&[step.name()]);
        }
        for event_type in EventType::ALL {
            self.events.with_label_values(&[event_type.name()]);
        }
        for at in CutOff::ALL {
            self.http_cut_off.with_label_values(&[at.name()]);
        }
        for of in Renewed::ALL {
            self.http_renewal_failures.with_label_values(&[of.name()]);
        }
        for cause in ["record", "expired", "api"] {
            self.erased.0.with_label_values(&[cause]);
        }
    }

    /// Counts a client of HTTP that took too long.
    pub fn cut_off(&self, at: CutOff) {
        self.http_cut_off.with_label_values(&[at.name()]).inc();
    }

    pub fn not_renewed(&self, of: Renewed) {
        self.http_renewal_failures.with_label_values(&[of.name()]).inc();
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

const DECLARED: &str = "names and labels are constants, each declared once, as a test proves";

/// Makes metrics, each in the registry from its first moment.
struct Declare {
    registry: Registry,
}

impl Declare {
    fn in_registry<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect(DECLARED);
        self.registry.register(Box::new(metric.clone())).expect(DECLARED);
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.in_registry(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.in_registry(IntCounterVec::new(Opts::new(name, help), &[label]))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.in_registry(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.in_registry(IntGaugeVec::new(Opts::new(name, help), &[label]))
    }

    /// A gauge of what is not whole.
    fn level(&self, name: &str, help: &str) -> Gauge {
        self.in_registry(Gauge::new(name, help))
    }

    fn levels(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.in_registry(GaugeVec::new(Opts::new(name, help), labels))
    }

    /// Buckets from `first`, each twice the one before.
    fn histogram(&self, name: &str, help: &str, first: f64, buckets: usize) -> Histogram {
        let buckets = prometheus::exponential_buckets(first, 2.0, buckets).expect(DECLARED);
        self.in_registry(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }

    fn histograms(&self, name: &str, help: &str, label: &str) -> HistogramVec {
        let buckets = prometheus::exponential_buckets(0.0001, 2.0, 16).expect(DECLARED);
        self.in_registry(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_declared_once_with_a_help_text() {
        let metrics = Metrics::new();
        metrics.erased.because_of(Cause::Expired).inc();
        metrics.linked_refreshes.inc_by(2);
        let text = metrics.text();
        for sample in [
            "facetd_source_records_total 0",
            "facetd_engine_step_seconds_count{step=\"cluster\"} 0",
            "facetd_source_rejected_total{reason=\"unknown_face\"} 0",
            "facetd_engine_erased_faces_total{cause=\"expired\"} 1",
            "facetd_engine_erased_faces_total{cause=\"record\"} 0",
            "facetd_engine_linked_faces_total{why=\"arrival\"} 0",
            "facetd_engine_linked_faces_total{why=\"refresh\"} 2",
            "facetd_engine_events_total{type=\"settled\"} 0",
            "facetd_engine_stale_oldest_seconds 0",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} is missing");
        }
        assert!(text.lines().filter(|line| line.starts_with("# HELP")).all(|line| line.split(' ').count() > 4));
    }
}
