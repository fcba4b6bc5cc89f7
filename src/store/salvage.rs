//! What is left of a damaged collection, made to fit together again.
//!
//! A face stays when its record and its embedding can be read, with the home it had. What can be had
//! from that is made anew: ids, sizes, the records of clusters that are missing (their names and pins
//! are lost), counters. Linkages that are damaged go: they are scored again. Of a face that cannot
//! stay, what is left is handed out, but for one that was erased: of that nothing is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use super::StoreError;
use super::checks::{self, End, Parts};
use super::keys;
use super::look::Look;
use super::records::{CollectionRecord, LinkagesRecord};
use super::suppressed::Suppressed;
use super::vectors::{HEADER_BYTES, Surveyed, record_bytes};
use super::verify::vector_file;
use crate::engine::changes::{Constraint, FaceRecord};
use crate::engine::event::Cluster;
use crate::face::{Arrival, ClusterId, CollectionName, Embedding, NodeId};

/// A collection that fits together.
#[derive(Debug)]
pub struct Salvaged {
    pub record: CollectionRecord,
    pub faces: BTreeMap<NodeId, (FaceRecord, Embedding)>,
    pub linkages: BTreeMap<NodeId, LinkagesRecord>,
    pub clusters: BTreeMap<ClusterId, Cluster>,
    pub constraints: Vec<Constraint>,
    /// What is left of faces that could not stay, a line of JSON each.
    pub lost: Vec<String>,
    /// What was lost or made anew, for people.
    pub said: Vec<String>,
}

/// Makes of a collection what can be made. `record`: its own, if that can be read.
pub fn salvage(
    look: &Look,
    name: &CollectionName,
    record: Option<CollectionRecord>,
    suppressed: &Suppressed,
) -> Result<Salvaged, StoreError> {
    let mut said = Vec::new();
    let record = match record {
        Some(record) => record,
        None => {
            said.push("its own record: length and counters were taken from what is there".to_string());
            derived(look, name)?
        }
    };
    let mut damaged = Vec::new();
    let parts = Parts::read(&look.space, name, record, &mut damaged)?;
    let nodes_of = |prefix: &[u8]| {
        damaged.iter().filter(|key| key.starts_with(prefix)).filter_map(|key| keys::node_in(key)).collect::<Vec<_>>()
    };
    let without_record = nodes_of(&keys::faces(name));
    let linkages_lost = nodes_of(&keys::all_linkages(name)).len();
    for key in damaged.iter().filter(|key| key.starts_with(&keys::constraints(name))) {
        said.push(format!("a constraint, whose record is {}", key.escape_ascii()));
    }

    // Who lives, and has an embedding.
    let lives: HashSet<NodeId> = parts.faces.iter().map(|&(node, _)| node).chain(without_record.clone()).collect();
    let survey = vector_file(look, name, &record).survey(|node| lives.contains(&node))?;
    let arrivals = parts.faces.iter().map(|(node, face)| (*node, face.arrival));
    // Of one without a record it is not known, and nothing follows from it.
    let unknown = without_record.iter().map(|&node| (node, Arrival(u64::MAX)));
    let victims = survey.victims(&arrivals.chain(unknown).collect::<Vec<_>>());
    let mut salvager = Salvager { name, parts: &parts, embeddings: survey.embeddings, lost: Vec::new(), said };
    let mut faces = salvager.faces(&victims, suppressed);
    salvager.without_record(&without_record);
    let ambiguous = salvager.arrivals(&mut faces);
    let linkages = salvager.linkages(&faces, &ambiguous, linkages_lost);
    let clusters = salvager.clusters(&faces);
    let constraints = salvager.constraints(&faces);

    let mut record =
        CollectionRecord { generation: 1, records: faces.len() as u64, faces: faces.len() as u64, ..record };
    let counters = &mut record.counters;
    let last_arrival = faces.values().map(|(face, _)| face.arrival.0).max().unwrap_or(0);
    let candidates = linkages.values().flat_map(|record| record.linkages.iter().map(|linkage| linkage.candidate.0));
    counters.arrival = counters.arrival.max(last_arrival).max(candidates.max().unwrap_or(0));
    counters.cluster = counters.cluster.max(clusters.keys().map(|id| id.0).max().unwrap_or(0));
    let Salvager { lost, said, .. } = salvager;
    Ok(Salvaged { record, faces, linkages, clusters, constraints, lost, said })
}

