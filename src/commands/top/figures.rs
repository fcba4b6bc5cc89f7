//! What there is to see of a daemon, made of two looks at its metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use facetd::engine::Step;
use facetd::engine::event::EventType;
use indicatif::HumanBytes;
use serde::Serialize;

use super::prometheus::{Histogram, Samples};
use crate::commands::output::table;

/// One look.
#[derive(Debug, Clone)]
pub struct Look {
    pub at: Instant,
    pub samples: Samples,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub url: String,
    pub version: String,
    pub device: String,
    pub ready: bool,
    pub up_seconds: f64,
    /// What rates are of.
    pub over_seconds: f64,
    pub records_per_second: f64,
    pub lag_records: f64,
    pub queued_faces: f64,
    pub paused: bool,
    /// Limits that are reached.
    pub full: Vec<String>,
    pub faces: f64,
    pub clusters: f64,
    pub collections: f64,
    pub resident_bytes: f64,
    pub stale_faces: f64,
    pub stale_oldest_seconds: f64,
    pub refreshes_per_second: f64,
    pub unsettled_collections: f64,
    pub outbox_entries: f64,
    pub published_per_second: f64,
    pub publish_failures: f64,
    /// Where a batch spends its time, and what comes after it.
    pub stages: Vec<Stage>,
    pub events: BTreeMap<String, Count>,
    /// By reason; those there are.
    pub dead_letters: BTreeMap<String, Count>,
}

/// How long something takes; none: it did not happen.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    pub stage: String,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Of the time that passed.
    pub busy_ratio: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Count {
    pub total: f64,
    pub per_second: f64,
}

/// Beside a batch's steps: what is shown of which histogram.
const OTHER_STAGES: [(&str, &str); 4] = [
    ("commit", "facetd_store_commit_seconds"),
    ("batch", "facetd_engine_batch_seconds"),
    ("publish", "facetd_publish_chunk_seconds"),
    ("record to commit", "facetd_daemon_latency_seconds"),
];

impl Figures {
    /// `rates` is what rates are of; `latencies` what latencies are of, none: of all since the daemon started.
    pub fn of(url: &str, now: &Look, rates: &Look, latencies: Option<&Look>) -> Figures {
        let samples = &now.samples;
        let sum = |name: &str| samples.sum(name);
        let seconds = now.at.duration_since(rates.at).as_secs_f64();
        // A daemon that was started anew counts from 0 again.
        let rate = |now: f64, before: f64| if seconds > 0.0 { (now - before).max(0.0) / seconds } else { 0.0 };
        let rate_of = |name: &str| rate(sum(name), rates.samples.sum(name));
        let counts = |name: &str, label: &str| -> BTreeMap<String, Count> {
            let before = rates.samples.by(name, label);
            let count = |(word, total): (String, f64)| {
                let earlier = before.get(&word).copied().unwrap_or_default();
                (word, Count { total, per_second: rate(total, earlier) })
            };
            samples.by(name, label).into_iter().map(count).collect()
        };
        let up_seconds = (since_1970() - sum("process_start_time_seconds")).max(0.0);
        let span = latencies.map_or(up_seconds, |look| now.at.duration_since(look.at).as_secs_f64());
        let stage = |stage: &str, metric: &str, series: Option<(&str, &str)>| {
            let of = |look: &Look| look.samples.histogram(metric, series);
            let seen: Histogram = latencies.map_or(of(now), |earlier| of(now).since(&of(earlier)));
            let ms = |q| seen.quantile(q).map(|seconds| seconds * 1000.0);
            let busy_ratio = if span > 0.0 { (seen.sum / span).max(0.0) } else { 0.0 };
            Stage { stage: stage.to_string(), p50_ms: ms(0.5), p95_ms: ms(0.95), p99_ms: ms(0.99), busy_ratio }
        };
        let steps =
            Step::ALL.iter().map(|step| stage(step.name(), "facetd_engine_step_seconds", Some(("step", step.name()))));
        let refreshes = |look: &Look| {
            look.samples.by("facetd_engine_linked_faces_total", "why").get("refresh").copied().unwrap_or_default()
        };
        let mut dead_letters = counts("facetd_source_rejected_total", "reason");
        dead_letters.retain(|_, count| count.total > 0.0);
        let full = samples.by("facetd_daemon_full", "limit");
        Figures {
            url: url.to_string(),
            version: samples.word("facetd_build_info", "version").unwrap_or_default(),
            device: samples.word("facetd_model_device_info", "device").unwrap_or_default(),
            ready: sum("facetd_daemon_ready") == 1.0,
            up_seconds,
            over_seconds: seconds,
            records_per_second: rate_of("facetd_source_records_total"),
            lag_records: sum("facetd_source_lag_records"),
            queued_faces: sum("facetd_source_queued_faces"),
            paused: sum("facetd_source_paused") == 1.0,
            full: full.into_iter().filter(|(_, value)| *value == 1.0).map(|(limit, _)| limit).collect(),
            faces: sum("facetd_engine_faces"),
            clusters: sum("facetd_engine_clusters"),
            collections: sum("facetd_engine_collections"),
            resident_bytes: sum("process_resident_memory_bytes"),
            stale_faces: sum("facetd_engine_stale_faces"),
            stale_oldest_seconds: sum("facetd_engine_stale_oldest_seconds"),
            refreshes_per_second: rate(refreshes(now), refreshes(rates)),
            unsettled_collections: sum("facetd_engine_unsettled_collections"),
            outbox_entries: sum("facetd_publish_outbox_entries"),
            published_per_second: rate_of("facetd_publish_records_total"),
            publish_failures: sum("facetd_publish_failures_total"),
            stages: steps.chain(OTHER_STAGES.map(|(name, metric)| stage(name, metric, None))).collect(),
            events: counts("facetd_engine_events_total", "type"),
            dead_letters,
        }
    }

