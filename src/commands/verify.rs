//! `facetd inspect verify` and `repair`: is a stopped daemon's state whole, and what is left if it is not.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use facetd::audit::{self, Audit, Deed, Hand};
use facetd::config::Config;
use facetd::daemon::shard::ShardSettings;
use facetd::face::CollectionName;
use facetd::model::Artefact;
use facetd::store::repair::{Repaired, partial_export, repair};
use facetd::store::verify::{Known, Report, Rule, verify};
use serde::Serialize;

use super::configuration;
use super::ending::{self, Found, Temporary, Unfinished};
use super::output::{Output, table};
use super::progress::{self, Bar};

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

Changes nothing; sled is copied to TMPDIR for it. Ends with 3 when anything is broken. `mends` is what the
next start clears up by itself, as after a kill; it is not broken.")]
pub struct Verify {
    #[command(flatten)]
    against: Against,
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
            (Some(path), _) => configuration(path)?,
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

/// Has what is copied meanwhile in a folder of its own, so that an interrupt takes it away. It goes with the value.
fn own_temporary_folder() -> anyhow::Result<Temporary> {
    let folder = Temporary::new("facetd-").context("no folder for a copy of sled; see TMPDIR")?;
    // Somebody else's choice would stand, and what is copied be left there.
    let _ = tempfile::env::override_temp_dir(folder.path());
    Ok(folder)
}

#[derive(Serialize)]
struct Verified<'a> {
    state: &'a Path,
    whole: bool,
    report: &'a Report,
}

impl fmt::Display for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        for checked in &report.checks {
            let (promise, broken) = (checked.check.promise(), checked.broken.len());
            let (verdict, told) = match broken {
                0 if report.ended_early => ("-", "not checked".to_string()),
                0 => ("ok", promise.to_string()),
                broken => ("BROKEN", format!("not so that {promise}: {broken}")),
            };
            let cells = vec![checked.check.to_string(), verdict.to_string(), checked.looked_at.to_string(), told];
            writeln!(f, "{}", table(&[12, 8, 11], &[2], [cells]).trim_fmt())?;
            for broken in &checked.broken {
                writeln!(f, "    {broken}")?;
            }
        }
        for note in &report.notes {
            writeln!(f, "note: {note}")?;
        }
        for mend in &report.mends {
            writeln!(f, "mends: the next start would {mend}")?;
        }
        Ok(())
    }
}

pub fn verify_state(state: &Path, arguments: &Verify, output: Output) -> anyhow::Result<()> {
    let _copied_to = own_temporary_folder()?;
    ending::if_interrupted(|| "the state is as it was".to_string());
    let mut bar = Bar::new(progress::SHARE);
    let busy = progress::busy("every invariant is being checked");
    let report = with_known(&arguments.against, |known| verify(state, known, &mut |progress| bar.show(progress)))??;
    drop((busy, bar));
    output.answer(&Verified { state, whole: report.is_whole(), report: &report })?;
    let state = state.display();
    match report.broken().len() {
        0 => Ok(()),
        _ if report.ended_early => Err(Found(format!("{state} could not be checked")).into()),
        broken => {
            let way_out = "`facetd inspect repair` saves what is left";
            Err(Found(format!("{broken} of the checks of {state} failed; {way_out}")).into())
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    state: &'a Path,
    state_uuid: String,
    faces: u64,
    lost_faces: u64,
    /// What is left of the lost faces.
    lost_file: Option<PathBuf>,
    said: Vec<String>,
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { state, state_uuid, faces, lost_faces, lost_file, said } = self;
        for said in said {
            writeln!(f, "lost or made anew: {said}")?;
        }
        writeln!(f, "{}: {faces} faces kept, {lost_faces} lost; its uuid is {state_uuid}", state.display())?;
        if let Some(file) = lost_file {
            writeln!(f, "what is left of the lost faces is in {}; it holds embeddings", file.display())?;
        }
        write!(f, "set state.dir to it and start the daemon with --new-incarnation: readers are told the state anew")
    }
}

pub fn repair_state(state: &Path, arguments: &Repair, output: Output) -> anyhow::Result<()> {
    let to = &arguments.to;
    let _copied_to = own_temporary_folder()?;
    let _unfinished = [Unfinished::beside(to), Unfinished::new(partial_export(to))];
    ending::if_interrupted_before(to, "nothing was put in place; the damaged state is as it was");
    let mut bar = Bar::new(progress::SHARE);
    let busy = progress::busy("what is left is being saved");
    let mended = with_known(&arguments.against, |known| repair(state, to, known, &mut |progress| bar.show(progress)))??;
    // In the log that is taken over, which goes into place with the new state.
    let config = arguments.against.config.as_deref().map(Config::load).transpose()?;
    let audit = |folder: &Path| config.as_ref().map_or_else(|| folder.join(audit::FILE), |of| of.audit_in(folder));
    let begun = Audit::open(&audit(mended.path()))?.begin(Hand::of_user(), Deed::repair(state))?;
    let repaired = begun.follow(&audit(to)).through(|| mended.put_in_place())?;
    drop((busy, bar));
    let Repaired { state_uuid, faces, lost: lost_faces, exported: lost_file, said } = repaired;
    output.answer(&Answer { state: to, state_uuid, faces, lost_faces, lost_file, said })
}
