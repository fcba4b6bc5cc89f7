//! Promise: faces go all the way, replay, daemon and events, over TLS, over SASL with PLAIN and SCRAM, and over TLS with a
//! client's certificate; what keeps the brokers from letting facetd in is told, by the key that has to change, before
//! it starts and while it runs; and the password is told to nobody. Only a real Kafka can prove it.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::broker::{RealKafka, Topics};
use common::daemon::{Installation, Settings};
use common::kafka_client::end_of_topic;
use common::scene::{DIMENSION, LIMIT, installation};
use common::told::{check_outbox, compacted_partition, state_partition, told};
use common::{facetd, output_of, project, wait_for};

const PROMISE: &str = "replay, daemon and events over TLS and SASL, with a real Kafka";
/// Of the user facetd, as scripts/kafka has it.
const PASSWORD: &str = "facetd-secret";
/// Of nobody.
const WRONG: &str = "hunter2-hunter2";
const FACES: usize = 60;
/// How soon a start has given up: brokers that never answer are waited for 10 s.
const SOON: Duration = Duration::from_secs(30);

/// A way to the brokers, as the environment says it.
#[derive(Clone)]
struct Way(Vec<(&'static str, String)>);

impl Way {
    fn new(kafka: &RealKafka, listener: &str, protocol: &str) -> Way {
        let way = Way(Vec::new()).with("BROKERS", kafka.listener(listener)).with("SECURITY_PROTOCOL", protocol);
        way.with("SSL_CA", kafka.secure_file("ca.pem").display())
    }

    fn sasl(self, mechanism: &str, password: &str) -> Way {
        self.with("SASL_MECHANISM", mechanism).with("SASL_USERNAME", "facetd").with("SASL_PASSWORD", password)
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Way {
        self.0.retain(|(name, _)| *name != key);
        self.0.push((key, value.to_string()));
        self
    }

    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.0.iter().map(|(key, value)| (format!("FACETD_KAFKA__{key}"), value)))
    }
}

/// Vectors to replay, as a file.
fn features() -> PathBuf {
    let folder = project().join("target/tmp/secured");
    let (faces, dimension) = (FACES.to_string(), DIMENSION.to_string());
    let arguments = ["synth", "--faces", &faces, "--dimension", &dimension, "--seed", "5", "--out"];
    output_of(facetd().args(arguments).arg(&folder));
    folder.join("features.bin")
}

fn replay(installation: &Installation, way: &Way) -> Output {
    let mut command = facetd();
    command.args(["replay", "--dimension", &DIMENSION.to_string(), "--config"]).arg(installation.config());
    way.set(command.arg("--features").arg(features())).output().unwrap()
}

fn check(installation: &Installation, way: &Way) -> Output {
    way.set(facetd().args(["check", "--config"]).arg(installation.config())).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_keeps_quiet(text: &str) {
    assert!(!text.contains(PASSWORD) && !text.contains(WRONG), "the password is in: {text}");
}

/// Everything through, once, and nothing of it says the password.
fn goes_all_the_way(topics: &Topics, way: &Way) {
    let installation = installation(topics);
    let checked = check(&installation, way);
    assert!(checked.status.success(), "{}", text(&checked));
    let daemon = installation.start_with(|command| {
        // The most that librdkafka and facetd ever say.
        command.env("FACETD_LOG__LEVEL", "trace");
        way.set(command);
    });
    let replayed = replay(&installation, way);
    assert!(replayed.status.success(), "{}", text(&replayed));
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    let metrics = daemon.get("/metrics").unwrap();
    assert!(daemon.terminate().success(), "{}", installation.log());
    let redriven =
        way.set(facetd().args(["redrive", "--dry-run", "--config"]).arg(installation.config())).output().unwrap();
    assert!(redriven.status.success(), "{}", text(&redriven));
    for said in [text(&checked), text(&replayed), text(&redriven), metrics, installation.log()] {
        assert_keeps_quiet(&said);
    }
    assert!(installation.log().contains("DEBUG") && installation.log().contains("librdkafka"), "it logged too little");
    check_outbox(topics);
    let state = state_partition(&installation, "default");
    assert_eq!(state.len(), FACES);
    assert_eq!(told(topics, "default").partition, state, "events and state");
    assert_eq!(compacted_partition(topics), state, "compacted topics and state");
}

/// check, run and replay say each of the words in one line, soon.
fn is_refused(topics: &Topics, way: &Way, words: &[&str]) {
    let installation = installation(topics);
    let begun = Instant::now();
    let checked = check(&installation, way);
    let mut run = installation.command();
    let status = way.set(&mut run).status().unwrap();
    let replayed = replay(&installation, way);
    assert!(begun.elapsed() < 3 * SOON, "it took {:?}", begun.elapsed());
    assert!(!checked.status.success() && !status.success() && !replayed.status.success(), "{words:?}");
    for (begin, said) in [("broker ", text(&checked)), ("facetd: ", installation.log()), ("facetd: ", text(&replayed))]
    {
        let line = said.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}in {said}"));
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        assert_keeps_quiet(&said);
    }
}

#[test]
fn faces_go_all_the_way_and_obstacles_are_named() {
    let Some(kafka) = RealKafka::start_secured(PROMISE) else { return };
    let ssl = Way::new(&kafka, "ssl", "ssl");
    let sasl_ssl = Way::new(&kafka, "sasl_ssl", "sasl_ssl");
    let plain = Way::new(&kafka, "sasl_plaintext", "sasl_plaintext").sasl("PLAIN", PASSWORD);
    let (certificate, key) = (kafka.secure_file("client.crt"), kafka.secure_file("client.key"));
    let options = format!(
        "{{ \"ssl.certificate.location\" = \"{}\", \"ssl.key.location\" = \"{}\", \"debug\" = \"security,broker,conf\" }}",
        certificate.display(),
        key.display()
    );
    let mutual = Way::new(&kafka, "mutual", "ssl");
    let debug = "{ \"debug\" = \"security,broker,conf\" }";
    for way in [
        ssl.clone().with("LIBRDKAFKA_OPTIONS", debug),
        sasl_ssl.clone().sasl("SCRAM-SHA-512", PASSWORD).with("LIBRDKAFKA_OPTIONS", debug),
        sasl_ssl.clone().sasl("SCRAM-SHA-256", PASSWORD).with("LIBRDKAFKA_OPTIONS", debug),
        plain.clone().with("LIBRDKAFKA_OPTIONS", debug),
        mutual.clone().with("LIBRDKAFKA_OPTIONS", options),
    ] {
        goes_all_the_way(&kafka.topics(None), &way);
    }

    let topics = kafka.topics(None);
    let password = &["do not know", "kafka.sasl_username", "kafka.sasl_password"];
    is_refused(&topics, &sasl_ssl.clone().sasl("SCRAM-SHA-512", WRONG), password);
    is_refused(&topics, &plain.clone().with("SASL_PASSWORD", WRONG), password);
    is_refused(
        &topics,
        &plain.clone().with("SASL_PASSWORD", ""),
        &["kafka.sasl_password", "FACETD_KAFKA__SASL_PASSWORD"],
    );
    is_refused(&topics, &sasl_ssl.clone().sasl("PLAIN", PASSWORD), &["kafka.sasl_mechanism", "SCRAM-SHA-512"]);
    let other = kafka.secure_file("other-ca.pem");
    is_refused(&topics, &ssl.clone().with("SSL_CA", other.display()), &["not to be trusted", "kafka.ssl_ca"]);
    is_refused(&topics, &ssl.clone().with("SSL_CA", "/nowhere.pem"), &["cannot be read", "kafka.ssl_ca"]);
    is_refused(&topics, &Way::new(&kafka, "expired", "ssl"), &["expired", "kafka.ssl_ca"]);
    is_refused(&topics, &mutual, &["certificate of this client", "ssl.key.location", "kafka.librdkafka_options"]);
    is_refused(
        &topics,
        &ssl.clone().with("SECURITY_PROTOCOL", "plaintext"),
        &["TLS or SASL", "kafka.security_protocol"],
    );
    let plaintext = ssl.with("BROKERS", &topics.brokers);
    is_refused(&topics, &plaintext, &["does not speak TLS", "kafka.security_protocol"]);
    for topic in [topics.input(), topics.events()] {
        assert_eq!(end_of_topic(&topics.brokers, &topic), 0, "something came through");
    }

    // While it runs: said, waited for, gone on with.
    let installation = installation(&topics);
    let daemon = installation.start_with(|command| {
        plain.set(command);
    });
    kafka.change_password(WRONG);
    wait_for("the log to say what is wrong", LIMIT, || {
        installation.log().contains("correct kafka.sasl_username or kafka.sasl_password").then_some(())
    });
    assert!(daemon.get("/healthz").is_some());
    kafka.change_password(PASSWORD);
    let replayed = replay(&installation, &plain);
    assert!(replayed.status.success(), "{}", text(&replayed));
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert_keeps_quiet(&installation.log());
    assert_eq!(told(&topics, "default").partition.len(), FACES);
}

#[test]
fn a_password_in_a_file_that_everyone_may_read_is_warned_of() {
    let broker = common::broker::MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let config = std::fs::read_to_string(installation.config()).unwrap();
    let config = config.replace("[state]", &format!("sasl_password = \"{PASSWORD}\"\n[state]"));
    std::fs::write(installation.config(), config).unwrap();
    for (mode, warns) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(installation.config(), std::fs::Permissions::from_mode(mode)).unwrap();
        let before = installation.log().len();
        let checked = check(&installation, &Way(Vec::new()));
        assert!(checked.status.success(), "{}", text(&checked));
        assert!(installation.start().terminate().success());
        for said in [text(&checked), installation.log().split_off(before)] {
            let line = said.lines().find(|line| line.contains("everyone on this machine may read it"));
            assert_eq!(line.is_some(), warns, "{said}");
            assert!(line.is_none_or(|line| line.contains("WARN") && line.contains("kafka.sasl_password")), "{said}");
            assert_keeps_quiet(&said);
        }
    }
}
