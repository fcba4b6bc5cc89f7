//! A damaged state made whole again, in a directory of its own: the damaged one is only looked at.
//!
//! Every collection goes through [`super::salvage`]. The new state may differ from what was published
//! of the old one, so it has another uuid, and no event of the old one is taken over unless the outbox
//! is whole. It is written beside its place, checked as [`super::verify`] does, and renamed.
//!
//! Cost: everything read three times and written once; memory that of the largest collection.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::StoreError;
use super::checks::Check;
use super::directory::{Directory, audit_logs, sync_folder, sync_tree};
use super::keys;
use super::look::Look;
use super::outbox::Entry;
use super::records::{CollectionRecord, Format, Identity};
use super::salvage::{Salvaged, salvage};
use super::space::{Batch, Space};
use super::suppressed::Suppressed;
use super::vectors::VectorFile;
use super::verify::{Known, Report, verify};
use crate::engine::changes::NewVector;
use crate::face::{CollectionName, Position, Timestamp};
use crate::progress::Progress;

/// Records and embeddings written at once.
const WRITTEN_AT_ONCE: usize = 1024;

/// What became of a damaged state.
#[derive(Debug)]
pub struct Repaired {
    /// Of the new state.
    pub state_uuid: String,
    /// Faces that are in it.
    pub faces: u64,
    /// Faces that are not, and where what is left of them was written.
    pub lost: u64,
    pub exported: Option<PathBuf>,
    /// What was lost or made anew, for people.
    pub said: Vec<String>,
}

/// A repaired state that is whole and not in its place yet.
#[derive(Debug)]
pub struct Mended {
    repaired: Repaired,
    partial: Partial,
    export: Export,
    to: PathBuf,
}

impl Mended {
    /// Where it is until then.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Has it be in its place on disk, what is left of lost faces first.
    pub fn put_in_place(self) -> Result<Repaired, StoreError> {
        let Mended { repaired, partial, export, to } = self;
        let exported = export.put_in_place(&beside(&to, "lost.jsonl"))?;
        put_in_place(partial.path(), &to)?;
        Ok(Repaired { exported, ..repaired })
    }
}

/// Makes of the state in `from` a whole one for `to`, which is new or empty. Progress is that of [`verify`], before and after.
pub fn repair(from: &Path, to: &Path, known: &Known, progress: &mut dyn FnMut(Progress)) -> Result<Mended, StoreError> {
    check_empty(to)?;
    let report = verify(from, known, progress)?;
    let look = Look::open(from)?;
    let partial = Partial::of(to)?;
    let export = Export { path: partial_export(to), file: None, lost: 0 };
    let repair = Repair { look: &look, report: &report, said: Vec::new(), export };
    let written = repair.write(partial.path()).map_err(|error| look.failed(error))?;
    let Repair { said, export, .. } = written.repair;
    for name in audit_logs(from)? {
        let (log, copy) = (from.join(&name), partial.path().join(&name));
        std::fs::copy(&log, &copy).map_err(StoreError::io(&log))?;
    }

    let report = verify(partial.path(), known, progress)?;
    if !report.is_whole() {
        let what = report.checks.iter().flat_map(|checked| &checked.broken).map(ToString::to_string);
        let what = format!("repaired, it is still: {}; this is a bug", what.collect::<Vec<_>>().join("; "));
        return Err(StoreError::Damaged { path: from.to_path_buf(), what });
    }
    let Written { state_uuid, faces, .. } = written;
    let repaired = Repaired { state_uuid, faces, lost: export.lost, exported: None, said };
    Ok(Mended { repaired, partial, export, to: to.to_path_buf() })
}

/// Refuses a folder that has something in it.
pub fn check_empty(path: &Path) -> Result<(), StoreError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(StoreError::NotEmpty { path: path.to_path_buf() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::Io { path: path.to_path_buf(), source }),
    }
}

/// `path` with another ending after its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// The folder in which the folder `to` is made, until it is whole.
pub fn partial(to: &Path) -> PathBuf {
    beside(to, "partial")
}

/// The file that [`repair`] writes what is left of lost faces to, until all of it is there.
pub fn partial_export(to: &Path) -> PathBuf {
    beside(to, "lost.jsonl.partial")
}

/// The folder beside the one that is being made, in which it is made. When it goes and is still there, so does what is in it:
/// it may hold embeddings, and is of no use.
#[derive(Debug)]
pub struct Partial(PathBuf);

impl Partial {
    /// For the folder `to`; one that an earlier try left when it died is removed.
    pub fn of(to: &Path) -> Result<Partial, StoreError> {
        let path = partial(to);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(StoreError::io(&path))?;
        }
        Ok(Partial(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.0.display(), %error, "this folder is of no use and could not be removed: remove it");
            }
            _ => {}
        }
    }
}

