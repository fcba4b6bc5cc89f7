//! Promise: erased means gone. Once the state is compacted, no file of it holds 16 bytes of an erased
//! face's embedding or of its `g`, in any form, nor its face_id; readers are told, and the face does
//! not come back until somebody allows it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::bare_shard::{DIMENSION, Driven, People, Rig, Topic, face_id, face_key, name};
use common::broker::MockBroker;
use common::daemon::{Installation, Running, Settings};
use common::faces::Dataset;
use common::kafka_client::{Client, latest_by_key, read_topic};
use common::traces::{Traces, WINDOW, forms, half_precision};
use common::wait_for;
use facetd::config::Config;
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::Engine;
use facetd::engine::changes::{Batch, Changes, Constraint, ConstraintKind, Outcome, Request};
use facetd::engine::event::{Cause, Change, EventType};
use facetd::face::{ClusterId, Embedding, Face, NodeId, Offset, Partition, Place, Timestamp};
use facetd::metrics::Metrics;
use facetd::rejection::Reason;
use facetd::source::Intake;
use facetd::store::{Entry, Store};
use facetd::view::View;

const LIMIT: Duration = Duration::from_secs(120);
const FACES: usize = 900;
const ERASED: usize = 40;

/// The engine of the daemon with its own model, fed by hand: what the daemon had in memory.
struct Twin {
    engine: Engine,
    loaded: LoadedModel,
}

impl Twin {
    fn new(config: &Config) -> Twin {
        let loaded = LoadedModel::load(&config.model).unwrap();
        let settings = ShardSettings::new(config, &loaded.artefact).engine(&name("default"));
        Twin { engine: Engine::new(&settings, loaded.model.clone()), loaded }
    }

    /// Applies requests and settles. Answers all that changed.
    fn apply(&mut self, requests: Vec<Request>) -> Vec<Changes> {
        let now = Timestamp(1);
        let mut all = vec![self.engine.apply(Batch { requests, now, ..Batch::default() }, &mut ()).unwrap()];
        while self.engine.has_work(now) {
            let batch = Batch { refresh_budget: 256, idle: true, now, ..Batch::default() };
            all.push(self.engine.apply(batch, &mut ()).unwrap());
        }
        all
    }

    fn face(&self, number: usize, values: &[f32]) -> Request {
        Request::Face(Face {
            id: face_id(&id(number)),
            embedding: Embedding::normalise(values, self.loaded.artefact.shape.dimension).unwrap(),
            frame_id: None,
            quality: None,
            captured_at: None,
            place: Place { partition: Partition(0), offset: Offset(number as i64) },
        })
    }

    fn node(&self, number: usize) -> NodeId {
        self.engine.faces().node(&face_id(&id(number))).unwrap()
    }

    /// Of each cluster the face linked with most of the others, that of the largest cluster first.
    fn hubs(&self) -> Vec<NodeId> {
        let book = self.engine.clusters().book();
        let mut clusters: Vec<ClusterId> =
            book.records().filter(|cluster| cluster.lives() && cluster.size > 2).map(|cluster| cluster.id).collect();
        clusters.sort_by_key(|&id| (usize::MAX - book.members(id).len(), id));
        let degree = |node: NodeId| {
            let partners = self.engine.clusters().linkages().partners(node);
            partners.filter(|partner| book.cluster_of(partner.node) == book.cluster_of(node)).count()
        };
        let hubs = clusters
            .into_iter()
            .filter_map(|id| book.members(id).iter().copied().max_by_key(|&node| (degree(node), node)));
        hubs.collect()
    }

    /// Every face's cluster, as the set of those in it.
    fn partition(&self) -> BTreeSet<BTreeSet<String>> {
        let faces = self.engine.faces();
        let book = self.engine.clusters().book();
        let living = book.records().filter(|cluster| cluster.lives());
        let names =
            living.map(|cluster| book.members(cluster.id).iter().map(|&node| faces.id(node).to_string()).collect());
        names.collect()
    }
}

fn id(number: usize) -> String {
    format!("cam3/2026-11-23T18:00:00Z/{number:06}")
}

