//! How far a state is published, as Kafka keeps it: in the metadata of the group's offsets, which a
//! transaction writes together with the entries, and in a header of every record.

use std::fmt;
use std::str::FromStr;

use crate::store::Claim;

/// The header of every record facetd writes; its value is a [`Mark`].
pub const HEADER: &str = "facetd-outbox";

/// The last entry of a state's outbox that is published, and by whom: two copies of a state have the same uuid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub state_uuid: String,
    pub claim: Claim,
    pub sequence: u64,
}

/// What is no mark of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not STATE_UUID:CLAIM:SEQUENCE")]
pub struct NotAMark(String);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.state_uuid, self.claim, self.sequence)
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Mark, NotAMark> {
        let wrong = || NotAMark(text.chars().take(80).collect());
        let mut parts = text.split(':');
        let (Some(state_uuid), Some(claim), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let sequence = sequence.parse().map_err(|_| wrong())?;
        let claim = u32::from_str_radix(claim, 16).map_err(|_| wrong())?;
        match state_uuid.is_empty() {
            true => Err(wrong()),
            false => Ok(Mark { state_uuid: state_uuid.to_string(), claim: Claim(claim), sequence }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written_and_nothing_else_does() {
        let mark = Mark { state_uuid: "b7c1".to_string(), claim: Claim(0xfe), sequence: 42 };
        assert_eq!(mark.to_string(), "b7c1:000000fe:42");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for text in [
            "",
            "::",
            "b7c1",
            "b7c1:1:",
            ":1:7",
            "b7c1:1:-1",
            "b7c1:1:4 2",
            "b7c1:1:2:3",
            "b7c1:x:2",
            "b7c1:123456789:2",
        ] {
            assert!(text.parse::<Mark>().is_err(), "{text:?}");
        }
    }
}
