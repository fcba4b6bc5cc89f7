//! NumPy's `.npy`, as much of it as embeddings need: versions 1 and 2, two axes, C order, little-endian f32
//! or f64 (rounded to f32). The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{self, Read};

use super::{Features, read_values};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy writes headers of 128 bytes; this is far beyond any of two axes.
const MAX_HEADER_BYTES: usize = 4096;
/// NumPy aligns the values to this.
const ALIGNMENT: usize = 64;

/// Why a `.npy` file was not taken, and what to do in NumPy.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    #[error("it does not begin as numpy.save makes it")]
    Magic,
    #[error("it is of format version {version}, only 1 and 2 are read: save plain numbers with numpy.save")]
    Version { version: u8 },
    #[error("its header is damaged: save it again with numpy.save")]
    Header,
    #[error("its values are not '<f4' or '<f8': save array.astype('<f4')")]
    Type,
    #[error("its values are in Fortran order: save numpy.ascontiguousarray(array)")]
    FortranOrder,
    #[error("its shape is not rows x dimension, both at least 1: save array.reshape(rows, dimension)")]
    Shape,
    #[error("its header promises {promised} bytes of values, {found} follow: the file was cut short or added to")]
    Length { promised: u64, found: u64 },
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Reads a whole file of `bytes` bytes.
pub(super) fn read(reader: &mut impl Read, bytes: u64) -> Result<Features, NpyError> {
    let preamble: [u8; 8] = read_array(reader)?;
    let [magic @ .., major, _minor] = preamble;
    if magic != *MAGIC {
        return Err(NpyError::Magic);
    }
    let (length_bytes, header_bytes) = match major {
        1 => (2, u16::from_le_bytes(read_array(reader)?) as usize),
        2 => (4, u32::from_le_bytes(read_array(reader)?) as usize),
        version => return Err(NpyError::Version { version }),
    };
    if header_bytes > MAX_HEADER_BYTES {
        return Err(NpyError::Header);
    }
    let mut header = vec![0; header_bytes];
    reader.read_exact(&mut header).map_err(cut_short)?;
    let header = Header::parse(std::str::from_utf8(&header).map_err(|_| NpyError::Header)?)?;

    let count = header.rows.checked_mul(header.dimension).ok_or(NpyError::Shape)?;
    let promised = (count as u64).checked_mul(header.width.bytes()).ok_or(NpyError::Shape)?;
    let found = bytes.saturating_sub((preamble.len() + length_bytes + header_bytes) as u64);
    if promised != found {
        return Err(NpyError::Length { promised, found });
    }
    let values = match header.width {
        Width::F4 => read_values(reader, count, f32::from_le_bytes),
        Width::F8 => read_values(reader, count, |value| f64::from_le_bytes(value) as f32),
    }?;
    Ok(Features { dimension: header.dimension, values })
}

fn read_array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], NpyError> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(cut_short)?;
    Ok(bytes)
}

/// A file that ends inside its header is a damaged one, not a failure of the disk.
fn cut_short(error: io::Error) -> NpyError {
    if error.kind() == io::ErrorKind::UnexpectedEof { NpyError::Header } else { error.into() }
}

/// Everything before the values of `rows` x `dimension` f32.
pub(super) fn header(rows: usize, dimension: usize) -> Vec<u8> {
    let mut dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    // Magic, version and length take 10 bytes, the closing newline one.
    let unpadded = MAGIC.len() + 4 + dict.len() + 1;
    dict.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    dict.push('\n');
    // Two numbers of at most 20 digits: far below 64 KiB.
    let length = dict.len() as u16;
    [&MAGIC[..], &[1, 0], &length.to_le_bytes(), dict.as_bytes()].concat()
}

#[derive(Debug, PartialEq)]
struct Header {
    width: Width,
    rows: usize,
    dimension: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Width {
    F4,
    F8,
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Width::F4 => 4,
            Width::F8 => 8,
        }
    }
}

