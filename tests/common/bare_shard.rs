//! A shard without Kafka: records in batches of a test's choosing, a model that is fast and easy to
//! follow, and the time a test says it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use facetd::config::Config;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::Engine;
use facetd::face::{CollectionName, Embedding, Face, FaceId, NodeId, Offset, Partition, Place, Timestamp};
use facetd::metrics::Metrics;
use facetd::model::{Artefact, EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Shape, Stage};
use facetd::rejection::Reason;
use facetd::source::{Content, Intake, Record};
use facetd::store::{Entry, FaceKey, Published};
use facetd::view::View;

use super::project;

/// Of the model, and of every face.
pub const DIMENSION: usize = 16;
/// Of the model whose settings are used, tests/fixtures/model.
const SHAPE: Shape = Shape { dimension: DIMENSION, hop1: 6, hop2: 3 };

/// g is the mean of a face and its neighbours; a linkage is 0 up to a cosine of 0.5 between two g and
/// grows to 1. Its merging rule is that of the fixture: evidence above 0.2, which is a cosine of 0.6.
pub struct Mean;

impl FaceTransformer for Mean {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn edges(&self) -> &[EdgeFeature] {
        &[]
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let mut enhanced = rows.faces.clone();
        for (row, g) in enhanced.chunks_mut(DIMENSION).enumerate() {
            let neighbours = rows.neighbours.chunks(DIMENSION).zip(&rows.mask).skip(row * SHAPE.hop2).take(SHAPE.hop2);
            for (neighbour, _) in neighbours.filter(|(_, there)| **there) {
                g.iter_mut().zip(neighbour).for_each(|(g, value)| *g += value);
            }
            let length = g.iter().map(|value| value * value).sum::<f32>().sqrt();
            g.iter_mut().for_each(|g| *g /= length.max(f32::MIN_POSITIVE));
        }
        Ok(enhanced)
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let linkage = |(place, &there): (usize, &bool)| {
            let face = &rows.faces[place / SHAPE.hop1 * DIMENSION..][..DIMENSION];
            let neighbour = &rows.neighbours[place * DIMENSION..][..DIMENSION];
            let cosine: f32 = face.iter().zip(neighbour).map(|(a, b)| a * b).sum();
            if there { ((cosine - 0.5) * 2.0).clamp(0.0, 1.0) } else { 0.0 }
        };
        Ok(rows.mask.iter().enumerate().map(linkage).collect())
    }
}

/// A state directory, and the settings its shard has.
pub struct Rig {
    state: PathBuf,
    /// That the state is in, when it is this one's own.
    folder: Option<Arc<tempfile::TempDir>>,
    settings: ShardSettings,
}

impl Rig {
    /// The shipped configuration with `more` of it, as TOML.
    pub fn new(more: &str) -> Rig {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Rig::of(folder.path().join("state"), Some(folder), more)
    }

    /// The same state with another configuration.
    pub fn with(&self, more: &str) -> Rig {
        Rig::of(self.state.clone(), self.folder.clone(), more)
    }

    /// The shipped configuration and a state that is there.
    pub fn at(state: PathBuf) -> Rig {
        Rig::of(state, None, "")
    }

    fn of(state: PathBuf, folder: Option<Arc<tempfile::TempDir>>, more: &str) -> Rig {
        Rig { state, folder, settings: settings(more) }
    }

    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    pub fn open(&self) -> Driven {
        open(&self.state(), self.settings.clone())
    }
}

/// The shard of a state directory anywhere.
pub fn open(state: &Path, settings: ShardSettings) -> Driven {
    let (metrics, view) = (Arc::new(Metrics::new()), Arc::new(View::default()));
    let shard = Shard::open(state, settings, Arc::new(Mean), view.clone(), metrics.clone()).unwrap();
    Driven { shard, metrics, view }
}

/// The shipped configuration with `more` of it, as TOML.
pub fn settings(more: &str) -> ShardSettings {
    let config = Config::parse(more, std::iter::empty()).unwrap();
    let artefact = Artefact::open(&project().join("tests/fixtures/model"), Stage::ReLp).unwrap();
    assert_eq!(artefact.shape, SHAPE);
    ShardSettings::new(&config, &artefact)
}

