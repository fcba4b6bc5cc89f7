//! The consumer: one thread that polls, decodes and hands on.
//!
//! Partitions are assigned, not rebalanced, because the state is local, and reading starts at the
//! store's own positions: what Kafka knows of the group is the publisher's affair ([`crate::publish`]).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::queue::Offered;
use super::topics::{Start, starts};
use super::{Content, Intake, Lag, Record, Sender, SourceError};
use crate::codec::{self, Decoded, Decoder};
use crate::config::{Kafka, Partitions};
use crate::face::{Offset, Partition, Place, Position};
use crate::kafka::obstacle::{Ear, is_about_the_way};
use crate::kafka::{client_config, create, with_options};
use crate::metrics::Metrics;
use crate::rejection::Rejection;
use crate::shutdown::Shutdown;
use crate::traces::context::Followed;

/// How long a poll waits: the longest a stop or a resume is late.
const POLL: Duration = Duration::from_millis(50);
/// How long a consumer may take to leave its group.
const LEAVING: Duration = Duration::from_secs(2);
/// How long an error is not repeated in the log.
const QUIET: Duration = Duration::from_secs(10);
/// How long brokers may take to say where a partition begins and ends while input is read: nothing else goes on.
const POSITION: Duration = Duration::from_secs(1);
/// How often librdkafka tells how long the partitions are.
const STATISTICS_MILLISECONDS: &str = "1000";
/// How often the brokers are asked which partitions there are.
const METADATA_MILLISECONDS: &str = "30000";
/// Fetched ahead and not yet polled, in KiB: part of the promise that memory stays flat, and what a
/// pause throws away.
const FETCHED_AHEAD_KIB: &str = "4096";

/// Hears from librdkafka, in the thread that polls.
struct Context {
    topic: String,
    lag: Arc<Lag>,
    /// All there were at the start; none if only some are ours anyway.
    all: Option<BTreeSet<i32>>,
    /// A partition that has come since.
    new: OnceLock<i32>,
    ear: Ear,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // What else there is comes out of the poll, and is told there.
        self.ear.hear(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let known = topic.partitions.iter().filter(|(number, partition)| **number >= 0 && partition.hi_offset >= 0);
        self.lag.ends(known.map(|(&number, partition)| (Partition(number), Offset(partition.hi_offset))));
        if let Some(all) = &self.all
            && let Some(&new) = topic.partitions.keys().find(|&number| *number >= 0 && !all.contains(number))
        {
            let _ = self.new.set(new);
        }
    }
}

impl ConsumerContext for Context {}

/// The input topic, ready to be read from the store's positions.
pub struct Source {
    consumer: BaseConsumer<Context>,
    config: Kafka,
    decoder: Decoder,
    metrics: Arc<Metrics>,
    /// For each partition, the offset at which its next record is looked for.
    next: BTreeMap<Partition, Offset>,
    /// Partitions that are not read on until it is found out where.
    unfound: VecDeque<Partition>,
    /// When they were last looked for.
    looked: Option<Instant>,
    /// When an error was last told.
    reported: Cell<Option<Instant>>,
    /// Whether traces are made.
    follows: bool,
}

impl Source {
    /// Connects, checks that the topic is the one that was read up to `positions` and takes the
    /// partitions. Where there is no position, input begins at the beginning of the partition.
    pub fn connect(
        config: &Kafka,
        partitions: &[Partition],
        decoder: Decoder,
        positions: &BTreeMap<Partition, Position>,
        lag: Arc<Lag>,
        metrics: Arc<Metrics>,
    ) -> Result<Source, SourceError> {
        let topic = config.input_topic.clone();
        let mut client = client_config(config);
        client.set("group.id", &config.group);
        client.set("enable.auto.commit", "false");
        // What a position means that the topic does not have, [`Source::find_positions`] finds out.
        client.set("auto.offset.reset", "error");
        client.set("statistics.interval.ms", STATISTICS_MILLISECONDS);
        // How soon a new partition is noticed.
        client.set("topic.metadata.refresh.interval.ms", METADATA_MILLISECONDS);
        client.set("queued.max.messages.kbytes", FETCHED_AHEAD_KIB);
        client.set("fetch.queue.backoff.ms", "20");
        let all =
            (config.partitions == Partitions::All).then(|| partitions.iter().map(|partition| partition.0).collect());
        let context = Context { topic: topic.clone(), lag, all, new: OnceLock::new(), ear: Ear::default() };
        let client = with_options(client, config);
        let consumer: BaseConsumer<Context> = create(&client, context).map_err(SourceError::Client)?;

        let mut source = Source {
            consumer,
            config: config.clone(),
            decoder,
            metrics,
            next: BTreeMap::new(),
            unfound: VecDeque::new(),
            looked: None,
            reported: Cell::new(None),
            follows: false,
        };
        let mut assignment = TopicPartitionList::new();
        for (partition, start) in starts(config, partitions, positions)? {
            let Start { offset, lost } = start?;
            source.report_lost(partition, lost);
            let from = offset.map_or(rdkafka::Offset::Beginning, |offset| rdkafka::Offset::Offset(offset.0));
            assignment.add_partition_offset(&topic, partition.0, from).map_err(SourceError::Client)?;
            source.next.insert(partition, offset.unwrap_or(Offset(0)));
        }
        source.consumer.assign(&assignment).map_err(SourceError::Client)?;
        Ok(source)
    }

