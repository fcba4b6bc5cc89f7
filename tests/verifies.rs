//! Promise: whatever the engine commits, every invariant holds; what is damaged is named, and what is
//! left of it goes on as a new state.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::bare_shard::{Driven, People, Rig, Topic, name};
use common::{facetd, output_of, project};
use facetd::daemon::shard::ShardSettings;
use facetd::engine::changes::Request;
use facetd::model::{Artefact, Stage};
use facetd::store::verify::{Known, Report, Rule, verify};
use serde_json::Value;

const EXACT: &str = "[engine]\nindex = \"exact\"\n";

fn checked(rig: &Rig) -> Report {
    let config = facetd::config::Config::parse(EXACT, std::iter::empty()).unwrap();
    let artefact = Artefact::open(&project().join("tests/fixtures/model"), Stage::ReLp).unwrap();
    let settings = ShardSettings::new(&config, &artefact);
    let of = |collection: &_| settings.engine(collection).clusters;
    let rule = Rule { model: settings.model.clone(), settings: &of };
    verify(&rig.state(), &Known { rule: Some(rule), ..Known::default() }, &mut |_| ()).unwrap()
}

/// Many steps of everything an engine does, unsettled and settled by turns.
fn live(rig: &Rig, people: &mut People, mut each: impl FnMut(&Rig, usize)) {
    let mut topic = Topic::default();
    for round in 0..12usize {
        let mut driven: Driven = rig.open();
        let mut records = Vec::new();
        for _ in 0..12 {
            let (person, number) = (people.next() % 6, people.next() % 40);
            let collection = if person < 4 { "lobby" } else { "gate" };
            let id = format!("{person}-{number}");
            records.push(match people.next() % 8 {
                0 => topic.erase(collection, &id),
                _ => topic.face(collection, &id, &people.face_of(person)),
            });
        }
        let now = round as i64 * 1000;
        driven.apply(records, now);
        if round.is_multiple_of(3) {
            driven.settle(now);
        }
        if round.is_multiple_of(4) {
            driven.publish();
        }
        if round == 7 {
            let engine = driven.engine("lobby");
            let cluster = engine.clusters().book().records().find(|cluster| cluster.lives()).unwrap().id;
            driven
                .shard
                .operate(&name("lobby"), vec![Request::EraseCluster { cluster }], facetd::face::Timestamp(now))
                .unwrap();
        }
        drop(driven);
        each(rig, round);
    }
}

#[test]
fn whatever_is_committed_every_invariant_holds() {
    for seed in 1..=4 {
        let rig = Rig::new(EXACT);
        let mut against_the_rule = 0;
        live(&rig, &mut People::new(seed), |rig, round| {
            let report = checked(rig);
            assert!(report.is_whole() && report.mends.is_empty(), "seed {seed}, round {round}: {report:#?}");
            against_the_rule += report.checks.iter().find(|checked| checked.check.name() == "rule").unwrap().looked_at;
        });
        assert!(against_the_rule > 0, "no collection was ever at rest");
    }
}

fn inspect(state: &Path, what: &[&str]) -> Output {
    let mut command: Command = facetd();
    command.args(["inspect", "--state"]).arg(state).args(what).output().unwrap()
}

#[test]
fn a_damaged_state_is_named_repaired_and_run_again() {
    let rig = Rig::new(EXACT);
    live(&rig, &mut People::new(9), |_, _| {});
    let faces_of = |rig: &Rig| {
        let listed =
            output_of(facetd().args(["inspect", "--state"]).arg(rig.state()).args(["--collection", "lobby", "faces"]));
        listed.lines().map(str::to_string).collect::<std::collections::BTreeSet<String>>()
    };
    let before = faces_of(&rig);
    let model = project().join("tests/fixtures/model");
    let model = model.to_str().unwrap();
    let sound = inspect(&rig.state(), &["verify", "--model", model]);
    let said = String::from_utf8(sound.stdout).unwrap();
    assert!(sound.status.success() && said.lines().filter(|line| line.contains(" ok ")).count() == 19, "{said}");

    let file = std::fs::read_dir(rig.state().join("vectors")).unwrap().map(|file| file.unwrap().path());
    let file = file.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("lobby")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = inspect(&rig.state(), &["verify"]);
    let said = String::from_utf8(damaged.stdout).unwrap();
    assert_eq!(damaged.status.code(), Some(3));
    assert!(said.contains("vectors     BROKEN") && said.contains("the checksum of record"), "{said}");
    let error = String::from_utf8(damaged.stderr).unwrap();
    assert!(error.contains("facetd inspect repair"), "{error}");
    let json: Value = serde_json::from_slice(&inspect(&rig.state(), &["verify", "--json"]).stdout).unwrap();
    assert_eq!(json["whole"], false);
    assert_eq!(json["report"]["checks"].as_array().unwrap().len(), 19);

    let to = rig.state().with_file_name("repaired");
    let repaired = inspect(&rig.state(), &["repair", "--to", to.to_str().unwrap()]);
    let said = String::from_utf8(repaired.stdout).unwrap();
    assert!(repaired.status.success(), "{said} {}", String::from_utf8_lossy(&repaired.stderr));
    assert!(
        said.contains("1 lost") && said.contains("--new-incarnation") && said.contains("repaired.lost.jsonl"),
        "{said}"
    );
    let again = inspect(&rig.state(), &["repair", "--to", to.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));

    // It is whole, what was not damaged is where it was, and the engine goes on and settles.
    let new = Rig::at(to);
    assert!(checked(&new).is_whole());
    let after = faces_of(&new);
    assert!(after.is_subset(&before) && after.len() + 1 == before.len());
    let mut driven = new.open();
    driven.settle(100_000);
    drop(driven);
    let report = checked(&new);
    assert!(report.is_whole() && report.notes.is_empty(), "{report:#?}");
}
