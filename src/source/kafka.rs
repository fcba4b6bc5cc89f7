//! The consumer: one thread that polls, decodes and hands on.
//!
//! Partitions are assigned, not rebalanced, because the state is local, and reading starts at the
//! store's own positions: what Kafka knows of the group is for showing lag, nothing more.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use sha2::{Digest, Sha256};

use super::queue::Offered;
use super::{Content, Intake, Lag, Record, Sender};
use crate::codec::{self, Decoded, Decoder};
use crate::config::{Kafka, Partitions};
use crate::face::{MAX_FACE_ID_BYTES, Offset, Partition, Place};
use crate::kafka::{client_config, with_options};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// How long a poll waits: the longest a stop or a resume is late.
const POLL: Duration = Duration::from_millis(50);
/// How long a broker may take to answer at the start.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a consumer may take to leave its group.
const LEAVING: Duration = Duration::from_secs(2);
/// How long an error is not repeated in the log.
const QUIET: Duration = Duration::from_secs(10);
/// How often librdkafka tells how long the partitions are.
const STATISTICS_MILLISECONDS: &str = "1000";
/// Fetched ahead and not yet polled, in KiB: part of the promise that memory stays flat, and what a
/// pause throws away.
const FETCHED_AHEAD_KIB: &str = "4096";

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("kafka: {0}; check kafka.* in the configuration")]
    Client(KafkaError),
    #[error("no broker answers at {brokers}: {source}; start it, or correct kafka.brokers")]
    Unreachable { brokers: String, source: KafkaError },
    #[error("topic {topic:?} does not exist; create it (`scripts/kafka topics` does), or correct kafka.*_topic")]
    NoTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}; correct kafka.partitions")]
    NoPartition { topic: String, partition: i32 },
    #[error(
        "topic {topic:?} partition {partition} ends at {end}, and the state has read up to {position}: the topic was made \
         anew, or the state is of another cluster; correct kafka.brokers, or start a new state.dir"
    )]
    Shorter { topic: String, partition: i32, end: i64, position: i64 },
    #[error("the consumer failed for good: {0}")]
    Fatal(String),
}

/// Hears from librdkafka, in the thread that polls.
struct Context {
    topic: String,
    lag: Arc<Lag>,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let known = topic.partitions.iter().filter(|(number, partition)| **number >= 0 && partition.hi_offset >= 0);
        self.lag.ends(known.map(|(&number, partition)| (Partition(number), Offset(partition.hi_offset))));
    }
}

impl ConsumerContext for Context {}

/// The input topic, ready to be read from the store's positions.
pub struct Source {
    consumer: BaseConsumer<Context>,
    topic: String,
    decoder: Decoder,
    metrics: Arc<Metrics>,
    /// When an error was last told.
    reported: Cell<Option<Instant>>,
}

impl Source {
    /// Connects, checks that `topics` exist and takes the partitions. Input begins at `positions`,
    /// where there is none at the beginning of the partition.
    pub fn connect(
        config: &Kafka,
        decoder: Decoder,
        positions: &BTreeMap<Partition, Offset>,
        lag: Arc<Lag>,
        metrics: Arc<Metrics>,
    ) -> Result<Source, SourceError> {
        let topic = config.input_topic.clone();
        let mut client = client_config(config);
        client.set("group.id", &config.group);
        client.set("enable.auto.commit", "false");
        // A position that the topic has deleted meanwhile: go on with the oldest that is left.
        client.set("auto.offset.reset", "earliest");
        client.set("statistics.interval.ms", STATISTICS_MILLISECONDS);
        client.set("queued.max.messages.kbytes", FETCHED_AHEAD_KIB);
        client.set("fetch.queue.backoff.ms", "20");
        let context = Context { topic: topic.clone(), lag };
        let client = with_options(client, config);
        let consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(SourceError::Client)?;

        let owned = owned_partitions(&consumer, config)?;
        let mut assignment = TopicPartitionList::new();
        for partition in owned {
            let offset = match positions.get(&partition) {
                Some(&offset) => {
                    check_reached(&consumer, config, partition, offset)?;
                    rdkafka::Offset::Offset(offset.0)
                }
                None => rdkafka::Offset::Beginning,
            };
            assignment.add_partition_offset(&topic, partition.0, offset).map_err(SourceError::Client)?;
        }
        consumer.assign(&assignment).map_err(SourceError::Client)?;
        Ok(Source { consumer, topic, decoder, metrics, reported: Cell::new(None) })
    }

