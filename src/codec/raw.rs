//! `application/octet-stream`: the payload is the embedding, f32 little-endian, and nothing else.
//! Who it is and where it belongs is in the record's key and headers.

use super::Message;
use crate::face::FaceError;
use crate::rejection::{Reason, Rejection};

pub(super) fn decode(payload: &[u8], dimension: usize) -> Result<Message, Rejection> {
    Ok(Message { embedding: values(payload, dimension)?, ..Message::default() })
}

/// `dimension` little-endian f32, which other codecs carry inside.
pub(super) fn values(bytes: &[u8], dimension: usize) -> Result<Vec<f32>, Rejection> {
    check_length(bytes.len(), dimension)?;
    let (values, _) = bytes.as_chunks();
    Ok(values.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// Whether `bytes` bytes can be `dimension` values.
pub(super) fn check_length(bytes: usize, dimension: usize) -> Result<(), Rejection> {
    if !bytes.is_multiple_of(4) {
        let detail = format!("embedding has {bytes} bytes, not a whole number of f32");
        return Err(Rejection::new(Reason::Malformed, detail));
    }
    if bytes / 4 != dimension {
        return Err(FaceError::Dimension { expected: dimension, found: bytes / 4 }.into());
    }
    Ok(())
}
