//! Promise: a state of every older format opens, holds what it held, and goes on.
//!
//! tests/fixtures/states has one of each, and says how they were made.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::bare_shard::{DIMENSION, Driven, People, Rig, face_id, name};
use common::{output_of, project};
use facetd::engine::changes::{Constraint, ConstraintKind, KeptLinkages, Request, Restored, RestoredFace};
use facetd::face::{ClusterId, Embedding, Face, Offset, Partition, Place, Timestamp};
use facetd::source::{Content, Intake, Record};
use facetd::store::Store;
use serde_json::{Value, json};

/// The format that was made last.
const NEWEST: u32 = 2;

fn fixtures() -> PathBuf {
    project().join("tests/fixtures/states")
}

fn archive(format: u32) -> PathBuf {
    fixtures().join(format!("state-format-{format}.tar.gz"))
}

fn expected(format: u32) -> PathBuf {
    fixtures().join(format!("state-format-{format}.json"))
}

// --- what a state holds

/// All that a state holds, in words that no format changes.
fn told(path: &Path) -> String {
    let store = Store::open_existing(path).unwrap();
    let contents = store.contents().unwrap();
    let collections = contents.collections.iter().map(|(name, restored)| (name.to_string(), told_of(restored)));
    let positions = contents.positions.iter().map(|(partition, position)| json!([partition, position.next]));
    let unpublished = store.outbox().pending(0, usize::MAX).unwrap();
    let unpublished = unpublished.iter().map(|pending| json!([pending.sequence, pending.entry]));
    let value = json!({
        "state_uuid": store.state_uuid(),
        "dimension": store.dimension(),
        "collections": collections.collect::<serde_json::Map<_, _>>(),
        "positions": positions.collect::<Vec<_>>(),
        "last_outbox_sequence": store.outbox().durable().sequence,
        "unpublished": unpublished.collect::<Vec<_>>(),
        "suppressed": store.suppressed_count(),
        "erased_is_suppressed": store.is_suppressed(&name("lobby"), &face_id(ERASED)),
        "other_is_suppressed": store.is_suppressed(&name("gate"), &face_id(ERASED)),
    });
    format!("{value:#}\n")
}

fn told_of(restored: &Restored) -> Value {
    let linkages = restored.linkages.iter().map(|KeptLinkages { node, linkages }| json!([node, linkages]));
    json!({
        "faces": restored.faces.iter().map(told_of_face).collect::<Vec<_>>(),
        "linkages": linkages.collect::<Vec<_>>(),
        "clusters": restored.clusters,
        "constraints": restored.constraints,
        "counters": restored.counters,
    })
}

fn told_of_face(face: &RestoredFace) -> Value {
    let bits = face.embedding.values().iter().map(|value| value.to_bits());
    json!({ "node": face.node, "record": face.record, "embedding_bits": bits.collect::<Vec<_>>() })
}

// --- how a fixture is made

const ERASED: &str = "person-2-face-1";

/// Records with places in two partitions.
#[derive(Default)]
struct Input {
    next: [i64; 2],
}

impl Input {
    fn record(&mut self, partition: usize, id: &str) -> Record {
        let place = Place { partition: Partition(partition as i32), offset: Offset(self.next[partition]) };
        self.next[partition] += 1;
        Record {
            place,
            key: Some(id.as_bytes().into()),
            payload_bytes: 7,
            payload_sha256: [3; 32],
            timestamp: None,
            followed: None,
        }
    }

    fn face(&mut self, collection: &str, id: &str, values: &[f32], frame: Option<&str>) -> Intake {
        let record = self.record(id.len() % 2, id);
        let face = Face {
            id: face_id(id),
            embedding: Embedding::normalise(values, DIMENSION).unwrap(),
            frame_id: frame.map(face_id),
            quality: frame.map(|_| 0.75),
            captured_at: frame.map(|_| Timestamp(1_700_000_000_000)),
            place: record.place,
        };
        Intake { record, content: Content::Face { collection: name(collection), face } }
    }