    /// Reads until `shutdown` or until nobody takes what is read. `published` brings the positions
    /// whose events Kafka has: they are committed for the group, for tools that show its lag.
    pub fn run(
        self,
        queue: &Sender,
        published: &mpsc::Receiver<BTreeMap<Partition, Offset>>,
        shutdown: &Shutdown,
    ) -> Result<(), SourceError> {
        let outcome = self.read(queue, published, shutdown);
        leave(self.consumer);
        outcome
    }

    fn read(
        &self,
        queue: &Sender,
        published: &mpsc::Receiver<BTreeMap<Partition, Offset>>,
        shutdown: &Shutdown,
    ) -> Result<(), SourceError> {
        // Decoded and not yet taken. One when the queue is full, and few more: what was fetched
        // before a pause takes hold still comes.
        let mut held: VecDeque<Intake> = VecDeque::new();
        let mut paused = false;
        while !shutdown.is_requested() {
            if let Some(positions) = published.try_iter().last() {
                self.show_positions(&positions);
            }
            if !paused || queue.has_drained() {
                match hand_on(&mut held, queue) {
                    Handed::All if paused => {
                        self.resume()?;
                        paused = false;
                    }
                    Handed::All => {}
                    Handed::Full if paused => {}
                    Handed::Full => {
                        self.pause()?;
                        paused = true;
                    }
                    Handed::NobodyTakes => return Ok(()),
                }
            }
            // While paused this serves librdkafka's own work.
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    self.metrics.source_records.inc();
                    held.push_back(self.decode(&message));
                }
                Some(Err(error)) => self.report(&error)?,
            }
        }
        Ok(())
    }

    fn decode(&self, message: &BorrowedMessage) -> Intake {
        let place = Place { partition: Partition(message.partition()), offset: Offset(message.offset()) };
        let payload = message.payload();
        let record = Record {
            place,
            // Longer than any face_id, it would only make a dead letter that no broker takes.
            key: message.key().map(|key| key[..key.len().min(MAX_FACE_ID_BYTES)].to_vec()),
            payload_bytes: payload.map_or(0, <[u8]>::len) as u64,
            payload_sha256: Sha256::digest(payload.unwrap_or_default()).into(),
        };
        let header = |name: &str| {
            let headers = message.headers()?;
            headers.iter().find(|header| header.key.eq_ignore_ascii_case(name)).and_then(|header| header.value)
        };
        let decoded = self.decoder.decode(&codec::Record {
            key: message.key(),
            payload,
            content_type: header("content-type"),
            collection: header("collection"),
            captured_at: header("captured_at"),
            place,
        });
        let content = match decoded {
            Ok(Decoded::Face { collection, face }) => Content::Face { collection, face },
            Ok(Decoded::Erase { collection, face_id }) => Content::Erase { collection, face_id },
            Err(rejection) => Content::Rejected(rejection),
        };
        Intake { record, content }
    }

    fn pause(&self) -> Result<(), SourceError> {
        tracing::debug!("the engine is slower than the input, pausing");
        self.metrics.source_paused.set(1);
        self.consumer.pause(&self.assignment()?).map_err(SourceError::Client)
    }

    fn resume(&self) -> Result<(), SourceError> {
        self.metrics.source_paused.set(0);
        self.consumer.resume(&self.assignment()?).map_err(SourceError::Client)
    }

    fn assignment(&self) -> Result<TopicPartitionList, SourceError> {
        self.consumer.assignment().map_err(SourceError::Client)
    }

    fn show_positions(&self, positions: &BTreeMap<Partition, Offset>) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            // The list is new, so a partition cannot be in it twice.
            let _ = list.add_partition_offset(&self.topic, partition.0, rdkafka::Offset::Offset(offset.0));
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(%error, "kafka's tools will show an old lag: the group's offsets could not be committed");
        }
    }

    /// A broker that is gone comes back; what can never work again ends the daemon.
    fn report(&self, error: &KafkaError) -> Result<(), SourceError> {
        self.metrics.source_errors.inc();
        if let Some((_, text)) = self.consumer.client().fatal_error() {
            return Err(SourceError::Fatal(text));
        }
        let now = Instant::now();
        // Without brokers an error comes ten times a second.
        if self.reported.get().is_none_or(|last| now - last > QUIET) {
            self.reported.set(Some(now));
            tracing::warn!(%error, "the consumer reports an error and goes on");
        }
        Ok(())
    }
}

