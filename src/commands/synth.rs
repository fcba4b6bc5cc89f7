//! `facetd synth`: face-like embeddings with labels.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use facetd::features::{Features, write_labels};
use facetd::synth::Synth;

#[derive(Args)]
pub struct Arguments {
    /// How many faces
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    faces: u32,
    /// How wide; below 64 strangers come too near to be told apart
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(2..=4096))]
    dimension: u32,
    /// The same seed gives the same faces on every machine
    #[arg(long, value_name = "S")]
    seed: u64,
    /// Folder for features.bin and labels.meta
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { faces, dimension, seed, out } = arguments;
    let labelled = Synth { faces: *faces as usize, dimension: *dimension as usize, seed: *seed }.generate();
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let features = Features::new(labelled.dimension, labelled.embeddings).context("the generator made no rows")?;
    features.write(&out.join("features.bin"))?;
    write_labels(&out.join("labels.meta"), &labelled.labels)?;
    println!("{faces} faces of {dimension} values in {}", out.display());
    Ok(())
}
