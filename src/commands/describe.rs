//! `facetd describe`: pins and names a cluster of a stopped daemon's state.

use std::fmt;

use anyhow::anyhow;
use clap::Args;
use facetd::audit::Deed;
use facetd::engine::changes::{Request, check_name};
use facetd::face::{ClusterId, CollectionName};
use serde::Serialize;

use super::output::Output;
use super::stopped::Target;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd describe --config facetd.toml 42 --name 'Ada Lovelace' --pin
  facetd describe --config facetd.toml 42 --name ''

Of two clusters that merge a pinned one keeps its id. What is not given stays as it is. Stop the daemon
first; it publishes the cluster's state when it runs again.")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The cluster's id
    #[arg(value_name = "CLUSTER")]
    cluster: u64,
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Described {
    collection: CollectionName,
    cluster_id: ClusterId,
    pinned: bool,
    name: Option<String>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described { collection, cluster_id, pinned, name } = self;
        let pin = if *pinned { "pinned" } else { "not pinned" };
        write!(f, "cluster {cluster_id} of collection {collection} is {pin} and has ")?;
        match name {
            Some(name) => write!(f, "the name {name:?}"),
            None => f.write_str("no name"),
        }
    }
}

/// At least one of them.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Words {
    /// A name for it, of 256 bytes at most; an empty one takes the name away
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Its id is to outlive those of others
    #[arg(long)]
    pin: bool,
    /// Its id is like any other
    #[arg(long, conflicts_with = "pin")]
    unpin: bool,
}

pub fn run(Arguments { target, cluster, words, output }: &Arguments) -> anyhow::Result<()> {
    let cluster = ClusterId(*cluster);
    check_name(words.name.as_deref()).map_err(|rejection| anyhow!(rejection.detail))?;
    let stopped = target.open()?;
    stopped.check_cluster(cluster)?;
    let before = stopped.store.living_cluster(&stopped.collection, cluster)?;
    let pinned = words.pin || (before.pinned && !words.unpin);
    let name = words.name.clone().or(before.name).filter(|name| !name.is_empty());

    let mut operated = stopped.restore()?;
    // What was asked, not what it comes to.
    let asked = (words.pin || words.unpin).then_some(words.pin);
    let named = words.name.as_ref().map(|name| !name.is_empty());
    let deed = Deed::describe(&operated.collection, cluster, asked, named);
    operated.ask_as(deed, vec![Request::Describe { cluster, pinned, name: name.clone() }])?;
    output.answer(&Described { collection: operated.collection, cluster_id: cluster, pinned, name })
}
