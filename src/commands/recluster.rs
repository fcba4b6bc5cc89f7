//! `facetd recluster`: a new model, or another τ, over the faces of a stopped daemon's state.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use facetd::daemon::LoadedModel;
use facetd::daemon::clock::now;
use facetd::daemon::recluster::{self, Reclustered};
use facetd::daemon::shard::ShardSettings;
use facetd::face::CollectionName;
use facetd::model::{EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Shape};
use facetd::store::Store;
use indicatif::ProgressBar;

use super::stopped::configuration;

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
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.config)?;
    let LoadedModel { artefact, model } = LoadedModel::load(&config.model)?;
    let settings = ShardSettings::new(&config, &artefact);
    let mut store = Store::open_existing(&config.state.dir)?;
    if !recluster::is_due(&store, &settings)? {
        println!("{} is clustered with {} already: nothing to do", config.state.dir.display(), artefact.name);
        return Ok(());
    }
    let bar = super::progress_bar(0, "{bar:30} {msg} {percent}% {elapsed}");
    let watched: Arc<dyn FaceTransformer> = Arc::new(Watched { model, bar: bar.clone() });
    recluster::recluster(&mut store, &settings, &watched, now(), &mut Progress(bar))?;
    println!("{} goes on with {}; start the daemon with it", config.state.dir.display(), artefact.name);
    Ok(())
}

/// A line for each collection, and a bar while one is under way.
struct Progress(ProgressBar);

impl recluster::Progress for Progress {
    fn begins(&mut self, collection: &CollectionName, faces: usize) {
        eprintln!("collection {collection}: {faces} faces are being clustered anew");
        self.0.reset();
        // A row of RE and one of LP for each.
        self.0.set_length(2 * faces as u64);
        self.0.set_message(collection.to_string());
    }

    fn ends(&mut self, collection: &CollectionName, outcome: Reclustered) {
        self.0.finish_and_clear();
        let Reclustered { clusters_before, clusters_after, moved, events } = outcome;
        println!(
            "collection {collection}: {clusters_before} clusters before, {clusters_after} after; \
             {moved} faces are in another, {events} events"
        );
    }

    fn commits(&mut self) {
        eprintln!("the changes are being written");
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
