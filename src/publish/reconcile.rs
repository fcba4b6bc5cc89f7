//! What Kafka has of a state's outbox, found out when the daemon starts.
//!
//! | Kafka says | then |
//! | --- | --- |
//! | a sequence of this state, not above its last | entries up to it are published |
//! | a sequence of this state above its last | the state is older than what was told: refuse |
//! | a sequence of another state, or of another copy of this one | refuse |
//! | nothing: the group's offsets expired or were never written | the ends of the topics are read |
//!
//! Also refused: an output topic that ends before what was published to it, because it was made anew.
//! The way out of each is `facetd run --new-incarnation`: see [`crate::daemon::incarnation`].

use super::mark::Mark;
use crate::store::Published;

/// What the state itself knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Own<'a> {
    pub state_uuid: &'a str,
    /// Sequence of the last entry its outbox was ever given.
    pub last: u64,
    /// What it knows to be published. Kafka may have more: it is noted later.
    pub published: &'a Published,
}

/// Why state and Kafka do not go together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Disagreement {
    #[error(
        "kafka has {told} entries published of state {state_uuid}, and this copy of it has only {last}: it is older, such as \
         from a backup; start the newer state, or have this one take its place with `facetd run --new-incarnation`"
    )]
    KafkaIsAhead { state_uuid: String, told: u64, last: u64 },
    #[error(
        "another copy of state {state_uuid} has published since this one did: start that one, or have this one take its place \
         with `facetd run --new-incarnation`"
    )]
    OtherCopy { state_uuid: String },
    #[error(
        "group {group:?} belongs to state {found}, and this state is {own}: set kafka.group and the output topics to this \
         state's, or have this state take the other's place with `facetd run --new-incarnation`"
    )]
    OtherState { group: String, found: String, own: String },
    #[error(
        "topic {topic:?} partition {partition} ends at {end}, and this state has published up to {published} in it: the topic \
         was made anew, or kafka.brokers names another cluster; correct it, or have the state tell everything anew with \
         `facetd run --new-incarnation`"
    )]
    TopicMadeAnew { topic: String, partition: i32, end: i64, published: i64 },
}

/// Compares the marks in the group's offsets with the state. None: there are no marks.
pub fn compare(own: &Own, group: &str, marks: &[Mark]) -> Result<Option<u64>, Disagreement> {
    let mut others = marks.iter().filter(|mark| mark.state_uuid != own.state_uuid);
    if let Some(other) = others.find(|mark| !may_displace(own.published, mark)) {
        let (group, found, own) = (group.to_string(), other.state_uuid.clone(), own.state_uuid.to_string());
        return Err(Disagreement::OtherState { group, found, own });
    }
    // Partitions that were assigned later may have an older mark.
    let ours = marks.iter().filter(|mark| mark.state_uuid == own.state_uuid);
    match ours.max_by_key(|mark| mark.sequence) {
        None => Ok(None),
        Some(mark) => check(own, mark).map(|()| Some(mark.sequence)),
    }
}

/// Whether another's mark is of those whose place a new incarnation takes, until it has told of itself for the first
/// time. Whoever has published since, as another one that was told to take the place, is none of them.
fn may_displace(published: &Published, mark: &Mark) -> bool {
    published.takes_over && (published.claims.is_empty() || published.claims.contains(&mark.claim))
}

/// Notes whose place a new incarnation takes, at its first claim: those, and nobody who comes later.
pub fn bind(published: &mut Published, state_uuid: &str, marks: &[Mark]) {
    if published.takes_over && published.claims.is_empty() {
        let others = marks.iter().filter(|mark| mark.state_uuid != state_uuid);
        published.claims.extend(others.map(|mark| mark.claim));
    }
}

