//! Promise: what was acknowledged survives the machine, not only the process. Whatever of the writes that no
//! sync followed is on disk, in whatever part and order, the state opens, holds every commit that was
//! acknowledged, of a later one all or nothing, and the outbox is gapless.

mod common;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use common::bare_shard::{self, Driven, People, Topic};
use common::chance::Chance;
use common::lost_writes::{Disk, Happening, record};
use facetd::store::{Contents, Model, Published, Store};

/// Moments at which the machine dies while a history begins with an empty folder.
const PREFIXES: usize = 420;
/// States that a machine left when it died, from which a history goes on.
const SECOND_LIVES: usize = 8;
/// Moments at which it dies again, of each.
const SECOND_PREFIXES: usize = 20;
const SETTINGS: &str = "[engine]\nbatch_faces = 64\n";
/// For the process of the history: where the state is, and the seed.
const HISTORY: &str = "HISTORY";

#[test]
fn acknowledged_commits_survive_the_machine() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut chance = Chance::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let first = Recorded::new(folder.path(), seed);
    let syncs = |happening: &&Happening| matches!(happening, Happening::Synced { .. } | Happening::SyncedFolder { .. });
    println!("{} calls, {} of them syncs", first.happenings.len(), first.happenings.iter().filter(syncs).count());
    let mut tally = Tally::default();

    let left = first.dies(PREFIXES, &mut chance, &mut tally);
    let mut deaths = PREFIXES;
    for life in 0..SECOND_LIVES {
        let again = chance.one_of(&left).path();
        let second = Recorded::new(again, seed + 1 + life as u64);
        second.dies(SECOND_PREFIXES, &mut chance, &mut tally);
        deaths += SECOND_PREFIXES;
    }
    println!("{deaths} deaths: {tally:?}");
    assert!(deaths >= 500 && tally.later > 0 && tally.just_acknowledged > deaths / 4, "{tally:?}");
}

/// What the deaths found, so that it is seen whether they were worth anything.
#[derive(Debug, Default)]
struct Tally {
    /// The last commit that was acknowledged was the last there was.
    just_acknowledged: usize,
    /// One after it was there too, whole.
    later: usize,
}

/// A history in a process of its own, and what it told.
struct Recorded {
    /// As the folder was before.
    before: Disk,
    happenings: Vec<Happening>,
    told: Told,
}

/// What a process tells on its way; the last value that was told before a moment counts at it.
#[derive(Default)]
struct Told {
    /// What the state holds after each commit that was acknowledged.
    commits: BTreeMap<u64, State>,
    /// What each entry of the outbox is.
    entries: BTreeMap<u64, u64>,
}

/// What a state holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    contents: u64,
    /// Sequence of the last entry of the outbox.
    outbox: u64,
}

/// How far a process had come.
#[derive(Clone, Copy)]
struct Progress {
    acknowledged: u64,
    /// Entries up to this one may be gone from the outbox.
    published: u64,
}

impl Recorded {
    fn new(folder: &Path, seed: u64) -> Recorded {
        let before = Disk::of(folder);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "a_history", "--nocapture"]);
        child.env(HISTORY, format!("{} {seed}", folder.join("state").display()));
        let happenings = record(&mut child, folder);
        let ranges = happenings.iter().any(|happening| matches!(happening, Happening::SyncedRange { .. }));
        assert!(!ranges, "a sync of a range makes no length durable");
        let mut told = Told::default();
        happenings.iter().for_each(|happening| told.hear(happening));
        Recorded { before, happenings, told }
    }

    /// Lets the machine die at so many moments; the folders that are left.
    fn dies(self, times: usize, chance: &mut Chance, tally: &mut Tally) -> Vec<tempfile::TempDir> {
        let mut moments: Vec<usize> = (0..times).map(|_| chance.below(self.happenings.len() + 1)).collect();
        moments.sort_unstable();
        // What it began with was on disk.
        let acknowledged = self.told.commits.keys().next().copied().unwrap_or(0);
        let published = self.told.entries.keys().next().map_or(0, |first| first - 1);
        let (mut disk, mut progress, mut at) = (self.before, Progress { acknowledged, published }, 0);
        let mut left = Vec::new();
        for moment in moments {
            for happening in &self.happenings[at..moment] {
                disk.follow(happening);
                progress.hear(happening);
            }
            at = moment;
            let folder = tempfile::tempdir().unwrap();
            disk.crash(chance, folder.path());
            self.told.check(progress, &folder.path().join("state"), tally, moment);
            left.push(folder);
        }
        left
    }
}

impl Told {
    fn hear(&mut self, happening: &Happening) {
        for words in lines(happening) {
            match words[..] {
                ["committed", commit, contents, outbox] => {
                    self.commits.insert(number(commit), State { contents: number(contents), outbox: number(outbox) });
                }
                ["entry", sequence, entry] => drop(self.entries.insert(number(sequence), number(entry))),
                _ => {}
            }
        }
    }

