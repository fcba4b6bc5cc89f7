//! Promise: a backup of a running daemon is the state as it was between two commits, and comes back as
//! that or not at all.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::faces::Dataset;
use common::kafka_client::read_topic;
use common::{facetd, output_of};
use facetd::engine::changes::Restored;
use facetd::face::{CollectionName, FaceId, Place};
use facetd::reader::{Clusters, EventReader};
use facetd::store::Store;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const FACES: usize = 1500;
const EXACT: &str = "[engine]\nindex = \"exact\"\nbatch_faces = 16\n";

fn back_up(installation: &Installation, to: &Path) -> Output {
    facetd().args(["backup", "--config"]).arg(installation.config()).arg("--to").arg(to).output().unwrap()
}

/// Restores into a state folder of its own.
fn restore(installation: &Installation, from: &Path, into: &Path) -> Output {
    let mut restore = facetd();
    restore.args(["restore", "--config"]).arg(installation.config()).arg("--from").arg(from);
    restore.env("FACETD_STATE__DIR", into).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a state holds: where each face came from, who is with whom, and how many events told of it.
struct Held {
    places: BTreeMap<FaceId, Place>,
    clusters: Clusters,
    events: u64,
    positions: BTreeMap<i32, i64>,
    commits: u64,
}

fn held(state: &Path) -> Held {
    let store = Store::open_existing(state).unwrap();
    let name = CollectionName::new("default").unwrap();
    let contents = store.contents().unwrap();
    let nothing = Restored::default();
    let restored = contents.collections.get(&name).unwrap_or(&nothing);
    let mut clusters = Clusters::new();
    for face in &restored.faces {
        let cluster = store.living_cluster(&name, face.record.home).unwrap().id;
        clusters.entry(cluster).or_default().insert(face.record.id.clone());
    }
    Held {
        places: restored.faces.iter().map(|face| (face.record.id.clone(), face.record.place)).collect(),
        clusters,
        events: restored.counters.sequence,
        positions: contents.positions.iter().map(|(partition, offset)| (partition.0, offset.next.0)).collect(),
        commits: store.commit_sequence(),
    }
}

#[test]
fn a_backup_under_stream_is_a_prefix_of_the_history() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("backed-up", FACES, 31);
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more: EXACT });
    let folder = tempfile::tempdir().unwrap();
    let backup = |number: usize| folder.path().join(format!("backup-{number}"));

    let daemon = installation.start();
    let mut replay = facetd();
    replay.args([
        "replay",
        "--dimension",
        "128",
        "--rate",
        "300",
        "--brokers",
        &topics.brokers,
        "--topic",
        &topics.input(),
    ]);
    let mut replay = replay.arg("--features").arg(&dataset.features).stderr(Stdio::null()).spawn().unwrap();
    for number in 0..4 {
        daemon.wait_metric("facetd_engine_faces", (number * FACES / 4) as f64, LIMIT);
        let told = said(&back_up(&installation, &backup(number)));
        assert!(told.contains("commits waited"), "{told}");
    }
    assert!(replay.wait().unwrap().success());
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    common::wait_for("everything to be published", LIMIT, || {
        (daemon.metric("facetd_publish_outbox_entries") == 0.0).then_some(())
    });
    assert!(daemon.terminate().success(), "{}", installation.log());
    let after = held(&installation.state());
    assert_eq!(after.places.len(), FACES);
    // A stopped daemon's state is backed up the same way.
    said(&back_up(&installation, &backup(4)));

    let events = read_topic(&topics.brokers, &topics.events());
    let mut commits = Vec::new();
    for number in 0..5 {
        let into = folder.path().join(format!("restored-{number}"));
        let told = said(&restore(&installation, &backup(number), &into));
        assert_eq!(std::fs::metadata(&into).unwrap().permissions().mode() & 0o777, 0o700, "it is for its owner alone");
        assert!(told.contains("whole") && told.contains("--new-incarnation"), "{told}");
        let model = dataset.model.to_str().unwrap();
        let whole = output_of(facetd().args(["inspect", "--state"]).arg(&into).args(["verify", "--model", model]));
        assert!(!whole.contains("BROKEN") && !whole.contains("mends"), "{whole}");

        let then = held(&into);
        let before = |place: &Place| place.offset.0 < then.positions.get(&place.partition.0).copied().unwrap_or(0);
        let prefix: BTreeMap<FaceId, Place> =
            after.places.iter().filter(|(_, place)| before(place)).map(|(id, place)| (id.clone(), *place)).collect();
        assert_eq!(then.places, prefix, "backup {number}");
        for (partition, position) in &then.positions {
            assert!(told.contains(&format!("partition {partition}: reads on from offset {position}")), "{told}");
        }
        let mut reader = EventReader::default();
        for record in events.iter().take(then.events as usize) {
            reader.read(record.payload.as_ref().unwrap().as_bytes()).unwrap();
        }
        assert_eq!(reader.clusters("default"), then.clusters, "backup {number}");
        commits.push((then.commits, then.places.len()));
    }
    assert!(commits.is_sorted() && commits[1].1 > 0 && commits[3].0 < commits[4].0, "{commits:?}");
    assert!(commits[1].1 < FACES, "it was not taken while faces came: {commits:?}");
}

