//! What of a configuration is secret: it is in no error, and a file that holds it is not for everyone.

use std::path::Path;

use toml::Table;

use super::keys::leaves;
use crate::permissions::OTHERS_READ;

/// The keys whose values no error shows, and what they take.
const SECRETS: [(&str, &str); 3] = [
    ("kafka.sasl_password", "text in quotes"),
    ("kafka.librdkafka_options", "a table of text, such as { \"client.rack\" = \"a\" }"),
    ("traces.headers", "a table of text, such as { authorization = \"...\" }"),
];
/// Those of librdkafka's options that are secret.
const SECRET_OPTIONS: [&str; 6] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
];

/// What a secret key takes; None: its value is no secret.
pub(super) fn takes(key: &str) -> Option<&'static str> {
    SECRETS.iter().find(|(secret, _)| *secret == key).map(|(_, takes)| *takes)
}

/// A word about a file that holds secrets and that everyone may read.
pub(super) fn exposed(path: &Path, mode: u32, text: &str) -> Option<String> {
    let given: Table = text.parse().ok()?;
    let held: Vec<String> = leaves(&given).into_iter().filter_map(|(key, value)| held(key, &value)).collect();
    (mode & OTHERS_READ != 0 && !held.is_empty()).then(|| {
        let (path, held) = (path.display(), held.join(" and "));
        format!(
            "{path} holds {held}, and everyone on this machine may read it: chmod o= {path}, or give \
             FACETD_KAFKA__SASL_PASSWORD or FACETD_TRACES__HEADERS, or a credential of systemd, instead"
        )
    })
}

/// The secret that stands under a key, by name.
fn held(key: String, value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) if key == "kafka.sasl_password" && !text.is_empty() => Some(key),
        toml::Value::Table(options) if key == "kafka.librdkafka_options" => {
            let option = options.keys().find(|option| SECRET_OPTIONS.contains(&option.as_str()))?;
            Some(format!("{key}.\"{option}\""))
        }
        // What of them is secret nobody can tell.
        toml::Value::Table(headers) if key == "traces.headers" && !headers.is_empty() => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_secret_that_everyone_may_read_is_told() {
        let told = |mode: u32, text: &str| exposed(Path::new("facetd.toml"), mode, text);
        let password = "[kafka]\nsasl_password = \"hunter2\"";
        let word = told(0o644, password).unwrap();
        assert!(
            word.contains("kafka.sasl_password") && word.contains("chmod o=") && !word.contains("hunter2"),
            "{word}"
        );
        assert_eq!(told(0o640, password), None);
        assert_eq!(told(0o644, "[kafka]\nsasl_username = \"me\"\nsasl_password = \"\""), None);
        assert_eq!(told(0o644, "[kafka]\nlibrdkafka_options = { \"client.rack\" = \"a\" }"), None);
        let word = told(0o604, "[kafka]\nlibrdkafka_options = { \"ssl.key.password\" = \"hunter2\" }").unwrap();
        assert!(word.contains("ssl.key.password") && !word.contains("hunter2"), "{word}");
        let word = told(0o644, "[traces]\nheaders = { authorization = \"hunter2\" }").unwrap();
        assert!(word.contains("traces.headers") && !word.contains("hunter2"), "{word}");
    }
}
