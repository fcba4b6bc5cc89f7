//! The outbox to Kafka.
//!
//! A thread of its own reads what is committed and not yet published, in sequence, writes it and
//! clears it once the brokers have it. Each chunk goes with the group's offsets and a [`Mark`] of how far it
//! is; with `kafka.delivery = "exactly_once"` all of it is one transaction ([`kafka`]). Wherever it dies, the next
//! start asks Kafka what it has ([`reconcile`]) and goes on from there. So a reader of committed records
//! sees each entry once and in order, and every record says which one it is ([`mark::HEADER`]).

pub mod cloudevents;
mod group;
mod kafka;
pub(crate) mod leftovers;
pub(crate) mod mark;
mod reconcile;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use crate::config::Kafka;
use crate::face::{Offset, OutputPartition, Partition, Position};
use crate::failpoint;
use crate::kafka::ProducerError;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::store::outbox::Pending;
use crate::store::{Claim, Durable, Outbox, Published, StoreError};
use cloudevents::{OutgoingRecord, RecordHeader, Wire};
use group::{Committed, Group, Watermarks};
use kafka::{Chunk, Outcome, Producer};
pub use leftovers::{StateKey, leftovers};
use mark::Mark;
pub use reconcile::Disagreement;
use reconcile::Own;

/// Entries published at once: one transaction.
const CHUNK: usize = 2000;
/// How long after a stop was asked for the last entries are still tried.
pub const LAST_ENTRIES: Duration = Duration::from_secs(5);
/// How long to wait after the brokers did not take something.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A producer that fails sooner after it was made new is not what is wrong.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How long to wait for a word of a commit before looking whether a stop was asked for.
const WORD_OF_COMMIT: Duration = Duration::from_millis(100);
/// How often positions are told that moved without an entry, as with records that come twice.
const POSITIONS_ALONE: Duration = Duration::from_secs(1);
/// How long the brokers may take to let this daemon in at its start: as long as a transaction of one that died may
/// keep them busy.
const CLAIM: Duration = Duration::from_secs(90);

/// Why publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("{0}; check kafka.* in the configuration")]
    Producer(ProducerError),
    /// Its text says what to do.
    #[error("{0}")]
    Fenced(ProducerError),
    #[error("asking the brokers what is published failed: {0}; check that they run, and kafka.* in the configuration")]
    Ask(KafkaError),
    #[error("the brokers did not let this daemon begin a transaction within {} s; check that they support transactions, or set \
             kafka.delivery = \"at_least_once\"", CLAIM.as_secs())]
    NotLetIn,
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ProducerError> for PublishError {
    fn from(error: ProducerError) -> PublishError {
        match error {
            ProducerError::Fenced { .. } | ProducerError::NotAllowed { .. } => PublishError::Fenced(error),
            ProducerError::Client(_) | ProducerError::Fatal(_) | ProducerError::LayStill { .. } => {
                PublishError::Producer(error)
            }
        }
    }
}

/// Publishes the outbox.
pub struct Publisher {
    reconciliation: Reconciliation,
    connection: Connection,
    wire: Wire,
    metrics: Arc<Metrics>,
    /// What is to be told of positions next, and the last entry that has to be published for it.
    aim: Durable,
}

/// A way to Kafka that nobody else has, and what it has of the outbox.
struct Connection {
    producer: Producer,
    group: Group,
    claim: Claim,
    published: Published,
    told: Told,
}

/// What Kafka was told of positions.
struct Told {
    positions: BTreeMap<Partition, Position>,
    /// None: not under this claim, which has left no mark yet.
    at: Option<Instant>,
}

/// What a publisher has to agree on with Kafka.
pub struct Reconciliation {
    pub config: Kafka,
    /// The partitions of the input that are ours.
    pub partitions: Vec<Partition>,
    pub state_uuid: String,
    pub outbox: Outbox,
}

impl Reconciliation {
    /// Whether this state and Kafka go together, as far as can be told without disturbing a daemon that
    /// is at work: a wrong one must not fence the right one.
    pub fn check(&self) -> Result<(), PublishError> {
        // What an open transaction will write is not asked for: the daemon before may have died in it.
        let group = Group::connect(&self.config, &self.partitions, "read_uncommitted").map_err(PublishError::Ask)?;
        let published = self.outbox.published()?;
        let Committed { marks, .. } = group.committed().map_err(PublishError::Ask)?;
        self.marked(&group, &published, &marks)?;
        self.check_ends(&group, &published)
    }

    fn own<'b>(&'b self, published: &'b Published) -> Own<'b> {
        Own { state_uuid: &self.state_uuid, last: self.outbox.durable().sequence, published }
    }

    fn marked(&self, group: &Group, published: &Published, marks: &[Mark]) -> Result<Option<u64>, PublishError> {
        Ok(reconcile::compare(&self.own(published), group.name(), marks)?)
    }

