//! Spans on their way to the collector: a bounded queue, a thread that empties it, and what becomes of those that are lost.
//!
//! Whoever ends a span never waits. A span that finds the queue full is dropped, as are those that the collector does not take;
//! they are not sent again, since what is younger tells more. All are counted, and one line of the log says why.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::IntCounter;
use prost::Message;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::config;

/// Spans that wait, or are being sent, at most.
const MOST_WAITING: usize = 4096;
const MOST_AT_ONCE: usize = 512;
/// How long a span waits for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is said at most that spans are lost.
const TELL: Duration = Duration::from_secs(600);
/// Of an answer; what it may say is short.
const MOST_ANSWER_BYTES: u64 = 64 << 10;

/// What waits, and what was lost of it.
#[derive(Debug)]
pub struct Queue {
    endpoint: String,
    waiting: AtomicUsize,
    dropped: IntCounter,
    /// Whether some were lost since any were taken.
    losing: AtomicBool,
    told: Mutex<Option<Instant>>,
}

impl Queue {
    pub fn new(config: &config::Traces, dropped: IntCounter) -> Queue {
        Queue {
            endpoint: config.endpoint.clone(),
            waiting: AtomicUsize::new(0),
            dropped,
            losing: AtomicBool::new(false),
            told: Mutex::new(None),
        }
    }

    fn has_room(&self) -> bool {
        let room = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok()
    }

    fn lost(&self, spans: u64, why: &str) {
        self.dropped.inc_by(spans);
        if self.losing.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() > TELL) {
            *told = Some(Instant::now());
            tracing::warn!(
                endpoint = %self.endpoint,
                why,
                "traces are lost, and counted in facetd_traces_dropped_total; nothing else waits for them"
            );
        }
    }

    fn taken(&self) {
        self.losing.store(false, Ordering::Release);
    }

    /// To be called last.
    pub fn tell_what_is_left(&self) {
        let left = self.waiting.load(Ordering::Acquire);
        if left > 0 {
            self.dropped.inc_by(left as u64);
            tracing::warn!(endpoint = %self.endpoint, spans = left, "the last traces were not taken in time, and are lost");
        }
    }
}

/// Takes spans, and sends them in a thread of its own.
pub fn processor(collector: Collector, queue: Arc<Queue>) -> impl SpanProcessor + 'static {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(MOST_WAITING)
        .with_max_export_batch_size(MOST_AT_ONCE)
        .with_scheduled_delay(EVERY)
        .build();
    let counted = Counted { collector, queue: queue.clone() };
    Bounded { inner: BatchSpanProcessor::new(counted, config), queue }
}

/// The queue's own bound would drop without a count.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        match self.queue.has_room() {
            true => self.inner.on_end(span),
            false => self.queue.lost(1, "the collector is slower than they come: a lower traces.sample makes fewer"),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[derive(Debug)]
struct Counted {
    collector: Collector,
    queue: Arc<Queue>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        // It blocks: the thread is there for nothing else.
        let sent = self.collector.send(batch);
        self.queue.waiting.fetch_sub(spans, Ordering::AcqRel);
        match sent {
            Ok(Refused { spans: 0, .. }) => self.queue.taken(),
            Ok(Refused { spans, why }) => self.queue.lost(spans, &why),
            Err(why) => {
                self.queue.lost(spans as u64, &why);
                return Err(OTelSdkError::InternalFailure(why));
            }
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.collector.resource = resource.into();
    }
}

/// Spans of a request that the collector did not take.
pub struct Refused {
    spans: u64,
    why: String,
}

/// The collector, over HTTP with protobuf.
pub struct Collector {
    agent: Agent,
    url: String,
    headers: Vec<(String, config::Secret)>,
    resource: ResourceAttributesWithSchema,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

impl Collector {
    /// None: there is none.
    pub fn new(config: &config::Traces) -> Option<Collector> {
        let url = config.url()?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // The headers are for nobody else.
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("facetd/", env!("CARGO_PKG_VERSION")))
            .build();
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Collector { agent: agent.into(), url, headers, resource: ResourceAttributesWithSchema::default() })
    }

    pub fn send(&self, batch: Vec<SpanData>) -> Result<Refused, String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut request = self.agent.post(&self.url).header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value.reveal());
        }
        let mut response = request.send(&body[..]).map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let answer = response.body_mut().with_config().limit(MOST_ANSWER_BYTES).read_to_vec();
        // It has taken them: what it says beside that may be anything.
        let answer = answer.ok().and_then(|bytes| ExportTraceServiceResponse::decode(&bytes[..]).ok());
        let partial = answer.and_then(|answer| answer.partial_success).unwrap_or_default();
        let why = format!("it takes them in part: {:?}", partial.error_message);
        Ok(Refused { spans: partial.rejected_spans.max(0) as u64, why })
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[test]
    fn no_more_wait_than_have_room_and_the_others_are_counted() {
        // It takes connections, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = config::Traces {
            endpoint: format!("http://{}", silent.local_addr().unwrap()),
            sample: 1.0,
            headers: Default::default(),
        };
        let dropped = IntCounter::new("dropped", "spans").unwrap();
        let queue = Arc::new(Queue::new(&config, dropped.clone()));
        let collector = Collector::new(&config).unwrap();
        let provider = SdkTracerProvider::builder().with_span_processor(processor(collector, queue.clone())).build();
        let tracer = provider.tracer("test");
        let more = 100;
        (0..MOST_WAITING + more).for_each(|_| drop(tracer.start("span")));
        // Those that the collector let wait for too long are gone too, where the machine is slow.
        assert!(dropped.get() >= more as u64, "{dropped:?}");
        assert!(queue.waiting.load(Ordering::Acquire) <= MOST_WAITING);
        assert!(provider.shutdown_with_timeout(Duration::from_millis(10)).is_err());
        let before = dropped.get();
        queue.tell_what_is_left();
        assert_eq!(dropped.get(), before + queue.waiting.load(Ordering::Acquire) as u64);
    }
}
