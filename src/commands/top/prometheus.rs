//! What /metrics answers: Prometheus's text format, version 0.0.4, as far as facetd writes it.

use std::collections::{BTreeMap, HashMap};

/// Every series of one look, by the name of its metric.
#[derive(Debug, Clone, Default)]
pub struct Samples(HashMap<String, Vec<Sample>>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Debug, thiserror::Error)]
#[error("line {line} of what /metrics answers is no sample: is it a facetd?")]
pub struct NoSample {
    line: usize,
}

impl Samples {
    pub fn parse(text: &str) -> Result<Samples, NoSample> {
        let mut samples = Samples::default();
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, sample) = parse_sample(line).ok_or(NoSample { line: place + 1 })?;
            samples.0.entry(name).or_default().push(sample);
        }
        Ok(samples)
    }

    fn of(&self, name: &str) -> &[Sample] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The sum of all its series; 0 when there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).iter().map(|sample| sample.value).sum()
    }

    /// Its values by one of its labels.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for Sample { labels, value } in self.of(name) {
            if let Some(word) = labels.get(label) {
                *values.entry(word.clone()).or_insert(0.0) += value;
            }
        }
        values
    }

    /// The label of the series that is 1, of a metric that has one.
    pub fn word(&self, name: &str, label: &str) -> Option<String> {
        self.by(name, label).into_iter().find(|(_, value)| *value == 1.0).map(|(word, _)| word)
    }

    /// A histogram, of one series where it has a label.
    pub fn histogram(&self, name: &str, series: Option<(&str, &str)>) -> Histogram {
        let is_of = |sample: &&Sample| {
            series.is_none_or(|(label, word)| sample.labels.get(label).is_some_and(|found| found == word))
        };
        let bucket = |sample: &Sample| Some((number(sample.labels.get("le")?)?, sample.value));
        let mut buckets: Vec<(f64, f64)> =
            self.of(&format!("{name}_bucket")).iter().filter(is_of).filter_map(bucket).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let sum = self.of(&format!("{name}_sum")).iter().filter(is_of).map(|sample| sample.value).sum();
        Histogram { buckets, sum }
    }
}

/// Observations counted up to each bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
    /// Of all that was observed.
    pub sum: f64,
}

impl Histogram {
    /// What was observed since `earlier`.
    pub fn since(mut self, earlier: &Histogram) -> Histogram {
        for ((_, count), (_, before)) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *count -= before;
        }
        self.sum -= earlier.sum;
        self
    }

    /// Of so much of what was observed it was at most this, evenly spread inside a bucket; none without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let all = self.buckets.last().map(|&(_, count)| count).filter(|&count| count > 0.0)?;
        let rank = q * all;
        let place = self.buckets.iter().position(|&(_, count)| count >= rank)?;
        let (lower, before) = if place == 0 { (0.0, 0.0) } else { self.buckets[place - 1] };
        let (upper, count) = self.buckets[place];
        // Beyond the last bound nothing is known but that.
        Some(if upper.is_infinite() || count == before {
            lower
        } else {
            lower + (upper - lower) * (rank - before) / (count - before)
        })
    }
}

/// `name{label="word"} value`; a timestamp after it is left out.
fn parse_sample(line: &str) -> Option<(String, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = number(rest.split_whitespace().next()?)?;
    (!name.is_empty()).then(|| (name.to_string(), Sample { labels, value }))
}

/// What is between the braces, and what comes after them.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut word = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next()?.1 {
                    'n' => word.push('\n'),
                    other => word.push(other),
                },
                (_, other) => word.push(other),
            }
        };
        labels.insert(name.to_string(), word);
        rest = &after[end..];
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_facetd_tells_is_read_as_it_was_meant() {
        let metrics = facetd::metrics::Metrics::new();
        metrics.faces.set(42);
        metrics.rejected.with_label_values(&["suppressed"]).inc_by(3);
        metrics.published.with_label_values(&["a\"b\\c\nd"]).inc();
        metrics.device.with_label_values(&["cpu"]).set(1);
        for seconds in [0.001, 0.002, 0.3] {
            metrics.step_seconds.with_label_values(&["link"]).observe(seconds);
        }
        let samples = Samples::parse(&metrics.text()).unwrap();
        assert_eq!(samples.sum("facetd_engine_faces"), 42.0);
        assert_eq!(samples.by("facetd_source_rejected_total", "reason")["suppressed"], 3.0);
        assert_eq!(samples.by("facetd_publish_records_total", "topic")["a\"b\\c\nd"], 1.0);
        assert_eq!(samples.word("facetd_model_device_info", "device").as_deref(), Some("cpu"));
        let link = samples.histogram("facetd_engine_step_seconds", Some(("step", "link")));
        assert!((link.sum - 0.303).abs() < 1e-9);
        let median = link.quantile(0.5).unwrap();
        assert!((0.0016..=0.0032).contains(&median), "{median}");
        assert!(link.quantile(0.99).unwrap() > 0.2);
        assert_eq!(samples.histogram("facetd_engine_step_seconds", Some(("step", "graph"))).quantile(0.5), None);
        assert!(Samples::parse("<html>").is_err() && Samples::parse("a{b=\"c} 1").is_err());
    }

    #[test]
    fn what_was_before_does_not_count() {
        let histogram = |counts: [f64; 3], sum| {
            let bounds = [0.1, 0.2, f64::INFINITY];
            Histogram { buckets: bounds.into_iter().zip(counts).collect(), sum }
        };
        let since = histogram([100.0, 110.0, 110.0], 9.0).since(&histogram([100.0, 100.0, 100.0], 7.5));
        assert_eq!(since, histogram([0.0, 10.0, 10.0], 1.5));
        assert!((since.quantile(0.5).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!(histogram([0.0, 0.0, 4.0], 9.0).quantile(0.5), Some(0.2), "beyond the last bound");
    }
}
