//! Dead letters' records into the input topic once more, when the cause of their rejection is gone.
//!
//! A dead letter names its record and has a hash of it, so the record is fetched from the input topic, if that
//! still has it, and sent again as it was (key, payload, headers, partition; the brokers' time and offset are new).
//! In three steps: the dead-letter topic is read to its end ([`letters`]); the input from the first wanted
//! record to its end, which tells what has come since and must not be undone ([`weighing`]); and what is worth
//! it is read again and sent, in its order, by an idempotent producer, once it is known what came during the second step.
//!
//! Nothing is remembered: the input topic itself shows what was sent before. A run that dies, or is stopped,
//! is run again. Two at the same time do not see each other's; what they send twice the daemon ignores.
//!
//! Cost: the dead-letter topic and each partition from its first wanted record are read whole; memory for the letters
//! (about 200 bytes each) and for what is on its way.

mod letters;
mod weighing;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::TopicPartitionList;
use sha2::{Digest, Sha256};

pub use self::letters::{Wanted, may_pass};

use self::letters::{Letters, Written};
use self::weighing::{Chosen, Closer, ContentHash, Seen, Verdict, Weighing};
use crate::codec::{Decoded, Decoder};
use crate::config::Kafka;
use crate::face::{Offset, Partition, Place, Timestamp};
use crate::kafka::{CountingProducer, ProducerError, ToTheEnd, client_config, create, with_options};
use crate::progress::Progress;
use crate::rejection::Reason;
use crate::source::kafka::decoded;
use crate::source::topics::{BROKER_TIMEOUT, check_topics};
use crate::source::{Record, SourceError};

/// How long one wait for records lasts before somebody is asked whether to go on.
const POLL: Duration = Duration::from_millis(100);
/// Records between two that are wanted, up to which reading over them is cheaper than seeking.
const READ_OVER: i64 = 1_000;
/// The record was in this topic before, so its size is the brokers' affair. The most that librdkafka takes.
const ANY_SIZE: &str = "1000000000";

/// Why dead letters cannot be redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("kafka: {0}; check kafka.* in the configuration")]
    Client(#[from] KafkaError),
    #[error("topic {topic:?} partition {partition} cannot be read: {source}")]
    Unreadable { topic: String, partition: i32, source: KafkaError },
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error(
        "the brokers did not take {failed} of {sent} records within 30 s; run it again: what they took is not sent again"
    )]
    NotDelivered { failed: usize, sent: usize },
}

/// What became of the records of a reason's letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Sent, or to be sent.
    pub sent: u64,
    /// Not sent, because a later record of the same face counts.
    pub later: u64,
    /// Kafka does not have them any more.
    pub gone: u64,
    /// Another record stands in their place.
    pub other: u64,
}

/// A partition, and up to where it was looked at.
#[derive(Debug)]
struct Weighed {
    weighing: Weighing,
    end: Offset,
}

/// What was found out about the dead letters.
#[derive(Debug, Default)]
pub struct Found {
    pub counts: BTreeMap<Reason, Counts>,
    /// Where another record stands than the letter's.
    pub others: Vec<Place>,
    /// Letters that are not wanted, by reason.
    pub left: BTreeMap<Reason, u64>,
    /// Letters of other topics, or of partitions that are another daemon's.
    pub elsewhere: u64,
    /// Records of the dead-letter topic that this version cannot read.
    pub unreadable: u64,
    weighed: BTreeMap<Partition, Weighed>,
}

impl Found {
    pub fn to_send(&self) -> u64 {
        self.counts.values().map(|counts| counts.sent).sum()
    }

    /// A chosen record that is not sent after all.
    fn take_back(&mut self, reason: Reason) -> &mut Counts {
        let counts = self.counts.entry(reason).or_default();
        counts.sent -= 1;
        counts
    }
}

/// Who follows a step, and may end it.
pub struct Watcher<'a> {
    pub progress: &'a mut dyn FnMut(Progress),
    pub stop: &'a dyn Fn() -> bool,
}

/// The topics of one daemon.
pub struct Redrive {
    config: Kafka,
    decoder: Decoder,
    consumer: BaseConsumer<ToTheEnd>,
    partitions: Vec<Partition>,
}

impl Redrive {
    /// `decoder` is the daemon's own: it tells which collection a record is for.
    pub fn connect(config: &Kafka, decoder: Decoder) -> Result<Redrive, RedriveError> {
        let partitions = check_topics(config)?;
        let mut client = client_config(config);
        // Nothing is committed for it; librdkafka wants a name.
        client.set("group.id", format!("{}.redrive", config.group));
        client.set("enable.auto.commit", "false");
        client.set("enable.partition.eof", "true");
        client.set("auto.offset.reset", "earliest");
        client.set("isolation.level", "read_committed");
        let consumer = create(&with_options(client, config), ToTheEnd::default())?;
        Ok(Redrive { config: config.clone(), decoder, consumer, partitions })
    }

