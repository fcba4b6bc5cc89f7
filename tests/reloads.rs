//! Promise: SIGHUP has a running daemon take over what it can of its configuration, names each key that has to wait for a
//! restart, and changes nothing where the configuration is wrong.

mod common;

use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::kafka_client::Feed;
use common::{project, wait_for};
use facetd::codec::{Message, json};

const LIMIT: Duration = Duration::from_secs(120);

fn feed(broker: &MockBroker, faces: std::ops::Range<usize>) {
    let feed = Feed::connect(&broker.topics);
    for face in faces {
        let embedding = (0..16).map(|place| ((face * 31 + place * 17) % 29) as f32 - 14.0).collect();
        let payload = json::encode(&Message { embedding, ..Message::default() });
        feed.send(&format!("{face:08}"), Some(&payload), "default");
    }
    feed.flush();
}

/// Waits until the log has a line with all of these words; answers the lines there are of it.
fn logged(installation: &Installation, words: &[&str]) -> usize {
    let count = || {
        let is_it = |line: &&str| words.iter().all(|word| line.contains(word));
        Some(installation.log().lines().filter(is_it).count()).filter(|&count| count > 0)
    };
    wait_for(&format!("{words:?} in the log"), LIMIT, count)
}

#[test]
fn a_reload_takes_over_what_it_can_and_says_what_it_cannot() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let more = "[limits]\nfaces = 25\n[log]\nlevel = \"info\"\n";
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more });
    let before = std::fs::read_to_string(installation.config()).unwrap();
    feed(&broker, 0..60);
    let daemon = installation.start_with(|command| {
        command.env("FACETD_STATE__SNAPSHOT_INTERVAL", "1s");
    });
    daemon.wait_metric("facetd_daemon_full{limit=\"faces\"}", 1.0, LIMIT);

    let wrong = before.replace("faces = 25", "faces = \"many\"");
    std::fs::write(installation.config(), wrong).unwrap();
    daemon.hang_up();
    logged(&installation, &["ERROR", "nothing of it is taken over", "limits.faces"]);
    assert_eq!(daemon.metric("facetd_engine_faces"), 25.0);

    let right = before.replace("faces = 25", "faces = 100\nmessage_bytes = 5000").replace("\"info\"", "\"debug\"");
    std::fs::write(installation.config(), right).unwrap();
    daemon.hang_up();
    daemon.wait_metric("facetd_engine_faces", 60.0, LIMIT);
    assert_eq!(daemon.metric("facetd_daemon_full{limit=\"faces\"}"), 0.0);
    logged(&installation, &["INFO", "taken over", "limits.faces"]);
    logged(&installation, &["WARN", "needs a restart", "limits.message_bytes"]);
    logged(&installation, &["DEBUG", "snapshot written"]);

    // What waits for a restart is named again, and what was taken over is not.
    daemon.hang_up();
    wait_for("the second reload", LIMIT, || (logged(&installation, &["reloaded"]) == 2).then_some(()));
    assert_eq!(logged(&installation, &["needs a restart", "limits.message_bytes"]), 2);
    assert_eq!(logged(&installation, &["taken over", "key=\"limits.faces\""]), 1);
    assert!(daemon.terminate().success(), "{}", installation.log());
}
