//! Promise: a collection keeps as much as it is told to, however long the stream: what expires goes
//! as if it were erased, memory and disk stay flat, and a restart loses nothing else.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use common::bare_shard::{Driven, People, Rig, Topic};
use facetd::engine::event::{Cause, Change};
use facetd::rejection::Reason;
use facetd::source::Intake;
use facetd::store::Entry;

/// Memory is the process's, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const HOUR: i64 = 3_600_000;

fn ids(driven: &Driven) -> BTreeSet<String> {
    let faces = driven.engine("default").faces();
    faces.live().map(|node| faces.id(node).as_str().to_string()).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| id.to_string()).collect()
}

/// The faces that `expired` events tell of.
fn expired(entries: Vec<Entry>) -> BTreeSet<String> {
    let face = |entry| match entry {
        Entry::Event { event, .. } if event.cause == Cause::Expired => match event.change {
            Change::Erased { face, .. } => Some(face.as_str().to_string()),
            _ => None,
        },
        _ => None,
    };
    entries.into_iter().filter_map(face).collect()
}

#[test]
fn a_face_expires_by_when_it_was_captured_also_after_a_restart() {
    let _alone = ALONE.lock();
    let (rig, mut topic, mut people) = (Rig::new("[collections]\nmax_age = \"1h\""), Topic::default(), People::new(1));
    let mut driven = rig.open();
    let mut face =
        |topic: &mut Topic, id: &str, captured_at| topic.captured("default", id, &people.face_of(1), captured_at);
    let start = 100 * HOUR;
    let faces = vec![
        face(&mut topic, "an hour old", Some(start - HOUR)),
        face(&mut topic, "half an hour old", Some(start - HOUR / 2)),
        face(&mut topic, "without a time", None),
        face(&mut topic, "of a camera whose clock is ahead", Some(start + 1000 * HOUR)),
        face(&mut topic, "too old", Some(start - HOUR - 1)),
    ];
    driven.apply(faces, start);
    let kept = ["an hour old", "half an hour old", "without a time", "of a camera whose clock is ahead"];
    assert_eq!(ids(&driven), set(&kept));
    let entries = driven.publish();
    let letters: Vec<Reason> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::DeadLetter(letter) => Some(letter.rejection.reason),
            _ => None,
        })
        .collect();
    assert_eq!(letters, [Reason::Expired]);
    driven.settle(start);
    driven.publish();

    driven.settle(start + 1);
    assert_eq!(ids(&driven), set(&kept[1..]), "an hour and a millisecond are more than an hour");
    assert_eq!(expired(driven.publish()), set(&kept[..1]));
    drop(driven);
    let mut driven = rig.open();
    assert_eq!(ids(&driven), set(&kept[1..]), "a restart loses nobody");
    driven.settle(start + HOUR / 2);
    assert_eq!(ids(&driven), set(&kept[1..]));
    driven.settle(start + HOUR / 2 + 1);
    assert_eq!(ids(&driven), set(&kept[2..]));
    assert_eq!(expired(driven.publish()), set(&kept[1..2]));
    driven.settle(start + HOUR);
    assert_eq!(ids(&driven), set(&kept[2..]), "without a time, or one of the future, the arrival counts");
    // A clock that is set back makes nobody younger.
    driven.settle(start + HOUR + 1);
    driven.settle(start);
    assert_eq!(ids(&driven), set(&[]));
    drop(driven);
    assert_eq!(ids(&rig.open()), set(&[]));
}

#[test]
fn what_expired_may_come_again() {
    let _alone = ALONE.lock();
    let (rig, mut topic, mut people) = (Rig::new("[collections]\nmax_age = \"1h\""), Topic::default(), People::new(2));
    let mut driven = rig.open();
    let values = people.face_of(1);
    driven.apply(vec![topic.face("default", "a", &values)], HOUR);
    driven.settle(3 * HOUR);
    assert_eq!((ids(&driven), driven.shard.store().suppressed_count()), (set(&[]), 0));
    driven.apply(vec![topic.face("default", "a", &values)], 3 * HOUR);
    assert_eq!((ids(&driven), driven.rejected()), (set(&["a"]), vec![]));
}

#[test]
fn the_oldest_make_room_and_nobody_else_goes() {
    let _alone = ALONE.lock();
    let limits = "[collections]\nmax_faces = 4\nmax_age = \"1h\"";
    let (rig, mut topic, mut people) = (Rig::new(limits), Topic::default(), People::new(3));
    let mut driven = rig.open();
    let now = 50 * HOUR;
    let mut face =
        |topic: &mut Topic, id: &str, age: i64| topic.captured("default", id, &people.face_of(1), Some(now - age));
    let four: Vec<Intake> =
        [("a", 10), ("b", 40), ("c", 30), ("d", 20)].map(|(id, age)| face(&mut topic, id, age)).into();
    let duplicate = four[0].content.clone();
    driven.apply(four, now);
    driven.apply(vec![face(&mut topic, "e", 5)], now);
    assert_eq!(ids(&driven), set(&["a", "c", "d", "e"]), "the oldest by the time it was captured goes");

    // Neither what is turned away nor what is there already needs room.
    let late: Vec<Intake> = ["f", "g", "h"].map(|id| face(&mut topic, id, 2 * HOUR)).into();
    driven.apply(late, now);
    assert_eq!(ids(&driven), set(&["a", "c", "d", "e"]), "records that came too late pushed out faces that had not");
    let again = Intake { content: duplicate, ..face(&mut topic, "a", 10) };
    driven.apply(vec![again], now);
    assert_eq!(ids(&driven), set(&["a", "c", "d", "e"]));
    let twice = vec![face(&mut topic, "i", 4), face(&mut topic, "i", 3)];
    driven.apply(twice, now);
    assert_eq!(ids(&driven), set(&["a", "d", "e", "i"]), "two faces of one id need one place");

    // More at once than there may be.
    let many: Vec<Intake> = (0..9).map(|number| face(&mut topic, &format!("many {number}"), 2)).collect();
    driven.apply(many, now);
    driven.settle(now);
    assert_eq!(ids(&driven).len(), 4);
    drop(driven);
    assert_eq!(ids(&rig.open()).len(), 4);
}

