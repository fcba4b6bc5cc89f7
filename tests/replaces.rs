//! Promise: a face sent again with another embedding is replaced whole, and of the embedding it had
//! nothing stays; sent again with the same one it changes nothing.

mod common;

use std::collections::BTreeSet;

use common::bare_shard::{DIMENSION, Driven, People, Rig, Topic, face_id};
use common::traces::Traces;
use facetd::engine::event::{Cause, EventType};
use facetd::face::Embedding;
use facetd::store::{Entry, Store};

const FACES: usize = 12;

fn id(person: u64, number: usize) -> String {
    format!("person-{person}-face-{number:02}")
}

/// A dozen faces of each of two people, settled.
fn two_people(rig: &Rig, topic: &mut Topic, people: &mut People) -> Driven {
    let mut driven = rig.open();
    let numbers = [0, 1].into_iter().flat_map(|person| (0..FACES).map(move |number| (person, number)));
    let faces = numbers.map(|(person, number)| topic.face("default", &id(person, number), &people.face_of(person)));
    driven.apply(faces.collect(), 1);
    driven.settle(1);
    driven
}

#[test]
fn another_embedding_under_the_same_id_replaces_the_face_on_disk_too() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(1));
    let mut driven = two_people(&rig, &mut topic, &mut people);
    let (moved, other) = (id(0, 3), id(1, 0));
    assert!(driven.are_together("default", &moved, &id(0, 0)) && !driven.are_together("default", &moved, &other));
    driven.publish();

    // As when a better crop shows that it was somebody else.
    let before = driven.engine("default").faces().embedding(driven.node("default", &moved).unwrap()).to_vec();
    let enhanced_before = driven.engine("default").faces().enhanced(driven.node("default", &moved).unwrap()).to_vec();
    let after = people.face_of(1);
    driven.apply(vec![topic.face("default", &moved, &after)], 2);
    driven.settle(2);
    assert_eq!((driven.metrics.replaced.get(), driven.engine("default").len()), (1, 2 * FACES));
    assert!(driven.are_together("default", &moved, &other), "it stays with whom it no longer looks like");
    assert!(!driven.are_together("default", &moved, &id(0, 0)));
    let events: Vec<_> = driven
        .publish()
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Event { event, .. } => Some(event),
            _ => None,
        })
        .collect();
    let types: BTreeSet<EventType> = events.iter().map(|event| event.change.event_type()).collect();
    let moves = BTreeSet::from([EventType::Split, EventType::Left, EventType::Merged]);
    assert!(types.iter().any(|kind| moves.contains(kind)), "readers are not told that it moved: {types:?}");
    assert!(!types.contains(&EventType::Erased) && !types.contains(&EventType::Created), "{types:?}");
    assert!(events.iter().any(|event| matches!(event.cause, Cause::Record(place) if place.offset.0 == 24)));

    drop(driven);
    let (mut gone, mut there) = (Traces::default(), Traces::default());
    gone.of_vector("the embedding it had", &before);
    gone.of_vector("its g", &enhanced_before);
    there.of_vector("the embedding it has", &after);
    assert!(!gone.found_in(&rig.state()).is_empty(), "until it is compacted the file keeps what was replaced");
    Store::open_existing(&rig.state()).unwrap().compact_all(&mut |_| ()).unwrap();
    assert_eq!(gone.found_in(&rig.state()), Default::default());
    assert!(there.found_in(&rig.state()).contains_key("the embedding it has, normalised f32"));

    let mut driven = rig.open();
    let node = driven.node("default", &moved).unwrap();
    let expected = Embedding::normalise(&after, DIMENSION).unwrap();
    assert_eq!(driven.engine("default").faces().embedding(node), expected.values());
    driven.settle(3);
    assert!(driven.are_together("default", &moved, &other));
}

#[test]
fn the_same_embedding_again_is_counted_and_changes_nothing() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(2));
    let mut driven = two_people(&rig, &mut topic, &mut people);
    driven.publish();
    let (first, second) = (people.face_of(2), people.face_of(2));
    driven.apply(vec![topic.face("default", "again", &first)], 2);
    driven.settle(2);
    assert!(!driven.publish().is_empty());
    let told = driven.engine("default").clusters().book().sequence();
    driven.apply(vec![topic.face("default", "again", &first), topic.face("default", "again", &first)], 3);
    driven.settle(3);
    assert_eq!((driven.metrics.duplicates.get(), driven.metrics.replaced.get()), (2, 0));
    assert_eq!((driven.publish(), driven.engine("default").clusters().book().sequence()), (vec![], told));

    // Two with one id in one batch mean what they would mean in two.
    driven.apply(vec![topic.face("default", "again", &second), topic.face("default", "again", &first)], 4);
    driven.settle(4);
    let node = driven.node("default", "again").unwrap();
    let expected = Embedding::normalise(&first, DIMENSION).unwrap();
    assert_eq!(driven.engine("default").faces().embedding(node), expected.values(), "the last word counts");
    assert_eq!(driven.metrics.replaced.get(), 2);
    driven.apply(vec![topic.face("default", "new", &first), topic.face("default", "new", &second)], 5);
    driven.settle(5);
    let node = driven.engine("default").faces().node(&face_id("new")).unwrap();
    let expected = Embedding::normalise(&second, DIMENSION).unwrap();
    assert_eq!(driven.engine("default").faces().embedding(node), expected.values());
    assert_eq!(driven.engine("default").len(), 2 * FACES + 2);
    drop(driven);
    assert_eq!(rig.open().engine("default").len(), 2 * FACES + 2);
}
