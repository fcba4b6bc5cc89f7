//! An engine that was stopped goes on: the same clusters, and once settled the same as if it had not stopped.

use super::endures::check_fresh;
use super::*;
use crate::engine::changes::{FaceRecord, KeptLinkages, Restored, RestoredFace};
use crate::engine::refresh::Stale;
use crate::engine::snapshot::{Since, Snapshot};
use crate::face::{ClusterId, NodeId};

/// What a store keeps, in the plainest way.
#[derive(Default)]
pub(super) struct Kept {
    faces: BTreeMap<NodeId, FaceRecord>,
    vectors: BTreeMap<NodeId, Embedding>,
    linkages: BTreeMap<NodeId, Written>,
    clusters: BTreeMap<ClusterId, crate::engine::event::Cluster>,
    words: BTreeMap<(FaceId, FaceId), Constraint>,
    counters: crate::engine::changes::Counters,
    commits: u64,
}

/// The linkages of a face, and the commit that wrote them.
struct Written {
    at: u64,
    linkages: KeptLinkages,
}

/// A snapshot, and after which commit it was cut.
pub(super) struct CutAfter {
    commit: u64,
    snapshot: Snapshot,
}

impl Kept {
    pub(super) fn keep(&mut self, changes: &Changes) {
        self.commits += 1;
        for node in &changes.gone_nodes {
            self.faces.remove(node);
            self.vectors.remove(node);
            self.linkages.remove(node);
        }
        for face in &changes.faces {
            self.faces.insert(face.node, face.record.clone());
        }
        for vector in &changes.vectors {
            self.vectors.insert(vector.node, vector.embedding.clone());
        }
        for linkages in &changes.linkages {
            self.linkages.insert(linkages.node, Written { at: self.commits, linkages: linkages.clone() });
        }
        for cluster in &changes.clusters {
            self.clusters.insert(cluster.id, cluster.clone());
        }
        for cluster in &changes.retired {
            self.clusters.remove(cluster);
        }
        for word in &changes.constraints {
            let (a, b) = (word.a.clone().min(word.b.clone()), word.a.clone().max(word.b.clone()));
            self.words.insert((a, b), word.clone());
        }
        for released in &changes.released {
            self.words.remove(&(released.a.clone(), released.b.clone()));
        }
        self.counters = changes.counters;
    }

    pub(super) fn restored(&self) -> Restored {
        let face = |(&node, record): (&NodeId, &FaceRecord)| RestoredFace {
            node,
            record: record.clone(),
            embedding: self.vectors[&node].clone(),
        };
        Restored {
            faces: self.faces.iter().map(face).collect(),
            linkages: self.linkages.values().map(|written| written.linkages.clone()).collect(),
            clusters: self.clusters.values().cloned().collect(),
            constraints: self.words.values().cloned().collect(),
            counters: self.counters,
            since: None,
        }
    }

    /// To be called when everything the engine told is kept.
    pub(super) fn cut(&self, engine: &Engine) -> CutAfter {
        let snapshot = engine.cut();
        assert_eq!(snapshot.check(), Ok(()));
        CutAfter { commit: self.commits, snapshot }
    }

    /// With a snapshot, if there is one.
    pub(super) fn restored_from(&self, cut: Option<&CutAfter>) -> Restored {
        let since = |CutAfter { commit, snapshot }: &CutAfter| Since {
            snapshot: snapshot.clone(),
            rescored: self.linkages.iter().filter(|(_, written)| written.at > *commit).map(|(&node, _)| node).collect(),
        };
        Restored { since: cut.map(since), ..self.restored() }
    }
}

/// An engine that is stopped now and then, and what is kept of it.
struct Stopped {
    settings: EngineSettings,
    engine: Engine,
    kept: Kept,
    cuts: Vec<CutAfter>,
}

/// When an engine is stopped, and what it goes on from.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Goes,
    Cuts,
    /// So many snapshots old; more than there are: without one.
    Restarts {
        age: usize,
    },
}

impl Stopped {
    fn new(settings: EngineSettings, model: Mean) -> Stopped {
        let engine = Engine::new(&settings, Arc::new(model));
        Stopped { settings, engine, kept: Kept::default(), cuts: Vec::new() }
    }

    fn take(&mut self, moment: Moment) {
        match moment {
            Moment::Goes => {}
            Moment::Cuts => self.cuts.push(self.kept.cut(&self.engine)),
            Moment::Restarts { age } => {
                let cut = self.cuts.iter().rev().nth(age);
                let restored = self.kept.restored_from(cut);
                self.engine = Engine::restore(&self.settings, self.engine.model.clone(), restored).unwrap();
            }
        }
    }

