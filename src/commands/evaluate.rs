//! `facetd evaluate`: the paper's three scores.

use std::path::PathBuf;

use clap::Args;
use facetd::evaluate::evaluate;
use facetd::features::read_labels;

#[derive(Args)]
pub struct Arguments {
    /// True labels, an integer a line
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// Predicted labels, an integer a line
    #[arg(long, value_name = "FILE")]
    predicted: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scores = evaluate(&read_labels(&arguments.truth)?, &read_labels(&arguments.predicted)?)?;
    match arguments.json {
        true => println!("{}", serde_json::to_string(&scores)?),
        false => println!("{scores}"),
    }
    Ok(())
}
