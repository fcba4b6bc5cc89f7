"""The paper's batch pipeline in a few lines, to compare `facetd cluster` with: no code shared with it or the training.

usage: oracle.py --features F.bin --dimension D --model DIR --labels OUT
"""

import argparse
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CHUNK = 512


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=Path, required=True, help="headless little-endian f32, row-major")
    parser.add_argument("--dimension", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="written: one integer a line")
    arguments = parser.parse_args()
    features = np.fromfile(arguments.features, dtype="<f4").reshape(-1, arguments.dimension)
    labels = cluster(features, arguments.model)
    arguments.labels.write_text("".join(f"{label}\n" for label in labels))


def cluster(features: NDArray[np.float32], model: Path) -> NDArray[np.int32]:
    about = tomllib.loads((model / "model.toml").read_text())
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    faces = (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    near = neighbourhoods(faces, about["hop1"])
    enhanced = run(model / about["files"]["re"]["name"], faces, near[:, : about["hop2"]])
    linkage = run(model / about["files"]["lp"]["name"], enhanced, near)
    # Either direction above the threshold makes the link: components do not ask which.
    face, place = np.nonzero(linkage > about["merging"]["threshold"])
    links = coo_array((np.ones(len(face)), (face, near[face, place])), shape=(len(faces), len(faces)))
    return connected_components(links, directed=False)[1]


def neighbourhoods(faces: NDArray[np.float32], hop1: int) -> NDArray[np.int64]:
    """Rows of the hop1 nearest other faces by cosine, ties by row order."""
    exact, found = faces.astype(np.float64), []
    for start in range(0, len(faces), CHUNK):
        # Rounded, so that equal faces tie however the product was summed.
        cosine = (exact[start : start + CHUNK] @ exact.T).round(12)
        own = np.arange(len(cosine))
        cosine[own, start + own] = -np.inf  # last, and then cut off
        found.append(np.argsort(-cosine, axis=1, kind="stable")[:, : min(hop1, len(faces) - 1)])
    return np.concatenate(found)


def run(graph: Path, values: NDArray[np.float32], near: NDArray[np.int64]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    outputs = []
    for start in range(0, len(values), CHUNK):
        rows = near[start : start + CHUNK]
        inputs = {
            "face": values[start : start + CHUNK],
            "neighbours": values[rows],
            "mask": np.ones(rows.shape, dtype=bool),
        }
        outputs.append(session.run(None, inputs)[0])
    return np.concatenate(outputs)


if __name__ == "__main__":
    main()
