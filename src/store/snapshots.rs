//! Snapshots: what the engine of a collection derived, in files of their own, so that a restart need not
//! derive it again. Whatever is wrong with one costs time and nothing else: the next older is taken,
//! or everything is derived anew.
//!
//! ```text
//! DIR/snapshots/COLLECTION.SEQUENCE.snapshot   cut after that commit; the newest two are kept
//!
//! magic "facetd-s", version u32, length of the header u32, header (postcard), crc u32 of all before
//! sections, in the order of [`Snapshot`]'s fields: values, little-endian, and a crc u32 of the
//! section's number and values
//! ```
//! The header says how many values each section has, so the length of the whole file is known before
//! anything is read. A file comes to its name whole: it is written under another, synced and renamed.
//!
//! Cost: as many bytes written, or read, as the snapshot has, in pieces of [`PIECE_BYTES`].

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::directory::sync_folder;
use crate::engine::graph::Lists;
use crate::engine::refresh::{Stale, Staleness};
use crate::engine::snapshot::Snapshot;
use crate::face::{CollectionName, NodeId, Timestamp};
use crate::failpoint;
use crate::model::Shape;

const MAGIC: &[u8; 8] = b"facetd-s";
const VERSION: u32 = 1;
/// Magic, version and the length of the header.
const PREFIX_BYTES: usize = 16;
/// A longer header is none of ours.
const MOST_HEADER_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
const PIECE_BYTES: usize = 1 << 20;

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("cannot read it: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is not a snapshot of facetd")]
    NotOurs,
    #[error("it has version {found}, this facetd reads {VERSION}: a newer facetd wrote it")]
    NewerVersion { found: u32 },
    #[error("it has version {found}, this facetd reads {VERSION}")]
    OlderVersion { found: u32 },
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is of another state, {found}")]
    OtherState { found: String },
    #[error("it was cut with another model, {found:.12}…")]
    OtherModel { found: String },
    #[error("it was cut after commit {found}, and the state has not come so far")]
    Ahead { found: u64 },
    #[error("it says that it is of collection {collection}, commit {sequence}")]
    OtherName { collection: CollectionName, sequence: u64 },
}

/// Whose snapshot it is and how long. Numbers as they are written: none is believed before the length
/// of the file agrees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    state_uuid: String,
    model: String,
    collection: CollectionName,
    sequence: u64,
    dimension: u64,
    hop1: u64,
    hop2: u64,
    now: Timestamp,
    rules: [u8; 32],
    slots: u64,
    /// Entries of all neighbourhoods.
    held: u64,
    stale: u64,
}

/// A snapshot's place in the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    pub collection: CollectionName,
    /// The commit after which it was cut.
    pub sequence: u64,
}

impl SnapshotName {
    fn file(&self) -> String {
        // Of one length, so that a listing shows their order.
        format!("{}.{:020}.snapshot", self.collection, self.sequence)
    }

    /// A collection's name may contain dots, a sequence does not.
    fn parse(name: &str) -> Option<SnapshotName> {
        let (collection, sequence) = name.strip_suffix(".snapshot")?.rsplit_once('.')?;
        Some(SnapshotName { collection: CollectionName::new(collection).ok()?, sequence: sequence.parse().ok()? })
    }
}

/// The snapshots of a state directory. Cheap to clone, for the thread that writes.
#[derive(Debug, Clone)]
pub struct Snapshots {
    pub(super) folder: PathBuf,
    pub(super) state_uuid: String,
    /// Fingerprint of the model that is in use.
    pub(super) model: String,
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Found {
    pub sequence: u64,
    pub snapshot: Snapshot,
}

impl Snapshots {
    /// Every snapshot there is, whether or not it can be used, the oldest of a collection first.
    pub fn names(&self) -> Result<Vec<SnapshotName>, StoreError> {
        let mut names: Vec<SnapshotName> =
            self.files()?.iter().filter_map(|file| SnapshotName::parse(file.to_str()?)).collect();
        names.sort();
        Ok(names)
    }

