//! Records out of Kafka, decoded, into a bounded queue.
//!
//! [`kafka`] polls in a thread of its own that never stops polling: when the queue is full it
//! pauses the partitions instead, so that memory stays flat and the group keeps its member.

mod error;
pub mod kafka;
mod lag;
mod queue;
mod rejected;
pub mod topics;

pub use error::SourceError;
pub use lag::Lag;
pub use queue::{Knocker, Received, Receiver, Sender, queue};
pub use rejected::{FaceRejected, Record, Told};

use crate::face::{CollectionName, Face, FaceId};

/// What became of one record of the input.
#[derive(Debug, Clone)]
pub struct Intake {
    pub record: Record,
    pub content: Content,
}

/// What a record held.
#[derive(Debug, Clone)]
pub enum Content {
    Face {
        collection: CollectionName,
        face: Face,
    },
    /// A null payload: the face is to go, and its `face_id` with it.
    Erase {
        collection: CollectionName,
        face_id: FaceId,
    },
    Rejected(crate::rejection::Rejection),
}
