//! What was done by hand: a file of JSON lines, each on disk before its writer goes on.
//!
//! ```text
//! {"time":"2026-11-28T09:12:44.031Z","operation":"6f0c…","who":"ada","through":"http","what":"erase_faces",
//!  "collection":"lobby","face_ids":["cam3/0"],"outcome":"asked"}
//! {"time":"2026-11-28T09:12:44.038Z","operation":"6f0c…", … ,"outcome":"done","erased":1}
//! ```
//! Every deed is written down twice, before and after: what cannot be written down is not done, and what stands there as
//! `asked` alone was under way when facetd died. What the caller may not do is one line, `refused`. It holds ids, and
//! neither embeddings, nor linkages, nor the names that clusters were given.
//!
//! The file may be taken away or replaced at any time (logrotate): the next line goes into the one that is there then.

mod deed;

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat};
use rustix::fs::{Access, access};
use serde::Serialize;
use uuid::Uuid;

pub use self::deed::Deed;

use crate::clock;

/// The name of the file in the state folder, where log.audit names no other; what a rotation makes of it begins so too.
pub const FILE: &str = "audit.jsonl";

/// Why something is not in the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(
        "cannot write the audit log {}: {source}; nothing is done by hand without it: make room, or make it writable, or \
         have log.audit name another file",
        path.display()
    )]
    NotBegun { path: PathBuf, source: std::io::Error },
    #[error(
        "{became}; its outcome could not be written down in {}: {source}; make room, or make it writable, before the next",
        path.display()
    )]
    NotEnded { became: &'static str, path: PathBuf, source: std::io::Error },
}

/// Who does it.
#[derive(Debug, Clone, Serialize)]
pub struct Hand {
    /// A token's name, or a user's.
    who: String,
    through: Through,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Through {
    Http,
    Command,
}

impl Hand {
    /// Over HTTP, with a token of this name.
    pub fn over_http(token: &str) -> Hand {
        Hand { who: token.to_string(), through: Through::Http }
    }

    /// The user who runs this command, and who that was at login: `sudo` does not change it.
    pub fn of_user() -> Hand {
        let user = rustix::process::getuid().as_raw();
        let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|id| id.trim().parse().ok());
        let who = match login.filter(|&login| login != NOBODY_LOGGED_IN && login != user) {
            Some(login) => format!("{}, logged in as {}", name_of(user), name_of(login)),
            None => name_of(user),
        };
        Hand { who, through: Through::Command }
    }
}

/// What the kernel gives for a process that came of no login.
const NOBODY_LOGGED_IN: u32 = u32::MAX;

/// As the machine's own list has it; users from elsewhere are told by their number.
fn name_of(user: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_user = |line: &&str| line.split(':').nth(2) == Some(user.to_string().as_str());
    let name = users.lines().find(is_user).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid {user}"), |name| format!("{name} (uid {user})"))
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Asked,
    Done {
        /// Faces, where any could be.
        #[serde(skip_serializing_if = "Option::is_none")]
        erased: Option<usize>,
        /// Records, where any could be.
        #[serde(skip_serializing_if = "Option::is_none")]
        sent: Option<u64>,
    },
    /// Nothing was changed.
    Refused {
        why: String,
    },
    /// It took too long to wait for: it may have been done.
    Unknown {
        why: String,
    },
}

impl Outcome {
    /// There is no more to say of it.
    pub const DONE: Outcome = Outcome::Done { erased: None, sent: None };

    pub fn erased(faces: Option<usize>) -> Outcome {
        Outcome::Done { erased: faces, sent: None }
    }

    pub fn sent(records: u64) -> Outcome {
        Outcome::Done { erased: None, sent: Some(records) }
    }

    /// What became of it, for people.
    fn told(&self) -> &'static str {
        match self {
            Outcome::Asked => "it was asked for",
            Outcome::Done { .. } => "it was done",
            Outcome::Refused { .. } => "it was refused, and nothing was changed",
            Outcome::Unknown { .. } => "it may have been done",
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    operation: &'a str,
    #[serde(flatten)]
    hand: &'a Hand,
    #[serde(flatten)]
    deed: &'a Deed,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// The audit log. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct Audit {
    path: Arc<Path>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
}

/// A deed that is written down as asked for.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    audit: Audit,
    operation: String,
    hand: Hand,
    deed: Deed,
}

