//! Promise: where a collector is named, a batch can be followed through its stages, from the trace of whoever sent a record; a
//! trace and the metrics say the same; nothing in it says who; and a collector that is away or slow costs spans and nothing else.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::broker::{MockBroker, Topics};
use common::collector::{Collector, Manner, facts};
use common::daemon::{Installation, Running, Settings, free_port};
use common::kafka_client::{Client, end_of_topic};
use common::scene::payload;
use common::{facetd, output_of, project, wait_for};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

const LIMIT: Duration = Duration::from_secs(120);
const FACES: usize = 48;
const STEPS: [&str; 6] = ["insert", "search", "graph", "encode", "link", "cluster"];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const NAME: &str = "Ada Lovelace";

#[test]
fn a_batch_is_followed_through_its_stages_and_says_what_the_metrics_say() {
    let (broker, collector) = (MockBroker::start(), Collector::start(Manner::Takes));
    let installation = installation(&broker.topics, &collector.endpoint(), 1.0);
    let daemon = installation.start();
    let client = Client::connect(&broker.topics.brokers);
    // The later ones make earlier ones stale.
    for faces in [0..FACES / 2, FACES / 2..FACES] {
        let last = faces.end;
        for face in faces {
            let (id, headers) = (id(face), [("collection", "lobby")]);
            client.send_soon(&broker.topics.input(), Some(id.as_bytes()), Some(&payload(face)), &headers);
        }
        client.flush();
        daemon.wait_metric("facetd_engine_faces", last as f64, LIMIT);
    }
    daemon.wait_settled(LIMIT);
    let metric = |name: &str| daemon.metric(name);
    let counts = STEPS.map(|step| metric(&format!("facetd_engine_step_seconds_count{{step=\"{step}\"}}")));
    let sums = STEPS.map(|step| metric(&format!("facetd_engine_step_seconds_sum{{step=\"{step}\"}}")));
    let batches = (metric("facetd_engine_batch_seconds_count"), metric("facetd_engine_batch_seconds_sum"));
    let commits = (metric("facetd_store_commit_seconds_count"), metric("facetd_store_commit_seconds_sum"));
    let refreshes = metric("facetd_engine_linked_faces_total{why=\"refresh\"}");
    assert_eq!(metric("facetd_traces_dropped_total"), 0.0);
    // What is queued is sent at a stop.
    assert!(daemon.terminate().success());

    let spans = collector.spans();
    let batch_name = format!("batch {}", broker.topics.input());
    let same = |name: &str, (count, sum): (f64, f64)| {
        let took: Vec<f64> = spans.iter().filter(|span| span.name == name).map(seconds).collect();
        assert_eq!(took.len() as f64, count, "{name}");
        // Each is told in whole nanoseconds.
        assert!((took.iter().sum::<f64>() - sum).abs() < 1e-6, "{name}: {took:?}, and the metric says {sum}");
    };
    for (step, told) in STEPS.into_iter().zip(counts.into_iter().zip(sums)) {
        assert!(told.0 > 0.0, "{step}");
        same(step, told);
    }
    same(&batch_name, batches);
    same("commit", commits);

    let of = by_id(&spans);
    let mut records = 0;
    for span in &spans {
        let parent = of.get(&span.parent_span_id);
        let expected: &[&str] = match span.name.as_str() {
            step if STEPS.contains(&step) => &["engine"],
            "engine" | "commit" => &[&batch_name, "refresh"],
            "refresh" => &[],
            name => {
                assert_eq!(name, batch_name);
                assert_eq!(span.kind(), SpanKind::Consumer);
                records += facts(span)["messaging.batch.message_count"].parse::<usize>().unwrap();
                &[]
            }
        };
        assert_eq!(parent.is_some(), !expected.is_empty(), "{}", span.name);
        if let Some(parent) = parent {
            assert!(expected.contains(&parent.name.as_str()), "{} in {}", span.name, parent.name);
            assert_eq!(span.trace_id, parent.trace_id);
            assert!(span.start_time_unix_nano >= parent.start_time_unix_nano, "{} in {}", span.name, parent.name);
            assert!(span.end_time_unix_nano <= parent.end_time_unix_nano, "{} in {}", span.name, parent.name);
        }
    }
    assert_eq!(records, FACES);
    let batch = facts(spans.iter().find(|span| span.name == batch_name).unwrap());
    assert_eq!(batch["messaging.system"], "kafka");
    assert_eq!(batch["messaging.destination.name"], broker.topics.input());
    assert_eq!((batch["facetd.partitions"].as_str(), batch["facetd.first_offsets"].as_str()), ("[0]", "[0]"));
    let engines: Vec<_> = spans.iter().filter(|span| span.name == "engine").map(facts).collect();
    assert!(engines.iter().all(|engine| engine["facetd.collection"] == "lobby"));
    let refreshed: f64 = engines.iter().map(|engine| engine["facetd.faces_refreshed"].parse::<f64>().unwrap()).sum();
    assert!(refreshes > 0.0);
    assert_eq!(refreshed, refreshes);
    let requests = collector.received();
    assert!(requests.iter().all(|request| request.path == "/v1/traces"));
    assert!(requests.iter().all(|request| request.head.contains("content-type: application/x-protobuf")));
}

