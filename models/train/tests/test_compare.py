"""Every peer solves what it should, the best setting wins where it was meant to, and a limit becomes a row."""

import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from facetd_train import artefact, fixtures
from facetd_train.command_line import parser
from facetd_train.compare import chart, command, rows, stages, stream, table
from facetd_train.compare.collection import Collection, Judged, goodness, score
from facetd_train.compare.contest import Limits, Row, enter
from facetd_train.compare.density import Tree
from facetd_train.compare.graphs import RankOrder
from facetd_train.compare.immich import people as immich_people
from facetd_train.compare.method import Kind, Method, alone, clusters, grid
from facetd_train.data import Faces, Integers, normalise
from facetd_train.scores import Scores
from facetd_train.scores import score as score_everyone
from facetd_train.stage import Stage

peers = pytest.mark.skipif(
    find_spec("fishdbc") is None, reason="the peers are not here: run it with models/train/environment compare"
)
LIMITS = Limits(60, 8)


@pytest.fixture(scope="module")
def blobs() -> Faces:
    """160 faces of 20 people, far apart."""
    generator = np.random.default_rng(7)
    identities = generator.permutation(np.repeat(np.arange(20), 8))
    features = np.eye(24)[identities] + 0.03 * generator.normal(size=(160, 24))
    return Faces(normalise(features.astype(np.float32)), identities)


@pytest.fixture
def judged(blobs: Faces) -> Judged:
    return Judged.of(blobs, np.arange(10), neighbours=6, faces_per_identity=8.0)


@peers
@pytest.mark.parametrize("method", command.PEERS, ids=lambda method: method.name)
def test_some_setting_of_each_peer_solves_what_is_easy(method: Method, judged: Judged) -> None:
    assert method.here
    prepared = method.prepare(judged.collection)
    best = 0.0
    for setting in method.settings:
        labels = method.cluster(prepared, setting)
        assert len(labels) == len(judged.identities)
        best = max(best, goodness(judged.score(labels)))
        if best == 1:
            return
    assert best > 0.95 and method.name in ("K-Means", "Spectral", "FINCH"), best  # these start at random, or cut deeper


def test_naive_solves_what_is_easy(judged: Judged) -> None:
    naive = next(method for method in stages.methods(None, None) if method.name == "naive")
    row = enter(naive, judged, judged, LIMITS, flatter=True)
    assert row.scores.bcubed_f == row.chosen.scores.bcubed_f == row.flattering.scores.bcubed_f == 1
    assert row.seconds > 0


