//! The other side of the topics: a producer that can send anything, and kcat as an independent reader.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde::Deserialize;

use super::broker::Topics;
use super::{output_of, wait_for};

/// How long a broker may take to answer, also on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// Sends records of any kind.
pub struct Client {
    producer: BaseProducer,
}

impl Client {
    pub fn connect(brokers: &str) -> Client {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("message.max.bytes", "20000000")
            .create()
            .unwrap();
        Client { producer }
    }

    /// Sends a record to a partition and waits until the broker has it.
    pub fn send(&self, topic: &str, key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[(&str, &str)]) {
        self.send_soon(topic, key, payload, headers);
        self.flush();
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// Sends a record to a partition, at the next [`Client::flush`] at the latest.
    pub fn send_soon(&self, topic: &str, key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[(&str, &str)]) {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_bytes()) })
        });
        let mut record: BaseRecord<[u8], [u8]> = BaseRecord::to(topic).partition(0).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }
}

/// Feeds faces into an input topic, each face to the partition of its key, each once and in order
/// whatever happens to the broker.
pub struct Feed {
    producer: BaseProducer,
    topic: String,
}

impl Feed {
    pub fn connect(topics: &Topics) -> Feed {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &topics.brokers)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .create()
            .unwrap();
        Feed { producer, topic: topics.input() }
    }

    pub fn send(&self, key: &str, payload: Option<&[u8]>, collection: &str) {
        let headers = OwnedHeaders::new().insert(Header { key: "collection", value: Some(collection.as_bytes()) });
        let mut record: BaseRecord<str, [u8]> = BaseRecord::to(&self.topic).key(key).headers(headers);
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        while let Err((error, refused)) = self.producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
            record = refused;
            self.producer.poll(Duration::from_millis(50));
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).unwrap();
    }
}

/// Does to topics and groups what operators and retention do.
pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
}

impl Admin {
    pub fn connect(brokers: &str) -> Admin {
        let client = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        Admin { client, brokers: brokers.to_string() }
    }

    /// Deletes a topic and makes one of the same name.
    pub fn make_anew(&self, topic: &str, partitions: i32) {
        let options = AdminOptions::new();
        let deleted = block_on(self.client.delete_topics(&[topic], &options)).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        // Deleting takes a moment, in which the name is taken.
        wait_for(&format!("{topic} to be made"), Duration::from_secs(60), || {
            let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            let made = block_on(self.client.create_topics([&new], &options)).unwrap();
            made.iter().all(Result::is_ok).then_some(())
        });
        wait_for(&format!("{topic} to be known"), Duration::from_secs(60), || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
            consumer.fetch_watermarks(topic, partitions - 1, ANSWER).ok()
        });
    }

    /// Gives a topic more partitions, so many in all.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let made = block_on(self.client.create_partitions([&new], &AdminOptions::new())).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        wait_for(&format!("{topic} to have them"), Duration::from_secs(60), || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
            consumer.fetch_watermarks(topic, partitions as i32 - 1, ANSWER).ok()
        });
    }

    /// Deletes every record there is, as retention would.
    pub fn delete_records(&self, topic: &str) {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).unwrap();
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            all.add_partition_offset(topic, partition.id(), rdkafka::Offset::End).unwrap();
        }
        block_on(self.client.delete_records(&all, &AdminOptions::new())).unwrap();
    }

    /// Forgets a group's offsets.
    pub fn delete_group(&self, group: &str) {
        let deleted = block_on(self.client.delete_groups(&[group], &AdminOptions::new())).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A record as kcat prints it with -J.
#[derive(Debug, Deserialize)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    #[serde(default)]
    pub headers: Vec<String>,
    pub key: Option<String>,
    pub payload: Option<String>,
}

impl Read {
    pub fn header(&self, name: &str) -> Option<&str> {
        let place = self.headers.iter().step_by(2).position(|header| header == name)?;
        self.headers.get(place * 2 + 1).map(String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.payload.as_deref().unwrap()).unwrap()
    }
}

/// Everything in a topic now, in order of partition and offset.
pub fn read_topic(brokers: &str, topic: &str) -> Vec<Read> {
    let kcat =
        output_of(Command::new("kcat").args(["-C", "-q", "-e", "-J", "-o", "beginning", "-b", brokers, "-t", topic]));
    let mut records: Vec<Read> = kcat.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// The last value of every key of a compacted topic; keys whose last record is a tombstone are left out.
pub fn latest_by_key(records: Vec<Read>) -> HashMap<String, serde_json::Value> {
    let mut latest = HashMap::new();
    for record in records {
        let key = record.key.clone().unwrap();
        match record.payload {
            Some(_) => drop(latest.insert(key, record.json())),
            None => drop(latest.remove(&key)),
        }
    }
    latest
}

/// How many records were ever written to a topic.
pub fn end_of_topic(brokers: &str, topic: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let ends = partitions.iter().map(|partition| consumer.fetch_watermarks(topic, partition.id(), ANSWER).unwrap().1);
    ends.sum()
}

/// Whether records of a transaction that is still open are in a topic: a reader of committed records has to wait there.
pub fn has_open_records(brokers: &str, topic: &str) -> bool {
    let end = |isolation: &str| -> i64 {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("isolation.level", isolation).create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).unwrap();
        let partitions = metadata.topics()[0].partitions();
        partitions.iter().map(|partition| consumer.fetch_watermarks(topic, partition.id(), ANSWER).unwrap().1).sum()
    };
    end("read_committed") < end("read_uncommitted")
}

/// How many records of a topic a group has not committed yet. A partition without an offset counts whole.
pub fn group_lag(brokers: &str, group: &str, topic: &str) -> i64 {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        asked.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(asked, ANSWER).unwrap();
    let lags = committed.elements().into_iter().map(|element| {
        let end = consumer.fetch_watermarks(topic, element.partition(), ANSWER).unwrap().1;
        end - element.offset().to_raw().unwrap_or(0).max(0)
    });
    lags.sum()
}
