//! Promise: what an operator does to a stopped daemon's state is published when the daemon runs
//! again, and what cannot be done is refused with nothing changed. `recluster` cuts over whole or not
//! at all, to what `facetd cluster` gives with the new model.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::broker::{MockBroker, Topics};
use common::daemon::{Installation, Running, Settings};
use common::faces::Dataset;
use common::kafka_client::{Client, latest_by_key, read_topic};
use common::{facetd, output_of, project, wait_for};
use facetd::reader::EventReader;

const LIMIT: Duration = Duration::from_secs(180);
const FACES: usize = 1200;
/// As `facetd cluster --index exact` does it.
const EXACT: &str = "[engine]\nindex = \"exact\"\n";

/// Face to cluster.
type Partition = BTreeMap<String, String>;
/// Cluster to faces.
type Members = BTreeMap<String, BTreeSet<String>>;

fn members(partition: &Partition) -> Members {
    let mut members = Members::new();
    for (face, cluster) in partition {
        members.entry(cluster.clone()).or_default().insert(face.clone());
    }
    members
}

/// A state with faces in it, whose daemon is stopped.
struct Stopped<'a> {
    installation: &'a Installation,
    topics: &'a Topics,
}

impl Stopped<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = facetd();
        // The collection and what else belongs to it stand before the rest.
        command.arg(arguments[0]).arg("--config").arg(self.installation.config()).args(&arguments[1..]);
        command
    }

    fn does(&self, arguments: &[&str]) -> String {
        output_of(&mut self.command(arguments))
    }

    /// What it says why it does not.
    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = if said.contains("in use") { 4 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("facetd: ")).collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {said}");
        lines[0].to_string()
    }

    fn kept(&self) -> Partition {
        let listed = self.installation.inspect(&["faces"]);
        let pairs = listed.lines().map(|line| line.split_once('\t').unwrap());
        pairs.map(|(face, cluster)| (face.to_string(), cluster.to_string())).collect()
    }

    /// What a reader of the events knows; it takes no event that contradicts those before it.
    fn told(&self) -> Partition {
        let mut reader = EventReader::default();
        for record in read_topic(&self.topics.brokers, &self.topics.events()) {
            reader.read(record.payload.unwrap().as_bytes()).unwrap();
        }
        let clusters = reader.clusters("default");
        let faces = clusters.iter().flat_map(|(id, faces)| faces.iter().map(move |face| (face.to_string(), id)));
        faces.map(|(face, cluster)| (face, cluster.to_string())).collect()
    }

    /// Runs the daemon until it has published and settled.
    fn run(&self) {
        let daemon = self.installation.start();
        wait_until_settled(&daemon);
        assert!(daemon.terminate().success(), "{}", self.installation.log());
    }
}

fn wait_until_settled(daemon: &Running) {
    let is_zero = |sample| daemon.metric(sample) == 0.0;
    wait_for("it to settle", LIMIT, || {
        let busy =
            ["facetd_engine_unsettled_collections", "facetd_publish_outbox_entries", "facetd_source_lag_records"];
        busy.into_iter().all(is_zero).then_some(())
    });
}

fn stream(installation: &Installation, topics: &Topics, dataset: &Dataset) {
    let mut replay = facetd();
    replay.args(["replay", "--dimension", "128", "--brokers", &topics.brokers, "--topic", &topics.input()]);
    output_of(replay.arg("--features").arg(&dataset.features));
    let daemon = installation.start();
    daemon.wait_metric("facetd_engine_faces", FACES as f64, LIMIT);
    wait_until_settled(&daemon);
    assert!(daemon.terminate().success(), "{}", installation.log());
}