    /// Finds what is to be sent. None: stopped.
    pub fn find(&self, wanted: &Wanted, watcher: &mut Watcher) -> Result<Option<Found>, RedriveError> {
        let Some(letters) = self.letters(wanted, watcher.stop)? else { return Ok(None) };
        let Letters { of, left, elsewhere, unreadable } = letters;
        let mut found = Found { left, elsewhere, unreadable, ..Found::default() };
        let mut spans = BTreeMap::new();
        for (partition, letters) in of {
            if let Some((&first, _)) = letters.iter().find(|(_, letter)| letter.taken) {
                let kept = self.kept(&self.config.input_topic, partition)?;
                spans.insert(partition, (kept.start.max(first)..kept.end, letters));
            }
        }
        let total = spans.values().map(|(span, _)| (span.end.0 - span.start.0).max(0) as u64).sum();
        let mut done_before = 0;
        for (partition, (span, letters)) in spans {
            let mut weighing = Weighing::new(letters);
            let whole = self.weigh(&mut weighing, partition, span.clone(), watcher.stop, |offset| {
                let done = done_before + (offset.0 - span.start.0) as u64;
                (watcher.progress)(Progress { done, of: total });
            })?;
            if !whole {
                return Ok(None);
            }
            done_before += (span.end.0 - span.start.0).max(0) as u64;
            for (offset, reason, verdict) in weighing.verdicts() {
                let counts = found.counts.entry(reason).or_default();
                match verdict {
                    Verdict::Send => counts.sent += 1,
                    Verdict::Later => counts.later += 1,
                    Verdict::Gone => counts.gone += 1,
                    Verdict::Other => {
                        counts.other += 1;
                        found.others.push(Place { partition, offset });
                    }
                }
            }
            found.weighed.insert(partition, Weighed { weighing, end: span.end });
        }
        Ok(Some(found))
    }

    /// Looks at a span. False: stopped.
    fn weigh(
        &self,
        weighing: &mut Weighing,
        partition: Partition,
        span: Range<Offset>,
        stop: &dyn Fn() -> bool,
        mut looked_at: impl FnMut(Offset),
    ) -> Result<bool, RedriveError> {
        self.read(&self.config.input_topic, partition, span, stop, |message| {
            let offset = Offset(message.offset());
            let record = Record::of(message);
            let closer = || self.closer(message, record.payload_sha256);
            weighing.look(Seen { offset, key: record.key.as_deref().unwrap_or_default(), closer: &closer });
            looked_at(offset);
            Ok(true)
        })
    }

    /// Sends what was found, and waits until the brokers have it. False: stopped, with what was sent until then in
    /// `found`.
    pub fn send(&self, found: &mut Found, watcher: &mut Watcher) -> Result<bool, RedriveError> {
        let adjust = |mut client: rdkafka::ClientConfig| {
            client.set("message.max.bytes", ANY_SIZE);
            with_options(client, &self.config)
        };
        let producer = CountingProducer::connect(client_config(&self.config), adjust)?;
        let mut of = found.to_send();
        let (mut sent, mut stopped) = (0, false);
        for (partition, Weighed { mut weighing, end }) in std::mem::take(&mut found.weighed) {
            let mut chosen = weighing.chosen();
            if !stopped && !chosen.is_empty() {
                // What has come since it was looked, which may be long ago by now, must not be undone either.
                let now = self.kept(&self.config.input_topic, partition)?.end;
                stopped = !self.weigh(&mut weighing, partition, end..now, watcher.stop, |_| {})?;
                let still = weighing.chosen();
                chosen.retain(|offset, Chosen { reason, .. }| {
                    let stays = still.contains_key(offset);
                    if !stays {
                        found.take_back(*reason).later += 1;
                        of -= 1;
                    }
                    stays
                });
            }
            for span in spans(chosen.keys().copied()) {
                if stopped {
                    break;
                }
                let whole = self.read(&self.config.input_topic, partition, span, watcher.stop, |message| {
                    let offset = Offset(message.offset());
                    let Some(Chosen { reason, content }) = chosen.get(&offset).copied() else { return Ok(true) };
                    // The topic may have been made anew meanwhile.
                    if content_of(message, Record::of(message).payload_sha256) != content {
                        return Ok(true);
                    }
                    if !producer.send(again(&self.config.input_topic, message), watcher.stop)? {
                        return Ok(false);
                    }
                    chosen.remove(&offset);
                    tracing::debug!(place = %Place { partition, offset }, %reason, "a record is sent again");
                    sent += 1;
                    producer.hear();
                    (watcher.progress)(Progress { done: producer.delivered() as u64, of });
                    Ok(true)
                })?;
                stopped = !whole;
            }
            for (_, Chosen { reason, .. }) in chosen {
                let counts = found.take_back(reason);
                if !stopped {
                    counts.gone += 1;
                }
            }
        }
        // Also when stopped: what is on its way arrives, or it is not known how much was sent.
        while producer.delivered() + producer.failed() < sent {
            producer.wait()?;
            (watcher.progress)(Progress { done: producer.delivered() as u64, of });
        }
        match producer.failed() {
            0 => Ok(!stopped),
            failed => Err(RedriveError::NotDelivered { failed, sent }),
        }
    }