/// A daemon's state with some faces, stopped.
fn some_faces(installation: &Installation, brokers: &str, topic: &str, dataset: &Dataset) {
    let mut replay = facetd();
    replay.args(["replay", "--dimension", "128", "--brokers", brokers, "--topic", topic]);
    output_of(replay.arg("--features").arg(&dataset.features));
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", 200.0, LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
}

#[test]
fn a_backup_that_is_not_what_it_was_is_refused_by_name() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("tampered", 200, 32);
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more: EXACT });
    some_faces(&installation, &topics.brokers, &topics.input(), &dataset);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    said(&back_up(&installation, &whole));
    assert!(refused(&back_up(&installation, &whole)).contains("is not empty"));
    assert!(refused(&restore(&installation, &whole, &installation.state())).contains("is not empty"));
    assert_eq!(std::fs::metadata(&whole).unwrap().permissions().mode() & 0o077, 0);

    let manifest: Value = serde_json::from_slice(&std::fs::read(whole.join("BACKUP.json")).unwrap()).unwrap();
    let named = |folder: &str| -> PathBuf {
        let files = manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap());
        files.into_iter().find(|path| path.starts_with(folder)).unwrap().into()
    };
    let (vectors, sled) = (named("state/vectors"), named("state/sled/db"));
    type Tamper<'a> = Box<dyn Fn(&Path) + 'a>;
    let flip = |file: &Path| {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    };
    let edited = |from: &'static str, to: &'static str| -> Tamper {
        Box::new(move |path| {
            let file = path.join("BACKUP.json");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(file, text.replacen(from, to, 1)).unwrap();
        })
    };
    let cases: Vec<(&str, Tamper, String)> = vec![
        (
            "a byte of the vectors",
            Box::new(|path| flip(&path.join(&vectors))),
            format!("{} has another SHA-256", vectors.display()),
        ),
        ("a byte of sled", Box::new(|path| flip(&path.join(&sled))), format!("{} has another SHA-256", sled.display())),
        ("a file is gone", Box::new(|path| std::fs::remove_file(path.join(&vectors)).unwrap()), "is missing".into()),
        (
            "a file is longer",
            Box::new(|path| {
                let file = path.join(&vectors);
                std::fs::write(&file, [std::fs::read(&file).unwrap(), vec![0; 3]].concat()).unwrap();
            }),
            "bytes, not".into(),
        ),
        (
            "another file",
            Box::new(|path| std::fs::write(path.join("state/vectors/other.1.vectors"), b"x").unwrap()),
            "does not belong to it".into(),
        ),
        ("another version", edited("\"version\": 1", "\"version\": 7"), "is of version 7".into()),
        ("another state", edited("\"commit_sequence\": ", "\"commit_sequence\": 1"), "tells of another state".into()),
        ("a way out of it", edited("state/vectors", "state/../../vectors"), "is not in it once".into()),
        (
            "half a manifest",
            Box::new(|path| {
                let file = path.join("BACKUP.json");
                let text = std::fs::read(&file).unwrap();
                std::fs::write(file, &text[..text.len() / 2]).unwrap();
            }),
            "BACKUP.json cannot be read".into(),
        ),
        (
            "no manifest",
            Box::new(|path| std::fs::remove_file(path.join("BACKUP.json")).unwrap()),
            "is no backup".into(),
        ),
    ];
    for (name, tamper, expected) in cases {
        let copy = folder.path().join("copy");
        output_of(Command::new("cp").arg("-r").arg(&whole).arg(&copy));
        tamper(&copy);
        let into = folder.path().join("into");
        let text = refused(&restore(&installation, &copy, &into));
        assert!(text.contains(&expected), "{name}: {text}");
        assert!(!into.exists(), "{name}: something was restored");
        std::fs::remove_dir_all(&copy).unwrap();
    }
    let into = folder.path().join("into");
    said(&restore(&installation, &whole, &into));
    assert_eq!(held(&into).places, held(&installation.state()).places);
}

