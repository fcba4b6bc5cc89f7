//! A model's folder: `re.onnx`, `lp.onnx` and the `model.toml` that describes and seals them, and beside the whole model,
//! where they were trained, those of the other stages of the paper's ablation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::fit::{Quantiles, TrainedAt};
use super::{EdgeFeature, ModelError, Stage};

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

/// model.toml. What it says for readers alone ([scores], and of [training] all but the number of faces) is not read here.
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
    #[serde(default)]
    stages: BTreeMap<Stage, Section>,
    training: Option<toml::Value>,
    neighbour_similarity: Option<Quantiles>,
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

/// [stages.*]: a stage's own merging rule, and the graphs it runs.
#[derive(Debug, Clone, Deserialize)]
struct Section {
    merging: Merging,
    re: Option<SealedFile>,
    lp: Option<SealedFile>,
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
    pub stage: Stage,
    pub shape: Shape,
    /// What LP is told of a pair, in this order; nothing where it does not run.
    pub edges: Vec<EdgeFeature>,
    pub merging: Merging,
    /// None in a stage that does not run it.
    pub relation_encoder: Option<PathBuf>,
    /// None in a stage that does not run it.
    pub linkage_predictor: Option<PathBuf>,
    /// None where model.toml does not say.
    pub trained_at: Option<TrainedAt>,
    /// Changes whenever a state made with this model could not have been made with another.
    pub fingerprint: String,
}

impl Artefact {
    /// Reads what `folder`/model.toml says of a stage and checks the hash of the graphs it runs.
    pub fn open(folder: &Path, stage: Stage) -> Result<Artefact, ModelError> {
        let path = folder.join("model.toml");
        let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let refuse = |reason: String| ModelError::Artefact { path: path.clone(), reason };
        let mut description = Description::parse(&text).map_err(refuse)?;
        let section = description.take_section(stage).map_err(refuse)?;
        let trained_at = description.trained_at();
        let Description { name, dimension, hop1, hop2, edges, .. } = description;
        let edges = if stage.runs_lp() { edges } else { Vec::new() };
        let shape = Shape { dimension, hop1, hop2 };
        let fingerprint = section.fingerprint(stage, shape, &edges);
        let Section { merging, re, lp } = section;
        let open = |file: Option<SealedFile>| file.map(|file| file.open(folder)).transpose();
        Ok(Artefact {
            folder: folder.to_path_buf(),
            name,
            stage,
            shape,
            edges,
            relation_encoder: open(re)?,
            linkage_predictor: open(lp)?,
            trained_at,
            fingerprint,
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

    /// What it says of a stage; the whole model's is at its top.
    fn take_section(&mut self, stage: Stage) -> Result<Section, String> {
        if stage == Stage::ReLp {
            let Files { re, lp } = self.files.clone();
            return Ok(Section { merging: self.merging, re: Some(re), lp: Some(lp) });
        }
        self.stages.remove(&stage).ok_or_else(|| {
            format!(
                "there is no [stages.{stage}], so the stage {stage} cannot run: train it with \
                 `models/train/run fit --stages`, or use the stage {}",
                Stage::ReLp
            )
        })
    }

    /// [training] is free in form: faces that are no number are not told.
    fn trained_at(&self) -> Option<TrainedAt> {
        let quantiles = self.neighbour_similarity.filter(|quantiles| !quantiles.is_nothing())?;
        let faces = self.training.as_ref().and_then(|training| training.get("faces")?.as_integer());
        let faces = faces.and_then(|faces| usize::try_from(faces).ok()).filter(|&faces| faces > 0);
        Some(TrainedAt { quantiles, faces, hop1: self.hop1 })
    }

    /// Every graph it names.
    fn sealed_files(&self) -> impl Iterator<Item = &SealedFile> {
        let of_stages = self.stages.values().flat_map(|section| section.re.iter().chain(&section.lp));
        [&self.files.re, &self.files.lp].into_iter().chain(of_stages)
    }

    /// What it says its graphs are called, in its folder.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn file_names(&self) -> impl Iterator<Item = &str> {
        self.sealed_files().map(|file| file.name.as_str())
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
        for SealedFile { name, .. } in self.sealed_files() {
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(format!("the file {name:?} is not in its folder"));
            }
        }
        if let Some(twice) = self.edges.iter().enumerate().find(|(place, edge)| self.edges[..*place].contains(edge)) {
            return Err(format!("edges names {:?} twice", twice.1));
        }
        self.stages.iter().try_for_each(|(&stage, section)| section.check(stage))
    }
}

impl Section {
    fn fingerprint(&self, stage: Stage, shape: Shape, edges: &[EdgeFeature]) -> String {
        let [re, lp] = [&self.re, &self.lp].map(|file| file.as_ref().map_or("", |file| &file.sha256));
        let Shape { dimension, hop1, hop2 } = shape;
        let Merging { rule, threshold, threshold_off } = self.merging;
        let mut text = format!("{re}:{lp}:{dimension}:{hop1}:{hop2}:{rule:?}:{threshold}:{threshold_off}");
        if !edges.is_empty() {
            text += &format!(":{edges:?}");
        }
        // The whole model's is as it was before there were stages, so that its states still open.
        if stage != Stage::ReLp {
            text += &format!(":{stage}");
        }
        hex(&Sha256::digest(text))
    }

