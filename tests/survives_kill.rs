//! Promise: nothing is lost and nothing is there twice, however often and wherever the daemon is killed:
//! at random moments, and at every failpoint before and after each step of commit, publication, compaction
//! and snapshot; with the broker killed too and the clock jumping. Every event is in Kafka once, in order and gapless; every
//! record of the input is applied or dead-lettered once; state, events and compacted topics agree; and the
//! clusters are those of the batch pipeline on the faces that are left.
//!
//! KILLS says how often (`make torture`: 500), SEED repeats a run.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use common::broker::{RealKafka, Topics};
use common::chance::Chance;
use common::daemon::{Installation, Running, Settings};
use common::faces::Dataset;
use common::kafka_client::{Feed, group_lag, read_topic};
use common::told::{Cause, batch_partition, check_outbox, compacted_partition, rows_together, state_partition, told};
use common::{project, wait_for};
use facetd::codec::{Message, json};
use facetd::evaluate::evaluate;

const PROMISE: &str = "nothing lost, nothing twice through random kills and failpoints, with a real Kafka";
const KILLS: usize = 80;
/// How long a daemon may take to die at a failpoint it should come by.
const DEATH: Duration = Duration::from_secs(30);
/// How long it may have nothing to do: several snapshots would have been cut.
const QUIET: Duration = Duration::from_secs(2);
const STREAM: Duration = Duration::from_secs(600);
/// Of so many deaths one comes with a broker that dies too, and one with a clock that is wrong.
const BROKER_DIES: usize = 10;
const CLOCK_JUMPS: usize = 4;
/// Its faces are replaced over and over, so that vector files are compacted. A batch pipeline has no such thing.
const CHURN: &str = "churn";
const CHURNING: usize = 200;
const CHURN_PER_FACE: usize = 3;
/// So many faces later a face comes again with another embedding, or is erased: far more than a batch holds.
const REPLACED_AFTER: usize = 70;
const ERASED_AFTER: usize = 150;
const GARBAGE: &str = "{\"embedding\":";

/// A record of the input and when it is sent.
struct Sent {
    key: String,
    collection: &'static str,
    payload: Option<Vec<u8>>,
}

#[test]
fn nothing_is_lost_and_nothing_is_there_twice() {
    let Some(kafka) = RealKafka::start_own(PROMISE) else { return };
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut chance = Chance::from_environment();
    let dataset = Dataset::real_or_synthetic(PROMISE);
    let topics = kafka.topics(None);
    let more = "[engine]\nbatch_faces = 32\n";
    let installation = Installation::new(&Settings { topics: &topics, model: &dataset.model, more });
    let feed = Feed::connect(&topics);
    let input = input_of(&dataset);
    let slices: Vec<&[Sent]> = input.chunks(input.len().div_ceil(kills)).collect();
    let mut failpoints = Failpoints::of_the_source();
    let mut random = 0;
    let started = Instant::now();
    for kill in 0..kills {
        let clock = if kill % CLOCK_JUMPS == 1 { chance.below(1_000_000_000) as i64 - 500_000_000 } else { 0 };
        let point = (kill % 3 > 0).then(|| failpoints.next(&mut chance, &installation.log()));
        let plan = Plan { point: point.clone(), clock };
        let daemon = installation.spawn(|command| {
            command.env("FAILPOINTS", plan.to_string()).env("FACETD_STATE__SNAPSHOT_INTERVAL", "500ms");
        });
        let slice = slices.get(kill).copied().unwrap_or_default();
        slice.iter().for_each(|sent| feed.send(&sent.key, sent.payload.as_deref(), sent.collection));
        if kill % BROKER_DIES == 5 {
            kafka.kill();
            kafka.start_again();
        }
        feed.flush();
        match point {
            Some(_) => dies_by_itself(daemon),
            None => {
                random += 1;
                dies_after(Duration::from_millis(chance.below(4000) as u64), daemon);
            }
        }
    }
    let fired = failpoints.fired(&installation.log());
    println!("{random} random kills, {:.0} s; failpoints that fired: {fired:#?}", started.elapsed().as_secs_f64());
    assert!(fired.values().all(|&times| times > 0), "a failpoint never fired: {fired:?}");

    for sent in slices.iter().skip(kills).copied().flatten() {
        feed.send(&sent.key, sent.payload.as_deref(), sent.collection);
    }
    feed.flush();
    let daemon = installation.start();
    let read = || (group_lag(&topics.brokers, &topics.group(), &topics.input()) == 0).then_some(());
    wait_for("every record of the input to be applied", STREAM, read);
    daemon.wait_settled(STREAM);
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(!installation.log().contains("panicked"), "{}", installation.log());
    check(&topics, &installation, &dataset);
}