impl Audit {
    /// Makes the file where there is none, for its owner alone.
    pub fn open(path: &Path) -> Result<Audit, AuditError> {
        let open = Open::at(path).map_err(|source| AuditError::NotBegun { path: path.to_path_buf(), source })?;
        Ok(Audit { path: path.into(), open: Arc::new(Mutex::new(open)) })
    }

    /// What [`Audit::open`] would find: whether there is a file already. Makes none.
    pub fn look(path: &Path) -> Result<bool, AuditError> {
        let found = match Open::options().open(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let may_make = access(folder_of(path), Access::WRITE_OK | Access::EXEC_OK);
                may_make.map(|()| false).map_err(std::io::Error::from)
            }
            Err(error) => Err(error),
        };
        found.map_err(|source| AuditError::NotBegun { path: path.to_path_buf(), source })
    }

    /// Writes down that it is asked for; without that it must not be done.
    pub fn begin(&self, hand: Hand, deed: Deed) -> Result<Begun, AuditError> {
        let begun = Begun { audit: self.clone(), operation: Uuid::new_v4().simple().to_string(), hand, deed };
        begun.write(&Outcome::Asked).map_err(|source| self.not_begun(source))?;
        Ok(begun)
    }

    /// Writes down that somebody asked for what they may not do.
    pub fn refuse(&self, hand: Hand, deed: Deed, why: String) -> Result<(), AuditError> {
        let operation = Uuid::new_v4().simple().to_string();
        let begun = Begun { audit: self.clone(), operation, hand, deed };
        begun.write(&Outcome::Refused { why }).map_err(|source| self.not_begun(source))
    }

    fn not_begun(&self, source: std::io::Error) -> AuditError {
        AuditError::NotBegun { path: self.path.to_path_buf(), source }
    }

    fn append(&self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_string(line).expect("a line is plain data");
        text.push('\n');
        // Whoever panicked under it left at worst a torn line, which is noted.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.follow(&self.path).and_then(|()| open.append(&text))
    }
}

impl Begun {
    /// Writes down what became of it. It became of it whether or not that can be written: the log has it then, and the
    /// error is nothing to end with.
    pub fn end(self, outcome: &Outcome) -> Result<(), AuditError> {
        self.write(outcome).map_err(|source| {
            let error = AuditError::NotEnded { became: outcome.told(), path: self.audit.path.to_path_buf(), source };
            let (operation, who, deed) = (&self.operation, &self.hand.who, &self.deed);
            tracing::error!(operation, who, ?deed, ?outcome, "{error}");
            error
        })
    }

    /// Does it, and writes down whether it is done: what fails may be done by then.
    pub fn through<T, E: Display>(self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let worked = work();
        let told = match &worked {
            Ok(_) => Outcome::DONE,
            Err(error) => Outcome::Unknown { why: error.to_string() },
        };
        // What is done stays done where that cannot be written down; the log says so.
        let _ = self.end(&told);
        worked
    }

    /// Has it end in the log at `path`: the folder of the one that it began in has another name by now.
    pub fn follow(self, path: &Path) -> Begun {
        let audit = Audit { path: path.into(), ..self.audit };
        Begun { audit, ..self }
    }

