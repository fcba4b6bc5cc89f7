//! Step 5, cluster: linkages to clusters, and clusters to changes.
//!
//! [`linkages`] holds every candidate pair, [`components`] which faces they connect, [`constraints`]
//! an operator's words. A batch changes some pairs; the components they are in, and no others, go
//! through the merging rule ([`super::merging`]), and [`reconcile`] tells the [`book`] of clusters
//! what became of each.
//!
//! Cost: that of the merging rule on the components that changed. A component above `max_component`
//! is extended greedily instead ([`extend`]), at the cost of the clusters it changed in, and computed
//! from its faces when there is time: in a quiet moment, or once enough of it has been touched
//! (`patience`). Measured on 13,233 real faces, half of them in one component: before settling the
//! pairwise F was 1.0 below the batch's when it was computed once one face in 32 was touched, 1.6 with
//! one in 6, and 3.2 with all of them.

mod audit;
mod book;
mod components;
mod constraints;
mod extend;
mod linkages;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::changes::{Constraint, ConstraintKind};
use super::event::Cause;
use super::faces::Faces;
use super::link::Scored;
use super::merging::{self, Item, Pair, Together, Weight};
use super::snapshot::{AsComputed, UNSETTLED};
use crate::face::{FaceId, NodeId, Place};
use crate::model::artefact::Merging;
use crate::rejection::Rejection;
pub use audit::Differing;
pub use book::{Book, Home, Seat};
use components::{ComponentId, Components};
use constraints::{Constraints, Given};
pub use linkages::{Linkages, Partner};
use reconcile::{Part, reconcile};

/// A linkage to another cluster above this puts a face between the two.
const BETWEEN: f32 = 0.1;

/// How components become clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSettings {
    pub merging: Merging,
    /// Faces of a component up to which it is computed at every change.
    pub max_component: usize,
    /// Faces of lower quality may join a cluster but never bridge two. 0: none is that poor.
    pub quality_floor: f32,
}

/// What a store kept of the clusters.
#[derive(Debug, Default)]
pub struct RestoredClusters {
    pub book: Book,
    pub linkages: Vec<Scored>,
    pub constraints: Vec<Constraint>,
    /// What is known of whether the clusters are what the merging rule gives.
    pub as_computed: Option<AsComputed>,
}

/// A stale face, and one it has met: it may not have been scored with that one yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub node: NodeId,
    pub candidate: NodeId,
}

/// What the step may do in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// There is time for a component that is owed.
    pub idle: bool,
    /// No face is stale: hysteresis ends.
    pub fresh: bool,
}

/// Everything about who is with whom.
#[derive(Debug)]
pub struct Clusters {
    settings: ClusterSettings,
    linkages: Linkages,
    components: Components,
    constraints: Constraints,
    book: Book,
    /// Who was touched in this batch, and by what.
    causes: BTreeMap<NodeId, Cause>,
    /// By node: its number in the component at hand.
    local: Vec<u32>,
    /// Faces of components computed since last asked.
    reclustered: usize,
}

impl Clusters {
    pub fn new(settings: ClusterSettings) -> Clusters {
        Clusters {
            linkages: Linkages::new(settings.merging),
            components: Components::new(Weight::of(settings.merging.threshold_off)),
            constraints: Constraints::default(),
            book: Book::default(),
            causes: BTreeMap::new(),
            local: Vec::new(),
            reclustered: 0,
            settings,
        }
    }

    /// Goes on from what a store kept of `faces`, which are in the table already; `waiting` are those that are stale.
    pub fn restore(
        settings: ClusterSettings,
        faces: &Faces,
        restored: RestoredClusters,
        waiting: impl Iterator<Item = Waiting>,
    ) -> Clusters {
        let mut clusters = Clusters::new(settings);
        clusters.grow(faces.slots());
        for node in faces.live() {
            clusters.components.add(node);
        }
        for scored in &restored.linkages {
            clusters.rescore(scored, None);
        }
        for Waiting { node, candidate } in waiting {
            clusters.presume(node, candidate);
        }
        clusters.constraints = Constraints::restore(restored.constraints, faces);
        for node in faces.live() {
            for other in clusters.constraints.must_be_with(node) {
                clusters.components.join(node, other);
            }
        }
        // A component that was owed may have come apart, and its clusters reach across the parts. It is
        // one until it is walked, as it was: whoever computes or extends it has whole clusters in sight.
        for node in faces.live() {
            let cluster = restored.book.cluster_of(node);
            let Some(&first) = cluster.and_then(|cluster| restored.book.members(cluster).first()) else { continue };
            if clusters.components.of(first) != clusters.components.of(node) {
                clusters.components.join(first, node);
                clusters.components.part(first);
            }
        }
        // They are as they were computed, up to what hysteresis held or was owed. Where no snapshot tells,
        // finding that out costs as much as computing, which is done when the collection settles.
        let rules = clusters.rules();
        let as_computed = restored.as_computed.filter(|as_computed| as_computed.rules == rules);
        for id in clusters.components.take_changed() {
            let members = &clusters.components.get(id).members;
            let cluster_of = |node: NodeId| restored.book.cluster_of(node);
            let is_computed = as_computed.as_ref().is_some_and(|then| then.holds(members, cluster_of));
            let may_be_held = members.len() > 1 && !is_computed;
            clusters.components.computed(id, may_be_held);
        }
        clusters.book = restored.book;
        clusters
    }

