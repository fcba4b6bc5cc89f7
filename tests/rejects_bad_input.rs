//! Promise: a bad record never stops the stream. Each lands among the dead letters with a reason,
//! is counted, and the next good record is processed.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::broker::{MockBroker, RealKafka, Topics};
use common::daemon::{Installation, Settings};
use common::kafka_client::{Client, read_topic};
use common::project;
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(60);
const DIMENSION: usize = 16;

/// A record and the reason it is rejected for.
struct Bad {
    reason: &'static str,
    key: Option<&'static [u8]>,
    payload: Option<Vec<u8>>,
    content_type: Option<&'static str>,
}

fn json(values: &[f32]) -> Vec<u8> {
    serde_json::json!({ "embedding": values }).to_string().into_bytes()
}

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn embedding(number: usize) -> Vec<f32> {
    (0..DIMENSION).map(|i| ((i + 3 * number) as f32).sin()).collect()
}

fn bad_records(too_large: usize) -> Vec<Bad> {
    let octets = Some("application/octet-stream");
    let key = Some(&b"bad"[..]);
    let long_key: &'static [u8] = vec![b'k'; 900_000].leak();
    let with = |reason, payload: Vec<u8>| Bad { reason, key, payload: Some(payload), content_type: None };
    let mut not_a_number = embedding(1);
    not_a_number[3] = f32::NAN;
    let mut truncated = json(&embedding(1));
    truncated.truncate(truncated.len() / 2);
    vec![
        with("wrong_dimension", json(&[1.0; DIMENSION + 1])),
        Bad { reason: "not_finite", key, payload: Some(raw(&not_a_number)), content_type: octets },
        with("zero_vector", json(&[0.0; DIMENSION])),
        with("malformed", truncated),
        Bad { reason: "unknown_content_type", key, payload: Some(json(&embedding(1))), content_type: Some("text/csv") },
        with("too_large", vec![b' '; too_large]),
        Bad { reason: "empty_key", key: Some(b""), payload: Some(json(&embedding(1))), content_type: None },
        Bad { reason: "empty_key", key: None, payload: Some(json(&embedding(1))), content_type: None },
        Bad { reason: "bad_key", key: Some(b"\xff\xfe"), payload: Some(json(&embedding(1))), content_type: None },
        Bad { reason: "bad_key", key: Some(long_key), payload: Some(json(&embedding(1))), content_type: None },
        Bad { reason: "unknown_face", key: Some(b"nobody"), payload: None, content_type: None },
    ]
}

fn rejects_and_goes_on(topics: &Topics, too_large: usize) {
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics, model: &model, more: "" });
    let (daemon, started) = (installation.start(), Instant::now());
    let client = Client::connect(&topics.brokers);
    let good = |number: usize| {
        client.send(&topics.input(), Some(format!("good-{number}").as_bytes()), Some(&json(&embedding(number))), &[]);
        daemon.wait_metric("facetd_engine_faces", number as f64 + 1.0, LIMIT);
    };
    good(0);
    let bad = bad_records(too_large);
    for (number, record) in bad.iter().enumerate() {
        let sample = format!("facetd_source_rejected_total{{reason=\"{}\"}}", record.reason);
        let before = daemon.metric(&sample);
        let headers: Vec<(&str, &str)> = record.content_type.map(|value| ("content-type", value)).into_iter().collect();
        client.send(&topics.input(), record.key, record.payload.as_deref(), &headers);
        daemon.wait_metric(&sample, before + 1.0, LIMIT);
        good(number + 1);
    }
    assert!(daemon.terminate().success());
    // The log has one a minute of each reason.
    let told = installation.log().matches("record goes to the dead letters").count();
    let reasons: BTreeSet<&str> = bad.iter().map(|record| record.reason).collect();
    assert!(told == reasons.len() || started.elapsed() > Duration::from_secs(60), "{}", installation.log());

    let letters = read_topic(&topics.brokers, &topics.dead_letters());
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.header("reason").unwrap()).collect();
    assert_eq!(reasons, bad.iter().map(|record| record.reason).collect::<Vec<_>>());
    for (number, (letter, record)) in letters.iter().zip(&bad).enumerate() {
        let value = letter.json();
        // Good and bad take turns in partition 0.
        assert_eq!((&value["partition"], &value["offset"]), (&0.into(), &(2 * number + 1).into()));
        assert!(letter.key.as_ref().is_none_or(|key| key.len() <= 512));
        assert_eq!(value["topic"], topics.input());
        assert_eq!(value["payload_bytes"], record.payload.as_ref().map_or(0, Vec::len));
        let digest = Sha256::digest(record.payload.as_deref().unwrap_or_default());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(value["payload_sha256"], digest);
        let letter_text = letter.payload.as_deref().unwrap();
        assert!(letter_text.len() < 600, "a dead letter carries no payload: {letter_text}");
    }
}

#[test]
fn bad_records_become_dead_letters_with_the_in_process_broker() {
    let broker = MockBroker::start();
    // It holds 5 MiB a partition, so no 10 MB.
    rejects_and_goes_on(&broker.topics, 2_000_000);
}

#[test]
fn bad_records_become_dead_letters_with_a_real_kafka() {
    let Some(kafka) = RealKafka::start("bad records become dead letters of a real Kafka") else { return };
    rejects_and_goes_on(&kafka.topics(Some(12_000_000)), 10_000_000);
}
