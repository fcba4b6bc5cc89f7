//! Promise: the HTTP API looks up faces and clusters, changes what an operator may change, tells of every change, and
//! answers whatever is wrong with a problem that says what to do.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Answer, Installation, Running, Settings};
use common::kafka_client::Feed;
use common::{facetd, output_of, project};
use facetd::codec::{Message, json};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
/// Of the model in tests/fixtures.
const DIMENSION: usize = 16;
const PEOPLE: usize = 4;
const EACH: usize = 5;

/// A face of a person: near the person's own direction.
fn embedding(person: usize, face: usize) -> Vec<f32> {
    (0..DIMENSION).map(|place| if place == person { 1.0 } else { 0.01 * ((face * 7 + place) % 5) as f32 }).collect()
}

fn face_id(person: usize, face: usize) -> String {
    format!("cam{person}/{face}")
}

/// As one segment of a path.
fn encoded(id: &str) -> String {
    id.replace('/', "%2F")
}

fn feed(broker: &MockBroker) {
    let feed = Feed::connect(&broker.topics);
    for (person, face) in (0..EACH).flat_map(|face| (0..PEOPLE).map(move |person| (person, face))) {
        let message = Message { embedding: embedding(person, face), ..Message::default() };
        feed.send(&face_id(person, face), Some(&json::encode(&message)), "lobby");
    }
    feed.flush();
}

struct Api<'a> {
    installation: &'a Installation,
    token: Option<String>,
}

impl Api<'_> {
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.installation.ask(method, path, self.token.as_deref(), body.as_deref())
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).json(200)
    }

    /// Of the face.
    fn cluster_of(&self, person: usize, face: usize) -> String {
        let found = self.get(&format!("/v1/collections/lobby/faces/{}", encoded(&face_id(person, face))));
        found["cluster_id"].as_str().unwrap().to_string()
    }

    /// All items of a list, by pages of two.
    fn all(&self, path: &str, items: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joint}limit=2{after}"));
            all.extend(page[items].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return all,
            }
        }
    }
}

fn with_a_daemon(more: &str, test: impl FnOnce(&Installation, &Running)) {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more });
    feed(&broker);
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", (PEOPLE * EACH) as f64, LIMIT);
    daemon.wait_settled(LIMIT);
    test(&installation, &daemon);
    assert!(daemon.terminate().success(), "{}", installation.log());
}

