//! What `facetd check` looks at of the machine: memory, descriptors, disk and clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use facetd::config::{Collections, Http, Limits};
use indicatif::HumanBytes;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::verdict::Verdict;

/// What is in memory of a face beside its vectors: neighbourhood, linkages, links of the index, names. Measured with
/// 20,000 faces of 128 values (`make load-test`), rounded up.
const BYTES_A_FACE: u64 = 6 << 10;
/// `f`, `g`, and half as much again for what a batch and a snapshot copy.
const BYTES_A_VALUE: u64 = 12;
/// Program, ONNX Runtime and model.
const BYTES_OF_NO_FACE: u64 = 200 << 20;
/// What is open beside a file and a snapshot of each collection, and the connections of HTTP: sled, brokers.
const FILES_BESIDE: u64 = 200;
/// As the alerts have it.
const LITTLE_ROOM: f64 = 0.1;
/// How far ahead of the clock a file may be: machines that share a disk differ.
const AHEAD: Duration = Duration::from_secs(120);
/// No machine had this program before: 2026-01-01.
const BORN: Duration = Duration::from_secs(1_767_225_600);

/// Memory of the machine, or of the control group where that has less.
struct Memory {
    bytes: u64,
    available: u64,
}

impl Memory {
    fn look() -> Option<Memory> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
        Memory::of(&text, group)
    }

    fn of(meminfo: &str, group: Option<u64>) -> Option<Memory> {
        let value = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
        };
        let (bytes, available) = (value("MemTotal")?, value("MemAvailable")?);
        let most = group.unwrap_or(u64::MAX);
        Some(Memory { bytes: bytes.min(most), available: available.min(most) })
    }
}

/// What the limits and the faces held would want, against what the machine has.
pub fn memory(limits: &Limits, collections: &Collections, held: u64, dimension: usize) -> Verdict {
    match Memory::look() {
        Some(memory) => against(&memory, limits, collections, held, dimension),
        None => {
            Verdict::Warn("nobody can tell how much memory this machine has: /proc/meminfo does not say".to_string())
        }
    }
}

fn against(memory: &Memory, limits: &Limits, collections: &Collections, held: u64, dimension: usize) -> Verdict {
    let most = match (limits.faces as u64, collections.settings_of_others().max_faces) {
        (0, None) => None,
        (0, Some(each)) => Some(each as u64 * collections.max as u64),
        (all, None) => Some(all),
        (all, Some(each)) => Some(all.min(each as u64 * collections.max as u64)),
    };
    let wants = |faces: u64| BYTES_OF_NO_FACE + faces * (BYTES_A_FACE + BYTES_A_VALUE * dimension as u64);
    let (has, available) = (HumanBytes(memory.bytes), HumanBytes(memory.available));
    let for_held = format!("{held} faces held want about {}", HumanBytes(wants(held)));
    let told = match most {
        Some(most) => format!(
            "{for_held}, the {most} that the limits allow {}; this machine has {has}, {available} of it available",
            HumanBytes(wants(most))
        ),
        None => format!("{for_held}; nothing limits how many; this machine has {has}, {available} of it available"),
    };
    let limit = limits.memory_bytes;
    if limit > memory.bytes {
        return Verdict::Warn(format!(
            "{told}; limits.memory_bytes is {}: the kernel would end the daemon before it is reached",
            HumanBytes(limit)
        ));
    }
    if limit > 0 && limit < wants(held) {
        let limit = HumanBytes(limit);
        return Verdict::Warn(format!("{told}; limits.memory_bytes is {limit}: nothing more would be taken"));
    }
    // A limit of memory has records wait in Kafka, and nothing ends.
    match limit == 0 && wants(most.unwrap_or(held)) > memory.bytes || wants(held) > memory.bytes {
        true => Verdict::Warn(format!("{told}: set limits.faces, limits.memory_bytes or collections.max_faces lower")),
        false => Verdict::Ok(told),
    }
}

/// How many files may be open.
pub fn files(collections: &Collections, http: &Http) -> Verdict {
    files_against(getrlimit(Resource::Nofile).current, collections, http)
}

