//! `application/json`, as `schemas/face.schema.json` describes it.
//!
//! Keys it does not know are ignored, so that producers may add some; of a repeated key the last counts.
//! An embedding is never stored beyond the model's dimension, however long the array is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Message, raw};
use crate::face::FaceError;
use crate::rejection::{Reason, Rejection};

pub(super) fn decode(payload: &[u8], dimension: usize) -> Result<Message, Rejection> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let message = json.deserialize_map(MessageVisitor { dimension }).map_err(malformed)?;
    json.end().map_err(malformed)?;
    message
}

/// The place, but not serde_json's own text: that quotes the payload.
fn malformed(error: serde_json::Error) -> Rejection {
    let what = match error.classify() {
        Category::Data => "does not follow schemas/face.schema.json",
        Category::Eof => "ends too early",
        Category::Syntax | Category::Io => "is not JSON",
    };
    let detail = format!("payload {what}, at line {} column {}", error.line(), error.column());
    Rejection::new(Reason::Malformed, detail)
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    FaceId,
    Embedding,
    Collection,
    Quality,
    CapturedAt,
    FrameId,
    #[serde(other)]
    Other,
}

struct MessageVisitor {
    dimension: usize,
}

impl<'de> Visitor<'de> for MessageVisitor {
    /// The outer error is serde's; the inner one is of a payload that is JSON and still not wanted.
    type Value = Result<Message, Rejection>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut message = Message::default();
        let mut embedding = None;
        while let Some(key) = map.next_key()? {
            match key {
                Key::FaceId => message.face_id = map.next_value()?,
                Key::Embedding => embedding = Some(map.next_value_seed(Embedding { dimension: self.dimension })?),
                Key::Collection => message.collection = map.next_value()?,
                Key::Quality => message.quality = map.next_value()?,
                Key::CapturedAt => message.captured_at = map.next_value()?,
                Key::FrameId => message.frame_id = map.next_value()?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let embedding = embedding.ok_or_else(|| A::Error::missing_field("embedding"))?;
        Ok(embedding.map(|embedding| Message { embedding, ..message }))
    }
}

/// Reads an embedding of the given dimension: an array of numbers, or base64.
struct Embedding {
    dimension: usize,
}

impl<'de> DeserializeSeed<'de> for Embedding {
    type Value = Result<Vec<f32>, Rejection>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Embedding {
    type Value = Result<Vec<f32>, Rejection>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of numbers or a string of base64")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::with_capacity(self.dimension);
        while values.len() < self.dimension {
            match array.next_element()? {
                Some(value) => values.push(value),
                None => break,
            }
        }
        let mut found = values.len();
        while found >= self.dimension && array.next_element::<IgnoredAny>()?.is_some() {
            found += 1;
        }
        if found != self.dimension {
            return Ok(Err(FaceError::Dimension { expected: self.dimension, found }.into()));
        }
        Ok(Ok(values))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(from_base64(text, self.dimension))
    }
}

fn from_base64(text: &str, dimension: usize) -> Result<Vec<f32>, Rejection> {
    // Held against the length first, so that nothing is decoded in vain.
    raw::check_length(text.trim_end_matches('=').len() * 3 / 4, dimension)?;
    let bytes = STANDARD_PAD_INDIFFERENT.decode(text).map_err(|_| {
        let detail = "embedding is a string, but not base64 of the standard alphabet (RFC 4648, 4)";
        Rejection::new(Reason::Malformed, detail)
    })?;
    raw::values(&bytes, dimension)
}

/// The embedding as base64: a third of the size that numbers take, and exact.
pub fn encode(message: &Message) -> Vec<u8> {
    #[derive(Serialize)]
    struct Object<'a> {
        embedding: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        face_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        collection: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        quality: Option<f32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        captured_at: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        frame_id: Option<&'a str>,
    }
    let bytes: Vec<u8> = message.embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
    let object = Object {
        embedding: STANDARD.encode(bytes),
        face_id: message.face_id.as_deref(),
        collection: message.collection.as_deref(),
        quality: message.quality,
        captured_at: message.captured_at.as_deref(),
        frame_id: message.frame_id.as_deref(),
    };
    serde_json::to_vec(&object).expect("strings and numbers can always be written as JSON")
}
