//! `facetd inspect`: the state of a stopped daemon, read offline.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};
use facetd::engine::changes::{Constraint, ConstraintKind};
use facetd::face::{ClusterId, CollectionName, FaceId};
use facetd::store::Store;
use serde_json::json;

use super::verify::{self, Repair, Verify};

#[derive(Args)]
pub struct Arguments {
    /// Folder of the state
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/facetd")]
    state: PathBuf,
    /// The collection to look into
    #[arg(long, global = true, value_name = "NAME", default_value = "default")]
    collection: String,
    #[command(subcommand)]
    what: What,
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
    // These two only look, and open what no store does.
    match &arguments.what {
        What::Verify(what) => return verify::verify_state(&arguments.state, what),
        What::Repair(what) => return verify::repair_state(&arguments.state, what),
        _ => {}
    }
    let store = Store::open_existing(&arguments.state)?;
    let collection = CollectionName::new(&arguments.collection)?;
    match &arguments.what {
        What::Verify(_) | What::Repair(_) => Ok(()),
        What::Stats => stats(&store),
        What::Face { id } => face(&store, &collection, &FaceId::new(id)?),
        What::Cluster { id } => cluster(&store, &collection, ClusterId(*id)),
        What::Faces => faces(&store, &collection),
        What::Constraints => constraints(&store, &collection),
    }
}

fn stats(store: &Store) -> anyhow::Result<()> {
    let contents = store.contents()?;
    let collections = contents.collections.iter().map(|(name, restored)| {
        let living = restored.clusters.iter().filter(|cluster| cluster.lives());
        let value = json!({
            "faces": restored.faces.len(),
            "clusters": living.count(),
            "constraints": restored.constraints.len(),
            "events": restored.counters.sequence,
            "settled": restored.counters.settled == restored.counters.sequence,
        });
        (name.to_string(), value)
    });
    let positions =
        contents.positions.iter().map(|(partition, position)| (partition.0.to_string(), json!(position.next)));
    let stats = json!({
        "state_uuid": store.state_uuid(),
        "collections": collections.collect::<serde_json::Map<_, _>>(),
        "positions": positions.collect::<serde_json::Map<_, _>>(),
        "suppressed": store.suppressed_count(),
        "unpublished": store.outbox().len(),
    });
    println!("{stats:#}");
    Ok(())
}

fn face(store: &Store, collection: &CollectionName, id: &FaceId) -> anyhow::Result<()> {
    let face = store.face(collection, id)?;
    let face = face.with_context(|| format!("collection {collection} has no face {id}"))?;
    let cluster = store.living_cluster(collection, face.home)?;
    let shown = json!({
        "face_id": face.id,
        "home": face.home,
        "cluster_id": cluster.id,
        "frame_id": face.frame_id,
        "quality": face.quality,
        "captured_at": face.captured_at,
        "arrived_at": face.arrived_at,
        "partition": face.place.partition,
        "offset": face.place.offset,
    });
    println!("{shown:#}");
    Ok(())
}

fn cluster(store: &Store, collection: &CollectionName, id: ClusterId) -> anyhow::Result<()> {
    let cluster = store.cluster(collection, id)?;
    let cluster = cluster.with_context(|| format!("collection {collection} has no cluster {id}"))?;
    let shown = json!({
        "cluster_id": cluster.id,
        "merged_into": cluster.merged_into,
        "size": cluster.size,
        "version": cluster.version,
        "pinned": cluster.pinned,
        "name": cluster.name,
    });
    println!("{shown:#}");
    Ok(())
}

fn faces(store: &Store, collection: &CollectionName) -> anyhow::Result<()> {
    let mut contents = store.contents()?;
    let restored = contents.collections.remove(collection);
    let restored = restored.with_context(|| format!("there is no collection {collection}"))?;
    let mut out = std::io::stdout().lock();
    for face in restored.faces {
        let record = face.record;
        writeln!(out, "{}\t{}", record.id, store.living_cluster(collection, record.home)?.id)?;
    }
    Ok(())
}

fn constraints(store: &Store, collection: &CollectionName) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for Constraint { kind, a, b, by, at } in store.constraints(collection)? {
        let word = match kind {
            ConstraintKind::MustLink => "must-link",
            ConstraintKind::CannotLink => "cannot-link",
        };
        let at = DateTime::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true);
        writeln!(out, "{word}\t{a}\t{b}\t{by}\t{at}")?;
    }
    Ok(())
}