/// Makes what was written at `partial` the folder `to`, which is missing or empty, on disk.
pub fn put_in_place(partial: &Path, to: &Path) -> Result<(), StoreError> {
    sync_tree(partial)?;
    // A rename takes the place of an empty folder.
    std::fs::rename(partial, to).map_err(StoreError::io(to))?;
    match to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => sync_folder(Path::new(".")),
    }
}

struct Repair<'a> {
    look: &'a Look,
    /// Of the damaged state.
    report: &'a Report,
    said: Vec<String>,
    export: Export,
}

/// Where what is left of lost faces goes; the file is made when there is any.
#[derive(Debug)]
struct Export {
    path: PathBuf,
    file: Option<File>,
    lost: u64,
}

impl Export {
    fn write(&mut self, lines: &[String]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let io = StoreError::io(&self.path);
        if self.file.is_none() {
            // They are people's embeddings.
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path);
            self.file = Some(file.map_err(&io)?);
        }
        if let Some(file) = &mut self.file {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(&io)?;
        }
        self.lost += lines.len() as u64;
        Ok(())
    }

    /// Answers where it is, if anything was lost.
    fn put_in_place(mut self, to: &Path) -> Result<Option<PathBuf>, StoreError> {
        if self.file.is_none() {
            return Ok(None);
        }
        std::fs::rename(&self.path, to).map_err(StoreError::io(to))?;
        self.file = None;
        Ok(Some(to.to_path_buf()))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if self.file.is_some() && std::fs::remove_file(&self.path).is_err() {
            let file = self.path.display();
            tracing::warn!(%file, "this file is of no use, holds embeddings and could not be removed: remove it");
        }
    }
}

struct Written<'a> {
    repair: Repair<'a>,
    state_uuid: String,
    faces: u64,
}

impl<'a> Repair<'a> {
    fn write(mut self, path: &Path) -> Result<Written<'a>, StoreError> {
        let directory = Directory::create(path)?;
        let space = Space::open(&directory.sled())?;
        let old = &self.look.identity;
        let state_uuid = Uuid::new_v4().to_string();
        let identity = Identity { format: Format(super::FORMAT), state_uuid: state_uuid.clone(), ..old.clone() };
        let mut batch = Batch::default();
        batch.put(keys::identity(), &identity);

        let suppressed = self.suppressed(&mut batch)?;
        self.positions(&mut batch)?;
        let told = self.outbox(&mut batch)?;
        space.apply(batch)?;

