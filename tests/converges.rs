//! Promise: whatever the stream was, once settled the clusters are those of batch Face Transformer on the
//! faces that are left, identical with the exact index, under both merging rules.
//!
//! Streams are random: arrivals, replacements, repetitions, erasures by record, by an operator, of a person
//! and of everyone, faces allowed back, must-links and cannot-links given and taken back, frames, qualities,
//! retention, batch sizes, refresh budgets, component limits, quiet moments and restarts. The oracle is Python
//! that shares no code with the engine; it is told only which faces and words are left, by a ledger kept here.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use common::chance::Chance;
use common::faces::light_python;
use common::shard::{DrivenShard, expired};
use common::{output_of, project};
use facetd::config::{Config, Index};
use facetd::daemon::LoadedModel;
use facetd::engine::changes::{Constraint, ConstraintKind, Outcome, Request};
use facetd::engine::event::{Cause, Event, EventType};
use facetd::face::{Embedding, Face, FaceId, Offset, Partition, Place, Timestamp};
use facetd::model::artefact::{Merging, Rule};
use facetd::model::onnx::RunOptions;
use facetd::model::{Artefact, Device, OnnxModel, Runtime, Stage};
use facetd::source::Intake;
use serde::Deserialize;
use serde_json::{Value, json};

/// The paper's form of LP, and one that reads every edge feature.
const MODELS: [&str; 2] = ["model", "model-edges"];
/// Streams with each model, half of them under each rule. CASES in the environment asks for more, FIRST for others.
const CASES: u64 = 120;
const DIMENSION: usize = 16;

#[test]
fn a_settled_stream_is_the_batch() {
    let runtime = Runtime::load(None).unwrap();
    for name in MODELS {
        println!("{name}:");
        streams_settle_like_the_batch(&project().join("tests/fixtures").join(name), &runtime);
    }
}

fn streams_settle_like_the_batch(folder: &Path, runtime: &Runtime) {
    let number = |name, or| std::env::var(name).map_or(or, |text: String| text.parse().expect("a number"));
    let (first, cases) = (number("FIRST", 1), number("CASES", CASES));
    let artefact = Artefact::open(folder, Stage::ReLp).unwrap();
    let options = RunOptions { device: Device::Cpu, threads: 1 };
    let model = Arc::new(OnnxModel::load(runtime, &artefact, options).unwrap());
    let model = LoadedModel { artefact, model };
    let settled: Vec<Settled> = (first..first + cases).map(|seed| Stream::new(seed, &model).run()).collect();
    let answers = ask_the_oracle(folder, &settled);

    let mut told = Told::default();
    let mut wrong = Vec::new();
    for (settled, answer) in settled.iter().zip(&answers) {
        told.count(settled, answer);
        if partition_of(&settled.faces, answer) != settled.clusters {
            wrong.push(settled);
        }
    }
    println!("{told}");
    for settled in &wrong {
        println!("seed {} ({}): not the clusters of the batch", settled.seed, settled.about);
    }
    assert!(
        wrong.is_empty(),
        "{} of {cases} streams did not converge, the first has seed {}",
        wrong.len(),
        wrong[0].seed
    );
    told.assert_it_proves_something();
}

/// Faces together, whatever their clusters are called.
type Partitioned = BTreeSet<BTreeSet<FaceId>>;

fn partition_of(faces: &[FaceId], labels: &[usize]) -> Partitioned {
    let mut clusters: BTreeMap<usize, BTreeSet<FaceId>> = BTreeMap::new();
    for (face, &label) in faces.iter().zip(labels) {
        clusters.entry(label).or_default().insert(face.clone());
    }
    clusters.into_values().collect()
}

/// A stream at its end.
struct Settled {
    seed: u64,
    about: String,
    /// What the oracle is asked.
    case: Value,
    /// In the order of the case.
    faces: Vec<FaceId>,
    clusters: Partitioned,
    /// What they were before it had settled.
    before: Partitioned,
    events: BTreeMap<EventType, usize>,
    restarted: bool,
    expired: usize,
}

