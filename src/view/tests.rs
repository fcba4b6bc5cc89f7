use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::engine::changes::ConstraintKind;
use crate::face::Timestamp;
use crate::histories::{History, Step, face_ids, steps};

fn lobby() -> CollectionName {
    CollectionName::new("lobby").unwrap()
}

/// All of a list, by pages of `limit`.
fn all<Item, After>(mut page: impl FnMut(Option<After>) -> Page<Item, After>) -> Vec<Item> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let Page { items: more, next } = page(after.take());
        items.extend(more);
        after = Some(match next {
            Some(next) => next,
            None => return items,
        });
    }
}

/// What the history says of every face there could be, and of every list.
fn check(shown: &CollectionView, history: &History, limit: usize) {
    for face in face_ids() {
        let home = history.homes.get(&face);
        let living = home.map(|home| &history.clusters[history.way(home.cluster).last().unwrap()]);
        assert_eq!(shown.cluster_of(&face).map(|listed| &listed.cluster), living, "face {face}");
    }
    for (&id, cluster) in &history.clusters {
        assert_eq!(&shown.cluster(id).unwrap().cluster, cluster);
    }
    let members = history.members();
    for (&id, expected) in &members {
        let found = all(|after| shown.members(id, after, limit));
        assert_eq!(found.len(), expected.len(), "nobody twice");
        assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), expected, "members of {id}");
    }
    let living: BTreeMap<ClusterId, u32> =
        history.clusters.values().filter(|cluster| cluster.lives()).map(|cluster| (cluster.id, cluster.size)).collect();
    let by_size = all(|after| shown.clusters(ClusterOrder::Size, after, limit));
    let recent = all(|after| shown.clusters(ClusterOrder::Recent, after, limit));
    assert!(by_size.windows(2).all(|two| two[0].cluster.size >= two[1].cluster.size));
    assert!(recent.windows(2).all(|two| two[0].sequence >= two[1].sequence));
    for listed in [by_size, recent] {
        assert_eq!(listed.len(), living.len());
        let listed: BTreeMap<_, _> = listed.into_iter().map(|it| (it.cluster.id, it.cluster.size)).collect();
        assert_eq!(listed, living);
    }
    let counted: usize = shown.sizes().iter().map(|class| class.clusters).sum();
    assert_eq!((shown.faces(), shown.living(), counted), (history.homes.len(), living.len(), living.len()));
}

proptest! {
    #[test]
    fn whatever_happens_faces_clusters_and_lists_are_as_they_are(steps in steps(), limit in 1usize..5) {
        let (mut history, view) = (History::default(), View::default());
        let mut told = Vec::new();
        for step in steps {
            let changes = history.take(step);
            told.extend(changes.events.clone());
            view.update(&lobby(), &changes);
            check(&view.collection(&lobby()).unwrap(), &history, limit);
        }
        let restored = View::default();
        let homes = history.homes.iter().map(|(face, home)| Home { face: face.clone(), home: home.cluster });
        restored.show(&lobby(), homes, history.clusters.values(), [].iter(), told.len() as u64);
        let restored = restored.collection(&lobby()).unwrap();
        check(&restored, &history, limit);
        let Some(shown) = view.collection(&lobby()) else { return Ok(()) };
        for sequence in 0..=told.len() {
            let expected: Vec<_> = told[sequence..].iter().take(3).cloned().map(Held::new).map(Arc::new).collect();
            prop_assert_eq!(shown.events_after(sequence as u64, 3), Since::Events(expected));
        }
        let ahead = told.len() as u64 + 1;
        prop_assert_eq!(shown.events_after(ahead, 3), Since::Gone { first: None });
        if !told.is_empty() {
            prop_assert_eq!(restored.events_after(0, 3), Since::Gone { first: None }, "of before the restart");
        }
    }
}

/// A face moves from one new cluster to the next while it is looked up: it is always somewhere, and what was
/// taken stays as it was.
#[test]
fn a_face_on_the_move_is_never_lost() {
    let (mut history, view, stop) = (History::default(), View::default(), AtomicBool::new(false));
    for face in [0, 1] {
        view.update(&lobby(), &history.take(Step::Create { face }));
    }
    let moving = face_ids().next().unwrap();
    std::thread::scope(|scope| {
        let reader = || {
            while !stop.load(Ordering::Relaxed) {
                let shown = view.collection(&lobby()).unwrap();
                let listed = shown.cluster_of(&moving).unwrap();
                let members = shown.members(listed.cluster.id, None, 10).items;
                assert_eq!(members.len() as u32, listed.cluster.size);
                assert!(members.contains(&moving));
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for _ in 0..5_000 {
            // Into the other's cluster with all its cluster, then out again into a new one.
            view.update(&lobby(), &history.take(Step::Merge { a: 0, b: 1 }));
            view.update(&lobby(), &history.take(Step::Split { face: 0 }));
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    check(&view.collection(&lobby()).unwrap(), &history, 2);
}

#[test]
fn as_many_events_are_held_as_there_is_room_for() {
    let (mut history, view) = (History::default(), View::default());
    for _ in 0..EVENTS_HELD_EACH {
        view.update(&lobby(), &history.take(Step::Create { face: 0 }));
        view.update(&lobby(), &history.take(Step::Erase { face: 0 }));
    }
    let shown = view.collection(&lobby()).unwrap();
    let (last, first) = (shown.sequence(), shown.sequence() + 1 - EVENTS_HELD_EACH as u64);
    assert_eq!(shown.events_after(first - 2, 9), Since::Gone { first: Some(first) });
    let Since::Events(events) = shown.events_after(first - 1, usize::MAX) else { panic!("they are held") };
    assert_eq!(
        (events.len(), events[0].event.sequence, events.last().unwrap().event.sequence),
        (EVENTS_HELD_EACH, first, last)
    );
}

#[test]
fn constraints_are_listed_until_they_are_released() {
    let view = View::default();
    let ids: Vec<FaceId> = face_ids().take(4).collect();
    let word = |a: usize, b: usize| Constraint {
        kind: ConstraintKind::CannotLink,
        a: ids[a].clone(),
        b: ids[b].clone(),
        by: "ada".to_string(),
        at: Timestamp(1),
    };
    let constraints = vec![word(1, 0), word(2, 3), word(0, 3)];
    view.update(&lobby(), &Changes { constraints, ..Changes::default() });
    let released = vec![crate::engine::changes::Released { a: ids[3].clone(), b: ids[2].clone() }];
    let shown = view.collection(&lobby()).unwrap();
    assert_eq!(all(|after| shown.constraints(after, 1)), [word(1, 0), word(0, 3), word(2, 3)]);
    view.update(&lobby(), &Changes { released, ..Changes::default() });
    let shown = view.collection(&lobby()).unwrap();
    assert_eq!(all(|after| shown.constraints(after, 5)), [word(1, 0), word(0, 3)]);
}

#[tokio::test]
async fn whoever_waits_is_told_of_the_next_commit() {
    let (mut history, view) = (History::default(), View::default());
    view.update(&lobby(), &history.take(Step::Create { face: 0 }));
    let mut commits = view.collection(&lobby()).unwrap().commits();
    commits.mark_unchanged();
    view.update(&lobby(), &history.take(Step::Create { face: 1 }));
    commits.changed().await.unwrap();
    assert_eq!(*commits.borrow(), 2);
}