        let (mut faces, mut commit_sequence) = (0, self.number(&keys::commit_sequence()));
        for (name, record) in self.collections()? {
            let mut salvaged = salvage(self.look, &name, record, &suppressed)?;
            let counters = &mut salvaged.record.counters;
            let is_broken = |broken: &super::Broken| broken.collection.as_ref() == Some(&name);
            if self.report.checks.iter().flat_map(|checked| &checked.broken).any(is_broken) {
                // Whatever it was, it is to settle again before its clusters are relied on.
                let last = told.get(&name).copied().unwrap_or(0);
                counters.sequence = counters.sequence.max(last).max(1);
                counters.settled = 0;
            }
            faces += salvaged.record.faces;
            let written_at = salvaged.linkages.values().map(|record| record.written_at).max();
            commit_sequence = commit_sequence.max(written_at.unwrap_or(0));
            self.said.extend(salvaged.said.drain(..).map(|said| format!("collection {name}: {said}")));
            self.export.write(&salvaged.lost)?;
            write_collection(&directory, &space, identity.dimension, &name, salvaged)?;
        }
        let mut batch = Batch::default();
        batch.put(keys::commit_sequence(), &commit_sequence);
        space.apply(batch)?;
        space.close()?;
        Ok(Written { repair: self, state_uuid, faces })
    }

    /// A number of the state as a whole; 0 where it cannot be read, which verifying has told.
    fn number(&self, key: &[u8]) -> u64 {
        self.look.space.get(key).ok().flatten().unwrap_or(0)
    }

    /// Every collection of which anything is there, with its own record where that can be read.
    fn collections(&self) -> Result<BTreeMap<CollectionName, Option<CollectionRecord>>, StoreError> {
        let mut collections: BTreeMap<CollectionName, Option<CollectionRecord>> = BTreeMap::new();
        self.look.space.look_over(|key, _| {
            if let Some(owner) = keys::owner_of(key) {
                collections.entry(owner).or_default();
            }
        })?;
        for (key, record) in self.look.space.survey::<CollectionRecord>(&keys::collections(), &mut Vec::new())? {
            if let Some(name) = keys::collection_of(&key) {
                collections.insert(name, Some(record));
            }
        }
        Ok(collections)
    }

    /// The list itself is in the keys.
    fn suppressed(&mut self, batch: &mut Batch) -> Result<Suppressed, StoreError> {
        let mut damaged = Vec::new();
        let readable = self.look.space.survey::<Timestamp>(&keys::all_suppressed(), &mut damaged)?;
        let unknown = damaged.into_iter().map(|key| (key, Timestamp::default()));
        let mut hashes = HashSet::new();
        for (key, at) in readable.into_iter().chain(unknown) {
            if let Some(hash) = keys::suppressed_of(&key) {
                batch.put(keys::suppressed(hash), &at);
                hashes.insert(hash);
            }
        }
        Ok(Suppressed::new(self.look.identity.suppression_key.clone(), hashes))
    }

    fn positions(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let mut damaged = Vec::new();
        for (key, record) in self.look.space.survey::<Position>(&keys::positions(), &mut damaged)? {
            match keys::partition_of(&key) {
                Some(partition) if partition.0 >= 0 && record.next.0 >= 0 => {
                    batch.put(keys::position(partition), &record);
                }
                _ => damaged.push(key),
            }
        }
        for key in damaged {
            let partition = keys::partition_of(&key).map_or(key.escape_ascii().to_string(), |p| p.0.to_string());
            self.said.push(format!("the position of partition {partition}: it is read again from its start"));
        }
        Ok(())
    }

    /// Takes over what is to be published. Answers the last event of each collection in it.
    fn outbox(&mut self, batch: &mut Batch) -> Result<BTreeMap<CollectionName, u64>, StoreError> {
        let mut damaged = Vec::new();
        let entries = self.look.space.survey::<Entry>(&keys::outbox_entries(), &mut damaged)?;
        for key in &damaged {
            let number = keys::outbox_sequence_of(key).map_or(key.escape_ascii().to_string(), |n| n.to_string());
            self.said.push(format!("outbox entry {number}, which was to be published"));
        }
        let mut told = BTreeMap::new();
        let mut last = self.number(&keys::outbox_sequence());
        if damaged.is_empty() && !self.report.broken().contains(&Check::Outbox) {
            for (key, entry) in entries {
                if let Entry::Event { collection, event, .. } = &entry {
                    told.insert(collection.clone(), event.sequence);
                }
                let Some(sequence) = keys::outbox_sequence_of(&key) else { continue };
                last = last.max(sequence);
                batch.put(keys::outbox(sequence), &entry);
            }
        } else {
            let mut dropped: BTreeMap<CollectionName, usize> = BTreeMap::new();
            last = 0;
            for (_, entry) in entries {
                if let Entry::Event { collection, .. } = &entry {
                    *dropped.entry(collection.clone()).or_default() += 1;
                    continue;
                }
                last += 1;
                batch.put(keys::outbox(last), &entry);
            }
            for (collection, events) in dropped {
                self.said.push(format!("collection {collection}: {events} events that were to be published: others are missing between them"));
            }
        }
        batch.put(keys::outbox_sequence(), &last);
        Ok(told)
    }
}

fn write_collection(
    directory: &Directory,
    space: &Space,
    dimension: usize,
    name: &CollectionName,
    salvaged: Salvaged,
) -> Result<(), StoreError> {
    let Salvaged { record, faces, linkages, clusters, constraints, .. } = salvaged;
    let mut file = VectorFile {
        path: directory.vectors(name, record.generation),
        dimension,
        generation: record.generation,
        records: 0,
    };
    // In the order in which they came, as a file that was never damaged has them.
    let mut by_arrival: Vec<_> =
        faces.iter().map(|(node, (face, embedding))| (face.arrival, *node, embedding)).collect();
    by_arrival.sort_unstable_by_key(|&(arrival, node, _)| (arrival, node));
    for part in by_arrival.chunks(WRITTEN_AT_ONCE) {
        let vectors = part.iter().map(|&(_, node, embedding)| NewVector { node, embedding: embedding.clone() });
        file.append(&vectors.collect::<Vec<_>>())?;
        file.records += part.len() as u64;
    }
    let mut batches = Batches { space, batch: Batch::default(), writes: 0 };
    batches.put(keys::collection(name), &record)?;
    for (node, (face, _)) in &faces {
        batches.put(keys::face(name, *node), face)?;
        batches.put(keys::node_of(name, &face.id), node)?;
    }
    for (node, linkages) in &linkages {
        batches.put(keys::linkages(name, *node), linkages)?;
    }
    for (id, cluster) in &clusters {
        batches.put(keys::cluster(name, *id), cluster)?;
    }
    for word in &constraints {
        batches.put(keys::constraint(name, &word.a, &word.b), word)?;
    }
    space.apply(batches.batch)
}

/// Many writes, some at a time.
struct Batches<'a> {
    space: &'a Space,
    batch: Batch,
    writes: usize,
}

impl Batches<'_> {
    fn put(&mut self, key: keys::Key, value: &impl serde::Serialize) -> Result<(), StoreError> {
        self.batch.put(key, value);
        self.writes += 1;
        if self.writes.is_multiple_of(WRITTEN_AT_ONCE) {
            self.space.apply_soon(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }
}