fn ask_the_oracle(model: &Path, settled: &[Settled]) -> Vec<Vec<usize>> {
    #[derive(Deserialize)]
    struct Answer {
        labels: Vec<usize>,
    }
    let folder = tempfile::tempdir().unwrap();
    let (cases, answers) = (folder.path().join("cases.jsonl"), folder.path().join("answers.jsonl"));
    let lines: Vec<String> = settled.iter().map(|settled| settled.case.to_string()).collect();
    std::fs::write(&cases, lines.join("\n")).unwrap();
    let mut oracle = light_python();
    oracle.arg(project().join("tests/python/oracle.py")).arg("--cases").arg(&cases);
    oracle.arg("--model").arg(model).arg("--answers").arg(&answers);
    output_of(&mut oracle);
    let text = std::fs::read_to_string(&answers).unwrap();
    let answers: Vec<Answer> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), settled.len());
    answers.into_iter().map(|answer| answer.labels).collect()
}

/// What a face is that the stream has brought.
#[derive(Clone)]
struct Brought {
    values: Vec<f32>,
    frame: Option<FaceId>,
    quality: Option<f32>,
}

/// Which faces and words are left: what the stream said, put down without the engine's help. Only who
/// expired is taken from the events; that it is the right ones is another promise.
#[derive(Default)]
struct Ledger {
    faces: BTreeMap<FaceId, Brought>,
    suppressed: BTreeSet<FaceId>,
    words: BTreeMap<(FaceId, FaceId), ConstraintKind>,
    expired: usize,
}

impl Ledger {
    fn bring(&mut self, id: &FaceId, face: Brought) {
        let known = self.faces.get(id).is_some_and(|known| known.values == face.values);
        if !known && !self.suppressed.contains(id) {
            self.faces.insert(id.clone(), face);
        }
    }

    fn erase(&mut self, id: &FaceId) {
        if self.faces.contains_key(id) {
            self.suppressed.insert(id.clone());
            self.lose(id);
        }
    }

    fn lose(&mut self, id: &FaceId) {
        self.faces.remove(id);
        self.words.retain(|(a, b), _| a != id && b != id);
    }

    fn expire(&mut self, events: &[Event]) {
        for id in expired(events) {
            assert!(self.faces.contains_key(&id), "{id} expired twice, or before it came");
            self.lose(&id);
            self.expired += 1;
        }
    }
}

/// What a request of a batch asks.
enum Asked {
    Bring(FaceId, Brought),
    Erase(FaceId),
}

/// A random stream and the shard it goes through.
struct Stream {
    seed: u64,
    chance: Chance,
    shard: DrivenShard,
    ledger: Ledger,
    merging: Merging,
    quality_floor: f32,
    /// Every face_id it may use; their order is not that of arrival.
    ids: Vec<FaceId>,
    people: Vec<Vec<f64>>,
    spread: f64,
    /// Faces of a batch at most.
    batch: usize,
    /// Frames there are, none: no face says which it is of.
    frames: usize,
    /// Whether an id occurs once a batch at most. Under retention, what a batch means for an id that also expires in it
    /// is more than the ledger is to know.
    ids_once: bool,
    max_faces: usize,
    about: String,
}

