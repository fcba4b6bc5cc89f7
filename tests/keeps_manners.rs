//! Promise: every command answers people and programs alike, ends with a code that says how it went, is no worse for a reader
//! that has seen enough, and leaves nothing half done when it is interrupted.

mod common;

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::{Feed, read_topic};
use common::{facetd, interruptible_facetd, output_of, project, wait_for};
use facetd::codec::{Message, json};
use serde_json::{Deserializer, Value};

const LIMIT: Duration = Duration::from_secs(120);
/// Of the model in tests/fixtures.
const DIMENSION: usize = 16;
const FACES: usize = 12;
const HANG_UP: i32 = 1;
const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;

/// A stopped daemon with some faces of a few people.
fn stopped(broker: &MockBroker) -> Installation {
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let feed = Feed::connect(&broker.topics);
    for face in 0..FACES {
        let value = |place| if place == face % 3 { 1.0 } else { 0.01 * ((face * 7 + place) % 5) as f32 };
        let message = Message { embedding: (0..DIMENSION).map(value).collect(), ..Message::default() };
        feed.send(&format!("cam/{face}"), Some(&json::encode(&message)), "default");
    }
    feed.flush();
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
    installation
}

fn command(arguments: &[&str]) -> Command {
    let mut command = interruptible_facetd();
    command.args(arguments);
    command
}

/// It must have ended by itself and without a panic.
fn ended(output: Output, what: &[&str]) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{what:?}: {err}");
    (output.status.code().unwrap_or_else(|| panic!("{what:?}: {:?}", output.status)), out, err)
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    ended(command(arguments).output().unwrap(), arguments)
}

#[test]
fn whoever_reads_may_stop_reading() {
    let broker = MockBroker::start();
    let installation = stopped(&broker);
    let (config, state) = (installation.config().to_str().unwrap(), installation.state());
    let state = state.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels.meta");
    std::fs::write(&labels, "1\n1\n2\n").unwrap();
    let (labels, made) = (labels.to_str().unwrap(), folder.path().join("made"));
    let made = made.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["--help"],
        &["help", "redrive"],
        &["completions", "bash"],
        &["evaluate", "--truth", labels, "--predicted", labels],
        &["evaluate", "--truth", labels, "--predicted", labels, "--json"],
        &["synth", "--faces", "10", "--dimension", "8", "--seed", "1", "--out", made],
        &["check", "--config", config],
        &["inspect", "--state", state, "stats"],
        &["inspect", "--state", state, "faces"],
        &["inspect", "--state", state, "faces", "--json"],
        &["inspect", "--state", state, "verify"],
        &["compact", "--config", config],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let (code, _, err) = ended(output, arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
    }
    // Nobody to complain to either.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let missing = command(&["evaluate", "--truth", "/nowhere", "--predicted", labels]).stderr(writer).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    // What cannot be written for another reason is told.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let evaluate = ["evaluate", "--truth", labels, "--predicted", labels];
    let (code, _, err) = ended(command(&evaluate).stdout(full).stderr(Stdio::piped()).output().unwrap(), &evaluate);
    assert!(code == 1 && err.contains("cannot write the answer") && err.contains("No space left"), "{code}: {err}");
}

