//! What the configuration promises.

use super::*;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, std::iter::empty())
}

#[test]
fn an_empty_file_is_the_shipped_one() {
    let config = parse("").unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert!(config.http.listen.ip().is_loopback());
    assert_eq!(config.kafka.partitions, Partitions::All);
    assert_eq!(config.engine.batch_wait, Duration::from_millis(20));
    parse(DEFAULT).unwrap();
}

#[test]
fn every_error_is_told_at_once_and_by_its_key() {
    let text = r#"
        colour = "blue"
        [kafka]
        broker = "x:1"
        partitions = "some"
        events_topic = "faces"
        [engine]
        index = "magic"
        batch_faces = 0
        batch_wait = "soon"
        [model]
        device = "tpu"
        [state]
        dir = ""
        [log]
        level = "verbose"
        [net]
        listen = 1
        [http]
        tls_key = "key.pem"
        connections = 0
    "#;
    let errors = parse(text).unwrap_err().0;
    let keys = [
        "colour",
        "kafka.broker",
        "kafka.partitions",
        "kafka.events_topic",
        "engine.index",
        "engine.batch_faces",
        "engine.batch_wait",
        "model.device",
        "state.dir",
        "log.level",
        "net.listen",
        "http.tls_certificate",
        "http.connections",
    ];
    for key in keys {
        assert_eq!(
            errors.iter().filter(|error| error.starts_with(&format!("{key}:"))).count(),
            1,
            "{key}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), keys.len(), "{errors:#?}");
}

#[test]
fn the_environment_wins_and_is_checked_too() {
    let variables = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>().into_iter()
    };
    let given = variables(&[
        ("FACETD_KAFKA__BROKERS", "a:1,b:2"),
        ("FACETD_KAFKA__PARTITIONS", "[0, 2]"),
        ("FACETD_KAFKA__SASL_PASSWORD", "p=\"w"),
        ("FACETD_KAFKA__GROUP", "123"),
        ("FACETD_ENGINE__BATCH_FACES", "32"),
        ("FACETD_DATA", "not a key"),
    ]);
    let config = Config::parse("[kafka]\nbrokers = \"c:3\"", given).unwrap();
    assert_eq!(config.kafka.brokers, "a:1,b:2");
    assert_eq!(config.kafka.partitions, Partitions::These(vec![0, 2]));
    assert_eq!(config.kafka.sasl_password.reveal(), "p=\"w");
    assert_eq!(config.kafka.group, "123");
    assert_eq!(config.engine.batch_faces, 32);
    let errors = Config::parse("", variables(&[("FACETD_KAFKA__BROKER", "a:1")])).unwrap_err().0;
    assert!(errors[0].starts_with("kafka.broker: unknown key"), "{errors:?}");
    assert!(errors[0].contains("FACETD_KAFKA__BROKER, of the environment"), "{errors:?}");
}

#[test]
fn a_password_is_in_no_debug_output() {
    let config = parse("[kafka]\nsasl_password = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_secret_is_in_no_error() {
    let wrong = [
        "[kafka]\nsasl_password = hunter2",
        "[kafka]\nsasl_password = \"hunter2",
        "[kafka]\nbrokers = \"a:1\" sasl_password = \"hunter2\"",
        "[kafka]\nsasl_password = [\"hunter2\"]",
        "[kafka]\nlibrdkafka_options = { \"ssl.key.password\" = [\"hunter2\"] }",
        "[kafka]\nlibrdkafka_options = \"ssl.key.password=hunter2\"",
    ];
    for text in wrong {
        let errors = parse(text).unwrap_err().to_string();
        assert!(!errors.contains("hunter2") && errors.contains(['2', 'k']), "{text}: {errors}");
    }
    let errors = parse("[kafka]\nsasl_password = 20261124").unwrap_err().to_string();
    assert_eq!(errors, "kafka.sasl_password: is not text in quotes");
    let errors = parse("\n[kafka]\nbrokers = oops").unwrap_err().to_string();
    assert!(errors.starts_with("line 3: "), "{errors}");
    let list = [("FACETD_KAFKA__SASL_PASSWORD".to_string(), "[1]".to_string())];
    assert_eq!(Config::parse("", list.into_iter()).unwrap().kafka.sasl_password.reveal(), "[1]");
}

/// A key's comment, by section.key.
type Comments = BTreeMap<String, String>;

fn comments_of_the_file() -> Comments {
    let (mut section, mut comment, mut found) = (String::new(), Vec::new(), Comments::new());
    for line in DEFAULT.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_string();
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.insert(format!("{section}.{key}"), std::mem::take(&mut comment).join(" "));
        }
    }
    found
}

fn comments_of_the_structs() -> Comments {
    let (mut section, mut comment, mut found) = (String::new(), Vec::new(), Comments::new());
    let source = include_str!("mod.rs").split("/// Partitions of the input topic.\n").next().unwrap();
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            section = name.trim_end_matches(" {").to_lowercase();
            comment.clear();
        } else if let Some(text) = line.strip_prefix("    /// ") {
            comment.push(text);
        } else if let Some((key, _)) = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(':'))
            && section != "config"
        {
            let key = if key == "overrides" { "override" } else { key };
            found.insert(format!("{section}.{key}"), std::mem::take(&mut comment).join(" "));
        }
    }
    found
}

#[test]
fn the_file_and_the_structs_say_the_same_of_every_key() {
    let (file, structs) = (comments_of_the_file(), comments_of_the_structs());
    assert!(file.len() > 25 && file.values().all(|comment| !comment.is_empty()), "{file:#?}");
    assert_eq!(file, structs);
}