    fn check_ends(&self, group: &Group, published: &Published) -> Result<(), PublishError> {
        for (of, end) in &published.ends {
            let Watermarks { high, .. } = group.watermarks(of).map_err(PublishError::Ask)?;
            if high < end.0 {
                let (topic, partition) = (of.topic.clone(), of.partition);
                return Err(Disagreement::TopicMadeAnew { topic, partition, end: high, published: end.0 }.into());
            }
        }
        Ok(())
    }

    /// Which entries Kafka has. Nobody else publishes any more, and nothing is open.
    fn published(&self, group: &Group, marks: &[Mark]) -> Result<Published, PublishError> {
        let mut published = self.outbox.published()?;
        let sequence = match self.marked(group, &published, marks)? {
            // Where offsets could not be committed the mark is an older one: what was cleared stays published.
            Some(sequence) => sequence.max(published.sequence),
            // A state that was never given an entry has published none.
            None if self.outbox.durable().sequence == 0 => 0,
            None => {
                let last = group.last_mark_in_topics(&self.state_uuid).map_err(PublishError::Ask)?;
                reconcile::compare_with_topics(&self.own(&published), last.as_ref())?
            }
        };
        reconcile::bind(&mut published, &self.state_uuid, marks);
        Ok(Published { sequence, ..published })
    }

    /// Claims the shard and finds out what is published.
    fn connect(&self, metrics: &Metrics, give_up: &dyn Fn() -> bool) -> Result<Connection, PublishError> {
        self.check()?;
        let producer = Producer::connect(&self.config)?;
        let begun = Instant::now();
        if !producer.claim(&|| give_up() || begun.elapsed() > CLAIM)? {
            return Err(PublishError::NotLetIn);
        }
        let group = Group::connect(&self.config, &self.partitions, "read_committed").map_err(PublishError::Ask)?;
        let Committed { marks, positions } = group.committed().map_err(PublishError::Ask)?;
        let mut published = self.published(&group, &marks)?;
        let claim = self.outbox.claim(&mut published)?;
        let forgotten = self.outbox.acknowledge(&published)?;
        // Not counted anew: others are committed meanwhile.
        metrics.outbox_entries.sub(forgotten as i64);
        tracing::info!(sequence = published.sequence, published = forgotten, "reconciled with kafka");
        let told = Told { positions, at: None };
        Ok(Connection { producer, group, claim, published, told })
    }
}

/// Takes the shard from whoever has it, and ends what they left open.
pub fn claim(config: &Kafka) -> Result<(), PublishError> {
    let begun = Instant::now();
    match Producer::connect(config)?.claim(&|| begun.elapsed() > CLAIM)? {
        true => Ok(()),
        false => Err(PublishError::NotLetIn),
    }
}

