//! What a dead letter says of the record it is about, and which letters are wanted.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::face::{Offset, Partition, Timestamp};
use crate::rejection::Reason;

/// Which dead letters' records are to be sent again.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// None given: those [`may_pass`] says.
    pub reasons: Vec<Reason>,
    /// Letters written before are left.
    pub since: Option<Timestamp>,
}

impl Wanted {
    fn takes(&self, reason: Reason, written: Timestamp) -> bool {
        let by_reason = if self.reasons.is_empty() { may_pass(reason) } else { self.reasons.contains(&reason) };
        by_reason && self.since.is_none_or(|since| written >= since)
    }
}

/// Whether the cause lies outside of the record, so that somebody can have removed it. Any other record is as
/// wrong as it was, and would only become one more dead letter.
pub fn may_pass(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TooLarge
            | Reason::WrongDimension
            | Reason::Suppressed
            | Reason::Expired
            | Reason::CollectionLimit
            | Reason::WrongShard
    )
}

/// What is remembered of a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    pub reason: Reason,
    pub key: Vec<u8>,
    pub payload_sha256: [u8; 32],
    /// Its record is to be sent again.
    pub taken: bool,
}

/// The value of a dead letter, as far as it is needed here.
#[derive(Deserialize)]
struct Value {
    reason: Reason,
    topic: String,
    partition: Partition,
    offset: Offset,
    payload_sha256: String,
}

/// A record of the dead-letter topic.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub at: Timestamp,
}

/// The letters of an input topic's partitions. Memory: about 200 bytes a letter.
#[derive(Debug, Default)]
pub struct Letters {
    pub of: BTreeMap<Partition, BTreeMap<Offset, Letter>>,
    /// Letters that are not wanted, by reason.
    pub left: BTreeMap<Reason, u64>,
    /// Letters of other topics, or of partitions that are another daemon's.
    pub elsewhere: u64,
    /// Records of the topic that are no dead letters this version can read.
    pub unreadable: u64,
}

impl Letters {
    pub fn of(partitions: &[Partition]) -> Letters {
        let of = partitions.iter().map(|&partition| (partition, BTreeMap::new())).collect();
        Letters { of, ..Letters::default() }
    }

    /// Takes a letter in. Of two of one record, as after reading the input again, the later counts.
    pub fn add(&mut self, input: &str, wanted: &Wanted, written: Written) {
        let value = serde_json::from_slice::<Value>(written.value).ok();
        let read = value.and_then(|value| Some((from_hex(&value.payload_sha256)?, value)));
        let Some((payload_sha256, Value { reason, topic, partition, offset, .. })) = read else {
            self.unreadable += 1;
            return;
        };
        let Some(letters) = self.of.get_mut(&partition).filter(|_| topic == input) else {
            self.elsewhere += 1;
            return;
        };
        let taken = wanted.takes(reason, written.at);
        if !taken {
            *self.left.entry(reason).or_default() += 1;
        }
        letters.insert(offset, Letter { reason, key: written.key.to_vec(), payload_sha256, taken });
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_pass_is_wanted_unless_it_is_named() {
        let takes = |wanted: &Wanted, reason| wanted.takes(reason, Timestamp(5));
        let unnamed = Wanted::default();
        assert!(takes(&unnamed, Reason::CollectionLimit) && !takes(&unnamed, Reason::UnknownFace));
        let named = Wanted { reasons: vec![Reason::UnknownFace], since: Some(Timestamp(5)) };
        assert!(takes(&named, Reason::UnknownFace) && !takes(&named, Reason::CollectionLimit));
        assert!(!named.takes(Reason::UnknownFace, Timestamp(4)));
    }

    #[test]
    fn letters_of_others_and_what_is_no_letter_are_counted_and_left() {
        let mut letters = Letters::of(&[Partition(0)]);
        let mut add = |topic: &str, partition: i32, sha: &str| {
            let value = serde_json::json!({
                "reason": "suppressed", "detail": "", "topic": topic, "partition": partition, "offset": 7,
                "payload_bytes": 1, "payload_sha256": sha,
            });
            let value = value.to_string().into_bytes();
            letters.add("faces", &Wanted::default(), Written { key: b"a", value: &value, at: Timestamp(0) });
        };
        let sha = "0f".repeat(32);
        add("faces", 0, &sha);
        add("faces", 0, &sha);
        add("other", 0, &sha);
        add("faces", 1, &sha);
        add("faces", 0, &"é".repeat(32));
        assert_eq!((letters.elsewhere, letters.unreadable), (2, 1));
        let letter = Letter { reason: Reason::Suppressed, key: b"a".to_vec(), payload_sha256: [15; 32], taken: true };
        assert_eq!(letters.of, BTreeMap::from([(Partition(0), BTreeMap::from([(Offset(7), letter)]))]));
    }
}