    /// Events by type, in the order in which they are told of everywhere.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, Count)> {
        let none = Count { total: 0.0, per_second: 0.0 };
        EventType::ALL.iter().map(move |kind| (kind.name(), self.events.get(kind.name()).copied().unwrap_or(none)))
    }

    pub fn input(&self) -> Vec<(&'static str, String)> {
        let paused = if self.paused { ", paused" } else { "" };
        vec![
            ("records", format!("{} a second", rounded(self.records_per_second))),
            ("lag", format!("{:.0} records", self.lag_records)),
            ("queued", format!("{:.0} faces{paused}", self.queued_faces)),
            (
                "outbox",
                format!("{:.0} entries, {}/s published", self.outbox_entries, rounded(self.published_per_second)),
            ),
        ]
    }

    pub fn held(&self) -> Vec<(&'static str, String)> {
        let oldest = match self.stale_faces {
            0.0 => String::new(),
            _ => format!(", oldest {}", duration(self.stale_oldest_seconds)),
        };
        vec![
            ("faces", format!("{:.0} in {:.0} clusters", self.faces, self.clusters)),
            ("collections", format!("{:.0}, {:.0} unsettled", self.collections, self.unsettled_collections)),
            ("stale", format!("{:.0} faces{oldest}", self.stale_faces)),
            ("refreshed", format!("{} a second", rounded(self.refreshes_per_second))),
            ("memory", HumanBytes(self.resident_bytes as u64).to_string()),
        ]
    }

    /// `facetd 0.1.0 on cpu, up 3 h, ready`
    pub fn title(&self) -> String {
        let Figures { version, device, up_seconds, ready, full, .. } = self;
        let ready = if *ready { "ready" } else { "loading the state" };
        let full: String = full.iter().map(|limit| format!(", limit of {limit} reached")).collect();
        format!("facetd {version} on {device}, up {}, {ready}{full}", duration(*up_seconds))
    }

    pub fn latencies(&self) -> impl Iterator<Item = Vec<String>> {
        let head = ["", "p50 ms", "p95 ms", "p99 ms", "busy"].map(str::to_string).to_vec();
        let ms = |value: Option<f64>| value.map_or("-".to_string(), milliseconds);
        let rows = self.stages.iter().map(move |Stage { stage, p50_ms, p95_ms, p99_ms, busy_ratio }| {
            // A record waits beside others: its time adds up to more than passes.
            let busy = if stage == "record to commit" { String::new() } else { format!("{:.0} %", 100.0 * busy_ratio) };
            vec![stage.clone(), ms(*p50_ms), ms(*p95_ms), ms(*p99_ms), busy]
        });
        std::iter::once(head).chain(rows)
    }

    pub fn dead_letters(&self) -> String {
        let told = self.dead_letters.iter().map(|(reason, count)| format!("{reason} {:.0}", count.total));
        let told: Vec<String> = told.collect();
        if told.is_empty() { "none".to_string() } else { told.join(", ") }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.url, self.title())?;
        let pairs = self.input().into_iter().chain(self.held());
        let pairs = pairs.map(|(name, value)| vec![name.to_string(), value]);
        writeln!(f, "{}\n", table(&[13], &[], pairs).trim_fmt())?;
        writeln!(f, "{}\n", table(&[18, 10, 10, 10, 9], &[1, 2, 3, 4], self.latencies()).trim_fmt())?;
        let events: Vec<String> = self.events().map(|(kind, count)| format!("{:.0} {kind}", count.total)).collect();
        let told = [("events", events.join(", ")), ("dead letters", self.dead_letters())];
        let told = told.map(|(name, value)| vec![name.to_string(), value]);
        write!(f, "{}", table(&[13], &[], told).trim_fmt())
    }
}

