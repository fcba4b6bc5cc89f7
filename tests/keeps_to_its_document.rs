//! Promise: the HTTP API is what its OpenAPI document says. Thousands of requests made up from the document, right ones
//! and wrong ones, get no answer that it does not describe and no server error, and each operation is also seen to
//! succeed.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::faces::light_python;
use common::kafka_client::Feed;
use common::{facetd, output_of, project};
use facetd::codec::{Message, json};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
/// Of the model in tests/fixtures.
const DIMENSION: usize = 16;
/// Collections that may be erased.
const DOOMED: usize = 20;
/// Cases for each operation, as schemathesis counts: some 5,500 requests.
const CASES: &str = "330";
const REQUESTS: usize = 5_000;

fn face_id(face: usize) -> String {
    format!("cam{}-{face}", face % 3)
}

/// So many people in a collection, each seen eight times.
fn send(feed: &Feed, collection: &str, people: usize) -> usize {
    let near = |person: usize, face: usize| {
        move |place| if place == person { 1.0 } else { 0.01 * ((face + place) % 5) as f32 }
    };
    for face in 0..people * 8 {
        let embedding = (0..DIMENSION).map(near(face % people, face)).collect();
        feed.send(&face_id(face), Some(&json::encode(&Message { embedding, ..Message::default() })), collection);
    }
    people * 8
}

/// What there is of a collection, as document_hooks.py wants it.
fn seeds(installation: &Installation, token: &str, collection: &str, faces: usize) -> Value {
    let path = format!("/v1/collections/{collection}/clusters?limit=1000");
    let clusters = installation.ask("GET", &path, Some(token), None).json(200);
    let clusters: Vec<&Value> = clusters["clusters"].as_array().unwrap().iter().map(|it| &it["cluster_id"]).collect();
    json!({ "name": collection, "faces": (0..faces).map(face_id).collect::<Vec<_>>(), "clusters": clusters })
}

#[test]
fn nothing_made_up_from_the_document_gets_an_answer_that_is_not_in_it() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.toml");
    let mut made = facetd();
    made.args(["token", "--name", "everything", "--scope", "write", "--file"]).arg(&tokens);
    let token = output_of(&mut made).trim().to_string();
    let more = format!("tokens = \"{}\"", tokens.display());
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: &more });

    let feed = Feed::connect(&broker.topics);
    let doomed: Vec<String> = (0..DOOMED).map(|number| format!("doomed-{number}")).collect();
    let large = ["kept", "tied", "loose", "picked", "thinned"];
    let small = doomed.iter().map(|name| (name.as_str(), 1));
    let collections: Vec<(&str, usize)> = large.iter().map(|&name| (name, 14)).chain(small).collect();
    let faces: usize = collections.iter().map(|&(name, people)| send(&feed, name, people)).sum();
    feed.flush();
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", faces as f64, LIMIT);
    daemon.wait_settled(LIMIT);

    // Words that can be taken back: of two faces of one person each, so that nothing else changes.
    let pairs = (0..14 * 8).filter(|face| face / 14 % 2 == 0).map(|face| [face_id(face), face_id(face + 14)]);
    let pairs: Vec<[String; 2]> = pairs.collect();
    for [a, b] in &pairs {
        let word = json!({ "kind": "must_link", "a": a, "b": b }).to_string();
        installation.ask("POST", "/v1/collections/loose/constraints", Some(&token), Some(&word)).json(200);
    }
    let loose = |faces| json!({ "name": "loose", "faces": faces, "clusters": [] });

    let seeds = |name: &str| seeds(&installation, &token, name, if large.contains(&name) { 14 * 8 } else { 8 });
    let seeded = json!({
        "dimension": DIMENSION,
        "kept": seeds("kept"),
        "own": {
            "POST /v1/collections/{collection}/constraints": [seeds("tied")],
            "DELETE /v1/collections/{collection}/constraints": pairs.iter().map(loose).collect::<Vec<_>>(),
            "POST /v1/collections/{collection}/moves": [seeds("tied")],
            "DELETE /v1/collections/{collection}/faces/{face_id}": [seeds("picked")],
            "DELETE /v1/collections/{collection}/clusters/{cluster_id}": [seeds("thinned")],
            "DELETE /v1/collections/{collection}": doomed.iter().map(|name| seeds(name)).collect::<Vec<_>>(),
        },
    });
    let (seeds, answers) = (folder.path().join("seeds.json"), folder.path().join("answers"));
    std::fs::write(&seeds, seeded.to_string()).unwrap();
    let tests = project().join("tests/python");
    let mut schemathesis = light_python();
    schemathesis.current_dir(&folder).args(["-m", "schemathesis.cli", "--config-file"]);
    schemathesis.arg(tests.join("schemathesis.toml"));
    schemathesis.arg("run").arg(format!("http://{}/v1/openapi.json", installation.address()));
    schemathesis.args(["--checks", "all", "--max-examples", CASES, "--seed", "1", "--request-timeout", "30"]);
    schemathesis.args(["--continue-on-failure", "--header", &format!("Authorization: Bearer {token}")]);
    schemathesis.env("PYTHONPATH", tests).env("SCHEMATHESIS_HOOKS", "document_hooks");
    schemathesis.env("DOCUMENT_SEEDS", &seeds).env("DOCUMENT_ANSWERS", &answers);
    let told = schemathesis.output().unwrap();
    let report = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{report}\n{}", String::from_utf8_lossy(&told.stderr));

    let answers = std::fs::read_to_string(&answers).unwrap();
    let mut by_operation = BTreeMap::<&str, Vec<u16>>::new();
    for (operation, status) in answers.lines().map(|line| line.split_once('\t').unwrap()) {
        by_operation.entry(operation).or_default().push(status.parse().unwrap());
    }
    let requests: usize = by_operation.values().map(Vec::len).sum();
    assert!(requests >= REQUESTS, "{requests} requests: {report}");
    let document = installation.ask("GET", "/v1/openapi.json", None, None).json(200);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let operation = format!("{} {path}", method.to_uppercase());
            let statuses = by_operation.get(operation.as_str()).map_or(&[][..], Vec::as_slice);
            let fine = statuses.iter().filter(|status| (200..300).contains(*status)).count();
            println!("{operation}: {fine} of {} fine", statuses.len());
            assert!(fine > 0, "{operation} was never seen to succeed");
        }
    }
    println!("{requests} requests");
    assert!(daemon.terminate().success(), "{}", installation.log());
    assert!(!installation.log().contains("panicked"), "{}", installation.log());
}
