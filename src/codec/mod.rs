//! A record's bytes to a checked face, or to the reason why not.
//!
//! Each codec turns a payload into a [`Message`]: what the payload says, unchecked. What holds for
//! all of them (who the face is, which collection, which values are allowed) is checked here, once.
//!
//! Nothing a record holds can make this panic, or take more memory than a small multiple of the record's size.

pub mod json;
mod protobuf;
mod raw;
#[cfg(test)]
mod tests;

use chrono::DateTime;

use crate::face::{CollectionName, Embedding, Face, FaceError, FaceId, MAX_FACE_ID_BYTES, Place, Timestamp};
use crate::rejection::{Reason, Rejection};

/// A record of the input topic. A header without a value counts as absent.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub key: Option<&'a [u8]>,
    /// None is Kafka's null payload: erase the face.
    pub payload: Option<&'a [u8]>,
    /// Header `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// Header `collection`.
    pub collection: Option<&'a [u8]>,
    /// Header `captured_at`.
    pub captured_at: Option<&'a [u8]>,
    pub place: Place,
}

/// What a record asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    Face { collection: CollectionName, face: Face },
    Erase { collection: CollectionName, face_id: FaceId },
}

/// What a payload says, unchecked. Its `attributes`, where the codec has them, are left out: they
/// are carried for other readers of the topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    pub embedding: Vec<f32>,
    pub face_id: Option<String>,
    pub collection: Option<String>,
    /// 0 to 1.
    pub quality: Option<f32>,
    /// RFC 3339.
    pub captured_at: Option<String>,
    pub frame_id: Option<String>,
}

/// Decodes the records of one input topic.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// What the model takes.
    pub dimension: usize,
    /// Where a face goes whose record names no collection.
    pub default_collection: CollectionName,
    /// Longer payloads are rejected before they are looked at.
    pub max_message_bytes: usize,
}

impl Decoder {
    pub fn decode(&self, record: &Record) -> Result<Decoded, Rejection> {
        let bytes = record.payload.map_or(0, <[u8]>::len);
        if bytes > self.max_message_bytes {
            let detail = format!("payload has {bytes} bytes, at most {} are accepted", self.max_message_bytes);
            return Err(Rejection::new(Reason::TooLarge, detail));
        }
        let face_id = face_id(record.key.unwrap_or_default())?;
        let Some(payload) = record.payload else {
            return Ok(Decoded::Erase { collection: self.collection(record, None)?, face_id });
        };

        let message = match ContentType::of(record)? {
            ContentType::Json => json::decode(payload, self.dimension),
            ContentType::Protobuf => protobuf::decode(payload, self.dimension),
            ContentType::Raw => raw::decode(payload, self.dimension),
        }?;
        if message.face_id.as_deref().is_some_and(|in_payload| in_payload != face_id.as_str()) {
            return Err(Rejection::new(Reason::KeyMismatch, "face_id in the payload is not the record's key"));
        }
        let collection = self.collection(record, message.collection.as_deref())?;
        let face = Face {
            id: face_id,
            embedding: Embedding::normalise(&message.embedding, self.dimension)?,
            frame_id: message.frame_id.as_deref().map(frame_id).transpose()?,
            quality: message.quality.map(quality).transpose()?,
            captured_at: captured_at(record, message.captured_at.as_deref())?,
            place: record.place,
        };
        Ok(Decoded::Face { collection, face })
    }

    /// The payload's collection, else the header's, else the default; payload and header must not differ.
    fn collection(&self, record: &Record, in_payload: Option<&str>) -> Result<CollectionName, Rejection> {
        let in_header = record.collection.map(|bytes| header(bytes, Reason::BadCollection)).transpose()?;
        match (in_payload, in_header) {
            (Some(payload), Some(header)) if payload != header => {
                let detail = "payload and header name different collections: send one of them, or the same";
                Err(Rejection::new(Reason::CollectionMismatch, detail))
            }
            (Some(name), _) | (None, Some(name)) => Ok(CollectionName::new(name)?),
            (None, None) => Ok(self.default_collection.clone()),
        }
    }
}

/// Which codec reads a payload.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ContentType {
    Json,
    Protobuf,
    Raw,
}

impl ContentType {
    /// Parameters (`; charset=utf-8`) are ignored and case does not matter (RFC 9110, 8.3.1).
    fn of(record: &Record) -> Result<ContentType, Rejection> {
        let Some(header) = record.content_type else {
            return Ok(ContentType::Json);
        };
        let name = header.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let known: [(&str, ContentType); 4] = [
            ("application/json", ContentType::Json),
            ("application/x-protobuf", ContentType::Protobuf),
            ("application/protobuf", ContentType::Protobuf),
            ("application/octet-stream", ContentType::Raw),
        ];
        let named = known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        named.map(|(_, content_type)| content_type).ok_or_else(|| {
            let detail = "header content-type is none of application/json, application/x-protobuf, \
                          application/octet-stream";
            Rejection::new(Reason::UnknownContentType, detail)
        })
    }
}

fn face_id(key: &[u8]) -> Result<FaceId, Rejection> {
    let key = std::str::from_utf8(key)
        .map_err(|_| Rejection::new(Reason::BadKey, "the record's key is the face_id and has to be UTF-8"))?;
    FaceId::new(key).map_err(|error| match error {
        FaceError::EmptyFaceId => Rejection::new(Reason::EmptyKey, "the record has no key; the key is the face_id"),
        error => error.into(),
    })
}

fn frame_id(text: &str) -> Result<FaceId, Rejection> {
    FaceId::new(text).map_err(|_| {
        let detail = format!("frame_id has to be 1 to {MAX_FACE_ID_BYTES} bytes long, or left out");
        Rejection::new(Reason::BadFrameId, detail)
    })
}

fn quality(value: f32) -> Result<f32, Rejection> {
    if !(0.0..=1.0).contains(&value) {
        return Err(Rejection::new(Reason::BadQuality, "quality has to be a number in 0..1, or left out"));
    }
    Ok(value)
}

/// The payload's, else the header's.
fn captured_at(record: &Record, in_payload: Option<&str>) -> Result<Option<Timestamp>, Rejection> {
    let in_header = || record.captured_at.map(|bytes| header(bytes, Reason::BadTimestamp)).transpose();
    let Some(text) = in_payload.map_or_else(in_header, |text| Ok(Some(text)))? else {
        return Ok(None);
    };
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(Some(Timestamp(time.timestamp_millis()))),
        Err(_) => {
            let detail = "captured_at has to be a time of RFC 3339, such as 2026-11-23T18:00:00.120Z";
            Err(Rejection::new(Reason::BadTimestamp, detail))
        }
    }
}

fn header(bytes: &[u8], reason: Reason) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|_| Rejection::new(reason, "the header has to be UTF-8"))
}
