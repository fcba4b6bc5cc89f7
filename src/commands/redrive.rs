//! `facetd redrive`: dead letters' records into the input topic once more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use facetd::audit::{Audit, Begun, Deed, Hand, Outcome};
use facetd::clock::now;
use facetd::codec::Decoder;
use facetd::config::Config;
use facetd::face::{Place, Timestamp};
use facetd::model::Artefact;
use facetd::redrive::{Counts, Found, Redrive, Wanted, Watcher};
use facetd::rejection::Reason;
use facetd::shutdown::Shutdown;
use facetd::store::{Store, StoreError};
use serde::Serialize;

use super::configuration;
use super::ending::{self, Ear, Interrupted};
use super::output::{Output, table};
use super::progress::Bar;

/// Places of other records that are printed; JSON has them all.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd redrive --config facetd.toml --dry-run                                what would be sent
  facetd redrive --config facetd.toml --reason collection_limit                after collections.max was raised
  facetd redrive --config facetd.toml --reason suppressed --since 2h           after facetd allow
  facetd redrive --config facetd.toml --since 2026-11-24T08:00:00Z --json

The daemon may run. Without --reason those are taken whose cause can be gone: too_large, wrong_dimension, suppressed,
expired, collection_limit, wrong_shard. A record goes to the partition it was in, with its key, payload and headers as
they were, behind all that came since; so it is not sent where the same face has a later record (`later`), be it
another embedding, an erase or the copy of an earlier redrive. Running it again is harmless, also after Ctrl-C or a kill:
what was sent is found in the topic. Records that are rejected again are dead letters again.

sent: the brokers have it. later: see above. gone: retention has deleted the record. other: another record stands in its place,
as after the topic was made anew; it is named and not sent.")]
pub struct Arguments {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only letters with this reason; may be given more than once
    #[arg(long = "reason", value_name = "R", value_parser = reasons())]
    reasons: Vec<Reason>,
    /// Only letters written since: a time of RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Count and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

fn reasons() -> impl TypedValueParser<Value = Reason> {
    let words = PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str()));
    words.try_map(|word| Reason::ALL.iter().copied().find(|reason| reason.as_str() == word).ok_or("no reason"))
}

fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(Timestamp(time.timestamp_millis()));
    }
    match humantime_serde::re::humantime::parse_duration(text) {
        Ok(ago) => Ok(Timestamp(now().0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))),
        Err(_) => Err("give a time of RFC 3339, such as 2026-11-24T08:00:00Z, or how long ago, such as 2h".to_string()),
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration(&arguments.config)?;
    // A signal asks for an end in which what is on its way still arrives.
    let (ear, stop) = (Ear::open()?, Shutdown::default());
    ear.stops(stop.clone());
    ending::if_interrupted(|| "run it again: what was sent is not sent again".to_string());
    let decoder = Decoder {
        dimension: Artefact::open(&config.model.dir, config.model.stage)?.shape.dimension,
        default_collection: config.collections.default.clone(),
        max_message_bytes: config.limits.message_bytes,
    };
    let redrive = Redrive::connect(&config.kafka, decoder)?;
    let wanted = Wanted { reasons: arguments.reasons.clone(), since: arguments.since };
    let looked = with_bar("{bar:40} {pos}/{len} records of the input read {per_sec} {eta} left", &stop, |watcher| {
        redrive.find(&wanted, watcher)
    })?;
    let stopped = |said: &str| {
        let said = said.to_string();
        Err(Interrupted { signal: ear.signal().unwrap_or_default(), said }.into())
    };
    let Some(mut found) = looked else { return stopped("stopped before anything was sent") };
    let mut whole = true;
    if !arguments.dry_run && found.to_send() > 0 {
        let begun = begin(&config, &found)?;
        let sending = with_bar("{bar:40} {pos}/{len} sent {per_sec} {eta} left", &stop, |watcher| {
            redrive.send(&mut found, watcher)
        });
        if let Some(begun) = begun {
            // What is done stays done where that cannot be written down; the log on standard error says so.
            let _ = begun.end(&match &sending {
                Ok(_) => Outcome::sent(found.to_send()),
                Err(error) => Outcome::Unknown { why: error.to_string() },
            });
        }
        whole = sending.context("not everything was sent")?;
    }
    arguments.output.answer(&Answer::of(&found, arguments.dry_run, whole, &config.kafka.input_topic))?;
    match whole {
        true => Ok(()),
        false => stopped("stopped; run it again for the rest: what was sent is not sent again"),
    }
}

