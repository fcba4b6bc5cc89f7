//! What every Kafka client of ours has in common: how it connects, and how a producer knows what
//! the brokers have.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::config::Kafka;
use crate::face::{Offset, OutputPartition};

/// How long a wait for room or for answers lasts before somebody is asked whether to go on.
const POLL: Duration = Duration::from_millis(20);
/// How long librdkafka itself keeps trying to deliver a record.
const DELIVERY_MILLISECONDS: &str = "30000";

/// The connection a configuration describes.
pub fn client_config(config: &Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.brokers);
    client.set("client.id", "facetd");
    client.set("security.protocol", &config.security_protocol);
    if config.security_protocol.starts_with("sasl") {
        client.set("sasl.mechanism", &config.sasl_mechanism);
        client.set("sasl.username", &config.sasl_username);
        client.set("sasl.password", config.sasl_password.reveal());
    }
    if !config.ssl_ca.is_empty() {
        client.set("ssl.ca.location", &config.ssl_ca);
    }
    client
}

/// Lets the user's own options win over all that was set before.
pub fn with_options(mut client: ClientConfig, config: &Kafka) -> ClientConfig {
    for (name, value) in &config.librdkafka_options {
        client.set(name, value);
    }
    client
}

/// Of a consumer that reads to the end of partitions and asks to be told of it.
pub struct ToTheEnd;

impl ClientContext for ToTheEnd {
    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka calls the end of a partition an error.
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "librdkafka");
        }
    }
}

impl ConsumerContext for ToTheEnd {}

/// Why a producer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    #[error("kafka: {0}")]
    Client(#[from] KafkaError),
    #[error("the producer failed for good: {0}")]
    Fatal(String),
    #[error("a transaction lay still for longer than {} s, and the brokers ended it", timeout.as_secs_f32())]
    LayStill { timeout: Duration },
    #[error(
        "another facetd has taken over {transactional_id:?}, so this one stops: two daemons must not share kafka.group and \
         kafka.shard; stop one, or give each its own"
    )]
    Fenced { transactional_id: String },
    #[error(
        "the brokers do not allow the transactional id {transactional_id:?}: allow it, or set \
         kafka.delivery = \"at_least_once\""
    )]
    NotAllowed { transactional_id: String },
}

impl ProducerError {
    /// Whether all that was wrong is that too much time went by.
    pub fn lay_still(&self) -> bool {
        matches!(self, ProducerError::LayStill { .. })
    }

    /// Whether another producer may go on.
    pub fn ended_the_producer(&self) -> bool {
        matches!(self, ProducerError::Fatal(_) | ProducerError::LayStill { .. })
    }
}

/// What the brokers answered. Written by the thread that polls.
#[derive(Default)]
struct Answers {
    delivered: AtomicUsize,
    failed: AtomicUsize,
    /// The offset after the last record delivered to each partition, by topic.
    ends: Mutex<HashMap<String, HashMap<i32, Offset>>>,
}

impl Answers {
    fn delivered(&self, topic: &str, partition: i32, offset: i64) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        // A record that the brokers had already, when it was sent again, may come without its offset.
        if offset < 0 {
            return;
        }
        // Whole whenever it is let go.
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Offset(offset).next();
        match ends.get_mut(topic) {
            Some(partitions) => drop(partitions.insert(partition, end)),
            None => drop(ends.insert(topic.to_string(), HashMap::from([(partition, end)]))),
        }
    }
}

pub(crate) struct Context(Arc<Answers>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(record) => self.0.delivered(record.topic(), record.partition(), record.offset()),
            Err((error, _)) => {
                tracing::debug!(%error, "a record was not delivered");
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// An idempotent producer (librdkafka's own retries neither double nor reorder) that counts what
/// the brokers took.
pub struct CountingProducer {
    producer: BaseProducer<Context>,
    answers: Arc<Answers>,
}

impl CountingProducer {
    /// `adjust` has the last word on the client's settings.
    pub fn connect(
        mut client: ClientConfig,
        adjust: impl FnOnce(ClientConfig) -> ClientConfig,
    ) -> Result<CountingProducer, ProducerError> {
        client.set("enable.idempotence", "true");
        client.set("message.timeout.ms", DELIVERY_MILLISECONDS);
        client.set("linger.ms", "2");
        client.set("compression.type", "lz4");
        let answers = Arc::new(Answers::default());
        let producer = adjust(client).create_with_context(Context(answers.clone()))?;
        Ok(CountingProducer { producer, answers })
    }

    /// librdkafka's own producer.
    pub(crate) fn inner(&self) -> &BaseProducer<Context> {
        &self.producer
    }

    /// The offsets after what the brokers have taken since this was last asked.
    pub fn take_ends(&self) -> BTreeMap<OutputPartition, Offset> {
        let ends = std::mem::take(&mut *self.answers.ends.lock().unwrap_or_else(PoisonError::into_inner));
        let of_topic = |(topic, partitions): (String, HashMap<i32, Offset>)| {
            let of = move |(partition, end)| (OutputPartition { topic: topic.clone(), partition }, end);
            partitions.into_iter().map(of).collect::<Vec<_>>()
        };
        ends.into_iter().flat_map(of_topic).collect()
    }

    /// Hands a record to librdkafka, waiting for room until `give_up` says so; answers whether it took it.
    pub fn send(
        &self,
        mut record: BaseRecord<'_, [u8], [u8]>,
        give_up: &dyn Fn() -> bool,
    ) -> Result<bool, ProducerError> {
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            if give_up() {
                return Ok(false);
            }
            record = refused;
            self.wait()?;
        }
        Ok(true)
    }

    /// Hears answers for a moment.
    pub fn wait(&self) -> Result<(), ProducerError> {
        self.producer.poll(POLL);
        match self.producer.client().fatal_error() {
            Some((_, text)) => Err(ProducerError::Fatal(text)),
            None => Ok(()),
        }
    }

    /// Hears the answers that are there.
    pub fn hear(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Records the brokers have, since the beginning.
    pub fn delivered(&self) -> usize {
        self.answers.delivered.load(Ordering::Relaxed)
    }

    /// Records the brokers did not take, since the beginning.
    pub fn failed(&self) -> usize {
        self.answers.failed.load(Ordering::Relaxed)
    }
}
