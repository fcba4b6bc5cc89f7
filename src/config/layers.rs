//! How a configuration comes together out of its layers, the defaults, the file and the environment, as tables of keys.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::secrets;

/// FACETD_SECTION__KEY overrides section.key. Variables without the double underscore are not ours.
const ENVIRONMENT_PREFIX: &str = "FACETD_";
const ENVIRONMENT_SEPARATOR: &str = "__";
/// The tables whose keys are the user's own.
const FREE_TABLES: [&str; 3] = ["kafka.librdkafka_options", "collections.override", "traces.headers"];

/// What systemd was told to load (`LoadCredential=`): files named as variables are, with the value alone.
pub(super) fn credentials() -> impl Iterator<Item = (String, String)> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").and_then(|folder| std::fs::read_dir(folder).ok());
    let files = folder.into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        // What is not text is no key's value: others may be there that the configuration names as files.
        let value = std::fs::read_to_string(file.path()).ok()?;
        Some((name, value.trim_end_matches('\n').to_string()))
    })
}

/// What the environment overrides.
#[derive(Default)]
pub(super) struct Overlaid {
    /// What could not be placed.
    pub errors: Vec<String>,
    /// The variable that each key's value comes from.
    variables: BTreeMap<String, String>,
}

impl Overlaid {
    /// `error`, which begins with its key, with the variable to blame; none: it is of the file.
    pub fn named(&self, error: &str) -> Option<String> {
        let variable = self.variables.get(error.split(':').next()?)?;
        Some(format!("{error}; that is {variable}, of the environment or of a credential"))
    }
}

/// Sets what the environment overrides.
pub(super) fn overlay_environment(
    given: &mut Table,
    defaults: &Table,
    environment: impl Iterator<Item = (String, String)>,
) -> Overlaid {
    let mut overlaid = Overlaid::default();
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let Some((section, key)) = path.split_once(ENVIRONMENT_SEPARATOR) else { continue };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        // As it stands where the default is text, except for a list that is no secret; as TOML elsewhere.
        let is_text = defaults.get(&section).and_then(|keys| keys.get(&key)).is_some_and(Value::is_str);
        let is_secret = is_text && secrets::takes(&format!("{section}.{key}")).is_some();
        let value = match text.parse::<Value>() {
            Ok(value @ Value::Array(_)) if !is_secret => value,
            Ok(value) if !is_text && !matches!(value, Value::String(_) | Value::Datetime(_)) => value,
            _ => Value::String(text),
        };
        match given.entry(section.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(table) => {
                overlaid.variables.insert(format!("{section}.{key}"), name);
                table.insert(key, value);
            }
            _ => overlaid.errors.push(format!("{name}: {section} is not a section")),
        }
    }
    overlaid
}

pub(super) fn is_known(defaults: &Table, key: &str) -> bool {
    let section_and_key = key.split_once('.');
    FREE_TABLES.contains(&key)
        || section_and_key.is_some_and(|(section, key)| {
            defaults.get(section).and_then(Value::as_table).is_some_and(|table| table.contains_key(key))
        })
}

pub(super) fn unknown(defaults: &Table, key: &str) -> String {
    let section = key.split('.').next().unwrap_or(key);
    match defaults.get(section).and_then(Value::as_table) {
        Some(table) => {
            let known: Vec<&str> = table.keys().map(String::as_str).collect();
            format!("{key}: unknown key; [{section}] has {}", known.join(", "))
        }
        None => {
            let known: Vec<&str> = defaults.keys().map(String::as_str).collect();
            format!("{key}: unknown section; there are {}", known.join(", "))
        }
    }
}