    fn settle(&mut self) -> Vec<Changes> {
        let all = settle(&mut self.engine);
        all.iter().for_each(|changes| self.kept.keep(changes));
        all
    }
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        2 => Just(Moment::Goes),
        2 => Just(Moment::Cuts),
        2 => (0..4usize).prop_map(|age| Moment::Restarts { age }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_engine_settles_where_the_other_does(
        model in model(),
        rule in rule(),
        stream in stream(),
        moments in prop::collection::vec(moment(), 12),
        settles in prop::collection::vec(prop::bool::weighted(0.2), 12),
    ) {
        let settings = settings(rule);
        let mut whole = Engine::new(&settings, Arc::new(model));
        let mut stopped = Stopped::new(settings.clone(), model);
        for ((requests, budget), (moment, settles)) in stream.into_iter().zip(moments.into_iter().zip(settles)) {
            let before = partition(&stopped.engine);
            stopped.take(moment);
            prop_assert_eq!(partition(&stopped.engine), before);
            stopped.kept.keep(&apply(&mut stopped.engine, requests.clone(), budget));
            apply(&mut whole, requests, budget);
            if settles {
                settle(&mut whole);
                stopped.settle();
                prop_assert_eq!(partition(&stopped.engine), partition(&whole));
            }
        }
        settle(&mut whole);
        stopped.settle();
        prop_assert_eq!(partition(&stopped.engine), partition(&whole));
        let last = Engine::restore(&settings, Arc::new(model), stopped.kept.restored()).unwrap();
        prop_assert_eq!(partition(&last), partition(&whole));
        let told: Vec<_> = settle(&mut { last }).into_iter().flat_map(|changes| changes.events).collect();
        prop_assert!(told.is_empty(), "a settled state has nothing to tell after a restart: {:?}", told);
    }

    /// Wherever it is cut, an engine that goes on from that has nothing to find out anew.
    #[test]
    fn a_snapshot_of_now_is_the_engine(model in model(), rule in rule(), stream in stream(), settles in any::<bool>()) {
        let settings = settings(rule);
        let mut stopped = Stopped::new(settings.clone(), model);
        for (requests, budget) in stream {
            stopped.kept.keep(&apply(&mut stopped.engine, requests, budget));
        }
        if settles {
            stopped.settle();
        }
        let cut = stopped.kept.cut(&stopped.engine);
        let restored = stopped.kept.restored_from(Some(&cut));
        let again = Engine::restore(&settings, Arc::new(model), restored).unwrap();
        let twice = stopped.kept.cut(&again);
        // The table of faces ends with the last face, however large it once was.
        let mut expected = cut.snapshot.clone();
        expected.resize(twice.snapshot.slots());
        prop_assert_eq!(&twice.snapshot.lists, &expected.lists);
        prop_assert_eq!(&twice.snapshot.enhanced, &expected.enhanced);
        prop_assert_eq!(&twice.snapshot.stale, &expected.stale);
        prop_assert_eq!(twice.snapshot.now, expected.now);
        prop_assert_eq!(partition(&again), partition(&stopped.engine));
        if settles {
            prop_assert!(again.is_settled() && !again.has_work(Timestamp(1)), "{} are stale", again.stale());
        }
    }

    /// A tail makes those stale whom it affects, and leaves the others alone.
    #[test]
    fn who_was_not_touched_since_a_snapshot_is_not_stale(rule in rule(), stream in stream(), last in request()) {
        let settings = settings(rule);
        let mut stopped = Stopped::new(settings.clone(), PLAIN);
        for (requests, budget) in stream {
            stopped.kept.keep(&apply(&mut stopped.engine, requests, budget));
        }
        stopped.settle();
        let cut = stopped.kept.cut(&stopped.engine);
        let changes = apply(&mut stopped.engine, vec![last], 0);
        stopped.kept.keep(&changes);
        let stale: BTreeSet<NodeId> = stopped.engine.cut().stale.iter().map(|stale| stale.node).collect();
        let restored = stopped.kept.restored_from(Some(&cut));
        let again = Engine::restore(&settings, Arc::new(PLAIN), restored).unwrap();
        let scored: BTreeSet<NodeId> = changes.linkages.iter().map(|scored| scored.node).collect();
        for Stale { node, .. } in again.cut().stale {
            prop_assert!(stale.contains(&node) || scored.contains(&node), "{} is stale for no reason", node);
        }
    }
}

/// In a fan of faces, the number of each its place.
fn on(number: usize) -> Face {
    let angle = 0.02 * number as f32;
    face(number, &[angle.cos(), angle.sin(), 0.0, 0.0])
}

/// A settled fan of ten, and a snapshot of it.
fn settled_fan(settings: EngineSettings) -> Stopped {
    let mut stopped = Stopped::new(settings, PLAIN);
    let faces: Vec<Face> = (0..20).step_by(2).map(on).collect();
    stopped.kept.keep(&apply_faces(&mut stopped.engine, &faces, 0));
    stopped.settle();
    stopped.take(Moment::Cuts);
    stopped
}

/// Nothing in snapshot or store tells of a face that was there only in between, but that others were
/// scored beside it.
#[test]
fn who_was_scored_beside_somebody_who_came_and_went_is_scored_again() {
    let mut stopped = settled_fan(settings(SINGLE));
    stopped.kept.keep(&apply_faces(&mut stopped.engine, &[on(9)], 100));
    stopped.kept.keep(&apply(&mut stopped.engine, vec![erase(9)], 0));
    stopped.take(Moment::Restarts { age: 0 });
    assert!(stopped.engine.stale() > 0);
    stopped.settle();
    check_fresh(&mut stopped.engine);
}

/// A face that was replaced, and one at whose node another face is now.
#[test]
fn a_node_of_another_face_has_nothing_of_the_one_a_snapshot_knows() {
    let mut stopped = settled_fan(settings(SINGLE));
    let other = Face { id: id(4), ..on(70) };
    stopped.kept.keep(&apply(&mut stopped.engine, vec![Request::Face(other), erase(10)], 0));
    stopped.kept.keep(&apply_faces(&mut stopped.engine, &[on(30)], 0));
    assert_eq!(stopped.engine.faces().slots(), 10, "the newcomer is at the node of who was erased");
    stopped.take(Moment::Restarts { age: 0 });
    stopped.settle();
    check_fresh(&mut stopped.engine);
}

#[test]
fn a_snapshot_does_not_vouch_for_clusters_of_another_rule() {
    let mut stopped = settled_fan(settings(SINGLE));
    stopped.take(Moment::Restarts { age: 0 });
    assert!(stopped.engine.is_settled());
    stopped.settings.clusters.quality_floor = 0.9;
    stopped.take(Moment::Restarts { age: 0 });
    assert!(stopped.engine.stale() == 0 && !stopped.engine.is_settled());
}
