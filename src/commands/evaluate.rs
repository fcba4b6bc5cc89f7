//! `facetd evaluate`: the paper's three scores.

use std::path::PathBuf;

use clap::Args;
use facetd::evaluate::evaluate;
use facetd::features::read_labels;

use super::output::Output;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd evaluate --truth labels.meta --predicted predicted.meta
  facetd evaluate --truth labels.meta --predicted predicted.meta --json

Precision, recall and F of pairs (pairwise) and of faces (BCubed), and NMI; as JSON from 0 to 1.")]
pub struct Arguments {
    /// True labels, an integer a line
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// Predicted labels, an integer a line
    #[arg(long, value_name = "FILE")]
    predicted: PathBuf,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scores = evaluate(&read_labels(&arguments.truth)?, &read_labels(&arguments.predicted)?)?;
    arguments.output.answer(&scores)
}
