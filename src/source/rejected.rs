//! The one happening of a record that cannot be applied: it is logged, counted and turned into a
//! dead letter in the same place, so that the three never drift apart.

use std::time::Instant;

use rdkafka::message::{BorrowedMessage, Message};
use sha2::{Digest, Sha256};

use crate::face::{MAX_FACE_ID_BYTES, Offset, Partition, Place, RecordHash, Timestamp};
use crate::metrics::Metrics;
use crate::rejection::{DeadLetter, Reason, Rejection};
use crate::seldom::Seldom;
use crate::traces::context::Followed;

/// What is remembered of a record once its payload is decoded: enough to find and recognise it.
#[derive(Debug, Clone)]
pub struct Record {
    pub place: Place,
    pub key: Option<Box<[u8]>>,
    pub payload_bytes: u64,
    pub payload_sha256: [u8; 32],
    /// When it came into the topic, by its producer's clock or the broker's; none where Kafka has none.
    pub timestamp: Option<Timestamp>,
    /// The trace it is part of, where traces are made and that one is.
    pub followed: Option<Box<Followed>>,
}

impl Record {
    /// Of a message as it came.
    pub fn of(message: &BorrowedMessage) -> Record {
        let payload = message.payload();
        Record {
            place: Place { partition: Partition(message.partition()), offset: Offset(message.offset()) },
            // Longer than any face_id, it would only make a dead letter that no broker takes.
            key: message.key().map(|key| key[..key.len().min(MAX_FACE_ID_BYTES)].into()),
            payload_bytes: payload.map_or(0, <[u8]>::len) as u64,
            payload_sha256: Sha256::digest(payload.unwrap_or_default()).into(),
            timestamp: message.timestamp().to_millis().map(Timestamp),
            followed: None,
        }
    }

    /// Tells it from every other. Records without a key and with an empty one are different ones.
    pub fn hash(&self) -> RecordHash {
        let mut sha = Sha256::new();
        if let Some(key) = &self.key {
            sha.update((key.len() as u64).to_le_bytes());
            sha.update(key);
        }
        sha.update(self.payload_sha256);
        RecordHash(sha.finalize().into())
    }
}

/// What the log was told of rejected records: one a minute of each reason and partition, and how many it was not told of
/// since. The metric has them all.
#[derive(Debug)]
pub struct Told(Seldom<(Reason, Partition)>);

impl Default for Told {
    fn default() -> Told {
        Told(Seldom::new(1))
    }
}

/// A record that was not applied, and why.
#[derive(Debug)]
pub struct FaceRejected {
    pub record: Record,
    pub rejection: Rejection,
}

impl FaceRejected {
    /// Tells everyone, the log as often as `told` has it; the dead letter is the caller's to commit.
    pub fn report(self, metrics: &Metrics, told: &Told) -> DeadLetter {
        let FaceRejected { record, rejection } = self;
        let reason = rejection.reason.as_str();
        if let Some(left_out) = told.0.next((rejection.reason, record.place.partition), Instant::now()) {
            let (place, detail) = (record.place, &rejection.detail);
            tracing::warn!(%place, reason, %detail, left_out, "record goes to the dead letters");
        }
        metrics.rejected.with_label_values(&[reason]).inc();
        DeadLetter {
            rejection,
            place: record.place,
            key: record.key.map(Vec::from),
            payload_bytes: record.payload_bytes,
            payload_sha256: crate::model::artefact::hex(&record.payload_sha256),
        }
    }
}
