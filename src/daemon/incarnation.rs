//! A new incarnation of a state: `facetd run --new-incarnation`.
//!
//! When a state and Kafka do not go together (an older state out of a backup, a repaired one, topics that
//! were made anew), going on would repeat ids that readers have seen, or skip input. So the state takes another
//! uuid and tells everything anew, as if each face had just come: a reader that sees another `ce_source`
//! forgets what it knew of the one before. Keys of the compacted topics that mean nobody any more are
//! deleted, and partitions of the input that are not the ones that were read are read from their beginning.
//!
//! All of it is one commit, which goes out through the outbox like any other. Cost: the compacted topics
//! read once; an event a face; memory by faces.

use crate::audit::{Audit, Deed, Hand};
use crate::config::Kafka;
use crate::face::{Partition, Timestamp};
use crate::publish::{self, PublishError, StateKey};
use crate::source::SourceError;
use crate::source::topics;
use crate::store::Incarnation;

use super::DaemonError;
use super::shard::Shard;

/// Begins one if state and Kafka do not go together, written down before and after. Answers whether it did.
pub fn begin_if_needed(
    shard: &mut Shard,
    config: &Kafka,
    partitions: &[Partition],
    audit: &Audit,
    now: Timestamp,
) -> Result<bool, DaemonError> {
    let is_another =
        |error: &SourceError| matches!(error, SourceError::Shorter { .. } | SourceError::OtherRecord { .. });
    let mut reread = Vec::new();
    for (partition, start) in topics::starts(config, partitions, shard.positions())? {
        match start {
            Ok(_) => {}
            Err(error) if is_another(&error) => {
                tracing::warn!(%error, "this partition is read from its beginning");
                reread.push(partition);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let disagreement = match shard.reconciliation(config, partitions).check() {
        Err(PublishError::Disagreement(disagreement)) => Some(disagreement),
        Err(error) => return Err(error.into()),
        Ok(()) => None,
    };
    if reread.is_empty() && disagreement.is_none() {
        tracing::warn!("state and kafka go together: no new incarnation was needed, leave --new-incarnation out");
        return Ok(false);
    }
    let begun = audit.begin(Hand::of_user(), Deed::new_incarnation())?;
    begun.through(|| begin(shard, config, reread, now))?;
    Ok(true)
}

fn begin(shard: &mut Shard, config: &Kafka, reread: Vec<Partition>, now: Timestamp) -> Result<(), DaemonError> {
    // Whoever still publishes as the one before must not any more: what is left over is read next.
    publish::claim(config)?;
    let is_left_over = |key: &StateKey| match key {
        StateKey::Face(collection, face) => shard.is_at_home(collection) && !shard.has_face(collection, face),
        StateKey::Cluster(collection, id) => shard.is_at_home(collection) && !shard.has_living_cluster(collection, *id),
    };
    let forgotten = publish::leftovers(config, &is_left_over).map_err(PublishError::Ask)?;
    let (before, left) = (shard.state_uuid().to_string(), forgotten.len());
    shard.begin_incarnation(Incarnation { forgotten, reread }, now)?;
    let after = shard.state_uuid();
    tracing::warn!(before, after, forgotten_keys = left, "a new incarnation begins: everything is told anew");
    Ok(())
}
