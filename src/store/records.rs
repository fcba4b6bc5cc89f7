//! What sled holds, record by record. Faces, clusters, constraints and outbox entries
//! are written as the engine and the outbox define them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::suppressed::SuppressionKey;
use super::{FORMAT, Model, StoreError};
use crate::engine::changes::{Counters, KeptLinkage};
use crate::model::artefact::LARGEST_DIMENSION;

/// The oldest format that is read: what is older than today's is upgraded.
pub const OLDEST: u32 = 2;

/// The format a state is written in: how every identity of every format begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format(pub u32);

impl Format {
    /// Whether this program reads the state in `path`, maybe after an upgrade.
    pub fn check(self, path: &Path) -> Result<(), StoreError> {
        let Format(found) = self;
        let path = path.to_path_buf();
        match found {
            OLDEST..=FORMAT => Ok(()),
            ..OLDEST => Err(StoreError::OlderFormat { path, found }),
            _ => Err(StoreError::NewerFormat { path, found }),
        }
    }
}

/// Whose state this is and how it is written. Not to be printed: a secret is in it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// First in every format, see [`Format`].
    pub format: Format,
    pub state_uuid: String,
    /// Fingerprint of the model its linkages come from.
    pub model: String,
    pub dimension: usize,
    pub suppression_key: SuppressionKey,
}

impl Identity {
    /// Of a state that is to be made with `model`.
    pub fn new(model: &Model) -> Result<Identity, StoreError> {
        Ok(Identity {
            format: Format(FORMAT),
            state_uuid: Uuid::new_v4().to_string(),
            model: model.fingerprint.clone(),
            dimension: model.dimension,
            suppression_key: SuppressionKey::random()?,
        })
    }

    /// Whether it is one, of the state in `path`: a length that is none would be believed everywhere.
    pub fn check(&self, path: &Path) -> Result<(), StoreError> {
        if (1..=LARGEST_DIMENSION).contains(&self.dimension) {
            return Ok(());
        }
        let what = format!("its embeddings have {} values, not 1 to {LARGEST_DIMENSION}", self.dimension);
        Err(StoreError::Damaged { path: path.to_path_buf(), what })
    }

    /// The identity of a new incarnation of the same state.
    pub fn renamed(&self) -> Identity {
        Identity { state_uuid: Uuid::new_v4().to_string(), ..self.clone() }
    }

    /// Whether the state of this identity, in `path`, was made with `model`.
    pub fn check_model(&self, path: &Path, model: &Model) -> Result<(), StoreError> {
        self.check_dimension(path, model)?;
        if self.model == model.fingerprint {
            return Ok(());
        }
        let (expected, found) = (model.fingerprint.clone(), self.model.clone());
        Err(StoreError::OtherModel { path: path.to_path_buf(), expected, found })
    }

    /// Whether `model` could take its embeddings at all.
    fn check_dimension(&self, path: &Path, model: &Model) -> Result<(), StoreError> {
        if self.dimension == model.dimension {
            return Ok(());
        }
        let (expected, found) = (model.dimension, self.dimension);
        Err(StoreError::OtherDimension { path: path.to_path_buf(), expected, found })
    }

    /// The identity once the state in `path` goes on with `model`.
    pub fn with_model(&self, path: &Path, model: &Model) -> Result<Identity, StoreError> {
        self.check_dimension(path, model)?;
        Ok(Identity { model: model.fingerprint.clone(), ..self.clone() })
    }
}

/// The linkages of a face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkagesRecord {
    /// The commit that wrote them: a snapshot that was cut before knows nothing of what they came from.
    pub written_at: u64,
    pub linkages: Vec<KeptLinkage>,
}

/// How far a collection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// Which writing of its vector file counts.
    pub generation: u64,
    /// Length of that file, in records.
    pub records: u64,
    /// Its live faces: so many of those records are live too, the others are dead.
    pub faces: u64,
    pub counters: Counters,
}

impl Default for CollectionRecord {
    fn default() -> CollectionRecord {
        CollectionRecord { generation: 1, records: 0, faces: 0, counters: Counters::default() }
    }
}

impl CollectionRecord {
    /// Records of the vector file that no face needs.
    pub fn dead(&self) -> u64 {
        self.records.saturating_sub(self.faces)
    }
}
