//! What sled holds, record by record. Clusters, linkages and outbox entries are written as the
//! engine and the outbox define them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{FORMAT, Model, StoreError};
use crate::engine::AddedFace;
use crate::face::{ClusterId, FaceId, Place, Timestamp};

/// The first vector file of a collection; rewriting it makes the next.
pub const FIRST_GENERATION: u64 = 1;

/// Whose state this is and how it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    pub format: u32,
    pub state_uuid: String,
    /// Fingerprint of the model its linkages come from.
    pub model: String,
    pub dimension: usize,
}

impl Identity {
    /// Whether the state of this identity, in `path`, was made with `model`.
    pub fn check_model(&self, path: &Path, model: &Model) -> Result<(), StoreError> {
        if self.format != FORMAT || self.model == model.fingerprint {
            // Of another format nothing more can be said than that.
            return Ok(());
        }
        let (expected, found) = (model.fingerprint.clone(), self.model.clone());
        Err(StoreError::OtherModel { path: path.to_path_buf(), expected, found })
    }
}

/// How far a collection has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// Which writing of its vector file counts.
    pub generation: u64,
    /// Faces committed: the length of its vector file, in records.
    pub faces: u64,
    /// Sequence of its last event.
    pub sequence: u64,
}

impl CollectionRecord {
    pub fn new() -> CollectionRecord {
        CollectionRecord { generation: FIRST_GENERATION, faces: 0, sequence: 0 }
    }
}

/// A face but for its embedding, which is in the vector file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceRecord {
    pub id: FaceId,
    /// The cluster it joined.
    pub home: ClusterId,
    pub frame_id: Option<FaceId>,
    pub quality: Option<f32>,
    pub captured_at: Option<Timestamp>,
    pub arrived_at: Timestamp,
    /// The record of the input that brought it.
    pub place: Place,
}

impl From<&AddedFace> for FaceRecord {
    fn from(added: &AddedFace) -> FaceRecord {
        FaceRecord {
            id: added.face.id.clone(),
            home: added.home,
            frame_id: added.face.frame_id.clone(),
            quality: added.face.quality,
            captured_at: added.face.captured_at,
            arrived_at: added.arrived_at,
            place: added.face.place,
        }
    }
}
