//! Writes records and waits until the brokers have them.

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::cloudevents::OutgoingRecord;
use crate::config::Kafka;
use crate::kafka::{CountingProducer, ProducerError, client_config, with_options};

pub struct Producer {
    producer: CountingProducer,
}

impl Producer {
    pub fn connect(config: &Kafka) -> Result<Producer, ProducerError> {
        let adjust = |mut client: ClientConfig| {
            // Without end: a record that expired before its successors would be out of order.
            client.set("message.timeout.ms", "0");
            with_options(client, config)
        };
        let producer = CountingProducer::connect(client_config(config), adjust)?;
        Ok(Producer { producer })
    }

    /// Writes all `records` in order; answers how many the brokers have not taken, which is none
    /// unless they refused some or `give_up` said so before they had answered.
    pub fn publish(&self, records: &[OutgoingRecord], give_up: &dyn Fn() -> bool) -> Result<usize, ProducerError> {
        let (delivered_before, failed_before) = (self.producer.delivered(), self.producer.failed());
        let delivered = || self.producer.delivered() - delivered_before;
        for record in records {
            if !self.producer.send(to_kafka(record), give_up)? {
                return Ok(records.len() - delivered());
            }
        }
        while delivered() + self.producer.failed() - failed_before < records.len() && !give_up() {
            self.producer.wait()?;
        }
        Ok(records.len() - delivered())
    }
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
