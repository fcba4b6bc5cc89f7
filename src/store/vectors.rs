//! The vector file of a collection: embeddings, append-only, in records of one size.
//!
//! ```text
//! header, 32 bytes    magic "facetd-v", format u32, dimension u32, generation u64, crc u32, zero u32
//! record, 4 d + 8     node u32, d values f32, crc u32 over the record's number, node and values
//! ```
//! All little-endian. The last record of a node is its embedding; earlier ones, and those of nodes
//! that no face has, are dead until the live ones are written to the file of the next generation.
//!
//! sled says which generation counts and how many records of it; what lies beyond is a commit that
//! did not happen, and opening cuts it off. A file of no records need not be there. Reading maps the
//! file and makes one pass. No file is kept open: there may be more collections than descriptors.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::StoreError;
use super::directory::sync_folder;
use crate::engine::changes::NewVector;
use crate::face::{Arrival, Embedding, NodeId};
use crate::failpoint;

const MAGIC: &[u8; 8] = b"facetd-v";
const FORMAT: u32 = 2;
pub const HEADER_BYTES: usize = 32;
const NODE_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
/// Written at once when a file is written anew.
const WRITE_BYTES: usize = 1 << 20;

/// One writing of a collection's embeddings on disk.
#[derive(Debug)]
pub struct VectorFile {
    pub path: PathBuf,
    pub dimension: usize,
    pub generation: u64,
    /// How many records count.
    pub records: u64,
}

impl VectorFile {
    /// Sees that the file holds what counts, and cuts off what does not.
    pub fn recover(&self) -> Result<(), StoreError> {
        let io = StoreError::io(&self.path);
        if self.records == 0 {
            // Whatever is there is of a commit that did not happen; the next one starts it anew.
            return Ok(());
        }
        if !self.path.exists() {
            return Err(self.damaged("it is not there".to_string()));
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(&io)?;
        let (found, expected) = (file.metadata().map_err(&io)?.len(), self.end());
        if found < expected {
            return Err(self.damaged(format!("it has {found} bytes, {} records need {expected}", self.records)));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(&io)?;
        self.check_header(&header)?;
        if found > expected {
            tracing::info!(path = %self.path.display(), bytes = found - expected, "cutting off a commit that did not happen");
            file.set_len(expected).and_then(|()| file.sync_all()).map_err(&io)?;
        }
        Ok(())
    }

    /// Appends vectors, starting the file when they are the first, and returns when they are on
    /// disk. They count once the caller says so.
    pub fn append(&self, vectors: &[NewVector]) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + vectors.len() * self.record_bytes());
        if self.records == 0 {
            bytes.extend(self.header());
        }
        for (number, vector) in (self.records..).zip(vectors) {
            let start = bytes.len();
            bytes.extend(vector.node.0.to_le_bytes());
            bytes.extend(vector.embedding.values().iter().flat_map(|value| value.to_le_bytes()));
            let crc = checksum(number, &bytes[start..]);
            bytes.extend(crc.to_le_bytes());
        }
        let io = StoreError::io(&self.path);
        failpoint::refused("vectors::append").map_err(&io)?;
        if self.records == 0 {
            let mut file = File::create(&self.path).map_err(&io)?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(&io)?;
            return self.path.parent().map_or(Ok(()), sync_folder);
        }
        let mut file = OpenOptions::new().write(true).open(&self.path).map_err(&io)?;
        file.seek(SeekFrom::Start(self.end())).map_err(&io)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(&io)
    }

    /// The embeddings of the nodes that live. Every record's checksum is verified, that of dead
    /// ones too: a damaged record may have been anybody's.
    pub fn read(&self, lives: impl Fn(NodeId) -> bool) -> Result<HashMap<NodeId, Embedding>, StoreError> {
        match self.map()? {
            Some(map) => self.read_from(&map, lives),
            None => Ok(HashMap::new()),
        }
    }

    /// Reads a file of these bytes.
    pub(super) fn read_from(
        &self,
        map: &[u8],
        lives: impl Fn(NodeId) -> bool,
    ) -> Result<HashMap<NodeId, Embedding>, StoreError> {
        self.check(map)?;
        let mut values = vec![0.0f32; self.dimension];
        let mut embeddings = HashMap::new();
        for (node, number) in self.last_records(map, lives)? {
            let row = &self.record(map, number)[NODE_BYTES..];
            let (words, _) = row.as_chunks::<4>();
            for (value, word) in values.iter_mut().zip(words) {
                *value = f32::from_le_bytes(*word);
            }
            embeddings.insert(node, Embedding::from_normalised(&values));
        }
        Ok(embeddings)
    }

