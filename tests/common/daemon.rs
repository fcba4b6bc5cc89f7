//! The daemon as a process: configured, started, watched, stopped or killed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use super::broker::Topics;
use super::{facetd, output_of, wait_for};

/// How long a start may take: loading models and rebuilding an index on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take on such a machine.
const LEAVE: Duration = Duration::from_secs(60);

/// A daemon's configuration and state. It can be started, killed and started again.
pub struct Installation {
    folder: tempfile::TempDir,
    config: PathBuf,
    http: String,
}

/// What is particular to a test.
pub struct Settings<'a> {
    pub topics: &'a Topics,
    pub model: &'a Path,
    /// More of the configuration, as TOML of [engine], [limits] and [collections].
    pub more: &'a str,
}

impl Installation {
    pub fn new(settings: &Settings) -> Installation {
        let folder = tempfile::tempdir().unwrap();
        let http = format!("127.0.0.1:{}", free_port());
        let Settings { topics, model, more } = settings;
        let text = format!(
            r#"
[kafka]
brokers = "{}"
group = "{}"
input_topic = "{}"
events_topic = "{}"
face_state_topic = "{}"
cluster_state_topic = "{}"
dead_letters_topic = "{}"
[state]
dir = "{}"
[model]
dir = "{}"
device = "cpu"
[http]
listen = "{http}"
{more}"#,
            topics.brokers,
            topics.group(),
            topics.input(),
            topics.events(),
            topics.face_state(),
            topics.cluster_state(),
            topics.dead_letters(),
            folder.path().join("state").display(),
            model.display(),
        );
        let config = folder.path().join("facetd.toml");
        std::fs::write(&config, text).unwrap();
        Installation { folder, config, http }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.http
    }

    /// `facetd run`, ready to be spawned; its log goes to a file.
    pub fn command(&self) -> Command {
        let mut command = facetd();
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.args(["run", "--config"]).arg(&self.config).stderr(log);
        command
    }

    /// Starts the daemon and waits for nothing; `adjust` may set its environment.
    pub fn spawn(&self, adjust: impl FnOnce(&mut Command)) -> Running<'_> {
        let mut command = self.command();
        adjust(&mut command);
        Running { child: command.spawn().unwrap(), installation: self }
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) -> Running<'_> {
        self.start_with(|_| {})
    }

    /// The same; `adjust` may set its environment and more arguments.
    pub fn start_with(&self, adjust: impl FnOnce(&mut Command)) -> Running<'_> {
        let mut running = self.spawn(adjust);
        wait_for("the daemon to be ready", START, || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended with {ended:?}\n{}", self.log());
            self.get("/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        running
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("facetd.log")
    }

    /// The whole answer to a GET, if something answers.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Any request; a token and a body where there are some.
    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        if let Some(token) = token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        write!(stream, "{head}\r\n{}", body.unwrap_or_default()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_string() }
    }

    /// `facetd inspect` of the stopped daemon's state.
    pub fn inspect(&self, what: &[&str]) -> String {
        output_of(facetd().args(["inspect", "--state"]).arg(self.state()).args(what))
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// What it says, of an answer with this status.
    pub fn json(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

/// These are 0 when nothing is left to do.
const SETTLED: [&str; 3] =
    ["facetd_source_lag_records", "facetd_engine_unsettled_collections", "facetd_publish_outbox_entries"];

/// A daemon at work. Killed when dropped.
pub struct Running<'a> {
    child: Child,
    installation: &'a Installation,
}

impl Running<'_> {
    /// A metric's value: the sample whose name and labels are `sample`; 0 when it is not there.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.installation.get("/metrics").unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a metric is at least `value`.
    pub fn wait_metric(&self, sample: &str, value: f64, limit: Duration) {
        wait_for(&format!("{sample} to reach {value}"), limit, || (self.metric(sample) >= value).then_some(()));
    }

    /// Waits until nothing is left to do: no input, nothing stale, everything published.
    pub fn wait_settled(&self, limit: Duration) {
        for metric in SETTLED {
            wait_for(&format!("{metric} to be 0"), limit, || (self.metric(metric) == 0.0).then_some(()));
        }
    }

    /// Whether it has read something and nothing is left to do.
    pub fn is_idle(&self) -> bool {
        let Some(text) = self.installation.get("/metrics") else { return false };
        let is_zero = |metric: &str| text.lines().any(|line| line.strip_prefix(metric) == Some(" 0"));
        // It does not know how much there is to read before it has read something.
        SETTLED.into_iter().all(is_zero) && !is_zero("facetd_source_records_total")
    }

    /// Whether it has ended by itself, and how.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn get(&self, path: &str) -> Option<String> {
        self.installation.get(path)
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// `systemctl reload`.
    pub fn hang_up(&self) {
        output_of(Command::new("kill").args(["-HUP", &self.child.id().to_string()]));
    }

    /// Waits until it ends on its own account.
    pub fn ended(mut self, limit: Duration) -> ExitStatus {
        wait_for("the daemon to end", limit, || self.child.try_wait().unwrap())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the wait for the end: longer than promised, so that only the test of that depends on the machine.
    pub fn terminate(mut self) -> ExitStatus {
        output_of(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        wait_for("the daemon to leave", LEAVE, || self.child.try_wait().unwrap())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("--- log of the daemon\n{}", self.installation.log());
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