fn since_1970() -> f64 {
    let age = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    age.map_or(0.0, |age| age.as_secs_f64())
}

pub fn rounded(rate: f64) -> String {
    if rate < 10.0 && rate > 0.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn duration(seconds: f64) -> String {
    match seconds as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use facetd::metrics::Metrics;

    use super::*;

    /// A daemon that has taken 4,000 records in the last 2 seconds.
    pub fn figures() -> Figures {
        let metrics = Metrics::new();
        let look = |seconds| {
            let at = *START + Duration::from_secs(seconds);
            Look { at, samples: Samples::parse(&metrics.text()).unwrap() }
        };
        let before = look(0);
        metrics.source_records.inc_by(4000);
        metrics.source_lag_records.set(1234);
        metrics.faces.set(3990);
        metrics.clusters.set(2100);
        metrics.ready.set(1);
        metrics.device.with_label_values(&["cpu"]).set(1);
        metrics.full.with_label_values(&["memory"]).set(1);
        metrics.events.with_label_values(&["created"]).inc_by(2200);
        metrics.rejected.with_label_values(&["wrong_dimension"]).inc_by(10);
        for _ in 0..10 {
            metrics.step_seconds.with_label_values(&["search"]).observe(0.1);
        }
        let now = look(2);
        Figures::of("http://127.0.0.1:9464", &now, &before, Some(&before))
    }

    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

    #[test]
    fn rates_and_latencies_are_of_the_time_between_two_looks() {
        let figures = figures();
        assert_eq!((figures.records_per_second, figures.lag_records), (2000.0, 1234.0));
        assert_eq!(figures.events["created"], Count { total: 2200.0, per_second: 1100.0 });
        assert_eq!(figures.dead_letters.keys().collect::<Vec<_>>(), ["wrong_dimension"]);
        let search = figures.stages.iter().find(|stage| stage.stage == "search").unwrap();
        assert!((0.45..0.55).contains(&search.busy_ratio) && search.p50_ms.unwrap() > 50.0, "{search:?}");
        assert!(figures.stages.iter().all(|stage| stage.stage == "search" || stage.p50_ms.is_none()));
        assert_eq!(figures.full, ["memory"]);
        let text = figures.to_string();
        assert!(text.contains("2000 a second") && text.contains("wrong_dimension 10"), "{text}");
    }
}
