//! Promise: `facetd top` shows a running daemon, says when it is gone and goes on trying, and gives the terminal back as it
//! was, however it ends; where there is no terminal it says once what there is.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::Feed;
use common::{facetd, output_of, project, wait_for};
use facetd::codec::{Message, json};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// What a terminal is told to show another screen, and the one before again.
const ANOTHER_SCREEN: &str = "\u{1b}[?1049h";
const SCREEN_BEFORE: &str = "\u{1b}[?1049l";

fn installation(broker: &MockBroker) -> Installation {
    let model = project().join("tests/fixtures/model");
    Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" })
}

fn send(broker: &MockBroker, number: usize) {
    let embedding = (0..16).map(|place| if place == number % 16 { 1.0 } else { 0.01 }).collect();
    let message = Message { embedding, ..Message::default() };
    let feed = Feed::connect(&broker.topics);
    feed.send(&format!("cam/{number}"), Some(&json::encode(&message)), "lobby");
    feed.flush();
}

/// A terminal, and `facetd top` in it.
struct Terminal {
    keys: File,
    child: Child,
    shown: Arc<Mutex<String>>,
    before: String,
}

impl Terminal {
    fn with(top: &mut Command) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let open = || File::options().read(true).write(true).open(&name).unwrap();
        let keys = File::from(controller);
        tcsetwinsize(&keys, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = modes(&tcgetattr(&keys).unwrap());
        let child = top.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, told) = (keys.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { keys, child, shown, before }
    }

    fn told(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until it was told this, as it is.
    fn is_told(&self, sequence: &str) {
        wait_for(&format!("{sequence:?} to be told"), LIMIT, || self.told().contains(sequence).then_some(()));
    }

    /// What is to be seen now.
    fn shown(&self) -> String {
        let [rows, columns] = [ROWS, COLUMNS].map(|length| NonZeroU16::new(length).unwrap());
        let mut screen = vt100::Parser::new(rows, columns, 0);
        screen.process(self.told().as_bytes());
        screen.screen().contents()
    }

    fn shows(&self, words: &str) {
        wait_for(&format!("{words:?} to be shown"), LIMIT, || self.shown().contains(words).then_some(()));
    }

    /// Its exit code, once the terminal is as it was.
    fn ended(mut self) -> Option<i32> {
        let status = wait_for("it to end", LIMIT, || self.child.try_wait().unwrap());
        self.is_told(SCREEN_BEFORE);
        assert_eq!(modes(&tcgetattr(&self.keys).unwrap()), self.before);
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program could have left another way.
fn modes(Termios { input_modes, output_modes, control_modes, local_modes, .. }: &Termios) -> String {
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}

fn top(url: &str) -> Command {
    let mut command = facetd();
    command.args(["top", "--url", url]).env_remove("FACETD_TOKEN");
    command
}

#[test]
fn a_terminal_shows_the_daemon_as_it_works() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let daemon = installation.start();
    send(&broker, 0);
    daemon.wait_metric("facetd_engine_faces", 1.0, LIMIT);

    let terminal = Terminal::with(&mut top(installation.address()));
    terminal.is_told(ANOTHER_SCREEN);
    terminal.shows("on cpu");
    terminal.shows("record to commit");
    terminal.shows("changes of lobby");
    send(&broker, 1);
    terminal.shows("face cam/1");
    // The metrics are looked at once a second.
    terminal.shows("2 in 2 clusters");
    assert!(daemon.terminate().success(), "{}", installation.log());
    terminal.shows("gone for");
    terminal.shows("does not answer");
    assert!(terminal.shown().contains("2 in 2 clusters"), "what it last saw stays");
    let daemon = installation.start();
    terminal.shows("ready");
    assert!(!terminal.shown().contains("gone for"));
    (&terminal.keys).write_all(b"q").unwrap();
    assert_eq!(terminal.ended(), Some(0));

    let terminal = Terminal::with(&mut top(installation.address()));
    terminal.shows("on cpu");
    (&terminal.keys).write_all(b"\x03").unwrap();
    assert_eq!(terminal.ended(), Some(0), "Ctrl-C");

    let terminal = Terminal::with(&mut top(installation.address()));
    terminal.shows("on cpu");
    output_of(Command::new("kill").args(["-TERM", &terminal.child.id().to_string()]));
    assert_eq!(terminal.ended(), Some(143), "SIGTERM");
    assert!(daemon.terminate().success());
}

#[test]
fn elsewhere_it_says_once_what_there_is() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let daemon = installation.start();
    send(&broker, 0);
    daemon.wait_metric("facetd_engine_faces", 1.0, LIMIT);
    daemon.wait_settled(LIMIT);
    let url = format!("http://{}", installation.address());
    let text = output_of(&mut top(&url));
    assert!(text.contains("1 in 1 clusters") && text.contains("record to commit"), "{text}");
    assert!(text.contains("1 created") && text.contains("ready"), "{text}");
    let told: Value = serde_json::from_str(&output_of(top(&url).arg("--json"))).unwrap();
    assert_eq!((&told["faces"], &told["ready"], &told["lag_records"]), (&1.0.into(), &true.into(), &0.0.into()));
    assert_eq!(told["events"]["created"]["total"], 1.0);
    assert!(told["stages"].as_array().unwrap().iter().any(|stage| stage["p50_ms"].is_f64()), "{told:#}");
    assert!(daemon.terminate().success());

    let gone = top(&url).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(gone.status.code() == Some(1) && said.contains("does not answer"), "{said}");
}
