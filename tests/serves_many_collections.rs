//! Promise: collections are apart. Each has its own faces, clusters, events and settings; there are
//! as many as the limit says and no more; one costs little, and however busy one is, the others settle.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::bare_shard::{DIMENSION, Driven, People, Rig, Topic, name};
use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::{Client, read_topic};
use common::project;
use facetd::face::Timestamp;
use facetd::rejection::Reason;
use facetd::source::Intake;
use facetd::store::Entry;

/// Memory, descriptors and time are the process's, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_same_faces_in_two_collections_are_never_linked() {
    let _alone = ALONE.lock();
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(1));
    let mut driven = rig.open();
    let faces: Vec<Vec<f32>> = (0..20).map(|_| people.face_of(7)).collect();
    // One batch, the two mixed.
    let mut records = Vec::new();
    for (number, values) in faces.iter().enumerate() {
        let place = ["lobby", "gate"][number % 2];
        let other = ["gate", "lobby"][number % 2];
        records.push(topic.face(place, &format!("{number}"), values));
        records.push(topic.face(other, &format!("{number}"), values));
    }
    driven.apply(records, 1);
    driven.settle(1);
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in driven.publish() {
        let Entry::Event { collection, event, .. } = entry else { panic!("all are good: {entry:?}") };
        sequences.entry(collection.to_string()).or_default().push(event.sequence);
    }
    for collection in ["lobby", "gate"] {
        let engine = driven.engine(collection);
        assert_eq!((engine.len(), engine.clusters().book().living()), (20, 1), "{collection}");
        assert!(engine.clusters().book().records().filter(|cluster| cluster.lives()).all(|cluster| cluster.size == 20));
        let told: Vec<u64> = (1..=sequences[collection].len() as u64).collect();
        assert_eq!(sequences[collection], told, "each collection has a gapless sequence of its own");
    }
    driven.apply(vec![topic.erase("lobby", "3"), topic.face("lobby", "4", &people.face_of(8))], 2);
    driven.settle(2);
    assert!(driven.node("lobby", "3").is_none() && driven.node("gate", "3").is_some());
    let embedding = |collection| driven.engine(collection).faces().embedding(driven.node(collection, "4").unwrap());
    assert_ne!(embedding("lobby"), embedding("gate"));
    let gate_heard = driven
        .publish()
        .iter()
        .any(|entry| matches!(entry, Entry::Event { collection, .. } if *collection == name("gate")));
    assert!(!gate_heard, "what happens in one collection is told in another");
    // Suppressed in the one it was erased from.
    let values = people.face_of(7);
    driven.apply(vec![topic.face("lobby", "3", &values), topic.face("gate", "3", &values)], 3);
    assert_eq!(driven.rejected(), [Reason::Suppressed]);
}

