"""What `facetd cluster`, and a stream once settled, must answer: an oracle that shares no code with either.

Neighbours by brute force, the graphs under onnxruntime, and merging of its own (`oracle_merging.py`).

usage: oracle.py --features F.bin --dimension D --model DIR --labels OUT
       oracle.py --cases FILE.jsonl --model DIR --answers OUT.jsonl

A case is one collection, a JSON object a line:
{"faces": [{"id": "a", "embedding": [0.1, …], "frame": "f1" or null, "quality": 0.7 or null}, …],
 "must": [["a", "b"], …], "cannot": [["a", "c"], …], "quality_floor": 0.5,
 "merging": null, or an object that replaces [merging] of model.toml}
Its answer is {"labels": [0, 0, 1, …]}: a cluster number for each face, in the order of the case.
"""

import argparse
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from oracle_merging import Constraints, Merging, Pair, Scored, merge

CHUNK = 512


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="headless little-endian f32, row-major")
    parser.add_argument("--dimension", type=int)
    parser.add_argument("--labels", type=Path, help="written: one integer a line")
    parser.add_argument("--cases", type=Path, help="one case a line")
    parser.add_argument("--answers", type=Path, help="written: one answer a line")
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    if arguments.cases:
        cases = [json.loads(line) for line in arguments.cases.read_text().splitlines()]
        answers = [json.dumps({"labels": answer(model, case)}) for case in cases]
        arguments.answers.write_text("".join(f"{line}\n" for line in answers))
    else:
        features = np.fromfile(arguments.features, dtype="<f4").reshape(-1, arguments.dimension)
        # Rows are faces in the order of their ids.
        labels = merge(len(features), linkages(model, normalised(features)), model.merging, Constraints())
        arguments.labels.write_text("".join(f"{label}\n" for label in labels))


@dataclass(frozen=True)
class Model:
    hop1: int
    hop2: int
    edges: list[str]
    merging: Merging
    relation_encoder: onnxruntime.InferenceSession
    linkage_predictor: onnxruntime.InferenceSession

    @staticmethod
    def load(folder: Path) -> "Model":
        about = tomllib.loads((folder / "model.toml").read_text())
        encoder, predictor = (
            onnxruntime.InferenceSession(folder / about["files"][part]["name"], providers=["CPUExecutionProvider"])
            for part in ("re", "lp")
        )
        merging = Merging.read(about["merging"])
        return Model(about["hop1"], about["hop2"], about["edges"], merging, encoder, predictor)


def answer(model: Model, case: dict) -> list[int]:
    # From here on a face is its place in the order of ids: that decides every tie.
    faces = sorted(case["faces"], key=lambda face: face["id"].encode())
    place = {face["id"]: number for number, face in enumerate(faces)}
    features = np.array([face["embedding"] for face in faces], dtype=np.float32)
    frames: dict[str, set[int]] = {}
    for number, face in enumerate(faces):
        if face["frame"] is not None:
            frames.setdefault(face["frame"], set()).add(number)
    poor = {
        n for n, face in enumerate(faces) if face["quality"] is not None and face["quality"] < case["quality_floor"]
    }
    must = [(place[one], place[other]) for one, other in case["must"]]
    constraints = Constraints(
        must=must,
        apart=[*frames.values(), *({place[one], place[other]} for one, other in case["cannot"])],
        weak=poor - {face for pair in must for face in pair},
    )
    merging = model.merging if case["merging"] is None else Merging.read(case["merging"])
    labels = merge(len(faces), linkages(model, normalised(features)), merging, constraints) if faces else []
    return [labels[place[face["id"]]] for face in case["faces"]]


def normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1: the length in f64, summed from left to right, and the quotient rounded to f32."""
    exact = features.astype(np.float64)
    length = np.sqrt(np.cumsum(exact**2, axis=1)[:, -1:])
    return (exact / length).astype(np.float32)


def linkages(model: Model, faces: NDArray[np.float32]) -> Scored:
    """The linkage of each face with each of its hop1 nearest, by (face, candidate)."""
    near = neighbourhoods(faces, model.hop1)
    if near.shape[1] == 0:
        return {}  # one face alone
    enhanced = run(model.relation_encoder, faces, near[:, : model.hop2], model.hop2)
    told = edges(model.edges, faces, near, model.hop1) if model.edges else None
    linkage = run(model.linkage_predictor, enhanced, near, model.hop1, told)
    return {
        Pair(face, candidate): p
        for face, (candidates, scored) in enumerate(zip(near.tolist(), linkage.tolist(), strict=True))
        for candidate, p in zip(candidates, scored, strict=False)  # scores of what is masked are left over
    }


def neighbourhoods(faces: NDArray[np.float32], hop1: int) -> NDArray[np.int64]:
    """Rows of the hop1 nearest other faces by cosine, ties by row order; all others where there are fewer."""
    exact, found = faces.astype(np.float64), []
    for start in range(0, len(faces), CHUNK):
        # Rounded, so that equal faces tie however the product was summed.
        cosine = (exact[start : start + CHUNK] @ exact.T).round(12)
        own = np.arange(len(cosine))
        cosine[own, start + own] = -np.inf  # last, and then cut off
        found.append(np.argsort(-cosine, axis=1, kind="stable")[:, : min(hop1, len(faces) - 1)])
    return np.concatenate(found)


def edges(names: list[str], faces: NDArray[np.float32], near: NDArray[np.int64], hop1: int) -> NDArray[np.float32]:
    """What models/train/EDGES.md defines, pair after pair as it is written there."""
    exact, neighbourhoods = faces.astype(np.float64), near.tolist()
    similarity = [
        dict(zip(row, (exact[row] @ face).tolist(), strict=True)) for row, face in zip(near, exact, strict=True)
    ]

    def circle(face: int, m: int) -> dict[int, float]:
        return {face: 1.0} | {other: max(0.0, similarity[face][other]) for other in neighbourhoods[face][:m]}

    def shared(q: int, k: int, m: int) -> float:
        ours, theirs = circle(q, m), circle(k, m)
        lengths = math.hypot(*ours.values()) * math.hypot(*theirs.values())
        return sum(weight * theirs.get(face, 0.0) for face, weight in ours.items()) / lengths

    def density(face: int) -> float:
        nearest = [similarity[face][other] for other in neighbourhoods[face][:10]]
        return sum(nearest) / max(1, len(nearest))

    def rank(of: int, around: int) -> float:
        known = neighbourhoods[around]
        return math.log1p(known.index(of)) / math.log1p(hop1) if of in known else 1.0

    features = {
        "cosine": lambda q, k: similarity[q][k],
        "rank": lambda q, k: rank(k, q),
        "reverse_rank": lambda q, k: rank(q, k),
        "weighted_shared_5": lambda q, k: shared(q, k, 5),
        "weighted_shared_hop1": lambda q, k: shared(q, k, hop1),
        "density_query": lambda q, k: similarity[q][k] - density(q),
        "density_candidate": lambda q, k: similarity[q][k] - density(k),
    }
    rows = [[[features[name](q, k) for name in names] for k in row] for q, row in enumerate(neighbourhoods)]
    return np.array(rows, dtype=np.float32)


def run(
    graph: onnxruntime.InferenceSession,
    values: NDArray[np.float32],
    near: NDArray[np.int64],
    width: int,
    told: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """One output a face. A neighbourhood shorter than `width` is filled with zeros, and the filling masked."""
    outputs = []
    for start in range(0, len(values), CHUNK):
        rows = near[start : start + CHUNK]
        neighbours = np.zeros((len(rows), width, values.shape[1]), dtype=np.float32)
        neighbours[:, : rows.shape[1]] = values[rows]
        mask = np.zeros((len(rows), width), dtype=bool)
        mask[:, : rows.shape[1]] = True
        inputs = {"face": values[start : start + CHUNK], "neighbours": neighbours, "mask": mask}
        if told is not None:
            inputs["edges"] = np.zeros((len(rows), width, told.shape[2]), dtype=np.float32)
            inputs["edges"][:, : rows.shape[1]] = told[start : start + CHUNK]
        outputs.append(graph.run(None, inputs)[0])
    return np.concatenate(outputs)


if __name__ == "__main__":
    main()