    /// Opens what a death left.
    fn check(&self, progress: Progress, state: &Path, tally: &mut Tally, moment: usize) {
        let opened = Store::open(state, &model());
        let store = opened.unwrap_or_else(|error| panic!("it does not open after call {moment}: {error}"));
        let found = store.commit_sequence();
        let Progress { acknowledged, published } = progress;
        assert!(found >= acknowledged, "commit {acknowledged} was acknowledged, it ends with {found}; call {moment}");
        // Compactions commit too, and change nothing that is seen: they tell nothing.
        let next = self.commits.range(acknowledged + 1..).next().map_or(acknowledged, |(next, _)| *next);
        assert!(found <= next.max(acknowledged), "it ends with commit {found}, after {acknowledged}; call {moment}");
        let expected = self.commits.range(..=found).next_back().map(|(_, state)| *state);
        let expected = expected.unwrap_or(State { contents: digest(&Contents::default()), outbox: 0 });
        assert_eq!(state_of(&store), expected, "commit {found}, acknowledged {acknowledged}, call {moment}");
        tally.just_acknowledged += usize::from(found == acknowledged);
        tally.later += usize::from(found > acknowledged);

        let pending = store.outbox().pending(0, usize::MAX).unwrap();
        let sequences: Vec<u64> = pending.iter().map(|pending| pending.sequence).collect();
        let first = sequences.first().copied().unwrap_or(expected.outbox + 1);
        let about = format!("entries {sequences:?} of commit {found}, published to {published}; call {moment}");
        assert!(first <= published + 1, "entries are gone that were not published: {about}");
        assert!(sequences.iter().copied().eq(first..=expected.outbox), "the outbox has gaps: {about}");
        for pending in pending {
            assert_eq!(Some(&digest(&pending.entry)), self.entries.get(&pending.sequence), "call {moment}");
        }
    }
}

impl Progress {
    fn hear(&mut self, happening: &Happening) {
        for words in lines(happening) {
            match words[..] {
                ["committed", commit, ..] => self.acknowledged = number(commit),
                ["publishing", last] => self.published = number(last),
                _ => {}
            }
        }
    }
}

fn lines(happening: &Happening) -> impl Iterator<Item = Vec<&str>> {
    let text = if let Happening::Printed { text } = happening { text.as_str() } else { "" };
    text.lines().map(|line| line.split(' ').collect())
}

fn number(word: &str) -> u64 {
    word.parse().unwrap()
}

fn model() -> Model {
    bare_shard::settings(SETTINGS).model
}

fn state_of(store: &Store) -> State {
    State { contents: digest(&store.contents().unwrap()), outbox: store.outbox().durable().sequence }
}

fn digest(of: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    hasher.finish()
}

/// The process of a history: faces of a few people into three collections, some again, some erased, the
/// outbox emptied now and then, the state closed, opened and compacted.
#[test]
#[ignore = "run by the other test, in a process that is recorded"]
fn a_history() {
    let Ok(order) = std::env::var(HISTORY) else { return };
    let (state, seed) = order.rsplit_once(' ').unwrap();
    let (state, mut history) = (Path::new(state), History::new(number(seed)));
    for round in 0..4 {
        let mut driven = bare_shard::open(state, bare_shard::settings(SETTINGS));
        tell(&driven);
        history.goes_on(&mut driven);
        drop(driven);
        if round % 2 == 1 {
            Store::open_existing(state).unwrap().compact_all(&mut |_| ()).unwrap();
        }
    }
    tell(&bare_shard::open(state, bare_shard::settings(SETTINGS)));
}

struct History {
    chance: Chance,
    people: People,
    topic: Topic,
}

impl History {
    fn new(seed: u64) -> History {
        History { chance: Chance::new(seed), people: People::new(seed), topic: Topic::default() }
    }

    fn goes_on(&mut self, driven: &mut Driven) {
        // Some write more than a segment of sled's log, 512 KB, which is more than one sync.
        let flood = self.chance.below(8);
        for batch in 0..8 {
            let records = if batch == flood { 600 } else { 1 + self.chance.below(24) };
            let batch = (0..records).map(|_| self.record()).collect();
            driven.apply(batch, 1);
            tell(driven);
            while self.chance.happens(0.5) && driven.shard.idle(facetd::face::Timestamp(1)).unwrap() {
                tell(driven);
            }
            if self.chance.happens(0.3) {
                let outbox = driven.shard.outbox();
                let pending = outbox.pending(0, 1 + self.chance.below(60)).unwrap();
                if let Some(last) = pending.last() {
                    println!("publishing {}", last.sequence);
                    outbox.acknowledge(&Published::up_to(last.sequence)).unwrap();
                }
            }
        }
    }

    fn record(&mut self) -> facetd::source::Intake {
        let collection = *self.chance.one_of(&["lobby", "gate", "yard"]);
        let number = self.chance.below(400);
        let id = format!("face-{number}-{:0200}", 0);
        if self.chance.happens(0.15) {
            return self.topic.erase(collection, &id);
        }
        let values = self.people.face_of(number as u64 % 6);
        self.topic.face(collection, &id, &values)
    }
}

/// Entries first: one that is there without a word of it would be a surprise.
fn tell(driven: &Driven) {
    let store = driven.shard.store();
    let mut text = String::new();
    for pending in store.outbox().pending(0, usize::MAX).unwrap() {
        text += &format!("entry {} {}\n", pending.sequence, digest(&pending.entry));
    }
    let State { contents, outbox } = state_of(store);
    println!("{text}committed {} {contents} {outbox}", store.commit_sequence());
    std::io::Write::flush(&mut std::io::stdout()).unwrap();
}