#[test]
fn the_collection_past_the_limit_is_turned_away() {
    let _alone = ALONE.lock();
    let (rig, mut topic, mut people) = (Rig::new("[collections]\nmax = 3"), Topic::default(), People::new(2));
    let mut driven = rig.open();
    let mut face = |topic: &mut Topic, collection, id| topic.face(collection, id, &people.face_of(1));
    driven.apply(vec![face(&mut topic, "one", "a"), face(&mut topic, "two", "a")], 1);
    let five = ["three", "four", "three", "five", "one"].map(|collection| face(&mut topic, collection, "b"));
    driven.apply(five.into(), 2);
    // `three` met `b` twice, with another embedding.
    assert_eq!(driven.rejected(), [Reason::CollectionLimit, Reason::CollectionLimit]);
    assert_eq!(driven.metrics.replaced.get(), 1);
    drop(driven);
    let mut driven = rig.open();
    driven.apply(vec![face(&mut topic, "four", "c"), face(&mut topic, "two", "c"), topic.erase("four", "c")], 3);
    assert_eq!(driven.rejected(), [Reason::CollectionLimit, Reason::UnknownFace]);
    let sizes = ["one", "two", "three"].map(|collection| driven.engine(collection).len());
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn a_collection_has_settings_of_its_own() {
    let _alone = ALONE.lock();
    let more = "[collections]\nmax_faces = 5\nquality_floor = 0.0\n\
                override = { lobby = { max_faces = 2 }, gate = { max_faces = 0, max_age = \"1h\" } }";
    let (rig, mut topic, mut people) = (Rig::new(more), Topic::default(), People::new(3));
    let mut driven = rig.open();
    let sizes = |driven: &Driven| ["lobby", "gate", "other"].map(|collection| driven.engine(collection).len());
    for number in 0..8 {
        let id = format!("{number}");
        let three = ["lobby", "gate", "other"].map(|collection| topic.face(collection, &id, &people.face_of(1)));
        driven.apply(three.into(), 1);
    }
    driven.settle(1);
    assert_eq!(sizes(&driven), [2, 8, 5]);
    driven.settle(1 + 3_600_001);
    assert_eq!(sizes(&driven), [2, 0, 5]);
    drop(driven);
    assert_eq!(sizes(&rig.open()), [2, 0, 5]);
}

#[test]
fn a_name_that_is_none_and_the_collection_past_the_limit_go_to_the_dead_letters() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics, model: &model, more: "[collections]\nmax = 3\n" });
    let daemon = installation.start();
    let client = Client::connect(&topics.brokers);
    let mut people = People::new(4);
    let long = "x".repeat(65);
    let odd = ["../../etc", "lob by", "", "caf\u{e9}", "a/b", "a\\b", "a\0b", "\u{202e}", "lobby\n", "..", &long];
    for collection in odd {
        let payload = serde_json::json!({ "embedding": people.face_of(1) }).to_string();
        client.send(&topics.input(), Some(b"a"), Some(payload.as_bytes()), &[("collection", collection)]);
        let payload = serde_json::json!({ "embedding": people.face_of(1), "collection": collection }).to_string();
        client.send(&topics.input(), Some(b"a"), Some(payload.as_bytes()), &[]);
        // An erase too names its collection.
        client.send(&topics.input(), Some(b"a"), None, &[("collection", collection)]);
    }
    for collection in ["lobby", "..a", "A.b_c-9", "one-too-many", "lobby"] {
        let payload = serde_json::json!({ "embedding": people.face_of(1), "collection": collection }).to_string();
        client.send(&topics.input(), Some(b"b"), Some(payload.as_bytes()), &[]);
    }
    daemon.wait_metric("facetd_engine_replaced_faces_total", 1.0, LIMIT);
    daemon.wait_metric("facetd_engine_collections", 3.0, LIMIT);
    for (collection, status) in [("lobby", "200"), ("..a", "200"), ("one-too-many", "404"), ("lob%20by", "400")] {
        let answer = daemon.get(&format!("/v1/collections/{collection}/faces/b")).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{collection}: {answer}");
    }
    assert!(daemon.terminate().success(), "{}", installation.log());

    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for letter in read_topic(&topics.brokers, &topics.dead_letters()) {
        assert!(!letter.payload.as_deref().unwrap().contains("etc"), "the name it came with is data: {letter:?}");
        *reasons.entry(letter.header("reason").unwrap().to_string()).or_default() += 1;
    }
    let expected = BTreeMap::from([("bad_collection".to_string(), 3 * odd.len()), ("collection_limit".to_string(), 1)]);
    assert_eq!(reasons, expected);
    for file in std::fs::read_dir(installation.state().join("vectors")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let known = ["lobby.1.vectors", "..a.1.vectors", "A.b_c-9.1.vectors"];
        assert!(known.contains(&file.as_str()), "{file}");
    }
}

