//! One signal to stop, for threads and tasks alike.

use tokio::sync::watch;

/// Clones are the same signal. Once requested it stays so.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { sender: watch::Sender::new(false) }
    }
}

impl Shutdown {
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        // The sender lives in `self`, so the channel cannot close before the value is seen.
        let _ = self.sender.subscribe().wait_for(|&requested| requested).await;
    }

    /// Requests a stop when dropped, so that a thread that ends, or panics, takes the others along.
    pub fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

/// See [`Shutdown::on_drop`].
pub struct StopOnDrop(Shutdown);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.request();
    }
}
