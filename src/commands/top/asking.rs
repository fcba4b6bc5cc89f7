//! A daemon asked over HTTP: its metrics again and again, and what changes, each in a thread of its own, so that one that
//! does not answer holds up nobody.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::figures::Look;
use super::prometheus::Samples;

/// How often the metrics are looked at.
pub const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a feed may say nothing: the daemon says every 15 s that it is still there.
const SILENCE: Duration = Duration::from_secs(40);
/// How long to wait before a feed that ended is tried again.
const AGAIN: Duration = Duration::from_secs(3);
const MOST_BYTES: u64 = 16 << 20;

#[derive(Clone)]
pub struct Daemon {
    pub url: String,
    token: Option<String>,
}

/// What comes of asking.
pub enum Heard {
    Metrics(Box<Look>),
    /// Why nothing was.
    Gone(String),
    /// Whose changes are told, or why none are.
    Feed(String),
    Change(String),
}

impl Daemon {
    /// `url` may be without http:// before it.
    pub fn new(url: &str, token: Option<String>) -> Daemon {
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        Daemon { url, token }
    }

    fn get(&self, agent: &Agent, path: &str) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
        let mut request = agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().with_context(|| format!("{} does not answer", self.url))?;
        match response.status().as_u16() {
            200 => Ok(response),
            401 if self.token.is_none() => bail!("a token is wanted: give FACETD_TOKEN or --token-file"),
            401 | 403 => bail!("the token is not for this: see `facetd token`"),
            status => bail!("{}{path} answers {status}: is it a facetd?", self.url),
        }
    }

    /// Looks once.
    pub fn look(&self) -> anyhow::Result<Look> {
        let text = self.text("/metrics")?;
        let samples = Samples::parse(&text)?;
        if !samples.has("facetd_build_info") {
            bail!("{} has no metrics of facetd", self.url);
        }
        Ok(Look { at: Instant::now(), samples })
    }

    fn text(&self, path: &str) -> anyhow::Result<String> {
        let mut response = self.get(&agent(Some(PATIENCE)), path)?;
        response.body_mut().with_config().limit(MOST_BYTES).read_to_string().context("the answer ended early")
    }

    /// Asks until nobody hears any more.
    pub fn ask(&self) -> Receiver<Heard> {
        let (tell, heard) = channel();
        let (looking, reading) = (self.clone(), self.clone());
        let changes = tell.clone();
        std::thread::spawn(move || looking.look_on(&tell));
        std::thread::spawn(move || reading.read_on(&changes));
        heard
    }

    fn look_on(&self, tell: &Sender<Heard>) {
        loop {
            let heard = match self.look() {
                Ok(look) => Heard::Metrics(Box::new(look)),
                Err(error) => Heard::Gone(format!("{error:#}")),
            };
            if tell.send(heard).is_err() {
                return;
            }
            std::thread::sleep(EVERY);
        }
    }

    fn read_on(&self, tell: &Sender<Heard>) {
        loop {
            if let Err(error) = self.read_changes(tell)
                && tell.send(Heard::Feed(format!("none: {error:#}"))).is_err()
            {
                return;
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// The changes of the collection with the most faces, until they end.
    fn read_changes(&self, tell: &Sender<Heard>) -> anyhow::Result<()> {
        let listed: Value = serde_json::from_str(&self.text("/v1/collections")?).context("no list of collections")?;
        let collections = listed["collections"].as_array().context("no list of collections")?;
        let largest = collections.iter().max_by_key(|collection| collection["faces"].as_u64());
        let name = largest.and_then(|collection| collection["collection"].as_str());
        let name = name.context("there is no collection yet, or none that the token may read")?;
        let mut response = self.get(&agent(None), &format!("/v1/collections/{name}/events"))?;
        tell.send(Heard::Feed(format!("of {name}")))?;
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line.context("the feed ended")?;
            if let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data).ok()) {
                tell.send(Heard::Change(told(&event)))?;
            }
        }
        bail!("the feed ended")
    }
}

/// `whole`: how long all of an answer may take; none: it goes on.
fn agent(whole: Option<Duration>) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // It is a machine of one's own that is asked.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(whole)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(SILENCE));
    config.build().into()
}

/// An event in a line.
fn told(event: &Value) -> String {
    let text = |key: &str| match &event[key] {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let mut words = vec![format!("{:>8}", text("sequence").unwrap_or_default()), text("type").unwrap_or_default()];
    words.extend(text("face_id").map(|face| format!("face {face}")));
    words.extend(text("merged").map(|merged| format!("cluster {merged}")));
    words.extend(text("cluster_id").map(|cluster| match event["type"].as_str() {
        Some("merged") => format!("went into {cluster}"),
        Some("split" | "left" | "erased") => format!("of cluster {cluster}"),
        _ => format!("in cluster {cluster}"),
    }));
    words.extend(text("into").map(|into| format!("for {into}")));
    words.extend(event["size_after"].as_u64().map(|size| format!("({size} faces)")));
    words.extend(event["cause"]["kind"].as_str().map(str::to_string));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_in_a_line() {
        let event = json!({ "type": "left", "sequence": 7, "face_id": "a", "cluster_id": "3", "into": "9", "size_after": 2,
            "cause": { "kind": "refresh" } });
        assert_eq!(told(&event).trim(), "7 left face a of cluster 3 for 9 (2 faces) refresh");
        let merged = json!({ "type": "merged", "sequence": 8, "cluster_id": "3", "merged": "9", "size_after": 5 });
        assert_eq!(told(&merged).trim(), "8 merged cluster 9 went into 3 (5 faces)");
    }

    #[test]
    fn a_url_needs_no_scheme() {
        assert_eq!(Daemon::new("127.0.0.1:9464/", None).url, "http://127.0.0.1:9464");
        assert_eq!(Daemon::new("https://faces.example", None).url, "https://faces.example");
    }
}