/// The partition the state holds.
fn partition(installation: &Installation) -> BTreeSet<BTreeSet<String>> {
    let mut clusters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in installation.inspect(&["faces"]).lines() {
        let (face, cluster) = line.split_once('\t').unwrap();
        clusters.entry(cluster.to_string()).or_default().insert(face.to_string());
    }
    clusters.into_values().collect()
}

/// Sends a face in one of the three ways it may come in.
fn send(client: &Client, topic: &str, number: usize, values: &[f32]) {
    let little_endian: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let octets = [("content-type", "application/octet-stream")];
    let (payload, headers) = match number % 3 {
        0 => (serde_json::json!({ "embedding": values }).to_string().into_bytes(), &[][..]),
        1 => (serde_json::json!({ "embedding": STANDARD.encode(&little_endian) }).to_string().into_bytes(), &[][..]),
        _ => (little_endian, &octets[..]),
    };
    client.send_soon(topic, Some(id(number).as_bytes()), Some(&payload), headers);
}

fn until_settled(daemon: &Running) {
    wait_for("the daemon to settle", LIMIT, || {
        let settled = daemon.metric("facetd_engine_settled_collections") == 1.0
            && daemon.metric("facetd_publish_outbox_entries") == 0.0
            && daemon.metric("facetd_source_lag_records") == 0.0;
        settled.then_some(())
    });
}

fn status(daemon: &Running, number: usize) -> String {
    let answer = daemon.get(&format!("/v1/collections/default/faces/{}", id(number).replace('/', "%2F"))).unwrap();
    answer.split_whitespace().nth(1).unwrap().to_string()
}

#[test]
fn nothing_of_an_erased_face_is_in_any_file_and_it_stays_away() {
    let dataset = Dataset::real_or_synthetic("nothing of an erased face is in any file");
    let rows: Vec<Vec<f32>> = dataset.rows().into_iter().take(FACES).collect();
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let more = "[engine]\nindex = \"exact\"\nbatch_faces = 64\n";
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more });
    let config = Config::load(installation.config()).unwrap();

    // What the engine knew of everyone, and whom to erase: among them faces that hold others together.
    let mut twin = Twin::new(&config);
    twin.apply((0..FACES).map(|number| twin.face(number, &rows[number])).collect());
    let enhanced: Vec<Vec<f32>> =
        (0..FACES).map(|number| twin.engine.faces().enhanced(twin.node(number)).to_vec()).collect();
    let (mut erased, mut splits) = (Vec::new(), 0);
    while erased.len() < ERASED || splits == 0 {
        let hub = *twin.hubs().first().expect("no face holds a cluster together: this proves too little");
        let face = twin.engine.faces().id(hub).clone();
        let number: usize = face.as_str().rsplit('/').next().unwrap().parse().unwrap();
        let changes = twin.apply(vec![Request::Erase { face, cause: Cause::Api }]);
        let events = changes.iter().flat_map(|changes| &changes.events);
        splits += events.filter(|event| event.change.event_type() == EventType::Split).count();
        erased.push(number);
    }
    println!("{}: {} of {FACES} faces erased, clusters split {splits} times", dataset.name, erased.len());

    let client = Client::connect(&topics.brokers);
    let daemon = installation.start();
    (0..FACES).for_each(|number| send(&client, &topics.input(), number, &rows[number]));
    client.flush();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    assert_eq!(status(&daemon, erased[0]), "200");
    for &number in &erased {
        client.send(&topics.input(), Some(id(number).as_bytes()), None, &[]);
    }
    daemon.wait_metric("facetd_engine_erased_faces_total{cause=\"record\"}", erased.len() as f64, LIMIT);
    until_settled(&daemon);
    let survivor = (0..FACES).find(|number| !erased.contains(number)).unwrap();
    assert_eq!((status(&daemon, erased[0]), status(&daemon, survivor)), ("404".to_string(), "200".to_string()));
    // Replayed, it is turned away; erased once more, that is so already; nobody knows the last one.
    let suppressed = "facetd_source_rejected_total{reason=\"suppressed\"}";
    send(&client, &topics.input(), erased[0], &rows[erased[0]]);
    client.flush();
    daemon.wait_metric(suppressed, 1.0, LIMIT);
    client.send(&topics.input(), Some(id(erased[0]).as_bytes()), None, &[]);
    daemon.wait_metric("facetd_engine_duplicates_total", 1.0, LIMIT);
    client.send(&topics.input(), Some(b"nobody"), None, &[]);
    daemon.wait_metric("facetd_source_rejected_total{reason=\"unknown_face\"}", 1.0, LIMIT);
    until_settled(&daemon);
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert_eq!(partition(&installation), twin.partition(), "the clusters are not those of the faces that are left");

    let (mut gone, mut left) = (Traces::default(), Traces::default());
    for &number in &erased {
        gone.of_vector("an erased embedding", &rows[number]);
        gone.of_vector("an erased g", &enhanced[number]);
        gone.of_bytes("an erased face_id", &id(number).as_bytes()[id(number).len() - WINDOW..]);
    }
    left.of_vector("an embedding", &rows[survivor]);
    left.of_bytes("a face_id", &id(survivor).as_bytes()[id(survivor).len() - WINDOW..]);
    let before: Vec<String> = gone.found_in(&installation.state()).into_keys().collect();
    assert!(before.contains(&"an erased embedding, normalised f32".to_string()), "not there to begin with: {before:?}");
    compact(&installation.state());
    assert_eq!(gone.found_in(&installation.state()), BTreeMap::new(), "before compacting there were {before:?}");
    let still: Vec<String> = left.found_in(&installation.state()).into_keys().collect();
    assert!(still.contains(&"an embedding, normalised f32".to_string()), "{still:?}");
    assert!(still.contains(&"a face_id".to_string()), "{still:?}");

    // After a restart it still stays away, until it is allowed.
    let daemon = installation.start();
    assert_eq!(daemon.metric("facetd_store_suppressed_ids"), erased.len() as f64);
    send(&client, &topics.input(), erased[0], &rows[erased[0]]);
    client.flush();
    daemon.wait_metric(suppressed, 1.0, LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
    allow(&config, &twin.loaded, erased[0]);
    let daemon = installation.start();
    send(&client, &topics.input(), erased[0], &rows[erased[0]]);
    client.flush();
    daemon.wait_metric("facetd_engine_faces", (FACES - erased.len() + 1) as f64, LIMIT);
    until_settled(&daemon);
    assert_eq!(status(&daemon, erased[0]), "200");
    assert!(daemon.terminate().success(), "{}", installation.log());
    readers_were_told(&broker, &installation, &erased);
}