    fn erasure(&mut self, collection: &str, id: &str) -> Intake {
        let record = self.record(1, id);
        Intake { record, content: Content::Erase { collection: name(collection), face_id: face_id(id) } }
    }
}

fn operate(driven: &mut Driven, collection: &str, request: Request) {
    driven.shard.operate(&name(collection), vec![request], Timestamp(1_700_000_100_000)).unwrap();
}

fn cluster_of(driven: &Driven, collection: &str, id: &str) -> ClusterId {
    let node = driven.node(collection, id).unwrap();
    driven.engine(collection).clusters().book().cluster_of(node).unwrap()
}

/// Fills the state of `rig` with something of everything a state can hold.
fn fill(rig: &Rig) {
    let (mut input, mut people) = (Input::default(), People::new(7));
    let now = 1_700_000_000_500;
    let mut driven = rig.open();
    let mut arrive = |input: &mut Input, collection: &str, persons: std::ops::Range<u64>, faces: u64| {
        let mut records = Vec::new();
        for (person, number) in persons.flat_map(|person| (0..faces).map(move |number| (person, number))) {
            let id = format!("person-{person}-face-{number}{}", if number == 2 { "-é" } else { "" });
            let frame = (number == 0).then(|| format!("frame-{person}"));
            records.push(input.face(collection, &id, &people.face_of(person), frame.as_deref()));
        }
        records
    };
    let first = arrive(&mut input, "lobby", 0..5, 5);
    driven.apply(first, now);
    let second = arrive(&mut input, "gate", 3..6, 3);
    driven.apply(second, now);
    driven.settle(now);
    driven.publish();

    // A face that is replaced, one that is erased and kept from coming back, and a cluster that
    // an operator's word has merged: it is in the way of those that have it as home.
    let replaced = input.face("lobby", "person-0-face-1", &people.face_of(1), None);
    let erased = input.erasure("lobby", ERASED);
    driven.apply(vec![replaced, erased], now + 1);
    let other = input.face("gate", "person-3-face-1", &people.face_of(4), None);
    driven.apply(vec![other], now + 1);
    driven.settle(now + 1);
    let word = |kind, a: &str, b: &str| {
        Request::Constrain(Constraint { kind, a: face_id(a), b: face_id(b), by: "ada".into(), at: Timestamp(now) })
    };
    operate(&mut driven, "lobby", word(ConstraintKind::MustLink, "person-3-face-1", "person-4-face-1"));
    operate(&mut driven, "lobby", word(ConstraintKind::CannotLink, "person-0-face-0", "person-2-face-0"));
    driven.settle(now + 2);
    drop(driven);
    Store::open_existing(&rig.state()).unwrap().compact_all(&mut |_| ()).unwrap();

    // What comes after is not published any more, and not everything is settled.
    let mut driven = rig.open();
    driven.settle(now + 3);
    driven.publish();
    let named = cluster_of(&driven, "lobby", "person-1-face-0");
    operate(&mut driven, "lobby", Request::Describe { cluster: named, pinned: true, name: Some("Ada".into()) });
    let late = input.face("lobby", "late-face-1", &people.face_of(1), Some("frame-1"));
    let unknown = input.erasure("gate", "nobody");
    let suppressed = input.face("lobby", ERASED, &people.face_of(2), None);
    let gate = input.face("gate", "late-face-22", &people.face_of(3), None);
    driven.apply(vec![late, unknown, suppressed, gate], now + 4);
}

/// Makes the fixture of the format that this program writes. To be run when the format is about to
/// be raised, by the program as it was before.
#[test]
#[ignore = "makes tests/fixtures/states anew; only before the format is raised"]
fn make_the_fixture_of_the_format_written_today() {
    let rig = Rig::new("");
    fill(&rig);
    // What it reads as, and then the very files it was read from.
    std::fs::write(expected(NEWEST), told(&rig.state())).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-czf"]).arg(archive(NEWEST));
    output_of(tar.arg("-C").arg(rig.state().parent().unwrap()).args(["--exclude=LOCK", "state"]));
}

