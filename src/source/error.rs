//! Why there is no input, and what to do about it.

use rdkafka::error::KafkaError;

use crate::kafka::obstacle::Obstacle;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("kafka: {0}; check kafka.* in the configuration")]
    Client(KafkaError),
    #[error("no broker answers at {brokers}: {source}; start it, or correct kafka.brokers")]
    Unreachable { brokers: String, source: KafkaError },
    /// Its text says what to do.
    #[error("no broker answers at {brokers}: {obstacle}")]
    Obstacle { brokers: String, obstacle: Obstacle },
    #[error("topic {topic:?} does not exist; create it (`scripts/kafka topics` does), or correct kafka.*_topic")]
    NoTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}; correct kafka.partitions")]
    NoPartition { topic: String, partition: i32 },
    #[error(
        "topic {topic:?} partition {partition} ends at {end}, and the state has read up to {position}: the topic was made \
         anew, or the state is of another cluster; correct kafka.brokers, or have the state read it from its beginning \
         with `facetd run --new-incarnation`"
    )]
    Shorter { topic: String, partition: i32, end: i64, position: i64 },
    #[error(
        "topic {topic:?} partition {partition} has another record at offset {offset} than the one this state has read there: \
         the topic was made anew, or the state is of another cluster; correct kafka.brokers, or have the state read it from \
         its beginning with `facetd run --new-incarnation`"
    )]
    OtherRecord { topic: String, partition: i32, offset: i64 },
    #[error(
        "topic {topic:?} has a new partition {partition}, which kafka.partitions = \"all\" means too: start again, and it is \
         read from its beginning"
    )]
    NewPartition { topic: String, partition: i32 },
    #[error("the consumer failed for good: {0}")]
    Fatal(String),
}