    /// Stands for all that the clusters of a component go by beside its faces and linkages.
    pub fn rules(&self) -> [u8; 32] {
        let mut sha = Sha256::new();
        let ClusterSettings { merging, quality_floor, max_component: _ } = &self.settings;
        sha.update(format!("{merging:?} {}", quality_floor.to_bits()));
        for Constraint { kind, a, b, .. } in self.constraints.words() {
            let (a, b) = (a.as_str(), b.as_str());
            sha.update(format!("{kind:?} {} {a} {} {b}", a.len(), b.len()));
        }
        sha.finalize().into()
    }

    /// Of each node, the number of its component, where its clusters are what the merging rule gives.
    pub fn settled_components(&self, slots: usize) -> Vec<u32> {
        let mut settled = vec![UNSETTLED; slots];
        for (number, component) in (0..).zip(self.components.all()) {
            if !component.owed && !component.held {
                component.members.iter().for_each(|member| settled[member.index()] = number);
            }
        }
        settled
    }

    /// Makes room for nodes up to `slots`.
    pub fn grow(&mut self, slots: usize) {
        self.linkages.grow(slots);
        self.local.resize(slots.max(self.local.len()), 0);
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    pub fn book_mut(&mut self) -> &mut Book {
        &mut self.book
    }

    pub fn merging(&self) -> &Merging {
        &self.settings.merging
    }

    pub fn linkages(&self) -> &Linkages {
        &self.linkages
    }

    /// Whether a face has a linkage worth the name to another cluster than its own: clusters may change by it.
    /// Cost: O(its partners).
    pub fn is_between(&self, node: NodeId) -> bool {
        let (home, least) = (self.book.cluster_of(node), Weight::of(BETWEEN));
        let is_other = |partner: Partner| partner.weight > least && self.book.cluster_of(partner.node) != home;
        self.linkages.partners(node).any(is_other)
    }

    pub fn constraints(&self) -> usize {
        self.constraints.len()
    }

    /// Whom an operator tied a face to.
    pub fn must_be_with(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.constraints.must_be_with(node)
    }

    /// What operators said of faces that are there, or may come back.
    pub fn words(&self) -> impl Iterator<Item = &Constraint> {
        self.constraints.words()
    }

    pub fn take_constraints(&mut self) -> constraints::ChangedWords {
        self.constraints.take_changed()
    }

    /// Faces of components that are to be computed when there is time.
    pub fn owed_faces(&self) -> usize {
        self.components.owed().iter().map(|&id| self.components.get(id).members.len()).sum()
    }

    /// Whether clusters are what the merging rule gives on the linkages as they are.
    pub fn is_settled(&self) -> bool {
        self.components.owed().is_empty() && self.components.held().is_empty()
    }

    pub fn largest_component(&self) -> usize {
        self.components.largest()
    }

    pub fn take_reclustered(&mut self) -> usize {
        std::mem::take(&mut self.reclustered)
    }

    // --- what happened, before the step

    /// A face is new; it goes into its first cluster with the step.
    pub fn arrive(&mut self, node: NodeId, cause: Cause) {
        self.components.add(node);
        self.causes.insert(node, cause);
    }

    /// A face is erased: its cluster hears of it at once.
    pub fn erase(&mut self, node: NodeId, faces: &Faces, cause: Cause) {
        self.forget_linkages(node, cause);
        for tied in self.constraints.forget(node, faces) {
            self.components.part(tied);
        }
        self.components.remove(node);
        self.causes.remove(&node);
        if self.book.seat(node).is_some() {
            self.book.erase(node, faces.id(node).clone(), cause);
        }
    }

    /// The linkages of a face say nothing any more.
    fn forget_linkages(&mut self, node: NodeId, cause: Cause) {
        for pair in self.linkages.remove(node) {
            self.components.hear(&pair);
            self.causes.entry(pair.b).or_insert(cause);
        }
        self.components.touch_face(node);
        self.causes.entry(node).or_insert(cause);
    }

    /// A face has another embedding, and maybe another frame: what was known of its linkages is not so
    /// any more, and it may not stay with a face of that frame.
    pub fn replace(&mut self, node: NodeId, cause: Cause) {
        self.forget_linkages(node, cause);
        self.components.demand(node);
    }

    /// A face was scored.
    pub fn rescore(&mut self, scored: &Scored, cause: Option<Cause>) {
        for pair in self.linkages.replace(scored) {
            self.components.hear(&pair);
        }
        if let Some(cause) = cause {
            self.causes.entry(scored.node).or_insert(cause);
        }
    }

    /// A stale face has met `candidate` and is still to be scored with it: until then what the candidate says of the two
    /// stands for what the face will say. Else half of all that speaks for a newcomer would wait for the others' turn.
    pub fn presume(&mut self, node: NodeId, candidate: NodeId) {
        if let Some(pair) = self.linkages.presume(node, candidate) {
            self.components.hear(&pair);
        }
    }

    /// An operator's word. False: it stands already.
    pub fn constrain(&mut self, constraint: Constraint, faces: &Faces) -> Result<bool, Rejection> {
        match self.constraints.give(constraint, faces)? {
            Given::Known => Ok(false),
            Given::New { kind, a, b } => {
                match kind {
                    ConstraintKind::MustLink => self.components.join(a, b),
                    // To take faces apart is more than extending can do.
                    ConstraintKind::CannotLink => self.components.demand(a),
                }
                self.said(a, b);
                Ok(true)
            }
        }
    }

    /// Takes an operator's word back. False: there was none.
    pub fn release(&mut self, a: &FaceId, b: &FaceId, faces: &Faces) -> bool {
        let Some(Given::New { a, b, .. }) = self.constraints.release(a, b, faces) else { return false };
        self.components.part(a);
        self.components.part(b);
        self.said(a, b);
        true
    }

    fn said(&mut self, a: NodeId, b: NodeId) {
        self.causes.entry(a).or_insert(Cause::Api);
        self.causes.entry(b).or_insert(Cause::Api);
    }

    // --- the step

    /// Brings the clusters up to date with all that was said since the last step.
    pub fn step(&mut self, faces: &Faces, mode: Mode) {
        for &node in self.causes.keys() {
            self.components.count(node);
        }
        let mut wanted = BTreeSet::new();
        let mut large = BTreeSet::new();
        for id in self.components.take_changed() {
            let component = self.components.get(id);
            let size = component.members.len();
            if size <= self.settings.max_component || component.changes >= self.patience(size) {
                wanted.extend(self.walk(id));
            } else {
                self.components.owe(id);
                large.insert(id);
            }
        }
        if mode.idle {
            // One a batch, so that who arrives meanwhile waits for one and not for all.
            let owed = self.components.owed().first().copied();
            wanted.extend(owed.into_iter().flat_map(|id| self.walk(id)));
        }
        if mode.fresh {
            wanted.extend(self.held_at_once().into_iter().flat_map(|id| self.walk(id)));
        }
        let mut parts: Vec<Part> = wanted.iter().flat_map(|&id| self.compute(id, faces, !mode.fresh)).collect();
        for id in large.difference(&wanted) {
            parts.extend(self.extend(*id, faces));
        }
        let causes = &self.causes;
        let arrival_cause = |node: NodeId| causes.get(&node).copied().unwrap_or(Cause::Refresh);
        reconcile(&mut self.book, faces, parts, arrival_cause);
        self.causes.clear();
    }

    /// How many of its faces are touched before a large component is computed though there is no quiet
    /// moment: one in 32 just above `max_component`, and a share that grows with it up to all of them. So
    /// the work a touched face is bounded, and the larger the pause, the rarer it is.
    fn patience(&self, size: usize) -> usize {
        (size.saturating_mul(size) / self.settings.max_component.saturating_mul(32)).min(size)
    }

    /// The parts into which a component has come apart, itself if it has not.
    fn walk(&mut self, id: ComponentId) -> Vec<ComponentId> {
        let (linkages, constraints) = (&self.linkages, &self.constraints);
        let threshold = Weight::of(self.settings.merging.threshold_off);
        self.components.walk(id, |node, connected| {
            let near = linkages.partners(node).filter(|partner| partner.weight > threshold);
            connected.extend(near.map(|partner| partner.node));
            connected.extend(constraints.must_be_with(node));
        })
    }

    /// The held components whose turn it is. After a restart all are, so no more at once than would be
    /// computed at a change of one: who arrives meanwhile waits for these and not for all.
    fn held_at_once(&self) -> Vec<ComponentId> {
        let mut faces = 0;
        let held = self.components.held().iter().filter(|&&id| !self.components.get(id).owed);
        let has_room = |id: &&ComponentId| {
            let fits = faces < self.settings.max_component;
            faces = faces.saturating_add(self.components.get(**id).members.len());
            fits
        };
        held.take_while(has_room).copied().collect()
    }

    /// Computes a component from its faces. Answers the parts that are not the clusters they were.
    fn compute(&mut self, id: ComponentId, faces: &Faces, hysteresis: bool) -> Vec<Part> {
        let mut members = self.components.get(id).members.clone();
        self.reclustered += members.len();
        members.sort_unstable_by(|&a, &b| faces.id(a).cmp(faces.id(b)));
        let component = self.component(&members, faces, hysteresis);
        let clustering = merging::cluster(&component, &self.settings.merging);
        self.components.computed(id, clustering.held);
        let cause = self.cause_of(&members);
        let parts = together(&members, &clustering.labels).into_iter();
        parts.filter(|faces| !self.is_a_cluster(faces)).map(|faces| Part::new(faces, cause)).collect()
    }

    /// Whether these faces, and no others, are a cluster already.
    fn is_a_cluster(&self, part: &[NodeId]) -> bool {
        let Some(cluster) = part.first().and_then(|&node| self.book.cluster_of(node)) else { return false };
        self.book.members(cluster).len() == part.len()
            && part.iter().all(|&node| self.book.cluster_of(node) == Some(cluster))
    }

    /// What the merging rule reads of a component; its faces in order of face_id.
    fn component(&mut self, members: &[NodeId], faces: &Faces, hysteresis: bool) -> merging::Component {
        for (number, node) in (0..).zip(members) {
            self.local[node.index()] = number;
        }
        let number_in = |node: NodeId| {
            let number = self.local[node.index()];
            (members.get(number as usize) == Some(&node)).then_some(number)
        };
        let mut component = merging::Component::default();
        for (a, &node) in (0..).zip(members) {
            component.items.push(Item {
                size: 1,
                weak: self.is_weak(node, faces),
                held: self.book.cluster_of(node).filter(|_| hysteresis).map(|cluster| cluster.0),
            });
            let partners = self.linkages.partners(node).filter(|partner| partner.node > node);
            component.pairs.extend(partners.filter_map(|partner| {
                let b = number_in(partner.node)?;
                Some(Pair { a, b, weight: partner.weight, count: 1 })
            }));
            let must = self.constraints.must_be_with(node).filter(|&other| other > node);
            component.must.extend(must.filter_map(|other| Some(Together { a, b: number_in(other)? })));
            let cannot = self.constraints.must_not_be_with(node).filter(|&other| other > node);
            component.apart.extend(cannot.filter_map(|other| Some(vec![a, number_in(other)?])));
        }
        component.apart.extend(frames((0..).zip(members).map(|(number, &node)| InFrame { number, node }), faces));
        component
    }

    /// Whether a face is too poor to bridge two clusters.
    fn is_weak(&self, node: NodeId, faces: &Faces) -> bool {
        faces.quality(node).is_some_and(|quality| quality < self.settings.quality_floor)
    }

    /// What changed these faces: the first of them to come, else whatever touched one, else that
    /// they were scored again.
    fn cause_of(&self, members: &[NodeId]) -> Cause {
        let causes = members.iter().filter_map(|node| self.causes.get(node));
        causes.min_by_key(|cause| precedence(cause)).copied().unwrap_or(Cause::Refresh)
    }
}

/// The order in which causes are named where several meet.
fn precedence(cause: &Cause) -> (u8, Option<Place>) {
    match cause {
        Cause::Record(place) => (0, Some(*place)),
        Cause::Api => (1, None),
        Cause::Expired => (2, None),
        Cause::Refresh => (3, None),
    }
}

/// Faces by label.
fn together(members: &[NodeId], labels: &[u32]) -> Vec<Vec<NodeId>> {
    let mut parts: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    for (&node, &label) in members.iter().zip(labels) {
        parts.entry(label).or_default().push(node);
    }
    parts.into_values().collect()
}

/// A face of an item of a component.
struct InFrame {
    number: u32,
    node: NodeId,
}

/// The items that share a frame: two faces of one frame are never one person.
fn frames(items: impl Iterator<Item = InFrame>, faces: &Faces) -> Vec<Vec<u32>> {
    let mut frames: FxHashMap<&FaceId, Vec<u32>> = FxHashMap::default();
    for InFrame { number, node } in items {
        if let Some(frame) = faces.frame(node) {
            frames.entry(frame).or_default().push(number);
        }
    }
    frames.into_values().filter(|items| items.len() > 1).collect()
}
