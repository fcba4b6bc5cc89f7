"""The oracle the Rust tests trust merges as DESIGN.md words it, and answers cases as it says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import oracle
from brute_force import Case, partition, random_case
from facetd_train import data, pipeline
from facetd_train.artefact import Artefact
from facetd_train.data import Faces
from oracle_merging import Constraints, Merging, Pair, merge


def merged(case: Case) -> set[frozenset[int]]:
    section = {"rule": case.rule, "threshold": case.threshold, "per_face": case.per_face, "cap": case.cap}
    scored = {Pair(*ends): linkage for ends, linkage in case.linkages.items()}
    constraints = Constraints(case.must, case.apart, case.weak - {face for pair in case.must for face in pair})
    return partition(merge(case.faces, scored, Merging.read(section), constraints))


@pytest.mark.parametrize("seed", range(50))
def test_merging_is_brute_force(seed: int) -> None:
    case = random_case(seed, constrained=False)
    assert merged(case) == case.merge()


@pytest.mark.parametrize("seed", range(200))
def test_merging_under_constraints_is_brute_force(seed: int) -> None:
    case = random_case(seed, constrained=True)
    case.weak.difference_update(face for pair in case.must for face in pair)
    assert merged(case) == case.merge()


def test_the_oracle_and_the_training_agree_on_the_pipeline(
    artefact_folder: Path, people: Faces, tmp_path: Path
) -> None:
    data.write(people, tmp_path / "people")
    arguments = ["--features", tmp_path / "people.bin", "--dimension", "16", "--labels", tmp_path / "labels"]
    run(["--model", artefact_folder, *arguments])
    model = Artefact(artefact_folder)
    expected = pipeline.link(model, people.features).clusters(model.merging)
    labels = [int(line) for line in (tmp_path / "labels").read_text().split()]
    assert 1 < len(set(labels)) < len(people)
    assert partition(labels) == partition(expected.tolist())


def faces_of(people: Faces, count: int) -> list[dict]:
    rows = people.features[np.argsort(people.identities)[:count]].tolist()
    # Named against the order of the rows: labels come back in the order of the case.
    return [
        {"id": f"face {count - row:03}", "embedding": values, "frame": None, "quality": None}
        for row, values in enumerate(rows)
    ]


def answers(folder: Path, artefact_folder: Path, cases: list[dict]) -> list[list[int]]:
    plain = {"must": [], "cannot": [], "quality_floor": 0.0, "merging": None}
    (folder / "cases").write_text("".join(json.dumps(plain | case) + "\n" for case in cases))
    run(["--model", artefact_folder, "--cases", folder / "cases", "--answers", folder / "answers"])
    return [json.loads(line)["labels"] for line in (folder / "answers").read_text().splitlines()]


def run(arguments: list[object]) -> None:
    subprocess.run([sys.executable, oracle.__file__, *map(str, arguments)], check=True)


SINGLE = {"rule": "single", "threshold": 0.5}


def test_cases_are_answered(people: Faces, artefact_folder: Path, tmp_path: Path) -> None:
    faces = faces_of(people, 24)
    names = [face["id"] for face in faces]
    plain, together = [{"faces": faces}, {"faces": faces, "merging": {"rule": "single", "threshold": 0.0}}]
    framed = {"faces": [face | {"frame": "f"} for face in faces], "merging": SINGLE}
    must = {"faces": faces, "merging": {"rule": "single", "threshold": 0.999}, "must": [[names[0], names[23]]]}
    forbidden = must | {"cannot": [[names[23], names[0]]]}
    poor = [face | {"quality": 0.1} for face in faces]
    weak = {"faces": poor[:1] + faces[1:], "quality_floor": 0.2, "merging": SINGLE}
    got = answers(tmp_path, artefact_folder, [plain, together, framed, must, forbidden, weak])
    assert all(len(labels) == 24 for labels in got)
    assert 1 < len(set(got[0])) < 24
    assert len(set(got[1])) == 1
    assert len(set(got[2])) == 24
    assert got[3][0] == got[3][23]
    assert got[4][0] != got[4][23]
    assert len(set(got[4])) == len(set(got[3])) + 1


def test_a_weak_face_does_not_bridge() -> None:
    """0 and 1 are one with 2, which is poor: it joins the nearer and the other stays out."""
    scored = {Pair(0, 2): 0.8, Pair(1, 2): 0.9}
    merging = Merging.read(SINGLE)
    assert merge(3, scored, merging, Constraints()) == [0, 0, 0]
    assert merge(3, scored, merging, Constraints(weak={2})) == [0, 1, 1]


def test_the_smallest_collections(people: Faces, artefact_folder: Path, tmp_path: Path) -> None:
    two = faces_of(people, 2)
    twins = [two[0], two[0] | {"id": "twin"}]
    cases = [{"faces": two[:1]}, {"faces": two}, {"faces": twins}, {"faces": []}]
    one, pair, twin, nobody = answers(tmp_path, artefact_folder, [case | {"merging": SINGLE} for case in cases])
    assert (one, nobody) == ([0], [])
    assert len(pair) == 2
    assert twin == [0, 0]


def test_neighbours_that_are_alike_tie_by_order() -> None:
    faces = oracle.normalised(np.array([[1, 0], [0, 3], [0, 1], [0, 2], [5, 5]], dtype=np.float32))
    assert oracle.neighbourhoods(faces, 2).tolist() == [[4, 1], [2, 3], [1, 3], [1, 2], [0, 1]]
