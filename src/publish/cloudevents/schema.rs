//! Holds values against the schemas of schemas/, for tests.
//!
//! The words of JSON Schema that they use, and a panic at any other, so that a schema cannot say
//! what is not checked. Stricter in one way: a field that no schema names is an error. (A validator
//! from a crate would bring some forty others, and the best kept one switches serde_json to
//! another way of reading numbers, in the program under test too.)

use std::collections::BTreeSet;

use serde_json::Value;

/// A schema file.
pub struct Schema {
    root: Value,
}

/// The fields of an object that were named.
type Named = BTreeSet<String>;

impl Schema {
    /// `schemas/{name}.schema.json`.
    pub fn read(name: &str) -> Schema {
        let path = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        Schema { root: serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() }
    }

    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.whole(&self.root, value)
    }

    /// `value` follows `schema`, which names all of its fields.
    fn whole(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let named = self.part(schema, value)?;
        let unnamed = value.as_object().into_iter().flat_map(|object| object.keys()).find(|key| !named.contains(*key));
        unnamed.map_or(Ok(()), |key| Err(format!("no schema names {key} of {value}")))
    }

    fn part(&self, schema: &Value, value: &Value) -> Result<Named, String> {
        let mut named = Named::new();
        let wrong = |what: &str| Err(format!("{value}: {what}"));
        for (word, says) in schema.as_object().unwrap() {
            match word.as_str() {
                "$schema" | "$defs" | "title" | "description" => {}
                "$ref" => named.extend(self.part(self.root.pointer(&says.as_str().unwrap()[1..]).unwrap(), value)?),
                "allOf" => {
                    for schema in says.as_array().unwrap() {
                        named.extend(self.part(schema, value)?);
                    }
                }
                "oneOf" => {
                    let tried = says.as_array().unwrap().iter().map(|schema| self.part(schema, value));
                    let (mut follows, errors): (Vec<_>, Vec<_>) = tried.partition(Result::is_ok);
                    match follows.len() {
                        1 => named.extend(follows.remove(0)?),
                        number => return wrong(&format!("follows {number} of oneOf: {errors:?}")),
                    }
                }
                "type" if is_of_type(says.as_str().unwrap(), value) => {}
                "enum" if says.as_array().unwrap().contains(value) => {}
                "const" if says == value => {}
                "minimum" if value.as_i64().is_none_or(|number| number >= says.as_i64().unwrap()) => {}
                "minLength" if value.as_str().is_none_or(|text| text.len() as u64 >= says.as_u64().unwrap()) => {}
                "pattern" if value.as_str().is_none_or(|text| matches(says.as_str().unwrap(), text)) => {}
                "required" => {
                    let mut required = says.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
                    if let Some(key) = required.find(|key| value.get(key).is_none()) {
                        return wrong(&format!("{key} is missing"));
                    }
                }
                "properties" => {
                    for (key, schema) in says.as_object().unwrap() {
                        if let Some(field) = value.get(key) {
                            self.whole(schema, field)?;
                            named.insert(key.clone());
                        }
                    }
                }
                "type" | "enum" | "const" | "minimum" | "minLength" | "pattern" => {
                    return wrong(&format!("is not of {word} {says}"));
                }
                word => panic!("this check does not know {word:?}"),
            }
        }
        Ok(named)
    }
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        name => panic!("this check does not know the type {name:?}"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let all = |allowed: fn(char) -> bool| text.chars().all(allowed);
    match pattern {
        "^[1-9][0-9]*$" => !text.is_empty() && !text.starts_with('0') && all(|c| c.is_ascii_digit()),
        "^[0-9a-f]{64}$" => text.len() == 64 && all(|c| matches!(c, '0'..='9' | 'a'..='f')),
        "^[A-Za-z0-9._-]{1,64}$" => {
            (1..=64).contains(&text.len()) && all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        }
        pattern => panic!("this check does not know the pattern {pattern:?}"),
    }
}
