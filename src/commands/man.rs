//! `facetd man`: the man pages, made of what `--help` says; a page for the program, and one for each command.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

#[derive(Args)]
#[command(after_help = "Example:
  facetd man --out target/man && man target/man/facetd-run.1")]
pub struct Arguments {
    /// Folder for the pages
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(arguments: &Arguments, command: Command) -> anyhow::Result<()> {
    let out = &arguments.out;
    let written = std::fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(command, out));
    written.with_context(|| format!("cannot write man pages to {}", out.display()))
}
