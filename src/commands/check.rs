//! `facetd check`: what `facetd run` would find, without running.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use clap::Args;
use facetd::audit::{Audit, AuditError};
use facetd::clock::now;
use facetd::config::{CollectionSettings, Collections, Config, Http, Traces};
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::ShardSettings;
use facetd::http::access::Tokens;
use facetd::http::may_listen;
use facetd::http::tls::Certificate;
use facetd::model::{Device, OnnxModel, Stage};
use facetd::source::topics::check_topics;
use facetd::store::{Model, Store, StoreError};
use facetd::traces;
use serde::{Serialize, Serializer};

use super::ending::Found;
use super::output::{Output, table};
use super::verdict::Verdict;
use super::{machine, progress, sample};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd check --config /etc/facetd/facetd.toml
  facetd check --config facetd.toml --sample my-faces.npy
  facetd check --config facetd.toml --json

A line each, ok, WARN or FAIL. Ends with 3 when one is a FAIL: `facetd run` would not run, or not long. Changes nothing.")]
pub struct Arguments {
    /// The configuration to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Features of your own faces as they come, .npy or .bin: are they like those the model was trained on? A no is a
    /// warning
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

struct Checked {
    check: &'static str,
    verdict: Verdict,
}

impl Serialize for Checked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            check: &'a str,
            verdict: &'a str,
            detail: &'a str,
        }
        let (verdict, detail) = (self.verdict.word().to_lowercase(), self.verdict.detail());
        Shown { check: self.check, verdict: &verdict, detail }.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Checks<'a> {
    config: &'a Path,
    passed: bool,
    checks: Vec<Checked>,
}

impl Checks<'_> {
    fn tell(&mut self, check: &'static str, verdict: Verdict) {
        self.passed &= !matches!(verdict, Verdict::Fail(_));
        self.checks.push(Checked { check, verdict });
    }
}

impl fmt::Display for Checks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |Checked { check, verdict }: &Checked| {
            vec![check.to_string(), verdict.word().to_string(), verdict.detail().to_string()]
        };
        write!(f, "{}", table(&[8, 7], &[], self.checks.iter().map(row)).trim_fmt())
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut checks = Checks { config: &arguments.config, passed: true, checks: Vec::new() };
    let busy = progress::busy("checking");
    match Config::load(&arguments.config) {
        Ok(config) => {
            checks.tell("config", Verdict::Ok(arguments.config.display().to_string()));
            for warning in config.warnings() {
                checks.tell("config", Verdict::Warn(warning.clone()));
            }
            check_all(arguments, &config, &mut checks);
        }
        Err(errors) => checks.tell("config", Verdict::Fail(errors.to_string())),
    }
    drop(busy);
    arguments.output.answer(&checks)?;
    let failed = |Checked { verdict, .. }: &&Checked| matches!(verdict, Verdict::Fail(_));
    match checks.checks.iter().filter(failed).count() {
        0 => Ok(()),
        1 if checks.checks.len() == 1 => {
            Err(Found("the configuration is wrong, the rest was not checked".to_string()).into())
        }
        failed => Err(Found(format!("{failed} of the checks failed")).into()),
    }
}

fn check_all(arguments: &Arguments, config: &Config, checks: &mut Checks) {
    let folder = &config.state.dir;
    match LoadedModel::load(&config.model) {
        Ok(LoadedModel { artefact, model }) => {
            let stage = match artefact.stage {
                Stage::ReLp => String::new(),
                stage => format!(", stage {stage}"),
            };
            let (name, dimension) = (&artefact.name, artefact.shape.dimension);
            checks.tell("model", Verdict::Ok(format!("{name}, {dimension} wide, on {}{stage}", model.device())));
            checks.tell("device", check_device(config, &model));
            if let Some(path) = &arguments.sample {
                let compared = sample::compare(path, &artefact);
                checks.tell("sample", compared.unwrap_or_else(|error| Verdict::Fail(format!("{error:#}"))));
            }
            let settings = ShardSettings::new(config, &artefact);
            let state = check_state(folder, &settings.model);
            let held = state.as_ref().map_or(0, |(_, faces)| *faces);
            checks.tell("state", Verdict::of(state.map(|(told, _)| told)));
            checks.tell("memory", machine::memory(&config.limits, &config.collections, held, dimension));
        }
        Err(error) => checks.tell("model", Verdict::Fail(error.to_string())),
    }
    checks.tell("disk", machine::disk(folder));
    checks.tell("files", machine::files(&config.collections, &config.http));
    checks.tell("clock", machine::clock(&[&arguments.config, &folder.join("sled/db")]));
    let http = check_http(&config.http);
    let listens = http.is_ok();
    checks.tell("http", Verdict::of(http));
    if listens {
        checks.tell("page", check_page(&config.http));
    }
    checks.tell("audit", Verdict::of(check_audit(config)));
    if let Some(taken) = traces::try_out(&config.traces) {
        checks.tell("traces", check_traces(&config.traces, taken));
    }
    for kept in retention(&config.collections) {
        checks.tell("keeps", Verdict::Ok(kept));
    }
    let broker = check_topics(&config.kafka).map(|partitions| {
        format!("{}, {} has {} partitions", config.kafka.brokers, config.kafka.input_topic, partitions.len())
    });
    checks.tell("broker", Verdict::of(broker));
}

