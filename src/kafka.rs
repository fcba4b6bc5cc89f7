//! What every Kafka client of ours has in common: how it connects, and how a producer knows what
//! the brokers have.

pub mod obstacle;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::config::Kafka;
use crate::face::{Offset, OutputPartition};
use obstacle::{Ear, Obstacle};

/// How long a wait for room or for answers lasts before somebody is asked whether to go on.
const POLL: Duration = Duration::from_millis(20);
/// How long the brokers may take to answer at first; they are asked again then.
const FIRST_ATTEMPT: Duration = Duration::from_millis(250);
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
        client.set(name, value.reveal());
    }
    client
}

/// Makes a client. Every one is made here, because rdkafka tells the value of an option that is not right, and what
/// librdkafka says of it may quote it: either may be a password.
pub fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    client: &ClientConfig,
    context: C,
) -> Result<T, KafkaError> {
    client.create_with_context(context).map_err(|error| match error {
        KafkaError::ClientConfig(kind, said, key, _) => {
            let quotes = said.starts_with("Invalid value") || said.starts_with("Unsupported value");
            let said = if quotes { "not a value it takes:".to_string() } else { said };
            KafkaError::ClientConfig(kind, said, key, "(its value is not shown)".to_string())
        }
        other => other,
    })
}

/// Why the brokers do not say which topics there are.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("kafka: {0}")]
    Client(KafkaError),
    #[error("no broker answers: {0}")]
    Obstacle(Obstacle),
    #[error("no broker answers: {0}")]
    Silence(KafkaError),
}

/// Asks the brokers which topics there are, waiting for them as long as `limit`, and no longer than what is in the way
/// can pass.
pub fn topics(client: &ClientConfig, limit: Duration) -> Result<Metadata, NoAnswer> {
    let made = create(client, Asking::default()).map_err(|error| match Obstacle::of_creation(&error) {
        Some(obstacle) => NoAnswer::Obstacle(obstacle),
        None => NoAnswer::Client(error),
    });
    let consumer: BaseConsumer<Asking> = made?;
    let begun = Instant::now();
    let mut attempt = FIRST_ATTEMPT;
    loop {
        // Each twice as long as the one before, for an answer that is long; the last takes what is left.
        let left = limit.saturating_sub(begun.elapsed());
        let source = match consumer.fetch_metadata(None, if left < 3 * attempt { left } else { attempt }) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        attempt *= 2;
        while consumer.poll(POLL).is_some() {}
        let ear = &consumer.context().0;
        if let Some(obstacle) = ear.stays() {
            return Err(NoAnswer::Obstacle(obstacle));
        }
        if begun.elapsed() >= limit {
            return Err(ear.last().map_or(NoAnswer::Silence(source), NoAnswer::Obstacle));
        }
    }
}

/// Of a consumer whose errors its owner tells.
#[derive(Default)]
struct Asking(Ear);

impl ClientContext for Asking {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.keep(&error, reason);
    }
}

impl ConsumerContext for Asking {}

/// Of a consumer that reads to the end of partitions and asks to be told of it.
#[derive(Default)]
pub struct ToTheEnd(Ear);

impl ClientContext for ToTheEnd {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
        // librdkafka calls the end of a partition an error.
        let is_the_end = matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF));
        if !is_the_end && !obstacle::is_about_the_way(&error) {
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

pub(crate) struct Context {
    answers: Arc<Answers>,
    ear: Ear,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        self.ear.hear(&error, reason);
        if !obstacle::is_about_the_way(&error) {
            tracing::warn!(%error, reason, "librdkafka");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(record) => self.answers.delivered(record.topic(), record.partition(), record.offset()),
            Err((error, _)) => {
                tracing::debug!(%error, "a record was not delivered");
                self.answers.failed.fetch_add(1, Ordering::Relaxed);
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
        let producer = create(&adjust(client), Context { answers: answers.clone(), ear: Ear::default() })?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn no_option_that_is_not_right_tells_its_value() {
        let options = [
            "sasl.pasword",
            "sasl.oauthbearer.client.secret",
            "auto.offset.reset",
            "security.protocol",
            "debug",
            "linger.ms",
            "enable.sparse.connections",
        ];
        for option in options {
            let text = format!("[kafka]\nlibrdkafka_options = {{ {option:?} = \"hunter2\" }}");
            let config = Config::parse(&text, std::iter::empty()).unwrap().kafka;
            let Err(refused) = topics(&with_options(client_config(&config), &config), Duration::ZERO) else {
                panic!("{option} has an answer");
            };
            let adjust = |client| with_options(client, &config);
            let produced = CountingProducer::connect(client_config(&config), adjust).err();
            let told = format!("{refused} {refused:?} {produced:?}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let pasword = "[kafka]\nlibrdkafka_options = { \"sasl.pasword\" = \"hunter2\" }";
        let config = Config::parse(pasword, std::iter::empty()).unwrap().kafka;
        let refused = topics(&with_options(client_config(&config), &config), Duration::ZERO).err().unwrap().to_string();
        assert!(refused.contains("No such configuration property") && refused.contains("sasl.pasword"), "{refused}");
    }
}