    fn files(&self) -> Result<Vec<std::ffi::OsString>, StoreError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io(&self.folder))?,
        };
        entries.map(|entry| Ok(entry.map_err(StoreError::io(&self.folder))?.file_name())).collect()
    }

    fn path(&self, name: &SnapshotName) -> PathBuf {
        self.folder.join(name.file())
    }

    /// Of `names`, as [`Snapshots::names`] gives them, the newest snapshot of a collection that can be used by a
    /// state that has come to commit `upto`. Each that cannot is told of.
    pub fn newest(&self, collection: &CollectionName, names: &[SnapshotName], upto: u64) -> Option<Found> {
        let first = names.partition_point(|name| name.collection < *collection);
        let end = names.partition_point(|name| name.collection <= *collection);
        for name in names[first..end].iter().rev() {
            match self.read(name, upto) {
                Ok(snapshot) => return Some(Found { sequence: name.sequence, snapshot }),
                Err(reason) => {
                    let file = self.path(name);
                    tracing::warn!(file = %file.display(), %reason, "cannot use a snapshot");
                }
            }
        }
        None
    }

    /// Reads a snapshot. Everything in it is verified.
    pub fn read(&self, name: &SnapshotName, upto: u64) -> Result<Snapshot, Unusable> {
        let file = File::open(self.path(name))?;
        let length = file.metadata()?.len();
        self.read_from(file, length, name, upto)
    }

    /// Reads a snapshot from a file of `length` bytes.
    pub(super) fn read_from(
        &self,
        mut file: impl Read,
        length: u64,
        name: &SnapshotName,
        upto: u64,
    ) -> Result<Snapshot, Unusable> {
        let header = read_header(&mut file, length)?;
        if header.state_uuid != self.state_uuid {
            return Err(Unusable::OtherState { found: header.state_uuid });
        }
        if header.model != self.model {
            return Err(Unusable::OtherModel { found: header.model });
        }
        if header.collection != name.collection || header.sequence != name.sequence {
            return Err(Unusable::OtherName { collection: header.collection, sequence: header.sequence });
        }
        if header.sequence > upto {
            return Err(Unusable::Ahead { found: header.sequence });
        }
        let snapshot = read_sections(file, &header)?;
        snapshot.check().map_err(Unusable::Damaged)?;
        Ok(snapshot)
    }

    /// Writes a snapshot and removes those of its collection that it replaces: all but the one cut after
    /// commit `keep`. This operation is atomic: see the head of this file. It ends early, and changes
    /// nothing, once `is_abandoned`. Answers the bytes of the file, none if it was abandoned.
    pub fn write(
        &self,
        name: &SnapshotName,
        snapshot: &Snapshot,
        keep: Option<u64>,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, StoreError> {
        self.make_folder()?;
        let path = self.path(name);
        let unfinished = self.folder.join(format!("{}.tmp", name.file()));
        let written = self.write_file(&unfinished, name, snapshot, is_abandoned).map_err(StoreError::io(&unfinished));
        let bytes = match written {
            Ok(Some(bytes)) if !is_abandoned() => bytes,
            not_whole => {
                // What is left of it is removed at the next opening at the latest.
                let _ = std::fs::remove_file(&unfinished);
                return not_whole.map(|_| None);
            }
        };
        std::fs::rename(&unfinished, &path).map_err(StoreError::io(&path))?;
        sync_folder(&self.folder)?;
        failpoint::reached("snapshot::renamed");
        self.remove_where(|other| {
            other.collection == name.collection && other != name && Some(other.sequence) != keep
        })?;
        failpoint::reached("snapshot::old_removed");
        Ok(Some(bytes))
    }

    fn write_file(
        &self,
        path: &Path,
        name: &SnapshotName,
        snapshot: &Snapshot,
        is_abandoned: &dyn Fn() -> bool,
    ) -> std::io::Result<Option<u64>> {
        failpoint::refused("snapshot::write")?;
        let file = File::create(path)?;
        let header = self.header(name, snapshot);
        let mut out = Sections { file, number: 0, bytes: 0, is_abandoned };
        out.header(&header)?;
        out.section(&snapshot.arrivals, |value| value.to_le_bytes())?;
        out.section(&snapshot.enhanced, |value| value.to_le_bytes())?;
        out.section(&snapshot.lists.lengths, |value| value.to_le_bytes())?;
        out.section(&snapshot.lists.flags, |value| value.to_le_bytes())?;
        out.section(&snapshot.lists.searched_at, |value| value.to_le_bytes())?;
        out.section(&snapshot.lists.nodes, |value| value.to_le_bytes())?;
        out.section(&snapshot.lists.similarities, |value| value.to_le_bytes())?;
        out.section(&snapshot.components, |value| value.to_le_bytes())?;
        out.section(&snapshot.clusters, |value| value.to_le_bytes())?;
        out.section(&snapshot.stale, stale_to_bytes)?;
        if is_abandoned() {
            return Ok(None);
        }
        failpoint::reached("snapshot::written");
        out.file.sync_all()?;
        failpoint::reached("snapshot::synced");
        Ok(Some(out.bytes))
    }

    fn header(&self, name: &SnapshotName, snapshot: &Snapshot) -> Header {
        Header {
            state_uuid: self.state_uuid.clone(),
            model: self.model.clone(),
            collection: name.collection.clone(),
            sequence: name.sequence,
            dimension: snapshot.shape.dimension as u64,
            hop1: snapshot.shape.hop1 as u64,
            hop2: snapshot.shape.hop2 as u64,
            now: snapshot.now,
            rules: snapshot.rules,
            slots: snapshot.slots() as u64,
            held: snapshot.lists.nodes.len() as u64,
            stale: snapshot.stale.len() as u64,
        }
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        match std::fs::create_dir(&self.folder) {
            Ok(()) => self.folder.parent().map_or(Ok(()), sync_folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(StoreError::Io { path: self.folder.clone(), source }),
        }
    }

    /// Removes the snapshots that `is_unwanted`, and returns when that is on disk.
    pub fn remove_where(&self, is_unwanted: impl Fn(&SnapshotName) -> bool) -> Result<(), StoreError> {
        let unwanted: Vec<SnapshotName> = self.names()?.into_iter().filter(|name| is_unwanted(name)).collect();
        for name in &unwanted {
            remove_file(&self.path(name))?;
        }
        if unwanted.is_empty() { Ok(()) } else { sync_folder(&self.folder) }
    }

    /// Removes what no opened state that has come to commit `upto` needs: files that were not finished,
    /// snapshots of collections that are not `there`, and those of a time that this state has not seen,
    /// which it would take for its own once it came so far.
    pub(super) fn clear_up(&self, there: impl Fn(&CollectionName) -> bool, upto: u64) -> Result<(), StoreError> {
        for file in self.files()? {
            if file.to_str().is_some_and(|name| name.ends_with(".snapshot.tmp")) {
                remove_file(&self.folder.join(&file))?;
            }
        }
        for name in self.names()?.iter().filter(|name| name.sequence > upto) {
            let (file, reason) = (self.path(name), Unusable::Ahead { found: name.sequence });
            tracing::warn!(file = %file.display(), %reason, "cannot use a snapshot, so it is removed");
        }
        self.remove_where(|name| name.sequence > upto || !there(&name.collection))
    }

    /// Bytes of all of them. Those that go meanwhile count nothing.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let sizes = self.names()?.into_iter().filter_map(|name| std::fs::metadata(self.path(&name)).ok());
        Ok(sizes.map(|found| found.len()).sum())
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::Io { path: path.to_path_buf(), source: error })
        }
        _ => Ok(()),
    }
}

