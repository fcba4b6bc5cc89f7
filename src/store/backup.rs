//! A copy of a state as it was between two commits, made while the daemon goes on, and its way back.
//!
//! ```text
//! DIR/BACKUP.json     what is in it: every file with its length and SHA-256
//! DIR/state/          a state directory, but for its lock
//! ```
//! The cut is made by whoever commits, so that no commit happens meanwhile, and the publisher waits too: sled is
//! copied to a fresh one. The vector files are copied afterwards, while commits go on: up to the length that counted at
//! the cut they only ever stay as they are, and until the copy is done no compaction replaces them.
//! Everything is written beside its place, synced, and renamed: a backup is whole or not there.
//!
//! Cost: commits wait for [`Store::cut`], which reads and writes sled once; the rest is O(bytes).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::{Directory, audit_logs, copy_folder, make_private};
use super::repair::{Partial, check_empty, put_in_place};
use super::space::Space;
use super::verify::{Known, Report, verify};
use super::{Store, StoreError};
use crate::face::Timestamp;
use crate::model::artefact::hex;
use crate::progress::Progress;

const MANIFEST: &str = "BACKUP.json";
const STATE: &str = "state";
const SNAPSHOTS: &str = "snapshots";
/// Of the manifest.
const VERSION: u32 = 1;
/// A manifest is some 150 bytes a file, and there are a few files a collection.
const MOST_MANIFEST_BYTES: u64 = 64 << 20;
const COPIED_AT_ONCE: usize = 1 << 20;

/// What a backup is, and all that is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub state_uuid: String,
    pub commit_sequence: u64,
    /// When it was cut, in milliseconds since 1970.
    pub at: Timestamp,
    pub files: Vec<BackedUp>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUp {
    /// Inside the backup.
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }
}

/// Why a backup is not taken for one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} is no backup: {what}", path.display())]
    NoBackup { path: PathBuf, what: String },
    #[error("the backup {} is not what it was: {file} {what}; use another backup", path.display())]
    Tampered { path: PathBuf, file: String, what: String },
    #[error("the backup {} is of version {found}, this facetd reads {VERSION}: use the facetd that wrote it", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("the backup {} holds a broken state: {what}; `facetd inspect repair` its folder `state`", path.display())]
    Broken { path: PathBuf, what: String },
}

/// A state as it is between two commits; not all of it is copied yet.
#[derive(Debug)]
pub struct Cut {
    /// How long commits waited for it.
    pub pause: Duration,
    state_uuid: String,
    commit_sequence: u64,
    to: PathBuf,
    partial: Partial,
    /// From where, to where inside the state, and how many bytes count; none: all of them.
    files: Vec<(PathBuf, PathBuf, Option<u64>)>,
    _hold: Hold,
}

/// While there is one, no vector file is replaced.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<()>);

