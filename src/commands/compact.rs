//! `facetd compact`: writes a stopped daemon's state anew, without what was erased.

use std::path::PathBuf;

use clap::Args;
use facetd::store::{Compacted, Store};
use indicatif::HumanBytes;

use super::stopped::configuration;

#[derive(Args)]
#[command(after_help = "Example:
  facetd compact --config facetd.toml

Stop the daemon first. It takes as much room again as the state while it works. Nothing of an erased
face is in the state's files afterwards; a running daemon clears its vector files by itself, and
the rest only as room is needed.")]
pub struct Arguments {
    /// The daemon's configuration; it says where the state is
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = configuration(&arguments.config)?.state.dir;
    let Compacted { bytes_before, bytes_after } = Store::compact_all(&folder)?;
    println!("{}: {} before, {} after", folder.display(), HumanBytes(bytes_before), HumanBytes(bytes_after));
    Ok(())
}