/// What happens to one daemon.
struct Plan {
    point: Option<String>,
    clock: i64,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "clock=return({})", self.clock)?;
        match &self.point {
            Some(point) => write!(f, ";{point}"),
            None => Ok(()),
        }
    }
}

/// Every failpoint that a running daemon comes by.
struct Failpoints {
    names: Vec<String>,
    next: usize,
}

impl Failpoints {
    /// As the source names them, so that none is forgotten here.
    fn of_the_source() -> Failpoints {
        let mut names = BTreeSet::new();
        collect(&project().join("src"), &mut names);
        let rooms = ["store::", "compact::", "rewrite::", "publish::", "snapshot::"];
        names.retain(|name| rooms.iter().any(|room| name.starts_with(room)));
        assert!(names.len() >= 13, "{names:?}");
        Failpoints { names: names.into_iter().collect(), next: 0 }
    }

    /// One after the other, those that have fired least first; some of the times it is come by are let go. Beside it those of the
    /// rare ones that have fired least: a daemon comes by them only now and then, so they wait for their occasion; and
    /// as long as one has never had it, every other life is theirs alone.
    fn next(&mut self, chance: &mut Chance, log: &str) -> String {
        self.next += 1;
        let fired = self.fired(log);
        let is_rare = |name: &&String| !["store::", "publish::"].iter().any(|room| name.starts_with(room));
        let (rare, common): (Vec<&String>, Vec<&String>) = self.names.iter().partition(is_rare);
        let place = |number: usize| common[(self.next + number) % common.len()];
        let name = (0..common.len()).map(place).min_by_key(|&name| fired[name]).expect("there are some");
        // A transaction holds many commits, so a publication is come by less often.
        let let_go = if name.starts_with("store::") { 8 } else { 3 };
        let now = match chance.below(let_go) {
            0 => format!("{name}=return"),
            let_go => format!("{name}={let_go}*off->return"),
        };
        let least = rare.iter().map(|&name| fired[name]).min();
        let waiting = rare.into_iter().filter(|&name| Some(fired[name]) == least);
        let mut points: Vec<String> = waiting.map(|name| format!("{name}=return")).collect();
        if least != Some(0) || self.next % 2 == 1 {
            points.push(now);
        }
        points.join(";")
    }

    fn fired(&self, log: &str) -> BTreeMap<String, usize> {
        let count = |name: &String| log.matches(&format!("failpoint {name}: dying")).count();
        self.names.iter().map(|name| (name.clone(), count(name))).collect()
    }
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = text.split("failpoint::reached(\"").skip(1);
            names.extend(calls.map(|rest| rest.split_once('"').unwrap().0.to_string()));
        }
    }
}