/// Compares the last mark of this state in the topics, if there is one. Retention may have deleted what was published.
pub fn compare_with_topics(own: &Own, last: Option<&Mark>) -> Result<u64, Disagreement> {
    if let Some(mark) = last {
        check(own, mark)?;
    }
    Ok(last.map_or(0, |mark| mark.sequence).max(own.published.sequence))
}

fn check(own: &Own, mark: &Mark) -> Result<(), Disagreement> {
    let state_uuid = own.state_uuid.to_string();
    if mark.sequence > own.last {
        return Err(Disagreement::KafkaIsAhead { state_uuid, told: mark.sequence, last: own.last });
    }
    match own.published.claims.contains(&mark.claim) {
        true => Ok(()),
        false => Err(Disagreement::OtherCopy { state_uuid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Claim;

    const OURS: Claim = Claim(5);

    fn mark(state_uuid: &str, sequence: u64) -> Mark {
        Mark { state_uuid: state_uuid.to_string(), claim: OURS, sequence }
    }

    fn published() -> Published {
        Published { sequence: 3, claims: vec![Claim(4), OURS], ..Published::default() }
    }

    fn compared(marks: &[Mark]) -> Result<Option<u64>, Disagreement> {
        let published = published();
        compare(&Own { state_uuid: "ours", last: 9, published: &published }, "facetd", marks)
    }

    #[test]
    fn the_highest_mark_of_this_state_counts() {
        assert_eq!(compared(&[]), Ok(None));
        assert_eq!(compared(&[mark("ours", 4)]), Ok(Some(4)));
        assert_eq!(compared(&[mark("ours", 4), mark("ours", 9), mark("ours", 0)]), Ok(Some(9)));
    }

    #[test]
    fn kafka_ahead_and_other_states_are_refused_with_the_way_out() {
        let ahead = compared(&[mark("ours", 10)]).unwrap_err();
        assert!(matches!(ahead, Disagreement::KafkaIsAhead { told: 10, last: 9, .. }));
        let other = compared(&[mark("ours", 4), mark("theirs", 4)]).unwrap_err();
        assert!(matches!(&other, Disagreement::OtherState { found, .. } if found == "theirs"));
        let copy = compared(&[Mark { claim: Claim(6), ..mark("ours", 4) }]).unwrap_err();
        assert!(matches!(copy, Disagreement::OtherCopy { .. }));
        for error in [ahead, other, copy] {
            assert!(error.to_string().contains("--new-incarnation"), "{error}");
        }
    }

    #[test]
    fn a_new_incarnation_takes_the_place_of_those_it_found_and_of_nobody_else() {
        let mut published = Published { sequence: 3, takes_over: true, ..Published::default() };
        let before = [mark("before", 7), mark("before", 5)];
        let compared = |published: &Published, marks: &[Mark]| {
            compare(&Own { state_uuid: "ours", last: 9, published }, "facetd", marks)
        };
        assert_eq!(compared(&published, &before), Ok(None));
        bind(&mut published, "ours", &before);
        published.claims.push(Claim(8));
        assert_eq!(compared(&published, &before), Ok(None));
        let later = [Mark { claim: Claim(6), ..mark("later", 2) }, mark("before", 7)];
        assert!(matches!(compared(&published, &later), Err(Disagreement::OtherState { .. })));
        // Found again at a later start, they are not taken for those it found first.
        bind(&mut published, "ours", &later);
        assert!(matches!(compared(&published, &later), Err(Disagreement::OtherState { .. })));
    }

    #[test]
    fn without_marks_the_state_and_the_topics_know_together() {
        let published = published();
        let own = Own { state_uuid: "ours", last: 9, published: &published };
        assert_eq!(compare_with_topics(&own, None), Ok(3));
        assert_eq!(compare_with_topics(&own, Some(&mark("ours", 7))), Ok(7));
        let ahead = compare_with_topics(&own, Some(&mark("ours", 12)));
        assert!(matches!(ahead, Err(Disagreement::KafkaIsAhead { told: 12, .. })));
    }
}
