//! How much is written down of what tokens may not do: each line waits for the disk and stays on it, and whoever may only
//! read must not fill it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one token in [`WITHIN`].
const MOST_LINES: usize = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// What was written down of each token's refusals lately, by its name.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Lately>>);

#[derive(Debug)]
struct Lately {
    since: Instant,
    lines: usize,
    left_out: u64,
}

impl Refusals {
    /// How many were left out before this one, which is to be written down; none: it is left out too.
    pub fn next(&self, token: &str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = all.entry(token.to_string()).or_insert(Lately { since: now, lines: 0, left_out: 0 });
        if now.duration_since(lately.since) >= WITHIN {
            (lately.since, lately.lines) = (now, 0);
        }
        if lately.lines == MOST_LINES {
            lately.left_out += 1;
            return None;
        }
        lately.lines += 1;
        Some(std::mem::take(&mut lately.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_refused_again_and_again_fills_no_disk() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        let next = |token: &str, seconds: u64| refusals.next(token, begun + Duration::from_secs(seconds));
        let written = |seconds: u64| (0..1000).filter_map(|_| next("bob", seconds)).collect::<Vec<_>>();
        assert_eq!(written(0), [0; MOST_LINES]);
        assert!(written(59).is_empty());
        assert_eq!(next("ada", 59), Some(0), "another's are none of its");
        let left_out = 2000 - MOST_LINES as u64;
        assert_eq!(written(60), [vec![left_out], vec![0; MOST_LINES - 1]].concat());
        assert_eq!(next("bob", 200), Some(1000 - MOST_LINES as u64));
    }
}