/// Waits for a death at a failpoint, for as long as there is something to do. One that it does not come by is found out in
/// the end.
fn dies_by_itself(mut daemon: Running) {
    let (started, mut busy) = (Instant::now(), Instant::now());
    while daemon.has_ended().is_none() && started.elapsed() < DEATH && busy.elapsed() < QUIET {
        if !daemon.is_idle() {
            busy = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.kill();
}

/// Kills at a moment of chance: this is no wait for anything.
fn dies_after(moment: Duration, daemon: Running) {
    std::thread::sleep(moment);
    daemon.kill();
}

/// The faces in order; among them some that come with another embedding first and are replaced, some that come
/// twice, some that are erased later and some that are sent again after that, and garbage. Beside them the churn.
fn input_of(dataset: &Dataset) -> Vec<Sent> {
    let rows = dataset.rows();
    let face = |row: usize, embedding: usize| Sent {
        key: format!("{row:08}"),
        collection: "default",
        payload: Some(json::encode(&Message { embedding: rows[embedding].clone(), ..Message::default() })),
    };
    let mut later: BTreeMap<usize, Vec<Sent>> = BTreeMap::new();
    let mut input = Vec::new();
    // Beyond the last face only what comes later, and the churn: what comes and goes in one batch is never told.
    for row in 0..=rows.len() + ERASED_AFTER {
        input.extend(later.remove(&row).into_iter().flatten());
        if row < rows.len() {
            if row % 23 == 5 {
                input.push(face(row, (row + 1) % rows.len()));
                later.entry(row + REPLACED_AFTER).or_default().push(face(row, row));
            } else {
                input.push(face(row, row));
            }
            if row % 61 == 3 {
                input.push(face(row, row));
            }
            if is_erased(row) {
                let erase = Sent { payload: None, ..face(row, row) };
                let again = (row % 80 == 7).then(|| face(row, row));
                later.entry(row + ERASED_AFTER).or_default().extend([Some(erase), again].into_iter().flatten());
            }
            if row % 97 == 0 {
                input.push(Sent { payload: Some(GARBAGE.as_bytes().to_vec()), ..face(row, row) });
            }
        }
        for turn in 0..CHURN_PER_FACE {
            let number = row * CHURN_PER_FACE + turn;
            let sent = face(number % CHURNING, (number * 7) % rows.len());
            input.push(Sent { key: format!("churn-{}", sent.key), collection: CHURN, ..sent });
        }
    }
    assert!(later.is_empty());
    input
}

fn is_erased(row: usize) -> bool {
    row % 40 == 7
}

/// What has to become of the input, by a small model of it: every record has one end.
#[derive(Default)]
struct Expected {
    came: BTreeMap<Cause, String>,
    erased: BTreeMap<Cause, String>,
    rejected: BTreeSet<Cause>,
    there: BTreeSet<String>,
}

impl Expected {
    /// Records of one face are in one partition, so the order of partitions does not matter.
    fn of(topics: &Topics, collection: &str) -> Expected {
        let mut expected = Expected::default();
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for record in read_topic(&topics.brokers, &topics.input()) {
            if record.header("collection") != Some(collection) {
                continue;
            }
            let cause = (i64::from(record.partition), record.offset);
            let face = record.key.unwrap();
            let is_garbage = record.payload.as_deref() == Some(GARBAGE);
            match record.payload {
                Some(_) if is_garbage => drop(expected.rejected.insert(cause)),
                Some(_) if gone.contains(&face) => drop(expected.rejected.insert(cause)),
                Some(_) if expected.there.insert(face.clone()) => drop(expected.came.insert(cause, face)),
                Some(_) => {}
                None if expected.there.remove(&face) => {
                    expected.erased.insert(cause, face.clone());
                    gone.insert(face);
                }
                None => {}
            }
        }
        expected
    }
}

/// What of `some` is not in `others`.
fn without<'a>(some: &'a BTreeMap<Cause, String>, others: &BTreeMap<Cause, String>) -> Vec<(&'a Cause, &'a String)> {
    some.iter().filter(|(cause, face)| others.get(cause) != Some(face)).collect()
}

fn check(topics: &Topics, installation: &Installation, dataset: &Dataset) {
    check_outbox(topics);
    let mut rejected = BTreeSet::new();
    for record in read_topic(&topics.brokers, &topics.dead_letters()) {
        let letter = record.json();
        let cause = (letter["partition"].as_i64().unwrap(), letter["offset"].as_i64().unwrap());
        assert!(rejected.insert(cause), "the record at {cause:?} was rejected twice");
    }
    for collection in ["default", CHURN] {
        let expected = Expected::of(topics, collection);
        let told = told(topics, collection);
        println!("{collection}: {} faces, {:?}", told.partition.len(), told.kinds);
        let (told_too, missing) = (without(&told.came, &expected.came), without(&expected.came, &told.came));
        assert!(told_too.is_empty() && missing.is_empty(), "{collection}: told {told_too:?}, and not {missing:?}");
        assert!(told.erased == expected.erased, "{collection}: other records erased faces than should");
        for cause in expected.rejected {
            assert!(rejected.remove(&cause), "the record at {cause:?} was not rejected");
        }
        assert!(told.partition.keys().eq(&expected.there));
        assert!(told.partition == state_partition(installation, collection), "{collection}: events and state differ");
    }
    assert!(rejected.is_empty(), "records were rejected that should not be: {rejected:?}");
    let kept = state_partition(installation, "default");
    assert!(compacted_partition(topics) == kept, "compacted topics and state differ");
    let batch = batch_partition(dataset, |row| !is_erased(row));
    let labels = dataset.labels();
    let truth: Vec<i64> = kept.keys().map(|face| labels[face.parse::<usize>().unwrap()]).collect();
    let predicted: Vec<u64> = kept.values().copied().collect();
    println!("settled, on {}:\n{}", dataset.name, evaluate(&truth, &predicted).unwrap());
    assert!(rows_together(&kept) == batch, "the settled stream is not the batch of the faces that are left");
}
