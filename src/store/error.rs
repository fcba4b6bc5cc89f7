//! What can be wrong with a state directory.

use std::path::{Path, PathBuf};

use super::FORMAT;

/// Each names the place and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}: {source}; check that the path exists, is writable and has room", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} is in use by another facetd; stop it, or give this one a state.dir of its own", path.display())]
    Locked { path: PathBuf },
    #[error("{}: sled: {source}; restore the directory from a backup if it does not open again", path.display())]
    Sled { path: PathBuf, source: sled::Error },
    #[error("{} is damaged: {what}; `facetd inspect verify` names all that is, `facetd inspect repair` saves what is left; or restore it from a backup", path.display())]
    Damaged { path: PathBuf, what: String },
    /// Without it nothing can be told of the rest: neither whose an embedding is, nor who was erased.
    #[error("{} cannot be read: {what}; without it nothing can be repaired: restore the directory from a backup, or start a new state.dir and \
             read the input again", path.display())]
    Unreadable { path: PathBuf, what: String },
    #[error("{} was closed when it could not be written anew; what went wrong was told before: see to that and start again", path.display())]
    Closed { path: PathBuf },
    #[error(
        "{} has format {found}, which was never released and is not upgraded to {FORMAT}: \
         start a new state.dir and read the input again",
        path.display()
    )]
    OlderFormat { path: PathBuf, found: u32 },
    #[error("{} has format {found}, this facetd reads {FORMAT}: use the facetd that wrote it, or a newer one", path.display())]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "{} was made with another model ({found:.12}…, model.dir has {expected:.12}…): \
         `facetd recluster` takes its faces over to this one; or set model.dir and model.stage to what it was made with, \
         or start a new state.dir",
        path.display()
    )]
    OtherModel { path: PathBuf, expected: String, found: String },
    #[error(
        "{} holds embeddings of {found} values, the model takes {expected}: \
         choose a model of {found} values, or start a new state.dir with embeddings of {expected}",
        path.display()
    )]
    OtherDimension { path: PathBuf, expected: usize, found: usize },
    #[error("{} is not empty; name a folder that is new", path.display())]
    NotEmpty { path: PathBuf },
    #[error("{} is inside of the state that is to be backed up; name a folder outside of it", path.display())]
    Inside { path: PathBuf },
    #[error("there is no facetd state in {}", path.display())]
    Missing { path: PathBuf },
    #[error("no random numbers for a new state: {source}; check that the system's random source is there")]
    Random { source: getrandom::Error },
}

impl StoreError {
    /// For `map_err` on what is done to `path`.
    pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
        move |source| StoreError::Io { path: path.to_path_buf(), source }
    }
}
