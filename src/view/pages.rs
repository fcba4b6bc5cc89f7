//! Long lists a page at a time. A page begins after a place in the list's order, not at a number, so that what
//! comes and goes between two pages neither shifts nor hides what stays.
//!
//! Cost: O(log n + limit) a page; of a cluster's faces also a step for each cluster that went into it.

use std::cmp::Reverse;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::collection::{CollectionView, Resident};
use super::listed::{ByChange, BySize, Listed};
use crate::engine::changes::{Constraint, PairOfFaces};
use crate::face::{ClusterId, FaceId};

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<Item, After> {
    pub items: Vec<Item>,
    /// The place the next begins after; none at the end of the list.
    pub next: Option<After>,
}

/// What clusters are listed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterOrder {
    /// Large ones first.
    #[default]
    Size,
    /// Those that changed last first; then those that have not since the daemon started, the younger first.
    Recent,
}

/// A place in the list of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterCluster {
    pub order: ClusterOrder,
    /// Its size or the sequence of its last change, as it was then.
    pub key: u64,
    pub id: ClusterId,
}

/// A place in the list of a cluster's faces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterFace {
    pub home: ClusterId,
    pub face: FaceId,
}

impl CollectionView {
    /// The living clusters. The order is that of `after`, where there is one.
    pub fn clusters(
        &self,
        order: ClusterOrder,
        after: Option<AfterCluster>,
        limit: usize,
    ) -> Page<Listed, AfterCluster> {
        let order = after.map_or(order, |after| after.order);
        let listed = |id| self.cluster(id).expect("what is listed is there").clone();
        let items: Vec<Listed> = match order {
            ClusterOrder::Size => {
                let place = |after: AfterCluster| (Reverse(u32::try_from(after.key).unwrap_or(u32::MAX)), after.id);
                let range = self.clusters.by_size.range(begins(after.map(place)));
                range.take(limit + 1).map(|&(_, id): &BySize| listed(id)).collect()
            }
            ClusterOrder::Recent => {
                let place = |after: AfterCluster| (Reverse(after.key), Reverse(after.id));
                let range = self.clusters.by_change.range(begins(after.map(place)));
                range.take(limit + 1).map(|&(_, Reverse(id)): &ByChange| listed(id)).collect()
            }
        };
        cut(items, limit, |last| {
            let key = match order {
                ClusterOrder::Size => u64::from(last.cluster.size),
                ClusterOrder::Recent => last.sequence.unwrap_or(0),
            };
            AfterCluster { order, key, id: last.cluster.id }
        })
    }

    /// The faces of a living cluster, by the cluster they joined or moved to and their id.
    pub fn members(&self, id: ClusterId, after: Option<AfterFace>, limit: usize) -> Page<FaceId, AfterFace> {
        let mut items: Vec<AfterFace> = Vec::new();
        for home in self.clusters.gone_into(id) {
            let begin = match &after {
                Some(after) if home < after.home => continue,
                Some(after) if home == after.home => Some(after.face.clone()),
                _ => None,
            };
            let range = (Bound::Excluded((home, begin)), Bound::Excluded((ClusterId(home.0 + 1), None)));
            let faces = self
                .residents
                .range(range)
                .filter_map(|(home, face): &Resident| Some(AfterFace { home: *home, face: face.clone()? }));
            items.extend(faces.take(limit + 1 - items.len()));
            if items.len() > limit {
                break;
            }
        }
        let Page { items, next } = cut(items, limit, AfterFace::clone);
        Page { items: items.into_iter().map(|item| item.face).collect(), next }
    }

    /// What operators said of two faces, by the smaller of their ids. `after`: the faces of one of them.
    pub fn constraints(&self, after: Option<PairOfFaces>, limit: usize) -> Page<Constraint, PairOfFaces> {
        let range = self.constraints.range(begins(after));
        let items = range.take(limit + 1).map(|(_, constraint)| constraint.clone()).collect();
        cut(items, limit, |last: &Constraint| PairOfFaces::new(&last.a, &last.b))
    }
}

fn begins<T>(after: Option<T>) -> (Bound<T>, Bound<T>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// Of one item more than a page holds: the page, and where the next begins.
fn cut<Item, After>(mut items: Vec<Item>, limit: usize, place: impl Fn(&Item) -> After) -> Page<Item, After> {
    let there_is_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| there_is_more).map(place);
    Page { items, next }
}
