//! What has to hold between the records of a collection, a function for each check.
//!
//! Each tells of all that is broken. Restoring a collection ([`super::restore`]) refuses at the first
//! of what an engine relies on; [`super::verify`] names them all, and checks more. O(faces + linkages).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::StoreError;
use super::keys::{self, Key};
use super::records::{CollectionRecord, LinkagesRecord};
use super::space::Space;
use super::sums::Sum;
use crate::engine::changes::{Constraint, ConstraintKind, Counters, FaceRecord};
use crate::engine::event::Cluster;
use crate::face::{Arrival, ClusterId, CollectionName, Embedding, FaceId, NodeId};

/// What is checked of a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Records,
    Collections,
    Faces,
    Ids,
    Arrivals,
    Vectors,
    Embeddings,
    Clusters,
    Homes,
    Sizes,
    Linkages,
    Links,
    Rule,
    Apart,
    Constraints,
    Suppressed,
    Counters,
    Positions,
    Outbox,
}

impl Check {
    pub const ALL: [Check; 19] = [
        Check::Records,
        Check::Collections,
        Check::Faces,
        Check::Ids,
        Check::Arrivals,
        Check::Vectors,
        Check::Embeddings,
        Check::Clusters,
        Check::Homes,
        Check::Sizes,
        Check::Linkages,
        Check::Links,
        Check::Rule,
        Check::Apart,
        Check::Constraints,
        Check::Suppressed,
        Check::Counters,
        Check::Positions,
        Check::Outbox,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Check::Records => "records",
            Check::Collections => "collections",
            Check::Faces => "faces",
            Check::Ids => "ids",
            Check::Arrivals => "arrivals",
            Check::Vectors => "vectors",
            Check::Embeddings => "embeddings",
            Check::Clusters => "clusters",
            Check::Homes => "homes",
            Check::Sizes => "sizes",
            Check::Linkages => "linkages",
            Check::Links => "links",
            Check::Rule => "rule",
            Check::Apart => "apart",
            Check::Constraints => "constraints",
            Check::Suppressed => "suppressed",
            Check::Counters => "counters",
            Check::Positions => "positions",
            Check::Outbox => "outbox",
        }
    }

    /// What holds when it is not broken.
    pub fn promise(self) -> &'static str {
        match self {
            Check::Records => "every record has its checksum and can be read",
            Check::Collections => "every record of a collection is of one that is there",
            Check::Faces => "each collection has as many faces as it says",
            Check::Ids => "ids lead to their faces and faces have their ids",
            Check::Arrivals => "no arrival was given twice",
            Check::Vectors => "vector files have their headers, lengths and checksums",
            Check::Embeddings => "every face has an embedding, of length 1",
            Check::Clusters => "clusters are used, and their ways end at a living one",
            Check::Homes => "the home of every face is there",
            Check::Sizes => "living clusters have as many faces as they say",
            Check::Linkages => "linkages are somebody's, and probabilities",
            Check::Links => "the faces of a cluster are linked inside it",
            Check::Rule => "clusters are what the model's merging rule makes of the linkages",
            Check::Apart => "who has to stay apart is not in one cluster",
            Check::Constraints => "constraints are of faces that are there",
            Check::Suppressed => "no face is there that was erased for good",
            Check::Counters => "counters are ahead of what they counted",
            Check::Positions => "positions are places in the input",
            Check::Outbox => "what is to be published has no gap",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub check: Check,
    pub collection: Option<CollectionName>,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.collection {
            Some(collection) => write!(f, "{} of collection {collection}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// The records of a collection, but for its embeddings.
#[derive(Debug)]
pub struct Parts {
    pub name: CollectionName,
    pub record: CollectionRecord,
    /// In order of node.
    pub faces: Vec<(NodeId, FaceRecord)>,
    /// What its ids lead to.
    pub nodes: Vec<(Key, NodeId)>,
    /// In order of node.
    pub linkages: Vec<(NodeId, LinkagesRecord)>,
    /// By the id in their key.
    pub clusters: Vec<(ClusterId, Cluster)>,
    pub constraints: Vec<(Key, Constraint)>,
    /// Of all its records, readable or not.
    pub sum: Sum,
}

impl Parts {
    /// Reads what can be read; what cannot goes to `damaged`.
    pub fn read(
        space: &Space,
        name: &CollectionName,
        record: CollectionRecord,
        damaged: &mut Vec<Key>,
    ) -> Result<Parts, StoreError> {
        let (mut sum, mut damaged_linkages, mut sum_of_linkages) = (Sum::default(), Vec::new(), Sum::default());
        // The two long ones at once: a start waits for them.
        let (faces, linkages) = rayon::join(
            || space.survey_summed(&keys::faces(name), damaged, &mut sum),
            || space.survey_summed(&keys::all_linkages(name), &mut damaged_linkages, &mut sum_of_linkages),
        );
        let (faces, linkages) = (faces?, linkages?);
        damaged.extend(damaged_linkages);
        sum.join(sum_of_linkages);
        let clusters = space.survey_summed(&keys::clusters(name), damaged, &mut sum)?;
        let nodes = space.survey_summed(&keys::nodes(name), damaged, &mut sum)?;
        let constraints = space.survey_summed(&keys::constraints(name), damaged, &mut sum)?;
        Ok(Parts {
            name: name.clone(),
            record,
            faces: faces.into_iter().filter_map(|(key, face)| Some((keys::node_in(&key)?, face))).collect(),
            nodes,
            linkages: linkages.into_iter().filter_map(|(key, of)| Some((keys::node_in(&key)?, of))).collect(),
            clusters: clusters.into_iter().filter_map(|(key, of)| Some((keys::cluster_in(&key)?, of))).collect(),
            constraints,
            sum,
        })
    }

    pub fn face(&self, node: NodeId) -> Option<&FaceRecord> {
        let place = self.faces.binary_search_by_key(&node, |&(node, _)| node).ok()?;
        Some(&self.faces[place].1)
    }

    fn broken(&self, check: Check, what: String) -> Broken {
        Broken { check, collection: Some(self.name.clone()), what }
    }
}

/// As many faces as the collection counts.
pub fn faces(parts: &Parts, broken: &mut Vec<Broken>) {
    let (found, said) = (parts.faces.len() as u64, parts.record.faces);
    if found != said {
        broken.push(parts.broken(Check::Faces, format!("{found} face records, not {said},")));
    }
}

/// Ids lead to their faces, and every face has its id.
pub fn ids(parts: &Parts, broken: &mut Vec<Broken>) {
    let mut listed = HashSet::with_capacity(parts.nodes.len());
    for (key, node) in &parts.nodes {
        let is_right = parts.face(*node).is_some_and(|face| keys::node_of(&parts.name, &face.id) == *key);
        if is_right {
            listed.insert(*node);
        } else {
            let id = keys::face_id_in(key, &parts.name).map_or("?".to_string(), |id| id.to_string());
            broken.push(parts.broken(Check::Ids, format!("the face_id of node {node}, {id},")));
        }
    }
    for (node, face) in parts.faces.iter().filter(|(node, _)| !listed.contains(node)) {
        broken.push(parts.broken(Check::Ids, format!("the list of face_ids, without {} of node {node},", face.id)));
    }
}

pub fn arrivals(parts: &Parts, broken: &mut Vec<Broken>) {
    let mut given = HashSet::with_capacity(parts.faces.len());
    for (_, face) in &parts.faces {
        let arrival = face.arrival;
        if arrival.0 == 0 || arrival.0 > parts.record.counters.arrival || !given.insert(arrival) {
            broken.push(parts.broken(Check::Arrivals, format!("the arrival of face {}", face.id)));
        }
    }
}

/// Linkages are somebody's.
pub fn owners_of_linkages(parts: &Parts, broken: &mut Vec<Broken>) {
    for (node, _) in parts.linkages.iter().filter(|(node, _)| parts.face(*node).is_none()) {
        broken.push(parts.broken(Check::Linkages, format!("the linkages of node {node}, which has no face,")));
    }
}

/// Linkages are probabilities of faces that came, each once, and were written by a commit that was.
pub fn linkages(parts: &Parts, commit_sequence: u64, broken: &mut Vec<Broken>) {
    let last = parts.record.counters.arrival;
    for (node, record) in &parts.linkages {
        let Some(face) = parts.face(*node) else { continue };
        if !are_linkages(record, face, last) {
            broken.push(parts.broken(Check::Linkages, format!("the linkages of face {}", face.id)));
        }
        if record.written_at > commit_sequence {
            let what = format!("the linkages of face {}, of a commit that is to come,", face.id);
            broken.push(parts.broken(Check::Linkages, what));
        }
    }
}

/// Whether these are probabilities of faces up to arrival `last`, each once and none of `face` itself.
pub fn are_linkages(record: &LinkagesRecord, face: &FaceRecord, last: u64) -> bool {
    let mut met = HashSet::from([face.arrival]);
    record.linkages.iter().all(|linkage| {
        (0.0..=1.0).contains(&linkage.probability) && linkage.candidate.0 <= last && met.insert(linkage.candidate)
    })
}

/// Where the way of a cluster ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Living(ClusterId),
    /// At a cluster that is not there.
    Missing(ClusterId),
    /// In a circle, named by the smallest in it.
    Circle(ClusterId),
}

/// Where the way of every cluster ends.
pub fn ends(clusters: &HashMap<ClusterId, Option<ClusterId>>) -> HashMap<ClusterId, End> {
    let mut ends: HashMap<ClusterId, End> = HashMap::with_capacity(clusters.len());
    for &start in clusters.keys() {
        let mut way = Vec::new();
        let mut on_the_way = HashSet::new();
        let mut id = start;
        let end = loop {
            if let Some(&end) = ends.get(&id) {
                break end;
            }
            if !on_the_way.insert(id) {
                let circle = way.iter().skip_while(|&&met| met != id).min();
                break End::Circle(circle.copied().unwrap_or(id));
            }
            match clusters.get(&id) {
                None => break End::Missing(id),
                Some(None) => {
                    way.push(id);
                    break End::Living(id);
                }
                Some(&Some(into)) => {
                    way.push(id);
                    id = into;
                }
            }
        };
        ends.extend(way.into_iter().map(|id| (id, end)));
    }
    ends
}

/// Where each cluster went.
pub fn merges(parts: &Parts) -> HashMap<ClusterId, Option<ClusterId>> {
    parts.clusters.iter().map(|(id, cluster)| (*id, cluster.merged_into)).collect()
}

/// Clusters are whom their keys name, were made, and lead to a living one; so does every face's home,
/// and each living one has the faces it counts.
pub fn clusters(parts: &Parts, broken: &mut Vec<Broken>) {
    let Counters { cluster: last, .. } = parts.record.counters;
    for (id, cluster) in &parts.clusters {
        if cluster.id != *id {
            let what = format!("cluster {id}, whose record says that it is cluster {},", cluster.id);
            broken.push(parts.broken(Check::Clusters, what));
        }
        if id.0 == 0 || id.0 > last {
            broken.push(parts.broken(Check::Clusters, format!("cluster {id}, beyond the {last} that were made,")));
        }
    }
    let ends = ends(&merges(parts));
    for end in ends.values().copied().collect::<BTreeSet<End>>() {
        let what = match end {
            End::Living(_) => continue,
            End::Missing(id) => format!("cluster {id}, which others merged into,"),
            End::Circle(id) => format!("cluster {id}, which merged into itself,"),
        };
        broken.push(parts.broken(Check::Clusters, what));
    }
    let mut sizes: HashMap<ClusterId, u32> = HashMap::new();
    for (_, face) in &parts.faces {
        match ends.get(&face.home) {
            Some(End::Living(cluster)) => *sizes.entry(*cluster).or_default() += 1,
            Some(_) => {}
            None => broken.push(parts.broken(Check::Homes, format!("the home of face {}", face.id))),
        }
    }
    for (id, cluster) in parts.clusters.iter().filter(|(_, cluster)| cluster.lives()) {
        let counted = sizes.get(id).copied().unwrap_or(0);
        if counted != cluster.size {
            let what = format!("cluster {id}, which says {} faces and has {counted},", cluster.size);
            broken.push(parts.broken(Check::Sizes, what));
        }
    }
}

/// A cluster's record ends when no way goes through it any more.
pub fn unused_clusters(parts: &Parts, broken: &mut Vec<Broken>) {
    let homes = parts.faces.iter().map(|(_, face)| face.home);
    let merged = parts.clusters.iter().filter_map(|(_, cluster)| cluster.merged_into);
    let used: HashSet<ClusterId> = homes.chain(merged).collect();
    for (id, _) in parts.clusters.iter().filter(|(id, _)| !used.contains(id)) {
        broken.push(parts.broken(Check::Clusters, format!("cluster {id}, which no face needs,")));
    }
}

pub fn constraints(parts: &Parts, broken: &mut Vec<Broken>) {
    let there: HashSet<&FaceId> = parts.faces.iter().map(|(_, face)| &face.id).collect();
    for (key, Constraint { a, b, .. }) in &parts.constraints {
        let is_right = a != b && keys::constraint(&parts.name, a, b) == *key;
        if !is_right || !there.contains(a) || !there.contains(b) {
            broken.push(parts.broken(Check::Constraints, format!("the constraint of faces {a} and {b}")));
        }
    }
}

pub fn counters(parts: &Parts, broken: &mut Vec<Broken>) {
    let Counters { sequence, settled, .. } = parts.record.counters;
    if settled > sequence {
        let what = format!("the counter of events, {sequence}, which settled at {settled},");
        broken.push(parts.broken(Check::Counters, what));
    }
    let CollectionRecord { records, faces, .. } = parts.record;
    if records < faces {
        let what = format!("the counter of embeddings, {records} for {faces} faces,");
        broken.push(parts.broken(Check::Counters, what));
    }
}

/// Every face has an embedding, of length 1 and without anything that is not a number.
pub fn embeddings(parts: &Parts, embeddings: &HashMap<NodeId, Embedding>, broken: &mut Vec<Broken>) {
    for (node, face) in &parts.faces {
        let Some(embedding) = embeddings.get(node) else {
            broken.push(parts.broken(Check::Embeddings, format!("face {}, which has no embedding,", face.id)));
            continue;
        };
        if !is_normal(embedding) {
            broken.push(parts.broken(Check::Embeddings, format!("the embedding of face {}", face.id)));
        }
    }
}

/// Whether it is of length 1. f32 rounds each value; 1e-3 is far above what that adds up to.
pub fn is_normal(embedding: &Embedding) -> bool {
    let length = embedding.values().iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    (length - 1.0).abs() < 1e-3
}

/// The clusters of a collection and the faces in each; only of faces whose way ends at a living one.
pub fn members(parts: &Parts) -> BTreeMap<ClusterId, Vec<&FaceRecord>> {
    let ends = ends(&merges(parts));
    let mut members: BTreeMap<ClusterId, Vec<&FaceRecord>> = BTreeMap::new();
    for (_, face) in &parts.faces {
        if let Some(End::Living(cluster)) = ends.get(&face.home) {
            members.entry(*cluster).or_default().push(face);
        }
    }
    members
}

/// What every merging rule and every threshold has in common: two clusters merge only on a linkage
/// above 0 between them, or on an operator's word. To be asked of a settled collection.
pub fn links(parts: &Parts, broken: &mut Vec<Broken>) {
    let arrivals: HashMap<Arrival, usize> = (0..).zip(&parts.faces).map(|(at, (_, face))| (face.arrival, at)).collect();
    let ids: HashMap<&FaceId, usize> = (0..).zip(&parts.faces).map(|(at, (_, face))| (&face.id, at)).collect();
    let nodes: HashMap<NodeId, usize> = (0..).zip(&parts.faces).map(|(at, (node, _))| (*node, at)).collect();
    let ends = ends(&merges(parts));
    let cluster = |at: usize| ends.get(&parts.faces[at].1.home);
    let mut joined = Joined((0..parts.faces.len()).collect());
    for (node, record) in &parts.linkages {
        let Some(&from) = nodes.get(node) else { continue };
        for linkage in record.linkages.iter().filter(|linkage| linkage.probability > 0.0) {
            let to = arrivals.get(&linkage.candidate).copied();
            if let Some(to) = to.filter(|&to| cluster(to) == cluster(from)) {
                joined.join(from, to);
            }
        }
    }
    let words = parts.constraints.iter().map(|(_, word)| word).filter(|word| word.kind == ConstraintKind::MustLink);
    for Constraint { a, b, .. } in words {
        if let (Some(&a), Some(&b)) = (ids.get(a), ids.get(b))
            && cluster(a) == cluster(b)
        {
            joined.join(a, b);
        }
    }
    for (id, members) in members(parts) {
        let roots: BTreeSet<usize> = members.iter().map(|face| joined.root(ids[&face.id])).collect();
        if roots.len() > 1 {
            let what = format!("cluster {id}, whose {} faces fall into {} parts,", members.len(), roots.len());
            broken.push(parts.broken(Check::Links, what));
        }
    }
}

/// Sets that are joined.
struct Joined(Vec<usize>);

impl Joined {
    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// Two faces of a frame, or of a cannot-link, are not in one cluster. To be asked of a settled collection.
pub fn apart(parts: &Parts, broken: &mut Vec<Broken>) {
    let clusters: HashMap<&FaceId, ClusterId> =
        members(parts).into_iter().flat_map(|(id, faces)| faces.into_iter().map(move |face| (&face.id, id))).collect();
    let mut frames: HashMap<(ClusterId, &FaceId), &FaceId> = HashMap::new();
    for (_, face) in &parts.faces {
        let (Some(frame), Some(&cluster)) = (&face.frame_id, clusters.get(&face.id)) else { continue };
        if let Some(other) = frames.insert((cluster, frame), &face.id) {
            let what = format!("cluster {cluster}, with {other} and {} of one frame,", face.id);
            broken.push(parts.broken(Check::Apart, what));
        }
    }
    let words = parts.constraints.iter().map(|(_, word)| word).filter(|word| word.kind == ConstraintKind::CannotLink);
    for Constraint { a, b, .. } in words {
        if let (Some(cluster), Some(other)) = (clusters.get(a), clusters.get(b))
            && cluster == other
        {
            let what = format!("cluster {cluster}, with {a} and {b}, which a cannot-link keeps apart,");
            broken.push(parts.broken(Check::Apart, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(id: u64, merged_into: Option<u64>) -> (ClusterId, Cluster) {
        let merged_into = merged_into.map(ClusterId);
        let id = ClusterId(id);
        (id, Cluster { id, merged_into, size: 0, version: 1, pinned: false, name: None })
    }

    fn checked(clusters: Vec<(ClusterId, Cluster)>) -> Vec<String> {
        let counters = Counters { cluster: 5, ..Counters::default() };
        let parts = Parts {
            name: CollectionName::new("lobby").unwrap(),
            record: CollectionRecord { counters, ..CollectionRecord::default() },
            faces: Vec::new(),
            nodes: Vec::new(),
            linkages: Vec::new(),
            clusters,
            constraints: Vec::new(),
            sum: Sum::default(),
        };
        let mut broken = Vec::new();
        super::clusters(&parts, &mut broken);
        broken.into_iter().map(|broken| broken.what).collect()
    }

    #[test]
    fn a_cluster_may_go_into_a_younger_one_but_not_into_itself() {
        assert!(checked(vec![cluster(1, Some(3)), cluster(2, Some(1)), cluster(3, None)]).is_empty());
        let circle = checked(vec![cluster(1, Some(3)), cluster(2, Some(1)), cluster(3, Some(2)), cluster(4, Some(2))]);
        assert_eq!(circle, ["cluster 1, which merged into itself,"]);
        assert_eq!(checked(vec![cluster(1, Some(4))]), ["cluster 4, which others merged into,"]);
        assert_eq!(checked(vec![cluster(6, None)]), ["cluster 6, beyond the 5 that were made,"]);
    }
}