def test_stages_of_a_model(judged: Judged, artefact_folder: Path, people: Faces, tmp_path: Path) -> None:
    there = Judged.of(people, np.arange(100), neighbours=4, faces_per_identity=4.0)
    found = {method.name: method for method in stages.methods(artefact_folder, None)}
    for name in ("only RE", "only LP single", "only LP evidence"):
        assert found[name].missing == "the model was fitted without --stages"
    assert found["stream"].missing == "no --facetd"
    for method in stages.methods(with_stages(artefact_folder, tmp_path), None)[:-1]:
        assert not method.missing
        labels = method.cluster(method.prepare(there.collection), method.settings[len(method.settings) // 2])
        assert len(labels) == len(people)
    assert all(method.missing for method in stages.methods(None, None) if method.kind == Kind.OURS)


def with_stages(artefact_folder: Path, folder: Path) -> Path:
    """The same graphs once more, as those of stages."""
    for file in artefact_folder.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    mergings = dict.fromkeys(Stage, fixtures.MERGING)
    for stage, module in ((Stage.ONLY_RE, "re"), (Stage.ONLY_LP, "lp")):
        (folder / f"{stage}.onnx").write_bytes((folder / f"{module}.onnx").read_bytes())
    artefact.describe(folder, fixtures.TINY, fixtures.about(fixtures.TINY), mergings)
    return folder


FACETD = """#!{python}
import sys
import numpy
given = dict(zip(sys.argv[2:8:2], sys.argv[3:8:2]))
features = numpy.load(given["--features"])
labels = features.argmax(1)  # whose blob it is
numpy.savetxt(given["--labels"], labels, "%d")
if "--stream" in sys.argv:
    for percent in (25, 50, 75, 100):
        numpy.savetxt(given['--labels'] + '.' + str(percent), numpy.arange(len(labels) * percent // 100), "%d")
"""


def test_a_stream_is_set_beside_its_batch(judged: Judged, tmp_path: Path) -> None:
    """The program here knows everybody once it is settled, and nobody on its way."""
    program = tmp_path / "facetd"
    program.write_text(FACETD.format(python=sys.executable))
    program.chmod(0o755)
    row = enter(stream.method(program, tmp_path), judged, judged, LIMITS, flatter=False)
    assert row.name == "stream" and row.scores.bcubed_f == 1
    found = stream.moments(program, tmp_path, judged, orders=2)
    assert [moment.name for moment in found] == ["25 %", "50 %", "75 %", "100 %", "settled"]
    assert all(batch.bcubed_f == 1 for moment in found for batch in moment.batch)
    assert [[each.pairwise_f for each in moment.stream] for moment in found] == [[0, 0]] * 4 + [[1, 1]]
    assert "| settled | 100.0 / 100.0 | 100.0 / 100.0 | +0.0 / +0.0 | +0.0 / +0.0 |" in stream.markdown(found)


def test_a_stream_and_its_batch_differ_in_the_mean_and_at_most() -> None:
    pairwise = [Scores(value, value, 1, 1, 1) for value in (0.5, 0.9, 0.6)]
    moment = stream.Moment("25 %", pairwise, [pairwise[2]] * 3)
    assert moment.figures == ["66.7 / 100.0", "60.0 / 100.0", "+6.7 / +0.0", "+30.0 / +0.0"]


def test_a_program_that_fails_is_quoted(judged: Judged, tmp_path: Path) -> None:
    program = tmp_path / "facetd"
    program.write_text("#!/bin/sh\necho no such model >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(SystemExit, match="no such model"):
        stream.moments(program, tmp_path, judged)


def test_rows_outlive_a_run_of_others(judged: Judged, tmp_path: Path) -> None:
    naive = next(method for method in stages.methods(None, None) if method.name == "naive")
    found = [enter(naive, judged, judged, LIMITS, flatter=True), Row("x", Kind.OURS, "not run: no --model")]
    rows.keep(found, tmp_path)
    assert rows.read(tmp_path) == found
    (tmp_path / rows.FILE).write_text("[{}]")
    with pytest.raises(SystemExit, match=r"comparison\.json does not hold the rows"):
        rows.read(tmp_path)


def test_scores_of_everybody_are_the_usual_ones() -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(0, 30, 200), generator.integers(0, 40, 200)
    ours, usual = score(truth, predicted, np.ones(200, dtype=bool)), score_everyone(truth, predicted)
    assert vars(ours) == pytest.approx(vars(usual))


def test_a_merge_with_an_unscored_stranger_costs() -> None:
    truth, scored = np.array([0, 0, 1, 1]), np.array([True, True, False, False])
    assert score(truth, np.array([5, 5, 6, 7]), scored).bcubed_f == 1  # what became of strangers alone does not matter
    mixed = score(truth, np.array([5, 5, 5, 7]), scored)
    assert mixed.bcubed_precision == pytest.approx(2 / 3)
    assert mixed.pairwise_precision == pytest.approx(1 / 2)


def sleepy(collection: Collection) -> Collection:
    return collection


def slower_and_slower(collection: Collection, setting: dict) -> Integers:
    time.sleep(float(setting["seconds"]))
    return np.zeros(len(collection), dtype=np.int64)


def test_time_out_is_a_row(judged: Judged) -> None:
    method = Method("slow", sleepy, slower_and_slower, grid(seconds=[0.0, 60.0]))
    row = enter(method, judged, judged, Limits(3, 8), flatter=False)
    assert row.scores is not None and "1 of 2 settings: more than 0.05 minutes" in row.note
    row = enter(Method("slow", sleepy, slower_and_slower, grid(seconds=[60.0])), judged, judged, Limits(3, 8), False)
    assert row.scores is None and "on the test half more than 0.05 minutes" in row.note


def greedy(collection: Collection) -> Integers:
    return np.ones((1 << 20, 1 << 14))


def test_too_much_memory_is_a_row(judged: Judged) -> None:
    row = enter(Method("large", greedy, slower_and_slower), judged, judged, Limits(30, 4), flatter=False)
    assert row.scores is None and "does not fit in 4 GiB" in row.note


def test_a_missing_package_is_a_row(judged: Judged) -> None:
    row = enter(Method("x", sleepy, slower_and_slower, package="no_such_one"), judged, judged, LIMITS, flatter=False)
    assert "no_such_one is not installed" in row.note


def test_rank_order_by_hand() -> None:
    """Faces on a line: each has its two nearest, and the lists of 0 and 1 hold the same faces."""
    angle = np.array([0.0, 0.1, 0.25, 1.4, 1.5, 1.62])
    features = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    found = RankOrder.of(Collection(features, 2, 3.0))
    distance = {(a, b): d for a, b, d in zip(found.face.tolist(), found.other.tolist(), found.distance, strict=True)}
    assert distance[0, 1] == distance[1, 2] == 0
    labels = found.linked({"distance": 0.5})
    assert (labels == labels[[0, 0, 0, 3, 3, 3]]).all() and labels[0] != labels[3]


def test_immich_founds_people_of_cores_only() -> None:
    angle = np.array([0.0, 0.1, 0.05, 1.5, 0.2])  # three that found a person, one that stands alone, one that joins
    features = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    near = Collection(features, 2, 3.0).closer_than(0.3)
    labels = immich_people(near, {"cosine": 0.99, "min_faces": 3})
    assert (labels == labels[0]).tolist() == [True, True, True, False, True]


@peers
def test_hdbscan_s_tree_of_every_pair_is_the_reference_s(blobs: Faces) -> None:
    from sklearn.cluster import HDBSCAN

    few = normalise(blobs.features + 0.2 * np.random.default_rng(2).normal(size=blobs.features.shape))
    tree = Tree.of_every_pair(Collection(few.astype(np.float32), 5, 8.0))
    ours = tree.cut({"min_cluster_size": 3, "min_samples": 1, "select": "eom", "epsilon": 0.0})
    distances = (1 - few.astype(np.float64) @ few.T).clip(0)
    np.fill_diagonal(distances, 0)
    # scikit-learn counts the face itself among its samples.
    theirs = alone(HDBSCAN(min_cluster_size=3, min_samples=2, metric="precomputed", copy=True).fit_predict(distances))
    assert score_everyone(theirs, ours).bcubed_f == 1


def test_numbers_of_clusters_transfer(judged: Judged) -> None:
    assert clusters(judged.collection, 1.0) == 20
    assert clusters(judged.collection, 2.0) == 10
    assert clusters(judged.collection, 0.001) == 160


def test_the_table_and_the_chart() -> None:
    scores = score_everyone(np.array([0, 0, 1]), np.array([0, 0, 1]))
    found = [Row("A & B", Kind.PEER, "streaming", scores, seconds=1.25), Row("C", Kind.OURS, "more than 10 minutes")]
    lines = table.markdown(found, flatter=False).splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert lines[2].startswith("| A & B | 100.00 | 100.00 | 100.00 | 1.2 s |")
    assert "more than 10 minutes" in lines[3]
    assert "DDC" in table.not_run_here() and "91.12" in table.not_run_here()
    drawn = chart.svg(found, "faces")
    assert "A &amp; B" in drawn and ">C<" not in drawn and drawn.startswith("<svg")


def test_bad_requests_are_said(people: Faces, tmp_path: Path) -> None:
    from facetd_train import data

    data.write(people, tmp_path / "p")
    base = ["compare", "--features", f"{tmp_path}/p.bin", "--labels", f"{tmp_path}/p.meta", "--dimension", "16"]
    base += ["--out", str(tmp_path / "out")]
    for more, said in ((["--neighbours", "300"], "300 neighbours need 301"), (["--only", "X"], "there is no X")):
        arguments = parser().parse_args([*base, *more])
        with pytest.raises(SystemExit, match=said):
            arguments.command(arguments)