impl Hold {
    /// Whether anybody else has it.
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Store {
    /// Cuts the state between two commits, for a backup in `to`, which is missing or empty.
    pub fn cut(&self, to: &Path) -> Result<Cut, StoreError> {
        let started = Instant::now();
        check_empty(to)?;
        let absolute = |path| std::path::absolute(path).map_err(StoreError::io(path));
        if absolute(to)?.starts_with(absolute(self.directory.path())?) {
            return Err(StoreError::Inside { path: to.to_path_buf() });
        }
        let partial = Partial::of(to)?;
        let state = partial.path().join(STATE);
        // For whoever may read the state, which this copy holds all of.
        make_private(partial.path())?;
        for folder in ["sled", "vectors"].map(|name| state.join(name)) {
            std::fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
        }
        let space = Space::open(&state.join("sled"))?;
        {
            // The publisher writes too, and records copied before and after would not add up.
            let _nobody_else_writes = self.space.only_writer();
            self.space.copy_to(&space, &super::rewrite::as_it_is)?;
        }
        space.close()?;

        let mut files = Vec::new();
        for (name, record) in self.collections.iter().filter(|(_, record)| record.records > 0) {
            let file = self.vectors(name, record);
            let inside = PathBuf::from("vectors").join(file.path.file_name().unwrap_or_default());
            let bytes = file.end();
            files.push((file.path, inside, Some(bytes)));
        }
        files.extend(snapshots(&self.directory)?);
        // As far as they are when they are copied.
        let logs = audit_logs(self.directory.path())?;
        files.extend(logs.into_iter().map(|name| (self.directory.path().join(&name), name, None)));
        Ok(Cut {
            pause: started.elapsed(),
            state_uuid: self.identity.state_uuid.clone(),
            commit_sequence: self.commit_sequence,
            to: to.to_path_buf(),
            partial,
            files,
            _hold: self.hold.clone(),
        })
    }
}

fn snapshots(directory: &Directory) -> Result<Vec<(PathBuf, PathBuf, Option<u64>)>, StoreError> {
    let folder = directory.path().join(SNAPSHOTS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(StoreError::io(&folder))? {
        let entry = entry.map_err(StoreError::io(&folder))?;
        let name = PathBuf::from(entry.file_name());
        if name.extension().is_some_and(|ending| ending == "snapshot") {
            files.push((entry.path(), PathBuf::from(SNAPSHOTS).join(name), None));
        }
    }
    Ok(files)
}

impl Cut {
    /// Copies the rest, and puts the backup in its place once it is on disk.
    pub fn finish(self, at: Timestamp, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, StoreError> {
        let Cut { state_uuid, commit_sequence, partial, to, .. } = &self;
        let partial = partial.path();
        let state = partial.join(STATE);
        let mut sled = Vec::new();
        list(&state.join("sled"), &mut sled)?;
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let of = self.files.iter().map(|(from, _, bytes)| bytes.unwrap_or_else(|| length(from))).sum::<u64>()
            + sled.iter().map(|path| length(path)).sum::<u64>();
        let mut copier = Copier { root: partial, done: 0, of, progress, files: Vec::new() };
        for path in sled {
            copier.hash(&path)?;
        }
        for (from, inside, bytes) in &self.files {
            match copier.copy(from, &state.join(inside), *bytes) {
                // Of a snapshot two newer ones have taken the place meanwhile, and it is derived; an audit log was rotated.
                Err(StoreError::Io { source, .. }) if bytes.is_none() && source.kind() == ErrorKind::NotFound => {}
                copied => copied?,
            }
        }
        let manifest = Manifest {
            version: VERSION,
            state_uuid: state_uuid.clone(),
            commit_sequence: *commit_sequence,
            at,
            files: copier.files,
        };
        let path = partial.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        std::fs::write(&path, text).map_err(StoreError::io(&path))?;
        put_in_place(partial, to)?;
        Ok(manifest)
    }
}

/// Every file in a folder and below, in order.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
    let mut paths: Vec<PathBuf> =
        entries.map_err(StoreError::io(folder))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// Reads files, tells of it, and notes what they are.
struct Copier<'a> {
    root: &'a Path,
    done: u64,
    of: u64,
    progress: &'a mut dyn FnMut(Progress),
    files: Vec<BackedUp>,
}

impl Copier<'_> {
    fn copy(&mut self, from: &Path, to: &Path, bytes: Option<u64>) -> Result<(), StoreError> {
        let file = File::open(from).map_err(StoreError::io(from))?;
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        }
        let mut target = File::create(to).map_err(StoreError::io(to))?;
        file.metadata().and_then(|found| target.set_permissions(found.permissions())).map_err(StoreError::io(to))?;
        let write = |part: &[u8]| target.write_all(part).map_err(StoreError::io(to));
        self.read(from, file, to, bytes, write)
    }

    /// Of a file that is in its place already.
    fn hash(&mut self, path: &Path) -> Result<(), StoreError> {
        let file = File::open(path).map_err(StoreError::io(path))?;
        self.read(path, file, path, None, |_| Ok(()))
    }

    fn read(
        &mut self,
        from: &Path,
        file: File,
        to: &Path,
        bytes: Option<u64>,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut file = file.take(bytes.unwrap_or(u64::MAX));
        let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0, vec![0; COPIED_AT_ONCE]);
        loop {
            let read = file.read(&mut buffer).map_err(StoreError::io(from))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            take(&buffer[..read])?;
            length += read as u64;
            self.done += read as u64;
            (self.progress)(Progress { done: self.done, of: self.of });
        }
        if bytes.is_some_and(|bytes| bytes != length) {
            let what = format!("it ends after {length} bytes");
            return Err(StoreError::Damaged { path: from.to_path_buf(), what });
        }
        let path = to.strip_prefix(self.root).unwrap_or(to).to_path_buf();
        self.files.push(BackedUp { path, bytes: length, sha256: hex(&hasher.finalize()) });
        Ok(())
    }
}

/// What was restored: it is whole and not in its place yet.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    pub report: Report,
    partial: Partial,
    to: PathBuf,
}