/// Writes down that it is asked for, where the daemon's state is on this machine, or its configuration says where.
fn begin(config: &Config, found: &Found) -> anyhow::Result<Option<Begun>> {
    let path = config.audit();
    let is_state = match Store::is_state(&config.state.dir) {
        // It may be there, for others to see.
        Err(error @ StoreError::Io { .. }) => return Err(error.into()),
        is_state => is_state.unwrap_or(false),
    };
    if !is_state && path.parent() == Some(config.state.dir.as_path()) {
        return Ok(None);
    }
    let reasons = found.counts.iter().filter(|(_, counts)| counts.sent > 0).map(|(&reason, _)| reason);
    Ok(Some(Audit::open(&path)?.begin(Hand::of_user(), Deed::redrive(reasons))?))
}

fn with_bar<T>(template: &'static str, stop: &Shutdown, step: impl FnOnce(&mut Watcher) -> T) -> T {
    let mut bar = Bar::new(template);
    step(&mut Watcher { progress: &mut |progress| bar.show(progress), stop: &|| stop.is_requested() })
}

#[derive(Serialize)]
struct Answer<'a> {
    dry_run: bool,
    whole: bool,
    reasons: &'a BTreeMap<Reason, Counts>,
    other_records: &'a [Place],
    left: &'a BTreeMap<Reason, u64>,
    letters_elsewhere: u64,
    unreadable: u64,
    input_topic: &'a str,
}

impl<'a> Answer<'a> {
    fn of(found: &'a Found, dry_run: bool, whole: bool, input_topic: &'a str) -> Answer<'a> {
        let Found { counts, others, left, elsewhere, unreadable, .. } = found;
        let (letters_elsewhere, unreadable) = (*elsewhere, *unreadable);
        Answer {
            dry_run,
            whole,
            reasons: counts,
            other_records: others,
            left,
            letters_elsewhere,
            unreadable,
            input_topic,
        }
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |name: &str, Counts { sent, later, gone, other }: Counts| {
            let numbers = [sent, later, gone, other].map(|count| count.to_string());
            std::iter::once(name.to_string()).chain(numbers).collect::<Vec<String>>()
        };
        let mut all = Counts::default();
        for counts in self.reasons.values() {
            all.sent += counts.sent;
            all.later += counts.later;
            all.gone += counts.gone;
            all.other += counts.other;
        }
        let would = if self.dry_run { "would send" } else { "sent" };
        let head = ["reason", would, "later", "gone", "other"].map(str::to_string).to_vec();
        let rows = self.reasons.iter().map(|(reason, &counts)| row(reason.as_str(), counts));
        let rows = std::iter::once(head).chain(rows).chain([row("all", all)]);
        writeln!(f, "{}", table(&[19, 12, 11, 11, 11], &[1, 2, 3, 4], rows).trim_fmt())?;

        let Answer { other_records, left, letters_elsewhere, unreadable, input_topic, .. } = self;
        for place in other_records.iter().take(SHOWN) {
            writeln!(f, "{input_topic} {place}: another record than the dead letter's stands there; it is not sent")?;
        }
        if other_records.len() > SHOWN {
            writeln!(f, "… and {} more; --json has them all", other_records.len() - SHOWN)?;
        }
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(|(reason, letters)| format!("{letters} {reason}")).collect();
            let left = left.join(", ");
            writeln!(f, "left: {left}; name them with --reason, or give an earlier --since, to have them sent")?;
        }
        if *letters_elsewhere > 0 {
            writeln!(f, "{letters_elsewhere} letters are about another topic or another daemon's partitions")?;
        }
        if *unreadable > 0 {
            writeln!(f, "{unreadable} records of the dead-letter topic are no dead letters this version can read")?;
        }
        Ok(())
    }
}