#[test]
fn thousands_of_small_collections_cost_little_each() {
    let _alone = ALONE.lock();
    const COLLECTIONS: usize = 2000;
    const FACES: usize = 3;
    let (rig, mut topic, mut people) = (Rig::new("[collections]\nmax = 10000"), Topic::default(), People::new(5));
    let mut driven = rig.open();
    let (memory, descriptors, started) = (resident(), descriptors(), Instant::now());
    // Each batch brings a face to everyone of a few hundred collections.
    for number in 0..FACES {
        for first in (0..COLLECTIONS).step_by(250) {
            let records = (first..first + 250).map(|collection| {
                topic.face(&format!("site-{collection:04}"), &format!("{number}"), &people.face_of(collection as u64))
            });
            driven.apply(records.collect(), 1);
        }
    }
    let filled = started.elapsed();
    let started = Instant::now();
    driven.settle(1);
    let settled = started.elapsed();
    driven.publish();
    let each = (resident().saturating_sub(memory)) / COLLECTIONS as u64;
    let opened = self::descriptors().saturating_sub(descriptors);
    let look = |driven: &mut Driven| {
        let started = Instant::now();
        assert!(!driven.shard.idle(Timestamp(1)).unwrap());
        started.elapsed()
    };
    // The least, since others may be using the machine.
    let quiet = (0..20).map(|_| look(&mut driven)).min().unwrap();
    drop(driven);
    let started = Instant::now();
    let driven = rig.open();
    let restarted = started.elapsed();
    println!(
        "{COLLECTIONS} collections of {FACES} faces: filled in {filled:.1?}, settled in {settled:.1?}, {each} bytes of \
         memory each, {opened} more descriptors; with nothing to do a look takes {quiet:.1?}; restarted in {restarted:.1?}"
    );
    assert_eq!(driven.engine("site-1999").len(), FACES);
    assert_eq!(driven.metrics.collections.get(), COLLECTIONS as i64);
    // 10,000 of them are then 400 MB.
    assert!(each < 40_000, "{each} bytes a collection");
    // 1024 is the usual limit, and 10,000 collections may be asked for.
    assert!(opened < 50, "{opened} descriptors for {COLLECTIONS} collections");
    // The pipeline looks every 50 ms.
    assert!(quiet < Duration::from_millis(5), "{quiet:?} for nothing");
    assert!(filled + settled + restarted < Duration::from_secs(120));
}

#[test]
fn a_flood_in_one_collection_does_not_keep_others_from_settling() {
    let _alone = ALONE.lock();
    const OTHERS: usize = 20;
    const FLOOD: usize = 256;
    // As long as it takes to refresh the few dozen faces of each of them out of a share of the budget.
    const BATCHES: usize = 20;
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(6));
    let mut driven = rig.open();
    let flood = |topic: &mut Topic, people: &mut People, batch: usize| -> Vec<Intake> {
        let faces = (0..FLOOD).map(|number| {
            let person = people.next() % 20;
            topic.face("flood", &format!("{batch}/{number}"), &people.face_of(person))
        });
        faces.collect()
    };
    for batch in 0..10 {
        let records = flood(&mut topic, &mut people, batch);
        driven.apply(records, batch as i64);
    }
    assert!(driven.engine("flood").stale() > 500, "the flood has to leave a deep queue");
    for number in 0..40 {
        let mut records: Vec<Intake> = (0..OTHERS)
            .map(|other| topic.face(&format!("quiet-{other:02}"), &format!("{number}"), &people.face_of(number % 4)))
            .collect();
        records.extend(flood(&mut topic, &mut people, 10 + number as usize));
        driven.apply(records, 10 + number as i64);
    }
    let others: Vec<String> = (0..OTHERS).map(|other| format!("quiet-{other:02}")).collect();
    let unsettled = |driven: &Driven| others.iter().filter(|other| !driven.engine(other).is_settled()).count();
    assert!(unsettled(&driven) > 0, "there has to be something left to settle");
    let mut batches = 0;
    while unsettled(&driven) > 0 {
        batches += 1;
        println!("batch {batches}: {} of {OTHERS} are not settled", unsettled(&driven));
        assert!(batches <= BATCHES, "{} of {OTHERS} collections wait for ever", unsettled(&driven));
        let records = flood(&mut topic, &mut people, 100 + batches);
        driven.apply(records, 100 + batches as i64);
        assert!(driven.engine("flood").stale() > 500);
    }
    println!("settled after {batches} batches of a flood");
    // They are told of it, too: a reader waits for `settled` before it takes a cluster for final.
    for other in &others {
        let book = driven.engine(other).clusters().book();
        assert_eq!(book.settled_at(), book.sequence(), "{other} is settled and nobody is told");
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a resident size");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap() * 1024
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const _: () = assert!(DIMENSION == 16, "the fixture's model is what the daemon runs here");
