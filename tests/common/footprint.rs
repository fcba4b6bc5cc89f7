//! How much of a machine something takes.

use std::path::Path;

pub const MEBIBYTE: f64 = (1 << 20) as f64;

/// The resident memory of a process, in bytes.
pub fn resident(process: u32) -> u64 {
    memory(process, "VmRSS:")
}

/// The most of it since the process started.
pub fn peak_resident(process: u32) -> u64 {
    memory(process, "VmHWM:")
}

fn memory(process: u32, row: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix(row)?.trim().strip_suffix(" kB"));
    1024 * kibibytes.unwrap_or_else(|| panic!("Linux says {row}")).parse::<u64>().unwrap()
}

/// The bytes of the files in a folder and in those in it. Files may come and go meanwhile.
pub fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { size_of(&entry.path()) } else { metadata.len() })
    });
    sizes.sum()
}