impl Stream {
    fn new(seed: u64, model: &LoadedModel) -> Stream {
        let mut chance = Chance::new(seed);
        let merging = match seed % 2 {
            0 => single(&mut chance),
            _ => evidence(&mut chance),
        };
        let faces = 5 + (196.0 * chance.uniform().powi(2)) as usize;
        let mut config = Config::parse("", std::iter::empty()).unwrap();
        config.engine.index = *chance.one_of(&[Index::Exact, Index::Hnsw]); // small: both compare with everyone
        config.engine.refresh_per_face = *chance.one_of(&[0, 1, 4]);
        config.engine.max_component = *chance.one_of(&[2, 12, 4096]);
        config.collections.quality_floor = *chance.one_of(&[0.0, 0.4]);
        if chance.happens(0.3) {
            config.collections.max_faces = faces * 2 / 3 + 1;
        }
        let (quality_floor, max_faces) = (config.collections.quality_floor, config.collections.max_faces);
        let about = format!(
            "{merging:?}, {faces} faces, {} refreshed for each, max_component {}, quality_floor {quality_floor}, max_faces {max_faces}",
            config.engine.refresh_per_face, config.engine.max_component
        );
        let artefact = facetd::model::Artefact { merging, ..model.artefact.clone() };
        let shard = DrivenShard::open(config, &artefact, model.model.clone());
        let people = 1 + faces / *chance.one_of(&[3, 6, 12]);
        let direction = |chance: &mut Chance| (0..DIMENSION).map(|_| chance.normal()).collect();
        Stream {
            seed,
            shard,
            ledger: Ledger::default(),
            merging,
            quality_floor,
            ids: (0..faces).map(|n| FaceId::new(&format!("{:03}-{n}", chance.below(1000))).unwrap()).collect(),
            people: (0..people).map(|_| direction(&mut chance)).collect(),
            spread: *chance.one_of(&[0.3, 0.6, 0.9]),
            batch: *chance.one_of(&[1, 4, 16, 64]),
            frames: if chance.happens(0.5) { faces / 2 } else { 0 },
            ids_once: max_faces > 0,
            max_faces,
            chance,
            about,
        }
    }

    fn run(mut self) -> Settled {
        let mut left = self.ids.len() * 3 / 2;
        let mut restarted = false;
        while left > 0 {
            match self.chance.below(100) {
                0..60 => left -= self.a_batch().min(left),
                60..80 => self.a_word(),
                80..86 => self.an_erasure(),
                86..90 => self.an_allowance(),
                90..93 if !restarted => {
                    self.shard.restart();
                    restarted = true;
                }
                _ => {
                    let events = self.shard.idle().unwrap_or_default();
                    self.ledger.expire(&events);
                }
            }
        }
        let before = self.partition();
        let events = self.shard.settle();
        self.ledger.expire(&events);
        self.settled(before, restarted)
    }

    fn a_batch(&mut self) -> usize {
        let size = 1 + self.chance.below(self.batch);
        let mut named = BTreeSet::new();
        let mut asked: Vec<Asked> = Vec::new();
        for _ in 0..size {
            let id = self.chance.one_of(&self.ids).clone();
            if self.ids_once && !named.insert(id.clone()) {
                continue;
            }
            asked.push(match self.chance.below(12) {
                0 => Asked::Erase(id),
                1 => match self.ledger.faces.get(&id).cloned() {
                    Some(again) => Asked::Bring(id, again),
                    None => continue,
                },
                _ => Asked::Bring(id, self.face()),
            });
        }
        let records = asked.iter().map(|asked| self.record(asked)).collect();
        let events = self.shard.apply(records);
        self.ledger.expire(&events);
        for asked in asked {
            match asked {
                Asked::Bring(id, face) => self.ledger.bring(&id, face),
                Asked::Erase(id) => self.ledger.erase(&id),
            }
        }
        size
    }

    fn face(&mut self) -> Brought {
        let person = self.chance.one_of(&self.people).clone();
        let values = person.iter().map(|value| (value + self.spread * self.chance.normal()) as f32).collect();
        let frame = (self.frames > 0 && self.chance.happens(0.6))
            .then(|| FaceId::new(&format!("frame {}", self.chance.below(self.frames))).unwrap());
        let quality = self.chance.happens(0.8).then(|| self.chance.uniform() as f32);
        Brought { values, frame, quality }
    }

