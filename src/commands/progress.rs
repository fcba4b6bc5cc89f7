//! How far a command is, on standard error and only on a terminal.
//!
//! What takes two seconds or more has a bar where it is known how much there is, and says what it is at where not. All of
//! it goes through one place, so that notes and logs stand above it and nothing of it is left behind.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use facetd::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// For work whose measure says nothing to who waits.
pub const SHARE: &str = "{bar:40} {percent}% {eta} left";

static SHOWN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How long something may take before it is said what it is.
const PATIENCE: Duration = Duration::from_millis(700);
const TURN: Duration = Duration::from_millis(200);

/// A bar over `length` things on a terminal, nothing elsewhere.
pub fn bar(length: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::hidden());
    bar.set_style(ProgressStyle::with_template(template).expect("the templates are constants"));
    SHOWN.add(bar)
}

/// A bar on a terminal for work that tells how much there is once it knows. It goes with the value.
pub struct Bar {
    template: &'static str,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub fn new(template: &'static str) -> Bar {
        Bar { template, bar: None }
    }

    /// Of work in several steps, each has a length of its own.
    pub fn show(&mut self, Progress { done, of }: Progress) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bar(of as usize, self.template);
            bar.enable_steady_tick(TURN);
            bar
        });
        if bar.length() != Some(of) {
            bar.reset();
            bar.set_length(of);
        }
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes above what is shown.
pub fn above<T>(write: impl FnOnce() -> T) -> T {
    SHOWN.suspend(write)
}

/// Takes away what is shown, and shows nothing any more.
pub fn clear() {
    // Where it cannot be taken away there is no terminal any more.
    let _ = SHOWN.clear();
    SHOWN.set_draw_target(ProgressDrawTarget::hidden());
}

/// Says what is being done, and for how long, until it is dropped.
pub struct Busy(Option<(Sender<()>, JoinHandle<()>)>);

/// Nobody knows how much there is to do.
pub fn busy(what: &str) -> Busy {
    if !std::io::stderr().is_terminal() {
        return Busy(None);
    }
    let spinner = bar(0, "{spinner} {msg} {elapsed}");
    spinner.set_message(what.to_string());
    let (until, ended) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut wait = PATIENCE;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
            spinner.tick();
            wait = TURN;
        }
        spinner.finish_and_clear();
    });
    Busy(Some((until, thread)))
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some((until, thread)) = self.0.take() {
            drop(until);
            // It has nothing that could fail but drawing.
            let _ = thread.join();
        }
    }
}

/// Standard error for the log: above what is shown.
pub struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        above(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
