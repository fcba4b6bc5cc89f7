//! Promise: no bytes, wherever they come from, make facetd panic or take more memory than a stated bound.
//!
//! The same targets as fuzz/ has, on the stable compiler: bytes of any kind, and what is right but for a few changes,
//! which goes deeper. `CASES` says how many of them each target gets.

#[path = "common/counting.rs"]
mod counting;

use std::cell::Cell;
use std::collections::BTreeSet;

use counting::{Counting, most_taken};
use facetd::fuzzing::{MOST_PAYLOAD_BYTES, TARGETS, Target, target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CASES: u32 = 20_000;
/// How far a place in what is right may be moved, cut or filled at once.
const MOST_CHANGED: usize = 64;

/// What becomes of bytes that were right.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    Bit(Index, u8),
    /// A number at the end of what numbers hold, of so many bytes.
    Number(Index, u64, usize),
    CutOff(Index),
    CutOut(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        let end = |start: usize, length: usize| (start + length).min(bytes.len());
        match self {
            Change::Byte(index, byte) => {
                let start = place(index);
                bytes[start..].iter_mut().take(1).for_each(|found| *found = *byte);
            }
            Change::Bit(index, bit) => {
                let start = place(index);
                bytes[start..].iter_mut().take(1).for_each(|found| *found ^= 1 << (bit % 8));
            }
            Change::Number(index, number, width) => {
                let start = place(index);
                bytes[start..]
                    .iter_mut()
                    .zip(number.to_le_bytes())
                    .take(*width)
                    .for_each(|(found, byte)| *found = byte);
            }
            Change::CutOff(index) => bytes.truncate(place(index)),
            Change::CutOut(index, length) => {
                let start = place(index);
                bytes.drain(start..end(start, *length));
            }
            Change::Insert(index, inserted) => {
                let start = place(index);
                bytes.splice(start..start, inserted.iter().copied());
            }
            Change::Repeat(index, length, times) => {
                let start = place(index);
                let repeated = bytes[start..end(start, *length)].repeat(*times);
                bytes.splice(start..start, repeated);
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let ends = prop::sample::select(vec![0, 1, 0x7f, 0xff, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 62, u64::MAX]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        // Punctuation and digits, of which the texts here are made.
        (at(), prop::sample::select(b"{}[]().,:=+-\"'\\ \n\x0019#e".to_vec()))
            .prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, bit)| Change::Bit(at, bit)),
        (at(), ends, prop::sample::select(vec![2, 4, 8]))
            .prop_map(|(at, number, width)| Change::Number(at, number, width)),
        at().prop_map(Change::CutOff),
        (at(), 0..MOST_CHANGED).prop_map(|(at, length)| Change::CutOut(at, length)),
        (at(), prop::collection::vec(any::<u8>(), 1..MOST_CHANGED)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1..MOST_CHANGED, 1..MOST_CHANGED).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
    ]
}

fn inputs(target: &Target) -> impl Strategy<Value = Vec<u8>> {
    let changed = (prop::sample::select((target.seeds)()), prop::collection::vec(changes(), 0..6));
    let changed = changed.prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..300), 4 => changed]
}

fn check(target: &Target, bytes: &[u8]) {
    let (taken, bound) = (most_taken(|| (target.decode)(bytes)), target.bound.of(bytes.len()));
    assert!(
        taken <= bound,
        "{}: {} bytes took {taken} of memory, at most {bound} are allowed",
        target.name,
        bytes.len()
    );
}

fn takes_anything(name: &str) {
    let target = target(name);
    // What is made once and kept is not counted.
    (target.seeds)().iter().for_each(|seed| (target.decode)(seed));
    (target.seeds)().iter().for_each(|seed| check(target, seed));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let checked = Cell::new(0);
    let outcome = TestRunner::new(config).run(&inputs(target), |bytes| {
        checked.set(checked.get() + 1);
        check(target, &bytes);
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(checked.get(), CASES);
}

macro_rules! takes_anything {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            takes_anything(stringify!($name));
        })*

        #[test]
        fn every_target_is_run_here_and_in_fuzz() {
            let here: BTreeSet<&str> = [$(stringify!($name)),*].into();
            let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
            let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            let files: BTreeSet<String> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().into()).collect();
            assert_eq!(here, targets);
            assert_eq!(files.iter().map(String::as_str).collect::<BTreeSet<_>>(), targets);
        }
    };
}

takes_anything! {
    json protobuf raw record
    npy bin labels
    model_toml config
    vectors committed snapshot sled_record sled_key manifest
    mark control events
}

/// Whatever `limits.message_bytes` refuses costs a word on it, however long it is.
#[test]
fn a_payload_beyond_the_limit_takes_nothing() {
    for name in ["json", "protobuf", "raw"] {
        for payload in [vec![b'['; 16 * MOST_PAYLOAD_BYTES], vec![0x12; MOST_PAYLOAD_BYTES + 1]] {
            (target(name).decode)(&payload);
            let taken = most_taken(|| (target(name).decode)(&payload));
            assert!(taken < 1024, "{name}: {taken} bytes");
        }
    }
}

/// Of a payload as long as it may be, of the kind that takes most.
#[test]
fn a_payload_at_the_limit_takes_a_small_multiple() {
    let numbers = format!("{{\"embedding\":[{}1]}}", "1,".repeat(MOST_PAYLOAD_BYTES / 2 - 20));
    let text = format!("{{\"frame_id\":\"{}\",\"embedding\":[1]}}", "\\u0061".repeat(MOST_PAYLOAD_BYTES / 6 - 10));
    let values = b"\x15\x00\x00\x00\x3f".repeat(MOST_PAYLOAD_BYTES / 5);
    for (name, payload) in [("json", numbers.into_bytes()), ("json", text.into_bytes()), ("protobuf", values)] {
        assert!(payload.len() <= MOST_PAYLOAD_BYTES);
        check(target(name), &payload);
    }
}

/// The counter itself counts.
#[test]
fn what_is_taken_is_counted() {
    assert!(most_taken(|| drop(vec![1u8; 100_000])) >= 100_000);
    assert!(most_taken(|| (0..10).for_each(|_| drop(vec![1u8; 1000]))) < 2000);
}