#[test]
fn the_exit_code_says_how_it_went() {
    let broker = MockBroker::start();
    let installation = stopped(&broker);
    let config = installation.config().to_str().unwrap();
    let state = installation.state();
    let state_name = state.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    let wrong_name = wrong.to_str().unwrap();

    assert_eq!(run(&["check", "--config", config]).0, 0);
    // What would keep `run` from running, and nothing is made for it.
    let audit = folder.path().join("audit.jsonl");
    let with_audit = |path: &Path| {
        let check = ["check", "--config", config];
        ended(command(&check).env("FACETD_LOG__AUDIT", path).output().unwrap(), &check)
    };
    let (code, out, _) = with_audit(Path::new("/nowhere/audit.jsonl"));
    assert!(code == 3 && out.contains("audit   FAIL"), "{code}: {out}");
    assert!(with_audit(&audit).0 == 0 && !audit.exists());
    assert_eq!(run(&["inspect", "--state", "/nowhere", "stats"]).0, 1);
    assert_eq!(run(&["inspect", "--state", state_name, "colour"]).0, 2);

    std::fs::write(&wrong, "[engine]\n\nbatch_faces = 0\n").unwrap();
    let (code, _, err) = run(&["compact", "--config", wrong_name]);
    assert_eq!(code, 2);
    assert!(err.contains(&format!("{wrong_name}:3: engine.batch_faces: 0 is not 1 to 4096")), "{err}");
    std::fs::write(&wrong, "[engine]\nbatch_faces = \n").unwrap();
    let (code, _, err) = run(&["run", "--config", wrong_name]);
    assert!(code == 2 && err.contains(&format!("{wrong_name}:2: ")), "{code}: {err}");
    let (code, out, _) = run(&["check", "--config", wrong_name]);
    assert!(code == 3 && out.contains("config  FAIL") && out.contains(wrong_name), "{code}: {out}");

    // Every command that reads it tells what is odd in it.
    std::fs::write(&wrong, "[kafka]\nlibrdkafka_options = { \"ssl.key.password\" = \"hunter2\" }\n").unwrap();
    std::fs::set_permissions(&wrong, Permissions::from_mode(0o644)).unwrap();
    let verify = ["inspect", "--state", state_name, "verify", "--config", wrong_name];
    for arguments in [&["compact", "--config", wrong_name][..], &verify, &["redrive", "--config", wrong_name]] {
        let mut command = command(arguments);
        let said = ended(command.current_dir(folder.path()).output().unwrap(), arguments).2;
        assert!(
            said.contains("WARN") && said.contains(wrong_name) && !said.contains("hunter2"),
            "{arguments:?}: {said}"
        );
    }

    let daemon = installation.start();
    for arguments in [&["compact", "--config", config][..], &["inspect", "--state", state_name, "stats"]] {
        let (code, _, err) = run(arguments);
        assert!(code == 4 && err.contains("in use"), "{arguments:?}, {code}: {err}");
    }
    let (code, out, _) = run(&["check", "--config", config, "--json"]);
    let checks: Value = serde_json::from_str(&out).unwrap();
    let of = |check: &str| checks["checks"].as_array().unwrap().iter().find(|one| one["check"] == check).unwrap();
    assert_eq!((code, &checks["passed"], &of("state")["verdict"]), (3, &false.into(), &"fail".into()), "{checks:#}");
    assert_eq!(of("page")["verdict"], "warn", "{checks:#}");
    assert!(daemon.terminate().success());

    let said = output_of(&mut command(&["--help"]));
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    for code in ["0", "1", "2", "3", "4", "130"] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code} is not in {said}");
        assert!(readme.contains(&format!("| {code} |")), "the README does not say what {code} is");
    }
}