fn files_against(most: Option<u64>, collections: &Collections, http: &Http) -> Verdict {
    let wanted = FILES_BESIDE + 2 * collections.max as u64 + http.connections as u64;
    match most {
        Some(most) if most < wanted => Verdict::Warn(format!(
            "{most} may be open, {} collections and {} connections want up to {wanted}: raise it (ulimit -n, LimitNOFILE=)",
            collections.max, http.connections
        )),
        Some(most) => Verdict::Ok(format!("{most} may be open, up to {wanted} are wanted")),
        None => Verdict::Ok(format!("any number may be open, up to {wanted} are wanted")),
    }
}

/// Room on the disk of `folder`, which need not be there yet.
pub fn disk(folder: &Path) -> Verdict {
    let absolute = std::path::absolute(folder).unwrap_or(folder.to_path_buf());
    let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let Ok(found) = statvfs(there) else {
        return Verdict::Fail(format!("nobody can tell how much room {} has", there.display()));
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let told = format!("{} of {} are free in {}", HumanBytes(free), HumanBytes(all), there.display());
    match (free as f64) < LITTLE_ROOM * all as f64 {
        true => Verdict::Warn(format!("{told}: make room, without any the daemon ends")),
        false => Verdict::Ok(told),
    }
}

/// Whether the clock is one that retention can go by.
pub fn clock(files: &[&Path]) -> Verdict {
    let now = SystemTime::now();
    let newest = files.iter().filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file))).max();
    let text = humantime_serde::re::humantime::format_rfc3339_seconds(now);
    if now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|age| age < BORN) {
        return Verdict::Fail(format!("it is {text} here: set the clock, retention goes by it"));
    }
    match newest {
        Some((at, file)) if at > now + AHEAD => Verdict::Warn(format!(
            "it is {text} here, and {} was written later than that: the clock was set back, and faces expire late",
            file.display()
        )),
        _ => Verdict::Ok(format!("it is {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        8388608 kB\nMemFree:          1 kB\nMemAvailable:    4194304 kB\n";

    fn verdict(more: &str, held: u64) -> Verdict {
        let config = facetd::config::Config::parse(more, std::iter::empty()).unwrap();
        let memory = Memory::of(MEMINFO, None).unwrap();
        against(&memory, &config.limits, &config.collections, held, 128)
    }

    #[test]
    fn what_a_machine_cannot_hold_is_a_warning() {
        assert!(matches!(verdict("", 1000), Verdict::Ok(text) if text.contains("nothing limits")));
        assert!(matches!(verdict("", 10_000_000), Verdict::Warn(text) if text.contains("limits.faces")));
        assert!(matches!(verdict("[limits]\nfaces = 100000", 0), Verdict::Ok(_)));
        assert!(matches!(verdict("[limits]\nfaces = 10000000", 0), Verdict::Warn(_)));
        assert!(matches!(verdict("[limits]\nfaces = 10000000\nmemory_bytes = 4000000000", 0), Verdict::Ok(_)));
        assert!(
            matches!(verdict("[limits]\nmemory_bytes = 9000000000", 0), Verdict::Warn(text) if text.contains("kernel"))
        );
        assert!(matches!(verdict("[limits]\nmemory_bytes = 1000000", 0), Verdict::Warn(_)));
        assert!(matches!(verdict("[collections]\nmax_faces = 1000000", 0), Verdict::Warn(_)));
    }

    #[test]
    fn a_connection_wants_a_file_as_a_collection_does() {
        let text = "[collections]\nmax = 10\n[http]\nconnections = 500";
        let config = facetd::config::Config::parse(text, std::iter::empty()).unwrap();
        let told = |most| files_against(Some(most), &config.collections, &config.http);
        assert!(matches!(told(719), Verdict::Warn(text) if text.contains("500 connections")));
        assert!(matches!(told(720), Verdict::Ok(_)));
    }

    #[test]
    fn a_control_group_with_less_counts() {
        let Memory { bytes, available } = Memory::of(MEMINFO, Some(1 << 30)).unwrap();
        assert_eq!((bytes, available), (1 << 30, 1 << 30));
    }

    #[test]
    fn a_file_of_the_future_is_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(clock(&[file.path()]), Verdict::Ok(_)));
        file.as_file().set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert!(matches!(clock(&[file.path()]), Verdict::Warn(_)));
    }
}