    /// Reads what can be read, of the nodes that live, and tells what cannot. Changes nothing.
    pub fn survey(&self, lives: impl Fn(NodeId) -> bool) -> Result<Survey, StoreError> {
        let io = StoreError::io(&self.path);
        let found = match std::fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(error)),
        };
        if self.records == 0 || found == 0 {
            return Ok(self.survey_of(&[], lives));
        }
        let map = map(&File::open(&self.path).map_err(&io)?).map_err(&io)?;
        Ok(self.survey_of(&map, lives))
    }

    /// As [`VectorFile::survey`], of a file of these bytes.
    pub(super) fn survey_of(&self, bytes: &[u8], lives: impl Fn(NodeId) -> bool) -> Survey {
        let mut survey = Survey::default();
        if self.records == 0 {
            return survey;
        }
        let found = bytes.len() as u64;
        if found == 0 {
            survey.wrong.push("it is not there, or empty".to_string());
        } else if found < self.end() {
            survey.wrong.push(format!("it has {found} bytes, {} records need {}", self.records, self.end()));
        }
        survey.beyond = found.saturating_sub(self.end());
        // How many records there are is believed only as far as the file goes.
        let there = found.saturating_sub(HEADER_BYTES as u64) / self.record_bytes() as u64;
        survey.missing = self.records.saturating_sub(there);
        if found > 0 && !bytes.starts_with(&self.header()) {
            survey.wrong.push(format!("its header is not that of vectors of {} values", self.dimension));
        }
        for number in 0..self.records.min(there) {
            let record = self.record(bytes, number);
            let (body, crc) = record.split_at(record.len() - CRC_BYTES);
            if crc != checksum(number, body).to_le_bytes() {
                survey.damaged.push(DamagedRecord { number, bytes: record.to_vec() });
                continue;
            }
            let (node, values) = split(body);
            if lives(node) {
                survey.embeddings.insert(node, Surveyed { number, embedding: Embedding::from_normalised(&values) });
            }
        }
        survey
    }

    /// Writes the embeddings of the nodes that live to `path`, in the order they have here, as the
    /// next generation, and returns it when it is on disk. Memory: O(nodes), not O(bytes).
    pub fn rewrite(&self, path: PathBuf, lives: impl Fn(NodeId) -> bool) -> Result<VectorFile, StoreError> {
        let mut next = VectorFile { path, dimension: self.dimension, generation: self.generation + 1, records: 0 };
        let Some(map) = self.map()? else { return Ok(next) };
        let mut live: Vec<u64> = self.last_records(&map, lives)?.into_values().collect();
        live.sort_unstable();
        next.records = live.len() as u64;
        if !live.is_empty() {
            next.write(live.into_iter().map(|number| self.body(&map, number)))?;
        }
        Ok(next)
    }

    /// Writes the whole file: these records, without their checksums yet, and no others.
    fn write<'a>(&self, bodies: impl Iterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        let io = StoreError::io(&self.path);
        let mut out = BufWriter::with_capacity(WRITE_BYTES, File::create(&self.path).map_err(&io)?);
        out.write_all(&self.header()).map_err(&io)?;
        for (number, body) in (0..).zip(bodies) {
            out.write_all(body).and_then(|()| out.write_all(&checksum(number, body).to_le_bytes())).map_err(&io)?;
        }
        out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(&io)?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }

    /// The number of the last record of every node that lives. Verifies every record.
    fn last_records(&self, map: &[u8], lives: impl Fn(NodeId) -> bool) -> Result<HashMap<NodeId, u64>, StoreError> {
        let mut last = HashMap::new();
        for number in 0..self.records {
            let (body, crc) = self.record(map, number).split_at(self.record_bytes() - CRC_BYTES);
            if crc != checksum(number, body).to_le_bytes() {
                return Err(self.damaged(format!("the checksum of record {number} does not match")));
            }
            let (node, _) = body.split_first_chunk().expect("a record begins with its node");
            let node = NodeId(u32::from_le_bytes(*node));
            if lives(node) {
                last.insert(node, number);
            }
        }
        Ok(last)
    }

    /// The file, mapped; `None` when nothing in it counts.
    fn map(&self) -> Result<Option<memmap2::Mmap>, StoreError> {
        if self.records == 0 {
            return Ok(None);
        }
        let io = StoreError::io(&self.path);
        let map = map(&File::open(&self.path).map_err(&io)?).map_err(&io)?;
        self.check(&map)?;
        Ok(Some(map))
    }

    /// Whether the file begins as it should, and is as long as what counts.
    fn check(&self, map: &[u8]) -> Result<(), StoreError> {
        self.check_header(map)?;
        let (found, expected) = (map.len() as u64, self.end());
        match found < expected {
            true => Err(self.damaged(format!("it has {found} bytes, {} records need {expected}", self.records))),
            false => Ok(()),
        }
    }

    fn check_header(&self, map: &[u8]) -> Result<(), StoreError> {
        match map.starts_with(&self.header()) {
            true => Ok(()),
            false => Err(self.damaged(format!("its header is not that of vectors of {} values", self.dimension))),
        }
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..16].copy_from_slice(&(self.dimension as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.generation.to_le_bytes());
        let crc = crc32fast::hash(&header[..24]);
        header[24..28].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn record<'a>(&self, map: &'a [u8], number: u64) -> &'a [u8] {
        let bytes = self.record_bytes();
        &map[HEADER_BYTES + number as usize * bytes..][..bytes]
    }

    /// A record without its checksum.
    fn body<'a>(&self, map: &'a [u8], number: u64) -> &'a [u8] {
        &self.record(map, number)[..self.record_bytes() - CRC_BYTES]
    }

    fn record_bytes(&self) -> usize {
        record_bytes(self.dimension)
    }

    /// Bytes of what counts.
    pub fn end(&self) -> u64 {
        // No file is as long as the longest of all numbers.
        self.records.saturating_mul(self.record_bytes() as u64).saturating_add(HEADER_BYTES as u64)
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }
}