/// A snapshot file on its way to the disk.
struct Sections<'a> {
    file: File,
    number: u8,
    bytes: u64,
    is_abandoned: &'a dyn Fn() -> bool,
}

impl Sections<'_> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn header(&mut self, header: &Header) -> std::io::Result<()> {
        let header = postcard::to_stdvec(header).expect("a header is plain data, which postcard always writes");
        let prefix = [&MAGIC[..], &VERSION.to_le_bytes(), &(header.len() as u32).to_le_bytes()].concat();
        let bytes = [prefix, header].concat();
        self.put(&bytes)?;
        self.put(&crc32fast::hash(&bytes).to_le_bytes())
    }

    fn section<T, const WIDTH: usize>(
        &mut self,
        values: &[T],
        to_bytes: impl Fn(&T) -> [u8; WIDTH],
    ) -> std::io::Result<()> {
        let mut hasher = hasher_of(self.number);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        for values in values.chunks(PIECE_BYTES / WIDTH) {
            if (self.is_abandoned)() {
                return Ok(());
            }
            piece.clear();
            piece.extend(values.iter().flat_map(&to_bytes));
            hasher.update(&piece);
            self.put(&piece)?;
        }
        self.number += 1;
        self.put(&hasher.finalize().to_le_bytes())
    }
}

