//! The input topic as it stands in Kafka, held against what the state has read of it: a topic that was
//! deleted and made anew has other records under the same offsets, and reading on would skip as
//! many as were read of the old one.
//!
//! Cost at a start: one request a partition, and the last record read of each read once more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::{Record, SourceError};
use crate::config::{Kafka, Partitions};
use crate::face::{Offset, Partition, Position, RecordHash};
use crate::kafka::{NoAnswer, ToTheEnd, client_config, create, topics, with_options};

/// How long a broker may take to answer.
pub const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// None: at its first record.
    pub offset: Option<Offset>,
    /// Records that Kafka deleted before they were read.
    pub lost: u64,
}

/// Asks the brokers for every topic and answers which partitions of the input are ours.
pub fn check_topics(config: &Kafka) -> Result<Vec<Partition>, SourceError> {
    let client = with_options(client_config(config), config);
    let metadata = topics(&client, BROKER_TIMEOUT).map_err(|error| match error {
        NoAnswer::Client(error) => SourceError::Client(error),
        NoAnswer::Obstacle(obstacle) => SourceError::Obstacle { brokers: config.brokers.clone(), obstacle },
        NoAnswer::Silence(source) => SourceError::Unreachable { brokers: config.brokers.clone(), source },
    })?;
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

/// Where reading each partition begins, for one that is not the topic the state has read the reason.
pub type Starts = BTreeMap<Partition, Result<Start, SourceError>>;

/// Holds `positions` against the topic. The error is one of asking.
pub fn starts(
    config: &Kafka,
    partitions: &[Partition],
    positions: &BTreeMap<Partition, Position>,
) -> Result<Starts, SourceError> {
    let mut client = client_config(config);
    // Nothing is committed for it; librdkafka wants a name.
    client.set("group.id", &config.group);
    client.set("enable.auto.commit", "false");
    client.set("enable.partition.eof", "true");
    client.set("auto.offset.reset", "error");
    let client = with_options(client, config);
    let consumer: BaseConsumer<ToTheEnd> = create(&client, ToTheEnd::default()).map_err(SourceError::Client)?;
    let mut starts = Starts::new();
    let mut to_read: BTreeMap<Partition, Reread> = BTreeMap::new();
    for &partition in partitions {
        let Some(position) = positions.get(&partition) else {
            starts.insert(partition, Ok(Start { offset: None, lost: 0 }));
            continue;
        };
        let next = position.next;
        let Watermarks { low, high } = watermarks(&consumer, config, partition)?;
        if high < next {
            let (topic, partition_number) = (config.input_topic.clone(), partition.0);
            let error = SourceError::Shorter { topic, partition: partition_number, end: high.0, position: next.0 };
            starts.insert(partition, Err(error));
            continue;
        }
        let lost = (low.0 - next.0).max(0) as u64;
        starts.insert(partition, Ok(Start { offset: Some(next.max(low)), lost }));
        if let Some(hash) = position.last
            && low < next
        {
            to_read.insert(partition, Reread { offset: Offset(next.0 - 1), hash });
        }
    }
    for partition in others(&consumer, config, to_read)? {
        let offset = positions[&partition].next.0 - 1;
        let error = SourceError::OtherRecord { topic: config.input_topic.clone(), partition: partition.0, offset };
        starts.insert(partition, Err(error));
    }
    Ok(starts)
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy)]
struct Watermarks {
    low: Offset,
    high: Offset,
}

fn watermarks(
    consumer: &BaseConsumer<ToTheEnd>,
    config: &Kafka,
    partition: Partition,
) -> Result<Watermarks, SourceError> {
    let unreachable = |source| SourceError::Unreachable { brokers: config.brokers.clone(), source };
    let (low, high) =
        consumer.fetch_watermarks(&config.input_topic, partition.0, BROKER_TIMEOUT).map_err(unreachable)?;
    Ok(Watermarks { low: Offset(low), high: Offset(high) })
}

/// A record that was the last one read.
struct Reread {
    offset: Offset,
    hash: RecordHash,
}

/// The partitions in which another record stands where the last one read did. One that is gone,
/// by retention or compaction, tells nothing.
fn others(
    consumer: &BaseConsumer<ToTheEnd>,
    config: &Kafka,
    mut to_read: BTreeMap<Partition, Reread>,
) -> Result<Vec<Partition>, SourceError> {
    let mut assignment = TopicPartitionList::new();
    for (partition, reread) in &to_read {
        let offset = rdkafka::Offset::Offset(reread.offset.0);
        assignment.add_partition_offset(&config.input_topic, partition.0, offset).map_err(SourceError::Client)?;
    }
    consumer.assign(&assignment).map_err(SourceError::Client)?;
    let mut others = Vec::new();
    let mut news = Instant::now();
    while !to_read.is_empty() {
        match consumer.poll(BROKER_TIMEOUT) {
            Some(Ok(message)) => {
                let partition = Partition(message.partition());
                let Some(reread) = to_read.remove(&partition) else { continue };
                if message.offset() == reread.offset.0 && Record::of(&message).hash() != reread.hash {
                    others.push(partition);
                }
                news = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(to_read.remove(&Partition(partition))),
            Some(Err(source)) if news.elapsed() > BROKER_TIMEOUT => {
                return Err(SourceError::Unreachable { brokers: config.brokers.clone(), source });
            }
            Some(Err(_)) => {}
            None => {
                let (brokers, source) = (config.brokers.clone(), KafkaError::NoMessageReceived);
                return Err(SourceError::Unreachable { brokers, source });
            }
        }
    }
    Ok(others)
}
