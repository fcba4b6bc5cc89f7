//! Promise: a dead letter's record can be sent again when the cause of its rejection is gone, as it was, and is applied
//! once, however often and however rudely that is tried; what came since is not undone; what Kafka no longer
//! has, or has something else for, is told and not sent. Only a real Kafka can prove it.

mod common;

use std::process::{Child, Command, Stdio};

use common::broker::RealKafka;
use common::daemon::Running;
use common::kafka_client::{Admin, Read, end_of_topic, read_topic};
use common::scene::{LIMIT, Scene, id, payload};
use common::told::{state_partition, told};
use common::{facetd, interruptible_facetd, output_of, project, wait_for};
use serde_json::{Value, json};

const PROMISE: &str = "dead letters are redriven through a real Kafka";
/// A broker that takes its time: a few records, and a wait.
const SLOW: &str = r#"{ "queue.buffering.max.messages" = "20", "linger.ms" = "20" }"#;

impl Scene {
    /// A daemon that has room for the default collection alone.
    fn start_narrow(&self) -> Running<'_> {
        self.installation.start_with(|command| {
            command.env("FACETD_COLLECTIONS__MAX", "1");
        })
    }

    /// A life in which the default collection has a face, and every face of another is rejected.
    fn live_narrow(&self, send: impl FnOnce()) {
        self.send("default", 0..1);
        let daemon = self.start_narrow();
        self.wait(&daemon);
        send();
        self.wait(&daemon);
        assert!(daemon.terminate().success(), "{}", self.installation.log());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = interruptible_facetd();
        command.args(["redrive", "--config"]).arg(self.installation.config()).args(arguments);
        command
    }

    fn redrive(&self, arguments: &[&str]) -> Value {
        let told = output_of(self.command(arguments).arg("--json"));
        serde_json::from_str(&told).unwrap()
    }

    /// One that takes long enough to be interrupted, in the middle of its sending.
    fn half_way(&self) -> Child {
        let before = self.input_end();
        let mut command = self.command(&["--json"]);
        command.env("FACETD_KAFKA__LIBRDKAFKA_OPTIONS", SLOW).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_for("something to be sent", LIMIT, || (self.input_end() > before).then_some(()));
        child
    }

    fn input(&self) -> Vec<Read> {
        read_topic(&self.topics.brokers, &self.topics.input())
    }

    fn input_end(&self) -> i64 {
        end_of_topic(&self.topics.brokers, &self.topics.input())
    }

    /// Events and state tell the same faces of a collection, so many of them.
    fn check(&self, collection: &str, faces: usize) {
        let state = state_partition(&self.installation, collection);
        assert_eq!(state.len(), faces, "{collection}");
        assert_eq!(told(&self.topics, collection).partition, state, "{collection}");
    }
}

fn counts(sent: u64, later: u64, gone: u64, other: u64) -> Value {
    json!({ "sent": sent, "later": later, "gone": gone, "other": other })
}

#[test]
fn what_was_rejected_is_applied_once_when_the_cause_is_gone() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.live_narrow(|| {
        scene.send("gate", 0..20);
        // The same once more, and one that somebody wants to be gone.
        scene.send("gate", 18..19);
        scene.erase("gate", &id(19));
        scene.erase("default", &id(0));
        scene.send("default", 0..1);
        scene.feed.send("broken", Some(b"{"), "default");
        scene.feed.flush();
    });
    output_of(facetd().args(["allow", "--config"]).arg(scene.installation.config()).arg(id(0)));
    let before = scene.input();

    let expected = json!({ "collection_limit": counts(19, 2, 0, 0), "suppressed": counts(1, 0, 0, 0) });
    let dry = scene.redrive(&["--dry-run"]);
    assert_eq!(dry["reasons"], expected);
    assert_eq!(dry["left"], json!({ "malformed": 1, "unknown_face": 1 }));
    assert_eq!(scene.input_end(), before.len() as i64, "a dry run sends nothing");
    let named = scene.redrive(&["--dry-run", "--reason", "suppressed", "--reason", "unknown_face"]);
    assert_eq!(named["reasons"], json!({ "suppressed": counts(1, 0, 0, 0), "unknown_face": counts(1, 0, 0, 0) }));
    let later = scene.redrive(&["--dry-run", "--since", "2100-01-01T00:00:00Z"]);
    assert_eq!(later["reasons"], json!({}));

    let daemon = scene.installation.start();
    assert_eq!(scene.redrive(&[])["reasons"], expected);
    let after = scene.input();
    assert_eq!(after.len(), before.len() + 20);
    let as_before = |record: &Read| {
        let same = |old: &Read| {
            (old.partition, &old.key, &old.payload, &old.headers)
                == (record.partition, &record.key, &record.payload, &record.headers)
        };
        before.iter().any(same)
    };
    assert!(after.iter().all(as_before), "a record was changed on its way");
    scene.wait(&daemon);
    assert_eq!(daemon.metric("facetd_engine_duplicates_total"), 0.0);

    // What was sent is found, and not sent again.
    let again = json!({ "collection_limit": counts(0, 21, 0, 0), "suppressed": counts(0, 1, 0, 0) });
    assert_eq!(scene.redrive(&[])["reasons"], again);
    assert!(daemon.terminate().success());
    // What was sent is written down beside what else was done by hand.
    let audit = std::fs::read_to_string(scene.installation.state().join("audit.jsonl")).unwrap();
    let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let redriven: Vec<Value> = lines.filter(|line| line["what"] == "redrive").collect();
    assert_eq!(redriven.iter().map(|line| &line["outcome"]).collect::<Vec<_>>(), ["asked", "done"]);
    assert_eq!(
        (&redriven[1]["reasons"], &redriven[1]["sent"]),
        (&json!(["suppressed", "collection_limit"]), &json!(20))
    );
    scene.check("gate", 19);
    scene.check("default", 1);
}

