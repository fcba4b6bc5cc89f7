//! Older formats, brought to today's when a state is opened.
//!
//! Every record is read, changed where the formats differ, and written into a fresh sled, which then
//! takes the place of the old one: the dance of [`super::rewrite`], so wherever it dies the state is
//! whole, in the one format or the other, and nothing is left of the old one afterwards. Cost: that
//! of a rewrite, in memory that does not grow with the state.
//!
//! | format | what is new in it |
//! | --- | --- |
//! | 1 | never released, and not upgraded |
//! | 2 | the suppression list |
//! | 3 | commits are counted; linkages say which one wrote them, positions which record was the last |

use serde::de::DeserializeOwned;

use super::directory::Directory;
use super::keys;
use super::records::{Format, Identity, LinkagesRecord};
use super::rewrite;
use super::space::{Rewritten, Space};
use super::{FORMAT, Model, StoreError};
use crate::engine::changes::KeptLinkage;
use crate::face::{Offset, Position};

/// Opens the sled of `directory`, in today's format, and says whose it is; nobody's, when it is new.
/// A state of another model than `model`, or of a format that is not read, is left as it is.
pub fn open(directory: &Directory, model: Option<&Model>) -> Result<(Space, Option<Identity>), StoreError> {
    rewrite::repair(directory)?;
    let space = Space::open(&directory.sled())?;
    let Some(identity) = identity_in(&space, directory)? else { return Ok((space, None)) };
    model.map_or(Ok(()), |model| identity.check_model(directory.path(), model))?;
    let Format(found) = identity.format;
    if found == FORMAT {
        return Ok((space, Some(identity)));
    }
    tracing::info!(path = %directory.path().display(), from = found, to = FORMAT, "upgrading the state");
    rewrite::rewrite(&space, directory, &from_2)?;
    let identity = identity_in(&space, directory)?;
    Ok((space, identity))
}

/// The identity of a state, if it is of a format this program reads.
pub fn identity_in(space: &Space, directory: &Directory) -> Result<Option<Identity>, StoreError> {
    // An identity of another format reads differently, but for its beginning.
    match space.get::<Format>(&keys::identity())? {
        Some(format) => format.check(directory.path())?,
        None => return Ok(None),
    }
    let identity: Option<Identity> = space.get(&keys::identity())?;
    identity.map(|identity| identity.check(directory.path()).map(|()| identity)).transpose()
}

/// A record of format 2 in format 3.
pub(super) fn from_2(key: &[u8], value: &[u8]) -> Rewritten {
    if key == keys::identity() {
        changed(value, |identity: Identity| Identity { format: Format(FORMAT), ..identity })
    } else if key.starts_with(&keys::linkages_of_all()) {
        changed(value, |linkages: Vec<KeptLinkage>| LinkagesRecord { written_at: 0, linkages })
    } else if key.starts_with(&keys::positions()) {
        changed(value, |next: Offset| Position { next, last: None })
    } else {
        Ok(None)
    }
}

fn changed<Old: DeserializeOwned, New: serde::Serialize>(value: &[u8], change: impl FnOnce(Old) -> New) -> Rewritten {
    postcard::to_stdvec(&change(postcard::from_bytes(value)?)).map(Some)
}
