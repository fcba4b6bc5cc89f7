use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::face::{Offset, Partition};

const VALUES: [f32; 4] = [0.5, -0.5, 0.5, -0.5];
const PLACE: Place = Place { partition: Partition(1), offset: Offset(9) };
const BARE: Record =
    Record { key: Some(b"a"), payload: None, content_type: None, collection: None, captured_at: None, place: PLACE };

fn decoder() -> Decoder {
    Decoder { dimension: 4, default_collection: CollectionName::new("default").unwrap(), max_message_bytes: 1_000 }
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn reason(record: Record) -> Reason {
    decoder().decode(&record).unwrap_err().reason
}

fn reason_of_json(payload: &Value) -> Reason {
    reason(Record { payload: Some(payload.to_string().as_bytes()), ..BARE })
}

fn face(record: Record) -> Face {
    match decoder().decode(&record).unwrap() {
        Decoded::Face { face, .. } => face,
        Decoded::Erase { .. } => panic!("erased"),
    }
}

fn collection(record: Record) -> String {
    let (Decoded::Face { collection, .. } | Decoded::Erase { collection, .. }) = decoder().decode(&record).unwrap();
    collection.to_string()
}

#[test]
fn everything_a_message_says_arrives() {
    let expected = Face {
        id: FaceId::new("a").unwrap(),
        embedding: Embedding::normalise(&VALUES, 4).unwrap(),
        frame_id: Some(FaceId::new("f/1").unwrap()),
        quality: Some(0.75),
        captured_at: Some(Timestamp(1_795_456_800_120)),
        place: PLACE,
    };
    let json = json!({
        "face_id": "a", "embedding": VALUES, "collection": "lobby", "quality": 0.75, "frame_id": "f/1",
        "captured_at": "2026-11-23T18:00:00.120Z", "attributes": {"camera": "3"}, "added_later": [{}],
    });
    // What Google's protobuf for Python 7.36 writes, of schemas/face.proto, for the same message.
    let protobuf = b"\x0a\x01a\
        \x12\x10\x00\x00\x00\x3f\x00\x00\x00\xbf\x00\x00\x00\x3f\x00\x00\x00\xbf\
        \x22\x05lobby\
        \x2d\x00\x00\x40\x3f\
        \x32\x182026-11-23T18:00:00.120Z\
        \x3a\x03f/1\
        \x42\x0b\x0a\x06camera\x12\x013";
    for (content_type, payload) in
        [("application/json", json.to_string().as_bytes()), ("application/x-protobuf", protobuf)]
    {
        let record = Record { content_type: Some(content_type.as_bytes()), payload: Some(payload), ..BARE };
        assert_eq!(face(record), expected, "{content_type}");
        assert_eq!(collection(record), "lobby");
    }

    let raw = Record {
        content_type: Some(b"application/octet-stream"),
        payload: Some(&le_bytes(&VALUES)),
        collection: Some(b"lobby"),
        captured_at: Some(b"2026-11-23T19:00:00.120+01:00"),
        ..BARE
    };
    assert_eq!(face(raw), Face { frame_id: None, quality: None, ..expected });
    assert_eq!(collection(raw), "lobby");
}

#[test]
fn an_embedding_can_be_written_in_several_ways() {
    let bytes = le_bytes(&VALUES);
    let padded = json!({"embedding": STANDARD.encode(&bytes)}).to_string();
    let unpadded = json!({"embedding": STANDARD_NO_PAD.encode(&bytes)}).to_string();
    let protobuf = [&b"\x1a\x10"[..], &bytes].concat();
    for (content_type, payload) in [
        (None, padded.as_bytes()),
        (Some("APPLICATION/JSON; charset=utf-8"), unpadded.as_bytes()),
        (Some("application/protobuf"), &protobuf),
        (Some(" application/octet-stream "), &bytes),
    ] {
        let record = Record { content_type: content_type.map(str::as_bytes), payload: Some(payload), ..BARE };
        assert_eq!(face(record).embedding, Embedding::normalise(&VALUES, 4).unwrap(), "{content_type:?}");
    }
}

#[test]
fn the_schemas_say_what_the_codecs_do() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/face.schema.json")).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        let key = example["face_id"].as_str().unwrap_or("a");
        face(Record { key: Some(key.as_bytes()), payload: Some(example.to_string().as_bytes()), ..BARE });
    }
    let whole = Message {
        embedding: VALUES.to_vec(),
        face_id: Some("a".into()),
        collection: Some("lobby".into()),
        quality: Some(0.5),
        captured_at: Some("2026-11-23T18:00:00Z".into()),
        frame_id: Some("f".into()),
    };
    let written: Value = serde_json::from_slice(&json::encode(&whole)).unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut known = keys(&schema["properties"]);
    assert!(known.remove("attributes"));
    assert_eq!(known, keys(&written));
    for field in known {
        assert!(include_str!("../../schemas/face.proto").contains(&format!(" {field} = ")), "{field}");
    }
}

