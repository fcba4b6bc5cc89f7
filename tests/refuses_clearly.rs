//! Promise: what keeps the daemon from running is told in one clear line that says what to do, and
//! the exit status is not zero.

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::project;

/// Runs the daemon, which must refuse, and answers its last line.
fn refusal(installation: &Installation, environment: &[(&str, &str)]) -> String {
    let before = installation.log().len();
    let status = installation.command().envs(environment.iter().copied()).status().unwrap();
    assert!(!status.success(), "it ran");
    let log = installation.log().split_off(before);
    assert!(!log.contains("panicked"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("facetd: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    lines[0].to_string()
}

fn assert_says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

fn copy_model(to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(project().join("tests/fixtures/model")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn each_obstacle_is_named_with_the_way_out() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let new = || Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });

    let line = refusal(&new(), &[("FACETD_MODEL__RUNTIME", "/nowhere/libonnxruntime.so")]);
    assert_says(&line, &["no ONNX Runtime", "/nowhere/libonnxruntime.so", "scripts/setup runtime"]);

    let not_a_library = project().join("Cargo.toml");
    let line = refusal(&new(), &[("FACETD_MODEL__RUNTIME", not_a_library.to_str().unwrap())]);
    assert_says(&line, &["no ONNX Runtime", "scripts/setup runtime"]);

    let line = refusal(&new(), &[("FACETD_MODEL__DEVICE", "cuda:0")]);
    assert_says(&line, &["cuda:0", "onnxruntime-gpu", "model.device"]);

    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("model");
    copy_model(&damaged);
    let mut bytes = std::fs::read(damaged.join("lp.onnx")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(damaged.join("lp.onnx"), bytes).unwrap();
    let line = refusal(&new(), &[("FACETD_MODEL__DIR", damaged.to_str().unwrap())]);
    assert_says(&line, &["lp.onnx", "sha256", "export it again"]);

    let line = refusal(&new(), &[("FACETD_MODEL__DIR", "/nowhere")]);
    assert_says(&line, &["/nowhere/model.toml", "model.dir"]);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let line = refusal(&new(), &[("FACETD_KAFKA__BROKERS", &closed)]);
    assert_says(&line, &["no broker answers", &closed, "kafka.brokers"]);

    let line = refusal(&new(), &[("FACETD_KAFKA__EVENTS_TOPIC", "nobody-made-this")]);
    assert_says(&line, &["nobody-made-this", "does not exist", "create it"]);

    let line = refusal(&new(), &[("FACETD_KAFKA__PARTITIONS", "[0, 9]")]);
    assert_says(&line, &["no partition 9", "kafka.partitions"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = refusal(&new(), &[("FACETD_HTTP__LISTEN", &taken.local_addr().unwrap().to_string())]);
    assert_says(&line, &["cannot listen", "http.listen"]);

    let running = new();
    let daemon = running.start();
    let line = refusal(&running, &[("FACETD_HTTP__LISTEN", "127.0.0.1:0")]);
    assert_says(&line, &["in use by another facetd", "state.dir"]);
    assert!(daemon.terminate().success());

    let refused_model =
        |model: &str| refusal(&running, &[("FACETD_MODEL__DIR", project().join(model).to_str().unwrap())]);
    let line = refused_model("tests/fixtures/model-edges");
    assert_says(&line, &["made with another model", "facetd recluster", "model.dir", "state.dir"]);
    let line = refused_model("models/demo-128");
    assert_says(&line, &["holds embeddings of 16 values, the model takes 128", "choose a model of 16", "state.dir"]);
}

#[test]
fn a_wrong_configuration_is_told_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facetd.toml");
    std::fs::write(&file, "[kafka]\nbroker = \"x:1\"\n[engine]\nbatch_faces = 0\n").unwrap();
    let output = common::facetd().args(["run", "--config"]).arg(&file).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_says(&text, &["kafka.broker: unknown key", "engine.batch_faces: 0 is not 1 to 4096"]);

    let output = common::facetd().args(["run", "--config", "/nowhere.toml"]).output().unwrap();
    assert!(!output.status.success());
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["/nowhere.toml"]);
}
