//! The bounded queue between source and engine, with its depth in sight.

use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::time::Duration;

use prometheus::IntGauge;

use super::Intake;

/// A queue of at most `capacity` records. `depth` shows how many are in it.
pub fn queue(capacity: usize, depth: IntGauge) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    (Sender { sender, depth: depth.clone(), capacity }, Receiver { receiver, depth })
}

pub struct Sender {
    sender: mpsc::SyncSender<Intake>,
    depth: IntGauge,
    capacity: usize,
}

/// What became of a record offered to the queue.
pub enum Offered {
    Taken,
    /// There is no room; it comes back.
    Full(Intake),
    /// The engine is gone.
    NobodyTakes,
}

impl Sender {
    pub fn offer(&self, intake: Intake) -> Offered {
        match self.sender.try_send(intake) {
            Ok(()) => {
                self.depth.inc();
                Offered::Taken
            }
            Err(TrySendError::Full(intake)) => Offered::Full(intake),
            Err(TrySendError::Disconnected(_)) => Offered::NobodyTakes,
        }
    }

    /// Whether there is so much room again that it pays to fetch: pausing throws away what was
    /// fetched ahead, so it is not done at every single record.
    pub fn has_drained(&self) -> bool {
        self.depth.get() <= (self.capacity / 2) as i64
    }
}

pub struct Receiver {
    receiver: mpsc::Receiver<Intake>,
    depth: IntGauge,
}

impl Receiver {
    /// The next record, waiting for it at most `timeout`.
    pub fn receive(&self, timeout: Duration) -> Result<Intake, RecvTimeoutError> {
        let intake = self.receiver.recv_timeout(timeout)?;
        self.depth.dec();
        Ok(intake)
    }
}
