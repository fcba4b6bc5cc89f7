//! What is asked of an engine and changes nothing: who an embedding looks like ([`find`]), why two faces are
//! together ([`why`]), and what lies around a cluster ([`picture`]).
//!
//! It runs on the engine's thread, between batches, so each answer is bounded whatever the cluster's size.

mod find;
mod picture;
mod why;

pub use find::{Found, FoundCluster, FoundFace};
pub use picture::{Picture, Pictured, PicturedLinkage};
pub use why::{Step, Tie, Why, WhyError};
