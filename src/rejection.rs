//! Why a record is not applied: a reason from a short list, which metrics count and readers of
//! the dead letters can act on, and a detail for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::face::{FaceError, MAX_COLLECTION_BYTES, Place};

/// Why a record is not applied. The list is closed, so it may label a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The payload is longer than the configured limit.
    TooLarge,
    /// The header `content-type` names no codec of ours.
    UnknownContentType,
    /// The payload is not what its content type says.
    Malformed,
    /// The embedding is not as wide as the model takes it.
    WrongDimension,
    /// The embedding has a value that is not a finite number.
    NotFinite,
    /// The embedding has no direction.
    ZeroVector,
    /// The record has no key, so the face has no name.
    EmptyKey,
    /// The key is not UTF-8, or too long.
    BadKey,
    /// The payload's `face_id` is not the key.
    KeyMismatch,
    /// The collection's name is not one.
    BadCollection,
    /// Header and payload name different collections.
    CollectionMismatch,
    /// `quality` is not in 0..1.
    BadQuality,
    /// `captured_at` is not a time of RFC 3339.
    BadTimestamp,
    /// `frame_id` is empty or too long.
    BadFrameId,
    /// Something is asked of a face that is not there.
    UnknownFace,
    /// Something is asked of a cluster that does not live.
    UnknownCluster,
    /// The face was erased, and its `face_id` may not come back until an operator allows it.
    Suppressed,
    /// The face was older than its collection keeps faces when it came.
    Expired,
    /// An operator's must-link and a cannot-link or a shared frame exclude each other.
    Contradiction,
    /// There are as many collections as are allowed.
    CollectionLimit,
    /// The collection's home is another shard.
    WrongShard,
    /// The name given to a cluster is too long.
    BadName,
}

impl Reason {
    pub const ALL: &[Reason] = &[
        Reason::TooLarge,
        Reason::UnknownContentType,
        Reason::Malformed,
        Reason::WrongDimension,
        Reason::NotFinite,
        Reason::ZeroVector,
        Reason::EmptyKey,
        Reason::BadKey,
        Reason::KeyMismatch,
        Reason::BadCollection,
        Reason::CollectionMismatch,
        Reason::BadQuality,
        Reason::BadTimestamp,
        Reason::BadFrameId,
        Reason::UnknownFace,
        Reason::UnknownCluster,
        Reason::Suppressed,
        Reason::Expired,
        Reason::Contradiction,
        Reason::CollectionLimit,
        Reason::WrongShard,
        Reason::BadName,
    ];

    /// The word on the wire: a metric's label, a dead letter's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::UnknownContentType => "unknown_content_type",
            Reason::Malformed => "malformed",
            Reason::WrongDimension => "wrong_dimension",
            Reason::NotFinite => "not_finite",
            Reason::ZeroVector => "zero_vector",
            Reason::EmptyKey => "empty_key",
            Reason::BadKey => "bad_key",
            Reason::KeyMismatch => "key_mismatch",
            Reason::BadCollection => "bad_collection",
            Reason::CollectionMismatch => "collection_mismatch",
            Reason::BadQuality => "bad_quality",
            Reason::BadTimestamp => "bad_timestamp",
            Reason::BadFrameId => "bad_frame_id",
            Reason::UnknownFace => "unknown_face",
            Reason::UnknownCluster => "unknown_cluster",
            Reason::Suppressed => "suppressed",
            Reason::Expired => "expired",
            Reason::Contradiction => "contradiction",
            Reason::CollectionLimit => "collection_limit",
            Reason::WrongShard => "wrong_shard",
            Reason::BadName => "bad_name",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that is not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    pub reason: Reason,
    /// For people: what is wrong and what is accepted. Nothing of the payload is in it, which is data about a person.
    pub detail: String,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Rejection {
        Rejection { reason, detail: detail.into() }
    }
}

impl From<FaceError> for Rejection {
    fn from(error: FaceError) -> Rejection {
        let reason = match error {
            FaceError::EmptyFaceId => Reason::EmptyKey,
            FaceError::LongFaceId { .. } => Reason::BadKey,
            // Its text quotes the name, which came in the payload.
            FaceError::BadCollection { .. } => {
                let detail = format!(
                    "the collection's name is not 1 to {MAX_COLLECTION_BYTES} of the characters a-z A-Z 0-9 . _ -"
                );
                return Rejection::new(Reason::BadCollection, detail);
            }
            FaceError::Dimension { .. } => Reason::WrongDimension,
            FaceError::NotFinite { .. } => Reason::NotFinite,
            FaceError::ZeroVector => Reason::ZeroVector,
        };
        Rejection::new(reason, error.to_string())
    }
}

/// A record that could not be applied. It holds a hash of the payload, not the payload: the
/// payload is data about a person, and the place says where the input topic still has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub rejection: Rejection,
    pub place: Place,
    pub key: Option<Vec<u8>>,
    pub payload_bytes: u64,
    pub payload_sha256: String,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_reason_has_one_word_everywhere() {
        for (place, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason} is listed out of order or twice");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        let schema: Value = serde_json::from_str(include_str!("../schemas/dead-letter.schema.json")).unwrap();
        let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(schema["properties"]["reason"]["enum"], serde_json::json!(words));
    }
}
