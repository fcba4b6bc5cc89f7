//! Promise: a disk that is full or read-only ends the daemon with one line that says which path it is and
//! what to do; once there is room again it goes on where it was, with nothing lost and nothing twice.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::{Client, read_topic};
use common::lost_writes::recorder;
use common::{facetd, output_of, project, wait_for};

const LIMIT: Duration = Duration::from_secs(120);
const FACES: usize = 3000;
/// "No space left on device" and "Read-only file system".
const FULL: &str = "28";
const READ_ONLY: &str = "30";

/// A disk of its own, mounted on a folder until it is dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// `None`, said in a line, where nothing may be mounted.
    fn mount(at: &Path, options: &str, promise: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { at: at.to_path_buf() });
        }
        println!("NOT PROVED (no right to mount a disk): {promise}");
        None
    }

    fn remount(&self, options: &str) {
        output_of(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn installation(broker: &MockBroker) -> Installation {
    let model = project().join("tests/fixtures/model");
    Installation::new(&Settings { topics: &broker.topics, model: &model, more: "[engine]\nbatch_faces = 64\n" })
}

/// Faces from `range` into the input, with long names.
fn send(broker: &MockBroker, range: std::ops::Range<usize>) {
    let client = Client::connect(&broker.topics.brokers);
    let octets = [("content-type", "application/octet-stream")];
    for face in range {
        let values = (0..16).map(|place| ((face * 31 + place * 17) % 97) as f32 - 48.0);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        client.send_soon(&broker.topics.input(), Some(name_of(face).as_bytes()), Some(&bytes), &octets);
    }
    client.flush();
}

fn name_of(face: usize) -> String {
    format!("face-{face:0200}")
}

/// Checks that the daemon ended with one line about `path`, and that the log after `before` says no worse.
fn assert_told(installation: &Installation, before: usize, status: ExitStatus, words: &[&str]) {
    let log = installation.log().split_off(before);
    assert!(!status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("facetd: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let state = installation.state();
    for word in words.iter().chain(&[state.to_str().unwrap(), "check that the path exists, is writable and has room"]) {
        assert!(lines[0].contains(word), "{word:?} is not in: {}", lines[0]);
    }
    println!("{}", lines[0]);
}

/// Starts the daemon and lets it go on until it ends on its own account.
fn ends(installation: &Installation) -> ExitStatus {
    let mut child = installation.command().spawn().unwrap();
    wait_for("the daemon to end", LIMIT, || child.try_wait().unwrap())
}

/// Lets the daemon finish, and checks that every face is there once.
fn assert_whole(installation: &Installation, broker: &MockBroker) {
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    wait_for("the outbox to be empty", LIMIT, || (daemon.metric("facetd_publish_outbox_entries") == 0.0).then_some(()));
    assert!(daemon.terminate().success(), "{}", installation.log());
    let faces = installation.inspect(&["faces"]);
    let faces: HashSet<&str> = faces.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(faces, (0..FACES).map(name_of).collect::<Vec<_>>().iter().map(String::as_str).collect());

    // What the disk did not let it forget may come once more, with the same id: that is how it is known.
    let mut events = BTreeMap::new();
    for event in read_topic(&broker.topics.brokers, &broker.topics.events()) {
        let sequence: u64 = event.header("ce_sequence").unwrap().parse().unwrap();
        if let Some(earlier) = events.insert(sequence, event.json()) {
            assert_eq!(earlier, event.json(), "two events of one id");
        }
    }
    assert!(events.keys().copied().eq(1..=events.len() as u64), "the events have gaps");
    let came = events.values().filter(|event| event["type"] == "created" || event["type"] == "joined");
    assert_eq!(came.count(), FACES);
}

#[test]
fn a_full_disk_ends_it_and_room_lets_it_go_on() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let promise = "on a real disk that fills up the daemon ends with a clear line and goes on when there is room";
    let Some(disk) = SmallDisk::mount(&installation.state(), "size=3m", promise) else { return };
    let daemon = installation.start();
    send(&broker, 0..FACES);
    let status = daemon.ended(LIMIT);
    assert_told(&installation, 0, status, &["No space left on device"]);
    // Still full: whether it can be opened or not, it says the same.
    for _ in 0..2 {
        let before = installation.log().len();
        let status = ends(&installation);
        assert_told(&installation, before, status, &["No space left on device"]);
    }
    let check = facetd().args(["check", "--config"]).arg(installation.config()).output().unwrap();
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(told.contains("state   FAIL") && told.contains("No space left on device"), "{told}");
    disk.remount("size=64m");
    assert_whole(&installation, &broker);
}

/// The recorder refuses what a file system would that turned read-only, or full, under the daemon's hands:
/// no mount can be turned while files are open for writing.
#[test]
fn a_disk_that_refuses_in_the_middle_ends_it_with_nothing_lost() {
    for (error, words) in [(READ_ONLY, "Read-only file system"), (FULL, "No space left on device")] {
        let broker = MockBroker::start();
        let installation = installation(&broker);
        let scratch = tempfile::tempdir().unwrap();
        let refuse = scratch.path().join("refuse");
        std::fs::create_dir_all(installation.state()).unwrap();
        let daemon = installation.start_with(|command| {
            command.env("LD_PRELOAD", recorder(scratch.path())).env("RECORD_REFUSE", &refuse);
            command.env("RECORD_FOLDER", installation.state()).env("RECORD_LOG", "/dev/null");
        });
        send(&broker, 0..FACES / 2);
        daemon.wait_metric("facetd_engine_faces", 100.0, LIMIT);
        std::fs::write(&refuse, error).unwrap();
        send(&broker, FACES / 2..FACES);
        let status = daemon.ended(LIMIT);
        assert_told(&installation, 0, status, &[words]);
        assert_whole(&installation, &broker);
    }
}

#[test]
fn a_read_only_folder_is_refused_clearly() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let promise = "a read-only disk is refused with a clear line";
    let Some(disk) = SmallDisk::mount(&installation.state(), "size=16m,ro", promise) else { return };
    let refused = || {
        let before = installation.log().len();
        let status = ends(&installation);
        assert_told(&installation, before, status, &["Read-only file system"]);
        let check = facetd().args(["check", "--config"]).arg(installation.config()).output().unwrap();
        let told = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(!check.status.success() && told.contains("state   FAIL"), "{told}");
        assert!(told.contains("Read-only file system") && told.contains("is writable"), "{told}");
    };
    refused();
    disk.remount("rw");
    send(&broker, 0..FACES);
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", 200.0, LIMIT);
    assert!(daemon.terminate().success());
    disk.remount("ro");
    refused();
    disk.remount("rw");
    assert_whole(&installation, &broker);
}