impl Publisher {
    /// Claims the shard and finds out what is published. Before anything is committed beside it.
    pub fn connect(
        reconciliation: Reconciliation,
        metrics: Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Result<Publisher, PublishError> {
        metrics.outbox_entries.set(reconciliation.outbox.len() as i64);
        let connection = reconciliation.connect(&metrics, &|| shutdown.is_requested())?;
        let wire = Wire::new(&reconciliation.config, &reconciliation.state_uuid);
        let aim = reconciliation.outbox.durable();
        Ok(Publisher { reconciliation, connection, wire, metrics, aim })
    }

    /// Publishes until there are no more commits to come and the outbox is empty, or until it
    /// stays full too long after a stop: what is left then is published at the next start.
    /// `committed` brings a word after each commit and is closed when there will be none any more.
    pub fn run(&mut self, committed: &Receiver<()>, shutdown: &Shutdown) -> Result<(), PublishError> {
        let patience = Patience { shutdown, stop_seen: Cell::new(None) };
        let (mut last, mut renewed) = (false, None::<Instant>);
        loop {
            loop {
                match self.publish_some(last, &patience) {
                    Ok(Some(Outcome::Published)) => renewed = None,
                    Ok(None) => break,
                    Ok(Some(Outcome::TryAgain)) if !patience.is_over() => {
                        self.metrics.publish_failures.inc();
                        tracing::warn!("the brokers did not take everything; trying again");
                        std::thread::sleep(RETRY_PAUSE);
                    }
                    // When a new one fails at once it is not the producer's fault. Brokers may be gone any number of times.
                    Err(PublishError::Producer(error))
                        if error.lay_still()
                            || error.ended_the_producer() && renewed.is_none_or(|at| at.elapsed() > AT_ONCE) =>
                    {
                        self.metrics.publish_failures.inc();
                        tracing::warn!(%error, "going on with a new producer");
                        if !self.renew(&patience)? {
                            return Ok(());
                        }
                        renewed = Some(Instant::now());
                    }
                    Ok(Some(Outcome::TryAgain | Outcome::GaveUp)) => {
                        tracing::warn!("the brokers did not take all entries; they are published at the next start");
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            if last {
                return Ok(());
            }
            match committed.recv_timeout(WORD_OF_COMMIT) {
                Ok(()) => while committed.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                // The last commit may have come after the outbox was looked into.
                Err(RecvTimeoutError::Disconnected) => last = true,
            }
        }
    }

    /// Goes on as a new start of the daemon would: what became of the last transaction Kafka knows. False: gave up.
    fn renew(&mut self, patience: &Patience) -> Result<bool, PublishError> {
        let give_up = || patience.is_over();
        loop {
            match self.reconciliation.connect(&self.metrics, &give_up) {
                Ok(connection) => {
                    self.connection = connection;
                    return Ok(true);
                }
                Err(PublishError::Ask(_) | PublishError::NotLetIn) if give_up() => return Ok(false),
                Err(error @ (PublishError::Ask(_) | PublishError::NotLetIn)) => {
                    tracing::warn!(%error, "trying again");
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes a chunk; None: there is nothing to publish, and no reason to tell positions alone.
    ///
    /// Positions are told with the chunk that holds the last entry there was when they were looked up, or after it:
    /// every entry they stand for is in Kafka with them or before. Until then the ones told last are told again. New
    /// ones are looked up only when all entries of the ones before are published, so a publisher that is always
    /// behind, chunk after cut chunk, comes to each of them in the end.
    fn publish_some(&mut self, last: bool, patience: &Patience) -> Result<Option<Outcome>, PublishError> {
        let outbox = &self.reconciliation.outbox;
        let Connection { producer, group, claim, published, told } = &self.connection;
        if self.aim.sequence <= published.sequence {
            // Before the outbox is looked into: it may hold more by then, and never less.
            self.aim = outbox.durable();
        }
        let pending = outbox.pending(published.sequence, CHUNK)?;
        let sequence = pending.last().map_or(published.sequence, |pending| pending.sequence);
        let positions = if self.aim.sequence <= sequence { &self.aim.positions } else { &told.positions };
        let is_time = match told.at {
            Some(at) => *positions != told.positions && (last || at.elapsed() > POSITIONS_ALONE),
            // Whoever else is on the shard has to see soon that it is taken, entries or not.
            None => true,
        };
        if pending.is_empty() && !is_time {
            return Ok(None);
        }
        let records: Vec<_> = pending.iter().flat_map(|pending| self.records(pending)).collect();
        let offsets = group.offsets(positions, &self.mark(sequence)).map_err(PublishError::Ask)?;
        let give_up = || patience.is_over();
        let chunk = Chunk { records: &records, offsets: &offsets, group, give_up: &give_up };
        let timer = self.metrics.publish_chunk_seconds.start_timer();
        let outcome = producer.publish(&chunk)?;
        // Of a transaction that was aborted they count too: the offsets are taken.
        let ends = producer.take_ends();
        if outcome != Outcome::Published {
            timer.stop_and_discard();
            return Ok(Some(outcome));
        }
        timer.observe_duration();
        made_anew(&published.ends, &ends).map_or(Ok(()), Err)?;
        for record in &records {
            self.metrics.published.with_label_values(&[record.topic.as_ref()]).inc();
        }
        // Positions alone leave no mark in the topics, which may be all that Kafka keeps: there the last is an older one.
        let claims = if records.is_empty() { published.claims.clone() } else { vec![*claim] };
        let mut published = Published { sequence, claims, takes_over: false, ends: published.ends.clone() };
        published.ends.extend(ends);
        let forgotten = outbox.acknowledge(&published)?;
        failpoint::reached("publish::acknowledged");
        self.connection.told = Told { positions: positions.clone(), at: Some(Instant::now()) };
        self.connection.published = published;
        self.metrics.outbox_entries.sub(forgotten as i64);
        Ok(Some(outcome))
    }

    /// An entry's records, each with its mark.
    fn records(&self, pending: &Pending) -> Vec<OutgoingRecord> {
        let mut records = self.wire.records(&pending.entry);
        for record in &mut records {
            let value = self.mark(pending.sequence).to_string();
            record.headers.push(RecordHeader { name: mark::HEADER.to_string(), value });
        }
        records
    }

    fn mark(&self, sequence: u64) -> Mark {
        Mark { state_uuid: self.reconciliation.state_uuid.clone(), claim: self.connection.claim, sequence }
    }
}

/// The first partition in which records just written lie before those that were written earlier. What was in it is
/// gone, and the next start finds the old end above the new one.
fn made_anew(
    known: &BTreeMap<OutputPartition, Offset>,
    written: &BTreeMap<OutputPartition, Offset>,
) -> Option<Disagreement> {
    written.iter().find_map(|(of, end)| {
        let before = known.get(of).filter(|before| *before >= end)?;
        let (topic, partition) = (of.topic.clone(), of.partition);
        Some(Disagreement::TopicMadeAnew { topic, partition, end: end.0, published: before.0 })
    })
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
