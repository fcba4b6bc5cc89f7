//! The stages of the paper's ablation (its table 5): which of RE and LP a model runs, and what stands in for the one
//! it does not.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::Neighbourhoods;
use crate::engine::faces::dot;

/// How much of the Face Transformer is at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Stage {
    /// Neither module: linkages are the cosines of the embeddings.
    Naive,
    /// An RE trained alone, by equations 11 and 12.
    OnlyRe,
    /// An LP trained alone, on the embeddings as they come.
    OnlyLp,
    /// The whole model.
    #[default]
    ReLp,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Naive, Stage::OnlyRe, Stage::OnlyLp, Stage::ReLp];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Naive => "naive",
            Stage::OnlyRe => "only_re",
            Stage::OnlyLp => "only_lp",
            Stage::ReLp => "re_lp",
        }
    }

    /// Whether `g` is RE's; without it, `g` is the embedding.
    pub fn runs_re(self) -> bool {
        matches!(self, Stage::OnlyRe | Stage::ReLp)
    }

    /// Whether linkages are LP's; without it, they are [`similarities`].
    pub fn runs_lp(self) -> bool {
        matches!(self, Stage::OnlyLp | Stage::ReLp)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Stage, String> {
        let wrong = || format!("{text:?} is not \"naive\", \"only_re\", \"only_lp\" or \"re_lp\"");
        Stage::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Stage {
    type Error = String;

    fn try_from(text: String) -> Result<Stage, String> {
        text.parse()
    }
}

/// Linkages without LP, [B,hop1] as LP gives them: 1 - e of equation 11, where e is a quarter of the squared distance of two
/// normalised `g`, so (1 + cosine) / 2. What has no direction is like and unlike anything.
pub(super) fn similarities(rows: &Neighbourhoods) -> Vec<f32> {
    let dimension = rows.dimension();
    let faces = rows.faces.chunks(dimension).zip(rows.neighbours.chunks(dimension * rows.hop()));
    let pairs = faces.flat_map(|(face, neighbours)| neighbours.chunks(dimension).map(move |other| (face, other)));
    let similarity = |(face, other)| {
        let lengths = (dot(face, face) * dot(other, other)).sqrt();
        let cosine = if lengths > 0.0 { dot(face, other) / lengths } else { 0.0 };
        ((1.0 + cosine) / 2.0).clamp(0.0, 1.0)
    };
    pairs.map(similarity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_read_as_it_is_written() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert!("RE+LP".parse::<Stage>().unwrap_err().contains("only_re"));
    }

    #[test]
    fn a_similarity_is_one_minus_a_quarter_of_the_squared_distance() {
        let mut rows = Neighbourhoods::new(2, 3);
        rows.push(&[3.0, 0.0], [&[0.5, 0.0][..], &[0.0, 2.0], &[-1.0, 0.0]]);
        rows.push(&[0.6, 0.8], [&[0.8, 0.6][..]]);
        // The distance of (0.6, 0.8) and (0.8, 0.6) squared is 0.08; the places left are masked.
        let expected = [1.0, 0.5, 0.0, 0.98, 0.5, 0.5];
        let found = similarities(&rows);
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
    }
}