/// The record of a collection, from its vector file. A compaction that died leaves two; the older is whole.
fn derived(look: &Look, name: &CollectionName) -> Result<CollectionRecord, StoreError> {
    let files = look.directory.vector_files()?.into_iter().filter(|file| file.collection == *name);
    let Some(generation) = files.map(|file| file.generation).min() else { return Ok(CollectionRecord::default()) };
    let path = look.directory.vectors(name, generation);
    let bytes = std::fs::metadata(&path).map_err(StoreError::io(&path))?.len();
    let records = bytes.saturating_sub(HEADER_BYTES as u64) / record_bytes(look.identity.dimension) as u64;
    Ok(CollectionRecord { generation, records, ..CollectionRecord::default() })
}

struct Salvager<'a> {
    name: &'a CollectionName,
    parts: &'a Parts,
    embeddings: HashMap<NodeId, Surveyed>,
    lost: Vec<String>,
    said: Vec<String>,
}

type Faces = BTreeMap<NodeId, (FaceRecord, Embedding)>;

impl Salvager<'_> {
    fn faces(&mut self, victims: &HashSet<NodeId>, suppressed: &Suppressed) -> Faces {
        // Of faces that share an id, the one it leads to; else the one that came last.
        let led_to: HashSet<NodeId> = self.parts.nodes.iter().map(|&(_, node)| node).collect();
        let mut by_id: BTreeMap<_, (bool, Arrival, NodeId)> = BTreeMap::new();
        for (node, face) in &self.parts.faces {
            let candidate = (led_to.contains(node), face.arrival, *node);
            let best = by_id.entry(&face.id).or_insert(candidate);
            *best = candidate.max(*best);
        }
        let mut faces = Faces::new();
        let mut erased = 0;
        for (node, face) in &self.parts.faces {
            let embedding = self.embeddings.get(node).map(|surveyed| surveyed.embedding.clone());
            if suppressed.contains(self.name, &face.id) {
                erased += 1;
                continue;
            }
            let why = match &embedding {
                None => "its embedding is damaged",
                Some(_) if victims.contains(node) => {
                    "its embedding may be another's: a damaged record was its own or not"
                }
                Some(embedding) if !checks::is_normal(embedding) => "its embedding is not of length 1",
                Some(_) if by_id.get(&face.id).is_some_and(|best| best.2 != *node) => "another face has its id",
                Some(embedding) => {
                    faces.insert(*node, (face.clone(), embedding.clone()));
                    continue;
                }
            };
            let left = json!({ "face_id": face.id, "record": face });
            self.lose(*node, why, left);
        }
        if erased > 0 {
            self.said.push(format!("{erased} faces that were erased for good: nothing of them was kept"));
        }
        faces
    }

    fn without_record(&mut self, nodes: &[NodeId]) {
        let ids: HashMap<NodeId, &keys::Key> = self.parts.nodes.iter().map(|(key, node)| (*node, key)).collect();
        for &node in nodes {
            let id = ids.get(&node).and_then(|key| keys::face_id_in(key, self.name));
            self.lose(node, "its record is damaged", json!({ "face_id": id }));
        }
    }

    fn lose(&mut self, node: NodeId, why: &str, mut left: Value) {
        let place = self.parts.linkages.binary_search_by_key(&node, |&(of, _)| of).ok();
        let linkages = place.map(|place| &self.parts.linkages[place].1.linkages);
        left["collection"] = json!(self.name);
        left["node"] = json!(node);
        left["why"] = json!(why);
        left["embedding"] = json!(self.embeddings.get(&node).map(|surveyed| surveyed.embedding.values().to_vec()));
        left["linkages"] = json!(linkages);
        self.said.push(match left["face_id"].as_str() {
            Some(id) => format!("face {id}: {why}"),
            None => format!("the face of node {node}: {why}"),
        });
        self.lost.push(left.to_string());
    }

    /// Gives faces whose arrival another has, or nobody, a new one. Answers the arrivals that two had.
    fn arrivals(&mut self, faces: &mut Faces) -> HashSet<Arrival> {
        let mut last = faces.values().map(|(face, _)| face.arrival.0).max().unwrap_or(0);
        last = last.max(self.parts.record.counters.arrival);
        let (mut given, mut ambiguous) = (HashSet::new(), HashSet::new());
        for (face, _) in faces.values_mut() {
            if face.arrival.0 == 0 || !given.insert(face.arrival) {
                ambiguous.insert(face.arrival);
                last += 1;
                face.arrival = Arrival(last);
                self.said.push(format!("the arrival of face {}: it has a new one", face.id));
            }
        }
        ambiguous
    }

    fn linkages(
        &mut self,
        faces: &Faces,
        ambiguous: &HashSet<Arrival>,
        unreadable: usize,
    ) -> BTreeMap<NodeId, LinkagesRecord> {
        let last =
            self.parts.record.counters.arrival.max(faces.values().map(|(face, _)| face.arrival.0).max().unwrap_or(0));
        let mut dropped = unreadable;
        let mut kept = BTreeMap::new();
        for (node, record) in &self.parts.linkages {
            let Some((face, _)) = faces.get(node) else {
                // Of a face that was lost they were handed out with it.
                dropped += usize::from(self.parts.face(*node).is_none());
                continue;
            };
            let is_clear = record.linkages.iter().all(|linkage| !ambiguous.contains(&linkage.candidate));
            if is_clear && checks::are_linkages(record, face, last) {
                kept.insert(*node, record.clone());
            } else {
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.said.push(format!("the linkages of {dropped} faces: they are scored again"));
        }
        kept
    }

    fn clusters(&mut self, faces: &Faces) -> BTreeMap<ClusterId, Cluster> {
        let mut clusters: BTreeMap<ClusterId, Cluster> =
            self.parts.clusters.iter().map(|(id, cluster)| (*id, Cluster { id: *id, ..cluster.clone() })).collect();
        let homes: BTreeSet<ClusterId> = faces.values().map(|(face, _)| face.home).collect();
        let into = clusters.values().filter_map(|cluster| cluster.merged_into);
        let missing: BTreeSet<ClusterId> =
            homes.iter().copied().chain(into).filter(|id| !clusters.contains_key(id)).collect();
        for id in missing {
            self.said.push(format!("the record of cluster {id}: it has no name and no pin any more"));
            let cluster = Cluster { id, merged_into: None, size: 0, version: 1, pinned: false, name: None };
            clusters.insert(id, cluster);
        }
        let merges = |clusters: &BTreeMap<ClusterId, Cluster>| -> HashMap<ClusterId, Option<ClusterId>> {
            clusters.values().map(|cluster| (cluster.id, cluster.merged_into)).collect()
        };
        let circles: BTreeSet<End> = checks::ends(&merges(&clusters)).into_values().collect();
        for end in circles {
            if let End::Circle(id) = end {
                self.said.push(format!("where cluster {id} went: it lives again"));
                clusters.entry(id).and_modify(|cluster| cluster.merged_into = None);
            }
        }
        let ends = checks::ends(&merges(&clusters));
        let mut sizes: HashMap<ClusterId, u32> = HashMap::new();
        for (face, _) in faces.values() {
            if let Some(End::Living(cluster)) = ends.get(&face.home) {
                *sizes.entry(*cluster).or_default() += 1;
            }
        }
        for cluster in clusters.values_mut().filter(|cluster| cluster.lives()) {
            cluster.size = sizes.get(&cluster.id).copied().unwrap_or(0);
        }
        // One that nobody needs may be the only one to need another.
        loop {
            let merged = clusters.values().filter_map(|cluster| cluster.merged_into);
            let used: BTreeSet<ClusterId> = homes.iter().copied().chain(merged).collect();
            let before = clusters.len();
            clusters.retain(|id, _| used.contains(id));
            if clusters.len() == before {
                return clusters;
            }
        }
    }

    fn constraints(&mut self, faces: &Faces) -> Vec<Constraint> {
        let there: HashSet<_> = faces.values().map(|(face, _)| &face.id).collect();
        let mut kept: BTreeMap<keys::Key, Constraint> = BTreeMap::new();
        for (_, word) in &self.parts.constraints {
            if word.a != word.b && there.contains(&word.a) && there.contains(&word.b) {
                kept.insert(keys::constraint(self.name, &word.a, &word.b), word.clone());
            } else {
                self.said.push(format!("the constraint of faces {} and {}", word.a, word.b));
            }
        }
        kept.into_values().collect()
    }
}