#[test]
fn what_is_there_can_be_looked_up_and_changed() {
    with_a_daemon("", |installation, _| {
        let api = Api { installation, token: None };
        let lobby = &api.get("/v1/collections")["collections"][0];
        assert_eq!((lobby["collection"].as_str(), lobby["faces"].as_u64()), (Some("lobby"), Some(20)));
        let clusters = api.all("/v1/collections/lobby/clusters?order=size", "clusters");
        let sizes: Vec<u64> = clusters.iter().map(|cluster| cluster["size"].as_u64().unwrap()).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes.iter().sum::<u64>() == 20, "{sizes:?}");
        let recent = api.all("/v1/collections/lobby/clusters?order=recent", "clusters");
        let ids = |list: &[Value]| list.iter().map(|it| it["cluster_id"].to_string()).collect::<BTreeSet<_>>();
        assert_eq!(ids(&recent), ids(&clusters));
        let members: BTreeSet<String> = clusters
            .iter()
            .flat_map(|cluster| {
                let id = cluster["cluster_id"].as_str().unwrap();
                api.all(&format!("/v1/collections/lobby/clusters/{id}/faces"), "faces")
            })
            .map(|face| face["face_id"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(members.len(), 20, "each face in one cluster");

        let person = api.cluster_of(1, 0);
        let found = api.ask("POST", "/v1/search", Some(json!({ "collection": "lobby", "embedding": embedding(1, 0) })));
        let found = found.json(200);
        let best = &found["clusters"][0];
        assert_eq!(found["would_join"], json!(person), "{found}");
        assert_eq!(best["cluster_id"], json!(person));
        assert!(best["faces"][0]["similarity"].as_f64().unwrap() > 0.999);
        assert_eq!(api.cluster_of(1, 1), person);
        let why = api.get("/v1/collections/lobby/why?a=cam1/0&b=cam1/1");
        assert_eq!(why["together"], json!(true));
        assert!(!why["path"].as_array().unwrap().is_empty(), "{why}");
        let picture = api.get(&format!("/v1/collections/lobby/clusters/{person}/picture"));
        assert!(picture["faces"].as_array().unwrap().len() >= picture["shown"].as_u64().unwrap() as usize);

        let path = format!("/v1/collections/lobby/clusters/{person}");
        let named = api.ask("PATCH", &path, Some(json!({ "name": "Ada", "pinned": true }))).json(200);
        assert_eq!((named["name"].as_str(), named["pinned"].as_bool()), (Some("Ada"), Some(true)));
        let named = api.ask("PATCH", &path, Some(json!({ "name": null }))).json(200);
        assert_eq!((named.get("name"), named["pinned"].as_bool()), (None, Some(true)));
        let version = named["version"].clone();
        let untouched = api.ask("PATCH", &path, Some(json!({}))).json(200);
        assert_eq!(untouched["version"], version, "nothing was said of it");
        let named = api.ask("PATCH", &path, Some(json!({ "name": "" }))).json(200);
        assert_eq!(named.get("name"), None);

        // What cannot be said leaves nothing of it said.
        let elsewhere = clusters.iter().map(|cluster| &cluster["cluster_id"]).find(|id| **id != json!(person)).unwrap();
        let path = format!("/v1/collections/lobby/clusters/{}/faces", elsewhere.as_str().unwrap());
        let first = api.get(&path)["faces"][0]["face_id"].clone();
        let word = json!({ "kind": "cannot_link", "a": face_id(1, 1), "b": first });
        api.ask("POST", "/v1/collections/lobby/constraints", Some(word.clone())).json(200);
        let moved = json!({ "face_id": face_id(1, 1), "cluster_id": elsewhere });
        let refused = api.ask("POST", "/v1/collections/lobby/moves", Some(moved)).json(409);
        assert_eq!(refused["type"], json!("urn:facetd:contradiction"));
        let constraints = api.all("/v1/collections/lobby/constraints", "constraints");
        assert_eq!(constraints.len(), 1, "{constraints:?}");
        let [a, b] = [&word["a"], &word["b"]].map(|face| encoded(face.as_str().unwrap()));
        let taken_back = api.ask("DELETE", &format!("/v1/collections/lobby/constraints?a={a}&b={b}"), None).json(200);
        assert_eq!(taken_back, json!({ "released": 1 }));

        let mut others = clusters.iter().map(|cluster| &cluster["cluster_id"]).filter(|id| **id != json!(person));
        let moved = json!({ "face_id": face_id(1, 1), "cluster_id": others.next().unwrap() });
        let moved = api.ask("POST", "/v1/collections/lobby/moves", Some(moved)).json(200);
        let constraints = api.all("/v1/collections/lobby/constraints", "constraints");
        let with = |kind: &str| {
            let word = constraints.iter().find(|word| word["kind"] == json!(kind)).unwrap();
            let face = [&word["a"], &word["b"]].into_iter().find(|face| **face != json!(face_id(1, 1))).unwrap();
            let found = api.get(&format!("/v1/collections/lobby/faces/{}", encoded(face.as_str().unwrap())));
            found["cluster_id"].clone()
        };
        assert_eq!(moved["cluster_id"], with("must_link"), "{constraints:?}");
        assert_ne!(moved["cluster_id"], with("cannot_link"), "{constraints:?}");
        assert_eq!(constraints.len(), 2, "{constraints:?}");
        for word in &constraints {
            let [a, b] = [&word["a"], &word["b"]].map(|face| encoded(face.as_str().unwrap()));
            let path = format!("/v1/collections/lobby/constraints?a={a}&b={b}");
            assert_eq!(api.ask("DELETE", &path, None).json(200), json!({ "released": 1 }));
        }
        // Of a cluster that merged it is said where it went.
        let before = [api.cluster_of(0, 0), api.cluster_of(2, 0)];
        let word = json!({ "kind": "must_link", "a": face_id(0, 0), "b": face_id(2, 0) });
        api.ask("POST", "/v1/collections/lobby/constraints", Some(word)).json(200);
        let living = api.cluster_of(0, 0);
        let merged = before.iter().find(|cluster| **cluster != living).unwrap();
        let path = format!("/v1/collections/lobby/clusters/{merged}");
        assert_eq!(api.get(&path)["merged_into"], json!(living));
        for (method, path) in
            [("DELETE", &path), ("GET", &format!("{path}/faces")), ("GET", &format!("{path}/picture"))]
        {
            let refused = api.ask(method, path, None).json(404);
            let detail = refused["detail"].as_str().unwrap();
            assert!(
                detail.contains(&format!("cluster {merged} went into cluster {living}")),
                "{method} {path}: {detail}"
            );
        }

        let face = format!("/v1/collections/lobby/faces/{}", encoded(&face_id(3, 0)));
        assert_eq!(api.ask("DELETE", &face, None).json(200), json!({ "erased": 1 }));
        assert_eq!(api.ask("GET", &face, None).json(404)["type"], json!("urn:facetd:no-such-face"));
        let person = api.cluster_of(3, 1);
        let erased = api.ask("DELETE", &format!("/v1/collections/lobby/clusters/{person}"), None).json(200);
        assert!(erased["erased"].as_u64().unwrap() >= 1);
        api.ask("DELETE", "/v1/collections/lobby", None).json(200);
        assert_eq!(api.get("/v1/collections/lobby")["faces"], json!(0));
    });
}

#[test]
fn what_is_asked_wrongly_is_answered_with_a_problem_that_says_so() {
    with_a_daemon("", |installation, daemon| {
        let api = Api { installation, token: None };
        let lobby = "/v1/collections/lobby";
        let body = |value: Value| Some(value);
        let long = "x".repeat(300 << 10);
        let wide = vec![0.5; DIMENSION + 1];
        for (method, path, body, status, what) in [
            ("GET", "/nowhere".to_string(), None, 404, "openapi.json"),
            ("PUT", lobby.to_string(), None, 405, "openapi.json"),
            ("GET", "/v1/collections/no%20such".to_string(), None, 400, "characters"),
            ("GET", "/v1/collections/%ff".to_string(), None, 400, "UTF-8"),
            ("GET", "/v1/collections/hall".to_string(), None, 404, "no collection hall"),
            ("GET", format!("{lobby}/faces/nobody"), None, 404, "nobody"),
            ("DELETE", format!("{lobby}/faces/nobody"), None, 404, "nothing to erase"),
            ("GET", format!("{lobby}/clusters/abc"), None, 400, "whole number"),
            ("GET", format!("{lobby}/clusters/999999"), None, 404, "999999"),
            ("GET", format!("{lobby}/clusters/999999/faces"), None, 404, "999999"),
            ("GET", format!("{lobby}/clusters/999999/picture"), None, 404, "999999"),
            ("DELETE", format!("{lobby}/clusters/999999"), None, 404, "cluster"),
            ("GET", format!("{lobby}/clusters?limit=0"), None, 400, "1 to 1000"),
            ("GET", format!("{lobby}/clusters?limit=many"), None, 400, "limit"),
            ("GET", format!("{lobby}/clusters?colour=red"), None, 400, "colour"),
            ("GET", format!("{lobby}/clusters?after=AAAA"), None, 400, "cursor"),
            ("GET", format!("{lobby}/why?a=cam0/0"), None, 400, "missing field"),
            ("GET", format!("{lobby}/why?a=cam0/0&b=nobody"), None, 404, "nobody"),
            ("GET", format!("{lobby}/events?from=x"), None, 400, "invalid digit"),
            ("GET", format!("{lobby}/events?from=99999999"), None, 410, "topic"),
            ("POST", "/v1/search".to_string(), body(json!({ "embedding": [1.0] })), 404, "default"),
            ("POST", "/v1/search".to_string(), body(json!({ "collection": "lobby", "embedding": wide })), 400, "17"),
            (
                "POST",
                "/v1/search".to_string(),
                body(json!({ "collection": "lobby", "embedding": vec![0; 16] })),
                400,
                "zero",
            ),
            (
                "POST",
                "/v1/search".to_string(),
                body(json!({ "collection": "lobby", "embedding": "%%" })),
                400,
                "base64",
            ),
            (
                "POST",
                "/v1/search".to_string(),
                body(json!({ "collection": "lobby", "embedding": "AAAAAAA=" })),
                400,
                "f32",
            ),
            ("POST", "/v1/search".to_string(), body(json!({ "collection": "lobby" })), 422, "embedding"),
            ("POST", "/v1/search".to_string(), body(json!({ "collection": long })), 413, "length limit"),
            (
                "POST",
                format!("{lobby}/constraints"),
                body(json!({ "kind": "must_link", "a": "cam0/0", "b": "x" })),
                404,
                "there",
            ),
            ("POST", format!("{lobby}/constraints"), body(json!({ "kind": "must", "a": "x", "b": "y" })), 422, "kind"),
            (
                "POST",
                format!("{lobby}/moves"),
                body(json!({ "face_id": "cam0/0", "cluster_id": "77777" })),
                404,
                "77777",
            ),
            ("PATCH", format!("{lobby}/clusters/1"), body(json!({ "name": "x".repeat(300) })), 422, "256"),
        ] {
            let answer = api.ask(method, &path, body);
            let problem = answer.json(status);
            assert!(answer.head.contains("application/problem+json"), "{method} {path}: {}", answer.head);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(what), "{method} {path}: {detail}");
            assert_eq!(problem["status"], json!(status));
        }
        assert!(daemon.metric("facetd_http_responses_total{status=\"404\"}") >= 8.0);
        let no_json = installation.ask("POST", "/v1/search", None, None);
        assert_eq!(no_json.status, 415, "{no_json:?}");
    });
}