/// Of a section: it is not found under another's number.
fn hasher_of(section: u8) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[section]);
    hasher
}

const STALE_BYTES: usize = 17;

fn stale_to_bytes(stale: &Stale) -> [u8; STALE_BYTES] {
    let Staleness { change, enhanced, since } = stale.staleness;
    let mut bytes = [0; STALE_BYTES];
    bytes[..4].copy_from_slice(&stale.node.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&change.to_le_bytes());
    bytes[8] = u8::from(enhanced);
    bytes[9..].copy_from_slice(&since.0.to_le_bytes());
    bytes
}

fn stale_from_bytes(bytes: [u8; STALE_BYTES]) -> Stale {
    let [n0, n1, n2, n3, c0, c1, c2, c3, enhanced, since @ ..] = bytes;
    Stale {
        node: NodeId(u32::from_le_bytes([n0, n1, n2, n3])),
        staleness: Staleness {
            change: f32::from_le_bytes([c0, c1, c2, c3]),
            enhanced: enhanced != 0,
            since: Timestamp(i64::from_le_bytes(since)),
        },
    }
}

/// Reads the header of a file of `length` bytes, and sees that the sections it speaks of fill that file.
fn read_header(file: &mut impl Read, length: u64) -> Result<Header, Unusable> {
    let mut bytes = vec![0; PREFIX_BYTES];
    file.read_exact(&mut bytes).map_err(|_| Unusable::NotOurs)?;
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if !bytes.starts_with(MAGIC) {
        return Err(Unusable::NotOurs);
    }
    match number(8) {
        VERSION => {}
        found if found > VERSION => return Err(Unusable::NewerVersion { found }),
        found => return Err(Unusable::OlderVersion { found }),
    }
    let header_bytes = number(12) as usize;
    if header_bytes > MOST_HEADER_BYTES {
        return Err(Unusable::Damaged("its header is too long"));
    }
    let end = PREFIX_BYTES + header_bytes;
    bytes.resize(end + CRC_BYTES, 0);
    file.read_exact(&mut bytes[PREFIX_BYTES..]).map_err(|_| Unusable::Damaged("its header is cut off"))?;
    if crc32fast::hash(&bytes[..end]).to_le_bytes() != bytes[end..] {
        return Err(Unusable::Damaged("the checksum of its header does not match"));
    }
    let header: Header =
        postcard::from_bytes(&bytes[PREFIX_BYTES..end]).map_err(|_| Unusable::Damaged("its header"))?;
    match sections_bytes(&header).and_then(|sections| sections.checked_add((end + CRC_BYTES) as u64)) {
        Some(expected) if expected == length => Ok(header),
        _ => Err(Unusable::Damaged("it is not as long as its header says")),
    }
}

/// Bytes of all sections; none when no file could hold them.
fn sections_bytes(header: &Header) -> Option<u64> {
    let Header { dimension, slots, held, stale, .. } = *header;
    let a_node = dimension.checked_mul(4)?.checked_add(8 + 2 + 1 + 8 + 4 + 8)?;
    let nodes = slots.checked_mul(a_node)?;
    let sections = 10 * CRC_BYTES as u64;
    nodes.checked_add(held.checked_mul(8)?)?.checked_add(stale.checked_mul(STALE_BYTES as u64)?)?.checked_add(sections)
}

