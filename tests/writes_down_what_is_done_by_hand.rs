//! Promise: whatever is done by hand, over HTTP or by a command, stands in the audit log, with who did it and what became of
//! it, and with nothing secret; what cannot be written there is not done; a token that is taken back is refused at once.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::Feed;
use common::{facetd, output_of, project, wait_for};
use facetd::codec::{Message, json};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const LOBBY: &str = "/v1/collections/lobby";
const PEOPLE: usize = 4;
const EACH: usize = 5;
const FILE: &str = "audit.jsonl";

fn face_id(person: usize, face: usize) -> String {
    format!("cam{person}-{face}")
}

fn installation(broker: &MockBroker) -> Installation {
    let model = project().join("tests/fixtures/model");
    let more = "[collections]\ndefault = \"lobby\"\n";
    let feed = Feed::connect(&broker.topics);
    for (person, face) in (0..EACH).flat_map(|face| (0..PEOPLE).map(move |person| (person, face))) {
        let value = |place| if place == person { 1.0 } else { 0.01 * ((face * 7 + place) % 5) as f32 };
        let message = Message { embedding: (0..16).map(value).collect(), ..Message::default() };
        feed.send(&face_id(person, face), Some(&json::encode(&message)), "lobby");
    }
    feed.flush();
    Installation::new(&Settings { topics: &broker.topics, model: &model, more })
}

/// The file of tokens.
struct Tokens {
    folder: tempfile::TempDir,
}

impl Tokens {
    fn file(&self) -> PathBuf {
        self.folder.path().join("tokens.toml")
    }

