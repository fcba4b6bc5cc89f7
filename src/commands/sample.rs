//! A file of faces held against what the model was trained at, for `facetd check --sample`.

use std::path::Path;

use facetd::face::Embedding;
use facetd::features::{Features, FeaturesError};
use facetd::model::Artefact;
use facetd::model::fit::{BOUND, Difference, Fit, neighbourhoods};

use super::verdict::Verdict;

/// Faces whose neighbours are looked for: enough for quantiles, and the work grows with the file, not with its square.
const MOST_ASKED: usize = 2000;

/// Whether it fits; a warning where it does not, or where nobody can tell.
pub fn compare(path: &Path, artefact: &Artefact) -> anyhow::Result<Verdict> {
    let faces = read(path, artefact)?;
    let name = path.display();
    let Some(trained_at) = artefact.trained_at else {
        let model = artefact.folder.join("model.toml");
        return Ok(Verdict::Warn(format!(
            "nobody can tell whether {name} fits: {} has no [neighbour_similarity] of faces it was trained on; export it again",
            model.display()
        )));
    };
    let asked: Vec<usize> = match faces.len() {
        count @ ..=MOST_ASKED => (0..count).collect(),
        count => (0..MOST_ASKED).map(|place| place * count / MOST_ASKED).collect(),
    };
    let drawn = match faces.len() {
        ..=MOST_ASKED => String::new(),
        _ => format!(" (of {MOST_ASKED} of them, evenly drawn)"),
    };
    let told = format!("{name}, the neighbours of {} faces{drawn}", faces.len());
    let cosines = neighbourhoods(&faces, &asked, trained_at.hop1);
    let Some(fit) = trained_at.compare(faces.len(), &cosines) else {
        let fewest = trained_at.fewest();
        return Ok(Verdict::Warn(format!("{told}: too few to tell, the model needs {fewest} or more")));
    };
    let Difference { quantile, by } = fit.furthest();
    let told = format!("{told}: {}; furthest off: q{quantile} by {by:+.3}", quantiles(&fit));
    Ok(match fit.is_good() {
        true => Verdict::Ok(told),
        false => Verdict::Warn(format!(
            "{told}, more than {BOUND}: these faces are {} than those the model was trained on, so its linkages mean less. Is it \
             the same embedder and alignment, and are these faces as they came, not drawn from more? If so, train a \
             model on such faces (models/train)",
            if by > 0.0 { "closer together" } else { "farther apart" }
        )),
    })
}

fn read(path: &Path, artefact: &Artefact) -> anyhow::Result<Vec<Embedding>> {
    let (name, dimension) = (path.display(), artefact.shape.dimension);
    let features = Features::read(path, Some(dimension)).map_err(|error| match error {
        // Their own texts speak of --dimension, which the model gives here.
        FeaturesError::Dimension { found, .. } => {
            anyhow::anyhow!("rows of {name} are {found} wide, the model takes {dimension}: it is for another embedder")
        }
        FeaturesError::CutRow { bytes, .. } => anyhow::anyhow!(
            "{name} is {bytes} bytes long, not a multiple of {dimension} f32 values, as the model takes them: it was cut \
             short, or is of another embedder"
        ),
        error => error.into(),
    })?;
    let embedding = |(row, values)| {
        Embedding::normalise(values, dimension)
            .map_err(|error| anyhow::anyhow!("row {row} of {name}: {error}; leave it out"))
    };
    features.rows().enumerate().map(embedding).collect()
}

/// Each quantile, and in brackets the model's.
fn quantiles(fit: &Fit) -> String {
    let told = fit.rows().map(|(quantile, lowest, highest, model)| match lowest == highest {
        true => format!("q{quantile} {lowest:.3} [{model:.3}]"),
        false => format!("q{quantile} {lowest:.3} to {highest:.3} [{model:.3}]"),
    });
    format!("{} [the model's]", told.collect::<Vec<_>>().join(", "))
}
