//! The configuration: one struct a section, each field a key of config/facetd.toml.
//!
//! The shipped file is the default: it is compiled in, and a user's file and the environment are
//! laid over it. All that is wrong is found before anything is refused, and each error begins with
//! its key.

mod keys;
mod layers;
mod places;
mod plain;
mod secrets;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use keys::{Keys, leaves, set};
use layers::{credentials, is_known, overlay_environment, unknown};
use places::Places;

use crate::audit;
use crate::face::CollectionName;
use crate::model::{Device, Stage};
use crate::permissions;

/// Every key with its comment and default.
pub const DEFAULT: &str = include_str!("../../config/facetd.toml");
/// Everything wrong with a configuration, an entry an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub kafka: Kafka,
    pub state: State,
    pub model: Model,
    pub engine: Engine,
    pub collections: Collections,
    pub limits: Limits,
    pub http: Http,
    pub log: Log,
    pub traces: Traces,
    #[serde(skip)]
    keys: Keys,
    /// What is not wrong and yet should be known.
    #[serde(skip)]
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// The brokers to begin with, host:port, separated by commas.
    pub brokers: String,
    /// Consumer group under which positions and what is published are kept. One for each installation.
    pub group: String,
    /// "exactly_once": in Kafka's transactions; readers must read committed records only. "at_least_once": for brokers
    /// without transactions; a crash writes some events again, with the same ids.
    pub delivery: Delivery,
    /// Number of this daemon among those that share the group, each with partitions of its own; from 0.
    pub shard: u32,
    /// How many daemons share the group, 1 to 1024. A collection's home is the shard CRC-32 of its name, modulo shards.
    pub shards: u32,
    /// Topic faces come in on. Its key is the face_id.
    pub input_topic: String,
    /// Partitions of the input topic that this daemon owns: "all", or a list such as [0, 1].
    pub partitions: Partitions,
    /// Topic of cluster changes, cleanup.policy=delete.
    pub events_topic: String,
    /// Topic of each face's home cluster, cleanup.policy=compact.
    pub face_state_topic: String,
    /// Topic of each cluster's state, cleanup.policy=compact.
    pub cluster_state_topic: String,
    /// Topic of records that could not be applied, with a reason header.
    pub dead_letters_topic: String,
    /// How to talk to the brokers: "plaintext", "ssl", "sasl_plaintext" or "sasl_ssl".
    pub security_protocol: String,
    /// "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"; used when security_protocol begins with sasl.
    pub sasl_mechanism: String,
    /// Name for SASL.
    pub sasl_username: String,
    /// Password for SASL. Better given as FACETD_KAFKA__SASL_PASSWORD than written here, where everyone may read it.
    pub sasl_password: Secret,
    /// File of certificate authorities for ssl; empty: the system's.
    pub ssl_ca: String,
    /// Options handed to librdkafka as they are, such as { "client.rack" = "a" }. They win over facetd's own.
    pub librdkafka_options: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Folder of the state. One facetd at a time.
    pub dir: PathBuf,
    /// How often what is derived of a collection that changed is written, for a fast restart; "0s": never, nor at a stop.
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Folder with model.toml, re.onnx and lp.onnx.
    pub dir: PathBuf,
    /// How much of it is used: "re_lp", all of it, or of the paper's ablation "naive", "only_re" or "only_lp", each where
    /// model.toml has its [stages] section.
    pub stage: Stage,
    /// Where the model runs: "cpu", "cuda:0" (fails without CUDA), or "auto" (CUDA when it works, else the CPU).
    #[serde(deserialize_with = "device")]
    pub device: Device,
    /// Threads of one run on the CPU; 0: one for each core.
    pub threads: usize,
    /// ONNX Runtime's shared library; empty: looked for beside the program and in the usual places.
    pub runtime: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// "hnsw", or "exact" (compares with every face: for small collections).
    pub index: Index,
    /// Half the links a face keeps in the index, 2 to 255. More: better recall, more memory.
    pub hnsw_connections: usize,
    /// Candidates kept while a face is inserted, 1 to 4096. More: better recall, slower.
    pub hnsw_ef_construction: usize,
    /// Candidates kept while a face is searched, 1 to 4096; also how many faces a newcomer meets.
    pub hnsw_ef_search: usize,
    /// Faces up to which a collection does without the graph: comparing with everyone is faster there and misses nobody.
    pub hnsw_few: usize,
    /// Faces of one batch at most, 1 to 4096. A batch is one commit.
    pub batch_faces: usize,
    /// How long a batch waits for more faces once it has one. More: higher throughput, later events.
    #[serde(with = "humantime_serde")]
    pub batch_wait: Duration,
    /// Stale faces scored again for each record, on average over a batch, 0 to 1024. The rest wait for a quiet moment.
    pub refresh_per_face: usize,
    /// Faces of a component of links up to which its clusters are computed at every change, 1 to 1000000. Larger ones are
    /// extended meanwhile, and computed when there is time.
    pub max_component: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collections {
    /// The collection of faces that name none.
    pub default: CollectionName,
    /// Collections at most, 1 to 10000. A face that would start one more goes to the dead letters.
    pub max: usize,
    /// How long a face is kept, by captured_at, or its arrival where there is none or it is later; "0s": for ever.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Faces kept in a collection at most, the oldest go first; 0: any number.
    pub max_faces: usize,
    /// Faces of lower quality join clusters but never bridge two, 0 to 1. Those without a quality count as good.
    pub quality_floor: f32,
    /// Other max_age, max_faces and quality_floor for single collections, such as { lobby = { max_age = "30days" } }.
    #[serde(rename = "override")]
    pub overrides: BTreeMap<CollectionName, Override>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest input message in bytes, 64 up to 100000000. A larger one goes to the dead letters.
    pub message_bytes: usize,
    /// Decoded faces waiting for the engine at most, 1 to 1000000. When they are reached the consumer pauses.
    pub queued_faces: usize,
    /// Faces of all collections at most; 0: any number. When they are reached nothing more is taken, and records wait in Kafka.
    pub faces: usize,
    /// Resident memory at most, in bytes; 0: any amount. When it is reached nothing more is taken, and records wait in Kafka.
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address of the API, /metrics, /healthz and /readyz. Off loopback only with tokens.
    pub listen: SocketAddr,
    /// File of the tokens that may ask, as `facetd token` writes it; empty: everyone may do everything.
    pub tokens: PathBuf,
    /// Certificate in PEM, its chain after it, for TLS; empty: none, and what is sent can be read on the way. Read again when it
    /// changes.
    pub tls_certificate: PathBuf,
    /// Key of the certificate, in PEM. A file that others on the machine cannot read.
    pub tls_key: PathBuf,
    /// Connections at most, 1 to 100000; one more is closed at once. Each takes a descriptor, and event streams hold theirs.
    pub connections: usize,
}

