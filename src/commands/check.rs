//! `facetd check`: what `facetd run` would find, without running.

use std::path::{Path, PathBuf};

use clap::Args;
use facetd::config::{CollectionSettings, Collections, Config, Http};
use facetd::daemon::LoadedModel;
use facetd::daemon::clock::now;
use facetd::daemon::shard::ShardSettings;
use facetd::http::access::Tokens;
use facetd::http::may_listen;
use facetd::http::tls::Certificate;
use facetd::model::Stage;
use facetd::source::topics::check_topics;
use facetd::store::{Model, Store, StoreError};

use super::sample::{self, Verdict};

#[derive(Args)]
pub struct Arguments {
    /// The configuration to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Features of your own faces as they come, .npy or .bin: are they like those the model was trained on? A no is a
    /// warning
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config).inspect_err(|errors| println!("config  WRONG  {errors}"));
    let Ok(config) = config else { anyhow::bail!("the configuration is wrong, the rest was not checked") };
    println!("config  ok     {}", arguments.config.display());
    for warning in config.warnings() {
        println!("config  WARN   {warning}");
    }

    let mut wrong = 0;
    let mut tell = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(text) => println!("{what:<7} ok     {text}"),
        Err(text) => {
            wrong += 1;
            println!("{what:<7} WRONG  {text}");
        }
    };
    let model = LoadedModel::load(&config.model);
    match model {
        Ok(LoadedModel { artefact, model }) => {
            let stage = match artefact.stage {
                Stage::ReLp => String::new(),
                stage => format!(", stage {stage}"),
            };
            let (name, dimension, device) = (&artefact.name, artefact.shape.dimension, model.device());
            tell("model", Ok(format!("{name}, {dimension} wide, on {device}{stage}")));
            match arguments.sample.as_deref().map(|sample| sample::compare(sample, &artefact)) {
                None => {}
                Some(Ok(Verdict::Fits(text))) => tell("sample", Ok(text)),
                Some(Ok(Verdict::Warns(text))) => println!("{:<7} WARN   {text}", "sample"),
                Some(Err(error)) => tell("sample", Err(error.to_string())),
            }
            let settings = ShardSettings::new(&config, &artefact);
            let state = check_state(&config.state.dir, &settings.model);
            tell("state", state.map_err(|error| error.to_string()));
        }
        Err(error) => tell("model", Err(error.to_string())),
    }
    tell("http", check_http(&config.http));
    for kept in retention(&config.collections) {
        tell("keeps", Ok(kept));
    }
    let broker = check_topics(&config.kafka).map(|partitions| {
        format!("{}, {} has {} partitions", config.kafka.brokers, config.kafka.input_topic, partitions.len())
    });
    tell("broker", broker.map_err(|error| error.to_string()));
    match wrong {
        0 => Ok(()),
        _ => anyhow::bail!("{wrong} of the checks failed"),
    }
}

/// The state's folder, as `facetd run` would find it.
fn check_state(folder: &Path, model: &Model) -> Result<String, StoreError> {
    let told = match Store::is_state(folder)? {
        false => format!("{} will be made", folder.display()),
        true => {
            let store = Store::open_existing(folder)?;
            store.check_model(model)?;
            format!("{}, {} collections", folder.display(), store.collections().count())
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