/// A stream with ten times what is kept.
struct Stream {
    kept: usize,
    arrivals: usize,
    batch: usize,
}

/// What there is after so many arrivals.
struct Point {
    arrivals: usize,
    resident: u64,
    on_disk: u64,
}

/// People come and go: at any time some hundreds are about, each with dozens of faces. Prints memory
/// and disk at each twentieth.
fn churn(stream: &Stream) -> Vec<Point> {
    let Stream { kept, arrivals, batch } = *stream;
    // A graph small enough to be built anew a dozen times.
    let settings = format!(
        "[engine]\nhnsw_few = {}\nhnsw_connections = 8\nhnsw_ef_construction = 32\nhnsw_ef_search = 16\n\
         [collections]\nmax_faces = {kept}\n",
        kept / 10
    );
    let (rig, mut topic, mut people) = (Rig::new(&settings), Topic::default(), People::new(4));
    let mut driven = rig.open();
    let mut points = Vec::new();
    let started = Instant::now();
    println!("{kept} faces kept, {arrivals} arrive, {batch} a batch");
    println!("arrivals   seconds   faces   clusters   stale   index points   compactions   disk MB   resident MB");
    let mut arrived = 0;
    while arrived < arrivals {
        let faces = (arrived..arrived + batch).map(|number| {
            let person = (number / (kept / 2)) as u64 * 1000 + people.next() % 400;
            let values = people.face_of(person);
            topic.face("default", &format!("cam3/2026-11-23T18:00:00.{number:09}Z/0"), &values)
        });
        driven.apply(faces.collect(), arrived as i64);
        arrived += batch;
        driven.shard.idle(facetd::face::Timestamp(arrived as i64)).unwrap();
        driven.publish();
        let twentieth = |arrived: usize| arrived * 20 / arrivals;
        if twentieth(arrived) > twentieth(arrived - batch) {
            let point = Point { arrivals: arrived, resident: resident(), on_disk: size_of(&rig.state()) };
            let engine = driven.engine("default");
            println!(
                "{arrived:>8} {:>9.1} {:>7} {:>10} {:>7} {:>14} {:>13} {:>9.1} {:>13.1}",
                started.elapsed().as_secs_f64(),
                engine.len(),
                engine.clusters().book().living(),
                engine.stale(),
                engine.index().points(),
                driven.metrics.store_compactions.get(),
                point.on_disk as f64 / 1e6,
                point.resident as f64 / 1e6,
            );
            assert!(engine.len() <= kept);
            points.push(point);
        }
    }
    drop(driven);
    let driven = rig.open();
    assert_eq!(driven.engine("default").len(), kept, "after a restart");
    points
}

fn stays_flat(stream: &Stream) {
    let points = churn(stream);
    let (first, second) = points.split_at(points.len() / 2);
    let memory = slope(second, |point| point.resident);
    // The log grows and is written anew, again and again: it is the height that must not grow.
    let highest = |half: &[Point]| half.iter().map(|point| point.on_disk).max().expect("a half has points");
    let (before, after) = (highest(first), highest(second));
    println!(
        "second half: resident {memory:.1} bytes an arrival; on disk {:.1} MB at most, {:.1} MB in the first half",
        after as f64 / 1e6,
        before as f64 / 1e6
    );
    // A face kept takes some 1,500 bytes of memory and as many of disk, of which its id alone takes 37.
    // What grows by less than that an arrival does not hold on to faces.
    assert!(memory < 32.0, "memory grows by {memory:.1} bytes an arrival");
    assert!(after < before + before / 4, "the state was {before} bytes at most, then {after}");
}

#[test]
fn memory_and_disk_stay_flat_while_ten_times_what_is_kept_arrives() {
    let _alone = ALONE.lock();
    stays_flat(&Stream { kept: 20_000, arrivals: 200_000, batch: 500 });
}

/// The slope of the line of least squares.
fn slope(points: &[Point], value: impl Fn(&Point) -> u64) -> f64 {
    let mean = |of: &dyn Fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (middle, level) = (mean(&|point| point.arrivals as f64), mean(&|point| value(point) as f64));
    let rise = mean(&|point| (point.arrivals as f64 - middle) * (value(point) as f64 - level));
    rise / mean(&|point| (point.arrivals as f64 - middle).powi(2))
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let size = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        found if found.is_dir() => size_of(&entry.path()),
        found => found.len(),
    };
    entries.map(size).sum()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a resident size");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap() * 1024
}
