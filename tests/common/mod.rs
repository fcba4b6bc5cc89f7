//! What the tests share: faces to stream, brokers to stream through, and a daemon, or its shard alone, to do it.
//!
//! A daemon under test is the real program in a process of its own, so that it can be killed.
#![allow(dead_code)] // each test file uses its part

pub mod bare_shard;
pub mod broker;
pub mod chance;
pub mod collector;
pub mod daemon;
pub mod faces;
pub mod footprint;
pub mod kafka_client;
pub mod lost_writes;
pub mod scene;
pub mod shard;
pub mod told;
pub mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The program under test.
pub fn facetd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_facetd"))
}

/// The same, started as a terminal does it: no signal is ignored, also where the tests run in the background of a script.
pub fn interruptible_facetd() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(env!("CARGO_BIN_EXE_facetd"));
    command
}

/// Runs a command to its end; its standard output, or a panic with all it said.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// Looks again and again until there is something to see. Other processes give no other signal.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
