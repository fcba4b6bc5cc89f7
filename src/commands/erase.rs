//! `facetd erase`: faces, a person or a collection, out of the state of a stopped daemon.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Subcommand};
use facetd::daemon::shard::Shard;
use facetd::engine::changes::{Outcome, Request};
use facetd::engine::event::Cause;
use facetd::face::{ClusterId, CollectionName, FaceId};
use serde::Serialize;

use super::output::Output;
use super::stopped::{Stopped, Target};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd erase --config facetd.toml face cam3/18:00:00.120/0
  facetd erase cluster 42 --collection lobby --config facetd.toml

Stop the daemon first; it publishes what was erased when it runs again. The ids are kept from coming
back until `facetd allow`. While it runs, a record without a payload erases the face of its key.")]
pub struct Arguments {
    // Both may stand behind the ids too, so clap does not ask for them: [`Arguments::target`] does.
    /// The daemon's configuration; it says where the state is
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The collection; collections.default when not given
    #[arg(long, global = true, value_name = "NAME")]
    collection: Option<String>,
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Erased {
    collection: CollectionName,
    erased_faces: usize,
    ended_clusters: usize,
}

impl fmt::Display for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Erased { collection, erased_faces, ended_clusters } = self;
        writeln!(f, "collection {collection}: {erased_faces} faces erased, {ended_clusters} clusters ended")?;
        write!(f, "`facetd compact` takes them from the disk at once; Kafka's topics keep what their retention says")
    }
}

#[derive(Subcommand)]
enum What {
    /// Faces, by their ids: all of them, or none when one is not there
    Face {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Every face of a cluster: a person
    Cluster {
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Every face of the collection
    Collection,
}

impl Arguments {
    fn target(&self) -> Target {
        let Some(config) = self.config.clone() else {
            let missing = "--config <FILE> is missing: the daemon's configuration, which says where the state is\n";
            clap::Error::raw(ErrorKind::MissingRequiredArgument, missing).exit()
        };
        Target { config, collection: self.collection.clone() }
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let stopped = arguments.target().open()?;
    let requests = requests(&arguments.what, &stopped)?;
    let mut operated = stopped.restore()?;
    let before = living(&operated.shard, &operated.collection);
    let outcomes = operated.ask(requests)?;
    let after = living(&operated.shard, &operated.collection);

    let erased_faces =
        outcomes.iter().map(|outcome| if let Outcome::Erased(faces) = outcome { *faces } else { 0 }).sum();
    let ended_clusters = before.difference(&after).count();
    arguments.output.answer(&Erased { collection: operated.collection, erased_faces, ended_clusters })
}

fn requests(what: &What, stopped: &Stopped) -> anyhow::Result<Vec<Request>> {
    match what {
        What::Face { ids } => {
            let faces = ids.iter().map(|id| Stopped::face_id(id)).collect::<anyhow::Result<BTreeSet<FaceId>>>()?;
            faces.iter().try_for_each(|face| stopped.check_face(face))?;
            Ok(faces.into_iter().map(|face| Request::Erase { face, cause: Cause::Api }).collect())
        }
        What::Cluster { id } => {
            let cluster = ClusterId(*id);
            stopped.check_cluster(cluster)?;
            Ok(vec![Request::EraseCluster { cluster }])
        }
        What::Collection => Ok(vec![Request::EraseCollection]),
    }
}

fn living(shard: &Shard, collection: &CollectionName) -> BTreeSet<ClusterId> {
    let books = shard.engine(collection).into_iter().map(|engine| engine.clusters().book());
    books.flat_map(|book| book.records().filter(|cluster| cluster.lives()).map(|cluster| cluster.id)).collect()
}
