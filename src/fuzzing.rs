//! Everything that takes bytes somebody else may have made, one [`Target`] each: none may panic on any bytes, nor
//! take more memory than its bound. tests/decodes_anything.rs runs all of them on the stable compiler, fuzz/ has
//! libFuzzer run each for as long as one likes (`make fuzz`).
//!
//! Not here: `.npz`, which nothing in this program reads (models/train does); ONNX graphs, which ONNX Runtime
//! reads once their hash is right; sled's own files, which tests/survives_damage.rs damages.

use std::path::Path;

use crate::codec::{Decoded, Decoder, Message, Record, json};
use crate::config::Config;
use crate::daemon::control::{self, Request};
use crate::face::{CollectionName, FaceId, Offset, Partition, Place};
use crate::features::{self, Features};
use crate::model::artefact;
use crate::publish::leftovers;
use crate::publish::mark::Mark;
use crate::reader::EventReader;
use crate::store::{Claim, StateTopic, fuzzing as store};

/// Something that takes bytes.
pub struct Target {
    /// Of its file in fuzz/fuzz_targets.
    pub name: &'static str,
    /// Panics when the bytes are not taken as they should be.
    pub decode: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub bound: Bound,
}

/// How much memory may be taken at once: so many bytes, and so many more for each byte of the input.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub least: usize,
    pub each: usize,
}

impl Bound {
    pub fn of(self, bytes: usize) -> usize {
        self.least + self.each * bytes
    }
}

/// A record of Kafka: its embedding, once as it came and once normalised, and some words.
const RECORD: Bound = Bound { least: 4 << 10, each: 8 };
/// A file, or a record of sled. serde believes a length up to 1 MiB.
const FILE: Bound = Bound { least: (1 << 20) + (64 << 10), each: 64 };
/// What only operators write. Each wrong key is told of in a line that names the right ones.
const OPERATORS: Bound = Bound { least: 1 << 20, each: 1 << 10 };

pub const TARGETS: &[Target] = &[
    Target { name: "json", decode: json_payload, seeds: json_seeds, bound: RECORD },
    Target { name: "protobuf", decode: protobuf_payload, seeds: protobuf_seeds, bound: RECORD },
    Target { name: "raw", decode: raw_payload, seeds: raw_seeds, bound: RECORD },
    Target { name: "record", decode: record, seeds: record_seeds, bound: RECORD },
    Target { name: "npy", decode: npy, seeds: npy_seeds, bound: FILE },
    Target { name: "bin", decode: bin, seeds: bin_seeds, bound: FILE },
    Target { name: "labels", decode: labels, seeds: labels_seeds, bound: FILE },
    Target { name: "model_toml", decode: model_toml, seeds: model_toml_seeds, bound: OPERATORS },
    Target { name: "config", decode: config, seeds: config_seeds, bound: OPERATORS },
    Target { name: "vectors", decode: store::vectors, seeds: store::vectors_seeds, bound: FILE },
    Target { name: "committed", decode: store::committed, seeds: store::committed_seeds, bound: FILE },
    Target { name: "snapshot", decode: store::snapshot, seeds: store::snapshot_seeds, bound: FILE },
    Target { name: "sled_record", decode: store::record, seeds: store::record_seeds, bound: FILE },
    Target { name: "sled_key", decode: store::key, seeds: store::key_seeds, bound: FILE },
    Target { name: "manifest", decode: store::manifest, seeds: store::manifest_seeds, bound: FILE },
    Target { name: "mark", decode: mark, seeds: mark_seeds, bound: RECORD },
    Target { name: "control", decode: request, seeds: control_seeds, bound: Bound { least: 96 << 10, each: 8 } },
    Target { name: "events", decode: events, seeds: events_seeds, bound: Bound { least: 16 << 10, each: 256 } },
];

/// The target of that name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}

const DIMENSION: usize = 4;
/// Longer payloads are refused before they are looked at.
pub const MOST_PAYLOAD_BYTES: usize = 64 << 10;
const BARE: Record = Record {
    key: Some(b"a"),
    payload: None,
    content_type: None,
    collection: None,
    captured_at: None,
    place: Place { partition: Partition(1), offset: Offset(9) },
};

