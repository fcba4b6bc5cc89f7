"""PReLU, the activation of the paper's MLP."""

import torch
from torch import Tensor, nn


class PReLU(nn.Module):
    """`max(x, 0) + slope min(x, 0)` with a learnt slope for each feature, on the last axis (torch's own: axis 1)."""

    def __init__(self, width: int, slope: float = 0.25) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((width,), slope))

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() - self.slope * (-x).relu()
