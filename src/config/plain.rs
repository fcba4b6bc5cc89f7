//! What is wrong with a value, for who does not know Rust.

use toml::{Table, Value};

/// What serde says it expected, and what that is.
const WORDS: [(&[&str], &str); 3] = [
    (&["usize", "u64", "u32", "u16", "u8"], "a whole number of at least 0"),
    (&["i64", "i32", "i16", "i8"], "a whole number"),
    (&["f64", "f32"], "a number"),
];

/// `message`, which says what it expected of `key`, in plain words and with the default for an example.
pub(super) fn told(message: &str, defaults: &Table, key: &str) -> String {
    let message = message.trim();
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_string() };
    let plain = WORDS.iter().find(|(types, _)| types.contains(&expected)).map_or(expected, |(_, plain)| plain);
    let default = key.split_once('.').and_then(|(section, key)| defaults.get(section)?.get(key));
    match default.filter(|default| **default != Value::String(String::new())) {
        Some(default) => format!("{found}, expected {plain}, such as {default}"),
        None => format!("{found}, expected {plain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_is_told_with_an_example() {
        let defaults: Table = "[engine]\nbatch_faces = 64\n[http]\ntokens = \"\"\n".parse().unwrap();
        let told = |message, key| told(message, &defaults, key);
        let many = r#"invalid type: string "many", expected usize"#;
        let plain = r#"invalid type: string "many", expected a whole number of at least 0, such as 64"#;
        assert_eq!(told(many, "engine.batch_faces"), plain);
        let number = "invalid type: integer `5`, expected a string";
        assert_eq!(told(number, "http.tokens"), number);
        assert_eq!(told("0 is not 1 to 4096", "engine.batch_faces"), "0 is not 1 to 4096");
    }
}