#[test]
fn a_sampled_traceparent_is_followed_and_one_that_is_none_is_ignored() {
    let (broker, collector) = (MockBroker::start(), Collector::start(Manner::Takes));
    // Only what is followed.
    let installation = installation(&broker.topics, &collector.endpoint(), 0.0);
    let daemon = installation.start();
    let client = Client::connect(&broker.topics.brokers);
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let headers = ["not of its form", &format!("00-{TRACE}-{PARENT}-00"), "", &sampled];
    for (face, traceparent) in headers.into_iter().enumerate() {
        send(&client, &broker.topics, face, traceparent);
        // Each is a batch.
        daemon.wait_metric("facetd_engine_faces", face as f64 + 1.0, LIMIT);
    }
    client.send(&broker.topics.input(), Some(b"nobody"), Some(b"no face"), &[("traceparent", &sampled)]);
    daemon.wait_metric("facetd_source_rejected_total{reason=\"malformed\"}", 1.0, LIMIT);
    daemon.wait_settled(LIMIT);
    assert_eq!(end_of_topic(&broker.topics.brokers, &broker.topics.dead_letters()), 1);
    assert!(daemon.terminate().success());

    let spans = collector.spans();
    let named = |name: String| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let (batches, records) =
        (named(format!("batch {}", broker.topics.input())), named(format!("process {}", broker.topics.input())));
    assert_eq!((batches.len(), records.len()), (2, 2));
    for ((batch, record), offset) in batches.iter().zip(&records).zip([3, 4]) {
        assert_eq!((hex(&record.trace_id).as_str(), hex(&record.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!(record.kind(), SpanKind::Consumer);
        assert_eq!(facts(record)["messaging.kafka.offset"], offset.to_string());
        assert_eq!(facts(record)["messaging.destination.partition.id"], "0");
        // Each leads to the other.
        let [to_the_batch] = &record.links[..] else { panic!("{record:?}") };
        assert_eq!((&to_the_batch.trace_id, &to_the_batch.span_id), (&batch.trace_id, &batch.span_id));
        let [to_the_sender] = &batch.links[..] else { panic!("{batch:?}") };
        assert_eq!((hex(&to_the_sender.trace_id).as_str(), hex(&to_the_sender.span_id).as_str()), (TRACE, PARENT));
        assert_ne!(hex(&batch.trace_id), TRACE);
        assert_eq!(record.end_time_unix_nano, batch.end_time_unix_nano);
    }
    let outcome = |record: &Span| record.status.clone().unwrap_or_default().code();
    assert_eq!(outcome(records[0]), StatusCode::Unset);
    assert_eq!(outcome(records[1]), StatusCode::Error);
    assert_eq!(facts(records[1])["error.type"], "malformed");
}

#[test]
fn a_request_is_traced_by_its_route_and_nothing_says_who() {
    let (broker, collector) = (MockBroker::start(), Collector::start(Manner::Takes));
    let installation = installation(&broker.topics, &collector.endpoint(), 1.0);
    let daemon = installation.start_with(|command| {
        command.env("FACETD_TRACES__HEADERS", "{ x-key = \"hunter2\" }");
    });
    let client = Client::connect(&broker.topics.brokers);
    (0..4).for_each(|face| send(&client, &broker.topics, face, &format!("00-{TRACE}-{PARENT}-01")));
    daemon.wait_metric("facetd_engine_faces", 4.0, LIMIT);
    daemon.wait_settled(LIMIT);
    let face = format!("/v1/collections/lobby/faces/{}", id(1));
    let found = get(&installation, &face, &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    assert!(found.starts_with("HTTP/1.1 200"), "{found}");
    let body = found.split_once("\r\n\r\n").unwrap().1;
    let cluster = serde_json::from_str::<serde_json::Value>(body).unwrap()["cluster_id"].as_str().unwrap().to_string();
    let cluster = format!("/v1/collections/lobby/clusters/{cluster}");
    assert_eq!(installation.ask("PATCH", &cluster, None, Some(&format!("{{\"name\":\"{NAME}\"}}"))).status, 200);
    assert_eq!(installation.ask("DELETE", &face, None, None).status, 200);
    get(&installation, &face, &format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n"));
    assert!(daemon.terminate().success());

    let spans = collector.spans();
    let served: Vec<&Span> = spans.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    let names: Vec<&str> = served.iter().map(|span| span.name.as_str()).collect();
    let route = "/v1/collections/{collection}/faces/{face_id}";
    let of_cluster = "/v1/collections/{collection}/clusters/{cluster_id}";
    // The last was not sampled where it came from, and metrics are asked for again and again.
    assert_eq!(names, [format!("GET {route}"), format!("PATCH {of_cluster}"), format!("DELETE {route}")]);
    assert_eq!((hex(&served[0].trace_id).as_str(), hex(&served[0].parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!(facts(served[0])["http.route"], route);
    assert_eq!(facts(served[0])["http.response.status_code"], "200");
    assert!(served[1].parent_span_id.is_empty());
    let operated: BTreeSet<String> = children(&spans, "operate");
    assert_eq!(operated, BTreeSet::from(["engine".to_string(), "commit".to_string()]));

    let received = collector.received();
    assert!(!received.is_empty());
    for request in &received {
        assert!(request.head.contains("x-key: hunter2"), "{}", request.head);
        let secret = (0..4).map(id).chain([NAME.to_string()]).find(|who| contains(&request.body, who.as_bytes()));
        assert_eq!(secret, None);
    }
    // What it would look like.
    assert!(received.iter().any(|request| contains(&request.body, b"lobby")));
    assert!(!installation.log().contains("hunter2"));
}

#[test]
fn a_collector_that_is_away_costs_spans_and_one_line_of_the_log() {
    let broker = MockBroker::start();
    let installation = installation(&broker.topics, &format!("http://127.0.0.1:{}", free_port()), 1.0);
    let daemon = installation.start();
    streams(&broker, &daemon);
    wait_for("spans to be lost twice", LIMIT, || {
        let lost = daemon.metric("facetd_traces_dropped_total");
        send(&Client::connect(&broker.topics.brokers), &broker.topics, FACES, "");
        wait_for("more to be lost", LIMIT, || (daemon.metric("facetd_traces_dropped_total") > lost).then_some(()));
        (lost > 0.0).then_some(())
    });
    assert!(daemon.terminate().success());
    assert_eq!(installation.log().matches("traces are lost").count(), 1, "{}", installation.log());
}

#[test]
fn a_collector_that_never_answers_holds_up_neither_the_stream_nor_a_stop() {
    let (broker, collector) = (MockBroker::start(), Collector::start(Manner::IsSilent));
    let installation = installation(&broker.topics, &collector.endpoint(), 1.0);
    let daemon = installation.start();
    streams(&broker, &daemon);
    // It is with the collector now.
    wait_for("a request", LIMIT, || collector.received().first().cloned());
    assert!(daemon.terminate().success());
    assert!(installation.log().contains("the last traces were not taken in time"), "{}", installation.log());
}

#[test]
fn what_a_collector_does_not_take_is_counted() {
    for manner in [Manner::Refuses(503), Manner::TakesInPart(3)] {
        let (broker, collector) = (MockBroker::start(), Collector::start(manner));
        let installation = installation(&broker.topics, &collector.endpoint(), 1.0);
        let daemon = installation.start();
        streams(&broker, &daemon);
        daemon.wait_metric("facetd_traces_dropped_total", 1.0, LIMIT);
        let why = match manner {
            Manner::Refuses(_) => "it answers 503",
            _ => "it takes them in part: \\\"too many\\\"",
        };
        assert!(installation.log().contains(why), "{}", installation.log());
        assert!(daemon.terminate().success());
    }
}

#[test]
fn check_says_whether_spans_would_arrive() {
    let (broker, collector) = (MockBroker::start(), Collector::start(Manner::Takes));
    let verdict = |endpoint: &str| {
        let installation = installation(&broker.topics, endpoint, 1.0);
        let output = output_of(facetd().args(["check", "--json", "--config"]).arg(installation.config()));
        let found: serde_json::Value = serde_json::from_str(&output).unwrap();
        let checks = found["checks"].as_array().unwrap();
        let traces = checks.iter().find(|check| check["check"] == "traces").unwrap_or_else(|| panic!("{found:#}"));
        traces["verdict"].as_str().unwrap().to_string()
    };
    assert_eq!(verdict(&collector.endpoint()), "ok");
    assert!(collector.spans().is_empty());
    // It would run all the same.
    assert_eq!(verdict(&format!("http://127.0.0.1:{}", free_port())), "warn");
}

fn installation(topics: &Topics, endpoint: &str, sample: f64) -> Installation {
    let more = format!("[traces]\nendpoint = \"{endpoint}\"\nsample = {sample:?}\n");
    Installation::new(&Settings { topics, model: &project().join("tests/fixtures/model"), more: &more })
}

/// Nothing else is called so.
fn id(face: usize) -> String {
    format!("camera-of-nobody-{face:04}")
}

fn send(client: &Client, topics: &Topics, face: usize, traceparent: &str) {
    let headers = [("collection", "lobby"), ("traceparent", traceparent)];
    client.send(&topics.input(), Some(id(face).as_bytes()), Some(&payload(face)), &headers);
}

/// Everything that is sent is applied.
fn streams(broker: &MockBroker, daemon: &Running) {
    let client = Client::connect(&broker.topics.brokers);
    (0..FACES).for_each(|face| send(&client, &broker.topics, face, &format!("00-{TRACE}-{PARENT}-01")));
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    daemon.wait_settled(LIMIT);
}

fn get(installation: &Installation, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(installation.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn by_id(spans: &[Span]) -> BTreeMap<Vec<u8>, &Span> {
    spans.iter().map(|span| (span.span_id.clone(), span)).collect()
}

/// The names of the spans in those that are called so.
fn children(spans: &[Span], name: &str) -> BTreeSet<String> {
    let of = by_id(spans);
    let is_in = |span: &&Span| of.get(&span.parent_span_id).is_some_and(|parent| parent.name == name);
    spans.iter().filter(is_in).map(|span| span.name.clone()).collect()
}

fn seconds(span: &Span) -> f64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
