//! `facetd inspect`: the state of a stopped daemon, read offline.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use facetd::engine::changes::{Constraint, ConstraintKind};
use facetd::face::{ClusterId, CollectionName, FaceId, Offset, Partition};
use facetd::store::Store;
use serde::Serialize;

use super::output::{Output, rfc3339, table};
use super::progress;
use super::verify::{self, Repair, Verify};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd inspect --state /var/lib/facetd stats
  facetd inspect --collection lobby face cam3/18:00:00.120/0
  facetd inspect faces --json | head -1
  facetd inspect verify --config /etc/facetd/facetd.toml

Stop the daemon first; of a running one the API tells the same. With --json, faces and constraints are an object a line.")]
pub struct Arguments {
    /// Folder of the state
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/facetd")]
    state: PathBuf,
    /// The collection to look into
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    collection: String,
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum What {
    /// What is in it, as a whole
    Stats,
    /// One face
    Face { id: String },
    /// One cluster
    Cluster { id: u64 },
    /// Every face and the cluster it is in, separated by a tab
    Faces,
    /// What operators said of two faces: what, of whom, who and when, separated by tabs
    Constraints,
    /// Check every invariant, a line each; non-zero when one is broken
    Verify(Verify),
    /// Save what is left of a damaged state in a new directory
    Repair(Repair),
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let output = arguments.output;
    // These two only look, and open what no store does.
    match &arguments.what {
        What::Verify(what) => return verify::verify_state(&arguments.state, what, output),
        What::Repair(what) => return verify::repair_state(&arguments.state, what, output),
        _ => {}
    }
    let busy = progress::busy("the state is being read");
    let store = Store::open_existing(&arguments.state)?;
    let collection = CollectionName::new(&arguments.collection)?;
    match &arguments.what {
        What::Verify(_) | What::Repair(_) => Ok(()),
        What::Stats => {
            let stats = stats(&store)?;
            drop(busy);
            output.answer(&stats)
        }
        What::Face { id } => output.answer(&face(&store, &collection, &FaceId::new(id)?)?),
        What::Cluster { id } => output.answer(&cluster(&store, &collection, ClusterId(*id))?),
        What::Faces => {
            let mut contents = store.contents()?;
            let restored = contents.collections.remove(&collection);
            let restored = restored.with_context(|| format!("there is no collection {collection}"))?;
            drop(busy);
            output.lines(restored.faces.into_iter().map(|face| {
                let record = face.record;
                let cluster_id = store.living_cluster(&collection, record.home)?.id;
                Ok(Placed { face_id: record.id, cluster_id })
            }))
        }
        What::Constraints => {
            drop(busy);
            output.lines(store.constraints(&collection)?.into_iter().map(|constraint| Ok(Said::of(constraint))))
        }
    }
}

/// Names and values, for people.
fn list(f: &mut fmt::Formatter<'_>, pairs: &[(&str, String)]) -> fmt::Result {
    let rows = pairs.iter().map(|(name, value)| vec![name.to_string(), value.clone()]);
    write!(f, "{}", table(&[14], &[], rows).trim_fmt())
}

fn or_none<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or("none".to_string(), T::to_string)
}

#[derive(Serialize)]
struct Stats {
    state_uuid: String,
    collections: BTreeMap<CollectionName, OfCollection>,
    /// The offset each partition is read on from.
    positions: BTreeMap<Partition, Offset>,
    suppressed: usize,
    unpublished: usize,
}

#[derive(Serialize)]
struct OfCollection {
    faces: usize,
    clusters: usize,
    constraints: usize,
    events: u64,
    settled: bool,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { state_uuid, collections, positions, suppressed, unpublished } = self;
        let positions: Vec<String> =
            positions.iter().map(|(partition, next)| format!("partition {} from {}", partition.0, next.0)).collect();
        let read_on = if positions.is_empty() { "nothing was read".to_string() } else { positions.join(", ") };
        let pairs = [
            ("state", state_uuid.clone()),
            ("reads on", read_on),
            ("suppressed", format!("{suppressed} erased faces may not come back")),
            ("unpublished", format!("{unpublished} entries")),
        ];
        list(f, &pairs)?;
        let head = ["faces", "clusters", "constraints", "events", "settled", "collection"].map(str::to_string).to_vec();
        let rows = collections.iter().map(|(name, of)| {
            let OfCollection { faces, clusters, constraints, events, settled } = of;
            let settled = if *settled { "yes" } else { "no" };
            let numbers = [*faces as u64, *clusters as u64, *constraints as u64, *events];
            let cells =
                numbers.map(|number| number.to_string()).into_iter().chain([settled.to_string(), name.to_string()]);
            cells.collect()
        });
        let rows = std::iter::once(head).chain(rows);
        write!(f, "\n\n{}", table(&[11, 11, 13, 11, 9], &[0, 1, 2, 3], rows).trim_fmt())
    }
}

