//! The bounded queue between source and engine, with its depth in sight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::time::Duration;

use prometheus::IntGauge;

use super::Intake;

/// A queue of at most `capacity` records. `gauge` shows its depth.
pub fn queue(capacity: usize, gauge: IntGauge) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    let depth = Arc::new(AtomicUsize::new(0));
    let sender = Sender { sender, depth: depth.clone(), gauge: gauge.clone(), capacity };
    (sender, Receiver { receiver, depth, gauge })
}

pub struct Sender {
    sender: mpsc::SyncSender<Intake>,
    depth: Arc<AtomicUsize>,
    gauge: IntGauge,
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
                self.gauge.set(self.depth.fetch_add(1, Ordering::Relaxed) as i64 + 1);
                Offered::Taken
            }
            Err(TrySendError::Full(intake)) => Offered::Full(intake),
            Err(TrySendError::Disconnected(_)) => Offered::NobodyTakes,
        }
    }

    /// Whether there is so much room again that it pays to fetch: pausing throws away what was
    /// fetched ahead, so it is not done at every single record.
    pub fn has_drained(&self) -> bool {
        self.depth.load(Ordering::Relaxed) <= self.capacity / 2
    }
}

pub struct Receiver {
    receiver: mpsc::Receiver<Intake>,
    depth: Arc<AtomicUsize>,
    gauge: IntGauge,
}

impl Receiver {
    /// The next record, waiting for it at most `timeout`.
    pub fn receive(&self, timeout: Duration) -> Result<Intake, RecvTimeoutError> {
        let intake = self.receiver.recv_timeout(timeout)?;
        // The sender counts after it sent, so the count may be behind for a moment.
        let before = self.depth.fetch_sub(1, Ordering::Relaxed);
        self.gauge.set(before.wrapping_sub(1) as isize as i64);
        Ok(intake)
    }
}