/// What is left of a file.
#[derive(Debug, Default)]
pub struct Survey {
    /// Of live nodes, the last that can be read.
    pub embeddings: HashMap<NodeId, Surveyed>,
    pub damaged: Vec<DamagedRecord>,
    /// How many records the file ends before.
    pub missing: u64,
    /// What is wrong with the file as a whole.
    pub wrong: Vec<String>,
    /// Bytes of a commit that did not happen.
    pub beyond: u64,
}

/// An embedding and the record it stands in.
#[derive(Debug, Clone)]
pub struct Surveyed {
    pub number: u64,
    pub embedding: Embedding,
}

/// A record whose checksum does not match.
#[derive(Debug)]
pub struct DamagedRecord {
    pub number: u64,
    pub bytes: Vec<u8>,
}

impl Survey {
    /// The live faces whose embedding is not there, or may not be the one it should be, because a
    /// damaged record may have held it. `faces`: those that live, with their arrivals.
    ///
    /// Where as many have no embedding as records are damaged, each of these was one of them. Where
    /// fewer have none, some damaged records were dead, or held what took the place of an embedding
    /// that can still be read: then so may be the face the damaged record names, and any that came
    /// later than others whose records follow its own.
    pub fn victims(&self, faces: &[(NodeId, Arrival)]) -> HashSet<NodeId> {
        let has_none = faces.iter().map(|&(node, _)| node).filter(|node| !self.embeddings.contains_key(node));
        let mut victims: HashSet<NodeId> = has_none.collect();
        let damaged = self.missing.saturating_add(self.damaged.len() as u64);
        if damaged == victims.len() as u64 {
            return victims;
        }
        // Those that are missing are behind all others.
        let last = if self.missing > 0 { u64::MAX } else { self.damaged.last().map_or(0, |damaged| damaged.number) };
        for DamagedRecord { number, bytes } in &self.damaged {
            let (node, _) = split(bytes);
            if self.embeddings.get(&node).is_some_and(|surveyed| surveyed.number < *number) {
                victims.insert(node);
            }
        }
        let mut by_record: Vec<(u64, Arrival, NodeId)> = faces
            .iter()
            .filter_map(|&(node, arrival)| Some((self.embeddings.get(&node)?.number, arrival, node)))
            .collect();
        by_record.sort_unstable_by_key(|&(number, ..)| std::cmp::Reverse(number));
        let mut earliest_after = Arrival(u64::MAX);
        for (number, arrival, node) in by_record {
            if arrival > earliest_after && number < last {
                victims.insert(node);
            }
            earliest_after = earliest_after.min(arrival);
        }
        victims
    }
}

