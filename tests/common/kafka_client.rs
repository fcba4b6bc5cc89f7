//! The other side of the topics: a producer that can send anything, and kcat as an independent reader.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;

use super::output_of;

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
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let ends = partitions
        .iter()
        .map(|partition| consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10)).unwrap().1);
    ends.sum()
}
