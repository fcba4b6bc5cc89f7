//! Deeds that were begun and whose end is not written down yet. Each is a task of its own, that nobody waits for where
//! whoever asked went away; a stop has to.

use tokio::sync::watch;

/// How many there are. Clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    /// Counts one for as long as what this gives is there.
    pub fn one(&self) -> One {
        self.0.send_modify(|deeds| *deeds += 1);
        One(self.clone())
    }

    /// Waits until there are none.
    pub async fn none_left(&self) {
        // The sender lives in `self`, so the channel cannot close before the value is seen.
        let _ = self.0.subscribe().wait_for(|&deeds| deeds == 0).await;
    }
}

/// See [`UnderWay::one`].
#[derive(Debug)]
pub struct One(UnderWay);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|deeds| *deeds -= 1);
    }
}