fn compact(state: &Path) {
    Store::open_existing(state).unwrap().compact_all(&mut |_| ()).unwrap();
}

fn allow(config: &Config, LoadedModel { artefact, model }: &LoadedModel, number: usize) {
    let (settings, model) = (ShardSettings::new(config, artefact), model.clone());
    let mut shard =
        Shard::open(&config.state.dir, settings, model, Arc::new(View::default()), Arc::new(Metrics::new())).unwrap();
    shard.allow(vec![face_key("default", &id(number))], Timestamp(2)).unwrap();
}

/// Events, tombstones of the compacted topics and dead letters. The first of `erased` was allowed back.
fn readers_were_told(broker: &MockBroker, installation: &Installation, erased: &[usize]) {
    let topics = &broker.topics;
    let gone: BTreeSet<String> = erased.iter().map(|&number| id(number)).collect();
    let mut told = BTreeSet::new();
    let mut moved = 0;
    for event in read_topic(&topics.brokers, &topics.events()) {
        let event = event.json();
        if event["type"] == "erased" {
            assert_eq!(event["cause"]["kind"], "record", "{event}");
            assert!(told.insert(event["face_id"].as_str().unwrap().to_string()), "told twice: {event}");
        }
        moved += usize::from(event["type"] == "split" || event["type"] == "left");
    }
    assert_eq!(told, gone);
    assert!(moved > 0, "clusters came apart and no event tells of it");

    let back = id(erased[0]);
    let records = read_topic(&topics.brokers, &topics.face_state());
    for face in gone.iter().filter(|&face| *face != back) {
        let key = format!("default/{face}");
        let last = records.iter().rfind(|record| record.key.as_deref() == Some(&key)).unwrap();
        assert!(last.payload.is_none(), "no tombstone for {face}: {last:?}");
    }
    let homes = latest_by_key(records);
    assert_eq!(homes.len(), FACES - erased.len() + 1);
    let lines = installation.inspect(&["faces"]);
    let living: BTreeSet<String> = lines.lines().map(|line| line.split_once('\t').unwrap().1.to_string()).collect();
    let states = latest_by_key(read_topic(&topics.brokers, &topics.cluster_state()));
    let live = states.iter().filter(|(_, state)| state["status"] == "live");
    let live: BTreeSet<String> = live.map(|(key, _)| key.strip_prefix("default/").unwrap().to_string()).collect();
    assert_eq!(live, living, "the compacted topic knows of clusters that are gone, or not of all");

    let letters = read_topic(&topics.brokers, &topics.dead_letters());
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.header("reason").unwrap()).collect();
    assert_eq!(reasons, ["suppressed", "unknown_face", "suppressed"]);
}