/// Reads events of a stream up to the first that is the one.
fn events_until(lines: &mut impl BufRead, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the stream ended after {events:?}");
        if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            let ends = is_last(&event);
            events.push(event);
            if ends {
                return events;
            }
        }
    }
}

#[test]
fn every_change_is_told_from_any_sequence_that_is_held() {
    with_a_daemon("", |installation, _| {
        let listen = |from: &str| {
            let mut stream = TcpStream::connect(installation.address()).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            write!(stream, "GET /v1/collections/lobby/events{from} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            BufReader::new(stream)
        };
        let mut from_the_first = listen("?from=1");
        let last = Api { installation, token: None }.get("/v1/collections/lobby")["sequence"].clone();
        let told = events_until(&mut from_the_first, |event| event["sequence"] == last);
        let sequences: Vec<u64> = told.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
        assert_eq!(sequences, (1..=told.len() as u64).collect::<Vec<_>>());
        let arrived =
            told.iter().filter(|event| ["created", "joined"].contains(&event["type"].as_str().unwrap())).count();
        assert_eq!(arrived, PEOPLE * EACH);

        let mut from_now_on = listen("");
        // It is listening once its head has come.
        let mut line = String::new();
        while line.trim() != "" || line.is_empty() {
            line.clear();
            from_now_on.read_line(&mut line).unwrap();
        }
        let api = Api { installation, token: None };
        api.ask("DELETE", &format!("/v1/collections/lobby/faces/{}", encoded(&face_id(0, 0))), None).json(200);
        for stream in [&mut from_the_first, &mut from_now_on] {
            let erased = events_until(stream, |event| event["type"] == json!("erased")).pop().unwrap();
            assert_eq!((&erased["face_id"], &erased["cause"]["kind"]), (&json!(face_id(0, 0)), &json!("api")));
        }
    });
}

#[test]
fn whoever_has_no_token_for_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let make = |arguments: &[&str]| {
        let secret = output_of(facetd().args(["token", "--file"]).arg(&file).args(arguments));
        Some(secret.trim().to_string())
    };
    let read = make(&["--name", "grafana", "--scope", "read"]);
    let write = make(&["--name", "ada", "--scope", "write", "--collection", "lobby"]);
    let elsewhere = make(&["--name", "bob", "--scope", "write", "--collection", "hall"]);
    let wrong = Some("facetd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_string());
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!([&read, &write, &elsewhere].iter().all(|token| !kept.contains(token.as_ref().unwrap().as_str())));
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    feed(&broker);
    let daemon = installation.start_with(|command| {
        command.env("FACETD_HTTP__TOKENS", &file);
    });
    daemon.wait_metric("facetd_engine_faces", (PEOPLE * EACH) as f64, LIMIT);
    let face = format!("/v1/collections/lobby/faces/{}", encoded(&face_id(0, 0)));
    let ask = |token: &Option<String>, method: &str, path: &str| {
        let answer = Api { installation: &installation, token: token.clone() }.ask(method, path, None);
        assert!(!answer.body.contains("cam0") || answer.status == 200, "{answer:?}");
        answer.status
    };
    assert_eq!([ask(&None, "GET", &face), ask(&wrong, "GET", &face), ask(&read, "GET", &face)], [401, 401, 200]);
    assert_eq!([ask(&elsewhere, "GET", &face), ask(&elsewhere, "DELETE", &face)], [403, 403]);
    assert_eq!([ask(&read, "DELETE", &face), ask(&write, "DELETE", &face)], [403, 200]);
    assert_eq!(daemon.metric("facetd_http_refused_total"), 2.0);
    assert_eq!(daemon.metric("facetd_http_responses_total{status=\"403\"}"), 3.0);
    let listed = Api { installation: &installation, token: elsewhere }.get("/v1/collections");
    assert_eq!(listed, json!({ "collections": [] }), "nor are the names of others told");
    assert!(!installation.log().contains(write.as_ref().unwrap().as_str()), "a token is in the log");
    assert!(daemon.terminate().success(), "{}", installation.log());

    let check = |listen: &str, tokens: &str| {
        let mut check = facetd();
        check.args(["check", "--config"]).arg(installation.config());
        let output = check.env("FACETD_HTTP__LISTEN", listen).env("FACETD_HTTP__TOKENS", tokens).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().find(|line| line.starts_with("http")).unwrap().to_string()
    };
    let file_name = file.to_str().unwrap();
    assert!(check("0.0.0.0:9464", file_name).contains("ok     0.0.0.0:9464, 3 tokens that can be read on the way"));
    assert!(check("0.0.0.0:9464", "").contains("FAIL") && check("0.0.0.0:9464", "").contains("facetd token"));
    assert!(check("127.0.0.1:9464", "").contains("everyone on this machine"));
    assert!(check("127.0.0.1:9464", "/nowhere/tokens.toml").contains("cannot read the tokens in /nowhere"));

    let open = installation.command().env("FACETD_HTTP__LISTEN", "0.0.0.0:0").status().unwrap();
    assert!(!open.success() && installation.log().contains("facetd token"), "{}", installation.log());
}