/// What is taken of a record is in the bounds that the engine relies on.
fn decode(record: &Record) {
    thread_local!(static DECODER: Decoder = Decoder {
        dimension: DIMENSION,
        default_collection: CollectionName::new("default").expect("a name"),
        max_message_bytes: MOST_PAYLOAD_BYTES,
    });
    match DECODER.with(|decoder| decoder.decode(record)) {
        Ok(Decoded::Face { face, .. }) => {
            assert!(record.payload.is_some_and(|payload| payload.len() <= MOST_PAYLOAD_BYTES));
            let length: f32 = face.embedding.values().iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-3, "an embedding of length {length}");
            assert!(face.quality.is_none_or(|quality| (0.0..=1.0).contains(&quality)), "a quality out of bounds");
        }
        Ok(Decoded::Erase { face_id, .. }) => assert_eq!(record.key, Some(face_id.as_str().as_bytes())),
        Err(rejection) => assert!(rejection.detail.len() < 512, "a long detail may quote the payload"),
    }
}

fn json_payload(bytes: &[u8]) {
    decode(&Record { payload: Some(bytes), ..BARE });
}

fn protobuf_payload(bytes: &[u8]) {
    decode(&Record { payload: Some(bytes), content_type: Some(b"application/x-protobuf"), ..BARE });
}

fn raw_payload(bytes: &[u8]) {
    decode(&Record { payload: Some(bytes), content_type: Some(b"application/octet-stream"), ..BARE });
}

/// A whole record: which parts it has, and the lengths of key and headers; then those, and the payload.
fn record(bytes: &[u8]) {
    let Some((&[parts, key, content_type, collection, captured_at], rest)) = bytes.split_first_chunk() else { return };
    let mut rest = rest;
    let mut take = |length: u8, part: u8| {
        let (taken, left) = rest.split_at(usize::from(length).min(rest.len()));
        rest = left;
        (parts & part != 0).then_some(taken)
    };
    let (key, content_type) = (take(key, 1), take(content_type, 2));
    let (collection, captured_at) = (take(collection, 4), take(captured_at, 8));
    let payload = (parts & 16 != 0).then_some(rest);
    decode(&Record { key, payload, content_type, collection, captured_at, ..BARE });
}

/// Every row that a file promises is there.
fn check_features(read: Result<Features, features::FeaturesError>, bytes: &[u8]) {
    if let Ok(features) = read {
        assert!(features.dimension() > 0 && !features.is_empty());
        assert!(features.len() * features.dimension() * 4 <= bytes.len(), "more values than there are bytes");
        assert_eq!(features.row(features.len() - 1).len(), features.dimension());
    }
}

fn npy(bytes: &[u8]) {
    check_features(Features::read_from(&mut &bytes[..], bytes.len() as u64, Path::new("f.npy"), None), bytes);
}

/// Eight bytes, the dimension an operator gives; then a file.
fn bin(bytes: &[u8]) {
    let Some((dimension, file)) = bytes.split_first_chunk().filter(|(_, file)| !file.is_empty()) else { return };
    let dimension = Some(u64::from_le_bytes(*dimension) as usize).filter(|&dimension| dimension > 0);
    check_features(Features::read_from(&mut &file[..], file.len() as u64, Path::new("f.bin"), dimension), file);
}

fn labels(bytes: &[u8]) {
    if let Ok(labels) = features::read_labels_from(&mut &bytes[..], Path::new("l.meta")) {
        assert!(!labels.is_empty() && labels.len() <= bytes.len());
    }
}

fn model_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(description) = artefact::Description::parse(text) {
        for name in description.file_names() {
            assert!(!name.is_empty() && !name.contains('/'), "{name:?} is not in the model's folder");
        }
    }
}

/// A file and, each after a zero byte, variables of the environment: NAME=VALUE.
fn config(bytes: &[u8]) {
    let mut parts = bytes.split(|&byte| byte == 0).map(|part| std::str::from_utf8(part).unwrap_or_default());
    let text = parts.next().unwrap_or_default();
    let environment = parts.filter_map(|part| part.split_once('='));
    let parsed = Config::parse(text, environment.map(|(name, value)| (name.to_string(), value.to_string())));
    match parsed {
        Ok(config) => {
            assert!((64..=100_000_000).contains(&config.limits.message_bytes));
            let _ = config.collections.settings(&config.collections.default);
            let _ = config.collections.settings_of_others();
        }
        Err(errors) => assert!(!errors.0.is_empty() && !errors.to_string().is_empty(), "refused without a word"),
    }
}