// --- without Kafka

const PEOPLE: u64 = 3;
const EACH: usize = 8;

fn of(person: u64, number: usize) -> String {
    format!("person {person} face {number:02}")
}

/// Eight faces of each of three people, settled and published.
fn three_people(driven: &mut Driven, topic: &mut Topic, people: &mut People) -> Vec<Intake> {
    let numbers = (0..PEOPLE).flat_map(|person| (0..EACH).map(move |number| (person, number)));
    let records: Vec<Intake> =
        numbers.map(|(person, number)| topic.face("default", &of(person, number), &people.face_of(person))).collect();
    driven.apply(records.clone(), 1);
    driven.settle(1);
    assert_eq!(driven.engine("default").clusters().book().living(), PEOPLE as usize);
    driven.publish();
    records
}

/// The same records again, as later ones: as when an input topic is filled from its archive.
fn again(topic: &mut Topic, records: &[Intake]) -> Vec<Intake> {
    let later = |record: &Intake| {
        let id = String::from_utf8(record.record.key.clone().unwrap().into_vec()).unwrap();
        let place = topic.erase("default", &id).record;
        Intake { record: place, content: record.content.clone() }
    };
    records.iter().map(later).collect()
}

fn suppressed(driven: &Driven) -> usize {
    let reasons = driven.rejected();
    assert!(reasons.iter().all(|&reason| reason == Reason::Suppressed), "{reasons:?}");
    reasons.len()
}

#[test]
fn a_person_and_a_collection_are_erased_whole_and_stay_away() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(1));
    let mut driven = rig.open();
    let records = three_people(&mut driven, &mut topic, &mut people);
    let collection = name("default");
    let person = driven.engine("default").clusters().book().cluster_of(driven.node("default", &of(1, 0)).unwrap());
    let erase = Request::EraseCluster { cluster: person.unwrap() };
    let outcomes = driven.shard.operate(&collection, vec![erase.clone(), erase], Timestamp(2)).unwrap();
    assert_eq!(outcomes[0], Outcome::Erased(EACH));
    let Outcome::Rejected(rejection) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(rejection.reason, Reason::UnknownCluster);
    driven.settle(2);
    let told: Vec<(String, Cause)> = erased_events(driven.publish());
    assert_eq!(told, (0..EACH).map(|number| (of(1, number), Cause::Api)).collect::<Vec<_>>());
    let shown = driven.view.collection(&collection).unwrap();
    let there = [of(0, 0), of(1, 0), of(2, 0)].map(|id| shown.cluster_of(&face_id(&id)).is_some());
    assert_eq!(there, [true, false, true]);

    let replayed = again(&mut topic, &records);
    driven.apply(replayed, 3);
    assert_eq!((suppressed(&driven), driven.metrics.duplicates.get()), (EACH, 2 * EACH as u64));
    let outcomes = driven.shard.operate(&collection, vec![Request::EraseCollection], Timestamp(4)).unwrap();
    assert_eq!(outcomes, [Outcome::Erased(2 * EACH)]);
    driven.settle(4);
    assert_eq!(erased_events(driven.publish()).len(), 2 * EACH);
    let outcomes = driven.shard.operate(&collection, vec![Request::EraseCollection], Timestamp(4)).unwrap();
    assert_eq!(outcomes, [Outcome::Erased(0)]);
    driven.settle(4);
    driven.publish();
    drop(driven);

    let mut traces = Traces::default();
    for record in &records {
        let facetd::source::Content::Face { face, .. } = &record.content else { panic!() };
        traces.of_vector("an erased embedding", face.embedding.values());
        traces.of_bytes("an erased face_id", face.id.as_str().as_bytes());
    }
    assert!(!traces.found_in(&rig.state()).is_empty());
    compact(&rig.state());
    assert_eq!(traces.found_in(&rig.state()), BTreeMap::new());

    let mut driven = rig.open();
    assert_eq!((driven.engine("default").len(), driven.shard.store().suppressed_count()), (0, 3 * EACH));
    let replayed = again(&mut topic, &records);
    driven.apply(replayed, 5);
    assert_eq!((suppressed(&driven), driven.engine("default").len()), (3 * EACH, 0));
    driven.shard.allow((0..EACH).map(|number| face_key("default", &of(0, number))).collect(), Timestamp(6)).unwrap();
    let replayed = again(&mut topic, &records);
    driven.apply(replayed, 6);
    driven.settle(6);
    assert_eq!((suppressed(&driven), driven.engine("default").len()), (2 * EACH, EACH));
    assert_eq!(driven.engine("default").clusters().book().living(), 1);
}

