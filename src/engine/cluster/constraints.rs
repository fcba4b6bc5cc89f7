//! What an operator said of two faces: that they are one person, or never are.
//!
//! Kept by face_id, so that it can be audited and survives a new embedding; it ends when either face
//! is erased. Words that contradict each other are refused when they are given. Cost: O(log n) a
//! word, and walking those tied together.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::changes::{Constraint, ConstraintKind, PairOfFaces, Released};
use crate::engine::faces::Faces;
use crate::face::{FaceId, NodeId};
use crate::rejection::{Reason, Rejection};

/// The constraints of a collection.
#[derive(Debug, Default)]
pub struct Constraints {
    words: BTreeMap<PairOfFaces, Constraint>,
    /// By node: the faces it must be with.
    must: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// By node: the faces it must not be with.
    cannot: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Written or ended since last asked.
    changed: BTreeSet<PairOfFaces>,
}

/// What a new word changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It stands already.
    Known,
    New {
        kind: ConstraintKind,
        a: NodeId,
        b: NodeId,
    },
}

/// What is to be written of the constraints.
#[derive(Debug, Default)]
pub struct ChangedWords {
    pub given: Vec<Constraint>,
    pub released: Vec<Released>,
}

impl Constraints {
    /// As the store kept them; of faces that are there.
    pub fn restore(constraints: Vec<Constraint>, faces: &Faces) -> Constraints {
        let mut restored = Constraints::default();
        for constraint in constraints {
            if let (Some(a), Some(b)) = (faces.node(&constraint.a), faces.node(&constraint.b)) {
                restored.tie(constraint.kind, a, b);
                restored.words.insert(PairOfFaces::new(&constraint.a, &constraint.b), constraint);
            }
        }
        restored
    }

    /// Every word, in order of face_id.
    pub fn words(&self) -> impl Iterator<Item = &Constraint> {
        self.words.values()
    }

    /// Takes a word, unless it contradicts an earlier one or a frame.
    pub fn give(&mut self, constraint: Constraint, faces: &Faces) -> Result<Given, Rejection> {
        let known = |id: &FaceId| {
            let unknown = || Rejection::new(Reason::UnknownFace, "a constraint names a face that is not there");
            faces.node(id).ok_or_else(unknown)
        };
        let (a, b) = (known(&constraint.a)?, known(&constraint.b)?);
        if a == b {
            return Err(contradiction("a constraint is between two faces, and both are the same"));
        }
        let pair = PairOfFaces::new(&constraint.a, &constraint.b);
        match self.words.get(&pair) {
            Some(word) if word.kind == constraint.kind => return Ok(Given::Known),
            Some(_) => return Err(contradiction("the opposite was said of these two faces; release that first")),
            None => {}
        }
        match constraint.kind {
            ConstraintKind::MustLink => self.check_together(a, b, faces)?,
            ConstraintKind::CannotLink if self.tied_to(a).contains(&b) => {
                return Err(contradiction("must-links tie these two faces together; release one of them first"));
            }
            ConstraintKind::CannotLink => {}
        }
        let kind = constraint.kind;
        self.tie(kind, a, b);
        self.changed.insert(pair.clone());
        self.words.insert(pair, constraint);
        Ok(Given::New { kind, a, b })
    }

    fn check_together(&self, a: NodeId, b: NodeId, faces: &Faces) -> Result<(), Rejection> {
        let mut tied = self.tied_to(a);
        tied.extend(self.tied_to(b));
        let apart = |node: &NodeId| self.cannot.get(node).is_some_and(|others| !others.is_disjoint(&tied));
        if tied.iter().any(apart) {
            return Err(contradiction("a cannot-link keeps faces tied to these two apart; release it first"));
        }
        let mut frames = BTreeSet::new();
        for frame in tied.iter().filter_map(|&node| faces.frame(node)) {
            if !frames.insert(frame) {
                return Err(contradiction("two of the faces tied together are of one frame, so they are two people"));
            }
        }
        Ok(())
    }

    /// Everyone must-links tie to a face, itself among them.
    fn tied_to(&self, node: NodeId) -> BTreeSet<NodeId> {
        let mut tied = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            open.extend(self.must_be_with(node).filter(|&other| tied.insert(other)));
        }
        tied
    }

    /// Takes a word back; answers what it was.
    pub fn release(&mut self, a: &FaceId, b: &FaceId, faces: &Faces) -> Option<Given> {
        let pair = PairOfFaces::new(a, b);
        let word = self.words.remove(&pair)?;
        let (a, b) = (faces.node(a)?, faces.node(b)?);
        self.untie(word.kind, a, b);
        self.changed.insert(pair);
        Some(Given::New { kind: word.kind, a, b })
    }

    /// Ends every word on a face; answers the faces it was tied to by a must-link.
    pub fn forget(&mut self, node: NodeId, faces: &Faces) -> Vec<NodeId> {
        let tied: Vec<NodeId> = self.must_be_with(node).collect();
        let others: Vec<NodeId> = tied.iter().copied().chain(self.must_not_be_with(node)).collect();
        for other in others {
            self.release(faces.id(node), faces.id(other), faces);
        }
        tied
    }

    fn tie(&mut self, kind: ConstraintKind, a: NodeId, b: NodeId) {
        let ties = self.ties(kind);
        ties.entry(a).or_default().insert(b);
        ties.entry(b).or_default().insert(a);
    }

    fn untie(&mut self, kind: ConstraintKind, a: NodeId, b: NodeId) {
        let ties = self.ties(kind);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(tied) = ties.get_mut(&one) {
                tied.remove(&other);
                if tied.is_empty() {
                    ties.remove(&one);
                }
            }
        }
    }

    fn ties(&mut self, kind: ConstraintKind) -> &mut BTreeMap<NodeId, BTreeSet<NodeId>> {
        match kind {
            ConstraintKind::MustLink => &mut self.must,
            ConstraintKind::CannotLink => &mut self.cannot,
        }
    }

    /// In order of node.
    pub fn must_be_with(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.must.get(&node).into_iter().flatten().copied()
    }

    /// In order of node.
    pub fn must_not_be_with(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.cannot.get(&node).into_iter().flatten().copied()
    }

    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Words that are new, and pairs whose word ended, since the last call.
    pub fn take_changed(&mut self) -> ChangedWords {
        let mut changed = ChangedWords::default();
        for pair in std::mem::take(&mut self.changed) {
            match self.words.get(&pair) {
                Some(word) => changed.given.push(word.clone()),
                None => changed.released.push(Released { a: pair.first, b: pair.second }),
            }
        }
        changed
    }
}

fn contradiction(detail: &str) -> Rejection {
    Rejection::new(Reason::Contradiction, detail)
}