impl Header {
    /// Takes the three entries from the Python dict that a header is.
    fn parse(dict: &str) -> Result<Header, NpyError> {
        let descr = entry(dict, "'descr':")?;
        let width = match descr.get(..5) {
            Some("'<f4'") => Width::F4,
            Some("'<f8'") => Width::F8,
            _ => return Err(NpyError::Type),
        };
        if !entry(dict, "'fortran_order':")?.starts_with("False") {
            return Err(NpyError::FortranOrder);
        }
        let shape = entry(dict, "'shape':")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let (shape, _) = shape.ok_or(NpyError::Header)?;
        let (rows, dimension) = shape.split_once(',').ok_or(NpyError::Shape)?;
        let axis = |text: &str| text.trim().parse().ok().filter(|&length| length > 0).ok_or(NpyError::Shape);
        Ok(Header { width, rows: axis(rows)?, dimension: axis(dimension)? })
    }
}

/// What follows `key` in `dict`.
fn entry<'a>(dict: &'a str, key: &str) -> Result<&'a str, NpyError> {
    let (_, value) = dict.split_once(key).ok_or(NpyError::Header)?;
    Ok(value.trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, dict: &str, values: &[u8]) -> Vec<u8> {
        let length = dict.len() as u32;
        let length = &length.to_le_bytes()[..if version == 1 { 2 } else { 4 }];
        [&MAGIC[..], &[version, 0], length, dict.as_bytes(), values].concat()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Features, NpyError> {
        read(&mut &bytes[..], bytes.len() as u64)
    }

    #[test]
    fn both_widths_and_versions_are_read() {
        let expected = Features::new(2, vec![1.0, -0.5]).unwrap();
        let f4 = [1.0f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat();
        let f8 = [1.0f64.to_le_bytes(), (-0.5f64).to_le_bytes()].concat();
        for version in [1, 2] {
            let dict = |width| format!("{{'descr': '<{width}', 'fortran_order': False, 'shape': (1, 2), }}   \n");
            assert_eq!(read_bytes(&file(version, &dict("f4"), &f4)).unwrap(), expected);
            assert_eq!(read_bytes(&file(version, &dict("f8"), &f8)).unwrap(), expected);
        }
    }

    #[test]
    fn the_header_is_the_one_numpy_writes() {
        let header = header(17, 256);
        assert_eq!(header.len(), 128);
        assert!(header.starts_with(
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (17, 256), }   "
        ));
        assert!(header.ends_with(b" \n"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
        let refused = |from: &str, to: &str| read_bytes(&file(1, &good.replace(from, to), &[0; 8])).unwrap_err();
        assert!(matches!(refused("<f4", ">f4"), NpyError::Type));
        assert!(matches!(refused("<f4", "<i4"), NpyError::Type));
        assert!(matches!(refused("False", "True"), NpyError::FortranOrder));
        assert!(matches!(refused("(1, 2)", "(2,)"), NpyError::Shape));
        assert!(matches!(refused("(1, 2)", "(1, 2, 1)"), NpyError::Shape));
        assert!(matches!(refused("(1, 2)", "(0, 2)"), NpyError::Shape));
        assert!(matches!(refused("(1, 2)", "(9999999999, 9999999999)"), NpyError::Shape));
        assert!(matches!(refused("(1, 2)", "(9999999999, 2)"), NpyError::Length { found: 8, .. }));
        assert!(matches!(refused("(1, 2)", "(1, 1)"), NpyError::Length { promised: 4, found: 8 }));
        assert!(matches!(refused("'shape'", "'form'"), NpyError::Header));
        assert!(matches!(read_bytes(&file(3, good, &[0; 8])), Err(NpyError::Version { version: 3 })));
        assert!(matches!(read_bytes(&file(2, &" ".repeat(5000), &[])), Err(NpyError::Header)));
        assert!(matches!(read_bytes(b"\x93NUMPY\x01"), Err(NpyError::Header)));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(version in 1u8..3, dict in "[{'<f48descr:ortan_F,shp()0-9 }]{0,80}", values in any::<Vec<u8>>()) {
            let _ = read_bytes(&file(version, &dict, &values));
        }

        #[test]
        fn no_shape_makes_it_panic(shape in "[0-9, ()-]{0,40}", values in any::<Vec<u8>>()) {
            let dict = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}");
            let _ = read_bytes(&file(1, &dict, &values));
        }
    }
}
