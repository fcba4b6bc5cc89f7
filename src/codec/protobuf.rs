//! `application/x-protobuf`: the message `facetd.v1.Face` of `schemas/face.proto`, written out
//! here by hand so that a build needs no protoc. Unknown fields are skipped, `attributes` among them.

use prost::Message as _;

use super::{Message, raw};
use crate::rejection::{Reason, Rejection};

/// `facetd.v1.Face`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Face {
    #[prost(string, optional, tag = "1")]
    pub(super) face_id: Option<String>,
    #[prost(float, repeated, tag = "2")]
    pub(super) embedding: Vec<f32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(super) embedding_le: Option<Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    pub(super) collection: Option<String>,
    #[prost(float, optional, tag = "5")]
    pub(super) quality: Option<f32>,
    #[prost(string, optional, tag = "6")]
    pub(super) captured_at: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub(super) frame_id: Option<String>,
}

/// Memory: as the wire holds four bytes a value too, at most twice the payload.
pub(super) fn decode(payload: &[u8], dimension: usize) -> Result<Message, Rejection> {
    // prost's text names fields and wire types, never values.
    let face = Face::decode(payload).map_err(|error| Rejection::new(Reason::Malformed, error.to_string()))?;
    let embedding = match face.embedding_le {
        Some(bytes) if face.embedding.is_empty() => raw::values(&bytes, dimension)?,
        None if !face.embedding.is_empty() => face.embedding,
        _ => {
            let detail = "exactly one of embedding and embedding_le has to be set (schemas/face.proto)";
            return Err(Rejection::new(Reason::Malformed, detail));
        }
    };
    Ok(Message {
        embedding,
        face_id: face.face_id,
        collection: face.collection,
        quality: face.quality,
        captured_at: face.captured_at,
        frame_id: face.frame_id,
    })
}