/// A shard at work.
pub struct Driven {
    pub shard: Shard,
    pub metrics: Arc<Metrics>,
    pub view: Arc<View>,
}

impl Driven {
    pub fn apply(&mut self, records: Vec<Intake>, now: i64) {
        self.shard.apply(records, Timestamp(now)).unwrap();
    }

    /// Quiet moments until nothing is left to do.
    pub fn settle(&mut self, now: i64) {
        let mut moments = 0;
        while self.shard.idle(Timestamp(now)).unwrap() {
            moments += 1;
            assert!(moments < 100_000, "it never settles");
        }
    }

    /// Takes what is to be published, as the publisher does.
    pub fn publish(&self) -> Vec<Entry> {
        let outbox = self.shard.outbox();
        let pending = outbox.pending(0, usize::MAX).unwrap();
        outbox.acknowledge(&Published::up_to(outbox.durable().sequence)).unwrap();
        pending.into_iter().map(|pending| pending.entry).collect()
    }

    /// The reasons of the dead letters that are to be published, which are taken.
    pub fn rejected(&self) -> Vec<Reason> {
        let reason = |entry| match entry {
            Entry::DeadLetter(letter) => Some(letter.rejection.reason),
            _ => None,
        };
        self.publish().into_iter().filter_map(reason).collect()
    }

    pub fn engine(&self, collection: &str) -> &Engine {
        self.shard.engine(&name(collection)).expect("the collection is there")
    }

    /// Where a face is, if it is there.
    pub fn node(&self, collection: &str, id: &str) -> Option<NodeId> {
        self.shard.engine(&name(collection))?.faces().node(&face_id(id))
    }

    /// Whether two faces of a collection are one person.
    pub fn are_together(&self, collection: &str, a: &str, b: &str) -> bool {
        let cluster = |id| {
            let node = self.node(collection, id).expect("the face is there");
            self.engine(collection).clusters().book().cluster_of(node).expect("every face is in a cluster")
        };
        cluster(a) == cluster(b)
    }
}

/// Gives records their places, one after the other in one partition.
#[derive(Default)]
pub struct Topic {
    next: i64,
}

impl Topic {
    pub fn face(&mut self, collection: &str, id: &str, values: &[f32]) -> Intake {
        self.captured(collection, id, values, None)
    }

    /// A face with its `captured_at`.
    pub fn captured(&mut self, collection: &str, id: &str, values: &[f32], captured_at: Option<i64>) -> Intake {
        let record = self.record(id);
        let face = Face {
            id: face_id(id),
            embedding: Embedding::normalise(values, DIMENSION).unwrap(),
            frame_id: None,
            quality: None,
            captured_at: captured_at.map(Timestamp),
            place: record.place,
        };
        Intake { record, content: Content::Face { collection: name(collection), face } }
    }

    pub fn erase(&mut self, collection: &str, id: &str) -> Intake {
        let record = self.record(id);
        Intake { record, content: Content::Erase { collection: name(collection), face_id: face_id(id) } }
    }

    fn record(&mut self, id: &str) -> Record {
        self.next += 1;
        let place = Place { partition: Partition(0), offset: Offset(self.next - 1) };
        Record {
            place,
            key: Some(id.as_bytes().into()),
            payload_bytes: 0,
            payload_sha256: [0; 32],
            timestamp: None,
            followed: None,
        }
    }
}

pub fn name(collection: &str) -> CollectionName {
    CollectionName::new(collection).unwrap()
}

pub fn face_id(id: &str) -> FaceId {
    FaceId::new(id).unwrap()
}

pub fn face_key(collection: &str, id: &str) -> FaceKey {
    FaceKey { collection: name(collection), face: face_id(id) }
}

/// Faces of people, each near the middle of their own.
pub struct People {
    random: u64,
}

impl People {
    pub fn new(seed: u64) -> People {
        People { random: seed * 2 + 1 }
    }

    /// A face of a person: the same middle for the same number, never the same face twice.
    pub fn face_of(&mut self, person: u64) -> Vec<f32> {
        let mut middle = People::new(1 + person.wrapping_mul(0x9e37_79b9));
        (0..DIMENSION).map(|_| middle.value() + 0.2 * self.value()).collect()
    }

    /// −1 to 1.
    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// splitmix64: seeds next to one another give streams that have nothing in common.
    pub fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
