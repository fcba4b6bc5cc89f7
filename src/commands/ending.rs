//! How commands end: the exit codes, and what an interrupt leaves.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use facetd::config::ConfigErrors;
use facetd::shutdown::Shutdown;
use facetd::store::{StoreError, repair};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::{output, progress};

/// Of them all, for `--help` and the man page; the README has the same.
pub const CODES: &str = "Exit codes:
  0    done; of `run`, stopped as asked
  1    it could not be done: the last line says why, and what to do
  2    the command line or the configuration is wrong: trying again changes nothing
  3    looked, and found something wrong: `check` a FAIL, `inspect verify` a broken invariant
  4    the state is in use by another facetd: stop it, and try again
  130  interrupted with Ctrl-C; 143 by SIGTERM. Nothing is left half done";

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const FOUND: u8 = 3;
const IN_USE: u8 = 4;
/// What shells add a signal's number to.
const SIGNALLED: u8 = 128;

/// A command that looks for something wrong has found it, and said what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Found(pub String);

/// A command stopped at Ctrl-C or SIGTERM where it could.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct Interrupted {
    pub signal: i32,
    pub said: String,
}

/// The exit code of what went wrong.
pub fn code(error: &anyhow::Error) -> u8 {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        if cause.is::<Found>() {
            Some(FOUND)
        } else if cause.is::<ConfigErrors>() {
            Some(WRONG_USAGE)
        } else if let Some(StoreError::Locked { .. }) = cause.downcast_ref() {
            Some(IN_USE)
        } else {
            let interrupted = cause.downcast_ref::<Interrupted>()?;
            Some(SIGNALLED + u8::try_from(interrupted.signal).unwrap_or_default())
        }
    };
    error.chain().find_map(of).unwrap_or(FAILED)
}

/// Hears Ctrl-C, SIGTERM or a terminal that goes, for a command that has an end of its own: the first asks for that end,
/// the next one ends the process as [`on_interrupt`] does.
#[derive(Clone, Default)]
pub struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// The first.
    signal: Option<i32>,
    /// Whom it asks for the end; none until something is there that has one.
    stops: Option<Shutdown>,
}

impl Ear {
    /// None is missed from now on.
    pub fn open() -> anyhow::Result<Ear> {
        let (ear, mut signals) = (Ear::default(), signals()?);
        let here = ear.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                match here.hear(signal) {
                    true => output::note("facetd: ends as soon as all is in order; once more ends it at once"),
                    false => end(signal),
                }
            }
        });
        Ok(ear)
    }

    /// Has the first signal ask for this end, also where it has come already.
    pub fn stops(&self, shutdown: Shutdown) {
        let mut heard = locked(&self.0);
        if heard.signal.is_some() {
            shutdown.request();
        }
        heard.stops = Some(shutdown);
    }

    /// Whether it is the first.
    fn hear(&self, signal: i32) -> bool {
        let mut heard = locked(&self.0);
        let is_first = heard.signal.is_none();
        if is_first {
            heard.signal = Some(signal);
            heard.stops.iter().for_each(Shutdown::request);
        }
        is_first
    }

    /// The signal that asked for an end.
    pub fn signal(&self) -> Option<i32> {
        locked(&self.0).signal
    }
}

/// What is being written and is not whole yet.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// What there is to say of an interrupt now.
static SAID: Mutex<Option<Box<dyn Fn() -> String + Send>>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // All are whole between any two steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process at Ctrl-C, SIGTERM or a terminal that goes: the bar and what is not whole are taken away, it is said
/// how things stand, and it dies of the signal, as a shell that runs it expects. What changes a state needs no more: it
/// is as safe from this as from `kill -9`. A signal that whoever started it has it ignore, as `nohup` does, stays ignored.
pub fn on_interrupt() -> anyhow::Result<()> {
    let mut signals = signals()?;
    std::thread::spawn(move || signals.forever().for_each(end));
    Ok(())
}

/// Those that end a command, but for what is ignored.
fn signals() -> anyhow::Result<Signals> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & 1 << (signal - 1) == 0);
    Signals::new(heard).context("cannot listen for Ctrl-C")
}

/// Dies of the signal, once nothing half done is left.
fn end(signal: i32) {
    progress::clear();
    // Held to the end: a command that comes to its own now waits for this one.
    let mut unfinished = locked(&UNFINISHED);
    let left: Vec<PathBuf> = unfinished.drain(..).filter_map(|path| left_of(&path)).collect();
    let said = locked(&SAID).as_ref().map(|said| said());
    output::note(format_args!("facetd: interrupted{}", said.map(|said| format!("; {said}")).unwrap_or_default()));
    for path in left {
        output::note(format_args!("what was begun is left in {}: remove it", path.display()));
    }
    // It fails for signals that cannot be caught, which these are not.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// Takes away what is not whole; answers what could not be taken. What has left its place by now was put where it belongs,
/// and stays: so it is moved before it is removed, lest half of it is put there.
fn left_of(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_os_string();
    name.push(format!(".interrupted-{}", std::process::id()));
    let moved = path.with_file_name(name);
    // Whoever writes in it may begin it anew meanwhile, or make another file.
    for _ in 0..10 {
        match std::fs::rename(path, &moved) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(_) => return Some(path.to_path_buf()),
        }
        let _ = if moved.is_dir() { std::fs::remove_dir_all(&moved) } else { std::fs::remove_file(&moved) };
    }
    [path, &moved].into_iter().find(|left| left.exists()).map(Path::to_path_buf)
}

