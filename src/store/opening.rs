//! Opening sled's folder, and what sled 0.34 leaves to whoever uses it.
//!
//! | file | what it is | what is done here |
//! | --- | --- | --- |
//! | `db` | the log: the truth | on disk, with its length, before sled takes it for stable: [`sync_file_range`] |
//! | `snap.N.generating` | a snapshot that was not finished | removed: sled would read it, and refuse |
//! | `unusable.*` | set aside by an opening that died | removed: all of them can be made anew |
//! | `snap.N` | where its pages were at N | derived: set aside when sled does not open with it |
//! | `conf` | how the log is written, the same for every state | derived: set aside likewise when its checksum is wrong |
//! | `blobs/` | values of 128 KB and more | none of ours is as large; synced with the rest |
//!
//! sled panics on some damage. Its panics are caught where it is called: they would otherwise end
//! a thread of the daemon without a word about which file is to blame.

use std::fs::{DirEntry, File};
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;
use super::directory::sync_folder;

/// Memory sled may use for pages it keeps.
const CACHE_BYTES: u64 = 64 << 20;
/// How long sled may take to let go of a file that was closed.
pub const CLOSING: Duration = Duration::from_secs(30);
const UNFINISHED: &str = ".generating";
/// Before the name of a file that sled did not open with.
const ASIDE: &str = "unusable.";

/// Opens the folder's one tree, making the folder when there is none.
pub fn open(path: &Path) -> Result<sled::Tree, StoreError> {
    remove_unfinished(path)?;
    let tree = match open_tree(path) {
        Err(error) if is_damage(&error) => open_without_derived(path, error)?,
        opened => opened?,
    };
    sync_files(path)?;
    Ok(tree)
}

/// sled's answer, whether it answers or panics. What it was asked through is not to be used again
/// after an error, so nothing half done is ever looked at.
pub fn guarded<T>(path: &Path, ask: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(sled::Error::Io(source))) => Err(StoreError::Io { path: path.to_path_buf(), source: as_it_was(source) }),
        Ok(Err(source)) => Err(StoreError::Sled { path: path.to_path_buf(), source }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            // One line: what follows are values of sled's own.
            let what = format!("sled panicked: {}", text.lines().next().unwrap_or_default());
            Err(StoreError::Damaged { path: path.to_path_buf(), what })
        }
    }
}

/// sled tells an error more than once by telling how Rust would print it; the system's number is in that.
fn as_it_was(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let number = text.strip_prefix("Os { code: ").and_then(|rest| rest.split(',').next()?.parse().ok());
    number.map_or(error, std::io::Error::from_raw_os_error)
}

/// Makes every file of sled's folder, and the list of them, durable. sled syncs its log; the rest it leaves.
pub fn sync_files(path: &Path) -> Result<(), StoreError> {
    for file in files(path)? {
        sync_folder(&file)?;
    }
    sync_folder(path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn open_tree(path: &Path) -> Result<sled::Tree, StoreError> {
    // Named here so that the linker takes it wherever sled is used.
    #[cfg(target_os = "linux")]
    std::hint::black_box(sync_file_range as extern "C" fn(i32, i64, i64, u32) -> i32);
    // No thread of sled's that flushes: there it also looks for room to use again, beside whoever writes. The one
    // process of ours that ever died of a corrupted heap had that thread. What is dead goes with a rewrite instead.
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    guarded(path, || open_when_free(&config)?.open_tree("state"))
}

/// sled closes its file from a thread of its own, some time after its last handle is dropped, and
/// says nothing when it has. The directory's lock is ours by now, so nobody else can have it open.
fn open_when_free(config: &sled::Config) -> sled::Result<sled::Db> {
    let started = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && started.elapsed() < CLOSING =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Once more without the files sled can do without. They are put back when that does not help.
fn open_without_derived(path: &Path, error: StoreError) -> Result<sled::Tree, StoreError> {
    let derived: Vec<PathBuf> = files(path)?.into_iter().filter(|file| is_dispensable(file)).collect();
    if derived.is_empty() {
        return Err(error);
    }
    let aside = |file: &Path| path.join(format!("{ASIDE}{}", file.file_name().unwrap_or_default().display()));
    for file in &derived {
        std::fs::rename(file, aside(file)).map_err(StoreError::io(file))?;
    }
    match open_tree(path) {
        Ok(tree) => {
            for file in &derived {
                tracing::warn!(file = %file.display(), %error, "sled opens only without this file, which it can make anew");
                let aside = aside(file);
                std::fs::remove_file(&aside).map_err(StoreError::io(&aside))?;
            }
            Ok(tree)
        }
        Err(_) => {
            for file in &derived {
                std::fs::rename(aside(file), file).map_err(StoreError::io(file))?;
            }
            Err(error)
        }
    }
}

/// Not a disk that refuses, a lock or a permission.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Io { source, .. } => {
            matches!(source.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::Other)
        }
        _ => true,
    }
}

/// Whether sled makes this file anew when it is not there, and as good.
fn is_dispensable(file: &Path) -> bool {
    match file.file_name().and_then(|name| name.to_str()) {
        Some("conf") => std::fs::read(file).is_ok_and(|bytes| !is_whole(&bytes)),
        Some(name) => name.starts_with("snap."),
        None => false,
    }
}

/// Whether `conf` is as sled wrote it: it ends with the CRC-32 of the rest.
fn is_whole(conf: &[u8]) -> bool {
    conf.split_last_chunk::<4>().is_some_and(|(rest, sum)| crc32fast::hash(rest).to_le_bytes() == *sum)
}

fn remove_unfinished(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    for file in files(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(UNFINISHED) || name.starts_with(ASIDE) {
            std::fs::remove_file(&file).map_err(StoreError::io(&file))?;
        }
    }
    Ok(())
}

fn files(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(path).and_then(Iterator::collect);
    let entries: Vec<DirEntry> = entries.map_err(StoreError::io(path))?;
    Ok(entries.iter().map(DirEntry::path).collect())
}

/// Takes the place of the system's function of this name, for whoever calls it in this program: sled.
///
/// On Linux sled makes what it wrote durable with `sync_file_range` alone, which leaves out the
/// length of a file that grew and where its new blocks are: with the machine dies what was
/// acknowledged. Worse, sled then frees old parts of its log for what may not last. Where a system
/// has no such call sled falls back to a sync of the file; this is that, without its timestamps.
/// tests/survives_lost_writes.rs sees that it is called and that nothing is lost.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(file: i32, _offset: i64, _bytes: i64, _flags: u32) -> i32 {
    // SAFETY: the caller's file is open while it calls, and is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file) });
    // The caller reads errno, which the failed call has set.
    if file.sync_data().is_ok() { 0 } else { -1 }
}
