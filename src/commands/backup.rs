//! `facetd backup` and `facetd restore`: a copy of a state, of a running daemon too, and its way back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use facetd::audit::{Audit, Deed, Hand};
use facetd::clock::now;
use facetd::config::Config;
use facetd::daemon::control::{Done, Request, ask};
use facetd::daemon::shard::ShardSettings;
use facetd::face::{CollectionName, Offset, Partition};
use facetd::model::Artefact;
use facetd::store::backup;
use facetd::store::verify::{Known, Rule};
use facetd::store::{Store, StoreError};
use indicatif::HumanBytes;
use serde::Serialize;

use super::configuration;
use super::ending::{self, Unfinished};
use super::output::Output;
use super::progress::{self, Bar};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd backup --config /etc/facetd.toml --to /var/backups/facetd/2026-11-24
  facetd backup --config facetd.toml --to /tmp/copy && facetd inspect --state /tmp/copy/state verify

The daemon may run: it writes the copy itself, as its own user, and commits wait only while sled is copied.
DIR is there whole or not at all. It holds embeddings and what the daemon knows of people: keep it as safe
as the state, and let go of it as erasures ask for.")]
pub struct Backup {
    /// The daemon's configuration; it says where the state is
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the backup; new or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct BackedUp {
    backup: PathBuf,
    #[serde(flatten)]
    done: Done,
}

impl fmt::Display for BackedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { state_uuid, commit_sequence, files, bytes, pause_ms } = &self.done;
        let (backup, bytes) = (self.backup.display(), HumanBytes(*bytes));
        write!(
            f,
            "{backup}: state {state_uuid} at commit {commit_sequence}, {files} files, {bytes}; commits waited {pause_ms} ms"
        )
    }
}

#[derive(Args)]
#[command(after_help = "Example:
  facetd restore --config /etc/facetd.toml --from /var/backups/facetd/2026-11-24

state.dir must be missing or empty. Every file is held against its hash and the state against every invariant
before it is put in place. Kafka may be ahead of it: `facetd run` then refuses, and names --new-incarnation.")]
pub struct Restore {
    /// The daemon's configuration; it says where the state is to be
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Restored {
    state: PathBuf,
    state_uuid: String,
    commit_sequence: u64,
    bytes: u64,
    /// Where each partition is read on from.
    positions: BTreeMap<Partition, Offset>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restored { state, state_uuid, commit_sequence, bytes, positions } = self;
        let (state, bytes) = (state.display(), HumanBytes(*bytes));
        writeln!(f, "{state}: state {state_uuid} at commit {commit_sequence}, {bytes}, whole")?;
        for (partition, next) in positions {
            writeln!(f, "partition {}: reads on from offset {}", partition.0, next.0)?;
        }
        write!(f, "Kafka may be ahead of it; `facetd run` then refuses and says what --new-incarnation does")
    }
}

pub fn backup(arguments: &Backup) -> anyhow::Result<()> {
    let folder = configuration(&arguments.config)?.state.dir;
    let to = std::path::absolute(&arguments.to)?;
    let mut bar = Bar::new("{bar:40} {bytes}/{total_bytes} {eta}");
    ending::if_interrupted(|| "a daemon that was asked goes on with the copy".to_string());
    let busy = progress::busy("the state is being cut");
    let asked = ask(&folder, &Request::Backup { to: to.clone() }, &mut |progress| bar.show(progress))
        .with_context(|| format!("cannot ask the daemon of {}", folder.display()))?;
    let done = match asked {
        Some(done) => done.map_err(|error| anyhow!(error))?,
        None => {
            let nobody_answers =
                "nobody answers at the state's control.sock: a daemon may be starting or stopping; try again";
            let store = Store::open_existing(&folder).map_err(|error| match error {
                StoreError::Locked { .. } => anyhow::Error::from(error).context(nobody_answers),
                error => error.into(),
            })?;
            ending::if_interrupted_before(&to, "there is no backup, and the state is as it was");
            let _unfinished = Unfinished::beside(&to);
            let cut = store.cut(&to)?;
            let pause_ms = cut.pause.as_millis() as u64;
            let manifest = cut.finish(now(), &mut |progress| bar.show(progress))?;
            let (bytes, files) = (manifest.bytes(), manifest.files.len());
            Done { state_uuid: manifest.state_uuid, commit_sequence: manifest.commit_sequence, files, bytes, pause_ms }
        }
    };
    drop((busy, bar));
    arguments.output.answer(&BackedUp { backup: to, done })
}

pub fn restore(arguments: &Restore) -> anyhow::Result<()> {
    let config: Config = configuration(&arguments.config)?;
    let settings = ShardSettings::new(&config, &Artefact::open(&config.model.dir, config.model.stage)?);
    let clusters = |name: &CollectionName| settings.engine(name).clusters;
    let rule = Rule { model: settings.model.clone(), settings: &clusters };
    let known = Known { rule: Some(rule), few: config.engine.hnsw_few };
    // Bytes against their hashes, then records against the invariants.
    let mut bar = Bar::new(progress::SHARE);
    let _unfinished = Unfinished::beside(&config.state.dir);
    ending::if_interrupted_before(&config.state.dir, "nothing was put in place");
    let busy = progress::busy("the backup is being checked");
    let restored = backup::restore(&arguments.from, &config.state.dir, &known, &mut |progress| bar.show(progress))?;
    // In the log that comes with it, which goes into place with it.
    let begun =
        Audit::open(&config.audit_in(restored.path()))?.begin(Hand::of_user(), Deed::restore(&arguments.from))?;
    begun.follow(&config.audit()).through(|| restored.put_in_place())?;
    drop((busy, bar));
    let backup::Restored { manifest, report, .. } = restored;
    let (bytes, state) = (manifest.bytes(), config.state.dir);
    let backup::Manifest { state_uuid, commit_sequence, .. } = manifest;
    arguments.output.answer(&Restored { state, state_uuid, commit_sequence, bytes, positions: report.positions })
}
