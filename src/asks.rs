//! What others ask of the engine's thread, which has the engines and the store to itself: it answers between two
//! batches.
//!
//! The wire is short and each answer bounded ([`Asked::answer_for`] says how), so that asking can neither fill memory nor
//! hold up the stream: whoever finds it full is told so.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::engine::changes::{Outcome, Request};
use crate::face::CollectionName;
use crate::source::Knocker;
use crate::store::StoreError;
use crate::store::backup::Cut;

/// Questions that may wait.
const MOST_WAITING: usize = 256;
/// How long an answer may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is done with an engine that may be looked at.
pub type Look = Box<dyn FnOnce(Option<&Engine>) + Send>;

/// Something asked of the engine's thread. Whoever asked may be gone.
pub enum Ask {
    /// A look at a collection's engine; none where there is no such collection.
    Look { collection: CollectionName, look: Look },
    /// Changes by an operator, as one commit.
    Operate { collection: CollectionName, requests: Vec<Request>, answer: oneshot::Sender<Vec<Outcome>> },
    /// The cut of a backup into a folder.
    Cut { to: PathBuf, answer: SyncSender<Result<Cut, StoreError>> },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("too many ask at once: ask again in a moment")]
    Busy,
    #[error("no answer within {} seconds: the engine is busy, ask again later", PATIENCE.as_secs())]
    TooSlow,
    #[error("the daemon is starting or stopping")]
    Nobody,
}

/// Asks. Clones ask the same engine's thread.
#[derive(Clone)]
pub struct Asks {
    sender: SyncSender<Ask>,
    knocker: Knocker,
}

/// The other end of the wire, for the engine's thread.
pub struct Asked {
    receiver: Receiver<Ask>,
}

/// `knocker` wakes the engine's thread where it waits for records.
pub fn wire(knocker: Knocker) -> (Asks, Asked) {
    let (sender, receiver) = sync_channel(MOST_WAITING);
    (Asks { sender, knocker }, Asked { receiver })
}

impl Asks {
    /// A look at a collection as its engine has it at the moment; none where there is no such collection.
    pub async fn look<T: Send + 'static>(
        &self,
        collection: CollectionName,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<Option<T>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let look = move |engine: Option<&Engine>| {
            if !answer.is_closed() {
                let _ = answer.send(engine.map(look));
            }
        };
        self.ask(Ask::Look { collection, look: Box::new(look) })?;
        wait(answered).await
    }

    /// Changes by an operator, as one commit: what became of each.
    pub async fn operate(
        &self,
        collection: CollectionName,
        requests: Vec<Request>,
    ) -> Result<Vec<Outcome>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Operate { collection, requests, answer })?;
        wait(answered).await
    }

    /// The cut of a backup. Blocks until it is made.
    pub fn cut(&self, to: PathBuf) -> Result<Result<Cut, StoreError>, Unanswered> {
        let (answer, answered) = sync_channel(1);
        self.ask(Ask::Cut { to, answer })?;
        answered.recv().map_err(|RecvError| Unanswered::Nobody)
    }

    fn ask(&self, ask: Ask) -> Result<(), Unanswered> {
        self.sender.try_send(ask).map_err(|refused| match refused {
            TrySendError::Full(_) => Unanswered::Busy,
            TrySendError::Disconnected(_) => Unanswered::Nobody,
        })?;
        self.knocker.knock();
        Ok(())
    }
}

async fn wait<T>(answered: oneshot::Receiver<T>) -> Result<T, Unanswered> {
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Unanswered::Nobody),
        Err(_) => Err(Unanswered::TooSlow),
    }
}

impl Asked {
    /// Has what was asked answered, one after the other, until nothing waits or `budget` is used up; the first in any
    /// case. Says whether more may wait. An error of `answer` ends it.
    pub fn answer_for<E>(&self, budget: Duration, mut answer: impl FnMut(Ask) -> Result<(), E>) -> Result<bool, E> {
        let began = Instant::now();
        while let Ok(ask) = self.receiver.try_recv() {
            answer(ask)?;
            if began.elapsed() >= budget {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
