//! Whether there is room for more faces: `limits.faces` and `limits.memory_bytes`.
//!
//! Without room nothing more is taken: records wait in Kafka, nothing is lost, lag grows and a metric says
//! why. Retention, which goes on meanwhile, may make room; else an operator raises the limit or erases.

use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::metrics::Metrics;

/// How often memory is looked at: between two looks a batch or two are taken.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that there is none.
const TELL: Duration = Duration::from_secs(60);

/// Watches the limits.
pub struct Room {
    most_faces: usize,
    most_bytes: u64,
    /// Resident memory when it was last looked at.
    bytes: u64,
    looked: Option<Instant>,
    told: Option<Instant>,
}

impl Room {
    pub fn new(limits: &Limits) -> Room {
        let Limits { faces, memory_bytes, .. } = *limits;
        Room { most_faces: faces, most_bytes: memory_bytes, bytes: 0, looked: None, told: None }
    }

    /// How many records may be taken beside `faces` that are there.
    pub fn left(&mut self, faces: usize, metrics: &Metrics) -> usize {
        let left = match self.most_faces {
            0 => usize::MAX,
            most => most.saturating_sub(faces),
        };
        let memory_is_left = self.most_bytes == 0 || self.memory(metrics) < self.most_bytes;
        metrics.full.with_label_values(&["faces"]).set((left == 0).into());
        metrics.full.with_label_values(&["memory"]).set((!memory_is_left).into());
        if left > 0 && memory_is_left {
            self.told = None;
            return left;
        }
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            self.told = Some(Instant::now());
            let (key, most) = match left {
                0 => ("limits.faces", self.most_faces as u64),
                _ => ("limits.memory_bytes", self.most_bytes),
            };
            tracing::warn!(
                faces,
                memory_bytes = self.bytes,
                "{key} of {most} is reached, nothing more is taken: raise it, or erase"
            );
        }
        0
    }

    fn memory(&mut self, metrics: &Metrics) -> u64 {
        if self.looked.is_none_or(|looked| looked.elapsed() > LOOK) {
            self.looked = Some(Instant::now());
            // Where it cannot be read there is no limit of it.
            self.bytes = resident_bytes().unwrap_or(0);
            metrics.resident_bytes.set(self.bytes as i64);
        }
        self.bytes
    }
}

/// Memory this process holds in RAM, as Linux counts it.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(faces: usize, memory_bytes: u64) -> Room {
        Room::new(&Limits { message_bytes: 64, queued_faces: 1, faces, memory_bytes })
    }

    #[test]
    fn what_is_left_is_what_a_limit_has_left() {
        let metrics = Metrics::new();
        assert_eq!(room(0, 0).left(1_000_000, &metrics), usize::MAX);
        assert_eq!(room(100, 0).left(97, &metrics), 3);
        assert_eq!(room(100, 0).left(120, &metrics), 0, "a limit may be lowered");
        assert_eq!(metrics.full.with_label_values(&["faces"]).get(), 1);
        assert_eq!(room(100, u64::MAX).left(97, &metrics), 3);
        assert_eq!(metrics.full.with_label_values(&["faces"]).get(), 0);
        assert_eq!(room(100, 1).left(97, &metrics), 0);
        assert_eq!(metrics.full.with_label_values(&["memory"]).get(), 1);
    }
}
