//! Writes entries to Kafka, with the group's offsets: both or neither, where the brokers know transactions.
//!
//! With `kafka.delivery = "exactly_once"` a chunk is a transaction: begin, records, offsets with the
//! mark, commit. The transactional id is `<group>.<shard>`: whoever claims it last is let in, and the one
//! before is fenced at its next step. A transaction that died is aborted by its successor's claim. One that lay
//! still for too long is aborted by the brokers, who fence its producer just so: who finds out by the clock that
//! it may be this claims the id again, once the marks say that nobody else has published.
//!
//! With `"at_least_once"` the records are written, and the offsets after them: dying between the two
//! writes the records again, with the same ids.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::cloudevents::OutgoingRecord;
use super::group::Group;
use crate::config::{Delivery, Kafka};
use crate::face::{Offset, OutputPartition};
use crate::failpoint;
use crate::kafka::{CountingProducer, ProducerError, client_config, with_options};

/// How long one call may take before somebody is asked whether to go on.
const CALL: Duration = Duration::from_secs(1);
/// How long a transaction may lie still before the brokers abort it, and fence whoever began it: a daemon that hangs
/// longer, or whose brokers were gone for longer, goes on with a new producer.
const TRANSACTION_MILLISECONDS: &str = "60000";

/// What is written at once.
pub struct Chunk<'a> {
    pub records: &'a [OutgoingRecord],
    /// The group's, with the mark of the last entry.
    pub offsets: &'a TopicPartitionList,
    pub group: &'a Group,
    /// Whether nobody wants to wait any longer.
    pub give_up: &'a dyn Fn() -> bool,
}

/// What came of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Kafka has it, whole.
    Published,
    /// Kafka has nothing of it that counts. At least once: perhaps a part.
    TryAgain,
    /// Nobody wants to wait any longer; the next start finds out what Kafka has.
    GaveUp,
}

/// How a step of a transaction ended.
enum Step {
    Done,
    Abort,
    GaveUp,
}

pub struct Producer {
    producer: CountingProducer,
    /// None: at least once.
    transactional_id: Option<String>,
    /// How long a transaction may lie still.
    transaction_timeout: Duration,
    /// When the transaction that is open began.
    begun: Cell<Option<Instant>>,
}

impl Producer {
    pub fn connect(config: &Kafka) -> Result<Producer, ProducerError> {
        let transactional_id = match config.delivery {
            Delivery::ExactlyOnce => Some(format!("{}.{}", config.group, config.shard)),
            Delivery::AtLeastOnce => None,
        };
        let mut transaction_timeout = Duration::ZERO;
        let adjust = |mut client: ClientConfig| {
            match &transactional_id {
                Some(id) => {
                    client.set("transactional.id", id);
                    client.set("transaction.timeout.ms", TRANSACTION_MILLISECONDS);
                    client.set("message.timeout.ms", TRANSACTION_MILLISECONDS);
                }
                // Without end: a record that expired before its successors would be out of order.
                None => drop(client.set("message.timeout.ms", "0")),
            }
            let client = with_options(client, config);
            let milliseconds = client.get("transaction.timeout.ms").and_then(|text| text.parse().ok());
            transaction_timeout = milliseconds.map_or(Duration::ZERO, Duration::from_millis);
            client
        };
        let producer = CountingProducer::connect(client_config(config), adjust)?;
        Ok(Producer { producer, transactional_id, transaction_timeout, begun: Cell::new(None) })
    }

    /// Claims the transactional id: fences whoever had it and ends what they left open. False: gave up.
    pub fn claim(&self, give_up: &dyn Fn() -> bool) -> Result<bool, ProducerError> {
        if self.transactional_id.is_none() {
            return Ok(true);
        }
        loop {
            match self.producer.inner().init_transactions(CALL) {
                Ok(()) => return Ok(true),
                Err(error) if is_retriable(&error) => tracing::debug!(%error, "claiming the transactional id"),
                Err(error) => return Err(self.failed(error)),
            }
            if give_up() {
                return Ok(false);
            }
        }
    }

    /// Writes a chunk, its records in order.
    pub fn publish(&self, chunk: &Chunk) -> Result<Outcome, ProducerError> {
        match self.transactional_id {
            Some(_) => self.in_a_transaction(chunk),
            None => self.one_after_the_other(chunk),
        }
    }

    fn in_a_transaction(&self, chunk: &Chunk) -> Result<Outcome, ProducerError> {
        let producer = self.producer.inner();
        producer.begin_transaction().map_err(|error| self.failed(error))?;
        self.begun.set(Some(Instant::now()));
        failpoint::reached("publish::begun");
        let outcome = match self.write(chunk)? {
            Step::Done => Outcome::Published,
            Step::GaveUp => Outcome::GaveUp,
            Step::Abort => self.abort(chunk.give_up)?,
        };
        if outcome != Outcome::GaveUp {
            self.begun.set(None);
        }
        Ok(outcome)
    }

