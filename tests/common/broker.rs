//! Brokers to stream through: a real Kafka, or librdkafka's in-process mock of one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{output_of, project};

/// The topics of one daemon, by a prefix of their own.
#[derive(Clone)]
pub struct Topics {
    pub brokers: String,
    prefix: String,
}

impl Topics {
    pub fn input(&self) -> String {
        format!("{}faces", self.prefix)
    }

    pub fn dead_letters(&self) -> String {
        format!("{}faces-dead-letters", self.prefix)
    }

    pub fn events(&self) -> String {
        format!("{}cluster-events", self.prefix)
    }

    pub fn face_state(&self) -> String {
        format!("{}face-state", self.prefix)
    }

    pub fn cluster_state(&self) -> String {
        format!("{}cluster-state", self.prefix)
    }

    pub fn group(&self) -> String {
        format!("{}facetd", self.prefix)
    }
}

/// A mock in this process; it goes with the value.
pub struct MockBroker {
    _cluster: MockCluster<'static, DefaultProducerContext>,
    pub topics: Topics,
}

impl MockBroker {
    pub fn start() -> MockBroker {
        let cluster = MockCluster::new(1).unwrap();
        let topics = Topics { brokers: cluster.bootstrap_servers(), prefix: String::new() };
        cluster.create_topic(&topics.input(), 2, 1).unwrap();
        for topic in [topics.dead_letters(), topics.events(), topics.face_state(), topics.cluster_state()] {
            cluster.create_topic(&topic, 1, 1).unwrap();
        }
        MockBroker { _cluster: cluster, topics }
    }
}

/// A real Kafka, brought up by scripts/kafka or found at KAFKA_BROKERS. `None`, said in a line, where
/// there is no Java; in CI it has to be there.
pub struct RealKafka {
    brokers: String,
    /// Where it was started here: the folder of its state; None: the usual one.
    started_here: Option<Option<PathBuf>>,
}

impl RealKafka {
    pub fn start(promise: &str) -> Option<RealKafka> {
        if let Ok(brokers) = std::env::var("KAFKA_BROKERS") {
            return Some(RealKafka { brokers, started_here: None });
        }
        if !can_start(promise) {
            return None;
        }
        let brokers = output_of(script().arg("start")).trim().to_string();
        Some(RealKafka { brokers, started_here: Some(None) })
    }

    /// One that nobody else uses, so that it may be killed.
    pub fn start_own(promise: &str) -> Option<RealKafka> {
        if !can_start(promise) {
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = project().join(format!("target/kafka/own-{}-{number}", std::process::id()));
        let brokers = output_of(own_script(&folder).arg("start")).trim().to_string();
        Some(RealKafka { brokers, started_here: Some(Some(folder)) })
    }

    /// One of one's own that has listeners with TLS and SASL too.
    pub fn start_secured(promise: &str) -> Option<RealKafka> {
        if !can_start(promise) {
            return None;
        }
        let folder = project().join(format!("target/kafka/secured-{}", std::process::id()));
        let brokers = output_of(own_script(&folder).args(["start", "--secure"])).trim().to_string();
        Some(RealKafka { brokers, started_here: Some(Some(folder)) })
    }

    /// Where a secured one listens in the way that tests/kafka/secure.properties calls so.
    pub fn listener(&self, name: &str) -> String {
        let listeners = std::fs::read_to_string(self.secure_file("listeners")).unwrap();
        let address = listeners.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        address.unwrap_or_else(|| panic!("no {name} in {listeners}")).to_string()
    }

    /// One of a secured one's certificates and keys.
    pub fn secure_file(&self, name: &str) -> PathBuf {
        self.own_folder().join("secure").join(name)
    }

    /// Stops a secured one and brings it back where it was, with another password over PLAIN.
    pub fn change_password(&self, password: &str) {
        output_of(own_script(self.own_folder()).arg("stop"));
        let mut start = own_script(self.own_folder());
        let brokers = output_of(start.args(["start", "--secure"]).env("FACETD_KAFKA_PASSWORD", password));
        assert_eq!(brokers.trim(), self.brokers, "it came back at another address");
    }

    /// `kill -9`: only of one's own.
    pub fn kill(&self) {
        let process_id = std::fs::read_to_string(self.own_folder().join("pid")).unwrap();
        output_of(Command::new("kill").args(["-9", process_id.trim()]));
    }

    /// Brings it back at the same address.
    pub fn start_again(&self) {
        let brokers = output_of(own_script(self.own_folder()).arg("start"));
        assert_eq!(brokers.trim(), self.brokers, "it came back at another address");
    }

    fn own_folder(&self) -> &Path {
        let Some(Some(folder)) = &self.started_here else { panic!("others use this broker") };
        folder
    }

    /// A fresh set of topics; messages up to `max_message_bytes` when given.
    pub fn topics(&self, max_message_bytes: Option<usize>) -> Topics {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{}-{number}-", std::process::id());
        let mut create = script();
        create.args(["topics", "--prefix", &prefix, "--input-partitions", "4"]).env("KAFKA_BROKERS", &self.brokers);
        if let Some(bytes) = max_message_bytes {
            create.args(["--max-message-bytes", &bytes.to_string()]);
        }
        output_of(&mut create);
        Topics { brokers: self.brokers.clone(), prefix }
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        match &self.started_here {
            None => {}
            Some(None) => drop(script().arg("stop").output()),
            Some(Some(folder)) => drop(own_script(folder).args(["stop", "--purge"]).output()),
        }
    }
}

fn can_start(promise: &str) -> bool {
    if std::env::var_os("CI").is_none() && Command::new("java").arg("-version").output().is_err() {
        println!("NOT PROVED (no Java for a real Kafka): {promise}");
        return false;
    }
    true
}

/// The script, for a broker with a state of its own.
fn own_script(folder: &Path) -> Command {
    let mut command = script();
    command.env("FACETD_KAFKA_DIR", folder).env_remove("KAFKA_BROKERS");
    command
}

fn script() -> Command {
    Command::new(project().join("scripts/kafka"))
}
