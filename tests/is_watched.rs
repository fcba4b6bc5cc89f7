//! Promise: what is written down to watch is there: every metric that alerts, dashboard and README name is exposed, a real
//! Prometheus scrapes the daemon and evaluates every rule and every panel without an error, each panel has something to
//! show, and no alert fires while all is well.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Running, Settings, free_port};
use common::faces::Dataset;
use common::{facetd, output_of, project, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// So many that the fit of the model is looked at.
const FACES: usize = 1300;
const RULES: &str = "config/prometheus-rules.yml";
const DASHBOARD: &str = "config/grafana-dashboard.json";

#[test]
fn what_is_written_down_to_watch_is_there_to_be_seen() {
    let broker = MockBroker::start();
    let dataset = Dataset::synthetic("watched", FACES, 9);
    let more = "[limits]\nmemory_bytes = 100000000000\n";
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &dataset.model, more });
    let daemon = installation.start_with(|command| {
        command.env("FACETD_STATE__SNAPSHOT_INTERVAL", "1s");
    });
    stream(&broker, &dataset, &daemon);

    let text = scraped(&installation);
    let types = types(&text);
    for file in [RULES, DASHBOARD, "README.md"] {
        let named = named(&read(file));
        assert!(named.len() > 15, "{file} names {named:?}");
        let missing: Vec<&String> = named.iter().filter(|name| !is_exposed(&types, name)).collect();
        assert!(missing.is_empty(), "{file} names what there is not: {missing:?}");
    }
    follows_conventions(&text, &types);

    match has("promtool") && has("prometheus") {
        true => {
            promtool_finds_nothing_wrong(&text);
            prometheus_shows_everything(&installation);
        }
        false => {
            assert!(std::env::var_os("CI").is_none(), "there is no prometheus: scripts/setup system test");
            println!("NOT PROVED (no prometheus): alerts fire when they should, and every panel shows something");
        }
    }
    assert!(daemon.terminate().success());
}

#[test]
fn every_alert_is_tested_and_says_what_to_do() {
    let (rules, tests) = (read(RULES), read("tests/prometheus/alerts.yml"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test has {name} fire");
        for part in ["expr:", "severity:", "summary:", "description:"] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn every_panel_has_a_unit_and_says_what_it_shows() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels: Vec<&Value> = panels.filter(|panel| panel["type"] != "row").collect();
    let mut ids = BTreeSet::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title}");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
    }
    assert!(panels.len() > 30);
}

/// Streams every face and waits until nothing is left to do.
fn stream(broker: &MockBroker, dataset: &Dataset, daemon: &Running) {
    let (brokers, topic) = (&broker.topics.brokers, broker.topics.input());
    let mut replay = facetd();
    replay.args(["replay", "--dimension", "128", "--brokers", brokers, "--topic", &topic, "--features"]);
    output_of(replay.arg(&dataset.features));
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    daemon.wait_metric("facetd_snapshot_last_success_timestamp_seconds", 1.0, LIMIT);
}

/// What Prometheus scrapes, once the collection's fit is in it.
fn scraped(installation: &Installation) -> String {
    wait_for("the fit to be shown", LIMIT, || {
        let answer = installation.get("/metrics")?;
        let (_, text) = answer.split_once("\r\n\r\n")?;
        text.contains("\nfacetd_neighbour_similarity_difference{").then(|| text.to_string())
    })
}

/// The type of each metric, by name.
fn types(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
}

/// Words that begin as names of metrics do.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("facetd_") || word.starts_with("process_")).map(str::to_string).collect()
}

fn is_exposed(types: &BTreeMap<String, String>, name: &str) -> bool {
    let of_histogram = || ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
    types.contains_key(name) || of_histogram().and_then(|name| types.get(name)).is_some_and(|kind| kind == "histogram")
}

/// What promtool does not look at.
fn follows_conventions(text: &str, types: &BTreeMap<String, String>) {
    for (name, kind) in types.iter().filter(|(name, _)| name.starts_with("facetd_")) {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        if kind == "histogram" {
            let units = ["_seconds", "_faces", "_bytes"];
            assert!(units.iter().any(|unit| name.ends_with(unit)), "{name} has no unit");
        }
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.contains(' ')), "{name} has no help");
    }
    assert!(text.contains(&format!("facetd_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))));
}

fn promtool_finds_nothing_wrong(text: &str) {
    println!("{}", output_of(promtool().args(["check", "rules", RULES])));
    println!("{}", output_of(promtool().args(["test", "rules", "tests/prometheus/alerts.yml"])));
    let mut check = promtool().args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn promtool() -> Command {
    let mut command = Command::new("promtool");
    command.current_dir(project());
    command
}

fn prometheus_shows_everything(installation: &Installation) {
    let prometheus = Prometheus::start(installation.address());
    let up = || prometheus.query("up{job=\"facetd\"}").first().is_some_and(|sample| sample["value"][1] == "1");
    wait_for("a scrape", LIMIT, || up().then_some(()));
    // Those of the rules carry an error where there was one.
    let rules = wait_for("every rule to be evaluated", LIMIT, || {
        let groups = prometheus.ask("/api/v1/rules")?["groups"].clone();
        let rules = groups.as_array()?.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let rules: Vec<Value> = rules.collect();
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    });
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        assert_ne!(rule["state"], "firing", "all is well, and: {rule:#}");
    }
    for (title, expression) in panels() {
        // Rates need a second scrape. What is shown only where something is wrong is empty.
        let is_shown = || expression.ends_with("> 0") || !prometheus.query(&expression).is_empty();
        wait_for(&format!("{title:?} to show something: {expression}"), LIMIT, || is_shown().then_some(()));
    }
}

/// The expressions of the dashboard, its variables set, with the titles of their panels.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap().replace("$job", "facetd").replace("$instance", ".*");
            let expression = expression.replace("$__rate_interval", "1m");
            found.push((panel["title"].as_str().unwrap().to_string(), expression));
        }
    }
    found
}

/// A real one, with the shipped rules. Killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `target` every second, as a job called facetd.
    fn start(target: &str) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let rules = project().join(RULES);
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ {rules:?} ]\n\
             scrape_configs: [ {{ job_name: facetd, static_configs: [ {{ targets: [ {target:?} ] }} ] }} ]\n"
        );
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(&config).arg("--storage.tsdb.path").arg(folder.path().join("data"));
        let child = command.args(["--web.listen-address", &address]).stderr(log).spawn().unwrap();
        Prometheus { child, address, _folder: folder }
    }

    /// What an instant query finds.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let found = self.ask(&format!("/api/v1/query?query={encoded}"));
        found.and_then(|found| found["result"].as_array().cloned()).unwrap_or_default()
    }

    /// The data of its answer; none while it does not answer.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        // 1.0, so that the answer comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.contains(" 503 ") {
            return None;
        }
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {answer}"));
        assert_eq!(body["status"], "success", "{path}: {body}");
        Some(body["data"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn read(file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}
