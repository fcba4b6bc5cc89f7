//! A new partition of some faces against the clusters they are in: which id lives on, who moved.
//!
//! Of a cluster that came apart, the part with its oldest face keeps the id. Where several ids meet
//! in one part, a pinned one stays before others and an older before a younger; the others merge into
//! it. So an id changes hands as rarely as can be, and never comes back.
//!
//! Told in this order: who left (splits), who is new, what merged. Cost: O(faces), sorted by age.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::book::Book;
use crate::engine::event::Cause;
use crate::engine::faces::Faces;
use crate::face::{Arrival, ClusterId, NodeId};

/// Faces that are one cluster now.
#[derive(Debug)]
pub struct Part {
    /// By age, once reconciled.
    pub faces: Vec<NodeId>,
    /// What made them one.
    cause: Cause,
    /// Clusters whose oldest face is in it, in order.
    claims: Vec<ClusterId>,
    /// The id that lives on in it, once there is one.
    id: Option<ClusterId>,
}

impl Part {
    pub fn new(faces: Vec<NodeId>, cause: Cause) -> Part {
        Part { faces, cause, claims: Vec::new(), id: None }
    }
}

/// Where the oldest face of a cluster is.
struct Oldest {
    arrival: Arrival,
    part: usize,
}

/// Makes the book say that each of `parts` is one cluster. The parts hold every face of each cluster
/// they touch, and faces that are in none yet, which came by `arrival_cause`.
pub fn reconcile(book: &mut Book, faces: &Faces, mut parts: Vec<Part>, arrival_cause: impl Fn(NodeId) -> Cause) {
    for part in &mut parts {
        part.faces.sort_unstable_by_key(|&node| faces.arrival(node));
    }
    parts.sort_unstable_by_key(|part| part.faces.first().map(|&node| faces.arrival(node)));
    claim(book, faces, &mut parts);

    for part in &mut parts {
        let strangers = part
            .faces
            .iter()
            .filter(|&&node| book.cluster_of(node).is_some_and(|cluster| part.claims.binary_search(&cluster).is_err()));
        for node in strangers.copied().collect::<Vec<_>>() {
            let face = faces.id(node).clone();
            match part.id {
                None => part.id = Some(book.split_off(node, face, part.cause)),
                Some(id) => book.leave_for(node, face, id, part.cause),
            }
        }
    }

    let newcomers = parts.iter().enumerate().flat_map(|(number, part)| {
        part.faces.iter().filter(|&&node| book.cluster_of(node).is_none()).map(move |&node| (node, number))
    });
    let mut newcomers: Vec<(NodeId, usize)> = newcomers.collect();
    newcomers.sort_unstable_by_key(|&(node, _)| faces.arrival(node));
    for (node, number) in newcomers {
        let face = faces.id(node).clone();
        match parts[number].id {
            None => parts[number].id = Some(book.create(node, face, arrival_cause(node))),
            Some(id) => book.join(node, face, id, arrival_cause(node)),
        }
    }

    for Part { claims, id, cause, .. } in parts {
        for claim in claims {
            if let Some(id) = id.filter(|&id| id != claim) {
                book.merge(claim, id, cause);
            }
        }
    }
}

/// Finds for each cluster the part that keeps its id, and for each part the id that lives on.
fn claim(book: &Book, faces: &Faces, parts: &mut [Part]) {
    let mut oldest: BTreeMap<ClusterId, Oldest> = BTreeMap::new();
    for (number, part) in parts.iter().enumerate() {
        for &node in &part.faces {
            let Some(cluster) = book.cluster_of(node) else { continue };
            let arrival = faces.arrival(node);
            let entry = oldest.entry(cluster).or_insert(Oldest { arrival, part: number });
            if arrival < entry.arrival {
                *entry = Oldest { arrival, part: number };
            }
        }
    }
    for (cluster, Oldest { part, .. }) in oldest {
        parts[part].claims.push(cluster);
    }
    let is_pinned = |id: ClusterId| book.get(id).is_some_and(|cluster| cluster.pinned);
    for part in parts {
        part.id = part.claims.iter().copied().min_by_key(|&id| (Reverse(is_pinned(id)), id));
    }
}
