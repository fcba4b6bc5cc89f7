//! `facetd allow`: lets erased faces come back. Needs no model: the list is the store's alone.

use std::fmt;

use anyhow::bail;
use clap::Args;
use facetd::audit::Deed;
use facetd::clock::now;
use facetd::face::{CollectionName, FaceId};
use facetd::store::{Commit, FaceKey};
use serde::Serialize;

use super::output::Output;
use super::stopped::{Stopped, Target};

#[derive(Args)]
#[command(after_help = "Example:
  facetd allow --config facetd.toml --collection lobby cam3/18:00:00.120/0

Stop the daemon first. The face itself is gone: once the daemon runs again, send it again.")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Ids of erased faces: all of them, or none when one is not on the suppression list
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Allowed {
    collection: CollectionName,
    face_ids: Vec<FaceId>,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (collection, allowed) = (&self.collection, self.face_ids.len());
        write!(f, "collection {collection}: {allowed} erased faces may come back; send them again")
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut stopped = arguments.target.open()?;
    let Stopped { store, collection, .. } = &stopped;
    let mut faces = Vec::new();
    for id in &arguments.ids {
        let face = Stopped::face_id(id)?;
        if !store.is_suppressed(collection, &face) {
            bail!("face {face} of collection {collection} is not kept from coming back: just send it");
        }
        faces.push(face);
    }
    let collection = collection.clone();
    let begun = stopped.begin(Deed::allow(&collection, faces.clone()))?;
    let allow = faces.iter().map(|face| FaceKey { collection: collection.clone(), face: face.clone() }).collect();
    begun.through(|| stopped.store.commit(&Commit { allow, now: now(), ..Commit::default() }))?;
    arguments.output.answer(&Allowed { collection, face_ids: faces })
}