/// What the model would run on, and why.
fn check_device(config: &Config, model: &OnnxModel) -> Verdict {
    let device = model.device();
    match (config.model.device, model.fell_back()) {
        (Device::Auto, Some(why)) => {
            Verdict::Ok(format!("{device}: model.device is auto, and CUDA does not work here ({why})"))
        }
        (Device::Auto, None) if device == Device::Cpu => {
            Verdict::Ok(format!("{device}: the stage runs no graph that a GPU could"))
        }
        (Device::Auto, None) => Verdict::Ok(format!("{device}: model.device is auto, and CUDA works here")),
        (asked, _) => Verdict::Ok(format!("{device}: model.device is {asked}")),
    }
}

/// The state's folder, as `facetd run` would find it, and how many faces are in it.
fn check_state(folder: &Path, model: &Model) -> Result<(String, u64), StoreError> {
    let told = match Store::is_state(folder)? {
        false => (format!("{} will be made", folder.display()), 0),
        true => {
            let store = Store::open_existing(folder)?;
            store.check_model(model)?;
            let (collections, faces) = (store.collections().count(), store.faces());
            (format!("{}, {collections} collections, {faces} faces", folder.display()), faces)
        }
    };
    Store::check_room(folder).map(|()| told)
}

/// Who could ask, and whether facetd would listen there.
fn check_http(http: &Http) -> Result<String, String> {
    let tokens = http.tokens().map(Tokens::read).transpose().map_err(|error| error.to_string())?;
    may_listen(http.listen, tokens.is_some()).map_err(|error| error.to_string())?;
    let certificate = http.tls().map(|(certificate, key)| Certificate::read(certificate, key, now().0 / 1000));
    let certificate = certificate.transpose().map_err(|error| error.to_string())?;
    let who = match tokens {
        Some(tokens) => format!("{} tokens", tokens.len()),
        None => "everyone on this machine may do everything".to_string(),
    };
    let how = match certificate {
        Some(certificate) => format!(", TLS with a certificate valid until {}", certificate.valid_until()),
        None if http.listen.ip().is_loopback() => String::new(),
        None => " that can be read on the way: set http.tls_certificate, or have a proxy before it".to_string(),
    };
    Ok(format!("{}, {who}{how}", http.listen))
}

/// Where the page would be, and whether something is there already.
fn check_page(http: &Http) -> Verdict {
    let page = format!("{}://{}/", if http.tls().is_some() { "https" } else { "http" }, http.listen);
    match TcpListener::bind(http.listen) {
        Ok(_) => Verdict::Ok(page),
        Err(error) => Verdict::Warn(format!("{page}, but: {error}. A facetd that runs? Else change http.listen")),
    }
}

/// Where it would be written down what is done by hand.
fn check_audit(config: &Config) -> Result<String, AuditError> {
    let (path, folder) = (config.audit(), &config.state.dir);
    // The state's folder is made first.
    let is_there = (folder.exists() || path.parent() != Some(folder)) && Audit::look(&path)?;
    Ok(format!("{}{}", path.display(), if is_there { "" } else { " will be made" }))
}

/// Whether spans would arrive. Without them it runs all the same.
fn check_traces(traces: &Traces, taken: Result<(), String>) -> Verdict {
    match taken {
        Ok(()) => Verdict::Ok(format!("{}, {} of batches and requests", traces.endpoint, traces.sample)),
        Err(why) => Verdict::Warn(format!("{} takes none, they would be lost: {why}", traces.endpoint)),
    }
}

/// What is kept of which collections, where anything ever expires.
fn retention(collections: &Collections) -> Vec<String> {
    let own = collections.overrides.keys().map(|name| (name.to_string(), collections.settings(name)));
    let others = ("other collections".to_string(), collections.settings_of_others());
    let told = own.chain([others]).filter_map(|(name, CollectionSettings { max_age, max_faces, .. })| {
        let age =
            max_age.map(|age| format!("faces of the last {}", humantime_serde::re::humantime::format_duration(age)));
        let faces = max_faces.map(|faces| format!("{faces} faces at most"));
        let kept: Vec<String> = age.into_iter().chain(faces).collect();
        (!kept.is_empty()).then(|| format!("{name}: {}", kept.join(", ")))
    });
    told.collect()
}