/// What Kafka gives back of what was written to it: marks, and keys of compacted topics.
fn mark(bytes: &[u8]) {
    for topic in [StateTopic::FaceState, StateTopic::ClusterState] {
        let _ = leftovers::parse(topic, bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(mark) = text.parse::<Mark>() {
        assert_eq!(mark.to_string().parse(), Ok(mark));
    }
}

fn request(bytes: &[u8]) {
    if let Ok(request) = control::read_request(bytes) {
        let line = serde_json::to_string(&request).expect("a request is plain data");
        assert_eq!(control::read_request(line.as_bytes()), Ok(request));
    }
}

/// Events, one a line.
fn events(bytes: &[u8]) {
    let mut reader = EventReader::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        let (faces, events) = (reader.faces("lobby"), reader.counts.events());
        match reader.read(line) {
            Ok(()) => assert!(reader.counts.events() <= events + 1),
            Err(_) => assert_eq!((reader.faces("lobby"), reader.counts.events()), (faces, events), "half an event"),
        }
    }
    let held: usize = reader.clusters("lobby").values().map(|faces| faces.len()).sum();
    assert_eq!(held, reader.faces("lobby"), "every face is in one cluster");
}

fn values() -> Vec<u8> {
    [0.5f32, -0.5, 0.5, -0.5].iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn json_seeds() -> Vec<Vec<u8>> {
    let message = Message {
        embedding: vec![0.5; DIMENSION],
        face_id: Some("a".to_string()),
        collection: Some("lobby".to_string()),
        quality: Some(0.75),
        captured_at: Some("2026-11-23T18:00:00.120Z".to_string()),
        frame_id: Some("f/1".to_string()),
    };
    vec![
        json::encode(&message),
        br#"{"embedding":[0.5,-5e-1,1,0],"attributes":{"camera":["3",{"x":null}]}}"#.to_vec(),
        br#"{"embedding":[1e38,1e-45,3.4e38,0],"embedding":"AAAAPwAAAL8AAAA/AAAAvw","face_id":"\u0061"}"#.to_vec(),
        [b"{\"x\":".to_vec(), vec![b'['; 4000]].concat(),
    ]
}

fn protobuf_seeds() -> Vec<Vec<u8>> {
    let packed = [&b"\x0a\x01a\x12\x10"[..], &values(), b"\x22\x05lobby\x2d\x00\x00\x40\x3f"].concat();
    let text = b"\x32\x182026-11-23T18:00:00.120Z\x3a\x03f/1\x42\x0b\x0a\x06camera\x12\x013";
    vec![
        [&packed[..], text].concat(),
        [&b"\x1a\x10"[..], &values()].concat(),
        // One value after the other, a length that is not there, and groups in groups.
        b"\x15\x00\x00\x00\x3f".repeat(DIMENSION),
        b"\x12\xff\xff\xff\xff\x0f".to_vec(),
        vec![0x4b; 4000],
    ]
}

fn raw_seeds() -> Vec<Vec<u8>> {
    vec![values(), [f32::MAX; DIMENSION].iter().flat_map(|value| value.to_le_bytes()).collect()]
}

fn record_seeds() -> Vec<Vec<u8>> {
    let raw = [&[31, 1, 24, 5, 20][..], b"aapplication/octet-streamlobby2026-11-23T18:00:00Z", &values()].concat();
    let json = [&[3, 1, 16, 0, 0][..], b"aapplication/json"].concat();
    vec![raw, json, b"\x05\x01\x00\x05\x00alobby".to_vec()]
}

fn npy_seeds() -> Vec<Vec<u8>> {
    let of = |version: &[u8], width: &str, shape: &str, values: &[u8]| {
        let dict = format!("{{'descr': '<{width}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let length = (dict.len() as u32).to_le_bytes();
        let length = if version[0] == 1 { &length[..2] } else { &length[..] };
        [&b"\x93NUMPY"[..], version, length, dict.as_bytes(), values].concat()
    };
    vec![
        of(&[1, 0], "f4", "2, 2", &values()),
        of(&[2, 0], "f8", "1, 2", &values()),
        of(&[1, 0], "f4", "4611686018427387904, 4", &values()),
        of(&[2, 0], "f8", "1000000000, 1000", &[]),
    ]
}

fn bin_seeds() -> Vec<Vec<u8>> {
    let with = |dimension: u64| [&dimension.to_le_bytes()[..], &values()].concat();
    vec![with(2), with(4), with(0), with(u64::MAX), with(1 << 62)]
}

fn labels_seeds() -> Vec<Vec<u8>> {
    vec![b"3\n-1\n9223372036854775807\n".to_vec(), b"1\r\n 2".to_vec(), [b' '; 200].to_vec()]
}

fn model_toml_seeds() -> Vec<Vec<u8>> {
    let demo = include_bytes!("../models/demo-128/model.toml").to_vec();
    let outside = String::from_utf8_lossy(&demo).replace("\"re.onnx\"", "\"/dev/zero\"");
    let file = "{ name = \"only_re.onnx\", sha256 = \"00\" }";
    let stage = format!("\n[stages.only_re]\nmerging = {{ rule = \"single\", threshold = 0.5 }}\nre = {file}\n");
    let stages = [demo.clone(), stage.into_bytes()].concat();
    vec![demo, stages, outside.into_bytes(), deep(".a"), [b"a=".to_vec(), deep("[")].concat()]
}

fn config_seeds() -> Vec<Vec<u8>> {
    let given =
        b"[kafka]\nbrokers = \"a:1\"\npartitions = [0, 2]\n[collections.override.lobby]\nmax_age = \"30days\"\n\
        [engine]\nbatch_wait = \"20ms\"\n[log]\nlevel = \"info,facetd::engine=debug\"\n";
    let environment = b"\0FACETD_KAFKA__PARTITIONS=[1]\0FACETD_ENGINE__BATCH_FACES=7\0FACETD_X__Y={a=1}\0PATH=/bin";
    vec![
        [&given[..], environment].concat(),
        // An expression that takes all the memory there is, where it is compiled.
        format!("[log]\nlevel = \"a[b{{c=(x|y)*x{}}}]=info\"\n", "(x|y)".repeat(24)).into_bytes(),
        [b"[kafka]\nlibrdkafka_options = {a".to_vec(), deep(".a"), b"=1}".to_vec()].concat(),
        [b"\0FACETD_X__Y=".to_vec(), deep("[")].concat(),
    ]
}

/// The same within the same, until a recursion would have no stack left.
fn deep(level: &str) -> Vec<u8> {
    level.repeat(4000).into_bytes()
}

fn mark_seeds() -> Vec<Vec<u8>> {
    let mark = Mark { state_uuid: "b7c1".to_string(), claim: Claim(254), sequence: u64::MAX };
    vec![mark.to_string().into_bytes(), b"lobby/cam/3/0".to_vec(), b"lobby/7".to_vec()]
}

fn control_seeds() -> Vec<Vec<u8>> {
    let line = serde_json::to_vec(&Request::Backup { to: "/var/backups/facetd/monday".into() }).expect("a seed");
    vec![[&line[..], b"\n{}"].concat(), deep("{\"backup\":")]
}

/// What a publisher tells of a few faces, and sizes at the end of what a number holds.
fn events_seeds() -> Vec<Vec<u8>> {
    let event = |sequence: u64, kind: &str, more: &str| {
        format!("{{\"collection\":\"lobby\",\"sequence\":{sequence},\"type\":\"{kind}\",{more}}}\n")
    };
    let of = |cluster: u64, version: u64, before: u64, after: u64| {
        format!("\"cluster_id\":\"{cluster}\",\"version\":{version},\"size_before\":{before},\"size_after\":{after}")
    };
    let face = |id: &str| FaceId::new(id).map(|id| format!("\"face_id\":\"{id}\"")).expect("a name");
    let story = [
        event(1, "created", &format!("{},{}", of(1, 1, 0, 1), face("a"))),
        event(2, "joined", &format!("{},{}", of(1, 2, 1, 2), face("b"))),
        event(3, "created", &format!("{},{}", of(2, 1, 0, 1), face("c"))),
        event(
            4,
            "merged",
            &format!("{},\"merged\":{{\"cluster_id\":\"2\",\"size_before\":1,\"version\":2}}", of(1, 3, 2, 3)),
        ),
        event(
            5,
            "split",
            &format!(
                "{},{},\"into\":{{\"cluster_id\":\"3\",\"size_after\":1,\"version\":1}}",
                of(1, 4, 3, 2),
                face("b")
            ),
        ),
        event(
            6,
            "left",
            &format!(
                "{},{},\"into\":{{\"cluster_id\":\"3\",\"size_after\":2,\"version\":2}}",
                of(1, 5, 2, 1),
                face("a")
            ),
        ),
        event(7, "erased", &format!("{},{}", of(1, 6, 1, 0), face("c"))),
        event(8, "settled", "\"faces\":2,\"clusters\":1"),
    ];
    let most = u64::MAX;
    let ends = [
        event(1, "created", &format!("{},{}", of(1, 1, 0, 1), face("a"))),
        event(2, "joined", &format!("{},{}", of(1, 2, most, 0), face("b"))),
        event(
            2,
            "merged",
            &format!("{},\"merged\":{{\"cluster_id\":\"2\",\"size_before\":{most},\"version\":2}}", of(1, 3, most, 3)),
        ),
        event(most, "settled", "\"faces\":2,\"clusters\":1"),
    ];
    vec![story.concat().into_bytes(), ends.concat().into_bytes()]
}
