//! Traces: what a batch, a record that is followed and a request to the API took, as OpenTelemetry's spans, over OTLP to a
//! collector. Off unless `traces.endpoint` names one.
//!
//! ```text
//! a producer's trace        facetd's own trace
//! └─ process faces  ──────► batch faces                one for each record whose traceparent is sampled; they link to each other
//!                           ├─ engine (a collection)
//!                           │  └─ insert, search, graph, encode, link, cluster
//!                           └─ commit
//! ```
//! A batch holds records of many traces, so it has one of its own, as OpenTelemetry's conventions for messaging have it. A
//! quiet moment that was used is `refresh`, what an operator asked `operate`, with the same parts.
//!
//! Spans are made once what they tell of is over, from the moments that the metrics were given: the two never disagree. The
//! engine knows nothing of it. Where they go and what is lost of them is up to [`export`]; nobody waits for either.
//!
//! What is told is how much and how long, of which collection and which offsets. Never of whom: no face_id, no cluster, no
//! name, no embedding, no linkage, and of a request its route, not its path.

pub mod context;
mod export;
mod sampling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::config::{self, Config};
use crate::face::{Offset, Partition, Place};
use crate::metrics::Metrics;
use crate::rejection::Reason;
use crate::source::Intake;
use context::Followed;
use export::Queue;

/// Links a span may have: one for each record of the largest batch.
const MOST_LINKS: u32 = 4096;

/// Methods that a span names.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A part of something, and when it began and ended.
#[derive(Debug)]
pub struct Lap {
    pub name: &'static str,
    pub began: Instant,
    pub ended: Instant,
    pub facts: Vec<KeyValue>,
    pub within: Vec<Lap>,
}

impl Lap {
    /// One without anything more to say of it.
    pub fn new(name: &'static str, began: Instant, ended: Instant) -> Lap {
        Lap { name, began, ended, facts: Vec::new(), within: Vec::new() }
    }
}

/// What became of a batch, for those who trace it.
#[derive(Debug, Default)]
pub struct Laps {
    pub parts: Vec<Lap>,
    /// Records that went to the dead letters.
    pub rejected: HashMap<Place, Reason>,
}

/// What is to be told of a batch's records once it is over.
pub struct Noted {
    records: usize,
    followed: Vec<(Place, Followed)>,
    /// First and last offset of each partition.
    reach: BTreeMap<Partition, (Offset, Offset)>,
}

impl Noted {
    pub fn of(batch: &[Intake]) -> Noted {
        let mut noted = Noted { records: batch.len(), followed: Vec::new(), reach: BTreeMap::new() };
        for Intake { record, .. } in batch {
            let Place { partition, offset } = record.place;
            let (first, last) = noted.reach.entry(partition).or_insert((offset, offset));
            (*first, *last) = ((*first).min(offset), (*last).max(offset));
            noted.followed.extend(record.followed.as_deref().map(|followed| (record.place, followed.clone())));
        }
        noted
    }
}

/// Makes spans and sends them.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    queue: Arc<Queue>,
    /// What every span about the input topic says.
    messaging: [KeyValue; 3],
    topic: String,
}

