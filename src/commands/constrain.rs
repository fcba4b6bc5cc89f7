//! `facetd must-link`, `cannot-link` and `release`: an operator's word on two faces.

use clap::Args;
use facetd::engine::changes::{Constraint, ConstraintKind, Outcome, Request};

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
    let known = if outcome == Outcome::Duplicate { "; that was said already" } else { "" };
    let word = match kind {
        ConstraintKind::MustLink => "are one person",
        ConstraintKind::CannotLink => "are never one person",
    };
    println!("faces {} and {} {word}{known}: {}", faces.a, faces.b, whereabouts(&operated, faces)?);
    Ok(())
}

pub fn release(TakeBack { faces }: &TakeBack) -> anyhow::Result<()> {
    let (a, b) = (Stopped::face_id(&faces.a)?, Stopped::face_id(&faces.b)?);
    let stopped = faces.target.open()?;
    stopped.check_face(&a)?;
    stopped.check_face(&b)?;
    let mut operated = stopped.restore()?;
    operated.ask_one(Request::Release { a, b })?;
    println!("nothing is said of faces {} and {} any more: {}", faces.a, faces.b, whereabouts(&operated, faces)?);
    Ok(())
}

/// Where the two are after it.
fn whereabouts(Operated { shard, collection, .. }: &Operated, faces: &TwoFaces) -> anyhow::Result<String> {
    let cluster_of = |id: &str| -> anyhow::Result<_> {
        let face = Stopped::face_id(id)?;
        let engine = shard.engine(collection);
        Ok(engine.and_then(|engine| engine.clusters().book().cluster_of(engine.faces().node(&face)?)))
    };
    Ok(match (cluster_of(&faces.a)?, cluster_of(&faces.b)?) {
        (Some(a), Some(b)) if a == b => format!("both are in cluster {a}"),
        (Some(a), Some(b)) => format!("they are in clusters {a} and {b}"),
        // Retention may have ended a face in the same moment.
        _ => "one of them has expired".to_string(),
    })
}