    /// Looks from now on which trace a record is part of.
    pub fn follow_traces(&mut self) {
        self.follows = true;
    }

    /// Reads until `shutdown` or until nobody takes what is read.
    pub fn run(mut self, queue: &Sender, shutdown: &Shutdown) -> Result<(), SourceError> {
        let outcome = self.read(queue, shutdown);
        leave(self.consumer);
        outcome
    }

    fn read(&mut self, queue: &Sender, shutdown: &Shutdown) -> Result<(), SourceError> {
        // Decoded and not yet taken. One when the queue is full, and few more: what was fetched
        // before a pause takes hold still comes.
        let mut held: VecDeque<Intake> = VecDeque::new();
        let mut paused = false;
        while !shutdown.is_requested() {
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
                    self.next.insert(Partition(message.partition()), Offset(message.offset()).next());
                    held.push_back(self.decode(&message));
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => self.unfound = self.next.keys().copied().collect(),
                Some(Err(error)) => self.report(&error)?,
            }
            if !self.unfound.is_empty() && self.looked.is_none_or(|last| last.elapsed() > POSITION) {
                self.find_positions()?;
                self.looked = Some(Instant::now());
            }
            // Positions, marks and lag are of the partitions there were: only a start takes another one in.
            if let Some(&partition) = self.consumer.context().new.get() {
                return Err(SourceError::NewPartition { topic: self.config.input_topic.clone(), partition });
            }
        }
        Ok(())
    }

    /// Kafka does not have the record that comes next: it was deleted before it was read, or the topic
    /// is another one. librdkafka says so once, and not of which partition. What cannot be found out now
    /// stays in `unfound`.
    fn find_positions(&mut self) -> Result<(), SourceError> {
        while let Some(&partition) = self.unfound.front() {
            // One whose broker is gone must not keep the others from being found, nor the loop from its turn.
            self.unfound.rotate_left(1);
            let next = self.next[&partition];
            let topic = &self.config.input_topic;
            let (low, high) = match self.consumer.fetch_watermarks(topic, partition.0, POSITION) {
                Ok((low, high)) => (Offset(low), Offset(high)),
                Err(error) => return self.report(&error),
            };
            if high < next {
                let (topic, end, position) = (topic.clone(), high.0, next.0);
                return Err(SourceError::Shorter { topic, partition: partition.0, end, position });
            }
            let from = next.max(low);
            if let Err(error) = self.consumer.seek(topic, partition.0, rdkafka::Offset::Offset(from.0), POSITION) {
                return self.report(&error);
            }
            self.report_lost(partition, (low.0 - next.0).max(0) as u64);
            self.next.insert(partition, from);
            self.unfound.pop_back();
        }
        Ok(())
    }

    /// Nothing brings them back, so the stream goes on; but it is said.
    fn report_lost(&self, partition: Partition, lost: u64) {
        if lost > 0 {
            self.metrics.source_lost.inc_by(lost);
            tracing::error!(
                partition = partition.0,
                lost,
                "kafka deleted records before they were read: give the input topic a longer retention"
            );
        }
    }

    fn decode(&self, message: &BorrowedMessage) -> Intake {
        let followed = if self.follows { Followed::from(|name| header(message, name)) } else { None };
        let record = Record { followed, ..Record::of(message) };
        let content = match decoded(&self.decoder, message) {
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

    /// A broker that is gone comes back; what can never work again ends the daemon.
    fn report(&self, error: &KafkaError) -> Result<(), SourceError> {
        self.metrics.source_errors.inc();
        if let Some((_, text)) = self.consumer.client().fatal_error() {
            return Err(SourceError::Fatal(text));
        }
        let now = Instant::now();
        if is_about_the_way(error) {
            return Ok(());
        }
        // Without brokers an error comes ten times a second.
        if self.reported.get().is_none_or(|last| now - last > QUIET) {
            self.reported.set(Some(now));
            tracing::warn!(%error, "the consumer reports an error and goes on");
        }
        Ok(())
    }
}

fn header<'a>(message: &'a BorrowedMessage, name: &str) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    headers.iter().find(|header| header.key.eq_ignore_ascii_case(name)).and_then(|header| header.value)
}

/// What a message asks for.
pub(crate) fn decoded(decoder: &Decoder, message: &BorrowedMessage) -> Result<Decoded, Rejection> {
    let header = |name: &str| header(message, name);
    decoder.decode(&codec::Record {
        key: message.key(),
        payload: message.payload(),
        content_type: header("content-type"),
        collection: header("collection"),
        captured_at: header("captured_at"),
        place: Place { partition: Partition(message.partition()), offset: Offset(message.offset()) },
    })
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
