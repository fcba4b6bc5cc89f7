//! Faces of a file into Kafka, as a producer of the field would send them.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::producer::BaseRecord;

use crate::codec::Message;
use crate::codec::json;
use crate::config::Kafka;
use crate::kafka::{CountingProducer, NoAnswer, ProducerError, client_config, topics, with_options};

/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Why faces did not get into the topic.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}; check --brokers and --topic")]
    Producer(#[from] ProducerError),
    /// Its text says what to do.
    #[error("{brokers}: {source}")]
    NoAnswer { brokers: String, source: NoAnswer },
    #[error("the brokers did not take {0} of the faces within 30 s; check that they run and that the topic exists")]
    NotDelivered(usize),
}

/// Sends faces as JSON with base64 embeddings.
pub struct FaceProducer {
    producer: CountingProducer,
    topic: String,
    sent: usize,
}

impl FaceProducer {
    pub fn connect(brokers: &str, topic: &str) -> Result<FaceProducer, ReplayError> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        FaceProducer::new(client, |client| client, topic)
    }

    /// To the input topic of a daemon's configuration, in the way it names. What keeps the brokers from answering is
    /// told at once.
    pub fn of(config: &Kafka) -> Result<FaceProducer, ReplayError> {
        let no_answer = |source| ReplayError::NoAnswer { brokers: config.brokers.clone(), source };
        topics(&with_options(client_config(config), config), ANSWER).map_err(no_answer)?;
        FaceProducer::new(client_config(config), |client| with_options(client, config), &config.input_topic)
    }

    fn new(
        mut client: ClientConfig,
        adjust: impl FnOnce(ClientConfig) -> ClientConfig,
        topic: &str,
    ) -> Result<FaceProducer, ReplayError> {
        client.set("client.id", "facetd-replay");
        let producer = CountingProducer::connect(client, adjust)?;
        Ok(FaceProducer { producer, topic: topic.to_string(), sent: 0 })
    }

    /// Sends one face. Returns at once, or when librdkafka's queue has room.
    pub fn send(&mut self, face_id: &str, embedding: &[f32]) -> Result<(), ReplayError> {
        let message = Message { embedding: embedding.to_vec(), ..Message::default() };
        let payload = json::encode(&message);
        let record = BaseRecord::to(&self.topic).key(face_id.as_bytes()).payload(&payload[..]);
        self.producer.send(record, &|| false)?;
        self.sent += 1;
        self.producer.hear();
        Ok(())
    }

    /// Faces the brokers have.
    pub fn delivered(&self) -> usize {
        self.producer.hear();
        self.producer.delivered()
    }

    /// Waits until the brokers have every face sent, telling how many they have on the way.
    pub fn finish(self, mut progress: impl FnMut(usize)) -> Result<(), ReplayError> {
        while self.producer.delivered() + self.producer.failed() < self.sent {
            self.producer.wait()?;
            progress(self.producer.delivered());
        }
        match self.producer.failed() {
            0 => Ok(()),
            failed => Err(ReplayError::NotDelivered(failed)),
        }
    }
}

/// The name a row of a file gets: wide enough that the order of names is that of rows.
pub fn face_id_of_row(row: usize) -> String {
    format!("{row:08}")
}
