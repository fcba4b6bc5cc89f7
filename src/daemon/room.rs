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
#[derive(Default)]
pub struct Room {
    /// Resident memory when it was last looked at.
    bytes: u64,
    looked: Option<Instant>,
    told: Option<Instant>,
}

impl Room {
    /// How many records may be taken beside `faces` that are there.
    pub fn left(&mut self, faces: usize, limits: &Limits, metrics: &Metrics) -> usize {
        let left = match limits.faces {
            0 => usize::MAX,
            most => most.saturating_sub(faces),
        };
        let memory_is_left = limits.memory_bytes == 0 || self.memory(metrics) < limits.memory_bytes;
        metrics.full.with_label_values(&["faces"]).set((left == 0).into());
        metrics.full.with_label_values(&["memory"]).set((!memory_is_left).into());
        if left > 0 && memory_is_left {
            self.told = None;
            return left;
        }
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            self.told = Some(Instant::now());
            let (key, most) = match left {
                0 => ("limits.faces", limits.faces as u64),
                _ => ("limits.memory_bytes", limits.memory_bytes),
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

    fn limits(faces: usize, memory_bytes: u64) -> Limits {
        Limits { message_bytes: 64, queued_faces: 1, faces, memory_bytes }
    }

    #[test]
    fn what_is_left_is_what_a_limit_has_left() {
        let metrics = Metrics::new();
        let left = |there, faces, bytes| Room::default().left(there, &limits(faces, bytes), &metrics);
        assert_eq!(left(1_000_000, 0, 0), usize::MAX);
        assert_eq!(left(97, 100, 0), 3);
        assert_eq!(left(120, 100, 0), 0, "a limit may be lowered");
        assert_eq!(metrics.full.with_label_values(&["faces"]).get(), 1);
        assert_eq!(left(97, 100, u64::MAX), 3);
        assert_eq!(metrics.full.with_label_values(&["faces"]).get(), 0);
        assert_eq!(left(97, 100, 1), 0);
        assert_eq!(metrics.full.with_label_values(&["memory"]).get(), 1);
    }
}
