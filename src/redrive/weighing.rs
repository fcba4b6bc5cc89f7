//! Which records of a partition are worth sending again, found out in one look at it from the first of
//! them to its end.
//!
//! A record is sent behind all that was sent since, so it must not undo any of it: where the same face
//! of the same collection has a later record, that one counts, be it another embedding, an erase, or the copy
//! that an earlier redrive sent. A later record that was rejected itself changed nothing and does not count, with
//! two exceptions: the very same record again, of which the last is enough; and an erase, which somebody asked for.
//!
//! So sending again is harmless: a second run finds the copies of the first, and needs no memory of its own.
//! Cost: O(records of the partition), memory for the letters alone.

use std::collections::{BTreeMap, HashMap};

use super::letters::Letter;
use crate::face::{CollectionName, Offset};
use crate::rejection::Reason;

/// What is to become of a dead letter's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// A later record of the same face counts.
    Later,
    /// Kafka does not have it any more.
    Gone,
    /// Another record stands in its place.
    Other,
}

/// SHA-256 of a record's payload and headers: tells a copy from another record of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

/// What a closer look at a record shows; taken only where its key matters.
#[derive(Debug, Clone)]
pub struct Closer {
    pub payload_sha256: [u8; 32],
    pub content: ContentHash,
    /// None: the record does not tell.
    pub collection: Option<CollectionName>,
}

/// A record that is read.
pub struct Seen<'a> {
    pub offset: Offset,
    pub key: &'a [u8],
    pub closer: &'a dyn Fn() -> Closer,
}

/// A record to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    pub reason: Reason,
    pub content: ContentHash,
}

/// A record to be sent, unless a later one counts.
#[derive(Debug)]
struct Candidate {
    offset: Offset,
    content: ContentHash,
    collection: Option<CollectionName>,
}

/// One partition.
#[derive(Debug)]
pub struct Weighing {
    letters: BTreeMap<Offset, Letter>,
    candidates: HashMap<Vec<u8>, Vec<Candidate>>,
    verdicts: BTreeMap<Offset, Verdict>,
}

impl Weighing {
    pub fn new(letters: BTreeMap<Offset, Letter>) -> Weighing {
        Weighing { letters, candidates: HashMap::new(), verdicts: BTreeMap::new() }
    }

    /// Takes the records in order, from the first that is wanted.
    pub fn look(&mut self, Seen { offset, key, closer }: Seen) {
        let of_this = self.letters.get(&offset);
        if of_this.is_none() && !self.candidates.contains_key(key) {
            return;
        }
        let Closer { payload_sha256, content, collection } = closer();
        // A letter may be about a record of a topic that was made anew since.
        let letter = of_this.filter(|letter| letter.key == key && letter.payload_sha256 == payload_sha256);
        if of_this.is_some_and(|letter| letter.taken) && letter.is_none() {
            self.verdicts.insert(offset, Verdict::Other);
        }
        let changed_nothing = key.is_empty() || letter.is_some_and(|letter| letter.reason != Reason::UnknownFace);
        if let Some(candidates) = self.candidates.get_mut(key) {
            candidates.retain(|candidate| {
                let is_of_another = matches!((&candidate.collection, &collection), (Some(a), Some(b)) if a != b);
                let stays = is_of_another || (changed_nothing && candidate.content != content);
                if !stays {
                    self.verdicts.insert(candidate.offset, Verdict::Later);
                }
                stays
            });
        }
        if letter.is_some_and(|letter| letter.taken) {
            self.candidates.entry(key.to_vec()).or_default().push(Candidate { offset, content, collection });
        }
    }

    /// What is to be sent, as far as was looked.
    pub fn chosen(&self) -> BTreeMap<Offset, Chosen> {
        let chosen = |candidate: &Candidate| {
            let reason = self.letters[&candidate.offset].reason;
            (candidate.offset, Chosen { reason, content: candidate.content })
        };
        self.candidates.values().flatten().map(chosen).collect()
    }

