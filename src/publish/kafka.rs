//! The producer: idempotent, so that librdkafka's own retries neither double nor reorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::cloudevents::OutgoingRecord;
use crate::config::Kafka;
use crate::source::kafka::{client_config, with_options};
use crate::store::StoreError;

/// How long librdkafka itself keeps trying to deliver a record.
const DELIVERY_MILLISECONDS: &str = "30000";
const POLL: Duration = Duration::from_millis(20);

/// Why publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("kafka: {0}; check kafka.* in the configuration")]
    Client(KafkaError),
    #[error("the producer failed for good: {0}")]
    Fatal(String),
    #[error(transparent)]
    Store(StoreError),
}

/// Counts deliveries, in the thread that polls.
#[derive(Default)]
struct Deliveries {
    delivered: AtomicUsize,
    failed: AtomicUsize,
}

struct Context {
    deliveries: Arc<Deliveries>,
}

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => self.deliveries.delivered.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => {
                tracing::warn!(%error, "a record was not delivered");
                self.deliveries.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Writes records and waits until the brokers have them.
pub struct Producer {
    producer: BaseProducer<Context>,
    deliveries: Arc<Deliveries>,
}

impl Producer {
    pub fn connect(config: &Kafka) -> Result<Producer, PublishError> {
        let mut client = client_config(config);
        client.set("enable.idempotence", "true");
        client.set("message.timeout.ms", DELIVERY_MILLISECONDS);
        client.set("linger.ms", "2");
        client.set("compression.type", "lz4");
        let deliveries = Arc::new(Deliveries::default());
        let context = Context { deliveries: deliveries.clone() };
        let producer = with_options(client, config).create_with_context(context).map_err(PublishError::Client)?;
        Ok(Producer { producer, deliveries })
    }

    /// Writes all `records` in order; answers how many the brokers have not taken, which is none
    /// unless they refused some or `give_up` said so before they had answered.
    pub fn publish(&self, records: &[OutgoingRecord], give_up: &dyn Fn() -> bool) -> Result<usize, PublishError> {
        self.deliveries.delivered.store(0, Ordering::Relaxed);
        self.deliveries.failed.store(0, Ordering::Relaxed);
        let delivered = || self.deliveries.delivered.load(Ordering::Relaxed);
        for record in records {
            if !self.send(record, give_up)? {
                return Ok(records.len() - delivered());
            }
        }
        loop {
            let answered = delivered() + self.deliveries.failed.load(Ordering::Relaxed);
            if answered >= records.len() || give_up() {
                return Ok(records.len() - delivered());
            }
            self.producer.poll(POLL);
            self.check()?;
        }
    }

    /// Hands a record to librdkafka; answers whether it took it before `give_up`.
    fn send(&self, record: &OutgoingRecord, give_up: &dyn Fn() -> bool) -> Result<bool, PublishError> {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
            headers.insert(Header { key: &header.name, value: Some(header.value.as_bytes()) })
        });
        let mut message = BaseRecord::to(&record.topic).key(&record.key).headers(headers);
        if let Some(payload) = &record.payload {
            message = message.payload(payload);
        }
        while let Err((error, refused)) = self.producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(PublishError::Client(error));
            }
            if give_up() {
                return Ok(false);
            }
            message = refused;
            self.producer.poll(POLL);
            self.check()?;
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), PublishError> {
        match self.producer.client().fatal_error() {
            Some((_, text)) => Err(PublishError::Fatal(text)),
            None => Ok(()),
        }
    }
}
