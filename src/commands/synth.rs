//! `facetd synth`: face-like embeddings with labels.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use facetd::features::{Features, write_labels};
use facetd::synth::{self, Synth};
use serde::Serialize;

use super::ending::{self, whole_file};
use super::output::Output;
use super::progress::{self, Bar};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd synth --faces 5000 --dimension 128 --seed 3 --out /tmp/faces
  facetd synth --faces 20000 --dimension 256 --seed 7 --kind cameras --out /tmp/faces

DIR gets features.bin, rows of little-endian f32, and labels.meta, the person of each row.")]
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
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Made {
    faces: u32,
    dimension: u32,
    features: PathBuf,
    labels: PathBuf,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Made { faces, dimension, features, labels } = self;
        write!(f, "{faces} faces of {dimension} values in {}, labels in {}", features.display(), labels.display())
    }
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
    let Arguments { faces, dimension, seed, kind, out, output } = arguments;
    let kind = match kind {
        Kind::Albums => synth::Kind::Albums,
        Kind::Cameras => synth::Kind::Cameras,
        Kind::Varied => synth::Kind::Varied,
    };
    let synth = Synth { kind, faces: *faces as usize, dimension: *dimension as usize, seed: *seed };
    ending::if_interrupted(|| "what was begun is not there".to_string());
    let busy = progress::busy("faces are being made");
    let mut bar = Bar::new(progress::SHARE);
    let labelled = synth.generate_watched(&mut |progress| bar.show(progress));
    drop(bar);
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let made = Features::new(labelled.dimension, labelled.embeddings).context("the generator made no rows")?;
    let (features, labels) = (out.join("features.bin"), out.join("labels.meta"));
    whole_file(&features, |path| made.write(path))?;
    whole_file(&labels, |path| write_labels(path, &labelled.labels))?;
    drop(busy);
    output.answer(&Made { faces: *faces, dimension: *dimension, features, labels })
}