impl Restored {
    /// Where it is until then.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Has it be in its place on disk.
    pub fn put_in_place(&self) -> Result<(), StoreError> {
        put_in_place(self.partial.path(), &self.to)
    }
}

/// Makes the state of the backup `from` for `to`, which is missing or empty. Nothing is left of it when any of
/// its files is not what it was, or the state in it is broken. Progress is in bytes, and then that of [`verify`].
pub fn restore(
    from: &Path,
    to: &Path,
    known: &Known,
    progress: &mut dyn FnMut(Progress),
) -> Result<Restored, BackupError> {
    check_empty(to)?;
    let manifest = manifest(from)?;
    check_files(from, &manifest, progress)?;
    let partial = Partial::of(to)?;
    make_private(partial.path())?;
    copy_folder(&from.join(STATE), partial.path())?;
    let report = verify(partial.path(), known, progress)?;
    if !report.is_whole() {
        let what = report.checks.iter().flat_map(|checked| &checked.broken).map(ToString::to_string);
        let what = what.collect::<Vec<_>>().join("; ");
        return Err(BackupError::Broken { path: from.to_path_buf(), what });
    }
    if report.state_uuid.as_ref() != Some(&manifest.state_uuid) || report.commit_sequence != manifest.commit_sequence {
        return Err(tampered(from, MANIFEST, "tells of another state"));
    }
    Ok(Restored { manifest, report, partial, to: to.to_path_buf() })
}

fn manifest(from: &Path) -> Result<Manifest, BackupError> {
    let path = from.join(MANIFEST);
    let none = |what: String| BackupError::NoBackup { path: from.to_path_buf(), what };
    let file = File::open(&path).map_err(|error| none(format!("{MANIFEST}: {error}")))?;
    let mut text = Vec::new();
    file.take(MOST_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(StoreError::io(&path))?;
    if text.len() as u64 > MOST_MANIFEST_BYTES {
        return Err(none(format!("{MANIFEST} has more than {MOST_MANIFEST_BYTES} bytes")));
    }
    parse_manifest(from, &text)
}

/// The manifest of the backup `from`.
pub(super) fn parse_manifest(from: &Path, text: &[u8]) -> Result<Manifest, BackupError> {
    /// How every manifest of every version begins.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let unreadable = |error: serde_json::Error| {
        let what = format!("{MANIFEST} cannot be read: {error}");
        BackupError::NoBackup { path: from.to_path_buf(), what }
    };
    let Version { version } = serde_json::from_slice(text).map_err(unreadable)?;
    if version != VERSION {
        return Err(BackupError::Version { path: from.to_path_buf(), found: version });
    }
    serde_json::from_slice(text).map_err(unreadable)
}

/// Every file is there as it was written, and no other is.
fn check_files(from: &Path, manifest: &Manifest, progress: &mut dyn FnMut(Progress)) -> Result<(), BackupError> {
    let mut copier = Copier { root: from, done: 0, of: manifest.bytes(), progress, files: Vec::new() };
    let mut listed = BTreeSet::new();
    for file in &manifest.files {
        let name = file.path.display().to_string();
        let is_inside = file.path.starts_with(STATE)
            && file.path.components().all(|component| matches!(component, Component::Normal(_)));
        if !is_inside || !listed.insert(from.join(&file.path)) {
            return Err(tampered(from, &name, "is not in it once"));
        }
        let path = from.join(&file.path);
        let is_file = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        if !is_file {
            return Err(tampered(from, &name, "is missing"));
        }
        copier.hash(&path)?;
        let found = copier.files.pop().expect("a file was hashed");
        if found.bytes != file.bytes {
            return Err(tampered(from, &name, &format!("has {} bytes, not {}", found.bytes, file.bytes)));
        }
        if found.sha256 != file.sha256 {
            return Err(tampered(from, &name, "has another SHA-256"));
        }
    }
    let mut there = Vec::new();
    list(&from.join(STATE), &mut there)?;
    match there.into_iter().find(|path| !listed.contains(path)) {
        Some(other) => {
            let name = other.strip_prefix(from).unwrap_or(&other).display().to_string();
            Err(tampered(from, &name, "does not belong to it"))
        }
        None => Ok(()),
    }
}

fn tampered(from: &Path, file: &str, what: &str) -> BackupError {
    BackupError::Tampered { path: from.to_path_buf(), file: file.to_string(), what: what.to_string() }
}