fn unpacked(format: u32, into: &Path) -> PathBuf {
    output_of(Command::new("tar").arg("-xzf").arg(archive(format)).arg("-C").arg(into));
    into.join("state")
}

#[test]
fn every_fixture_holds_something_of_everything() {
    for format in 2..=NEWEST {
        let text = std::fs::read_to_string(expected(format)).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let lobby = &value["collections"]["lobby"];
        let some = |list: &Value, is: &dyn Fn(&Value) -> bool| list.as_array().unwrap().iter().any(is);
        assert!(lobby["faces"].as_array().unwrap().len() > 20 && value["collections"]["gate"].is_object());
        assert!(some(&lobby["clusters"], &|cluster| !cluster["merged_into"].is_null()));
        assert!(some(&lobby["clusters"], &|cluster| cluster["pinned"] == true && cluster["name"] == "Ada"));
        assert!(some(&lobby["faces"], &|face| face["record"]["id"] == "person-0-face-1"));
        assert!(!some(&lobby["faces"], &|face| face["record"]["id"] == ERASED));
        assert_eq!((&value["erased_is_suppressed"], &value["other_is_suppressed"]), (&true.into(), &false.into()));
        assert_eq!(lobby["constraints"].as_array().unwrap().len(), 2);
        assert_eq!(value["positions"].as_array().unwrap().len(), 2);
        for kind in ["Event", "DeadLetter", "ClusterState"] {
            assert!(some(&value["unpublished"], &|entry| !entry[1][kind].is_null()), "no {kind}");
        }
        let folder = tempfile::tempdir().unwrap();
        let state = unpacked(format, folder.path());
        let files = std::fs::read_dir(state.join("vectors")).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert!(files.iter().any(|file| file.ends_with(".2.vectors")), "{files:?}");
    }
}

#[test]
fn a_state_of_an_older_format_holds_what_it_held() {
    for format in 2..=NEWEST {
        let folder = tempfile::tempdir().unwrap();
        let state = unpacked(format, folder.path());
        let expected = std::fs::read_to_string(expected(format)).unwrap();
        for time in ["first", "second"] {
            assert_eq!(told(&state), expected, "format {format}, opened for the {time} time");
            assert!(!state.join("sled.old").exists() && !state.join("sled.new").exists());
        }
    }
}

#[test]
fn a_state_of_an_older_format_goes_on() {
    for format in 2..=NEWEST {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::at(unpacked(format, folder.path()));
        let mut input = Input { next: [1000, 1000] };
        let mut people = People::new(9);
        let mut driven = rig.open();
        let before = driven.engine("lobby").len();
        let now = 1_700_000_200_000;
        let [arriving, suppressed] = ["new-face-1", ERASED].map(|id| input.face("lobby", id, &people.face_of(1), None));
        driven.apply(vec![arriving, suppressed, input.erasure("gate", "person-5-face-0")], now);
        driven.settle(now);
        assert!(driven.node("lobby", "new-face-1").is_some() && driven.node("lobby", ERASED).is_none());
        assert_eq!(driven.engine("lobby").len(), before + 1);
        let clusters = |driven: &Driven| cluster_of(driven, "lobby", "person-1-face-0");
        let (cluster, sequence) = (clusters(&driven), driven.shard.outbox().durable().sequence);
        drop(driven);
        let driven = rig.open();
        assert_eq!((clusters(&driven), driven.shard.outbox().durable().sequence), (cluster, sequence));
        assert!(driven.node("gate", "person-5-face-0").is_none());
        assert!(driven.shard.store().commit_sequence() > 0);
    }
}
