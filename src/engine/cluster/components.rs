//! Which faces can end up in one cluster: components of the pairs that connect.
//!
//! A pair connects when its linkage is above τ_off, or an operator says that it is one person. No
//! merging rule joins what no pair connects, so a change concerns its component and no other.
//! Components are kept while linkages come and go: joining two costs the smaller one's size; whether
//! one came apart is found out by walking it, once a batch and only when a pair in it was lost.

use std::collections::BTreeSet;

use super::linkages::ChangedPair;
use crate::engine::merging::Weight;
use crate::face::NodeId;

/// A component's number; given again once the component is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId(u32);

const NONE: ComponentId = ComponentId(u32::MAX);

/// Faces that pairs connect.
#[derive(Debug, Default, Clone)]
pub struct Component {
    pub members: Vec<NodeId>,
    /// A pair in it was lost since it was last walked.
    pub may_have_split: bool,
    /// Faces touched since its clusters were last computed from its faces.
    pub changes: usize,
    /// It is too large to compute at every change, and did change.
    pub owed: bool,
    /// Its clusters hold together by τ_off, which ends when the collection settles.
    pub held: bool,
}

/// The components of a collection.
#[derive(Debug)]
pub struct Components {
    /// Pairs above it connect.
    threshold: Weight,
    /// By node.
    of: Vec<ComponentId>,
    /// By node: its place among its component's members.
    places: Vec<u32>,
    components: Vec<Component>,
    free: Vec<ComponentId>,
    /// Changed since [`Components::take_changed`].
    changed: BTreeSet<ComponentId>,
    owed: BTreeSet<ComponentId>,
    held: BTreeSet<ComponentId>,
}

impl Components {
    pub fn new(threshold: Weight) -> Components {
        Components {
            threshold,
            of: Vec::new(),
            places: Vec::new(),
            components: Vec::new(),
            free: Vec::new(),
            changed: BTreeSet::new(),
            owed: BTreeSet::new(),
            held: BTreeSet::new(),
        }
    }

    pub fn connects(&self, weight: Weight) -> bool {
        weight > self.threshold
    }

    /// A face that nobody is connected with yet.
    pub fn add(&mut self, node: NodeId) {
        if self.of.len() <= node.index() {
            self.of.resize(node.index() + 1, NONE);
            self.places.resize(node.index() + 1, 0);
        }
        let id = self.make(Component::default());
        self.enter(id, node);
        self.touch(id);
    }

    /// Takes out a face whose pairs are gone already.
    pub fn remove(&mut self, node: NodeId) {
        let id = std::mem::replace(&mut self.of[node.index()], NONE);
        let place = self.places[node.index()];
        let component = self.get_mut(id);
        component.members.swap_remove(place as usize);
        component.may_have_split = true;
        match component.members.get(place as usize).copied() {
            Some(moved) => self.places[moved.index()] = place,
            None if component.members.is_empty() => return self.drop_component(id),
            None => {}
        }
        self.touch(id);
    }

    fn enter(&mut self, id: ComponentId, node: NodeId) {
        let members = &mut self.get_mut(id).members;
        members.push(node);
        self.places[node.index()] = members.len() as u32 - 1;
        self.of[node.index()] = id;
    }

    /// Hears of a pair whose linkage changed.
    pub fn hear(&mut self, pair: &ChangedPair) {
        let connected = pair.before.is_some_and(|weight| self.connects(weight));
        let connects = pair.after.is_some_and(|weight| self.connects(weight));
        if connects {
            self.join(pair.a, pair.b);
            return;
        }
        let (a, b) = (self.of[pair.a.index()], self.of[pair.b.index()]);
        if connected {
            self.lose(a);
        }
        // Between components a weak pair says nothing; inside one it counts as evidence.
        if a == b {
            self.touch(a);
        }
    }

    /// Connects two faces.
    pub fn join(&mut self, a: NodeId, b: NodeId) {
        let (a, b) = (self.of[a.index()], self.of[b.index()]);
        if a != b {
            let a_is_larger = self.get(a).members.len() >= self.get(b).members.len();
            let (larger, smaller) = if a_is_larger { (a, b) } else { (b, a) };
            let absorbed = std::mem::take(self.get_mut(smaller));
            self.drop_component(smaller);
            for &member in &absorbed.members {
                self.enter(larger, member);
            }
            let component = self.get_mut(larger);
            component.may_have_split |= absorbed.may_have_split;
            component.changes = component.changes.saturating_add(absorbed.changes);
            if absorbed.owed {
                self.owe(larger);
            }
            if absorbed.held {
                self.set_held(larger, true);
            }
        }
        self.touch(self.of_component(a, b));
    }

