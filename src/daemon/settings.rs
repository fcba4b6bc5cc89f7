//! What the configuration and the model say, as the shard and its engines need it.

use std::time::Duration;

use super::sharding::Sharding;
use crate::config::{Collections, Config, Index};
use crate::engine::EngineSettings;
use crate::engine::cluster::ClusterSettings;
use crate::engine::index::{HnswParameters, IndexKind};
use crate::engine::retention::Retention;
use crate::face::CollectionName;
use crate::model::Artefact;
use crate::model::artefact::Merging;
use crate::model::fit::TrainedAt;
use crate::store;

/// How a shard works.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    pub model: store::Model,
    /// Stale faces scored again for each record.
    pub refresh_per_face: usize,
    index: IndexKind,
    merging: Merging,
    /// What the model was trained at, where it says.
    pub trained_at: Option<TrainedAt>,
    max_component: usize,
    pub collections: Collections,
    pub sharding: Sharding,
    /// How often snapshots are cut; none: never.
    pub snapshot_interval: Option<Duration>,
}

impl ShardSettings {
    pub fn new(config: &Config, artefact: &Artefact) -> ShardSettings {
        let engine = &config.engine;
        let index = match engine.index {
            Index::Exact => IndexKind::Exact,
            Index::Hnsw => IndexKind::Hnsw(HnswParameters {
                connections: engine.hnsw_connections,
                ef_construction: engine.hnsw_ef_construction,
                ef_search: engine.hnsw_ef_search,
                few: engine.hnsw_few,
            }),
        };
        ShardSettings {
            model: store::Model { fingerprint: artefact.fingerprint.clone(), dimension: artefact.shape.dimension },
            refresh_per_face: engine.refresh_per_face,
            index,
            merging: artefact.merging,
            trained_at: artefact.trained_at,
            max_component: engine.max_component,
            collections: config.collections.clone(),
            sharding: Sharding::new(&config.kafka),
            snapshot_interval: Some(config.state.snapshot_interval).filter(|interval| !interval.is_zero()),
        }
    }

    /// How the collection `name` is clustered anew, whole: at once however large its components are, and
    /// nothing expires meanwhile.
    pub fn recluster(&self, name: &CollectionName) -> EngineSettings {
        let EngineSettings { index, clusters, .. } = self.engine(name);
        let clusters = ClusterSettings { max_component: usize::MAX, ..clusters };
        EngineSettings { index, clusters, retention: Retention::default() }
    }

    /// How the collection `name` is clustered and what it keeps.
    pub fn engine(&self, name: &CollectionName) -> EngineSettings {
        let own = self.collections.settings(name);
        EngineSettings {
            index: self.index,
            clusters: ClusterSettings {
                merging: self.merging,
                max_component: self.max_component,
                quality_floor: own.quality_floor,
            },
            retention: Retention {
                max_age: own.max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
                max_faces: own.max_faces,
            },
        }
    }
}
