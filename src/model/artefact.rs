//! A model's folder: `re.onnx`, `lp.onnx` and the `model.toml` that describes and seals them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{EdgeFeature, ModelError};

/// The format of model.toml this program reads.
const FORMAT: u32 = 1;
/// Bounds that keep a wrong model.toml from asking for all the memory there is.
pub(crate) const LARGEST_DIMENSION: usize = 4096;
const LARGEST_HOP: usize = 1024;
const LARGEST_PER_FACE: u32 = 1000;
const LARGEST_CAP: u32 = 1_000_000;

/// What the engine must know of a model to feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of an embedding.
    pub dimension: usize,
    /// Neighbours that are link candidates.
    pub hop1: usize,
    /// Of those, how many feed RE.
    pub hop2: usize,
}

/// model.toml. What it says for readers alone ([training], [scores]) is not read here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Description {
    format: u32,
    name: String,
    dimension: usize,
    hop1: usize,
    hop2: usize,
    #[serde(default)]
    edges: Vec<EdgeFeature>,
    merging: Merging,
    files: Files,
}

/// How linkages become clusters: chosen with the model, on validation identities.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "MergingTable")]
pub struct Merging {
    pub rule: Rule,
    /// τ: a linkage above it is a link, and clusters merge above it.
    pub threshold: f32,
    /// τ_off ≤ τ: above it faces of one cluster stay together while it is not settled.
    pub threshold_off: f32,
}

/// The merging rules of DESIGN.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Connected components of links.
    Single,
    /// Greedy merges by the evidence between two clusters: the linkages between them over the pairs
    /// that were scored, or over min(`cap`, `per_face` × the faces of the smaller) where that is more.
    Evidence { per_face: u32, cap: u32 },
}

/// [merging] as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergingTable {
    rule: RuleName,
    threshold: f32,
    threshold_off: Option<f32>,
    per_face: Option<u32>,
    cap: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RuleName {
    Single,
    Evidence,
}

impl TryFrom<MergingTable> for Merging {
    type Error = String;

    fn try_from(table: MergingTable) -> Result<Merging, String> {
        let MergingTable { rule, threshold, threshold_off, per_face, cap } = table;
        let threshold_off = threshold_off.unwrap_or(threshold);
        if !(0.0..1.0).contains(&threshold) {
            return Err(format!("merging.threshold is {threshold}, not 0 up to 1"));
        }
        if !(0.0..=threshold).contains(&threshold_off) {
            return Err(format!("merging.threshold_off is {threshold_off}, not 0 to merging.threshold, {threshold}"));
        }
        let rule = match (rule, per_face, cap) {
            (RuleName::Single, None, None) => Rule::Single,
            (RuleName::Single, ..) => {
                return Err("merging.per_face and merging.cap belong to the rule \"evidence\": remove them".to_string());
            }
            (RuleName::Evidence, Some(per_face), Some(cap)) => Rule::Evidence {
                per_face: within("merging.per_face", per_face, LARGEST_PER_FACE)?,
                cap: within("merging.cap", cap, LARGEST_CAP)?,
            },
            (RuleName::Evidence, ..) => {
                return Err("the rule \"evidence\" needs merging.per_face and merging.cap".to_string());
            }
        };
        if let Rule::Evidence { per_face, cap } = rule
            && threshold * per_face.min(cap) as f32 >= 1.0
        {
            // Of two lone faces that are sure of each other it is 1 over that number.
            let most = 1.0 / per_face.min(cap) as f32;
            return Err(format!(
                "merging.threshold is {threshold}, and with per_face {per_face} and cap {cap} two faces have evidence of \
                 at most {most}: nothing would ever merge"
            ));
        }
        Ok(Merging { rule, threshold, threshold_off })
    }
}

/// `value` when it is 1 to `largest`.
fn within(name: &str, value: u32, largest: u32) -> Result<u32, String> {
    if (1..=largest).contains(&value) { Ok(value) } else { Err(format!("{name} is {value}, not 1 to {largest}")) }
}

#[derive(Debug, Clone, Deserialize)]
struct Files {
    re: SealedFile,
    lp: SealedFile,
}

#[derive(Debug, Clone, Deserialize)]
struct SealedFile {
    name: String,
    sha256: String,
}

/// A checked model folder.
#[derive(Debug, Clone)]
pub struct Artefact {
    pub folder: PathBuf,
    pub name: String,
    pub shape: Shape,
    /// What LP is told of a pair, in this order.
    pub edges: Vec<EdgeFeature>,
    pub merging: Merging,
    pub relation_encoder: PathBuf,
    pub linkage_predictor: PathBuf,
    /// Changes whenever a state made with this model could not have been made with another.
    pub fingerprint: String,
}