#[test]
fn what_an_operator_does_is_published_when_the_daemon_runs_again() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("operated", FACES, 21);
    let installation = Installation::new(&Settings { topics, model: &dataset.model, more: EXACT });
    stream(&installation, topics, &dataset);
    let stopped = Stopped { installation: &installation, topics };
    let before = stopped.kept();
    assert_eq!(stopped.told(), before);

    let clusters = members(&before);
    let mut largest: Vec<&String> = clusters.keys().collect();
    largest.sort_by_key(|id| std::cmp::Reverse(clusters[*id].len()));
    let [erased, thinned, torn, joined, joining, named] = largest[..6] else { panic!("{} clusters", largest.len()) };
    let face_of = |cluster: &String, place: usize| clusters[cluster].iter().nth(place).unwrap().as_str();

    // What cannot be done is refused, and changes nothing.
    let daemon = installation.start();
    assert!(stopped.refuses(&["compact"]).contains("in use by another facetd; stop it"));
    assert!(stopped.refuses(&["erase", "collection"]).contains("in use"));
    assert!(daemon.terminate().success());
    let thin = face_of(thinned, 0);
    assert!(stopped.refuses(&["erase", "face", thin, "nobody"]).contains("has no face nobody"));
    assert!(stopped.refuses(&["erase", "cluster", "999999"]).contains("has no cluster 999999"));
    assert!(stopped.refuses(&["erase", "--collection", "gate", "collection"]).contains("one of: default"));
    assert!(stopped.refuses(&["describe", "999999", "--pin"]).contains("has no cluster"));
    assert!(stopped.refuses(&["allow", thin]).contains("not kept from coming back"));
    assert!(stopped.refuses(&["release", thin, face_of(thinned, 1)]).contains("nothing was said"));
    assert!(stopped.refuses(&["must-link", thin, thin]).contains("the same"));
    assert_eq!(stopped.kept(), before);
    assert!(stopped.does(&["recluster"]).contains("nothing to do"));

    let size = clusters[erased].len();
    let said = stopped.does(&["erase", "cluster", erased]);
    assert!(said.contains(&format!("{size} faces erased, 1 clusters ended")), "{said}");
    assert!(said.contains("facetd compact") && said.contains("Kafka"), "{said}");
    assert!(stopped.does(&["erase", "face", thin]).contains("1 faces erased, 0 clusters ended"));
    assert!(stopped.refuses(&["erase", "face", thin]).contains("erased already"));

    let (one, other) = (face_of(joined, 0), face_of(joining, 0));
    assert!(stopped.does(&["must-link", one, other, "--by", "ada"]).contains("are one person: both are in cluster"));
    assert!(stopped.refuses(&["cannot-link", one, other]).contains("release"));
    let (left, right) = (face_of(torn, 0), face_of(torn, 1));
    assert!(stopped.does(&["cannot-link", left, right, "--by", "bob"]).contains("are never one person: they are in"));
    assert!(stopped.does(&["cannot-link", left, right]).contains("said already"));
    let words = installation.inspect(&["constraints"]);
    for word in [format!("must-link\t{one}\t{other}\tada\t20"), format!("cannot-link\t{left}\t{right}\tbob\t20")] {
        assert_eq!(words.lines().filter(|line| line.starts_with(&word)).count(), 1, "{words}");
    }

    stopped.does(&["describe", named, "--name", "Ada Lovelace"]);
    assert!(stopped.does(&["describe", named, "--pin"]).contains("is pinned and has the name \"Ada Lovelace\""));
    let kept = stopped.kept();
    assert!(stopped.does(&["compact"]).contains("after"));
    assert_eq!(stopped.kept(), kept);
    assert_eq!(stopped.told(), before, "nothing is published before the daemon runs");

    stopped.run();
    let after = stopped.kept();
    assert_eq!(stopped.told(), after, "the events and the state tell different partitions");
    assert_eq!(after.len(), FACES - size - 1);
    assert!(!after.contains_key(thin) && clusters[erased].iter().all(|face| !after.contains_key(face)));
    assert_eq!(after[one], after[other]);
    assert_ne!(after[left], after[right]);
    let states = latest_by_key(read_topic(&topics.brokers, &topics.cluster_state()));
    let state = &states[&format!("default/{named}")];
    assert_eq!((&state["name"], &state["pinned"]), (&"Ada Lovelace".into(), &true.into()), "{state}");

    // Of two erased faces the one that is allowed comes back.
    let kept_away = clusters[erased].first().unwrap();
    assert!(stopped.does(&["allow", thin]).contains("1 erased faces may come back"));
    assert!(stopped.does(&["release", one, other]).contains("nothing is said"));
    let daemon = installation.start();
    let client = Client::connect(&topics.brokers);
    let octets = [("content-type", "application/octet-stream")];
    for face in [kept_away, thin] {
        let row: usize = face.parse().unwrap();
        let embedding: Vec<u8> = dataset.rows()[row].iter().flat_map(|value| value.to_le_bytes()).collect();
        client.send(&topics.input(), Some(face.as_bytes()), Some(&embedding), &octets);
    }
    daemon.wait_metric("facetd_source_rejected_total{reason=\"suppressed\"}", 1.0, LIMIT);
    daemon.wait_metric("facetd_engine_faces", after.len() as f64 + 1.0, LIMIT);
    wait_until_settled(&daemon);
    assert!(daemon.terminate().success());
    assert!(stopped.kept().contains_key(thin) && !stopped.kept().contains_key(kept_away));
    assert_eq!(stopped.told(), stopped.kept());
}

