//! `facetd recluster`: a new model, or another τ, over the faces of a stopped daemon's state.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use facetd::audit::{Audit, Deed, Hand};
use facetd::clock::now;
use facetd::daemon::LoadedModel;
use facetd::daemon::recluster::{self, Reclustered};
use facetd::daemon::shard::ShardSettings;
use facetd::face::CollectionName;
use facetd::model::{EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Shape};
use facetd::store::Store;
use indicatif::ProgressBar;
use serde::Serialize;

use super::output::{Output, note};
use super::{configuration, ending, progress};

#[derive(Args)]
#[command(after_help = "Example:
  FACETD_MODEL__DIR=models/new facetd recluster --config facetd.toml

Stop the daemon first, and have model.dir name the new model, or edit [merging] in its model.toml. The
embeddings stay, so it must be a model of the same dimension. Nothing is changed before the very
end; the daemon publishes what moved when it runs again, with model.dir as it is now.")]
pub struct Arguments {
    /// The daemon's configuration, with the new model
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Answer {
    state: PathBuf,
    model: String,
    /// It was clustered with this model already.
    was_done: bool,
    collections: Vec<Moved>,
}

#[derive(Serialize)]
struct Moved {
    collection: CollectionName,
    clusters_before: usize,
    clusters_after: usize,
    moved_faces: usize,
    events: usize,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, model) = (self.state.display(), &self.model);
        if self.was_done {
            return write!(f, "{state} is clustered with {model} already: nothing to do");
        }
        for Moved { collection, clusters_before, clusters_after, moved_faces, events } in &self.collections {
            writeln!(
                f,
                "collection {collection}: {clusters_before} clusters before, {clusters_after} after; \
                 {moved_faces} faces are in another, {events} events"
            )?;
        }
        write!(f, "{state} goes on with {model}; start the daemon with it")
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.config)?;
    let busy = progress::busy("the state is being read");
    let LoadedModel { artefact, model } = LoadedModel::load(&config.model)?;
    let settings = ShardSettings::new(&config, &artefact);
    let mut store = Store::open_existing(&config.state.dir)?;
    let was_done = !recluster::is_due(&store, &settings)?;
    drop(busy);
    let bar = progress::bar(0, "{bar:30} {msg} {percent}% {elapsed}");
    let mut progress = Progress { bar, collections: Vec::new() };
    if !was_done {
        ending::if_interrupted(|| "nothing has changed, or all of it where it was being written".to_string());
        let watched: Arc<dyn FaceTransformer> = Arc::new(Watched { model, bar: progress.bar.clone() });
        let begun = Audit::open(&config.audit())?.begin(Hand::of_user(), Deed::recluster(&artefact.name))?;
        begun.through(|| recluster::recluster(&mut store, &settings, &watched, now(), &mut progress))?;
    }
    let collections = progress.collections;
    arguments.output.answer(&Answer { state: config.state.dir, model: artefact.name, was_done, collections })
}

/// A line for each collection, and a bar while one is under way.
struct Progress {
    bar: ProgressBar,
    collections: Vec<Moved>,
}

impl recluster::Progress for Progress {
    fn begins(&mut self, collection: &CollectionName, faces: usize) {
        note(format_args!("collection {collection}: {faces} faces are being clustered anew"));
        self.bar.reset();
        // A row of RE and one of LP for each.
        self.bar.set_length(2 * faces as u64);
        self.bar.set_message(collection.to_string());
    }

    fn ends(&mut self, collection: &CollectionName, outcome: Reclustered) {
        self.bar.finish_and_clear();
        let Reclustered { clusters_before, clusters_after, moved: moved_faces, events } = outcome;
        let collection = collection.clone();
        self.collections.push(Moved { collection, clusters_before, clusters_after, moved_faces, events });
    }

    fn commits(&mut self) {
        note("the changes are being written");
    }
}

/// A model that shows how much it has done.
struct Watched {
    model: Arc<dyn FaceTransformer>,
    bar: ProgressBar,
}

impl FaceTransformer for Watched {
    fn shape(&self) -> Shape {
        self.model.shape()
    }

    fn edges(&self) -> &[EdgeFeature] {
        self.model.edges()
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let count = rows.len();
        let encoded = self.model.encode(rows)?;
        self.bar.inc(count as u64);
        Ok(encoded)
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let count = rows.len();
        let linked = self.model.link(rows)?;
        self.bar.inc(count as u64);
        Ok(linked)
    }
}