impl Traces {
    /// None: the configuration asks for none.
    pub fn start(config: &Config, metrics: &Metrics) -> Option<Traces> {
        let collector = export::Collector::new(&config.traces)?;
        tracing::info!(endpoint = %config.traces.endpoint, sample = config.traces.sample, "traces are sent");
        let queue = Arc::new(Queue::new(&config.traces, metrics.traces_dropped.clone()));
        let resource = Resource::builder()
            .with_service_name("facetd")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampling::sampler(config.traces.sample))
            .with_max_links_per_span(MOST_LINKS)
            .with_span_processor(export::processor(collector, queue.clone()))
            .build();
        let topic = config.kafka.input_topic.clone();
        let messaging = [
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", topic.clone()),
            KeyValue::new("messaging.consumer.group.name", config.kafka.group.clone()),
        ];
        Some(Traces { tracer: provider.tracer("facetd"), provider, queue, messaging, topic })
    }

    /// Tells of a batch of records: `whole` is all of it.
    pub fn batch(&self, noted: Noted, whole: Lap, laps: Laps) {
        let clock = Clock::now();
        let Noted { records, followed, reach } = noted;
        let offsets = |of: fn(&(Offset, Offset)) -> Offset| reach.values().map(|ends| of(ends).0).collect();
        let mut facts = self.operation("batch");
        facts.extend([
            KeyValue::new("messaging.batch.message_count", records as i64),
            list("facetd.partitions", reach.keys().map(|partition| i64::from(partition.0)).collect()),
            list("facetd.first_offsets", offsets(|ends| ends.0)),
            list("facetd.last_offsets", offsets(|ends| ends.1)),
            KeyValue::new("facetd.rejected_records", laps.rejected.len() as i64),
        ]);
        facts.extend(whole.facts);
        let links = followed.iter().map(|(_, followed)| Link::with_context(followed.context.clone())).collect();
        let builder = SpanBuilder::from_name(format!("{} {}", whole.name, self.topic))
            .with_kind(SpanKind::Consumer)
            .with_attributes(facts)
            .with_links(links);
        let told = Told { builder, began: whole.began, ended: whole.ended, error: None };
        let batch = self.span(told, &clock, &Context::new(), laps.parts);
        for (place, followed) in followed {
            self.record(place, followed, &batch, whole.ended, &clock, laps.rejected.get(&place));
        }
    }

    /// Tells a producer's trace what became of a record.
    fn record(
        &self,
        place: Place,
        followed: Followed,
        batch: &SpanContext,
        ended: Instant,
        clock: &Clock,
        rejected: Option<&Reason>,
    ) {
        let mut facts = self.operation("process");
        facts.extend([
            KeyValue::new("messaging.destination.partition.id", place.partition.0.to_string()),
            KeyValue::new("messaging.kafka.offset", place.offset.0),
        ]);
        facts.extend(rejected.map(|reason| KeyValue::new("error.type", reason.as_str())));
        let builder = SpanBuilder::from_name(format!("process {}", self.topic))
            .with_kind(SpanKind::Consumer)
            .with_attributes(facts)
            .with_links(vec![Link::with_context(batch.clone())]);
        let parent = Context::new().with_remote_span_context(followed.context);
        let told = Told { builder, began: followed.read, ended, error: rejected.map(|_| "dead letter") };
        self.span(told, clock, &parent, Vec::new());
    }

    /// Tells of what the engine's thread did beside batches of records.
    pub fn turn(&self, whole: Lap, laps: Laps) {
        let builder = SpanBuilder::from_name(whole.name).with_attributes(whole.facts);
        let told = Told { builder, began: whole.began, ended: whole.ended, error: None };
        self.span(told, &Clock::now(), &Context::new(), laps.parts);
    }

    /// Tells of a request that took so long until its answer began, just now. `route`: the template of its path.
    pub fn request(&self, parent: Option<SpanContext>, method: &str, route: &str, status: u16, took: Duration) {
        let ended = Instant::now();
        // Anything may stand there.
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("_OTHER");
        let facts = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_string()),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        let builder =
            SpanBuilder::from_name(format!("{method} {route}")).with_kind(SpanKind::Server).with_attributes(facts);
        let parent = parent.map(|parent| Context::new().with_remote_span_context(parent)).unwrap_or_default();
        let began = ended.checked_sub(took).unwrap_or(ended);
        let told = Told { builder, began, ended, error: (status >= 500).then_some("") };
        self.span(told, &Clock::now(), &parent, Vec::new());
    }

    /// Sends what is queued, for no longer than `limit`, and nothing more after that.
    pub fn stop(&self, limit: Duration) {
        // What it says is only whether it was in time.
        let _ = self.provider.shutdown_with_timeout(limit);
        self.queue.tell_what_is_left();
    }

    fn operation(&self, name: &'static str) -> Vec<KeyValue> {
        let operation =
            [KeyValue::new("messaging.operation.name", name), KeyValue::new("messaging.operation.type", "process")];
        self.messaging.iter().cloned().chain(operation).collect()
    }

    /// Makes a span and those of its parts.
    fn span(&self, told: Told, clock: &Clock, parent: &Context, within: Vec<Lap>) -> SpanContext {
        let Told { builder, began, ended, error } = told;
        let mut span = self.tracer.build_with_context(builder.with_start_time(clock.at(began)), parent);
        let context = span.span_context().clone();
        if span.is_recording() {
            let here = Context::new().with_remote_span_context(context.clone());
            for Lap { name, began, ended, facts, within } in within {
                let builder = SpanBuilder::from_name(name).with_attributes(facts);
                self.span(Told { builder, began, ended, error: None }, clock, &here, within);
            }
            if let Some(error) = error {
                span.set_status(Status::error(error));
            }
            span.end_with_timestamp(clock.at(ended));
        }
        context
    }
}

/// A span to be.
struct Told {
    builder: SpanBuilder,
    began: Instant,
    ended: Instant,
    /// What went wrong.
    error: Option<&'static str>,
}

/// Whether the collector takes spans, of which it is sent none; none: there is no collector.
pub fn try_out(config: &config::Traces) -> Option<Result<(), String>> {
    let collector = export::Collector::new(config)?;
    Some(collector.send(Vec::new()).map(|_| ()))
}

/// What time it was at an instant. One for all spans made together, so that they fit into each other.
struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Clock {
    fn now() -> Clock {
        Clock { instant: Instant::now(), time: SystemTime::now() }
    }

    fn at(&self, instant: Instant) -> SystemTime {
        self.time - self.instant.saturating_duration_since(instant)
    }
}

fn list(key: &'static str, values: Vec<i64>) -> KeyValue {
    KeyValue::new(key, Value::Array(Array::I64(values)))
}