#[test]
fn recluster_cuts_over_whole_or_not_at_all() {
    let broker = MockBroker::start();
    let topics = &broker.topics;
    let dataset = Dataset::synthetic("operated", FACES, 21);
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy_model(&dataset.model, &model);
    // Every component is too large for it, and yet recluster computes each.
    let more = format!("{EXACT}max_component = 1\n");
    let installation = Installation::new(&Settings { topics, model: &model, more: &more });
    stream(&installation, topics, &dataset);
    let stopped = Stopped { installation: &installation, topics };
    let before = stopped.kept();
    assert_eq!(before, stopped.told());

    let description = std::fs::read_to_string(model.join("model.toml")).unwrap();
    let other = with_another_threshold(&description);
    std::fs::write(model.join("model.toml"), &other).unwrap();
    assert!(stopped.refuses(&["run"]).contains("`facetd recluster`"));
    let checked = stopped.command(&["check"]).output().unwrap();
    assert!(String::from_utf8_lossy(&checked.stdout).contains("`facetd recluster`"));

    kill_at(&stopped, "being clustered anew");
    assert_eq!(stopped.kept(), before);
    assert!(stopped.refuses(&["run"]).contains("made with another model"), "it is of the old model still");
    std::fs::write(model.join("model.toml"), &description).unwrap();
    stopped.run();
    assert_eq!((stopped.kept(), stopped.told()), (before.clone(), before.clone()));

    // Killed while it writes, it is whole, and the old state or the new one.
    std::fs::write(model.join("model.toml"), &other).unwrap();
    kill_at(&stopped, "being written");
    let again = stopped.does(&["recluster"]);
    println!("{again}");
    let after = stopped.kept();
    assert!(stopped.does(&["recluster"]).contains("nothing to do"));
    let (clusters_before, clusters_after) = (members(&before), members(&after));
    let is_in_one = |faces: &BTreeSet<String>, of: &Members| of.values().any(|others| faces.is_subset(others));
    assert!(
        clusters_before.values().any(|faces| !is_in_one(faces, &clusters_after)),
        "without a split it proves little"
    );
    assert!(
        clusters_after.values().any(|faces| !is_in_one(faces, &clusters_before)),
        "without a merge it proves little"
    );
    assert_eq!(canonical(&after), batch_partition(&dataset, &model, folder.path()));
    for (id, faces) in &clusters_after {
        let unchanged = clusters_before.iter().find(|(_, others)| *others == faces);
        assert!(unchanged.is_none_or(|(other, _)| other == id), "cluster {id} was the same under another id");
    }

    assert_eq!(stopped.told(), before, "nothing is published before the daemon runs");
    stopped.run();
    assert_eq!((stopped.kept(), stopped.told()), (after.clone(), after), "the daemon goes on from it");

    let mut narrow = stopped.command(&["recluster"]);
    narrow.env("FACETD_MODEL__DIR", project().join("tests/fixtures/model"));
    let refused = String::from_utf8(narrow.output().unwrap().stderr).unwrap();
    assert!(refused.contains("holds embeddings of 128 values, the model takes 16"), "{refused}");
}

fn copy_model(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// model.toml with a higher τ, which splits clusters, and less evidence asked for, which merges others.
fn with_another_threshold(description: &str) -> String {
    let lines = description.lines().map(|line| match line.split_once(" = ") {
        Some(("threshold", value)) => {
            let old: f64 = value.split_whitespace().next().unwrap().parse().unwrap();
            format!("threshold = {:.3}", 1.3 * old)
        }
        Some(("per_face", _)) => "per_face = 1".to_string(),
        _ => line.to_string(),
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// Starts a recluster and kills it once it has said a line with these words.
fn kill_at(stopped: &Stopped, words: &str) {
    let mut child = stopped.command(&["recluster"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen = lines.map_while(Result::ok).any(|line| line.contains(words));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen, "it never said {words:?}");
}

/// What the batch pipeline makes of the same faces, as [`canonical`] names it.
fn batch_partition(dataset: &Dataset, model: &Path, folder: &Path) -> Vec<usize> {
    let labels = folder.join("batch.meta");
    let mut cluster = facetd();
    cluster.args(["cluster", "--index", "exact", "--device", "cpu", "--features"]).arg(&dataset.features);
    output_of(cluster.arg("--model").arg(model).arg("--labels").arg(&labels));
    let text = std::fs::read_to_string(labels).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Clusters named in order of first appearance, face by face.
fn canonical(partition: &Partition) -> Vec<usize> {
    let mut names = HashMap::new();
    let clusters = partition.values().map(|cluster| {
        let next = names.len();
        *names.entry(cluster).or_insert(next)
    });
    clusters.collect()
}