#[test]
fn a_null_payload_erases() {
    let face_id = FaceId::new("a").unwrap();
    let lobby = CollectionName::new("lobby").unwrap();
    let record = Record { collection: Some(b"lobby"), content_type: Some(b"whatever"), ..BARE };
    assert_eq!(decoder().decode(&record), Ok(Decoded::Erase { collection: lobby, face_id }));
    assert_eq!(collection(BARE), "default");
    assert_eq!(reason(Record { key: None, ..BARE }), Reason::EmptyKey);
    assert_eq!(reason(Record { collection: Some(b"no such"), ..BARE }), Reason::BadCollection);
}

#[test]
fn the_payload_comes_before_the_header() {
    let payload = json!({"embedding": VALUES, "captured_at": "1970-01-01T00:00:01Z"}).to_string();
    let record = Record {
        payload: Some(payload.as_bytes()),
        collection: Some(b"lobby"),
        captured_at: Some(b"1970-01-01T00:00:02Z"),
        ..BARE
    };
    assert_eq!(face(record).captured_at, Some(Timestamp(1_000)));
    assert_eq!(collection(record), "lobby");

    let payload = json!({"embedding": VALUES, "collection": "hall"}).to_string();
    let record = Record { payload: Some(payload.as_bytes()), collection: Some(b"hall"), ..BARE };
    assert_eq!(collection(record), "hall");
    assert_eq!(reason(Record { collection: Some(b"lobby"), ..record }), Reason::CollectionMismatch);
}

#[test]
fn every_fault_has_its_reason() {
    let long = "x".repeat(MAX_FACE_ID_BYTES + 1);
    let good = json!({"embedding": VALUES}).to_string();
    let good = Record { payload: Some(good.as_bytes()), ..BARE };
    for (record, expected) in [
        (Record { payload: Some(&[b' '; 1_001]), ..good }, Reason::TooLarge),
        (Record { content_type: Some(b"text/plain"), ..good }, Reason::UnknownContentType),
        (Record { content_type: Some(b""), ..good }, Reason::UnknownContentType),
        (Record { key: None, ..good }, Reason::EmptyKey),
        (Record { key: Some(b""), ..good }, Reason::EmptyKey),
        (Record { key: Some(b"\xff"), ..good }, Reason::BadKey),
        (Record { key: Some(long.as_bytes()), ..good }, Reason::BadKey),
        (Record { collection: Some(b"\xff"), ..good }, Reason::BadCollection),
        (Record { collection: Some(b""), ..good }, Reason::BadCollection),
        (Record { captured_at: Some(b"yesterday"), ..good }, Reason::BadTimestamp),
        (Record { captured_at: Some(b"\xff"), ..good }, Reason::BadTimestamp),
    ] {
        assert_eq!(reason(record), expected);
    }

    for (field, value, expected) in [
        ("face_id", json!("b"), Reason::KeyMismatch),
        ("face_id", json!(1), Reason::Malformed),
        ("collection", json!("no such"), Reason::BadCollection),
        ("quality", json!(1.01), Reason::BadQuality),
        ("quality", json!(-0.01), Reason::BadQuality),
        ("captured_at", json!("2026-11-23"), Reason::BadTimestamp),
        ("frame_id", json!(""), Reason::BadFrameId),
        ("frame_id", json!("x".repeat(MAX_FACE_ID_BYTES + 1)), Reason::BadFrameId),
        ("embedding", json!([1, 2, 3]), Reason::WrongDimension),
        ("embedding", json!([1, 2, 3, 4, 5, 6]), Reason::WrongDimension),
        ("embedding", json!([]), Reason::WrongDimension),
        ("embedding", json!(STANDARD.encode([0; 20])), Reason::WrongDimension),
        ("embedding", json!(STANDARD.encode([0; 15])), Reason::Malformed),
        ("embedding", json!("*".repeat(22)), Reason::Malformed),
        ("embedding", json!([1, 2, 3, "4"]), Reason::Malformed),
        ("embedding", json!(null), Reason::Malformed),
        ("embedding", json!([0, 0, 0, 0]), Reason::ZeroVector),
        ("embedding", json!([1, 2, 3, 1e300]), Reason::NotFinite),
        ("embedding", json!(STANDARD.encode(le_bytes(&[1.0, f32::NAN, 0.0, 0.0]))), Reason::NotFinite),
    ] {
        let mut message = json!({"embedding": VALUES});
        message[field] = value;
        assert_eq!(reason_of_json(&message), expected, "{field}");
    }

    let json: [&[u8]; 6] =
        [b"", b"[]", b"{}", b"{\"embedding\":[1,2,3,NaN]}", b"{\"embedding\":[1,2,3,1e999]}", b"{} x"];
    for payload in json {
        assert_eq!(reason(Record { payload: Some(payload), ..BARE }), Reason::Malformed);
    }

    let infinite = le_bytes(&[1.0, f32::INFINITY, 0.0, 0.0]);
    let both =
        protobuf::Face { embedding: VALUES.to_vec(), embedding_le: Some(le_bytes(&VALUES)), ..Default::default() }
            .encode_to_vec();
    let (raw, protobuf) = ("application/octet-stream", "application/x-protobuf");
    for (content_type, payload, expected) in [
        (raw, &b""[..], Reason::WrongDimension),
        (raw, &[0; 15], Reason::Malformed),
        (raw, &[0; 20], Reason::WrongDimension),
        (raw, &[0; 16], Reason::ZeroVector),
        (raw, &infinite, Reason::NotFinite),
        (protobuf, b"", Reason::Malformed),
        (protobuf, &both, Reason::Malformed),
        (protobuf, b"\x12\x7f", Reason::Malformed),
        (protobuf, b"\x12\x04\x00\x00\x00\x3f", Reason::WrongDimension),
        (protobuf, b"\x1a\x03abc", Reason::Malformed),
    ] {
        let record = Record { content_type: Some(content_type.as_bytes()), payload: Some(payload), ..BARE };
        assert_eq!(reason(record), expected, "{content_type} {payload:?}");
    }
}

