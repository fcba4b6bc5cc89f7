"""The model artefact as it ships: `re.onnx`, `lp.onnx` and `model.toml` in a folder, written and read."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from facetd_train.card import About
from facetd_train.data import opened
from facetd_train.edges import NAMES
from facetd_train.merging import SINGLE, Merging, Rule
from facetd_train.model import Architecture
from facetd_train.neighbours import Neighbourhoods
from facetd_train.stage import Closeness, Stage

FORMAT = 1
OPSET = 17
BATCH = 512  # rows of one run


def describe(folder: Path, architecture: Architecture, about: About, mergings: Mapping[Stage, Merging]) -> None:
    """Writes `model.toml` beside the graphs of the stages that have a merging."""
    a = architecture
    similarity = "\n".join(f"{quantile} = {value:.4f}" for quantile, value in about.neighbour_similarity.items())
    scores = about.scores[Stage.RE_LP]
    (folder / "model.toml").write_text(
        f"""\
format = {FORMAT}
name = "{about.name}"
dimension = {a.dimension}
hop1 = {a.hop1}
hop2 = {a.hop2}
opset = {OPSET}
{f"edges = {names(a.edges)}":<31} # names of edge features fed to LP

[merging]
{section(mergings[Stage.RE_LP])}

[files.re]
name = "re.onnx"
sha256 = "{digest(folder / "re.onnx")}"

[files.lp]
name = "lp.onnx"
sha256 = "{digest(folder / "lp.onnx")}"

[training]                      # what it was trained on (free-form for readers)
data = "{about.data}"
identities = {about.identities}
faces = {about.faces}
seed = {about.seed}
architecture = "{a.kind}"
depth = {a.depth}
heads = {a.heads}
head_dimension = {a.head_dimension}
dropout = {a.dropout}
epochs = {about.epochs:g}

[scores]                        # on validation identities
pairwise_f = {scores.pairwise_f:.4f}
bcubed_f = {scores.bcubed_f:.4f}
nmi = {scores.nmi:.4f}

[neighbour_similarity]          # cosine quantiles of neighbours it was trained at
{similarity}
"""
        + "".join(stage_section(folder, s, merging) for s, merging in mergings.items() if s != Stage.RE_LP)
    )


def file_name(stage: Stage, module: str) -> str:
    """Of the graph of `re` or `lp`."""
    return f"{module}.onnx" if stage == Stage.RE_LP else f"{stage}.onnx"


def stage_section(folder: Path, stage: Stage, merging: Merging) -> str:
    lines = [f"\n[stages.{stage}]", f"merging = {{ {', '.join(settings(merging))} }}"]
    for module, there in (("re", stage.has_re), ("lp", stage.has_lp)):
        if there:
            name = file_name(stage, module)
            lines.append(f'{module} = {{ name = "{name}", sha256 = "{digest(folder / name)}" }}')
    return "\n".join(lines) + "\n"


def settings(merging: Merging) -> list[str]:
    found = {"threshold": f"{merging.threshold:.3f}", "threshold_off": f"{merging.threshold_off:.3f}"}
    if merging.rule != SINGLE:
        found |= {"per_face": str(merging.rule.per_face), "cap": str(merging.rule.cap)}
    return [f'rule = "{merging.rule.name}"', *(f"{name} = {value}" for name, value in found.items())]


def names(edges: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in edges) + "]"


def section(merging: Merging) -> str:
    rule = merging.rule
    lines = [
        f'rule = "{rule.name}"',
        f"threshold = {merging.threshold:<18.3f} # tau, chosen on validation identities",
        f"threshold_off = {merging.threshold_off:<14.3f} # tau_off: while faces are stale, what merged above tau stays",
    ]
    if rule != SINGLE:
        lines += [
            f"per_face = {rule.per_face:<19} # pairs for each face of the smaller cluster that make a merge certain",
            f"cap = {rule.cap:<24} # at most so many",
        ]
    return "\n".join(lines)


def read_section(about: dict) -> Merging:
    rule = SINGLE if about["rule"] == SINGLE.name else Rule(about["rule"], about["per_face"], about["cap"])
    return Merging(rule, about["threshold"], about.get("threshold_off", about["threshold"]))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class Artefact:
    """A stage of a folder under onnxruntime; scores as FaceTransformer does (see pipeline.Scorer)."""

    def __init__(self, folder: Path, stage: Stage = Stage.RE_LP) -> None:
        about = tomllib.loads(opened(folder / "model.toml").read().decode())
        if about["format"] != FORMAT:
            raise SystemExit(f"{folder}: format {about['format']} is not {FORMAT}: export the model again")
        section = about | about["files"] if stage == Stage.RE_LP else about.get("stages", {}).get(stage)
        if section is None:
            raise SystemExit(f"{folder / 'model.toml'} has no stage {stage}: train it with `fit --stages`")
        self.dimension, self.hop1, self.hop2 = about["dimension"], about["hop1"], about["hop2"]
        self.edges = tuple(about.get("edges", ())) if stage.has_lp else ()
        if unknown := set(self.edges) - set(NAMES):
            raise SystemExit(f"{folder}: no such edge features: {', '.join(sorted(unknown))}")
        self.merging = read_section(section["merging"])
        self.re = sealed(folder, section["re"]) if stage.has_re else None
        self.lp = sealed(folder, section["lp"]) if stage.has_lp else None

    def enhance_all(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods) -> Tensor:
        return features[faces] if self.re is None else run(self.re, features, faces, hop2)

    def link_all(self, enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods, edges: Tensor | None = None) -> Tensor:
        if self.lp is None:
            return closeness(enhanced, faces, hop1)
        return run(self.lp, enhanced, faces, hop1, edges)


def sealed(folder: Path, file: dict) -> onnxruntime.InferenceSession:
    if digest(folder / file["name"]) != file["sha256"]:
        raise SystemExit(f"{folder / file['name']} is not the file model.toml names: export the model again")
    return session(folder / file["name"])


def closeness(enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods) -> Tensor:
    parts = torch.arange(len(faces)).split(BATCH)
    there = Closeness()
    return torch.cat([there(enhanced[faces[part]], enhanced[hop1.rows[part]], hop1.mask[part]) for part in parts])


def run(
    graph: onnxruntime.InferenceSession,
    values: Tensor,
    faces: Tensor,
    near: Neighbourhoods,
    edges: Tensor | None = None,
) -> Tensor:
    table, outputs = values.numpy(), []
    for part in torch.arange(len(faces)).split(BATCH):
        inputs = {
            "face": table[faces[part].numpy()],
            "neighbours": table[near.rows[part].numpy()],
            "mask": near.mask[part].numpy(),
        }
        if edges is not None:
            inputs["edges"] = edges[part].numpy()
        outputs.append(graph.run(None, inputs)[0])
    return torch.from_numpy(np.concatenate(outputs))