/// The signals that a process ignores, a bit each, as the kernel tells of it.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// Says from now on how things stand when it is interrupted.
pub fn if_interrupted(said: impl Fn() -> String + Send + 'static) {
    *locked(&SAID) = Some(Box::new(said));
}

/// Says from now on that the folder `to`, which was missing or empty, is in place, or what else there is to say.
pub fn if_interrupted_before(to: &Path, said: &'static str) {
    let to = to.to_path_buf();
    if_interrupted(move || match repair::check_empty(&to) {
        Ok(()) => said.to_string(),
        Err(_) => format!("{} is whole and in place", to.display()),
    });
}

/// A file or a folder that an interrupt takes away, until this is dropped.
pub struct Unfinished(PathBuf);

impl Unfinished {
    pub fn new(path: PathBuf) -> Unfinished {
        locked(&UNFINISHED).push(path.clone());
        Unfinished(path)
    }

    /// What the store makes the folder `to` in, until that is whole.
    pub fn beside(to: &Path) -> Unfinished {
        Unfinished::new(repair::partial(to))
    }
}

/// A folder of its own where temporary files go, which goes with it, also at an interrupt.
pub struct Temporary {
    folder: TempDir,
    _unfinished: Unfinished,
}

impl Temporary {
    pub fn new(prefix: &str) -> std::io::Result<Temporary> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        let unfinished = Unfinished::new(folder.path().to_path_buf());
        Ok(Temporary { folder, _unfinished: unfinished })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        locked(&UNFINISHED).retain(|path| *path != self.0);
    }
}

/// Has a file written beside its place and put there once it is whole. What is no file, such as /dev/stdout, is written
/// as it is.
pub fn whole_file<E: Into<anyhow::Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> anyhow::Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return write(path).map_err(Into::into);
    }
    // Its ending stays, for it may say what is in it; of this process alone, for another may be writing there too.
    let mut name = OsString::from(format!(".partial-{}-", std::process::id()));
    name.push(path.file_name().with_context(|| format!("{} names no file", path.display()))?);
    let partial = path.with_file_name(name);
    let unfinished = Unfinished::new(partial.clone());
    let written = write(&partial).map_err(Into::into);
    let placed = written.and_then(|()| std::fs::rename(&partial, path).map_err(Into::into));
    if placed.is_err() {
        // It may not have been made at all.
        let _ = std::fs::remove_file(&partial);
    }
    drop(unfinished);
    placed.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_end_has_its_code() {
        let in_use = || StoreError::Locked { path: "/state".into() };
        assert_eq!(code(&anyhow::anyhow!("no")), 1);
        assert_eq!(code(&ConfigErrors(vec!["colour: unknown key".into()]).into()), 2);
        assert_eq!(code(&Found("2 of the checks failed".into()).into()), 3);
        assert_eq!(code(&in_use().into()), 4);
        assert_eq!(code(&anyhow::Error::from(in_use()).context("try again")), 4);
        assert_eq!(code(&Interrupted { signal: SIGTERM, said: "stopped".into() }.into()), 143);
    }

    #[test]
    fn a_folder_is_put_in_place_whole_or_not_at_all() {
        const FILES: usize = 50;
        let parent = tempfile::tempdir().unwrap();
        let (partial, to) = (parent.path().join("copy.partial"), parent.path().join("copy"));
        let mut put = 0;
        for round in 0..200 {
            std::fs::create_dir(&partial).unwrap();
            (0..FILES).for_each(|file| std::fs::write(partial.join(file.to_string()), "x").unwrap());
            let begin = std::sync::Barrier::new(2);
            let left = std::thread::scope(|scope| {
                scope.spawn(|| {
                    begin.wait();
                    (0..round * 100).for_each(|_| std::hint::spin_loop());
                    drop(std::fs::rename(&partial, &to));
                });
                begin.wait();
                left_of(&partial)
            });
            assert_eq!(left, None);
            if to.exists() {
                assert_eq!(std::fs::read_dir(&to).unwrap().count(), FILES);
                std::fs::remove_dir_all(&to).unwrap();
                put += 1;
            }
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        }
        assert!(put < 200, "nothing was taken away");
    }

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.meta");
        whole_file(&path, |partial| std::fs::write(partial, "1\n")).unwrap();
        let failed = whole_file(&path, |partial| {
            std::fs::write(partial, "2")?;
            Err(std::io::Error::other("no room"))
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("no room"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        whole_file(Path::new("/dev/null"), |partial| std::fs::write(partial, "3")).unwrap();
        assert!(std::fs::metadata("/dev/null").is_ok_and(|found| !found.is_file()));
    }
}