/// What is answered at the socket of a state.
fn answered(state: &Path, line: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(state.join("control.sock")).unwrap();
    stream.write_all(line).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()).collect()
}

#[test]
fn the_socket_is_its_owners_and_answers_what_it_does_not_understand() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("controlled", 200, 33);
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more: EXACT });
    some_faces(&installation, &topics.brokers, &topics.input(), &dataset);
    let state = installation.state();
    let socket = state.join("control.sock");
    assert!(!socket.exists(), "a stopped daemon leaves no socket");
    let folder = tempfile::tempdir().unwrap();

    let daemon = installation.start();
    daemon.wait_metric("facetd_daemon_ready", 1.0, LIMIT);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let occupied = serde_json::json!({ "backup": { "to": state } }).to_string();
    for (line, expected) in [
        (&b"hello\n"[..], "not a request"),
        (b"", "not a request"),
        (b"{\"backup\":{\"to\":\"here\"}}\n", "not an absolute path"),
        (b"{\"backup\":{\"to\":\"/tmp/x\",\"more\":1}}\n", "not a request"),
        (b"{\"stop\":{}}\n", "not a request"),
        (b"\xff\xfe\n", "UTF-8"),
        (&vec![b' '; 100_000][..], "not a request"),
        (occupied.as_bytes(), "is not empty"),
        (b"{\"backup\":{\"to\":\"/proc/facetd\"}}\n", "cannot use"),
    ] {
        let answers = answered(&state, line);
        let text = answers.last().and_then(|answer| answer["error"].as_str()).unwrap_or_default();
        assert!(text.contains(expected), "{expected}: {answers:?}");
    }
    let to = folder.path().join("asked");
    let line = serde_json::json!({ "backup": { "to": to } }).to_string() + "\n";
    let answers = answered(&state, line.as_bytes());
    assert!(answers.last().unwrap()["done"]["bytes"].as_u64().unwrap() > 0, "{answers:?}");
    assert!(answers.len() > 1 && answers[0]["progress"]["of"].is_u64(), "{answers:?}");

    // A killed daemon leaves its socket: nobody answers there, and the next one takes its place.
    daemon.kill();
    assert!(socket.exists());
    said(&back_up(&installation, &folder.path().join("killed")));
    let daemon = installation.start();
    daemon.wait_metric("facetd_daemon_ready", 1.0, LIMIT);
    said(&back_up(&installation, &folder.path().join("again")));
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(!socket.exists());
}
