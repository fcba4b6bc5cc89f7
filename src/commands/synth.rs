//! `facetd synth`: face-like embeddings with labels.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use facetd::features::{Features, write_labels};
use facetd::synth::{self, Synth};

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
    /// From what kind of collection
    #[arg(long, value_enum, default_value = "albums")]
    kind: Kind,
    /// Folder for features.bin and labels.meta
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Photograph albums: most people have one face
    Albums,
    /// What cameras see: 65 faces a person, families of look-alikes, poses, bad pictures
    Cameras,
    /// Many collections of as many kinds in one, to train a model on
    Varied,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { faces, dimension, seed, kind, out } = arguments;
    let kind = match kind {
        Kind::Albums => synth::Kind::Albums,
        Kind::Cameras => synth::Kind::Cameras,
        Kind::Varied => synth::Kind::Varied,
    };
    let synth = Synth { kind, faces: *faces as usize, dimension: *dimension as usize, seed: *seed };
    let labelled = synth.generate();
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let features = Features::new(labelled.dimension, labelled.embeddings).context("the generator made no rows")?;
    features.write(&out.join("features.bin"))?;
    write_labels(&out.join("labels.meta"), &labelled.labels)?;
    println!("{faces} faces of {dimension} values in {}", out.display());
    Ok(())
}
