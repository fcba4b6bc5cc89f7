//! Features on disk: the embeddings and labels that the batch command, replay and training read.
//!
//! Two formats, told apart by the file's name: `.npy`, and anything else is learn-to-cluster's `.bin`
//! (<https://github.com/yli-1993/learn-to-cluster>), f32 rows without a header. A file is checked
//! against its length before anything is allocated for it, so the memory taken is the file's size.

mod labels;
mod npy;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "fuzzing")]
pub(crate) use labels::read_from as read_labels_from;
pub use labels::{read_labels, write_labels};
pub use npy::NpyError;

/// Embeddings as they lie in a file: row-major, neither checked nor normalised (see [`crate::face::Embedding`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    dimension: usize,
    values: Vec<f32>,
}

#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is empty, so there is nothing to cluster", path.display())]
    Empty { path: PathBuf },
    #[error("{} has no header that says how wide a row is: give --dimension", path.display())]
    NoDimension { path: PathBuf },
    #[error("a row of {} would be 0 wide: --dimension must be at least 1", path.display())]
    ZeroDimension { path: PathBuf },
    #[error(
        "{} is {bytes} bytes long, not a multiple of {dimension} f32 values: it was cut short, or --dimension is wrong",
        path.display()
    )]
    CutRow { path: PathBuf, bytes: u64, dimension: usize },
    #[error("rows of {} are {found} wide, not {expected}: leave --dimension out or correct it", path.display())]
    Dimension { path: PathBuf, expected: usize, found: usize },
    #[error("{} is an .npz, an archive of arrays: save the one of the embeddings with numpy.save", path.display())]
    Archive { path: PathBuf },
    #[error("{} cannot be read as .npy: {problem}", path.display())]
    Npy { path: PathBuf, problem: NpyError },
    #[error("line {line} of {} is not a whole number; a .meta file has one label a line", path.display())]
    Label { path: PathBuf, line: usize },
}

impl Features {
    /// `values` are rows of `dimension`; None when they do not come out even.
    pub fn new(dimension: usize, values: Vec<f32>) -> Option<Features> {
        (dimension > 0 && values.len().is_multiple_of(dimension)).then_some(Features { dimension, values })
    }

    /// Reads `.npy` or `.bin`. The latter needs a `dimension`; the former's, when given, must agree.
    pub fn read(path: &Path, dimension: Option<usize>) -> Result<Features, FeaturesError> {
        let cannot_read = |source| FeaturesError::Read { path: path.into(), source };
        let file = File::open(path).map_err(cannot_read)?;
        let metadata = file.metadata().map_err(cannot_read)?;
        if metadata.is_dir() {
            return Err(cannot_read(ErrorKind::IsADirectory.into()));
        }
        let bytes = metadata.len();
        if bytes == 0 {
            return Err(FeaturesError::Empty { path: path.into() });
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
            return Err(FeaturesError::Archive { path: path.into() });
        }
        if dimension == Some(0) {
            return Err(FeaturesError::ZeroDimension { path: path.into() });
        }
        Features::read_from(&mut BufReader::new(file), bytes, path, dimension)
    }

    /// Reads a file of `bytes` bytes, at least one, whose name is `path`.
    pub(crate) fn read_from(
        reader: &mut impl Read,
        bytes: u64,
        path: &Path,
        dimension: Option<usize>,
    ) -> Result<Features, FeaturesError> {
        if !is_npy(path) {
            let dimension = dimension.ok_or_else(|| FeaturesError::NoDimension { path: path.into() })?;
            let count = bytes / 4;
            if !bytes.is_multiple_of(4) || !count.is_multiple_of(dimension as u64) {
                return Err(FeaturesError::CutRow { path: path.into(), bytes, dimension });
            }
            let values = read_values(reader, count as usize, f32::from_le_bytes)
                .map_err(|source| FeaturesError::Read { path: path.into(), source })?;
            return Ok(Features { dimension, values });
        }

        let features = npy::read(reader, bytes).map_err(|problem| FeaturesError::Npy { path: path.into(), problem })?;
        match dimension {
            Some(expected) if expected != features.dimension => {
                Err(FeaturesError::Dimension { path: path.into(), expected, found: features.dimension })
            }
            _ => Ok(features),
        }
    }

    /// Writes `.npy` or `.bin`, by the name of `path`.
    pub fn write(&self, path: &Path) -> Result<(), FeaturesError> {
        let write = || {
            let mut writer = BufWriter::new(File::create(path)?);
            if is_npy(path) {
                writer.write_all(&npy::header(self.len(), self.dimension))?;
            }
            self.values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))?;
            writer.flush()
        };
        write().map_err(|source| FeaturesError::Write { path: path.into(), source })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimension..(row + 1) * self.dimension]
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

/// Reads `count` values of `WIDTH` bytes. The caller has held `count` against the file's length.
fn read_values<const WIDTH: usize>(
    reader: &mut impl Read,
    count: usize,
    value: impl Fn([u8; WIDTH]) -> f32,
) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut buffer = [0; 1 << 16];
    while values.len() < count {
        let wanted = ((count - values.len()) * WIDTH).min(buffer.len());
        reader.read_exact(&mut buffer[..wanted])?;
        values.extend(buffer[..wanted].as_chunks().0.iter().map(|&bytes| value(bytes)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        // More than one buffer of 64 KiB, and not a multiple of it.
        let features = Features::new(3, (0..3 * 10_001).map(|value| value as f32 / 7.0).collect()).unwrap();
        for name in ["f.bin", "f.npy", "F.NPY"] {
            let (_folder, path) = file(name, b"");
            features.write(&path).unwrap();
            let read = Features::read(&path, Some(3)).unwrap();
            assert_eq!(read, features);
            assert_eq!((read.len(), read.rows().len()), (10_001, 10_001));
            assert_eq!(read.row(10_000), read.rows().last().unwrap());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_the_way_out() {
        let said = |name: &str, bytes: &[u8], dimension| {
            let (_folder, path) = file(name, bytes);
            let error = Features::read(&path, dimension).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            error
        };
        assert!(said("f.bin", b"", Some(2)).contains("is empty"));
        assert!(said("f.npz", &[0; 8], Some(2)).contains("an archive of arrays"));
        assert!(said("f.bin", &[0; 8], None).contains("give --dimension"));
        assert!(said("f.bin", &[0; 8], Some(0)).contains("at least 1"));
        assert!(said("f.bin", &[0; 10], Some(2)).contains("10 bytes long, not a multiple of 2"));
        assert!(said("f.bin", &[0; 12], Some(2)).contains("cut short"));
        assert!(said("f.bin", &[0; 12], Some(usize::MAX)).contains("cut short"));
        assert!(said("f.npy", &[0; 12], None).contains("numpy.save"));
        let mut npy = npy::header(1, 2);
        npy.extend([0; 8]);
        assert!(said("f.npy", &npy, Some(3)).contains("are 2 wide, not 3"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), dimension in any::<Option<u8>>()) {
            for name in ["f.bin", "f.npy"] {
                let (_folder, path) = file(name, &bytes);
                let _ = Features::read(&path, dimension.map(usize::from));
            }
            let _ = read_labels(&file("l.meta", &bytes).1);
        }
    }
}