/// Faces that `erased` events tell of, and why.
fn erased_events(entries: Vec<Entry>) -> Vec<(String, Cause)> {
    let erased = |entry| match entry {
        Entry::Event { event, .. } => match event.change {
            Change::Erased { face, .. } => Some((face.to_string(), event.cause)),
            _ => None,
        },
        entry => panic!("{entry:?}"),
    };
    entries.into_iter().filter_map(erased).collect()
}

#[test]
fn the_order_within_a_batch_is_that_of_the_records() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(2));
    let mut driven = rig.open();
    three_people(&mut driven, &mut topic, &mut people);
    let values = people.face_of(0);
    // Erased and sent again: the later record may be older than the wish to be gone.
    let there = of(0, 0);
    driven.apply(vec![topic.erase("default", &there), topic.face("default", &there, &values)], 2);
    assert_eq!((suppressed(&driven), driven.node("default", &there)), (1, None));
    // Comes, goes, is sent again.
    let records = vec![
        topic.face("default", "passing by", &values),
        topic.erase("default", "passing by"),
        topic.face("default", "passing by", &values),
        topic.erase("default", "passing by"),
    ];
    driven.apply(records, 3);
    assert_eq!((suppressed(&driven), driven.node("default", "passing by")), (1, None));
    // Erased before it comes: nobody knew it, and nothing keeps it away.
    driven.apply(vec![topic.erase("default", "late"), topic.face("default", "late", &values)], 4);
    assert_eq!(driven.rejected(), [Reason::UnknownFace]);
    assert!(driven.node("default", "late").is_some());
    driven.settle(4);
    drop(driven);
    let driven = rig.open();
    assert!(driven.node("default", &there).is_none() && driven.node("default", "passing by").is_none());
    assert_eq!(driven.shard.store().suppressed_count(), 2);
    assert_eq!(driven.engine("default").len(), PEOPLE as usize * EACH);
}

#[test]
fn a_record_read_a_second_time_is_ignored() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(3));
    let mut driven = rig.open();
    let records = three_people(&mut driven, &mut topic, &mut people);
    let erase = topic.erase("default", &of(0, 0));
    driven.apply(vec![erase.clone()], 2);
    driven.settle(2);
    driven.publish();
    let told = driven.engine("default").clusters().book().sequence();
    // From before it, and the erase itself: no dead letter, no event, no change.
    let older: Vec<Intake> = records.into_iter().chain([erase]).collect();
    driven.apply(older.clone(), 3);
    driven.settle(3);
    assert_eq!((driven.publish(), driven.engine("default").clusters().book().sequence()), (vec![], told));
    drop(driven);
    let mut driven = rig.open();
    driven.apply(older, 4);
    assert_eq!((driven.rejected(), driven.engine("default").len()), (vec![], PEOPLE as usize * EACH - 1));
}

