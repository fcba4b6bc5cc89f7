"""What is exported computes what was trained, and carries nothing else."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from facetd_train import artefact, fixtures, pipeline
from facetd_train.artefact import Artefact
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.export import ExportError, check, export
from facetd_train.merging import SINGLE, Merging
from facetd_train.model import FACETD, FaceTransformer
from facetd_train.stage import Stage


@pytest.mark.parametrize(("file", "hop", "output"), [("re.onnx", "hop2", "enhanced"), ("lp.onnx", "hop1", "linkage")])
def test_graphs_have_the_contract_s_inputs_and_outputs(artefact_folder: Path, file: str, hop: str, output: str) -> None:
    graph = onnx.load(artefact_folder / file)

    def shape(value: onnx.ValueInfoProto) -> list[str | int]:
        return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    assert {value.name: shape(value) for value in graph.graph.input} == {
        "face": ["batch", 16],
        "neighbours": ["batch", hop, 16],
        "mask": ["batch", hop],
    }
    kinds = [value.type.tensor_type.elem_type for value in graph.graph.input]
    assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL]
    assert {value.name: shape(value) for value in graph.graph.output} == {
        output: ["batch", 16] if output == "enhanced" else ["batch", hop]
    }
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", artefact.OPSET)]


@pytest.mark.parametrize("file", ["re.onnx", "lp.onnx"])
def test_graphs_tell_nothing_of_the_machine(artefact_folder: Path, file: str) -> None:
    content = (artefact_folder / file).read_bytes()
    for trace in (b"facetd_train", b".py", b"site-packages", str(Path.home()).encode()):
        assert trace not in content
    graph = onnx.load(artefact_folder / file, load_external_data=False)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    assert not any(node.doc_string or node.metadata_props for node in graph.graph.node)


def test_the_check_notices_another_model(model: FaceTransformer, artefact_folder: Path) -> None:
    check(model.re, _exported(model, artefact_folder), 16, 3)
    with torch.no_grad():
        model.re.norm.bias[0] += 1e-3
    with pytest.raises(ExportError, match=r"re\.onnx"):
        check(model.re, _exported_path(artefact_folder), 16, 3)


def _exported_path(folder: Path) -> Path:
    return folder / "other" / "re.onnx"


def _exported(model: FaceTransformer, folder: Path) -> Path:
    export(model, folder / "other")
    return _exported_path(folder)


def test_rows_do_not_depend_on_their_companions(artefact_folder: Path) -> None:
    graph = artefact.session(artefact_folder / "lp.onnx")
    generator = np.random.default_rng(1)
    face = generator.normal(size=(64, 16)).astype(np.float32)
    near = generator.normal(size=(64, 6, 16)).astype(np.float32)
    mask = generator.random((64, 6)) > 0.4
    together = graph.run(None, {"face": face, "neighbours": near, "mask": mask})[0]
    alone = graph.run(None, {"face": face[9:10], "neighbours": near[9:10], "mask": mask[9:10]})[0]
    np.testing.assert_allclose(alone[0], together[9], atol=1e-6)


def test_model_toml_is_complete(artefact_folder: Path) -> None:
    about = tomllib.loads((artefact_folder / "model.toml").read_text())
    assert list(about) == [
        *("format", "name", "dimension", "hop1", "hop2", "opset", "edges"),
        *("merging", "files", "training", "scores", "neighbour_similarity"),
    ]
    assert (about["format"], about["dimension"], about["hop1"], about["hop2"]) == (1, 16, 6, 3)
    assert about["edges"] == []
    assert about["merging"] == {
        **{"rule": "evidence", "threshold": 0.2, "threshold_off": 0.15},
        **{"per_face": 2, "cap": 6},
    }
    assert list(about["scores"]) == ["pairwise_f", "bcubed_f", "nmi"]
    assert list(about["neighbour_similarity"]) == ["q01", "q10", "q50", "q90", "q99"]
    for part in ("re", "lp"):
        assert about["files"][part]["sha256"] == artefact.digest(artefact_folder / f"{part}.onnx")


def test_merging_is_read_as_it_was_written() -> None:
    for merging in (fixtures.MERGING, Merging(SINGLE, threshold=0.345, threshold_off=0.3)):
        assert artefact.read_section(tomllib.loads(artefact.section(merging))) == merging
    without = {"rule": "single", "threshold": 0.34}
    assert artefact.read_section(without) == Merging(SINGLE, threshold=0.34, threshold_off=0.34)


def test_a_changed_file_is_refused(artefact_folder: Path, tmp_path: Path) -> None:
    for file in artefact_folder.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Artefact(tmp_path)
    (tmp_path / "lp.onnx").write_bytes((artefact_folder / "re.onnx").read_bytes())
    with pytest.raises(SystemExit, match=r"lp\.onnx"):
        Artefact(tmp_path)


def test_the_artefact_scores_as_the_model_does(model: FaceTransformer, people: Faces, tmp_path: Path) -> None:
    export(model, tmp_path)
    (tmp_path / "model.toml").write_text(
        'format = 1\ndimension = 16\nhop1 = 6\nhop2 = 3\nmerging = { rule = "single", threshold = 0.5 }\n'
        + "".join(
            f'[files.{part}]\nname = "{part}.onnx"\nsha256 = "{artefact.digest(tmp_path / f"{part}.onnx")}"\n'
            for part in ("re", "lp")
        )
    )
    expected = pipeline.link(model, people.features)
    got = pipeline.link(Artefact(tmp_path), people.features)
    np.testing.assert_array_equal(got.candidate, expected.candidate)
    np.testing.assert_allclose(got.linkage, expected.linkage, atol=1e-5)


@pytest.fixture
def learnt_folder(tmp_path: Path) -> Path:
    """The artefact of a model of the form that is fed edges."""
    made = FaceTransformer(replace(fixtures.TINY, kind=FACETD, edges=NAMES)).eval()
    fixtures.disturb(made)
    export(made, tmp_path)
    artefact.describe(tmp_path, made.architecture, fixtures.about(made.architecture), {Stage.RE_LP: fixtures.MERGING})
    torch.save(made, tmp_path / "model.pt")
    return tmp_path


def test_edges_are_an_input_only_where_they_are_named(learnt_folder: Path, artefact_folder: Path) -> None:
    about = tomllib.loads((learnt_folder / "model.toml").read_text())
    assert about["edges"] == list(NAMES)
    assert about["training"]["architecture"] == "facetd"
    plain = tomllib.loads((artefact_folder / "model.toml").read_text())
    assert plain["training"]["architecture"] == "paper"

    def inputs(folder: Path, file: str) -> dict[str, list[str | int]]:
        return {value.name: value.shape for value in artefact.session(folder / file).get_inputs()}

    assert inputs(learnt_folder, "lp.onnx") == {
        "face": ["batch", 16],
        "neighbours": ["batch", "hop1", 16],
        "mask": ["batch", "hop1"],
        "edges": ["batch", "hop1", len(NAMES)],
    }
    assert "edges" not in inputs(learnt_folder, "re.onnx") | inputs(artefact_folder, "lp.onnx")


def test_an_artefact_with_edges_scores_as_its_model_does(learnt_folder: Path, people: Faces) -> None:
    model = torch.load(learnt_folder / "model.pt", weights_only=False)
    for count in (2, 5, 400):
        expected = pipeline.link(model, people.features[:count])
        got = pipeline.link(Artefact(learnt_folder), people.features[:count])
        np.testing.assert_array_equal(got.candidate, expected.candidate)
        np.testing.assert_allclose(got.linkage, expected.linkage, atol=1e-5)


def test_an_unknown_edge_feature_is_refused(learnt_folder: Path) -> None:
    about = learnt_folder / "model.toml"
    about.write_text(about.read_text().replace('"rank"', '"beauty"'))
    with pytest.raises(SystemExit, match="beauty"):
        Artefact(learnt_folder)


def test_recorded_cases_are_what_the_graphs_answer(artefact_folder: Path) -> None:
    cases = json.loads((artefact_folder / "cases.json").read_text())
    assert [case["batch"] for case in cases] == [1, 1, 64, 64]
    assert (artefact_folder / "cases.json").stat().st_size < 1_000_000
    for case in cases:
        for part, hop, output in (("re", case["hop2"], "enhanced"), ("lp", case["hop1"], "linkage")):
            recorded, batch, wide = case[part], case["batch"], case["dimension"]
            inputs = {
                "face": np.array(recorded["face"], dtype=np.float32).reshape(batch, wide),
                "neighbours": np.array(recorded["neighbours"], dtype=np.float32).reshape(batch, hop, wide),
                "mask": np.array(recorded["mask"], dtype=bool).reshape(batch, hop),
            }
            got = artefact.session(artefact_folder / f"{part}.onnx").run(None, inputs)[0]
            np.testing.assert_allclose(got.flatten(), recorded[output], atol=1e-5)
    short = cases[-1]
    assert sum(short["re"]["mask"][:3]) == sum(short["lp"]["mask"][:6]) == 0
    assert np.quantile(cases[2]["lp"]["linkage"], 0.1) < 0.4 < 0.8 < np.quantile(cases[2]["lp"]["linkage"], 0.5)


def test_fixtures_repeat_themselves(artefact_folder: Path, tmp_path: Path) -> None:
    fixtures.write(tmp_path)
    for file in ("re.onnx", "lp.onnx", "model.toml", "cases.json"):
        assert (tmp_path / file).read_bytes() == (artefact_folder / file).read_bytes()
