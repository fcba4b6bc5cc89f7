//! Files that are not for everyone. Their permissions are those of the very file that is read: one that takes its place
//! meanwhile is neither trusted nor read.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Permission of everyone to read.
pub const OTHERS_READ: u32 = 0o004;
/// Permission of the group, or of everyone, to write.
pub const OTHERS_WRITE: u32 = 0o022;

/// The permissions of a file, and what is in it.
pub fn read(path: &Path) -> Result<(u32, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((mode, bytes))
}

/// The same of text.
pub fn read_text(path: &Path) -> Result<(u32, String)> {
    let (mode, bytes) = read(path)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    Ok((mode, text))
}