/// Closes a consumer, but not at the price of waiting for brokers that are gone: dropping it waits
/// for them without end. So a thread of its own drops it; when that takes too long, it goes with
/// the process.
fn leave(consumer: BaseConsumer<Context>) {
    let (done, left) = mpsc::channel();
    std::thread::spawn(move || {
        drop(consumer);
        // Nobody may be waiting any more.
        let _ = done.send(());
    });
    let _ = left.recv_timeout(LEAVING);
}

/// How far handing on went.
enum Handed {
    All,
    Full,
    NobodyTakes,
}

fn hand_on(held: &mut VecDeque<Intake>, queue: &Sender) -> Handed {
    while let Some(intake) = held.pop_front() {
        match queue.offer(intake) {
            Offered::Taken => {}
            Offered::Full(intake) => {
                held.push_front(intake);
                return Handed::Full;
            }
            Offered::NobodyTakes => return Handed::NobodyTakes,
        }
    }
    Handed::All
}

/// A topic that ends before where the state has read to is not the one it has read. Reading it
/// would skip, without a word, every record up to that offset.
fn check_reached<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    config: &Kafka,
    partition: Partition,
    position: Offset,
) -> Result<(), SourceError> {
    let (topic, brokers) = (config.input_topic.clone(), config.brokers.clone());
    let watermarks = consumer.fetch_watermarks(&topic, partition.0, BROKER_TIMEOUT);
    let (_, end) = watermarks.map_err(|source| SourceError::Unreachable { brokers, source })?;
    match end < position.0 {
        true => Err(SourceError::Shorter { topic, partition: partition.0, end, position: position.0 }),
        false => Ok(()),
    }
}

/// Asks the brokers for every topic and answers which partitions of the input are ours.
pub fn check_topics(config: &Kafka) -> Result<Vec<Partition>, SourceError> {
    let client = with_options(client_config(config), config);
    let consumer: BaseConsumer = client.create().map_err(SourceError::Client)?;
    owned_partitions(&consumer, config)
}

fn owned_partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    config: &Kafka,
) -> Result<Vec<Partition>, SourceError> {
    let unreachable = |source| SourceError::Unreachable { brokers: config.brokers.clone(), source };
    let metadata = consumer.fetch_metadata(None, BROKER_TIMEOUT).map_err(unreachable)?;
    let partitions_of = |topic: &str| {
        let found = metadata.topics().iter().find(|candidate| candidate.name() == topic);
        let partitions = found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect::<Vec<i32>>());
        partitions.filter(|ids| !ids.is_empty()).ok_or_else(|| SourceError::NoTopic { topic: topic.to_string() })
    };
    for topic in
        [&config.events_topic, &config.face_state_topic, &config.cluster_state_topic, &config.dead_letters_topic]
    {
        partitions_of(topic)?;
    }
    let existing = partitions_of(&config.input_topic)?;
    match &config.partitions {
        Partitions::All => Ok(existing.into_iter().map(Partition).collect()),
        Partitions::These(wanted) => wanted
            .iter()
            .map(|&partition| match existing.contains(&partition) {
                true => Ok(Partition(partition)),
                false => Err(SourceError::NoPartition { topic: config.input_topic.clone(), partition }),
            })
            .collect(),
    }
}
