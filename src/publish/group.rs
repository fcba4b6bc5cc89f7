//! What Kafka keeps for this daemon beside the entries themselves: the group's offsets with a [`Mark`]
//! in their metadata, and, where those are lost, the last records of the output topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::mark::{self, Mark};
use crate::config::Kafka;
use crate::face::{Offset, OutputPartition, Partition, Position};
use crate::kafka::{ToTheEnd, client_config, create, with_options};

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(200);
/// Records read from the end of a partition at first; without a mark among them, [`WIDER`] times as many.
const LAST_RECORDS: i64 = 4096;
const WIDER: i64 = 16;

/// The consumer group, as a place to keep offsets in: nobody subscribes.
pub struct Group {
    consumer: BaseConsumer<ToTheEnd>,
    name: String,
    input: String,
    outputs: Vec<String>,
    /// The partitions of the input that are ours.
    partitions: Vec<Partition>,
}

/// A partition's first offset, and the one its next record gets.
#[derive(Debug, Clone, Copy)]
pub struct Watermarks {
    pub low: i64,
    pub high: i64,
}

/// What the group's offsets say.
pub struct Committed {
    /// Metadata of another program is none.
    pub marks: Vec<Mark>,
    pub positions: BTreeMap<Partition, Position>,
}

impl Group {
    /// `isolation` is librdkafka's isolation.level: whether to wait for transactions that are still open.
    pub fn connect(config: &Kafka, partitions: &[Partition], isolation: &str) -> Result<Group, KafkaError> {
        let mut client = client_config(config);
        client.set("group.id", &config.group);
        client.set("enable.auto.commit", "false");
        client.set("enable.partition.eof", "true");
        client.set("auto.offset.reset", "earliest");
        client.set("isolation.level", isolation);
        let topics =
            [&config.events_topic, &config.face_state_topic, &config.cluster_state_topic, &config.dead_letters_topic];
        Ok(Group {
            consumer: create(&with_options(client, config), ToTheEnd::default())?,
            name: config.group.clone(),
            input: config.input_topic.clone(),
            outputs: topics.into_iter().cloned().collect(),
            partitions: partitions.to_vec(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn committed(&self) -> Result<Committed, KafkaError> {
        let mut asked = TopicPartitionList::new();
        for partition in &self.partitions {
            asked.add_partition(&self.input, partition.0);
        }
        // A broker that has just started does not know yet which groups are its own.
        let committed = until_answered(|left| self.consumer.committed_offsets(asked.clone(), left))?;
        let elements = committed.elements();
        let marks = elements.iter().filter_map(|element| element.metadata().parse().ok()).collect();
        let positions = elements.iter().filter_map(|element| match element.offset() {
            rdkafka::Offset::Offset(next) => {
                Some((Partition(element.partition()), Position { next: Offset(next), last: None }))
            }
            _ => None,
        });
        Ok(Committed { marks, positions: positions.collect() })
    }

    /// What a producer sends along so that Kafka knows whose offsets a transaction writes.
    pub fn metadata(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a consumer with a group.id has it")
    }

    /// Offsets with a mark, as a transaction takes them. A partition that nothing was read from carries it too.
    pub fn offsets(
        &self,
        positions: &BTreeMap<Partition, Position>,
        mark: &Mark,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in &self.partitions {
            let next = positions.get(partition).map_or(Offset(0), |position| position.next);
            list.add_partition_offset(&self.input, partition.0, rdkafka::Offset::Offset(next.0))?;
            if let Some(mut element) = list.find_partition(&self.input, partition.0) {
                element.set_metadata(mark.to_string());
            }
        }
        Ok(list)
    }

    /// Commits offsets outside of a transaction.
    pub fn commit(&self, offsets: &TopicPartitionList) -> Result<(), KafkaError> {
        self.consumer.commit(offsets, CommitMode::Sync)
    }

    pub fn watermarks(&self, of: &OutputPartition) -> Result<Watermarks, KafkaError> {
        let (low, high) = self.consumer.fetch_watermarks(&of.topic, of.partition, ANSWER)?;
        Ok(Watermarks { low, high })
    }

    /// The highest mark of `state_uuid` in the output topics. Read backwards from each partition's end until
    /// one is found: a transaction is whole, and the later has the higher.
    pub fn last_mark_in_topics(&self, state_uuid: &str) -> Result<Option<Mark>, KafkaError> {
        let mut marks = Vec::new();
        for of in self.output_partitions()? {
            marks.extend(self.last_mark_in(&of, state_uuid)?);
        }
        Ok(marks.into_iter().max_by_key(|mark| mark.sequence))
    }

    /// Every partition of the output topics.
    pub fn output_partitions(&self) -> Result<Vec<OutputPartition>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, ANSWER)?;
        let outputs = metadata.topics().iter().filter(|topic| self.outputs.iter().any(|name| name == topic.name()));
        let partitions = outputs.flat_map(|topic| {
            let of = |partition: i32| OutputPartition { topic: topic.name().to_string(), partition };
            topic.partitions().iter().map(move |partition| of(partition.id()))
        });
        Ok(partitions.collect())
    }

    fn last_mark_in(&self, of: &OutputPartition, state_uuid: &str) -> Result<Option<Mark>, KafkaError> {
        let Watermarks { low, high } = self.watermarks(of)?;
        let mut length = LAST_RECORDS;
        loop {
            let start = (high - length).max(low);
            let mut highest: Option<Mark> = None;
            self.read(of, start, |record| {
                if let Some(mark) = mark_of(record)
                    && mark.state_uuid == state_uuid
                    && highest.as_ref().is_none_or(|highest| highest.sequence <= mark.sequence)
                {
                    highest = Some(mark);
                }
            })?;
            match highest {
                Some(mark) => return Ok(Some(mark)),
                None if start == low => return Ok(None),
                None => length = length.saturating_mul(WIDER),
            }
        }
    }

    /// Reads a partition of an output topic from `start` to its end as it is now: what is committed.
    pub fn read(
        &self,
        of: &OutputPartition,
        start: i64,
        mut take: impl FnMut(&rdkafka::message::BorrowedMessage),
    ) -> Result<(), KafkaError> {
        let Watermarks { low, high } = self.watermarks(of)?;
        if low == high {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&of.topic, of.partition, rdkafka::Offset::Offset(start))?;
        self.consumer.assign(&assignment)?;
        let mut last_news = Instant::now();
        let outcome = loop {
            match self.consumer.poll(ANSWER) {
                Some(Ok(record)) => {
                    last_news = Instant::now();
                    take(&record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(()),
                // What passes by itself is tried again by librdkafka.
                Some(Err(error)) if last_news.elapsed() > ANSWER => break Err(error),
                Some(Err(_)) => {}
                None => break Err(KafkaError::NoMessageReceived),
            }
        };
        self.consumer.unassign()?;
        outcome
    }
}

/// Asks again while the brokers are finding themselves, for as long as an answer may take in all.
fn until_answered<T>(ask: impl Fn(Duration) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let asked = Instant::now();
    loop {
        match ask(ANSWER.saturating_sub(asked.elapsed())) {
            Err(error) if asked.elapsed() + PAUSE < ANSWER => {
                tracing::debug!(%error, "the brokers have no answer yet");
                std::thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}

fn mark_of(record: &rdkafka::message::BorrowedMessage) -> Option<Mark> {
    let header = record.headers()?.iter().find(|header| header.key == mark::HEADER)?;
    std::str::from_utf8(header.value?).ok()?.parse().ok()
}