    /// Of two components that were just joined, the one that is left.
    fn of_component(&self, a: ComponentId, b: ComponentId) -> ComponentId {
        if self.get(a).members.is_empty() { b } else { a }
    }

    /// Two faces of it are no longer connected directly.
    fn lose(&mut self, id: ComponentId) {
        self.get_mut(id).may_have_split = true;
        self.touch(id);
    }

    /// Two faces are no longer connected by an operator's word.
    pub fn part(&mut self, a: NodeId) {
        self.lose(self.of[a.index()]);
    }

    /// Something about a face changed that is no linkage.
    pub fn touch_face(&mut self, node: NodeId) {
        self.touch(self.of[node.index()]);
    }

    /// Counts a face that was touched.
    pub fn count(&mut self, node: NodeId) {
        let id = self.of(node);
        let component = self.get_mut(id);
        component.changes = component.changes.saturating_add(1);
    }

    /// Has the component of a face be computed from its faces at the next step, however large it is.
    pub fn demand(&mut self, node: NodeId) {
        let id = self.of(node);
        self.get_mut(id).changes = usize::MAX;
        self.touch(id);
    }

    fn touch(&mut self, id: ComponentId) {
        self.changed.insert(id);
    }

    /// The components that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<ComponentId> {
        std::mem::take(&mut self.changed)
    }

    pub fn owed(&self) -> &BTreeSet<ComponentId> {
        &self.owed
    }

    pub fn held(&self) -> &BTreeSet<ComponentId> {
        &self.held
    }

    pub fn get(&self, id: ComponentId) -> &Component {
        &self.components[id.0 as usize]
    }

    /// By number; empty where there is none of it.
    pub fn all(&self) -> &[Component] {
        &self.components
    }

    fn get_mut(&mut self, id: ComponentId) -> &mut Component {
        &mut self.components[id.0 as usize]
    }

    pub fn of(&self, node: NodeId) -> ComponentId {
        self.of[node.index()]
    }

    /// Notes that a component's clusters are to be computed when there is time.
    pub fn owe(&mut self, id: ComponentId) {
        self.get_mut(id).owed = true;
        self.owed.insert(id);
    }

    /// Notes that a component's clusters are computed from its faces.
    pub fn computed(&mut self, id: ComponentId, held: bool) {
        let component = self.get_mut(id);
        component.changes = 0;
        component.owed = false;
        self.owed.remove(&id);
        self.set_held(id, held);
    }

    fn set_held(&mut self, id: ComponentId, held: bool) {
        self.get_mut(id).held = held;
        match held {
            true => self.held.insert(id),
            false => self.held.remove(&id),
        };
    }

    /// Walks a component that may have come apart along `connected` and makes one of each part.
    /// Answers the parts; the first has the old number.
    pub fn walk(&mut self, id: ComponentId, connected: impl Fn(NodeId, &mut Vec<NodeId>)) -> Vec<ComponentId> {
        if !std::mem::take(&mut self.get_mut(id).may_have_split) {
            return vec![id];
        }
        let members = std::mem::take(&mut self.get_mut(id).members);
        for member in &members {
            self.of[member.index()] = NONE;
        }
        let mut parts = Vec::new();
        let mut found = Vec::new();
        for &start in &members {
            if self.of[start.index()] != NONE {
                continue;
            }
            let part = if parts.is_empty() { id } else { self.make(Component::default()) };
            self.enter(part, start);
            let mut next = 0;
            while let Some(&reached) = self.get(part).members.get(next) {
                connected(reached, &mut found);
                for neighbour in found.drain(..) {
                    if self.of[neighbour.index()] == NONE {
                        self.enter(part, neighbour);
                    }
                }
                next += 1;
            }
            parts.push(part);
        }
        parts
    }

    fn make(&mut self, component: Component) -> ComponentId {
        match self.free.pop() {
            Some(id) => {
                self.components[id.0 as usize] = component;
                id
            }
            None => {
                self.components.push(component);
                ComponentId(self.components.len() as u32 - 1)
            }
        }
    }

    fn drop_component(&mut self, id: ComponentId) {
        *self.get_mut(id) = Component::default();
        self.changed.remove(&id);
        self.owed.remove(&id);
        self.held.remove(&id);
        self.free.push(id);
    }

    /// The number of faces of the largest.
    pub fn largest(&self) -> usize {
        self.components.iter().map(|component| component.members.len()).max().unwrap_or(0)
    }
}
