//! How far long work is, told to whoever waits for it.

use serde::{Deserialize, Serialize};

/// How much is done of how much, in bytes, records or faces: whoever tells it says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub of: u64,
}

/// Counts what is done, and tells of it.
pub struct Tally<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Tally<'a> {
    pub fn new(of: u64, tell: &'a mut dyn FnMut(Progress)) -> Tally<'a> {
        Tally { progress: Progress { done: 0, of }, tell }
    }

    /// So much more is done, and never more than there is: how much that is may have been reckoned.
    pub fn add(&mut self, more: u64) {
        let Progress { done, of } = &mut self.progress;
        *done = done.saturating_add(more).min(*of);
        (self.tell)(self.progress);
    }

    /// At least so much is done by now: what was reckoned was not there.
    pub fn reach(&mut self, done: u64) {
        self.add(done.saturating_sub(self.progress.done));
    }
}

/// Whether it was told all along, went forward, and came to its end.
#[cfg(test)]
pub fn came_to_its_end(told: &[Progress]) -> bool {
    let last = told.last().is_some_and(|&Progress { done, of }| done == of && of > 0);
    last && told.len() > 2 && told.is_sorted_by_key(|progress| progress.done)
}
