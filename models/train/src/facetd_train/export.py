"""Both modules as ONNX graphs: one file each, named and dynamic axes, no trace of the machine that wrote them.

An export is not believed: each graph is run under onnxruntime against the PyTorch module on batches, lengths and masks
it was not traced with.
"""

import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from facetd_train.artefact import OPSET, file_name, session
from facetd_train.model import Architecture, FaceTransformer
from facetd_train.stage import OnEmbeddings

TOLERANCE = 1e-4  # of a probability; two ways to sum f32 differ by 2e-5 where a judge is steep


def export(model: FaceTransformer, folder: Path) -> None:
    """Writes the graphs of the model's stage; raises ExportError when onnxruntime disagrees with PyTorch."""
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    sizes, stage = model.architecture, model.architecture.stage
    if stage.has_re:
        write(model.re, folder / file_name(stage, "re"), "hop2", sizes)
    if stage.has_lp:
        lp = model.lp if stage.has_re else OnEmbeddings(model.lp, sizes.dimension).eval()
        write(lp, folder / file_name(stage, "lp"), "hop1", sizes)


def write(module: nn.Module, file: Path, hop: str, sizes: Architecture) -> None:
    output, edges = ("enhanced", 0) if hop == "hop2" else ("linkage", len(sizes.edges))
    trace(module, file, hop, output, sizes.dimension, edges)
    check(module, file, sizes.dimension, getattr(sizes, hop), edges)


def trace(module: nn.Module, file: Path, hop: str, output: str, dimension: int, edges: int = 0) -> None:
    inputs = sample(3, 4, dimension, "partly masked", edges)
    axes = {name: {0: "batch"} if name == "face" else {0: "batch", 1: hop} for name in inputs}
    axes[output] = {0: "batch"} if output == "enhanced" else {0: "batch", 1: hop}
    with warnings.catch_warnings():
        # The tracing exporter is deprecated but needs no more packages and writes a graph of plain operators.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            file,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    graph = onnx.load(file)
    strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)  # weights stay inside: no external data


def strip(graph: onnx.ModelProto) -> None:
    """Removes what an exporter may leave about the machine: stack traces and paths in comments and metadata."""
    del graph.metadata_props[:]
    graph.doc_string = graph.graph.doc_string = ""
    del graph.graph.metadata_props[:]
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]


class ExportError(Exception):
    pass


def check(module: nn.Module, file: Path, dimension: int, hop: int, edges: int = 0) -> None:
    graph = session(file)
    for batch in (1, 3, 64):
        for length in (1, 2, 7, hop):
            for kind in ("full", "partly masked", "fully masked"):
                inputs = sample(batch, length, dimension, kind, edges)
                if isinstance(module, OnEmbeddings):  # of length 1, as it takes them
                    inputs |= {name: inputs[name] / dimension**0.5 for name in ("face", "neighbours")}
                with torch.inference_mode():
                    expected = module(*inputs.values())
                got = torch.from_numpy(graph.run(None, {name: value.numpy() for name, value in inputs.items()})[0])
                if not torch.allclose(got, expected, atol=TOLERANCE, rtol=TOLERANCE):
                    apart = (got - expected).abs().max()
                    raise ExportError(f"{file.name}: {apart:.2g} apart at batch {batch}, length {length}, {kind}")


def sample(batch: int, length: int, dimension: int, masks: str, edges: int = 0) -> dict[str, Tensor]:
    """A face, neighbours, a mask and perhaps edge features, on the scale that modules meet: LayerNorm's, and -1..1."""
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    face = torch.randn(batch, dimension, generator=generator)
    neighbours = face.unsqueeze(1) + torch.randn(batch, length, dimension, generator=generator)
    mask = {
        "full": torch.ones(batch, length, dtype=torch.bool),
        "partly masked": torch.arange(length) < torch.randint(0, length + 1, (batch, 1), generator=generator),
        "fully masked": torch.zeros(batch, length, dtype=torch.bool),
    }[masks]
    inputs = {"face": face, "neighbours": neighbours, "mask": mask}
    if edges:
        inputs["edges"] = (2 * torch.rand(batch, length, edges, generator=generator) - 1) * mask.unsqueeze(2)
    return inputs