impl Artefact {
    /// Reads `folder`/model.toml and checks the hash of both graphs.
    pub fn open(folder: &Path) -> Result<Artefact, ModelError> {
        let path = folder.join("model.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let refuse = |reason: String| ModelError::Artefact { path: path.clone(), reason };
        let description = Description::parse(&text).map_err(refuse)?;
        let Description { name, dimension, hop1, hop2, edges, merging, files, .. } = description;
        let (re, lp, Merging { rule, threshold, threshold_off }) = (&files.re.sha256, &files.lp.sha256, merging);
        let mut fingerprint = format!("{re}:{lp}:{dimension}:{hop1}:{hop2}:{rule:?}:{threshold}:{threshold_off}");
        if !edges.is_empty() {
            fingerprint += &format!(":{edges:?}");
        }
        Ok(Artefact {
            folder: folder.to_path_buf(),
            name,
            shape: Shape { dimension, hop1, hop2 },
            edges,
            relation_encoder: files.re.open(folder)?,
            linkage_predictor: files.lp.open(folder)?,
            fingerprint: hex(&Sha256::digest(fingerprint)),
            merging,
        })
    }
}

impl Description {
    /// Reads and checks a model.toml.
    pub(crate) fn parse(text: &str) -> Result<Description, String> {
        let description: Description = toml::from_str(text).map_err(|error| error.to_string())?;
        description.check()?;
        Ok(description)
    }

    /// What it says its graphs are called, in its folder.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn file_names(&self) -> [&str; 2] {
        [&self.files.re.name, &self.files.lp.name]
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format is {}, this facetd reads {FORMAT}: use a facetd that matches", self.format));
        }
        if !(1..=LARGEST_DIMENSION).contains(&self.dimension) {
            return Err(format!("dimension is {}, not 1 to {LARGEST_DIMENSION}", self.dimension));
        }
        if !(1..=LARGEST_HOP).contains(&self.hop1) || !(1..=self.hop1).contains(&self.hop2) {
            return Err(format!("hop1 {} must be 1 to {LARGEST_HOP}, hop2 {} at most hop1", self.hop1, self.hop2));
        }
        for SealedFile { name, .. } in [&self.files.re, &self.files.lp] {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(format!("the file {name:?} is not in its folder"));
            }
        }
        if let Some(twice) = self.edges.iter().enumerate().find(|(place, edge)| self.edges[..*place].contains(edge)) {
            return Err(format!("edges names {:?} twice", twice.1));
        }
        Ok(())
    }
}

impl SealedFile {
    fn open(&self, folder: &Path) -> Result<PathBuf, ModelError> {
        let path = folder.join(&self.name);
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let found = hex(&Sha256::digest(&bytes));
        if found != self.sha256.to_lowercase() {
            return Err(ModelError::Hash { path, expected: self.sha256.clone(), found });
        }
        Ok(path)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &str) -> Result<Merging, String> {
        toml::from_str(table).map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn single_needs_only_its_threshold() {
        let merging = Merging { rule: Rule::Single, threshold: 0.5, threshold_off: 0.5 };
        assert_eq!(parse("rule = \"single\"\nthreshold = 0.5"), Ok(merging));
        let lower = parse("rule = \"single\"\nthreshold = 0.5\nthreshold_off = 0.25");
        assert_eq!(lower, Ok(Merging { threshold_off: 0.25, ..merging }));
        assert!(parse("rule = \"single\"\nthreshold = 0").is_ok());
    }

    #[test]
    fn evidence_reads_its_parameters() {
        let table = "rule = \"evidence\"\nthreshold = 0.25\nthreshold_off = 0.0\nper_face = 3\ncap = 16";
        let rule = Rule::Evidence { per_face: 3, cap: 16 };
        assert_eq!(parse(table), Ok(Merging { rule, threshold: 0.25, threshold_off: 0.0 }));
        let largest = "rule = \"evidence\"\nthreshold = 0.0009\nper_face = 1000\ncap = 1000000";
        assert!(parse(largest).is_ok());
    }

    #[test]
    fn a_wrong_merging_table_says_what_is_wrong() {
        let wrong = [
            ("rule = \"single\"", "threshold"),
            ("rule = \"average\"\nthreshold = 0.5", "average"),
            ("rule = \"single\"\nthreshold = 1.0", "threshold is 1"),
            ("rule = \"single\"\nthreshold = -0.1", "threshold is -0.1"),
            ("rule = \"single\"\nthreshold = nan", "threshold is NaN"),
            ("rule = \"single\"\nthreshold = 0.5\nthreshold_off = 0.6", "threshold_off is 0.6"),
            ("rule = \"single\"\nthreshold = 0.5\nthreshold_off = -0.1", "threshold_off is -0.1"),
            ("rule = \"single\"\nthreshold = 0.5\nthreshold_of = 0.4", "threshold_of"),
            ("rule = \"single\"\nthreshold = 0.5\ncap = 16", "belong to the rule \"evidence\""),
            ("rule = \"evidence\"\nthreshold = 0.5\ncap = 16", "needs merging.per_face"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 2", "needs merging.per_face"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 0\ncap = 16", "per_face is 0, not 1 to 1000"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 2\ncap = 16", "nothing would ever merge"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 1001\ncap = 16", "per_face is 1001"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 2\ncap = 0", "cap is 0, not 1 to 1000000"),
            ("rule = \"evidence\"\nthreshold = 0.5\nper_face = 2\ncap = 1000001", "cap is 1000001"),
        ];
        for (table, word) in wrong {
            let refused = parse(table).expect_err(table);
            assert!(refused.contains(word), "{table}: {refused}");
        }
    }
}