    fn record(&mut self, asked: &Asked) -> Intake {
        match asked {
            Asked::Bring(id, Brought { values, frame, quality }) => {
                let now = self.shard.now().0;
                // As out of order as it may come, and without at times.
                let captured_at =
                    self.chance.happens(0.7).then(|| Timestamp(self.chance.below(now as usize + 9000) as i64));
                self.shard.arrival(Face {
                    id: id.clone(),
                    embedding: Embedding::normalise(values, DIMENSION).unwrap(),
                    frame_id: frame.clone(),
                    quality: *quality,
                    captured_at,
                    place: Place { partition: Partition(0), offset: Offset(0) },
                })
            }
            Asked::Erase(id) => self.shard.erasure(id.clone()),
        }
    }

    /// An operator has two faces together or apart, or takes that back.
    fn a_word(&mut self) {
        if self.chance.happens(0.25) {
            let Some((a, b)) = self.ledger.words.keys().next().cloned() else { return };
            let outcome = self.operate(Request::Release { a: a.clone(), b: b.clone() });
            assert_eq!(self.ledger.words.remove(&(a, b)).is_some(), outcome == Outcome::Done);
            return;
        }
        let (a, b) = (self.chance.one_of(&self.ids).clone(), self.chance.one_of(&self.ids).clone());
        let pair = (a.clone().min(b.clone()), a.clone().max(b.clone()));
        let kind = *self.chance.one_of(&[ConstraintKind::MustLink, ConstraintKind::CannotLink]);
        let word = Constraint { kind, a, b, by: "converges".to_string(), at: self.shard.now() };
        match self.operate(Request::Constrain(word)) {
            Outcome::Done => {
                let both = self.ledger.faces.contains_key(&pair.0) && self.ledger.faces.contains_key(&pair.1);
                assert!(both && pair.0 != pair.1, "a word that means nothing was taken");
                self.ledger.words.insert(pair, kind);
            }
            Outcome::Duplicate => assert_eq!(self.ledger.words.get(&pair), Some(&kind)),
            Outcome::Rejected(_) => {}
            outcome => panic!("{outcome:?}"),
        }
    }

    /// Who is too many goes before anything is done.
    fn operate(&mut self, request: Request) -> Outcome {
        let answer = self.shard.operate(request);
        self.ledger.expire(&answer.events);
        answer.outcome
    }

    /// An operator erases a face, a person, or, seldom, everyone.
    fn an_erasure(&mut self) {
        let Some(id) = self.ledger.faces.keys().nth(self.chance.below(self.ledger.faces.len().max(1))).cloned() else {
            return;
        };
        let (request, gone) = match self.chance.below(20) {
            0 => (Request::EraseCollection, self.ledger.faces.keys().cloned().collect()),
            1..8 => {
                let clusters = self.shard.clusters();
                let (&cluster, faces) = clusters.iter().find(|(_, faces)| faces.contains(&id)).unwrap();
                (Request::EraseCluster { cluster }, faces.iter().cloned().collect())
            }
            _ => (Request::Erase { face: id.clone(), cause: Cause::Api }, vec![id]),
        };
        let outcome = self.operate(request);
        // What is too many goes first, and may be what was to be erased.
        assert!(self.max_faces > 0 || outcome == Outcome::Erased(gone.len()), "{outcome:?}, not {}", gone.len());
        gone.iter().for_each(|id| self.ledger.erase(id));
    }

    fn an_allowance(&mut self) {
        if let Some(id) = self.ledger.suppressed.pop_first() {
            self.shard.allow(id);
        }
    }

    fn partition(&self) -> Partitioned {
        self.shard.clusters().into_values().collect()
    }

