"""The model artefact as it ships: `re.onnx`, `lp.onnx` and `model.toml` in a folder, written and read."""

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from facetd_train.edges import NAMES
from facetd_train.merging import SINGLE, Merging, Rule
from facetd_train.model import Architecture
from facetd_train.neighbours import Neighbourhoods
from facetd_train.scores import Scores

FORMAT = 1
OPSET = 17


def describe(
    folder: Path,
    name: str,
    architecture: Architecture,
    merging: Merging,
    scores: Scores,
    neighbour_similarity: dict[str, float],
    data: str,
    identities: int,
    faces: int,
    seed: int,
    epochs: int,
) -> None:
    """Writes `model.toml` beside the two graphs."""
    a = architecture
    similarity = "\n".join(f"{quantile} = {value:.4f}" for quantile, value in neighbour_similarity.items())
    (folder / "model.toml").write_text(
        f"""\
format = {FORMAT}
name = "{name}"
dimension = {a.dimension}
hop1 = {a.hop1}
hop2 = {a.hop2}
opset = {OPSET}
{f"edges = {names(a.edges)}":<31} # names of edge features fed to LP

[merging]
{section(merging)}

[files.re]
name = "re.onnx"
sha256 = "{digest(folder / "re.onnx")}"

[files.lp]
name = "lp.onnx"
sha256 = "{digest(folder / "lp.onnx")}"

[training]                      # what it was trained on (free-form for readers)
data = "{data}"
identities = {identities}
faces = {faces}
seed = {seed}
architecture = "{a.kind}"
depth = {a.depth}
heads = {a.heads}
head_dimension = {a.head_dimension}
dropout = {a.dropout}
epochs = {epochs}

[scores]                        # on validation identities
pairwise_f = {scores.pairwise_f:.4f}
bcubed_f = {scores.bcubed_f:.4f}
nmi = {scores.nmi:.4f}

[neighbour_similarity]          # cosine quantiles of neighbours it was trained at
{similarity}
"""
    )


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
    """A folder's graphs under onnxruntime; scores as FaceTransformer does (see pipeline.Scorer)."""

    def __init__(self, folder: Path) -> None:
        about = tomllib.loads((folder / "model.toml").read_text())
        if about["format"] != FORMAT:
            raise SystemExit(f"{folder}: format {about['format']} is not {FORMAT}: export the model again")
        for file in about["files"].values():
            if digest(folder / file["name"]) != file["sha256"]:
                raise SystemExit(f"{folder / file['name']} is not the file model.toml names: export the model again")
        self.dimension, self.hop1, self.hop2 = about["dimension"], about["hop1"], about["hop2"]
        self.edges = tuple(about.get("edges", ()))
        if unknown := set(self.edges) - set(NAMES):
            raise SystemExit(f"{folder}: no such edge features: {', '.join(sorted(unknown))}")
        self.merging = read_section(about["merging"])
        self.re = session(folder / about["files"]["re"]["name"])
        self.lp = session(folder / about["files"]["lp"]["name"])

    def enhance_all(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods) -> Tensor:
        return self._run(self.re, features, faces, hop2)

    def link_all(self, enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods, edges: Tensor | None = None) -> Tensor:
        return self._run(self.lp, enhanced, faces, hop1, edges)

    @staticmethod
    def _run(
        graph: onnxruntime.InferenceSession,
        values: Tensor,
        faces: Tensor,
        near: Neighbourhoods,
        edges: Tensor | None = None,
    ) -> Tensor:
        table, outputs = values.numpy(), []
        for part in torch.arange(len(faces)).split(512):
            inputs = {
                "face": table[faces[part].numpy()],
                "neighbours": table[near.rows[part].numpy()],
                "mask": near.mask[part].numpy(),
            }
            if edges is not None:
                inputs["edges"] = edges[part].numpy()
            outputs.append(graph.run(None, inputs)[0])
        return torch.from_numpy(np.concatenate(outputs))