#[test]
fn what_is_rejected_again_can_be_redriven_again() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.live_narrow(|| scene.send("gate", 1..11));
    let narrow = scene.start_narrow();
    for run in 0..3 {
        let counted = scene.redrive(&["--reason", "collection_limit"]);
        assert_eq!(counted["reasons"]["collection_limit"], counts(10, 10 * run, 0, 0));
        scene.wait(&narrow);
    }
    assert!(narrow.terminate().success());
    let wide = scene.installation.start();
    assert_eq!(scene.redrive(&[])["reasons"]["collection_limit"], counts(10, 30, 0, 0));
    scene.wait(&wide);
    assert_eq!(wide.metric("facetd_engine_duplicates_total"), 0.0);
    assert!(wide.terminate().success());
    scene.check("gate", 10);
}

#[test]
fn a_model_of_another_width_reads_everything_anew_and_a_redrive_changes_nothing_more() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.send("default", 0..12);
    let wrong = scene.installation.start_with(|command| {
        command.env("FACETD_MODEL__DIR", project().join("models/demo-128"));
    });
    scene.wait(&wrong);
    assert!(wrong.terminate().success());
    // A state belongs to its model's width.
    std::fs::remove_dir_all(scene.installation.state()).unwrap();
    let right = scene.installation.start_with(|command| {
        command.arg("--new-incarnation");
    });
    assert_eq!(scene.redrive(&[])["reasons"], json!({ "wrong_dimension": counts(12, 0, 0, 0) }));
    scene.wait(&right);
    assert_eq!(right.metric("facetd_engine_duplicates_total"), 12.0);
    assert!(right.terminate().success());
    assert_eq!(state_partition(&scene.installation, "default").len(), 12);
}

#[test]
fn what_is_gone_and_what_is_another_record_is_told_and_not_sent() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    scene.live_narrow(|| scene.send("gate", 1..41));
    let admin = Admin::connect(&scene.topics.brokers);
    admin.delete_records(&scene.topics.input());
    let before = scene.input_end();
    assert_eq!(scene.redrive(&[])["reasons"]["collection_limit"], counts(0, 0, 40, 0));

    // Other records under the same offsets, of the same faces too.
    admin.make_anew(&scene.topics.input(), 4);
    let others = |face: usize| scene.feed.send(&id(face), Some(&payload(face + 1)), "gate");
    (0..41).for_each(others);
    scene.feed.flush();
    let counted = scene.redrive(&[]);
    assert_eq!(counted["reasons"]["collection_limit"], counts(0, 0, 0, 40));
    assert_eq!(counted["other_records"].as_array().unwrap().len(), 40);
    assert_eq!(scene.input_end(), before, "something was sent");
    let told = output_of(&mut scene.command(&[]));
    assert!(told.contains("another record than the dead letter's stands there"), "{told}");
    assert!(told.contains("… and 20 more"), "{told}");
}

#[test]
fn a_redrive_that_is_stopped_or_killed_is_run_again_and_each_record_is_sent_once() {
    let Some(kafka) = RealKafka::start(PROMISE) else { return };
    let scene = Scene::new(&kafka);
    let faces = 3000;
    scene.live_narrow(|| scene.send("gate", 1..faces + 1));
    let before = scene.input_end();

    let stopped = scene.half_way();
    output_of(Command::new("kill").args(["-INT", &stopped.id().to_string()]));
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(130));
    let told: Value = serde_json::from_slice(&stopped.stdout).unwrap();
    let sent = scene.input_end() - before;
    assert_eq!((told["whole"].as_bool(), &told["reasons"]["collection_limit"]["sent"]), (Some(false), &json!(sent)));
    assert!(sent < faces as i64, "it was not in the middle");

    let mut killed = scene.half_way();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let sent = scene.input_end() - before;
    assert!(sent < faces as i64, "it was not in the middle");

    let rest = faces as u64 - sent as u64;
    assert_eq!(scene.redrive(&[])["reasons"]["collection_limit"], counts(rest, sent as u64, 0, 0));
    assert_eq!(scene.input_end() - before, faces as i64);
    let daemon = scene.installation.start();
    scene.wait(&daemon);
    assert_eq!(daemon.metric("facetd_engine_duplicates_total"), 0.0);
    assert!(daemon.terminate().success());
    scene.check("gate", faces);
}
