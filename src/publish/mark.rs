//! How far a state is published, as Kafka keeps it: in the metadata of the group's offsets, which a
//! transaction writes together with the entries, and in a header of every record.

use std::fmt;
use std::str::FromStr;

/// The header of every record facetd writes; its value is a [`Mark`].
pub const HEADER: &str = "facetd-outbox";

/// The last entry of a state's outbox that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub state_uuid: String,
    pub sequence: u64,
}

/// What is no mark of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not STATE_UUID:SEQUENCE")]
pub struct NotAMark(String);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.state_uuid, self.sequence)
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Mark, NotAMark> {
        let wrong = || NotAMark(text.chars().take(80).collect());
        let (state_uuid, sequence) = text.split_once(':').ok_or_else(wrong)?;
        let sequence = sequence.parse().map_err(|_| wrong())?;
        match state_uuid.is_empty() {
            true => Err(wrong()),
            false => Ok(Mark { state_uuid: state_uuid.to_string(), sequence }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_as_it_was_written_and_nothing_else_does() {
        let mark = Mark { state_uuid: "b7c1".to_string(), sequence: 42 };
        assert_eq!(mark.to_string(), "b7c1:42");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for text in ["", ":", "b7c1", "b7c1:", ":7", "b7c1:-1", "b7c1:4 2", "b7c1:1:2"] {
            assert!(text.parse::<Mark>().is_err(), "{text:?}");
        }
    }
}
