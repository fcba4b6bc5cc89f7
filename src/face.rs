//! The words of the domain as types: what a face, a node, a cluster and a place in the input are.
//!
//! Everything else in the crate speaks in these, so that a node is never taken for a cluster
//! nor an unchecked vector for an embedding.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest `face_id` or `frame_id` accepted, in bytes.
pub const MAX_FACE_ID_BYTES: usize = 512;
/// The longest collection name accepted, in bytes.
pub const MAX_COLLECTION_BYTES: usize = 64;

/// Why a word of the input is not one of ours.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaceError {
    #[error("face_id is empty")]
    EmptyFaceId,
    #[error("face_id is {bytes} bytes long, at most {MAX_FACE_ID_BYTES} are accepted")]
    LongFaceId { bytes: usize },
    #[error(
        "collection {name:?} is not 1 to {MAX_COLLECTION_BYTES} of the characters a-z A-Z 0-9 . _ -, or dots alone"
    )]
    BadCollection { name: String },
    #[error("embedding has {found} values, the model takes {expected}")]
    Dimension { expected: usize, found: usize },
    #[error("embedding value {position} is {value}, not a finite number")]
    NotFinite { position: usize, value: f32 },
    #[error("embedding has length zero, so it has no direction to compare")]
    ZeroVector,
}

/// The caller's name of a face: unique inside its collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct FaceId(Arc<str>);

impl FaceId {
    pub fn new(id: &str) -> Result<FaceId, FaceError> {
        match id.len() {
            0 => Err(FaceError::EmptyFaceId),
            1..=MAX_FACE_ID_BYTES => Ok(FaceId(id.into())),
            bytes => Err(FaceError::LongFaceId { bytes }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FaceId {
    type Error = FaceError;

    fn try_from(id: String) -> Result<FaceId, FaceError> {
        FaceId::new(&id)
    }
}

impl fmt::Display for FaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a collection. It appears in topic keys and file names, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CollectionName(Arc<str>);

impl CollectionName {
    pub fn new(name: &str) -> Result<CollectionName, FaceError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        // Dots alone mean another place in a path of files or of a URL.
        let only_dots = name.bytes().all(|byte| byte == b'.');
        if only_dots || name.len() > MAX_COLLECTION_BYTES || !name.bytes().all(allowed) {
            return Err(FaceError::BadCollection { name: name.chars().take(MAX_COLLECTION_BYTES).collect() });
        }
        Ok(CollectionName(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CollectionName {
    type Error = FaceError;

    fn try_from(name: String) -> Result<CollectionName, FaceError> {
        CollectionName::new(&name)
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A face's place in its collection's order of arrival, from 1: its age. Never given twice.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Arrival(pub u64);

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A face's dense number inside its collection, from 0. Used again once the face is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The place of this node in a vector that holds one entry a node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A cluster's place in its collection's creation sequence: the smaller, the older. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// On the wire a cluster id is a string: consumers in languages of double precision keep it whole.
impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ClusterId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(ClusterId).map_err(serde::de::Error::custom)
    }
}

/// A Kafka partition of the input topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition(pub i32);

/// A partition of a topic that facetd writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutputPartition {
    pub topic: String,
    pub partition: i32,
}

/// A record's place in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl Offset {
    /// The place after this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// Tells a record from every other: SHA-256 of its key and of its payload's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHash(pub [u8; 32]);

/// How far a partition of the input was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Every record before it is applied, ignored or rejected.
    pub next: Offset,
    /// The record just before it, by which a topic that was made anew is told from the one that was
    /// read. None when a state of an older format did not keep it.
    pub last: Option<RecordHash>,
}

/// Where a record stood in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub partition: Partition,
    pub offset: Offset,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition.0, self.offset.0)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

/// A face's vector, of length 1 and without anything that is not a number. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

impl Embedding {
    /// Checks `values` against the model's `dimension` and scales them to length 1 (in f64, so
    /// that the result is the same on every machine).
    pub fn normalise(values: &[f32], dimension: usize) -> Result<Embedding, FaceError> {
        if values.len() != dimension {
            return Err(FaceError::Dimension { expected: dimension, found: values.len() });
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            return Err(FaceError::NotFinite { position, value: values[position] });
        }
        let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length < f64::from(f32::MIN_POSITIVE) {
            return Err(FaceError::ZeroVector);
        }
        Ok(Embedding(values.iter().map(|&value| (f64::from(value) / length) as f32).collect()))
    }

    /// Takes values that were normalised before, as the vector file holds them.
    pub(crate) fn from_normalised(values: &[f32]) -> Embedding {
        Embedding(values.into())
    }

    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

/// A face as it came in, checked and normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    pub id: FaceId,
    pub embedding: Embedding,
    /// The picture it was cut from: two faces of one frame are never one person.
    pub frame_id: Option<FaceId>,
    /// The detector's opinion of the crop, 0 to 1.
    pub quality: Option<f32>,
    pub captured_at: Option<Timestamp>,
    /// Where it stood in the input.
    pub place: Place,
}