fn stats(store: &Store) -> anyhow::Result<Stats> {
    let contents = store.contents()?;
    let collections = contents.collections.into_iter().map(|(name, restored)| {
        let of = OfCollection {
            faces: restored.faces.len(),
            clusters: restored.clusters.iter().filter(|cluster| cluster.lives()).count(),
            constraints: restored.constraints.len(),
            events: restored.counters.sequence,
            settled: restored.counters.settled == restored.counters.sequence,
        };
        (name, of)
    });
    Ok(Stats {
        state_uuid: store.state_uuid().to_string(),
        collections: collections.collect(),
        positions: contents.positions.iter().map(|(&partition, position)| (partition, position.next)).collect(),
        suppressed: store.suppressed_count(),
        unpublished: store.outbox().len(),
    })
}

#[derive(Serialize)]
struct OneFace {
    face_id: FaceId,
    home: ClusterId,
    cluster_id: ClusterId,
    frame_id: Option<FaceId>,
    quality: Option<f32>,
    captured_at: Option<String>,
    arrived_at: String,
    partition: Partition,
    offset: Offset,
}

impl fmt::Display for OneFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OneFace { face_id, home, cluster_id, frame_id, quality, captured_at, arrived_at, partition, offset } = self;
        let pairs = [
            ("face_id", face_id.to_string()),
            ("cluster_id", cluster_id.to_string()),
            ("home", home.to_string()),
            ("frame_id", or_none(frame_id)),
            ("quality", or_none(quality)),
            ("captured_at", or_none(captured_at)),
            ("arrived_at", arrived_at.clone()),
            ("record", format!("partition {}, offset {}", partition.0, offset.0)),
        ];
        list(f, &pairs)
    }
}

fn face(store: &Store, collection: &CollectionName, id: &FaceId) -> anyhow::Result<OneFace> {
    let face = store.face(collection, id)?;
    let face = face.with_context(|| format!("collection {collection} has no face {id}"))?;
    Ok(OneFace {
        cluster_id: store.living_cluster(collection, face.home)?.id,
        face_id: face.id,
        home: face.home,
        frame_id: face.frame_id,
        quality: face.quality,
        captured_at: face.captured_at.map(rfc3339),
        arrived_at: rfc3339(face.arrived_at),
        partition: face.place.partition,
        offset: face.place.offset,
    })
}

#[derive(Serialize)]
struct OneCluster {
    cluster_id: ClusterId,
    merged_into: Option<ClusterId>,
    size: u32,
    version: u64,
    pinned: bool,
    name: Option<String>,
}

impl fmt::Display for OneCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OneCluster { cluster_id, merged_into, size, version, pinned, name } = self;
        let pairs = [
            ("cluster_id", cluster_id.to_string()),
            ("merged_into", or_none(merged_into)),
            ("size", format!("{size} faces")),
            ("version", version.to_string()),
            ("pinned", if *pinned { "yes" } else { "no" }.to_string()),
            ("name", or_none(name)),
        ];
        list(f, &pairs)
    }
}

fn cluster(store: &Store, collection: &CollectionName, id: ClusterId) -> anyhow::Result<OneCluster> {
    let cluster = store.cluster(collection, id)?;
    let cluster = cluster.with_context(|| format!("collection {collection} has no cluster {id}"))?;
    Ok(OneCluster {
        cluster_id: cluster.id,
        merged_into: cluster.merged_into,
        size: cluster.size,
        version: cluster.version,
        pinned: cluster.pinned,
        name: cluster.name,
    })
}

#[derive(Serialize)]
struct Placed {
    face_id: FaceId,
    cluster_id: ClusterId,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.face_id, self.cluster_id)
    }
}

#[derive(Serialize)]
struct Said {
    kind: ConstraintKind,
    a: FaceId,
    b: FaceId,
    by: String,
    at: String,
}

impl Said {
    fn of(Constraint { kind, a, b, by, at }: Constraint) -> Said {
        Said { kind, a, b, by, at: rfc3339(at) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said { kind, a, b, by, at } = self;
        let word = match kind {
            ConstraintKind::MustLink => "must-link",
            ConstraintKind::CannotLink => "cannot-link",
        };
        write!(f, "{word}\t{a}\t{b}\t{by}\t{at}")
    }
}