#[test]
fn what_is_told_can_be_had_as_json() {
    let broker = MockBroker::start();
    let installation = stopped(&broker);
    let config = installation.config().to_str().unwrap();
    let state = installation.state();
    let state = state.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (made, features, labels) = (path("made"), path("made/features.bin"), path("made/labels.meta"));
    let (predicted, tokens, copy, back) = (path("predicted.meta"), path("tokens.toml"), path("copy"), path("back"));
    let (repaired, model) = (path("repaired"), project().join("tests/fixtures/model"));
    let model = model.to_str().unwrap();
    let (brokers, topic) = (broker.topics.brokers.as_str(), broker.topics.input());

    let answer = |arguments: &[&str]| -> Value {
        let (code, out, err) = run(&[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {out} {err}");
        let values: Vec<Value> = Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().unwrap();
        assert!(!values.is_empty() && values.iter().all(Value::is_object), "{arguments:?}: {out}");
        values[0].clone()
    };
    let at_16 = ["--faces", "200", "--dimension", "16", "--seed", "3", "--out", &made];
    assert_eq!(answer(&[&["synth"][..], &at_16].concat())["faces"], 200);
    let cluster = ["cluster", "--features", &features, "--model", model, "--labels", &predicted, "--device", "cpu"];
    assert_eq!(answer(&cluster)["labels"], predicted.as_str());
    assert!(answer(&["evaluate", "--truth", &labels, "--predicted", &predicted])["pairwise"]["f"].is_f64());
    let replay = ["replay", "--features", &features, "--dimension", "16", "--brokers", brokers, "--topic", &topic];
    assert_eq!(answer(&replay)["faces"], 200);
    assert_eq!(answer(&["token", "--file", &tokens, "--name", "ada", "--scope", "read"])["scope"], "read");
    assert_eq!(answer(&["check", "--config", config])["passed"], true);
    assert_eq!(answer(&["redrive", "--config", config, "--dry-run"])["dry_run"], true);

    let inspect = |what: &[&str]| answer(&[&["inspect", "--state", state], what].concat());
    assert_eq!(inspect(&["stats"])["collections"]["default"]["faces"], FACES);
    let face = inspect(&["face", "cam/0"]);
    assert_eq!(face["face_id"], "cam/0");
    let cluster = face["cluster_id"].as_str().unwrap();
    assert_eq!(inspect(&["cluster", cluster])["cluster_id"], cluster);
    assert!(inspect(&["faces"])["cluster_id"].is_string());
    assert_eq!(inspect(&["verify"])["whole"], true);
    assert_eq!(inspect(&["repair", "--to", &repaired])["lost_faces"], 0);

    let on = |what: &str, more: &[&str]| answer(&[&[what, "--config", config], more].concat());
    assert_eq!(on("must-link", &["cam/0", "cam/1", "--by", "ada"])["kind"], "must_link");
    assert_eq!(inspect(&["constraints"])["by"], "ada");
    assert_eq!(on("must-link", &["cam/0", "cam/1"])["duplicate"], true);
    assert_eq!(on("release", &["cam/0", "cam/1"])["kind"], Value::Null);
    assert_eq!(on("cannot-link", &["cam/0", "cam/1"])["kind"], "cannot_link");
    // Being told apart may have made it another.
    let face = inspect(&["face", "cam/0"]);
    let cluster = face["cluster_id"].as_str().unwrap();
    assert_eq!(on("describe", &[cluster, "--name", "Ada", "--pin"])["name"], "Ada");
    assert_eq!(on("erase", &["face", "cam/5"])["erased_faces"], 1);
    assert_eq!(on("allow", &["cam/5"])["face_ids"][0], "cam/5");
    assert!(on("compact", &[])["bytes_after"].as_u64().unwrap() > 0);
    assert_eq!(on("recluster", &[])["was_done"], true);
    assert!(on("backup", &["--to", &copy])["bytes"].as_u64().unwrap() > 0);
    let restore = command(&["restore", "--config", config, "--from", &copy, "--json"])
        .env("FACETD_STATE__DIR", &back)
        .output()
        .unwrap();
    let restored: Value = serde_json::from_slice(&restore.stdout).unwrap();
    assert_eq!(restored["state"], back.as_str(), "{restored:#}");

    let demo = facetd().current_dir(project()).args(["demo", "--faces", "300", "--json"]).output().unwrap();
    let demo: Value = serde_json::from_slice(&demo.stdout).unwrap();
    assert_eq!(demo["faces"], 300);
}

fn signal(child: &Child, number: i32) {
    output_of(Command::new("kill").args([&format!("-{number}"), &child.id().to_string()]));
}

/// How it ended, and all it said.
fn end_of(mut child: Child) -> (ExitStatus, String) {
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut said).unwrap();
    (child.wait().unwrap(), said)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn who_writes_the_same_file_meanwhile_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let synth = ["synth", "--faces", "3000", "--dimension", "128", "--seed", "1", "--out"];
    let spawned = |_| command(&synth).arg(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    let writers: Vec<Child> = (0..8).map(spawned).collect();
    for (status, said) in writers.into_iter().map(end_of) {
        assert!(status.success(), "{said}");
    }
    assert!(files(folder.path()).iter().all(|name| !name.contains("partial")), "{:?}", files(folder.path()));
    let features = std::fs::metadata(folder.path().join("features.bin")).unwrap();
    assert_eq!(features.len(), 3000 * 128 * 4);
}

#[test]
fn an_interrupt_leaves_no_half_of_a_file_and_says_how_things_stand() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made");
    let synth = ["synth", "--faces", "60000", "--dimension", "512", "--seed", "1", "--kind", "cameras", "--out"];
    let child = command(&synth).arg(&out).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("it to begin to write", LIMIT, || (!files(&out).is_empty()).then_some(()));
    signal(&child, INTERRUPT);
    let (status, said) = end_of(child);
    assert_eq!(status.signal(), Some(INTERRUPT), "{said}");
    assert!(said.contains("facetd: interrupted"), "{said}");
    assert_eq!(files(&out), [""; 0], "{said}");

    let broker = MockBroker::start();
    let features = folder.path().join("features.bin");
    std::fs::write(&features, vec![1u8; 4 * 8 * 1000]).unwrap();
    let replay = ["replay", "--dimension", "8", "--rate", "1", "--brokers", &broker.topics.brokers, "--topic", "faces"];
    let child = command(&replay).arg("--features").arg(&features).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first face", LIMIT, || (!read_topic(&broker.topics.brokers, "faces").is_empty()).then_some(()));
    signal(&child, TERMINATE);
    let (status, said) = end_of(child);
    assert_eq!(status.signal(), Some(TERMINATE), "{said}");
    assert!(said.contains("of 1000 faces"), "{said}");

    // One that `nohup` started outlives its terminal, and hears the others.
    let arrived = || read_topic(&broker.topics.brokers, "faces").len();
    let earlier = arrived();
    let replay =
        ["replay", "--dimension", "8", "--rate", "20", "--brokers", &broker.topics.brokers, "--topic", "faces"];
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(facetd().get_program()).args(replay);
    let mut child = child.arg("--features").arg(&features).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first face", LIMIT, || (arrived() > earlier).then_some(()));
    signal(&child, HANG_UP);
    let before = arrived();
    wait_for("faces after it", LIMIT, || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        (arrived() > before + 20).then_some(())
    });
    signal(&child, TERMINATE);
    let (status, said) = end_of(child);
    assert_eq!(status.signal(), Some(TERMINATE), "{said}");

    // The demo ends in its own way: its state is a folder of its own, which goes with it.
    let temporary = tempfile::tempdir().unwrap();
    let child = command(&["demo", "--faces", "200000"])
        .current_dir(project())
        .env("TMPDIR", temporary.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // ONNX Runtime has a file of its own there.
    let states = || files(temporary.path()).into_iter().filter(|name| name.starts_with("facetd-")).count();
    wait_for("its state", LIMIT, || (states() == 1).then_some(()));
    signal(&child, INTERRUPT);
    let (status, said) = end_of(child);
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(states(), 0, "{said}");
}

/// The next line that a command says with `words` in it.
fn line_with(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) {
    let mut before = Vec::new();
    for line in lines.map(Result::unwrap) {
        if line.contains(words) {
            return;
        }
        before.push(line);
    }
    panic!("it never said {words:?}: {before:#?}");
}

#[test]
fn what_ends_in_its_own_way_is_ended_by_a_second_interrupt() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("facetd.toml");
    std::fs::write(&config, "").unwrap();
    // A broker that takes connections and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut redrive = command(&["redrive", "--dry-run", "--config"]);
    redrive.arg(&config).env("FACETD_KAFKA__BROKERS", mute.local_addr().unwrap().to_string());
    redrive.env("FACETD_MODEL__DIR", project().join("tests/fixtures/model"));
    let mut child = redrive.stderr(Stdio::piped()).spawn().unwrap();
    let _connection = mute.accept().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    signal(&child, INTERRUPT);
    line_with(&mut said, "once more ends it at once");
    signal(&child, INTERRUPT);
    line_with(&mut said, "facetd: interrupted; run it again");
    assert_eq!(child.wait().unwrap().signal(), Some(INTERRUPT));

    // Signals that it was started to ignore are none.
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new("sh");
    demo.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(facetd().get_program());
    demo.args(["demo", "--faces", "200000"]).current_dir(project()).env("TMPDIR", temporary.path());
    let mut child = demo.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    line_with(&mut said, "faces, ");
    signal(&child, HANG_UP);
    signal(&child, INTERRUPT);
    line_with(&mut said, "faces, ");
    signal(&child, TERMINATE);
    line_with(&mut said, "once more ends it at once");
    assert_eq!(child.wait().unwrap().code(), Some(128 + TERMINATE));
    assert!(files(temporary.path()).iter().all(|name| !name.starts_with("facetd-")));
}