    /// The verdict on every letter that is wanted, as far as was looked.
    pub fn verdicts(&self) -> impl Iterator<Item = (Offset, Reason, Verdict)> {
        let chosen = self.chosen();
        let wanted = self.letters.iter().filter(|(_, letter)| letter.taken);
        wanted.map(move |(offset, letter)| {
            let verdict = if chosen.contains_key(offset) { Some(Verdict::Send) } else { None };
            let verdict = verdict.or_else(|| self.verdicts.get(offset).copied()).unwrap_or(Verdict::Gone);
            (*offset, letter.reason, verdict)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Option<(Reason, bool)> = Some((Reason::CollectionLimit, true));
    const APPLIED: Option<(Reason, bool)> = None;

    /// A record of key "a", or of another: its payload, its collection, and the letter about it.
    #[derive(Debug, Clone)]
    struct Record {
        key: &'static str,
        payload: u8,
        collection: Option<&'static str>,
        letter: Option<(Reason, bool)>,
    }

    fn of(payload: u8, letter: Option<(Reason, bool)>) -> Record {
        Record { key: "a", payload, collection: Some("default"), letter }
    }

    fn weigh(records: &[Record]) -> Vec<(i64, Verdict)> {
        let letter = |(offset, record): (usize, &Record)| {
            let (reason, taken) = record.letter?;
            let key = record.key.as_bytes().to_vec();
            Some((Offset(offset as i64), Letter { reason, key, payload_sha256: [record.payload; 32], taken }))
        };
        let letters: BTreeMap<Offset, Letter> = records.iter().enumerate().filter_map(letter).collect();
        look(letters, records)
    }

    fn look(letters: BTreeMap<Offset, Letter>, records: &[Record]) -> Vec<(i64, Verdict)> {
        let mut weighing = Weighing::new(letters);
        for (offset, record) in records.iter().enumerate() {
            let closer = || Closer {
                payload_sha256: [record.payload; 32],
                content: ContentHash([record.payload; 32]),
                collection: record.collection.map(|name| CollectionName::new(name).unwrap()),
            };
            weighing.look(Seen { offset: Offset(offset as i64), key: record.key.as_bytes(), closer: &closer });
        }
        weighing.verdicts().map(|(offset, _, verdict)| (offset.0, verdict)).collect()
    }

    #[test]
    fn a_record_with_none_behind_it_is_sent() {
        let other = Record { key: "b", ..of(2, APPLIED) };
        assert_eq!(weigh(&[of(1, LIMIT), other]), [(0, Verdict::Send)]);
    }

    #[test]
    fn what_was_applied_since_is_not_undone() {
        assert_eq!(weigh(&[of(1, LIMIT), of(2, APPLIED)]), [(0, Verdict::Later)]);
        // Not even by an erase that nobody could apply then.
        let erase = of(0, Some((Reason::UnknownFace, true)));
        assert_eq!(weigh(&[erase, of(2, APPLIED)]), [(0, Verdict::Later)]);
    }

    #[test]
    fn an_erase_counts_though_it_was_rejected() {
        let erase = |taken| of(0, Some((Reason::UnknownFace, taken)));
        assert_eq!(weigh(&[of(1, LIMIT), erase(false)]), [(0, Verdict::Later)]);
        assert_eq!(weigh(&[of(1, LIMIT), erase(true)]), [(0, Verdict::Later), (1, Verdict::Send)]);
        assert_eq!(weigh(&[of(1, LIMIT), erase(false), of(2, LIMIT)]), [(0, Verdict::Later), (2, Verdict::Send)]);
    }

    #[test]
    fn of_one_record_rejected_again_and_again_the_last_is_sent() {
        assert_eq!(weigh(&[of(1, LIMIT), of(1, LIMIT)]), [(0, Verdict::Later), (1, Verdict::Send)]);
        // The last rejection is for a reason that is not wanted.
        let malformed = Some((Reason::Malformed, false));
        assert_eq!(weigh(&[of(1, LIMIT), of(1, malformed)]), [(0, Verdict::Later)]);
        // A, B, A: what comes out at the end is A.
        let verdicts = [(0, Verdict::Later), (1, Verdict::Send), (2, Verdict::Send)];
        assert_eq!(weigh(&[of(1, LIMIT), of(2, LIMIT), of(1, LIMIT)]), verdicts);
    }

    #[test]
    fn another_record_that_was_rejected_does_not_count() {
        let malformed = Some((Reason::Malformed, false));
        assert_eq!(weigh(&[of(1, LIMIT), of(2, malformed)]), [(0, Verdict::Send)]);
    }

    #[test]
    fn a_face_of_another_collection_is_another_face() {
        let elsewhere = |collection| Record { collection, ..of(2, APPLIED) };
        assert_eq!(weigh(&[of(1, LIMIT), elsewhere(Some("lobby"))]), [(0, Verdict::Send)]);
        assert_eq!(weigh(&[of(1, LIMIT), elsewhere(None)]), [(0, Verdict::Later)]);
    }

    #[test]
    fn records_without_a_key_are_of_no_one_face() {
        let keyless = |payload, letter| Record { key: "", ..of(payload, letter) };
        let empty = Some((Reason::EmptyKey, true));
        assert_eq!(weigh(&[keyless(1, empty), keyless(2, None)]), [(0, Verdict::Send)]);
        assert_eq!(weigh(&[keyless(1, empty), keyless(1, None)]), [(0, Verdict::Later)]);
    }

    #[test]
    fn what_is_gone_and_what_is_another_record_is_told() {
        let letter = |key: &str, payload| {
            let (reason, key) = (Reason::Suppressed, key.as_bytes().to_vec());
            Letter { reason, key, payload_sha256: [payload; 32], taken: true }
        };
        let letters =
            BTreeMap::from([(Offset(0), letter("a", 9)), (Offset(1), letter("z", 2)), (Offset(7), letter("a", 1))]);
        let verdicts = [(0, Verdict::Other), (1, Verdict::Other), (7, Verdict::Gone)];
        assert_eq!(look(letters, &[of(1, None), of(2, None)]), verdicts);
    }

    fn record() -> impl Strategy<Value = Record> {
        let rejected = |reason, taken| Just(Some((reason, taken)));
        let letter = prop_oneof![
            3 => Just(APPLIED),
            4 => Just(LIMIT),
            1 => rejected(Reason::Malformed, false),
            1 => any::<bool>().prop_map(|taken| Some((Reason::UnknownFace, taken))),
        ];
        let collection = prop::sample::select(vec![Some("default"), Some("lobby"), None]);
        (prop::sample::select(vec!["a", "b", ""]), 0..4u8, collection, letter)
            .prop_map(|(key, payload, collection, letter)| Record { key, payload, collection, letter })
    }

    proptest! {
        #[test]
        fn nothing_is_undone_and_a_second_run_sends_nothing(records in prop::collection::vec(record(), 0..24)) {
            let verdicts = weigh(&records);
            let taken = records.iter().filter(|record| matches!(record.letter, Some((_, true)))).count();
            prop_assert_eq!(verdicts.len(), taken, "a letter has another number of verdicts than one");
            let mut after = records.clone();
            for (offset, verdict) in verdicts {
                let sent = &records[offset as usize];
                if verdict == Verdict::Send {
                    let of_the_same = |later: &&Record| later.key == sent.key && later.collection == sent.collection;
                    let behind: Vec<&Record> = records[offset as usize + 1..].iter().filter(of_the_same).collect();
                    prop_assert!(behind.iter().all(|later| later.payload != sent.payload), "it is sent twice");
                    let applied = behind.iter().any(|later| later.letter.is_none());
                    prop_assert!(sent.key.is_empty() || !applied, "what was applied is undone");
                    after.push(Record { letter: APPLIED, ..sent.clone() });
                } else {
                    prop_assert_eq!(verdict, Verdict::Later);
                }
            }
            prop_assert!(weigh(&after).iter().all(|(_, verdict)| *verdict == Verdict::Later));
        }
    }
}