    fn letters(&self, wanted: &Wanted, stop: &dyn Fn() -> bool) -> Result<Option<Letters>, RedriveError> {
        let topic = &self.config.dead_letters_topic;
        let metadata = self.consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let mut letters = Letters::of(&self.partitions);
        for partition in partitions.map(|partition| Partition(partition.id())) {
            let kept = self.kept(topic, partition)?;
            let whole = self.read(topic, partition, kept, stop, |message| {
                letters.add(
                    &self.config.input_topic,
                    wanted,
                    Written {
                        key: message.key().unwrap_or_default(),
                        value: message.payload().unwrap_or_default(),
                        at: Timestamp(message.timestamp().to_millis().unwrap_or_default()),
                    },
                );
                Ok(true)
            })?;
            if !whole {
                return Ok(None);
            }
        }
        Ok(Some(letters))
    }

    /// The offsets that a partition has records for.
    fn kept(&self, topic: &str, partition: Partition) -> Result<Range<Offset>, RedriveError> {
        let (low, high) = self.consumer.fetch_watermarks(topic, partition.0, BROKER_TIMEOUT)?;
        Ok(Offset(low)..Offset(high))
    }

    fn closer(&self, message: &BorrowedMessage, payload_sha256: [u8; 32]) -> Closer {
        let collection = match decoded(&self.decoder, message) {
            Ok(Decoded::Face { collection, .. } | Decoded::Erase { collection, .. }) => Some(collection),
            Err(_) => None,
        };
        Closer { payload_sha256, content: content_of(message, payload_sha256), collection }
    }

    /// Reads the committed records of a span, those that are there. False: stopped, or `take` wants no more.
    fn read(
        &self,
        topic: &str,
        partition: Partition,
        span: Range<Offset>,
        stop: &dyn Fn() -> bool,
        mut take: impl FnMut(&BorrowedMessage) -> Result<bool, RedriveError>,
    ) -> Result<bool, RedriveError> {
        if span.is_empty() {
            return Ok(true);
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition.0, rdkafka::Offset::Offset(span.start.0))?;
        self.consumer.assign(&assignment)?;
        let mut last_news = Instant::now();
        let whole = loop {
            if stop() {
                break false;
            }
            let error = match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    last_news = Instant::now();
                    let offset = Offset(message.offset());
                    if offset < span.end && !take(&message)? {
                        break false;
                    }
                    if offset.next() >= span.end {
                        break true;
                    }
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break true,
                // What passes by itself is tried again by librdkafka.
                Some(Err(error)) => error,
                None => KafkaError::NoMessageReceived,
            };
            if last_news.elapsed() > BROKER_TIMEOUT {
                return Err(RedriveError::Unreadable {
                    topic: topic.to_string(),
                    partition: partition.0,
                    source: error,
                });
            }
        };
        self.consumer.unassign()?;
        Ok(whole)
    }
}

/// What is read at once to have the offsets, which are in order: over small gaps it is read, over large ones not.
fn spans(offsets: impl Iterator<Item = Offset>) -> Vec<Range<Offset>> {
    let mut spans: Vec<Range<Offset>> = Vec::new();
    for offset in offsets {
        match spans.last_mut() {
            Some(span) if offset.0 - span.end.0 <= READ_OVER => span.end = offset.next(),
            _ => spans.push(offset..offset.next()),
        }
    }
    spans
}

/// A record as it was.
fn again<'a>(topic: &'a str, message: &'a BorrowedMessage) -> BaseRecord<'a, [u8], [u8]> {
    let mut record = BaseRecord::to(topic).partition(message.partition());
    if let Some(key) = message.key() {
        record = record.key(key);
    }
    if let Some(payload) = message.payload() {
        record = record.payload(payload);
    }
    match message.headers() {
        Some(headers) => record.headers(headers.detach()),
        None => record,
    }
}

fn content_of(message: &BorrowedMessage, payload_sha256: [u8; 32]) -> ContentHash {
    let mut sha = Sha256::new();
    let mut field = |bytes: Option<&[u8]>| {
        sha.update([u8::from(bytes.is_some())]);
        sha.update((bytes.map_or(0, <[u8]>::len) as u64).to_le_bytes());
        sha.update(bytes.unwrap_or_default());
    };
    // A null payload and an empty one have the same hash.
    field(message.payload().map(|_| &payload_sha256[..]));
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        field(Some(header.key.as_bytes()));
        field(header.value);
    }
    ContentHash(sha.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gaps_are_read_over_and_large_ones_are_not() {
        let offsets = [3, 4, 1_004, 3_000].map(Offset);
        assert_eq!(spans(offsets.into_iter()), [Offset(3)..Offset(1_005), Offset(3_000)..Offset(3_001)]);
    }
}
