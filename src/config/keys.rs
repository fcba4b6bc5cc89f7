//! Tables of TOML by their keys, written section.key.

use toml::{Table, Value};

/// Every key's value as it was read, to tell what another configuration changes. No log shows it: some are secrets.
#[derive(Clone, Default)]
pub(super) struct Keys(pub(super) Table);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(keys)")
    }
}

/// A key and its value, the key written section.key.
pub(super) fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) if !keys.is_empty() => {
                found.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.clone())));
            }
            Value::Table(_) => {}
            _ => found.push((section.clone(), value.clone())),
        }
    }
    found
}

pub(super) fn set(table: &mut Table, key: &str, value: Value) {
    if let Some((section, key)) = key.split_once('.')
        && let Some(Value::Table(section)) = table.get_mut(section)
    {
        section.insert(key.to_string(), value);
    }
}
