//! The bounded queue between source and engine, with its depth in sight; and a way to wake who waits at its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::IntGauge;

use super::Intake;

/// A queue of at most `capacity` records. `depth` shows how many are in it.
pub fn queue(capacity: usize, depth: IntGauge) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    let sender = Arc::new(sender);
    let knocker = Knocker { queue: Arc::downgrade(&sender), knocked: Arc::default() };
    (Sender { sender, depth: depth.clone(), capacity }, Receiver { receiver, depth, knocker })
}

/// What comes through the queue.
enum Item {
    Record(Intake),
    Knock,
}

pub struct Sender {
    sender: Arc<mpsc::SyncSender<Item>>,
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
        match self.sender.try_send(Item::Record(intake)) {
            Ok(()) => {
                self.depth.inc();
                Offered::Taken
            }
            Err(TrySendError::Full(Item::Record(intake))) => Offered::Full(intake),
            Err(_) => Offered::NobodyTakes,
        }
    }

    /// Whether there is so much room again that it pays to fetch: pausing throws away what was
    /// fetched ahead, so it is not done at every single record.
    pub fn has_drained(&self) -> bool {
        self.depth.get() <= (self.capacity / 2) as i64
    }
}

/// Wakes who waits for records, without one.
#[derive(Clone)]
pub struct Knocker {
    queue: Weak<mpsc::SyncSender<Item>>,
    /// One knock at a time is in the queue.
    knocked: Arc<AtomicBool>,
}

impl Knocker {
    pub fn knock(&self) {
        let Some(queue) = self.queue.upgrade() else { return };
        // In a full queue there is something to wake up for.
        if !self.knocked.swap(true, Ordering::AcqRel) && queue.try_send(Item::Knock).is_err() {
            self.knocked.store(false, Ordering::Release);
        }
    }
}

/// What came.
pub enum Received {
    Record(Intake),
    /// Somebody knocked.
    Knock,
}

pub struct Receiver {
    receiver: mpsc::Receiver<Item>,
    depth: IntGauge,
    knocker: Knocker,
}

impl Receiver {
    /// The next record or knock, waiting for it at most `timeout`.
    pub fn receive(&self, timeout: Duration) -> Result<Received, RecvTimeoutError> {
        match self.receiver.recv_timeout(timeout)? {
            Item::Record(intake) => {
                self.depth.dec();
                Ok(Received::Record(intake))
            }
            Item::Knock => {
                self.knocker.knocked.store(false, Ordering::Release);
                Ok(Received::Knock)
            }
        }
    }

    pub fn knocker(&self) -> Knocker {
        self.knocker.clone()
    }
}
