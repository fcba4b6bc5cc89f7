//! What is asked of the engine, sorted out before the steps: who comes, who goes, who is the same.
//!
//! Requests are taken in order, so two of one face in a batch mean what they would mean in two.
//! Who goes is gone at once, from neighbourhoods, linkages, cluster and index; who comes is put into
//! the table of faces and waits for the first step.

use std::collections::HashSet;

use super::Engine;
use super::changes::{Constraint, Outcome, Request, check_name};
use super::event::Cause;
use super::faces::{Known, NewFace, event_time};
use super::graph::Affected;
use super::refresh::INSIDE;
use crate::face::{Arrival, ClusterId, Face, FaceId, NodeId};
use crate::rejection::{Reason, Rejection};

/// Expirations of one batch beyond one for each newcomer: a long downtime must not make one endless batch.
const EXPIRED_AT_ONCE: usize = 1024;

impl Engine {
    pub(super) fn take_in(&mut self, request: Request) -> Outcome {
        match request {
            Request::Face(face) => self.take_face(face),
            Request::Erase { face, cause } => match self.faces.node(&face) {
                Some(node) => {
                    self.erase(node, cause);
                    Outcome::Erased(1)
                }
                None => unknown_face("there is no face of this id in the collection, so nothing to erase"),
            },
            Request::EraseCluster { cluster } => match self.living(cluster) {
                Ok(()) => self.erase_all(self.clusters.book().members(cluster).to_vec()),
                Err(rejection) => Outcome::Rejected(rejection),
            },
            Request::EraseCollection => self.erase_all(self.faces.live().collect()),
            Request::Constrain(constraint) => self.constrain(constraint),
            Request::Release { a, b } => self.release(&a, &b),
            Request::Describe { cluster, pinned, name } => {
                match check_name(name.as_deref()).and(self.living(cluster)) {
                    Ok(()) => {
                        self.clusters.book_mut().describe(cluster, pinned, name);
                        Outcome::Done
                    }
                    Err(rejection) => Outcome::Rejected(rejection),
                }
            }
        }
    }

    fn take_face(&mut self, face: Face) -> Outcome {
        let cause = Cause::Record(face.place);
        let Face { id, embedding, frame_id, quality, captured_at, place } = face;
        let there = self.faces.node(&id);
        if there.is_some_and(|node| self.faces.embedding(node) == embedding.values()) {
            return Outcome::Duplicate;
        }
        self.arrival += 1;
        let arrival = Arrival(self.arrival);
        let known = Known { id, arrival, frame: frame_id, quality, captured_at, arrived_at: self.now, place };
        if self.ages.retention().is_over(known.time(), self.now) {
            let detail = "captured_at is longer ago than the collection's max_age".to_string();
            return Outcome::Rejected(Rejection::new(Reason::Expired, detail));
        }
        let face = NewFace { embedding: &embedding, known };
        let (node, outcome) = match there {
            Some(node) => {
                self.ages.remove(node, &self.faces);
                self.depart(node, cause);
                self.clusters.replace(node, cause);
                self.faces.replace(node, face);
                (node, Outcome::Replaced)
            }
            None => {
                let node = self.faces.add(face);
                self.clusters.grow(self.faces.slots());
                self.clusters.arrive(node, cause);
                (node, Outcome::Added)
            }
        };
        self.ages.add(node, &self.faces);
        self.ledger.arriving.insert(node);
        self.ledger.faces.insert(node);
        self.ledger.vectors.insert(node);
        self.ledger.causes.insert(node, cause);
        outcome
    }

    fn erase_all(&mut self, mut nodes: Vec<NodeId>) -> Outcome {
        nodes.sort_unstable_by_key(|&node| self.faces.arrival(node));
        for &node in &nodes {
            self.erase(node, Cause::Api);
        }
        Outcome::Erased(nodes.len())
    }

    /// Makes a face be gone.
    fn erase(&mut self, node: NodeId, cause: Cause) {
        self.depart(node, cause);
        self.clusters.erase(node, &self.faces, cause);
        self.ages.remove(node, &self.faces);
        let known = self.faces.remove(node);
        self.ledger.arriving.remove(&node);
        self.ledger.causes.remove(&node);
        self.ledger.gone_nodes.insert(node);
        self.ledger.gone_ids.insert(known.id);
    }

    /// Takes a face out of index and neighbourhoods, if it is in them yet.
    fn depart(&mut self, node: NodeId, cause: Cause) {
        if self.ledger.arriving.contains(&node) {
            return;
        }
        self.index.remove(node);
        self.stale.remove(node);
        for affected in self.graph.remove(node) {
            self.ledger.causes.entry(affected.node).or_insert(cause);
            self.affect(&affected, affected.enhanced_is_stale);
        }
    }

    /// Notes that somebody entered or left a face's neighbourhood. `encode`: its `g` waits too.
    pub(super) fn affect(&mut self, affected: &Affected, encode: bool) {
        self.ledger.work.affected += 1;
        let weight = if self.clusters.is_between(affected.node) { 1.0 } else { INSIDE };
        self.stale.mark(affected.node, weight * affected.similarity, encode, self.now);
        let change = self.seen_from_afar(affected.similarity);
        for onlooker in self.onlookers(affected.node) {
            // Who is arriving is scored in this batch.
            if !self.ledger.arriving.contains(&onlooker) {
                self.stale.mark(onlooker, change, false, self.now);
            }
        }
    }

    /// Erases what retention says, oldest first: also to make room for who comes. Who is there already,
    /// comes twice, or comes too late to be kept needs none.
    pub(super) fn expire(&mut self, requests: &[Request]) {
        let needs_room = |face: &Face| {
            let time = event_time(face.captured_at, self.now);
            self.faces.node(&face.id).is_none() && !self.ages.retention().is_over(time, self.now)
        };
        let newcomers = requests.iter().filter_map(|request| match request {
            Request::Face(face) if needs_room(face) => Some(&face.id),
            _ => None,
        });
        let incoming = newcomers.collect::<HashSet<&FaceId>>().len();
        for _ in 0..incoming + EXPIRED_AT_ONCE {
            let Some(node) = self.ages.next_to_expire(self.now, incoming) else { return };
            self.erase(node, Cause::Expired);
            self.ledger.work.expired += 1;
        }
    }

    fn living(&self, cluster: ClusterId) -> Result<(), Rejection> {
        match self.clusters.book().living_of(cluster) {
            Some(living) if living == cluster => Ok(()),
            Some(living) => {
                let detail = format!("cluster {cluster} went into cluster {living}; name that one");
                Err(Rejection::new(Reason::UnknownCluster, detail))
            }
            None => Err(Rejection::new(Reason::UnknownCluster, "there is no such cluster in the collection")),
        }
    }

    fn constrain(&mut self, constraint: Constraint) -> Outcome {
        match self.clusters.constrain(constraint, &self.faces) {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Duplicate,
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    fn release(&mut self, a: &FaceId, b: &FaceId) -> Outcome {
        match self.clusters.release(a, b, &self.faces) {
            true => Outcome::Done,
            false => unknown_face("nothing was said of these two faces, so there is nothing to release"),
        }
    }
}

fn unknown_face(detail: &str) -> Outcome {
    Outcome::Rejected(Rejection::new(Reason::UnknownFace, detail))
}
