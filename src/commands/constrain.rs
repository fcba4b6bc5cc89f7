//! `facetd must-link`, `cannot-link` and `release`: an operator's word on two faces.

use std::fmt;

use clap::Args;
use facetd::engine::changes::{Constraint, ConstraintKind, Outcome, Request};
use facetd::face::{ClusterId, CollectionName};
use serde::Serialize;

use super::output::Output;
use super::stopped::{Operated, Stopped, Target};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd must-link --config facetd.toml cam1/0 cam3/7 --by ada
  facetd cannot-link --config facetd.toml --collection lobby cam1/0 cam3/8

Stop the daemon first; it publishes what the word changed when it runs again. `facetd release` takes
the word back, `facetd inspect constraints` lists them all.")]
pub struct Say {
    #[command(flatten)]
    faces: TwoFaces,
    /// Who says so, for those who ask later
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true, default_value = "operator")]
    by: String,
}

#[derive(Args)]
#[command(after_help = "Example:
  facetd release --config facetd.toml cam1/0 cam3/7

Stop the daemon first; it publishes what that changed when it runs again.")]
pub struct TakeBack {
    #[command(flatten)]
    faces: TwoFaces,
}

#[derive(Args)]
struct TwoFaces {
    #[command(flatten)]
    target: Target,
    /// A face's id
    #[arg(value_name = "A")]
    a: String,
    /// Another face's id
    #[arg(value_name = "B")]
    b: String,
    #[command(flatten)]
    output: Output,
}

/// What is said of two faces from now on, and where they are.
#[derive(Serialize)]
struct Standing<'a> {
    collection: &'a CollectionName,
    /// None: nothing.
    kind: Option<ConstraintKind>,
    a: &'a str,
    b: &'a str,
    by: Option<&'a str>,
    /// It was said already.
    duplicate: bool,
    /// None: retention ended the face in the same moment.
    cluster_id_of_a: Option<ClusterId>,
    cluster_id_of_b: Option<ClusterId>,
}

impl fmt::Display for Standing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { a, b, .. } = self;
        match self.kind {
            Some(ConstraintKind::MustLink) => write!(f, "faces {a} and {b} are one person")?,
            Some(ConstraintKind::CannotLink) => write!(f, "faces {a} and {b} are never one person")?,
            None => write!(f, "nothing is said of faces {a} and {b} any more")?,
        }
        f.write_str(if self.duplicate { "; that was said already: " } else { ": " })?;
        match (self.cluster_id_of_a, self.cluster_id_of_b) {
            (Some(a), Some(b)) if a == b => write!(f, "both are in cluster {a}"),
            (Some(a), Some(b)) => write!(f, "they are in clusters {a} and {b}"),
            _ => f.write_str("one of them has expired"),
        }
    }
}

pub fn must_link(arguments: &Say) -> anyhow::Result<()> {
    say(arguments, ConstraintKind::MustLink)
}

pub fn cannot_link(arguments: &Say) -> anyhow::Result<()> {
    say(arguments, ConstraintKind::CannotLink)
}

fn say(Say { faces, by }: &Say, kind: ConstraintKind) -> anyhow::Result<()> {
    let (a, b) = (Stopped::face_id(&faces.a)?, Stopped::face_id(&faces.b)?);
    let stopped = faces.target.open()?;
    stopped.check_face(&a)?;
    stopped.check_face(&b)?;
    let mut operated = stopped.restore()?;
    let constraint = Constraint { kind, a, b, by: by.clone(), at: operated.now };
    let outcome = operated.ask_one(Request::Constrain(constraint))?;
    answer(&operated, faces, Some((kind, by)), outcome == Outcome::Duplicate)
}

pub fn release(TakeBack { faces }: &TakeBack) -> anyhow::Result<()> {
    let (a, b) = (Stopped::face_id(&faces.a)?, Stopped::face_id(&faces.b)?);
    let stopped = faces.target.open()?;
    stopped.check_face(&a)?;
    stopped.check_face(&b)?;
    let mut operated = stopped.restore()?;
    operated.ask_one(Request::Release { a, b })?;
    answer(&operated, faces, None, false)
}

/// What holds after it.
fn answer(
    Operated { shard, collection, .. }: &Operated,
    faces: &TwoFaces,
    said: Option<(ConstraintKind, &str)>,
    duplicate: bool,
) -> anyhow::Result<()> {
    let cluster_of = |id: &str| -> anyhow::Result<_> {
        let face = Stopped::face_id(id)?;
        let engine = shard.engine(collection);
        Ok(engine.and_then(|engine| engine.clusters().book().cluster_of(engine.faces().node(&face)?)))
    };
    faces.output.answer(&Standing {
        collection,
        kind: said.map(|(kind, _)| kind),
        a: &faces.a,
        b: &faces.b,
        by: said.map(|(_, by)| by),
        duplicate,
        cluster_id_of_a: cluster_of(&faces.a)?,
        cluster_id_of_b: cluster_of(&faces.b)?,
    })
}
