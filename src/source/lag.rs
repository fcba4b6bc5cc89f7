//! How far the state is behind the input: the ends of the partitions, as the consumer hears of
//! them, less the positions that are committed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::IntGauge;

use crate::face::{Offset, Partition, Position};

/// Updated from the consumer's and the engine's threads.
pub struct Lag {
    gauge: IntGauge,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ends: BTreeMap<Partition, Offset>,
    positions: BTreeMap<Partition, Offset>,
}

impl Lag {
    pub fn new(gauge: IntGauge) -> Lag {
        Lag { gauge, known: Mutex::default() }
    }

    /// The offsets the next records of the input will get.
    pub fn ends(&self, ends: impl IntoIterator<Item = (Partition, Offset)>) {
        self.update(|known| known.ends.extend(ends));
    }

    /// The offsets of the first records not yet applied.
    pub fn positions(&self, positions: &BTreeMap<Partition, Position>) {
        let next = positions.iter().map(|(&partition, position)| (partition, position.next));
        self.update(|known| known.positions.extend(next));
    }

    fn update(&self, write: impl FnOnce(&mut Known)) {
        // Both maps are whole whenever the lock is let go, also by a panic.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut known);
        let behind = |(partition, end): (&Partition, &Offset)| {
            let position = known.positions.get(partition).map_or(0, |offset| offset.0);
            (end.0 - position).max(0)
        };
        self.gauge.set(known.ends.iter().map(behind).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_in_the_topic_and_not_in_the_state() {
        let lag = Lag::new(IntGauge::new("lag", "lag").unwrap());
        lag.ends([(Partition(0), Offset(10)), (Partition(1), Offset(4))]);
        assert_eq!(lag.gauge.get(), 14);
        let at = |next| Position { next: Offset(next), last: None };
        lag.positions(&BTreeMap::from([(Partition(0), at(7)), (Partition(1), at(9))]));
        assert_eq!(lag.gauge.get(), 3, "a position past an end heard of earlier counts as no lag");
    }
}