    fn make(&self, name: &str, scope: &str) -> String {
        let made = ["--name", name, "--scope", scope];
        output_of(facetd().args(["token", "--file"]).arg(self.file()).args(made)).trim().to_string()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Those with an outcome, as words: who, what, outcome.
fn told(lines: &[Value], outcome: &str) -> Vec<(String, String)> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_string();
    let of_it = lines.iter().filter(|line| line["outcome"] == json!(outcome));
    of_it.map(|line| (word(line, "who"), word(line, "what"))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(who, what)| (who.to_string(), what.to_string())).collect()
}

#[test]
fn every_deed_stands_in_the_audit_log_and_a_token_taken_back_does_no_more() {
    let broker = MockBroker::start();
    let (installation, tokens) = (installation(&broker), Tokens { folder: tempfile::tempdir().unwrap() });
    let (reader, writer) = (tokens.make("grafana", "read"), tokens.make("ada", "write"));
    let daemon = installation.start_with(|command| {
        command.env("FACETD_HTTP__TOKENS", tokens.file());
    });
    daemon.wait_metric("facetd_engine_faces", (PEOPLE * EACH) as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    let audit = installation.state().join("audit.jsonl");
    assert_eq!(audit.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let ask = |token: &str, method: &str, path: &str, body: Option<Value>| {
        let body = body.map(|body| body.to_string());
        installation.ask(method, &format!("{LOBBY}{path}"), Some(token), body.as_deref())
    };
    let cluster_of = |person: usize| {
        let found = ask(&reader, "GET", &format!("/faces/{}", face_id(person, 0)), None).json(200);
        found["cluster_id"].as_str().unwrap().to_string()
    };

    let [a, b] = [face_id(0, 0), face_id(0, 1)];
    let word = |kind: &str| Some(json!({ "kind": kind, "a": a, "b": b }));
    ask(&writer, "POST", "/constraints", word("must_link")).json(200);
    ask(&writer, "POST", "/constraints", word("cannot_link")).json(409);
    ask(&writer, "DELETE", &format!("/constraints?a={a}&b={b}"), None).json(200);
    let named = json!({ "name": "Ada Lovelace", "pinned": true });
    ask(&writer, "PATCH", &format!("/clusters/{}", cluster_of(0)), Some(named)).json(200);
    let moved = json!({ "face_id": face_id(1, 1), "cluster_id": cluster_of(2) });
    ask(&writer, "POST", "/moves", Some(moved)).json(200);
    ask(&writer, "DELETE", &format!("/faces/{}", face_id(3, 0)), None).json(200);
    let found = ask(&reader, "GET", &format!("/faces/{}", face_id(3, 1)), None).json(200);
    let person = found["cluster_id"].as_str().unwrap();
    let erased = ask(&writer, "DELETE", &format!("/clusters/{person}"), None).json(200)["erased"].clone();
    ask(&reader, "DELETE", &format!("/faces/{}", face_id(0, 0)), None).json(403);
    ask(&reader, "DELETE", "", None).json(403);

    let written = lines(&audit);
    let [must, release, describe] = ["must_link", "release", "describe"].map(|what| ("ada", what));
    let done = [must, release, describe, ("ada", "move"), ("ada", "erase_faces"), ("ada", "erase_cluster")];
    assert_eq!(told(&written, "done"), pairs(&done));
    let refused = [("ada", "cannot_link"), ("grafana", "erase_faces"), ("grafana", "erase_collection")];
    assert_eq!(told(&written, "refused"), pairs(&refused));
    // Each that was begun ended, and none was done that was not begun.
    let operations = |outcome: &str| -> BTreeSet<String> {
        written
            .iter()
            .filter(|line| line["outcome"] == json!(outcome))
            .map(|line| line["operation"].to_string())
            .collect()
    };
    let ended: BTreeSet<String> = operations("done").union(&operations("refused")).cloned().collect();
    assert!(operations("asked").is_subset(&ended) && operations("done").is_subset(&operations("asked")));
    let last = written.iter().rfind(|line| line["outcome"] == json!("done")).unwrap();
    assert_eq!((&last["cluster_id"], &last["erased"]), (&json!(person), &erased));
    assert!(written.iter().all(|line| line["collection"] == json!("lobby") && line["through"] == json!("http")));
    let text = std::fs::read_to_string(&audit).unwrap();
    for secret in [reader.as_str(), writer.as_str(), "Lovelace", "embedding", "similarity", "linkage"] {
        assert!(!text.contains(secret), "{secret} is in the audit log");
    }

    // As logrotate does it.
    std::fs::rename(&audit, audit.with_extension("jsonl.1")).unwrap();
    ask(&writer, "DELETE", &format!("/faces/{}", face_id(0, 4)), None).json(200);
    assert_eq!(told(&lines(&audit), "done"), pairs(&[("ada", "erase_faces")]));

    let listen = |token: &str| {
        let mut stream = TcpStream::connect(installation.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {LOBBY}/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        lines
    };
    let mut of_writer = listen(&writer);
    let mut of_reader = listen(&reader);
    let text = std::fs::read_to_string(tokens.file()).unwrap();
    let without_ada = text.split("[[token]]").filter(|token| !token.contains("\"ada\"")).collect::<Vec<_>>();
    // By the file alone.
    std::fs::write(tokens.file(), without_ada.join("[[token]]")).unwrap();
    let get = |token: &str| ask(token, "GET", "", None).status;
    wait_for("the token to be refused", LIMIT, || (get(&writer) == 401).then_some(()));
    assert_eq!(get(&reader), 200);
    // The stream ends, so that this returns.
    of_writer.read_to_end(&mut Vec::new()).unwrap();

    std::fs::write(tokens.file(), "nothing of the kind").unwrap();
    daemon.hang_up();
    let kept = || installation.log().contains("the tokens stay as they were before").then_some(());
    wait_for("the bad file to be told of", LIMIT, kept);
    assert_eq!(get(&reader), 200);

    // A stream and who idles hold up nothing.
    let _idle = TcpStream::connect(installation.address()).unwrap();
    let asked = Instant::now();
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(asked.elapsed() < Duration::from_secs(10));
    of_reader.read_to_end(&mut Vec::new()).unwrap();

    // By commands, into the same file.
    let before = lines(&audit).len();
    let does = |arguments: &[&str]| {
        let mut command = facetd();
        command.arg(arguments[0]).arg("--config").arg(installation.config()).args(&arguments[1..]);
        command.output().unwrap().status.success()
    };
    assert!(does(&["must-link", &a, &b]) && does(&["release", &a, &b]) && !does(&["release", &a, &b]));
    assert!(does(&["erase", "face", &a, &b]) && does(&["allow", &a]));
    let written = lines(&audit).split_off(before);
    let whats = |outcome: &str| told(&written, outcome).into_iter().map(|(_, what)| what).collect::<Vec<_>>();
    assert_eq!(whats("done"), ["must_link", "release", "erase_faces", "allow"]);
    assert_eq!(whats("refused"), ["release"]);
    let erase = written.iter().find(|line| line["what"] == json!("erase_faces")).unwrap();
    assert_eq!((&erase["face_ids"], &erase["through"]), (&json!([a, b]), &json!("command")));
    assert!(erase["who"].as_str().unwrap().contains("uid "), "{erase}");

    goes_along_with_a_backup(&installation, &audit);
}

/// And what was rotated with it; no command takes offence at it. What is done to all of a state stands in the log of the
/// state that comes of it.
fn goes_along_with_a_backup(installation: &Installation, audit: &Path) {
    let files = [FILE, "audit.jsonl.1"];
    let before = files.map(|file| std::fs::read_to_string(audit.with_file_name(file)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let facetd = |arguments: &[&str], path: &Path| {
        output_of(
            facetd().args(arguments[..1].iter()).arg("--config").arg(installation.config()).arg(arguments[1]).arg(path),
        )
    };
    facetd(&["backup", "--to"], &backup);
    output_of(common::facetd().args(["compact", "--config"]).arg(installation.config()));
    installation.inspect(&["verify"]);
    let repaired = folder.path().join("repaired");
    installation.inspect(&["repair", "--to", repaired.to_str().unwrap()]);
    std::fs::rename(installation.state(), folder.path().join("was")).unwrap();
    facetd(&["restore", "--from"], &backup);
    let states: [(PathBuf, &[&str]); 3] = [
        (folder.path().join("was"), &["compact"]),
        (repaired, &["compact", "repair"]),
        (installation.state(), &["restore"]),
    ];
    for (state, deeds) in &states {
        for (file, before) in files.iter().zip(&before) {
            let path = state.join(file);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            let text = std::fs::read_to_string(&path).unwrap();
            let more = text.strip_prefix(before).unwrap_or_else(|| panic!("{}: {text}", path.display()));
            assert_eq!(more.is_empty(), *file != FILE, "{}: {more}", path.display());
        }
        let written = lines(&state.join(FILE)).split_off(before[0].lines().count());
        let whats = |outcome: &str| told(&written, outcome).into_iter().map(|(_, what)| what).collect::<Vec<_>>();
        let deeds: Vec<String> = deeds.iter().map(ToString::to_string).collect();
        assert_eq!((whats("asked"), whats("done")), (deeds.clone(), deeds));
        assert!(written.iter().all(|line| line["collection"] == Value::Null && line["through"] == json!("command")));
    }
    let restored = lines(&installation.state().join(FILE));
    assert_eq!(restored.last().unwrap()["from"], json!(backup.to_str().unwrap()));

    // Another threshold, and what was said of a cluster, without what it comes to.
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for file in ["re.onnx", "lp.onnx", "model.toml"] {
        std::fs::copy(project().join("tests/fixtures/model").join(file), model.join(file)).unwrap();
    }
    let text = std::fs::read_to_string(model.join("model.toml")).unwrap();
    std::fs::write(model.join("model.toml"), text.replace("threshold = 0.200", "threshold = 0.210")).unwrap();
    let with_model = |arguments: &[&str]| {
        let mut command = common::facetd();
        command.arg(arguments[0]).arg("--config").arg(installation.config()).args(&arguments[1..]);
        output_of(command.env("FACETD_MODEL__DIR", &model))
    };
    with_model(&["recluster"]);
    let face = installation.inspect(&["--collection", "lobby", "face", &face_id(1, 0), "--json"]);
    let face: Value = serde_json::from_str(&face).unwrap();
    with_model(&["describe", face["cluster_id"].as_str().unwrap(), "--pin"]);
    let written = lines(&installation.state().join(FILE)).split_off(restored.len());
    assert_eq!(told(&written, "done").into_iter().map(|(_, what)| what).collect::<Vec<_>>(), ["recluster", "describe"]);
    assert_eq!(written[0]["model"], json!("fixture-16"));
    let describe = written.last().unwrap();
    assert_eq!((&describe["pinned"], &describe["named"]), (&json!(true), &Value::Null), "{describe}");
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let daemon = installation.start_with(|command| {
        command.env("FACETD_LOG__AUDIT", "/dev/full");
    });
    daemon.wait_metric("facetd_engine_faces", (PEOPLE * EACH) as f64, LIMIT);
    let face = format!("{LOBBY}/faces/{}", face_id(0, 0));
    let refused = installation.ask("DELETE", &face, None, None).json(503);
    assert_eq!(refused["type"], json!("urn:facetd:not-audited"));
    assert!(!refused["detail"].as_str().unwrap().contains("/dev/full"));
    assert!(installation.log().contains("/dev/full"));
    assert_eq!(daemon.metric("facetd_audit_failures_total"), 1.0);
    installation.ask("GET", &face, None, None).json(200);
    assert!(daemon.terminate().success(), "{}", installation.log());

    let mut erase = facetd();
    erase.args(["erase", "--config"]).arg(installation.config()).args(["face", &face_id(0, 0)]);
    let said = erase.env("FACETD_LOG__AUDIT", "/dev/full").output().unwrap();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("cannot write the audit log /dev/full"));
    assert!(installation.inspect(&["faces", "--collection", "lobby"]).contains(&face_id(0, 0)));
}

#[test]
fn what_is_done_is_not_told_as_not_done() {
    let broker = MockBroker::start();
    let installation = installation(&broker);
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", (PEOPLE * EACH) as f64, LIMIT);
    assert!(daemon.terminate().success(), "{}", installation.log());
    let audit = installation.state().join("audit.jsonl");
    let config = installation.config().to_str().unwrap();
    let erase = |face: &str| ["erase", "--config", config, "face", face].map(str::to_string);
    output_of(facetd().args(erase(&face_id(0, 0))));
    let asked = std::fs::read_to_string(&audit).unwrap().lines().next().unwrap().len() as u64;

    for deed in
        [erase(&face_id(0, 1)).to_vec(), ["allow", "--config", config, &face_id(0, 1)].map(str::to_string).to_vec()]
    {
        // Room for one more line and not for two, in a file longer than any other that is written: it has no blocks.
        const MOST: u64 = 1 << 33;
        let file = std::fs::File::options().write(true).open(&audit).unwrap();
        file.set_len(MOST - asked * 3 / 2 - 1).unwrap();
        let mut file = std::fs::File::options().append(true).open(&audit).unwrap();
        file.write_all(b"\n").unwrap();
        let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", MOST / 512);
        let facetd = facetd();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited, "sh"]).arg(facetd.get_program()).args(&deed);
        let said = command.output().unwrap();
        let told = String::from_utf8_lossy(&said.stderr).to_string();
        assert!(told.contains("it was done; its outcome could not be written down in"), "{deed:?}: {told}");
        assert!(said.status.success() && !told.contains("nothing is done"), "{deed:?}: {told}");
    }
    assert!(!installation.inspect(&["faces", "--collection", "lobby"]).contains(&face_id(0, 1)));
}
