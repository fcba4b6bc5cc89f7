//! The outbox to Kafka.
//!
//! A thread of its own reads what is committed and not yet published, in sequence, writes it and
//! clears it once the brokers have it. Dying between the two publishes some entries again: their
//! ids were fixed in the outbox, so a reader that goes by `ce_id` sees each event once.

pub mod cloudevents;
mod kafka;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::config::Kafka;
use crate::face::{Offset, Partition};
use crate::kafka::ProducerError;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::{Outbox, StoreError};
use cloudevents::Wire;
use kafka::Producer;

/// Entries published at once.
const CHUNK: usize = 2000;
/// How long after a stop was asked for the last entries are still tried.
const LAST_ENTRIES: Duration = Duration::from_secs(5);
/// How long to wait after the brokers did not take something.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long to wait for a word of a commit before looking whether a stop was asked for.
const WORD_OF_COMMIT: Duration = Duration::from_millis(100);

/// Why publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("{0}; check kafka.* in the configuration")]
    Producer(#[from] ProducerError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Publishes the outbox.
pub struct Publisher {
    outbox: Outbox,
    producer: Producer,
    wire: Wire,
    metrics: Arc<Metrics>,
    /// Sequence of the last entry published.
    published: u64,
}

/// What a publisher is told and what it tells.
pub struct Wires {
    /// A word after each commit; closed when there will be none any more.
    pub committed: Receiver<()>,
    /// The positions whose events Kafka has.
    pub published: Sender<BTreeMap<Partition, Offset>>,
}

impl Publisher {
    pub fn connect(
        config: &Kafka,
        state_uuid: &str,
        outbox: Outbox,
        metrics: Arc<Metrics>,
    ) -> Result<Publisher, PublishError> {
        let producer = Producer::connect(config)?;
        let wire = Wire::new(config, state_uuid);
        Ok(Publisher { outbox, producer, wire, metrics, published: 0 })
    }

    /// Publishes until there are no more commits to come and the outbox is empty, or until it
    /// stays full too long after a stop: what is left then is published at the next start.
    pub fn run(&mut self, wires: &Wires, shutdown: &Shutdown) -> Result<(), PublishError> {
        let patience = Patience { shutdown, stop_seen: Cell::new(None) };
        let mut told = BTreeMap::new();
        loop {
            // Asked before the outbox is emptied: all these positions stand for is in it by now.
            let positions = self.outbox.durable().positions;
            while let Published::Some = self.publish_some(&patience)? {
                if patience.is_over() {
                    tracing::warn!("the brokers did not take all entries; they are published at the next start");
                    return Ok(());
                }
            }
            if positions != told {
                // Nobody listens any more once the source has stopped.
                let _ = wires.published.send(positions.clone());
                told = positions;
            }
            match wires.committed.recv_timeout(WORD_OF_COMMIT) {
                Ok(()) => while wires.committed.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // The last commit may have come after the outbox was looked into.
                    if self.outbox.pending(self.published, 1)?.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn publish_some(&mut self, patience: &Patience) -> Result<Published, PublishError> {
        let pending = self.outbox.pending(self.published, CHUNK)?;
        let Some(last) = pending.last() else { return Ok(Published::Nothing) };
        let records: Vec<_> = pending.iter().flat_map(|pending| self.wire.records(&pending.entry)).collect();
        let missing = self.producer.publish(&records, &|| patience.is_over())?;
        if missing > 0 {
            self.metrics.publish_failures.inc_by(missing as u64);
            tracing::warn!(missing, "the brokers did not take some records; trying again");
            std::thread::sleep(RETRY_PAUSE);
            return Ok(Published::Some);
        }
        for record in &records {
            self.metrics.published.with_label_values(&[record.topic.as_ref()]).inc();
        }
        self.outbox.acknowledge(&pending)?;
        self.metrics.outbox_entries.sub(pending.len() as i64);
        self.published = last.sequence;
        Ok(Published::Some)
    }
}

/// How long to go on trying: for ever, but after a stop was asked for only [`LAST_ENTRIES`].
struct Patience<'a> {
    shutdown: &'a Shutdown,
    stop_seen: Cell<Option<Instant>>,
}

impl Patience<'_> {
    fn is_over(&self) -> bool {
        if !self.shutdown.is_requested() {
            return false;
        }
        let since = self.stop_seen.get().unwrap_or_else(Instant::now);
        self.stop_seen.set(Some(since));
        since.elapsed() > LAST_ENTRIES
    }
}

/// Whether there was something to publish.
enum Published {
    Some,
    Nothing,
}
