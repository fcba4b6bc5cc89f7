//! What may happen again and again is told a few times a minute, and then as a count: whoever brings it about must fill
//! neither a disk nor a log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(60);

/// What was told lately, by what it is of.
#[derive(Debug)]
pub struct Seldom<K> {
    /// How often a minute each is told.
    most: usize,
    lately: Mutex<HashMap<K, Lately>>,
}

#[derive(Debug)]
struct Lately {
    since: Instant,
    told: usize,
    left_out: u64,
}

impl<K: Eq + Hash> Seldom<K> {
    pub fn new(most: usize) -> Seldom<K> {
        Seldom { most, lately: Mutex::default() }
    }

    /// How many were left out before this one, which is to be told; none: it is left out too.
    pub fn next(&self, of: K, now: Instant) -> Option<u64> {
        let mut all = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = all.entry(of).or_insert(Lately { since: now, told: 0, left_out: 0 });
        if now.duration_since(lately.since) >= WITHIN {
            (lately.since, lately.told) = (now, 0);
        }
        if lately.told == self.most {
            lately.left_out += 1;
            return None;
        }
        lately.told += 1;
        Some(std::mem::take(&mut lately.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_and_again_is_told_a_few_times_and_counted() {
        const MOST: usize = 10;
        let (seldom, begun) = (Seldom::new(MOST), Instant::now());
        let next = |of: &'static str, seconds: u64| seldom.next(of, begun + Duration::from_secs(seconds));
        let told = |seconds: u64| (0..1000).filter_map(|_| next("bob", seconds)).collect::<Vec<_>>();
        assert_eq!(told(0), [0; MOST]);
        assert!(told(59).is_empty());
        assert_eq!(next("ada", 59), Some(0), "another's are none of its");
        let left_out = 2000 - MOST as u64;
        assert_eq!(told(60), [vec![left_out], vec![0; MOST - 1]].concat());
        assert_eq!(next("bob", 200), Some(1000 - MOST as u64));
    }
}
