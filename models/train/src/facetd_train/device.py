"""Where a model runs: on CUDA, trained with bf16, or on the CPU in f32."""

import torch
from torch import nn

CPU = torch.device("cpu")


def choose(name: str) -> torch.device:
    """`auto` takes CUDA where there is one; `cuda` fails without."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: there is no CUDA here; auto or cpu goes without")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def of(model: object) -> torch.device:
    """That of the weights; whatever has none, or is no module of PyTorch, takes and gives tensors on the CPU."""
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((weight.device for weight in weights), CPU)


def precision(device: torch.device) -> torch.autocast:
    """For training steps: bf16 where the GPU has it; answers are always computed in f32, as the daemon does."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)