#[test]
fn details_quote_nothing_of_the_payload() {
    let secret = "secret";
    for payload in [
        json!({"embedding": secret}),
        json!({"embedding": [1, 2, 3, secret]}),
        json!({"embedding": VALUES, "collection": "secret place"}),
        json!({"embedding": VALUES, "captured_at": secret}),
        json!({"embedding": VALUES, "quality": secret}),
        json!({"embedding": VALUES, "face_id": secret}),
        json!({"embedding": {"secret": 1}}),
    ] {
        let rejection =
            decoder().decode(&Record { payload: Some(payload.to_string().as_bytes()), ..BARE }).unwrap_err();
        assert!(!rejection.to_string().contains(secret), "{rejection}");
    }
}

fn content_types() -> impl Strategy<Value = Option<&'static [u8]>> {
    prop::sample::select(vec![
        None,
        Some(&b"application/json"[..]),
        Some(b"application/x-protobuf"),
        Some(b"application/octet-stream"),
    ])
}

fn messages() -> impl Strategy<Value = Message> {
    let embedding =
        prop::collection::vec(-1f32..1.0, 4).prop_filter("a direction", |v| v.iter().any(|x| x.abs() > 0.1));
    let text = "[a-zA-Z0-9]{1,30}";
    (embedding, prop::option::of(text), prop::option::of(0f32..=1.0), prop::option::of(".{1,60}")).prop_map(
        |(embedding, collection, quality, frame_id)| Message {
            embedding,
            face_id: Some("a".into()),
            collection,
            quality,
            captured_at: Some("2026-11-23T18:00:00Z".into()),
            frame_id,
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        content_type in content_types(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        key in any::<Option<Vec<u8>>>(),
        header in any::<Option<Vec<u8>>>(),
    ) {
        let [key, header] = [&key, &header].map(Option::as_deref);
        let record = Record { payload: Some(&payload), content_type, ..BARE };
        let _ = decoder().decode(&record);
        let _ = decoder().decode(&Record { content_type: header, ..record });
        let _ = decoder().decode(&Record { key, collection: header, captured_at: header, ..record });
    }

    /// Near misses go deeper than noise does.
    #[test]
    fn no_damage_makes_it_panic(message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let protobuf = protobuf_of(&message).encode_to_vec();
        for (content_type, mut payload) in [(None, json::encode(&message)), (Some(&b"application/x-protobuf"[..]), protobuf)] {
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = decoder().decode(&Record { payload: Some(&payload), content_type, ..BARE });
            let _ = decoder().decode(&Record { payload: Some(&payload[..at]), content_type, ..BARE });
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(message in messages()) {
        prop_assert_eq!(&json::decode(&json::encode(&message), 4).unwrap(), &message);
        prop_assert_eq!(&protobuf::decode(&protobuf_of(&message).encode_to_vec(), 4).unwrap(), &message);
        let raw = raw::decode(&le_bytes(&message.embedding), 4).unwrap();
        prop_assert_eq!(&raw.embedding, &message.embedding);
        let payload = json::encode(&message);
        let record = Record { payload: Some(&payload), ..BARE };
        prop_assert!(decoder().decode(&record).is_ok());
    }
}

fn protobuf_of(message: &Message) -> protobuf::Face {
    let Message { embedding, face_id, collection, quality, captured_at, frame_id } = message.clone();
    protobuf::Face { face_id, embedding, embedding_le: None, collection, quality, captured_at, frame_id }
}
