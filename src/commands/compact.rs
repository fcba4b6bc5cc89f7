//! `facetd compact`: writes a stopped daemon's state anew, without what was erased.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use facetd::audit::{Audit, Deed, Hand};
use facetd::store::{Compacted, Store};
use indicatif::HumanBytes;
use serde::Serialize;

use super::output::Output;
use super::progress::{self, Bar};
use super::{configuration, ending};

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
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Answer {
    state: PathBuf,
    bytes_before: u64,
    bytes_after: u64,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { state, bytes_before, bytes_after } = self;
        write!(f, "{}: {} before, {} after", state.display(), HumanBytes(*bytes_before), HumanBytes(*bytes_after))
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.config)?;
    ending::if_interrupted(|| "the state is whole: the next start clears up what was begun".to_string());
    let busy = progress::busy("the state is being written anew");
    let mut bar = Bar::new("{bar:40} {pos}/{len} records {eta} left");
    let store = Store::open_existing(&config.state.dir)?;
    let begun = Audit::open(&config.audit())?.begin(Hand::of_user(), Deed::compact())?;
    let Compacted { bytes_before, bytes_after } =
        begun.through(|| store.compact_all(&mut |progress| bar.show(progress)))?;
    drop((busy, bar));
    arguments.output.answer(&Answer { state: config.state.dir, bytes_before, bytes_after })
}