/// The node and the values of a record without its checksum.
fn split(body: &[u8]) -> (NodeId, Vec<f32>) {
    let (node, row) = body.split_first_chunk().expect("a record begins with its node");
    let values = row.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
    (NodeId(u32::from_le_bytes(*node)), values.collect())
}

/// The size of a record of `dimension` values.
pub fn record_bytes(dimension: usize) -> usize {
    NODE_BYTES + dimension * 4 + CRC_BYTES
}

fn checksum(number: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The file with its checksums put right.
#[cfg(feature = "fuzzing")]
pub(super) fn resealed(file: &[u8], dimension: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    if let Some(header) = file.first_chunk_mut::<HEADER_BYTES>() {
        let crc = crc32fast::hash(&header[..24]);
        header[24..28].copy_from_slice(&crc.to_le_bytes());
    }
    let records = file.get_mut(HEADER_BYTES..).unwrap_or_default().chunks_exact_mut(record_bytes(dimension));
    for (number, record) in (0..).zip(records) {
        let (body, crc) = record.split_at_mut(record_bytes(dimension) - CRC_BYTES);
        crc.copy_from_slice(&checksum(number, body).to_le_bytes());
    }
    file
}

/// The one place with unsafe code. Sound as long as nobody shortens the file while it is mapped:
/// the state directory is locked, and this process shortens a file only when it opens the directory.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: see above.
    unsafe { memmap2::Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DIMENSION: usize = 3;

    fn vector(node: u32, values: [f32; DIMENSION]) -> NewVector {
        NewVector { node: NodeId(node), embedding: Embedding::from_normalised(&values) }
    }

    /// Three records: node 4, node 0, node 4 again.
    fn written(folder: &Path) -> VectorFile {
        let mut file = VectorFile { path: folder.join("a.1.vectors"), dimension: DIMENSION, generation: 1, records: 0 };
        file.append(&[vector(4, [1.0, 0.0, 0.0]), vector(0, [0.0, 1.0, 0.0])]).unwrap();
        file.records = 2;
        file.append(&[vector(4, [0.0, 0.6, 0.8])]).unwrap();
        file.records = 3;
        file.recover().unwrap();
        file
    }

    fn values(file: &VectorFile, node: u32) -> Option<Vec<f32>> {
        file.read(|_| true).unwrap().get(&NodeId(node)).map(|embedding| embedding.values().to_vec())
    }

    #[test]
    fn the_last_record_of_a_live_node_is_its_embedding() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        assert_eq!(values(&file, 4).unwrap(), [0.0, 0.6, 0.8]);
        assert_eq!(values(&file, 0).unwrap(), [0.0, 1.0, 0.0]);
        assert_eq!(values(&file, 1), None);
        assert!(file.read(|node| node == NodeId(1)).unwrap().is_empty());
        assert_eq!(values(&VectorFile { records: 2, ..file }, 4).unwrap(), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn rewriting_keeps_what_lives_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        let rewritten = file.rewrite(folder.path().join("a.2.vectors"), |node| node == NodeId(4)).unwrap();
        assert_eq!((rewritten.generation, rewritten.records), (2, 1));
        rewritten.recover().unwrap();
        assert_eq!(std::fs::metadata(&rewritten.path).unwrap().len(), rewritten.end());
        assert_eq!(values(&rewritten, 4).unwrap(), [0.0, 0.6, 0.8]);
        assert_eq!(values(&rewritten, 0), None);
        let empty = rewritten.rewrite(folder.path().join("a.3.vectors"), |_| false).unwrap();
        assert_eq!(empty.records, 0);
        assert!(!empty.path.exists(), "a file of no records need not be there");
    }

    #[test]
    fn what_lies_beyond_the_commit_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        let torn = [std::fs::read(&file.path).unwrap(), vec![7; 5]].concat();
        std::fs::write(&file.path, torn).unwrap();
        let committed = VectorFile { records: 2, ..file };
        committed.recover().unwrap();
        assert_eq!(std::fs::metadata(&committed.path).unwrap().len(), committed.end());
        assert_eq!(committed.read(|_| true).unwrap().len(), 2);
    }

    #[test]
    fn damage_is_named_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = written(folder.path());
        let whole = std::fs::read(&file.path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&file.path, bytes).unwrap();
            let error = file.recover().and_then(|()| file.read(|_| true)).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "byte {place}: {error}");
        }
        std::fs::write(&file.path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(file.recover(), Err(StoreError::Damaged { .. })));
        std::fs::remove_file(&file.path).unwrap();
        assert!(matches!(file.recover(), Err(StoreError::Damaged { .. })));
    }
}