    /// Whether it has the graphs its stage runs, and no other.
    fn check(&self, stage: Stage) -> Result<(), String> {
        if stage == Stage::ReLp {
            return Err(
                "[stages.re_lp] is the whole model, which [merging] and [files] describe: remove it".to_string()
            );
        }
        for (graph, there, runs) in
            [("re", self.re.is_some(), stage.runs_re()), ("lp", self.lp.is_some(), stage.runs_lp())]
        {
            if there && !runs {
                return Err(format!("[stages.{stage}] has {graph}, which the stage {stage} does not run: remove it"));
            }
            if runs && !there {
                return Err(format!(
                    "[stages.{stage}] has no {graph}, which the stage {stage} runs: write {graph} = {{ name, sha256 }}, or \
                     train it again with `models/train/run fit --stages`"
                ));
            }
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

    const BARE: &str = "format = 1\nname = \"m\"\ndimension = 4\nhop1 = 3\nhop2 = 2\nedges = [\"cosine\"]\n\
                        merging = { rule = \"single\", threshold = 0.5 }\n";
    const MERGING: &str = "merging = { rule = \"single\", threshold = 0.8 }\n";

    /// A graph's entry; what is in a graph does not matter here.
    fn sealed(name: &str) -> String {
        format!("{{ name = \"{name}\", sha256 = \"{}\" }}", hex(&Sha256::digest(name)))
    }

    fn whole() -> String {
        format!("{BARE}files = {{ re = {}, lp = {} }}\n", sealed("re.onnx"), sealed("lp.onnx"))
    }

    fn folder(model_toml: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), model_toml).unwrap();
        for name in ["re.onnx", "lp.onnx", "only_re.onnx", "only_lp.onnx"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn a_stage_has_its_own_merging_and_the_graphs_it_runs() {
        let (re, lp) = (sealed("only_re.onnx"), sealed("only_lp.onnx"));
        let stages = format!(
            "[stages.naive]\n{MERGING}[stages.only_re]\n{MERGING}re = {re}\n[stages.only_lp]\n{MERGING}lp = {lp}\n"
        );
        let folder = folder(&(whole() + &stages));
        let artefacts = Stage::ALL.map(|stage| Artefact::open(folder.path(), stage).unwrap());
        let graphs = artefacts.each_ref().map(|artefact| {
            let name = |path: &Option<PathBuf>| Some(path.as_ref()?.file_name()?.to_string_lossy().into_owned());
            (name(&artefact.relation_encoder), name(&artefact.linkage_predictor))
        });
        let file = |name: &str| Some(name.to_string());
        let expected = [
            (None, None),
            (file("only_re.onnx"), None),
            (None, file("only_lp.onnx")),
            (file("re.onnx"), file("lp.onnx")),
        ];
        assert_eq!(graphs, expected);
        assert_eq!(artefacts.each_ref().map(|artefact| artefact.merging.threshold), [0.8, 0.8, 0.8, 0.5]);
        assert_eq!(artefacts.each_ref().map(|artefact| artefact.edges.len()), [0, 0, 1, 1]);
        let fingerprints: BTreeMap<_, _> =
            artefacts.iter().map(|artefact| (&artefact.fingerprint, artefact.stage)).collect();
        assert_eq!(fingerprints.len(), Stage::ALL.len(), "{fingerprints:?}");
    }

    #[test]
    fn states_of_whole_models_still_open() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo-128");
        let Artefact { fingerprint, .. } = Artefact::open(&shipped, Stage::ReLp).unwrap();
        let sealed = "ea84b1b7d4aa636172dd34e2001f3e515e7cc11327f234600101c08170a22a4f:\
                      664ff0117681c5c26531e7193d568d1c54b6b14e48d3b037007db1e947430b77:\
                      128:16:5:Evidence { per_face: 2, cap: 16 }:0.165:0.149";
        assert_eq!(fingerprint, hex(&Sha256::digest(sealed)), "of demo-128, as the first facetd made it");
    }

    #[test]
    fn it_says_what_it_was_trained_at_where_it_knows() {
        let trained_at = |more: &str| {
            let folder = folder(&format!("{}{more}", whole()));
            Artefact::open(folder.path(), Stage::ReLp).unwrap().trained_at
        };
        let similarity = "[neighbour_similarity]\nq01 = 0.1\nq10 = 0.2\nq50 = 0.3\nq90 = 0.4\nq99 = 0.5\n";
        let faces = |training: &str| trained_at(&format!("{similarity}{training}")).unwrap().faces;
        assert_eq!(faces("[training]\nfaces = 7\nseed = 1\n"), Some(7));
        for training in ["", "[training]\nfaces = \"many\"\n", "[training]\nfaces = 0\n"] {
            assert_eq!(faces(training), None, "{training}");
        }
        let of_nothing = "[neighbour_similarity]\nq01 = 0.0\nq10 = 0.0\nq50 = 0.0\nq90 = 0.0\nq99 = 0.0\n";
        assert!(trained_at("").is_none() && trained_at(of_nothing).is_none());
    }

    #[test]
    fn a_stage_that_is_not_there_is_told_with_the_way_out() {
        let folder = folder(&whole());
        let error = Artefact::open(folder.path(), Stage::OnlyRe).unwrap_err().to_string();
        for word in ["model.toml", "[stages.only_re]", "models/train/run fit --stages"] {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }

    #[test]
    fn a_wrong_section_is_refused_whatever_stage_is_asked_for() {
        let (re, lp) = (sealed("only_re.onnx"), sealed("only_lp.onnx"));
        let outside = sealed("../only_re.onnx");
        let wrong = [
            (format!("[stages.naive]\n{MERGING}re = {re}"), "[stages.naive] has re"),
            (format!("[stages.only_re]\n{MERGING}re = {re}\nlp = {lp}"), "[stages.only_re] has lp"),
            (format!("[stages.only_re]\n{MERGING}"), "[stages.only_re] has no re"),
            (format!("[stages.only_lp]\n{MERGING}re = {re}"), "[stages.only_lp] has re"),
            (format!("[stages.only_lp]\n{MERGING}"), "[stages.only_lp] has no lp"),
            (format!("[stages.re_lp]\n{MERGING}re = {re}\nlp = {lp}"), "[stages.re_lp] is the whole model"),
            (format!("[stages.only_re]\n{MERGING}re = {outside}"), "is not in its folder"),
            ("[stages.naive]".to_string(), "merging"),
            (format!("[stages.only]\n{MERGING}"), "only_re"),
        ];
        for (section, word) in wrong {
            let folder = folder(&(whole() + &section));
            let refused = Artefact::open(folder.path(), Stage::ReLp).expect_err(&section).to_string();
            assert!(refused.contains(word) && refused.contains("model.toml"), "{section}: {refused}");
        }
    }
}