    fn settled(self, before: Partitioned, restarted: bool) -> Settled {
        let clusters = self.partition();
        let Stream { seed, shard, ledger, merging, quality_floor, about, max_faces, .. } = self;
        let there: BTreeSet<&FaceId> = clusters.iter().flatten().collect();
        assert_eq!(there, ledger.faces.keys().collect(), "seed {seed}: other faces are left");
        assert!(max_faces == 0 || there.len() <= max_faces, "seed {seed}: too many faces are left");
        let engine = shard.shard().engine(shard.collection());
        assert!(
            engine.is_none_or(|engine| engine.clusters().constraints() == ledger.words.len()),
            "seed {seed}: other words"
        );
        assert!(there.is_empty() || shard.comparisons > 0, "seed {seed}: it never said that it had settled");
        let faces: Vec<FaceId> = ledger.faces.keys().cloned().collect();
        let words = |kind| -> Vec<_> {
            ledger.words.iter().filter(|(_, said)| **said == kind).map(|((a, b), _)| json!([a, b])).collect()
        };
        let face = |(id, face): (&FaceId, &Brought)| json!({ "id": id, "embedding": face.values, "frame": face.frame, "quality": face.quality });
        let case = json!({
            "faces": ledger.faces.iter().map(face).collect::<Vec<_>>(),
            "must": words(ConstraintKind::MustLink),
            "cannot": words(ConstraintKind::CannotLink),
            "quality_floor": quality_floor,
            "merging": table(&merging),
        });
        let events = EventType::ALL.into_iter().map(|kind| (kind, shard.consumer.counts.of(kind))).collect();
        Settled { seed, about, case, faces, clusters, before, events, restarted, expired: ledger.expired }
    }
}

fn single(chance: &mut Chance) -> Merging {
    let threshold = chance.between(0.5, 0.97) as f32;
    Merging { rule: Rule::Single, threshold, threshold_off: 0.8 * threshold }
}

fn evidence(chance: &mut Chance) -> Merging {
    let rule = Rule::Evidence { per_face: 1 + chance.below(3) as u32, cap: 3 + chance.below(10) as u32 };
    let threshold = chance.between(0.08, 0.4) as f32;
    Merging { rule, threshold, threshold_off: 0.8 * threshold }
}

/// [merging] as a model.toml has it.
fn table(merging: &Merging) -> Value {
    match merging.rule {
        Rule::Single => json!({ "rule": "single", "threshold": merging.threshold }),
        Rule::Evidence { per_face, cap } => {
            json!({ "rule": "evidence", "threshold": merging.threshold, "per_face": per_face, "cap": cap })
        }
    }
}

/// What the streams were, to see that they are worth something.
#[derive(Default)]
struct Told {
    streams: usize,
    faces: usize,
    clusters: usize,
    /// Streams with clusters of several faces, and several clusters.
    mixed: usize,
    /// Streams that were not yet the batch before they had settled.
    moved: usize,
    restarted: usize,
    expired: usize,
    events: BTreeMap<EventType, usize>,
}

impl Told {
    fn count(&mut self, settled: &Settled, answer: &[usize]) {
        let clusters = settled.clusters.len();
        self.streams += 1;
        self.faces += settled.faces.len();
        self.clusters += clusters;
        self.mixed += usize::from(clusters > 1 && clusters < settled.faces.len());
        self.moved += usize::from(settled.before != partition_of(&settled.faces, answer));
        self.restarted += usize::from(settled.restarted);
        self.expired += settled.expired;
        for (&kind, count) in &settled.events {
            *self.events.entry(kind).or_default() += count;
        }
    }

    fn assert_it_proves_something(&self) {
        assert!(self.mixed * 10 > self.streams * 7, "too few of the streams have clusters to speak of");
        assert!(self.moved * 4 > self.streams, "too few of the streams had anything left to settle");
        assert!(self.restarted > 0 && self.expired > 0);
        assert!(self.events.values().all(|&count| count > 0), "not every type of event occurred: {:?}", self.events);
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { streams, faces, clusters, mixed, moved, restarted, expired, events } = self;
        write!(
            f,
            "{streams} streams, {faces} faces left in {clusters} clusters; {mixed} streams with some together and some apart, \
             {moved} not yet the batch before they had settled, {restarted} restarted, {expired} faces expired; events: {events:?}"
        )
    }
}