    fn write(&self, chunk: &Chunk) -> Result<Step, ProducerError> {
        let Chunk { records, offsets, group, give_up } = *chunk;
        let producer = self.producer.inner();
        for record in records {
            match self.producer.send(to_kafka(record), give_up) {
                Ok(true) => {}
                Ok(false) => return Ok(Step::GaveUp),
                // librdkafka takes nothing more in a transaction that has to be aborted.
                Err(ProducerError::Client(error)) if self.fatal().is_none() => {
                    tracing::warn!(%error, "the transaction takes no more records; it is aborted and tried again");
                    return Ok(Step::Abort);
                }
                Err(error) => return Err(self.fatal().unwrap_or(error)),
            }
        }
        failpoint::reached("publish::sent");
        let step =
            self.until_done(give_up, || producer.send_offsets_to_transaction(offsets, &group.metadata(), CALL))?;
        let Step::Done = step else { return Ok(step) };
        failpoint::reached("publish::offsets_sent");
        let step = self.until_done(give_up, || producer.commit_transaction(CALL))?;
        if let Step::Done = step {
            failpoint::reached("publish::committed");
        }
        Ok(step)
    }

    fn abort(&self, give_up: &dyn Fn() -> bool) -> Result<Outcome, ProducerError> {
        let producer = self.producer.inner();
        // What is not delivered must not be; its answers have to be heard before the abort can end.
        producer.purge(PurgeConfig::default().queue().inflight());
        let abort = || producer.flush(CALL).and_then(|()| producer.abort_transaction(CALL));
        match self.until_done(give_up, abort)? {
            Step::GaveUp => Ok(Outcome::GaveUp),
            Step::Done | Step::Abort => Ok(Outcome::TryAgain),
        }
    }

    /// Calls until it is done, has to be aborted, or nobody wants to wait any longer.
    fn until_done(
        &self,
        give_up: &dyn Fn() -> bool,
        call: impl Fn() -> Result<(), KafkaError>,
    ) -> Result<Step, ProducerError> {
        loop {
            match call() {
                Ok(()) => return Ok(Step::Done),
                Err(error) if is_retriable(&error) => tracing::debug!(%error, "the brokers have not answered yet"),
                Err(error) if has_to_abort(&error) => {
                    tracing::warn!(%error, "a transaction is aborted and tried again");
                    return Ok(Step::Abort);
                }
                Err(error) => return Err(self.failed(error)),
            }
            if give_up() {
                return Ok(Step::GaveUp);
            }
        }
    }

    fn one_after_the_other(&self, chunk: &Chunk) -> Result<Outcome, ProducerError> {
        let Chunk { records, offsets, group, give_up } = *chunk;
        failpoint::reached("publish::begun");
        let (delivered_before, failed_before) = (self.producer.delivered(), self.producer.failed());
        let delivered = || self.producer.delivered() - delivered_before;
        for record in records {
            if !self.producer.send(to_kafka(record), give_up)? {
                return Ok(Outcome::GaveUp);
            }
        }
        while delivered() + self.producer.failed() - failed_before < records.len() {
            if give_up() {
                return Ok(Outcome::GaveUp);
            }
            self.producer.wait()?;
        }
        failpoint::reached("publish::sent");
        if delivered() < records.len() {
            return Ok(Outcome::TryAgain);
        }
        // They are for the next start, which does with older ones too.
        if let Err(error) = group.commit(offsets) {
            tracing::warn!(%error, "the group's offsets could not be committed: kafka's tools show an old lag");
        }
        failpoint::reached("publish::offsets_sent");
        Ok(Outcome::Published)
    }

    /// The offsets after what was written since it was last asked.
    pub fn take_ends(&self) -> BTreeMap<OutputPartition, Offset> {
        self.producer.take_ends()
    }

    /// Why it is of no use any more, if so.
    fn fatal(&self) -> Option<ProducerError> {
        let (code, text) = self.producer.inner().client().fatal_error()?;
        Some(self.failure(code).unwrap_or(ProducerError::Fatal(text)))
    }

    fn failed(&self, error: KafkaError) -> ProducerError {
        let failure = || error.rdkafka_error_code().and_then(|code| self.failure(code));
        self.fatal().or_else(failure).unwrap_or(ProducerError::Client(error))
    }

    fn failure(&self, code: RDKafkaErrorCode) -> Option<ProducerError> {
        let transactional_id = || self.transactional_id.clone().unwrap_or_default();
        match code {
            // The brokers do not say why: in a transaction that was open for so long nobody else was needed for that.
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced
                if self.begun.get().is_some_and(|begun| begun.elapsed() > self.transaction_timeout) =>
            {
                Some(ProducerError::LayStill { timeout: self.transaction_timeout })
            }
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced => {
                Some(ProducerError::Fenced { transactional_id: transactional_id() })
            }
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed => {
                Some(ProducerError::NotAllowed { transactional_id: transactional_id() })
            }
            _ => None,
        }
    }
}

/// A call that ran out of time may be made again; it goes on where it was.
fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

fn has_to_abort(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort())
}

fn to_kafka(record: &OutgoingRecord) -> BaseRecord<'_, [u8], [u8]> {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
        headers.insert(Header { key: &header.name, value: Some(header.value.as_bytes()) })
    });
    let message = BaseRecord::to(&record.topic).key(&record.key[..]).headers(headers);
    match &record.payload {
        Some(payload) => message.payload(payload),
        None => message,
    }
}
