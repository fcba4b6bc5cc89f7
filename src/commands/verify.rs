//! `facetd inspect verify` and `repair`: is a stopped daemon's state whole, and what is left if it is not.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use facetd::config::Config;
use facetd::daemon::shard::ShardSettings;
use facetd::face::CollectionName;
use facetd::model::Artefact;
use facetd::store::repair::{Repaired, repair};
use facetd::store::verify::{Known, Report, Rule, verify};
use serde_json::json;

/// What the clusters are to be held against.
#[derive(Args)]
struct Against {
    /// Folder of the model the state was made with: clusters are held against its merging rule, with
    /// the default configuration
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The daemon's configuration, which names the model and has collections.*.quality_floor
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    config: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  facetd inspect --state /var/lib/facetd verify
  facetd inspect --state /var/lib/facetd verify --config /etc/facetd.toml --json

Changes nothing; sled is copied to TMPDIR for it. Ends with 1 when anything is broken. `mends` is what the
next start clears up by itself, as after a kill; it is not broken.")]
pub struct Verify {
    #[command(flatten)]
    against: Against,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(after_help = "Example:
  facetd inspect --state /var/lib/facetd repair --to /var/lib/facetd-repaired

The damaged state stays as it is. Faces that cannot be kept are written to NEWDIR.lost.jsonl with all that is
left of them; send them again, or keep the file safe: it holds embeddings. Clusters that lost their record
keep their faces and their id. The new state has another uuid: start the daemon on it with --new-incarnation.")]
pub struct Repair {
    /// Folder of the repaired state; new or empty
    #[arg(long, value_name = "NEWDIR")]
    to: PathBuf,
    #[command(flatten)]
    against: Against,
}

/// A model's rule, and the configuration it is used with.
struct Settings {
    shard: ShardSettings,
    few: usize,
}

impl Against {
    fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let config = match (&self.config, &self.model) {
            (None, None) => return Ok(None),
            (Some(path), _) => {
                Config::load(path).with_context(|| format!("the configuration {} is not right", path.display()))?
            }
            (None, Some(_)) => Config::parse("", std::iter::empty())?,
        };
        let artefact = Artefact::open(self.model.as_deref().unwrap_or(&config.model.dir), config.model.stage)?;
        Ok(Some(Settings { shard: ShardSettings::new(&config, &artefact), few: config.engine.hnsw_few }))
    }
}

/// Does something with what is known besides the state.
fn with_known<T>(against: &Against, run: impl FnOnce(&Known) -> T) -> anyhow::Result<T> {
    let Some(Settings { shard, few }) = against.settings()? else { return Ok(run(&Known::default())) };
    let settings = |name: &CollectionName| shard.engine(name).clusters;
    Ok(run(&Known { rule: Some(Rule { model: shard.model.clone(), settings: &settings }), few }))
}

pub fn verify_state(state: &Path, arguments: &Verify) -> anyhow::Result<()> {
    let report = with_known(&arguments.against, |known| verify(state, known))??;
    match arguments.json {
        true => println!("{:#}", json!({ "state": state, "whole": report.is_whole(), "report": report })),
        false => print(&report),
    }
    match report.broken().len() {
        0 => Ok(()),
        _ if report.ended_early => bail!("{} could not be checked", state.display()),
        broken => {
            bail!("{broken} of the checks of {} failed; `facetd inspect repair` saves what is left", state.display())
        }
    }
}

fn print(report: &Report) {
    for checked in &report.checks {
        let (count, promise) = (checked.looked_at, checked.check.promise());
        match checked.broken.len() {
            0 if report.ended_early => println!("{:<11} not checked", checked.check),
            0 => println!("{:<11} ok      {count:>9}  {promise}", checked.check),
            broken => println!("{:<11} BROKEN  {count:>9}  not so that {promise}: {broken}", checked.check),
        }
        for broken in &checked.broken {
            println!("    {broken}");
        }
    }
    for note in &report.notes {
        println!("note: {note}");
    }
    for mend in &report.mends {
        println!("mends: the next start would {mend}");
    }
}

pub fn repair_state(state: &Path, arguments: &Repair) -> anyhow::Result<()> {
    let to = &arguments.to;
    let repaired = with_known(&arguments.against, |known| repair(state, to, known))??;
    let Repaired { state_uuid, faces, lost, exported, said } = repaired;
    for said in &said {
        println!("lost or made anew: {said}");
    }
    println!("{}: {faces} faces kept, {lost} lost; its uuid is {state_uuid}", to.display());
    if let Some(exported) = exported {
        println!("what is left of the lost faces is in {}; it holds embeddings", exported.display());
    }
    println!("set state.dir to it and start the daemon with --new-incarnation: readers are told the state anew");
    Ok(())
}
