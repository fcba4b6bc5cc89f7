//! Promise: systemd hears when the daemon loads, is ready, reloads and stops; its watchdog hears of an engine that gets on, also
//! of one that idles, and not of one that is stuck. What it hands over as a credential is read.

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::Client;
use common::project;

/// How long systemd would wait for a word of the watchdog.
const WATCHDOG: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn it_hears_of_every_change_and_that_an_idle_engine_lives() {
    let broker = MockBroker::start();
    let (installation, systemd) = (installation(&broker), Systemd::new());
    let daemon = installation.start_with(|command| systemd.starts(command));
    systemd.hears(&["STATUS=loads the state"]);
    systemd.hears(&["EXTEND_TIMEOUT_USEC=30000000"]);
    systemd.hears(&["READY=1", "STATUS=takes faces from topic faces, listens on 127.0.0.1:"]);
    for _ in 0..3 {
        assert_eq!(systemd.next(LIMIT).as_deref(), Some("WATCHDOG=1\n"));
    }
    daemon.hang_up();
    systemd.hears(&["RELOADING=1", "MONOTONIC_USEC="]);
    systemd.hears(&["READY=1"]);
    systemd.hears(&["WATCHDOG=1"]);
    assert!(daemon.terminate().success(), "{}", installation.log());
    systemd.hears(&["STOPPING=1"]);
}

#[test]
fn it_does_not_hear_of_an_engine_that_is_stuck() {
    let broker = MockBroker::start();
    let (installation, systemd) = (installation(&broker), Systemd::new());
    let daemon = installation.start_with(|command| {
        systemd.starts(command);
        command.env("FAILPOINTS", "vectors::append=sleep(600000)");
    });
    systemd.hears(&["READY=1"]);
    systemd.hears(&["WATCHDOG=1"]);
    let embedding: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let octets = [("content-type", "application/octet-stream")];
    Client::connect(&broker.topics.brokers).send(&broker.topics.input(), Some(b"a"), Some(&embedding), &octets);
    // What was on the way is heard; then, for as long as systemd waits, nothing.
    common::wait_for("the pings to stop", LIMIT, || systemd.next(WATCHDOG).is_none().then_some(()));
    assert!(daemon.get("/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "the rest is alive");
    daemon.kill();
}

#[test]
fn a_credential_it_loads_is_the_key_it_is_named_like() {
    let broker = MockBroker::start();
    let (installation, systemd) = (installation(&broker), Systemd::new());
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("FACETD_HTTP__LISTEN"), "127.0.0.1:0\n").unwrap();
    std::fs::write(credentials.path().join("a-certificate"), [0xff, 0xfe]).unwrap();
    let daemon = installation.spawn(|command| {
        systemd.starts(command);
        command.env("CREDENTIALS_DIRECTORY", credentials.path());
    });
    systemd.hears(&["READY=1", "STATUS=takes faces from topic faces, listens on 127.0.0.1:0"]);
    assert!(daemon.terminate().success());
}

fn installation(broker: &MockBroker) -> Installation {
    Installation::new(&Settings { topics: &broker.topics, model: &project().join("tests/fixtures/model"), more: "" })
}

/// What systemd is to a service: a socket.
struct Systemd {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Systemd {
        let folder = tempfile::tempdir().unwrap();
        Systemd { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    fn starts(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    }

    /// The next it is told; none within `limit`.
    fn next(&self, limit: Duration) -> Option<String> {
        let mut told = [0; 4096];
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let length = self.socket.recv(&mut told).ok()?;
        Some(String::from_utf8(told[..length].to_vec()).unwrap())
    }

    /// Waits until it is told all of `lines` at once, each by its beginning.
    fn hears(&self, lines: &[&str]) {
        let is_it = |told: &String| lines.iter().all(|line| told.lines().any(|told| told.starts_with(line)));
        common::wait_for(&format!("{lines:?}"), LIMIT, || self.next(LIMIT).filter(is_it));
    }
}
