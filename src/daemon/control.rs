//! What is asked of a running daemon by whoever may use its state: a unix socket in the state folder,
//! for its owner alone. One JSON line in, JSON lines out.
//!
//! ```text
//! {"backup":{"to":"/var/backups/facetd/monday"}}
//! {"progress":{"done":1048576,"of":5242880}}
//! {"done":{"state_uuid":"…","commit_sequence":77,"files":5,"bytes":5242880,"pause_ms":12}}
//! {"error":"…"}
//! ```
//! The engine's thread cuts the state between two batches; the rest is copied by a thread of the
//! connection. One backup at a time.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use crate::asks::Asks;
use crate::clock::now;
use crate::progress::Progress;
use crate::shutdown::Shutdown;

/// The name of the socket in the state folder.
pub const SOCKET: &str = "control.sock";
/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(10);
const MOST_REQUEST_BYTES: u64 = 16 << 10;
/// Of a line.
const MOST_ANSWER_BYTES: u64 = 1 << 20;
/// How often progress is told.
const TOLD: Duration = Duration::from_millis(100);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A backup into a folder that is missing or empty; an absolute path, which the daemon can write.
    Backup { to: PathBuf },
}

/// What is answered, the last of it an error or that it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Progress(Progress),
    Done(Done),
    Error(String),
}

/// A backup that is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub state_uuid: String,
    pub commit_sequence: u64,
    pub files: usize,
    pub bytes: u64,
    /// How long commits waited.
    pub pause_ms: u64,
}

/// The socket; its file goes with it.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens in the state folder, whose lock this process holds: a socket that is there is of a
    /// daemon that was killed.
    pub fn listen(state: &Path) -> std::io::Result<Control> {
        let path = state.join(SOCKET);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Control { listener, path })
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, engine: Asks, shutdown: Shutdown) {
        let busy = Arc::new(Mutex::new(()));
        let owner = std::fs::metadata(&self.path).map(|found| found.uid()).ok();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.requested() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket takes no connection");
                    tokio::time::sleep(TOLD).await;
                    continue;
                }
            };
            // The file's mode keeps others out but for the moment before it is set.
            let is_owner = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || Some(peer.uid()) == owner);
            let Some(stream) = stream.into_std().ok().filter(|_| is_owner) else { continue };
            let (engine, busy) = (engine.clone(), busy.clone());
            tokio::task::spawn_blocking(move || answer(stream, &engine, &busy));
        }
    }
}

/// Answers one connection. Who asked may be gone; a backup is finished nevertheless.
fn answer(stream: UnixStream, engine: &Asks, busy: &Mutex<()>) {
    let told = |answer: &Answer| {
        let line = serde_json::to_string(answer).expect("answers are plain data");
        let _ = writeln!(&stream, "{line}");
    };
    let prepared = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(REQUEST)))
        .and_then(|()| stream.set_write_timeout(Some(REQUEST)));
    let outcome = prepared.map_err(|error| error.to_string()).and_then(|()| {
        match read_request(&stream)? {
            Request::Backup { to } => {
                let _one = match busy.try_lock() {
                    Err(TryLockError::WouldBlock) => return Err("a backup is under way; wait for it".to_string()),
                    // Nothing is kept under it.
                    Err(TryLockError::Poisoned(held)) => held.into_inner(),
                    Ok(held) => held,
                };
                back_up(&to, engine, &told)
            }
        }
    });
    match outcome {
        Ok(done) => told(&Answer::Done(done)),
        Err(error) => {
            tracing::warn!(%error, "what was asked at the control socket was not done");
            told(&Answer::Error(error));
        }
    }
}

/// Reads the one line of a request.
pub(crate) fn read_request(stream: impl Read) -> Result<Request, String> {
    let mut line = String::new();
    BufReader::new(stream.take(MOST_REQUEST_BYTES)).read_line(&mut line).map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| format!("not a request: {error}"))
}

fn back_up(to: &Path, engine: &Asks, told: &dyn Fn(&Answer)) -> Result<Done, String> {
    if !to.is_absolute() {
        return Err(format!("{} is not an absolute path", to.display()));
    }
    let cut = engine.cut(to.to_path_buf()).map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let pause = cut.pause;
    let mut last = Instant::now();
    let manifest = cut.finish(now(), &mut |progress| {
        if last.elapsed() >= TOLD || progress.done == progress.of {
            last = Instant::now();
            told(&Answer::Progress(progress));
        }
    });
    let manifest = manifest.map_err(|error| error.to_string())?;
    let (bytes, files, pause_ms) = (manifest.bytes(), manifest.files.len(), pause.as_millis() as u64);
    tracing::info!(to = %to.display(), bytes, pause_ms, commit = manifest.commit_sequence, "backed up");
    Ok(Done { state_uuid: manifest.state_uuid, commit_sequence: manifest.commit_sequence, files, bytes, pause_ms })
}

/// Asks the daemon whose socket is in `state`, if there is one that answers, and tells of each answer
/// but the last. None: there is no daemon.
pub fn ask(
    state: &Path,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> std::io::Result<Option<Result<Done, String>>> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let stream = match UnixStream::connect(state.join(SOCKET)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    writeln!(&stream, "{}", serde_json::to_string(request)?)?;
    let mut stream = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        if stream.by_ref().take(MOST_ANSWER_BYTES).read_line(&mut line)? == 0 {
            return Ok(Some(Err("the daemon ended before it was done".to_string())));
        }
        match serde_json::from_str(&line)? {
            Answer::Progress(told) => progress(told),
            Answer::Done(done) => return Ok(Some(Ok(done))),
            Answer::Error(error) => return Ok(Some(Err(error))),
        }
    }
}
