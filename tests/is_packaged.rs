//! Promise: the Debian package of `make deb` has all that a service needs, and its program runs with the model, the library and
//! the configuration in it; the unit exposes next to nothing; what describes containers names what there is.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::broker::MockBroker;
use common::{output_of, project};
use facetd::config::Config;
use yaml_rust2::{Yaml, YamlLoader};

/// In the package, beside the models.
const FILES: [&str; 18] = [
    "etc/facetd/facetd.toml",
    "usr/bin/facetd",
    "usr/lib/facetd/libonnxruntime.so",
    "usr/lib/systemd/system/facetd.service",
    "usr/lib/sysusers.d/facetd.conf",
    "usr/share/bash-completion/completions/facetd",
    "usr/share/doc/facetd/README.md",
    "usr/share/doc/facetd/examples/gpu.conf",
    "usr/share/doc/facetd/onnxruntime/LICENSE",
    "usr/share/doc/facetd/onnxruntime/ThirdPartyNotices.txt",
    "usr/share/doc/facetd/schemas/face.proto",
    "usr/share/facetd/grafana-dashboard.json",
    "usr/share/facetd/models/demo-128/lp.onnx",
    "usr/share/facetd/prometheus-rules.yml",
    "usr/share/fish/vendor_completions.d/facetd.fish",
    "usr/share/man/man1/facetd-run.1.gz",
    "usr/share/man/man1/facetd.1.gz",
    "usr/share/zsh/vendor-completions/_facetd",
];

#[test]
fn the_package_has_all_that_a_service_needs() {
    let Some(package) = package() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    output_of(Command::new("dpkg-deb").arg("--raw-extract").arg(&package).arg(root));
    for file in FILES {
        assert!(root.join(file).metadata().is_ok_and(|file| file.len() > 0), "{file} is not in {}", package.display());
    }
    let control = |name: &str| std::fs::read_to_string(root.join("DEBIAN").join(name)).unwrap();
    assert_eq!(control("conffiles").trim(), "/etc/facetd/facetd.toml");
    assert!(control("control").contains(&format!("Version: {}", env!("CARGO_PKG_VERSION"))));
    let postinst = control("postinst");
    assert!(postinst.contains("deb-systemd-helper"), "{postinst}");
    assert!(!postinst.contains("deb-systemd-invoke start"), "it starts what has no brokers yet: {postinst}");
    let users: Vec<&str> = postinst.lines().filter(|line| line.contains("systemd-sysusers")).collect();
    assert!(users.len() == 1 && users[0].ends_with(" facetd.conf"), "{users:?}");

    let completions = |file: &str| std::fs::read_to_string(root.join("usr/share").join(file)).unwrap();
    assert!(completions("zsh/vendor-completions/_facetd").starts_with("#compdef facetd"));
    assert!(completions("fish/vendor_completions.d/facetd.fish").contains("complete -c facetd"));
    output_of(Command::new("bash").arg("-n").arg(root.join("usr/share/bash-completion/completions/facetd")));

    // As the unit starts it.
    let broker = MockBroker::start();
    let state = tempfile::tempdir().unwrap();
    let mut check = Command::new(root.join("usr/bin/facetd"));
    check.args(["check", "--config"]).arg(root.join("etc/facetd/facetd.toml"));
    check.current_dir(root.join("usr/share/facetd")).env("FACETD_STATE__DIR", state.path());
    check.env("FACETD_MODEL__RUNTIME", root.join("usr/lib/facetd/libonnxruntime.so"));
    check.env("FACETD_KAFKA__BROKERS", &broker.topics.brokers);
    println!("{}", output_of(&mut check));
}

/// The newest there is.
fn package() -> Option<PathBuf> {
    let built = std::fs::read_dir(project().join("target/debian")).into_iter().flatten().filter_map(Result::ok);
    let packages = built.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let newest = packages.max_by_key(|path| path.metadata().and_then(|found| found.modified()).ok());
    if newest.is_none() {
        assert!(std::env::var_os("CI").is_none(), "there is no package: make deb");
        println!("NOT PROVED (no make deb before): the package has all that a service needs");
    }
    newest
}

#[test]
fn the_unit_exposes_next_to_nothing() {
    let unit = project().join("systemd/facetd.service");
    let mut analyze = Command::new("systemd-analyze");
    // The threshold is of tenths: 2.0.
    analyze.args(["security", "--offline=true", "--threshold=20"]).arg(&unit);
    match analyze.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{}", text.lines().last().unwrap_or_default());
            assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}: scripts/setup system test");
            println!("NOT PROVED (no systemd-analyze): the unit exposes next to nothing");
        }
    }
}

#[test]
fn variables_that_are_set_for_a_service_are_keys() {
    for file in ["systemd/facetd.service", "Containerfile", "compose.yaml"] {
        let text = read(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("FACETD_")).collect();
        assert!(!names.is_empty(), "{file}");
        for name in names {
            let given = [(name.to_string(), String::new())].into_iter();
            let errors = Config::parse("", given).map(|_| String::new()).unwrap_or_else(|errors| errors.to_string());
            assert!(!errors.contains("unknown"), "{file}: {errors}");
        }
    }
}

#[test]
fn what_containers_are_made_of_is_there() {
    let is_there = |file: &str, path: &str| {
        let path = path.trim_start_matches("./");
        assert!(project().join(path).exists(), "{file} names {path}");
    };
    for line in read("Containerfile").lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        is_there("Containerfile", line.split(' ').nth(1).unwrap());
    }
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_hash().unwrap();
    assert!(services.len() >= 4);
    for (name, service) in services {
        assert!(service["image"].as_str().is_some() || service["build"]["dockerfile"].as_str().is_some(), "{name:?}");
        for volume in service["volumes"].as_vec().into_iter().flatten().filter_map(Yaml::as_str) {
            let from = volume.split(':').next().unwrap();
            match from.starts_with('.') {
                true => is_there("compose.yaml", from),
                false => assert!(!compose["volumes"].as_hash().unwrap().keys().all(|name| name.as_str() != Some(from))),
            }
        }
        for port in service["ports"].as_vec().into_iter().flatten().filter_map(Yaml::as_str) {
            assert!(port.starts_with("127.0.0.1:"), "{name:?} is open to others: {port}");
        }
    }
    for file in ["datasources.yml", "dashboards.yml"] {
        assert_eq!(yaml(&format!("packaging/compose/grafana/{file}"))["apiVersion"].as_i64(), Some(1));
    }
    let scraped = &yaml("packaging/compose/prometheus.yml")["scrape_configs"][0];
    assert_eq!(scraped["job_name"].as_str(), Some("facetd"), "the alerts know it by this name");
}

fn yaml(file: &str) -> Yaml {
    YamlLoader::load_from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}")).remove(0)
}

fn read(file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}
