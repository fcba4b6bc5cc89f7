//! Faces of a file into Kafka, as a producer of the field would send them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};

use crate::codec::Message;
use crate::codec::json;

const POLL: Duration = Duration::from_millis(10);
/// How long the brokers may take for a record.
const DELIVERY_MILLISECONDS: &str = "30000";

/// Why faces did not get into the topic.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("kafka: {0}; check --brokers and --topic")]
    Client(KafkaError),
    #[error("the brokers did not take {0} of the faces within 30 s; check that they run and that the topic exists")]
    NotDelivered(usize),
}

#[derive(Default)]
struct Deliveries {
    delivered: AtomicUsize,
    failed: AtomicUsize,
}

struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let counter = if result.is_ok() { &self.0.delivered } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends faces as JSON with base64 embeddings.
pub struct FaceProducer {
    producer: BaseProducer<Context>,
    deliveries: Arc<Deliveries>,
    topic: String,
    sent: usize,
}

impl FaceProducer {
    pub fn connect(brokers: &str, topic: &str) -> Result<FaceProducer, ReplayError> {
        let deliveries = Arc::new(Deliveries::default());
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", "facetd-replay")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", DELIVERY_MILLISECONDS)
            .set("linger.ms", "5")
            .create_with_context(Context(deliveries.clone()))
            .map_err(ReplayError::Client)?;
        Ok(FaceProducer { producer, deliveries, topic: topic.to_string(), sent: 0 })
    }

    /// Sends one face. Returns at once, or when librdkafka's queue has room.
    pub fn send(&mut self, face_id: &str, embedding: &[f32]) -> Result<(), ReplayError> {
        let message = Message { embedding: embedding.to_vec(), ..Message::default() };
        let payload = json::encode(&message);
        let mut record = BaseRecord::to(&self.topic).key(face_id).payload(&payload);
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(ReplayError::Client(error));
            }
            record = refused;
            self.producer.poll(POLL);
        }
        self.sent += 1;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Faces the brokers have.
    pub fn delivered(&self) -> usize {
        self.producer.poll(Duration::ZERO);
        self.deliveries.delivered.load(Ordering::Relaxed)
    }

    /// Waits until the brokers have every face sent, telling how many they have on the way.
    pub fn finish(self, mut progress: impl FnMut(usize)) -> Result<(), ReplayError> {
        loop {
            let delivered = self.delivered();
            let failed = self.deliveries.failed.load(Ordering::Relaxed);
            progress(delivered);
            if delivered + failed >= self.sent {
                return if failed == 0 { Ok(()) } else { Err(ReplayError::NotDelivered(failed)) };
            }
            self.producer.poll(POLL);
        }
    }
}

/// The name a row of a file gets: wide enough that the order of names is that of rows.
pub fn face_id_of_row(row: usize) -> String {
    format!("{row:08}")
}
