//! A daemon with a small model, its topics on a real Kafka, and what feeds them.

use std::ops::Range;
use std::time::Duration;

use facetd::codec::{Message, json};

use super::broker::{RealKafka, Topics};
use super::daemon::{Installation, Running, Settings};
use super::kafka_client::{Feed, group_lag};
use super::{project, wait_for};

/// Until something that has to happen has happened.
pub const LIMIT: Duration = Duration::from_secs(120);
pub const DIMENSION: usize = 16;

pub struct Scene {
    pub topics: Topics,
    pub installation: Installation,
    pub feed: Feed,
}

impl Scene {
    pub fn new(kafka: &RealKafka) -> Scene {
        let topics = kafka.topics(None);
        Scene { installation: installation(&topics), feed: Feed::connect(&topics), topics }
    }

    pub fn send(&self, collection: &str, faces: Range<usize>) {
        faces.for_each(|face| self.feed.send(&id(face), Some(&payload(face)), collection));
        self.feed.flush();
    }

    pub fn erase(&self, collection: &str, key: &str) {
        self.feed.send(key, None, collection);
        self.feed.flush();
    }

    /// Waits until something is told.
    pub fn wait_published(&self, daemon: &Running) {
        let events = format!("facetd_publish_records_total{{topic=\"{}\"}}", self.topics.events());
        wait_for("something to be published", LIMIT, || (daemon.metric(&events) > 0.0).then_some(()));
    }

    /// Waits until all that was sent is applied and told.
    pub fn wait(&self, daemon: &Running) {
        let read = || (group_lag(&self.topics.brokers, &self.topics.group(), &self.topics.input()) == 0).then_some(());
        wait_for("every record to be applied", LIMIT, read);
        daemon.wait_settled(LIMIT);
    }
}

/// One of its own on the same topics.
pub fn installation(topics: &Topics) -> Installation {
    Installation::new(&Settings { topics, model: &project().join("tests/fixtures/model"), more: "" })
}

pub fn id(face: usize) -> String {
    format!("{face:08}")
}

/// Four faces a person, each near the others.
pub fn payload(face: usize) -> Vec<u8> {
    let value =
        |place: usize| if place == (face / 4) % DIMENSION { 1.0 } else { ((face * 7 + place) % 5) as f32 * 0.02 };
    json::encode(&Message { embedding: (0..DIMENSION).map(value).collect(), ..Message::default() })
}