#[test]
fn what_an_operator_said_of_an_erased_face_goes_with_it() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(4));
    let mut driven = rig.open();
    three_people(&mut driven, &mut topic, &mut people);
    let collection = name("default");
    let say = |kind, a: String, b: String| {
        let (by, at) = ("somebody".to_string(), Timestamp(2));
        Request::Constrain(Constraint { kind, a: face_id(&a), b: face_id(&b), by, at })
    };
    use ConstraintKind::{CannotLink, MustLink};
    let operate = |driven: &mut Driven, requests| driven.shard.operate(&collection, requests, Timestamp(2)).unwrap();
    let said = vec![
        say(MustLink, of(0, 0), of(1, 0)),
        say(MustLink, of(1, 0), of(2, 0)),
        // Contradictions: of the same two, and along a chain.
        say(CannotLink, of(0, 0), of(1, 0)),
        say(CannotLink, of(0, 0), of(2, 0)),
        // Nobody can be somebody else than himself, and of nobody nothing can be said.
        say(CannotLink, of(0, 0), of(0, 0)),
        say(MustLink, of(0, 0), "nobody".to_string()),
        Request::EraseCluster { cluster: ClusterId(1000) },
        Request::Describe { cluster: ClusterId(1000), pinned: true, name: None },
    ];
    let outcomes = operate(&mut driven, said);
    let reasons: Vec<Option<Reason>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Rejected(rejection) => Some(rejection.reason),
            Outcome::Done => None,
            other => panic!("{other:?}"),
        })
        .collect();
    let (contradiction, nobody) = (Some(Reason::Contradiction), Some(Reason::UnknownFace));
    let cluster = Some(Reason::UnknownCluster);
    assert_eq!(reasons, [None, None, contradiction, contradiction, contradiction, nobody, cluster, cluster]);
    driven.settle(2);
    assert!(driven.are_together("default", &of(0, 0), &of(2, 0)));

    // It held three people together; without it nobody says so any more.
    driven.apply(vec![topic.erase("default", &of(1, 0))], 3);
    driven.settle(3);
    assert!(!driven.are_together("default", &of(0, 0), &of(2, 0)));
    assert_eq!(driven.shard.store().constraints(&collection).unwrap(), []);
    // What contradicted it then may be said now.
    assert_eq!(operate(&mut driven, vec![say(CannotLink, of(0, 0), of(2, 0))]), [Outcome::Done]);
    driven.settle(3);
    driven.publish();
    drop(driven);
    let mut traces = Traces::default();
    traces.of_bytes("an erased face_id", of(1, 0).as_bytes());
    compact(&rig.state());
    assert_eq!(traces.found_in(&rig.state()), BTreeMap::new());
    assert_eq!(rig.open().shard.store().constraints(&collection).unwrap().len(), 1);
}

// --- the search itself

#[test]
fn half_precision_is_that_of_the_standard() {
    for (value, half) in [
        (0.0f32, 0x0000u16),
        (1.0, 0x3c00),
        (-2.0, 0xc000),
        (0.333_251_95, 0x3555),
        (65504.0, 0x7bff),
        (65520.0, 0x7c00),
        (2f32.powi(-14), 0x0400),
        (2f32.powi(-24), 0x0001),
        (2f32.powi(-26), 0x0000),
        (1.0 + 2f32.powi(-11), 0x3c00),
        (1.0 + 3.0 * 2f32.powi(-11), 0x3c02),
        (2.0 - 2f32.powi(-12), 0x4000),
    ] {
        assert_eq!(half_precision(value), half, "{value}");
    }
}

/// Without this, a search that finds nothing would prove nothing.
#[test]
fn sixteen_bytes_of_any_form_are_found_wherever_they_are() {
    let values = People::new(9).face_of(1);
    assert_eq!(values.len(), DIMENSION);
    let mut traces = Traces::default();
    traces.of_vector("a", &values);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    std::fs::write(folder.path().join("deep/nothing"), [7; 4096]).unwrap();
    assert_eq!(traces.found_in(folder.path()), BTreeMap::new());
    let forms = forms(&values);
    assert_eq!(forms.len(), 8);
    for form in forms {
        let file = folder.path().join("deep/file");
        std::fs::write(&file, [&[7; 13], &form.bytes[11..11 + WINDOW], &[7; 3]].concat()).unwrap();
        let found = BTreeMap::from([(format!("a, {}", form.name), BTreeSet::from([file]))]);
        assert_eq!(traces.found_in(folder.path()), found);
    }
}
