//! The vector file of a collection: embeddings, append-only, in records of one size.
//!
//! ```text
//! header, 32 bytes    magic "facetd-v", format u32, dimension u32, generation u64, crc u32, zero u32
//! record, 4 d + 4     d values f32, crc u32 over the record's number and values
//! ```
//! All little-endian. sled says how many records count; what lies beyond is a commit that did not
//! happen, and opening cuts it off. Reading maps the file.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::directory::sync_folder;
use super::records::{CollectionRecord, FIRST_GENERATION};
use crate::face::Embedding;

const MAGIC: &[u8; 8] = b"facetd-v";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// One collection's embeddings on disk.
pub struct VectorFile {
    file: File,
    path: PathBuf,
    dimension: usize,
    generation: u64,
    records: u64,
}

impl VectorFile {
    /// Starts a file, over whatever a commit that did not happen left there.
    pub fn create(path: &Path, dimension: usize) -> Result<VectorFile, StoreError> {
        let io = |source| StoreError::Io { path: path.to_path_buf(), source };
        let mut file = options().create(true).truncate(true).open(path).map_err(io)?;
        file.write_all(&header(dimension, FIRST_GENERATION)).and_then(|()| file.sync_all()).map_err(io)?;
        path.parent().map_or(Ok(()), sync_folder)?;
        Ok(VectorFile { file, path: path.to_path_buf(), dimension, generation: FIRST_GENERATION, records: 0 })
    }

    /// Opens the file that sled's `record` speaks of.
    pub fn open(path: &Path, dimension: usize, record: &CollectionRecord) -> Result<VectorFile, StoreError> {
        let io = |source| StoreError::Io { path: path.to_path_buf(), source };
        let CollectionRecord { generation, faces: records, .. } = *record;
        if records == 0 && !path.exists() {
            return VectorFile::create(path, dimension);
        }
        let file = options().open(path).map_err(io)?;
        let mut vectors = VectorFile { file, path: path.to_path_buf(), dimension, generation, records };
        let found = vectors.file.metadata().map_err(io)?.len();
        let expected = vectors.end();
        if found < expected {
            return Err(vectors.damaged(format!("it has {found} bytes, {records} faces need {expected}")));
        }
        vectors.check_header()?;
        if found > expected {
            tracing::info!(path = %path.display(), bytes = found - expected, "cutting off a commit that did not happen");
            vectors.file.set_len(expected).and_then(|()| vectors.file.sync_all()).map_err(io)?;
        }
        vectors.file.seek(SeekFrom::Start(expected)).map_err(io)?;
        Ok(vectors)
    }

    /// Appends rows and returns when they are on disk.
    pub fn append<'a>(&mut self, rows: impl Iterator<Item = &'a [f32]>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        let mut records = self.records;
        for row in rows {
            let start = bytes.len();
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            let crc = checksum(records, &bytes[start..]);
            bytes.extend(crc.to_le_bytes());
            records += 1;
        }
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(io)?;
        self.records = records;
        Ok(())
    }

    /// Every embedding, by node. Each record's checksum is verified.
    pub fn read(&self) -> Result<Vec<Embedding>, StoreError> {
        let map = map(&self.file).map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        self.check_header()?;
        let records = map[HEADER_BYTES..].chunks_exact(self.record_bytes()).take(self.records as usize);
        let mut values = vec![0.0f32; self.dimension];
        let mut embeddings = Vec::with_capacity(self.records as usize);
        for (number, record) in (0u64..).zip(records) {
            let (row, crc) = record.split_at(self.dimension * 4);
            if crc != checksum(number, row).to_le_bytes() {
                return Err(self.damaged(format!("the checksum of record {number} does not match")));
            }
            let (words, _) = row.as_chunks::<4>();
            for (value, word) in values.iter_mut().zip(words) {
                *value = f32::from_le_bytes(*word);
            }
            embeddings.push(Embedding::from_normalised(&values));
        }
        Ok(embeddings)
    }

    fn check_header(&self) -> Result<(), StoreError> {
        let mut found = [0; HEADER_BYTES];
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        self.file.read_exact_at(&mut found, 0).map_err(io)?;
        match found == header(self.dimension, self.generation) {
            true => Ok(()),
            false => Err(self.damaged(format!("its header is not that of vectors of {} values", self.dimension))),
        }
    }

    fn record_bytes(&self) -> usize {
        self.dimension * 4 + CRC_BYTES
    }

    fn end(&self) -> u64 {
        HEADER_BYTES as u64 + self.records * self.record_bytes() as u64
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn header(dimension: usize, generation: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&(dimension as u32).to_le_bytes());
    header[16..24].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

fn checksum(number: u64, row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(row);
    hasher.finalize()
}

/// The one place with unsafe code. Sound as long as nobody shortens the file while it is mapped:
/// the state directory is locked, and this process only ever appends.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: see above.
    unsafe { memmap2::Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMENSION: usize = 3;

    fn rows() -> Vec<Vec<f32>> {
        vec![vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0], vec![0.0, 0.6, 0.8]]
    }

    fn faces(faces: u64) -> CollectionRecord {
        CollectionRecord { faces, ..CollectionRecord::new() }
    }

    fn written(folder: &Path) -> PathBuf {
        let path = folder.join("a.vectors");
        let mut file = VectorFile::create(&path, DIMENSION).unwrap();
        file.append(rows().iter().map(Vec::as_slice)).unwrap();
        path
    }

    #[test]
    fn what_was_appended_is_read_back_and_can_be_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let mut file = VectorFile::open(&path, DIMENSION, &faces(3)).unwrap();
        file.append([[0.8f32, 0.6, 0.0].as_slice()].into_iter()).unwrap();
        let read: Vec<Vec<f32>> = file.read().unwrap().iter().map(|e| e.values().to_vec()).collect();
        assert_eq!(read[..3], rows()[..]);
        assert_eq!(read[3], [0.8, 0.6, 0.0]);
    }

    #[test]
    fn what_lies_beyond_the_commit_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let torn = [std::fs::read(&path).unwrap(), vec![7; 5]].concat();
        std::fs::write(&path, torn).unwrap();
        let file = VectorFile::open(&path, DIMENSION, &faces(2)).unwrap();
        assert_eq!(file.read().unwrap().len(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), file.end());
    }

    #[test]
    fn damage_is_named_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            let opened = VectorFile::open(&path, DIMENSION, &faces(3));
            let error = opened.and_then(|file| file.read()).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "byte {place}: {error}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(VectorFile::open(&path, DIMENSION, &faces(3)), Err(StoreError::Damaged { .. })));
    }
}