fn read_sections(file: impl Read, header: &Header) -> Result<Snapshot, Unusable> {
    let Header { dimension, hop1, hop2, now, rules, slots, held, stale, .. } = *header;
    // They are not more than the file is long.
    let [slots, held, stale] = [slots, held, stale].map(|count| count as usize);
    let shape = Shape { dimension: dimension as usize, hop1: hop1 as usize, hop2: hop2 as usize };
    let mut sections = ReadSections { file, number: 0 };
    Ok(Snapshot {
        shape,
        now,
        rules,
        arrivals: sections.next(slots, u64::from_le_bytes)?,
        enhanced: sections.next(slots * shape.dimension, f32::from_le_bytes)?,
        lists: Lists {
            lengths: sections.next(slots, u16::from_le_bytes)?,
            flags: sections.next(slots, u8::from_le_bytes)?,
            searched_at: sections.next(slots, u64::from_le_bytes)?,
            nodes: sections.next(held, u32::from_le_bytes)?,
            similarities: sections.next(held, f32::from_le_bytes)?,
        },
        components: sections.next(slots, u32::from_le_bytes)?,
        clusters: sections.next(slots, u64::from_le_bytes)?,
        stale: sections.next(stale, stale_from_bytes)?,
    })
}

/// A snapshot file on its way from the disk.
struct ReadSections<R> {
    file: R,
    number: u8,
}

impl<R: Read> ReadSections<R> {
    fn next<T, const WIDTH: usize>(
        &mut self,
        count: usize,
        from_bytes: impl Fn([u8; WIDTH]) -> T,
    ) -> Result<Vec<T>, Unusable> {
        let mut hasher = hasher_of(self.number);
        self.number += 1;
        let mut values = Vec::with_capacity(count);
        let most = PIECE_BYTES / WIDTH;
        let mut piece = vec![0; most.min(count) * WIDTH];
        while values.len() < count {
            let piece = &mut piece[..most.min(count - values.len()) * WIDTH];
            self.file.read_exact(piece)?;
            hasher.update(piece);
            let (words, _) = piece.as_chunks::<WIDTH>();
            values.extend(words.iter().map(|&word| from_bytes(word)));
        }
        let mut crc = [0; CRC_BYTES];
        self.file.read_exact(&mut crc)?;
        match hasher.finalize().to_le_bytes() == crc {
            true => Ok(values),
            false => Err(Unusable::Damaged("the checksum of a section does not match")),
        }
    }
}

/// The file with its checksums put right, as far as its header says where they are.
#[cfg(feature = "fuzzing")]
pub(super) fn resealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = bytes.to_vec();
    let length = u32::from_le_bytes(*bytes.get(12..PREFIX_BYTES)?.first_chunk()?) as usize;
    let end = PREFIX_BYTES + length;
    let crc = crc32fast::hash(file.get(..end)?);
    file.get_mut(end..end + CRC_BYTES)?.copy_from_slice(&crc.to_le_bytes());
    let header: Header = postcard::from_bytes(&file[PREFIX_BYTES..end]).ok()?;
    let Header { dimension, slots, held, stale, .. } = header;
    let [a, g, lists, nodes] = [(slots, 8), (slots.checked_mul(dimension)?, 4), (slots, 2), (held, 4)];
    let sections =
        [a, g, lists, (slots, 1), (slots, 8), nodes, nodes, (slots, 4), (slots, 8), (stale, STALE_BYTES as u64)];
    let mut start = end + CRC_BYTES;
    for (number, (count, width)) in (0..).zip(sections) {
        let end = start.checked_add(usize::try_from(count.checked_mul(width)?).ok()?)?;
        let mut hasher = hasher_of(number);
        hasher.update(file.get(start..end)?);
        start = end.checked_add(CRC_BYTES)?;
        file.get_mut(end..start)?.copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    Some(file)
}