impl Http {
    /// The file of tokens, if there is one.
    pub fn tokens(&self) -> Option<&Path> {
        given(&self.tokens)
    }

    /// The files of the certificate and its key, if there are any.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        Some((given(&self.tls_certificate)?, given(&self.tls_key)?))
    }
}

/// A path, where one is given.
fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// "error", "warn", "info", "debug" or "trace", or a filter such as "info,facetd::engine=debug".
    pub level: String,
    /// "text" for people or "json" for machines.
    pub format: LogFormat,
    /// File of what was done by hand, over HTTP and by commands: erased, moved, tied, parted, pinned, named; a JSON line each.
    /// Empty: audit.jsonl in state.dir.
    pub audit: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// Collector that spans go to, with OTLP over HTTP: the base of its URL, such as "http://127.0.0.1:4318", to which /v1/traces
    /// is added. Empty: no traces.
    pub endpoint: String,
    /// Share of batches, and of requests to the API, that is traced, 0 to 1. What comes with a sampled traceparent always is.
    pub sample: f64,
    /// Headers to send along, such as { authorization = "Bearer ..." }. Better given as FACETD_TRACES__HEADERS than written here,
    /// where everyone may read them.
    pub headers: BTreeMap<String, Secret>,
}

/// How often an entry reaches Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

/// Partitions of the input topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    All,
    These(Vec<i32>),
}

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Partitions, D::Error> {
        let wrong = || serde::de::Error::custom("is not \"all\" or a list of partition numbers such as [0, 1]");
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "all" => Ok(Partitions::All),
            Value::Array(numbers) if !numbers.is_empty() => numbers
                .iter()
                .map(|number| number.as_integer().and_then(|n| i32::try_from(n).ok()).filter(|&n| n >= 0))
                .collect::<Option<Vec<i32>>>()
                .map(Partitions::These)
                .ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    Hnsw,
    Exact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// What a collection has of its own; what is left out is as for all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    #[serde(default, with = "humantime_serde")]
    max_age: Option<Duration>,
    max_faces: Option<usize>,
    quality_floor: Option<f32>,
}

/// What holds for one collection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CollectionSettings {
    /// None: for ever.
    pub max_age: Option<Duration>,
    /// None: any number.
    pub max_faces: Option<usize>,
    pub quality_floor: f32,
}

impl Collections {
    /// What holds for the collection `name`.
    pub fn settings(&self, name: &CollectionName) -> CollectionSettings {
        self.with(self.overrides.get(name).cloned().unwrap_or_default())
    }

