//! `facetd replay`: a file into Kafka.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use facetd::features::Features;
use facetd::replay::{FaceProducer, face_id_of_row};
use serde::Serialize;

use super::output::Output;
use super::{configuration, ending, progress};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd replay --features faces/features.bin --dimension 128 --brokers 127.0.0.1:9092 --topic faces
  facetd replay --features faces.npy --brokers a:9092,b:9092 --topic faces --rate 200

Running it again is harmless: a face that is there with the same embedding is ignored.")]
pub struct Arguments {
    /// Features, .npy or learn-to-cluster .bin; a face's id is its row
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Width of a row of a .bin
    #[arg(long, value_name = "D")]
    dimension: Option<usize>,
    /// The daemon's configuration, for its brokers, the way to them and the input topic
    #[arg(long, value_name = "FILE", required_unless_present_all = ["brokers", "topic"])]
    config: Option<PathBuf>,
    /// host:port, separated by commas
    #[arg(long, value_name = "B", conflicts_with = "config", requires = "topic")]
    brokers: Option<String>,
    /// The input topic
    #[arg(long, value_name = "T", conflicts_with = "config", requires = "brokers")]
    topic: Option<String>,
    /// Faces a second; as fast as the brokers take them when not given
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Replayed<'a> {
    faces: usize,
    topic: &'a str,
    seconds: f64,
}

impl fmt::Display for Replayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replayed { faces, topic, seconds } = self;
        write!(f, "{faces} faces in {topic} in {seconds:.1} s")
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let features = Features::read(&arguments.features, arguments.dimension)?;
    let (mut producer, topic) = match (&arguments.config, &arguments.brokers, &arguments.topic) {
        (Some(path), ..) => {
            let kafka = configuration(path)?.kafka;
            (FaceProducer::of(&kafka)?, kafka.input_topic)
        }
        (None, Some(brokers), Some(topic)) => (FaceProducer::connect(brokers, topic)?, topic.clone()),
        _ => bail!("give --config, or --brokers and --topic"),
    };
    let bar = progress::bar(features.len(), "{bar:40} {pos}/{len} faces {per_sec} {eta} left");
    let (delivered, of) = (bar.clone(), features.len());
    ending::if_interrupted(move || {
        format!("the brokers have {} of {of} faces; those sent again are ignored", delivered.position())
    });
    let started = Instant::now();
    for (row, values) in features.rows().enumerate() {
        if let Some(rate) = arguments.rate {
            let due = started + Duration::from_secs_f64(row as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        producer.send(&face_id_of_row(row), values)?;
        bar.set_position(producer.delivered() as u64);
    }
    producer.finish(|delivered| bar.set_position(delivered as u64))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    arguments.output.answer(&Replayed { faces: features.len(), topic: &topic, seconds })
}
