//! Labels on disk: learn-to-cluster's `.meta`, one whole number a line, in the order of the features' rows.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::FeaturesError;

/// An i64 has at most 20 characters; the rest is for blanks. A longer line is no label.
const MAX_LINE_BYTES: u64 = 64;

/// Labels may be negative. The last line may end with a newline or without; an empty line is an error.
pub fn read_labels(path: &Path) -> Result<Vec<i64>, FeaturesError> {
    let file = File::open(path).map_err(|source| FeaturesError::Read { path: path.into(), source })?;
    read_from(&mut BufReader::new(file), path)
}

/// Reads the file whose name is `path`.
pub(crate) fn read_from(reader: &mut impl BufRead, path: &Path) -> Result<Vec<i64>, FeaturesError> {
    let cannot_read = |source| FeaturesError::Read { path: path.into(), source };
    let mut labels = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(cannot_read)?;
        if line.is_empty() {
            break;
        }
        let label = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
        labels.push(label.ok_or_else(|| FeaturesError::Label { path: path.into(), line: labels.len() + 1 })?);
    }
    if labels.is_empty() {
        return Err(FeaturesError::Empty { path: path.into() });
    }
    Ok(labels)
}

/// Writes whole numbers of any type, one a line.
pub fn write_labels(path: &Path, labels: &[impl Display]) -> Result<(), FeaturesError> {
    let write = || {
        let mut writer = BufWriter::new(File::create(path)?);
        labels.iter().try_for_each(|label| writeln!(writer, "{label}"))?;
        writer.flush()
    };
    write().map_err(|source| FeaturesError::Write { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_out_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.meta");
        write_labels(&path, &[3, -1, i64::MAX]).unwrap();
        assert_eq!(read_labels(&path).unwrap(), [3, -1, i64::MAX]);
        std::fs::write(&path, "1\r\n 2").unwrap();
        assert_eq!(read_labels(&path).unwrap(), [1, 2]);
    }

    #[test]
    fn the_line_that_is_no_label_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.meta");
        let long = format!("1\n2\n{}3", " ".repeat(1_000));
        for (text, line) in [("1\nx\n", 2), ("1\n\n2", 2), ("1.5", 1), (&long, 3)] {
            std::fs::write(&path, text).unwrap();
            let error = read_labels(&path).unwrap_err();
            assert!(matches!(error, FeaturesError::Label { line: found, .. } if found == line), "{error}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read_labels(&path), Err(FeaturesError::Empty { .. })));
    }
}