    /// What holds for collections that have nothing of their own.
    pub fn settings_of_others(&self) -> CollectionSettings {
        self.with(Override::default())
    }

    fn with(&self, own: Override) -> CollectionSettings {
        CollectionSettings {
            max_age: Some(own.max_age.unwrap_or(self.max_age)).filter(|age| !age.is_zero()),
            max_faces: Some(own.max_faces.unwrap_or(self.max_faces)).filter(|&faces| faces > 0),
            quality_floor: own.quality_floor.unwrap_or(self.quality_floor),
        }
    }
}

impl Log {
    /// What is logged: `before`, and what the level says. Values of fields are compared as they are: an expression
    /// for them would be compiled first, and some take all the memory there is.
    pub fn filter(&self, before: &str) -> Result<EnvFilter, ParseError> {
        EnvFilter::builder().with_regex(false).parse(format!("{before}{}", self.level))
    }
}

/// A value that no log shows.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Device, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads `path` and the environment over the defaults.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        // A variable that is not UTF-8 is not ours.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let environment = environment.chain(credentials());
        let (mode, text) = permissions::read_text(path)
            .map_err(|error| ConfigErrors(vec![format!("cannot read {}: {error}", path.display())]))?;
        let config = Config::read(Some(path), &text, environment)?;
        Ok(Config { warnings: secrets::exposed(path, mode, &text).into_iter().collect(), ..config })
    }

    /// What is not wrong and yet should be known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `text` and the variables of `environment` over the defaults.
    pub fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
        Config::read(None, text, environment)
    }

    /// `text`, of `file`, and the variables of `environment` over the defaults.
    fn read(
        file: Option<&Path>,
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigErrors> {
        let no_toml = |error| ConfigErrors(vec![places::syntax(file, text, &error)]);
        let mut given = text.parse::<Table>().map_err(no_toml)?;
        let defaults: Table = DEFAULT.parse().expect("the shipped configuration is TOML, as a test proves");
        let mut overlaid = overlay_environment(&mut given, &defaults, environment);
        let mut errors = std::mem::take(&mut overlaid.errors);

        let mut merged = defaults.clone();
        for (key, value) in leaves(&given) {
            if !is_known(&defaults, &key) {
                errors.push(unknown(&defaults, &key));
                continue;
            }
            // Each key is tried alone, so that one error does not hide the next.
            let mut alone = defaults.clone();
            set(&mut alone, &key, value.clone());
            match alone.try_into::<Config>() {
                Ok(_) => set(&mut merged, &key, value),
                Err(error) => errors.push(match secrets::takes(&key) {
                    Some(takes) => format!("{key}: is not {takes}"),
                    None => format!("{key}: {}", plain::told(error.message(), &defaults, &key)),
                }),
            }
        }
        // What was refused keeps its default here, so that the checks see all that was accepted.
        let config: Config = merged.clone().try_into().map_err(|error| ConfigErrors(vec![error.to_string()]))?;
        errors.extend(config.check());
        if errors.is_empty() {
            return Ok(Config { keys: Keys(merged), ..config });
        }
        let places = file.map(|file| Places::of(file, text));
        let named = |error: String| match (overlaid.named(&error), &places) {
            (Some(named), _) => named,
            (None, Some(places)) => places.named(error),
            (None, None) => error,
        };
        Err(ConfigErrors(errors.into_iter().map(named).collect()))
    }

    /// The file of what was done by hand.
    pub fn audit(&self) -> PathBuf {
        given(&self.log.audit).map_or_else(|| self.state.dir.join(audit::FILE), Path::to_path_buf)
    }

    /// The same where the state is not in its place yet but in `folder`.
    pub fn audit_in(&self, folder: &Path) -> PathBuf {
        let audit = self.audit();
        audit.strip_prefix(&self.state.dir).map_or_else(|_| audit.clone(), |inside| folder.join(inside))
    }

    /// The keys that `other` gives another value.
    pub fn changed(&self, other: &Config) -> Vec<String> {
        let mine: BTreeMap<String, Value> = leaves(&self.keys.0).into_iter().collect();
        let theirs = leaves(&other.keys.0).into_iter();
        theirs.filter(|(key, value)| mine.get(key) != Some(value)).map(|(key, _)| key).collect()
    }

    /// Notes that `key` has the value of `other` from now on.
    pub fn take_over(&mut self, key: &str, other: &Config) {
        let value = leaves(&other.keys.0).into_iter().find(|(name, _)| name == key);
        if let Some((_, value)) = value {
            set(&mut self.keys.0, key, value);
        }
    }

    /// Ranges, and keys that must agree.
    fn check(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut range = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                errors.push(format!("{key}: {value} is not {least} to {most}"));
            }
        };
        let Config { kafka, state, model, engine, collections, limits, http, log, traces, .. } = self;
        range("engine.hnsw_connections", engine.hnsw_connections, 2, 255);
        range("engine.hnsw_ef_construction", engine.hnsw_ef_construction, 1, 4096);
        range("engine.hnsw_ef_search", engine.hnsw_ef_search, 1, 4096);
        range("engine.batch_faces", engine.batch_faces, 1, 4096);
        range("engine.refresh_per_face", engine.refresh_per_face, 0, 1024);
        range("engine.max_component", engine.max_component, 1, 1_000_000);
        range("collections.max", collections.max, 1, 10_000);
        range("kafka.shards", kafka.shards as usize, 1, 1024);
        range("model.threads", model.threads, 0, 1024);
        range("limits.message_bytes", limits.message_bytes, 64, 100_000_000);
        range("limits.queued_faces", limits.queued_faces, 1, 1_000_000);
        range("http.connections", http.connections, 1, 100_000);
        let pair = [("http.tls_certificate", &http.tls_certificate), ("http.tls_key", &http.tls_key)];
        match pair.map(|(_, path)| given(path).is_some()) {
            [true, false] => errors.push(format!("{}: is empty, and {} is not", pair[1].0, pair[0].0)),
            [false, true] => errors.push(format!("{}: is empty, and {} is not", pair[0].0, pair[1].0)),
            _ => {}
        }
        if engine.batch_wait > Duration::from_secs(5) {
            errors.push("engine.batch_wait: more than 5s; a stop must be able to commit within 10s".to_string());
        }
        let floors = collections
            .overrides
            .iter()
            .filter_map(|(name, own)| Some((format!("collections.override.{name}.quality_floor"), own.quality_floor?)));
        let floors = floors.chain([("collections.quality_floor".to_string(), collections.quality_floor)]);
        errors.extend(
            floors
                .filter(|(_, floor)| !(0.0..=1.0).contains(floor))
                .map(|(key, floor)| format!("{key}: {floor} is not 0 to 1")),
        );
        let topics = [
            ("kafka.input_topic", &kafka.input_topic),
            ("kafka.events_topic", &kafka.events_topic),
            ("kafka.face_state_topic", &kafka.face_state_topic),
            ("kafka.cluster_state_topic", &kafka.cluster_state_topic),
            ("kafka.dead_letters_topic", &kafka.dead_letters_topic),
        ];
        for (place, (key, topic)) in topics.iter().enumerate() {
            if let Some((other, _)) = topics[..place].iter().find(|(_, earlier)| earlier == topic) {
                errors.push(format!("{key}: is the same topic as {other}"));
            }
        }
        let words = topics.into_iter().chain([("kafka.brokers", &kafka.brokers), ("kafka.group", &kafka.group)]);
        errors.extend(words.filter(|(_, text)| text.is_empty()).map(|(key, _)| format!("{key}: is empty")));
        if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&kafka.security_protocol.as_str()) {
            let found = &kafka.security_protocol;
            errors.push(format!(
                "kafka.security_protocol: {found:?} is not \"plaintext\", \"ssl\", \"sasl_plaintext\" or \"sasl_ssl\""
            ));
        }
        let other_mechanism = ["sasl.mechanism", "sasl.mechanisms"];
        if !["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&kafka.sasl_mechanism.as_str())
            && !other_mechanism.iter().any(|option| kafka.librdkafka_options.contains_key(*option))
        {
            let found = &kafka.sasl_mechanism;
            errors.push(format!(
                "kafka.sasl_mechanism: {found:?} is not \"PLAIN\", \"SCRAM-SHA-256\" or \"SCRAM-SHA-512\""
            ));
        }
        if kafka.security_protocol.starts_with("sasl") && kafka.sasl_username.is_empty() {
            errors.push("kafka.sasl_username: is empty, and kafka.security_protocol asks for SASL".to_string());
        }
        if state.dir.as_os_str().is_empty() {
            errors.push("state.dir: is empty".to_string());
        }
        if kafka.shard >= kafka.shards {
            errors.push(format!("kafka.shard: {} is not below kafka.shards, {}", kafka.shard, kafka.shards));
        }
        if let Partitions::These(numbers) = &kafka.partitions
            && numbers.iter().collect::<BTreeSet<_>>().len() < numbers.len()
        {
            errors.push("kafka.partitions: names a partition twice".to_string());
        }
        // A lone word that is no level would be taken for the name of a module, and silence all others.
        let is_level = log.level.contains('=') || log.level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        if !is_level || log.filter("").is_err() {
            errors.push(format!("log.level: {:?} is not a level or a filter", log.level));
        }
        errors.extend(traces.check());
        errors
    }
}

#[cfg(test)]
mod tests;