    fn write(&self, outcome: &Outcome) -> std::io::Result<()> {
        let time = DateTime::from_timestamp_millis(clock::now().0).unwrap_or_default();
        let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let Begun { audit, operation, hand, deed } = self;
        audit.append(&Line { time, operation, hand, deed, outcome })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Open {
    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        options
    }

    fn at(path: &Path) -> std::io::Result<Open> {
        let file = match Open::options().open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = Open::options().create_new(true).open(path)?;
                let folder = folder_of(path);
                if rustix::process::getuid().is_root() {
                    // The daemon has to be able to go on with what a command of root's began.
                    let owner = folder.metadata()?;
                    fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
                }
                File::open(folder)?.sync_all()?;
                file
            }
            file => file?,
        };
        Ok(Open { file })
    }

    /// Goes on to the file that is at `path` now, where a rotation took the other away.
    fn follow(&mut self, path: &Path) -> std::io::Result<()> {
        let id = |found: std::fs::Metadata| (found.dev(), found.ino());
        let mine = id(self.file.metadata()?);
        match std::fs::metadata(path).map(id) {
            Ok(there) if there == mine => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Open::at(path).map(|open| *self = open),
        }
    }

    /// A daemon and a command may write at once.
    fn append(&mut self, text: &str) -> std::io::Result<()> {
        self.file.lock()?;
        let written = self.append_alone(text);
        // It goes with the file in any case.
        let _ = self.file.unlock();
        written
    }

    fn append_alone(&mut self, text: &str) -> std::io::Result<()> {
        let before = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(place) = before.checked_sub(1) {
            self.file.read_exact_at(&mut last, place)?;
        }
        // A full disk cut a line off, and what follows is one of its own.
        let line = if last == [b'\n'] { text.to_string() } else { format!("\n{text}") };
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line is of no use; where it stays, the next one begins behind it.
            let _ = self.file.set_len(before);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;
    use crate::engine::changes::Request;
    use crate::engine::event::Cause;
    use crate::face::{CollectionName, FaceId};

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn erase() -> Deed {
        let erase = |face| Request::Erase { face: FaceId::new(face).unwrap(), cause: Cause::Api };
        Deed::of(&CollectionName::new("lobby").unwrap(), &[erase("a"), erase("b")])
    }

    #[test]
    fn a_deed_is_written_down_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let audit = Audit::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let begun = audit.begin(Hand::over_http("ada"), erase()).unwrap();
        assert_eq!(lines(&path)[0]["outcome"], json!("asked"));
        begun.end(&Outcome::erased(Some(2))).unwrap();
        let done = &lines(&path)[1];
        assert_eq!(done["operation"], lines(&path)[0]["operation"]);
        let expected = [
            ("who", json!("ada")),
            ("through", json!("http")),
            ("what", json!("erase_faces")),
            ("collection", json!("lobby")),
            ("face_ids", json!(["a", "b"])),
            ("outcome", json!("done")),
            ("erased", json!(2)),
        ];
        for (key, value) in expected {
            assert_eq!(done[key], value, "{done}");
        }
    }

    #[test]
    fn a_rotation_is_followed_and_a_torn_line_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "{\"half\":").unwrap();
        let audit = Audit::open(&path).unwrap();
        let refuse = || audit.refuse(Hand::over_http("bob"), erase(), "may only read".to_string()).unwrap();
        refuse();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        std::fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
        refuse();
        assert_eq!(lines(&path).len(), 1);
        // As logrotate's `create` does it.
        std::fs::rename(&path, folder.path().join("audit.jsonl.2")).unwrap();
        File::create(&path).unwrap();
        refuse();
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(lines(&path)[0]["outcome"], json!("refused"));
    }

    #[test]
    fn a_look_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(!Audit::look(&path).unwrap() && !path.exists());
        drop(Audit::open(&path).unwrap());
        assert!(Audit::look(&path).unwrap());
        for wrong in [folder.path(), Path::new("/nowhere/audit.jsonl")] {
            assert!(Audit::look(wrong).unwrap_err().to_string().contains("log.audit"));
        }
    }

    #[test]
    fn what_cannot_be_written_down_is_not_begun() {
        let full = Audit::open(Path::new("/dev/full"));
        // It says that it is no file to look into, or that it is full: either is no audit log.
        let error = full.and_then(|audit| audit.begin(Hand::of_user(), erase())).unwrap_err().to_string();
        assert!(error.contains("/dev/full") && error.contains("log.audit"), "{error}");
        assert!(Audit::open(Path::new("/nowhere/audit.jsonl")).is_err());
    }
}
