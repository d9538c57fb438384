"""Muon in float32: momentum, orthogonalised by five Newton-Schulz steps, matrices of one shape at a time.

As `torch.optim.Muon` with its defaults and no weight decay. That one works in bfloat16: on a processor that
can not multiply in it a step of the base takes 723 ms, this one 36 ms (AMD EPYC without AVX-512).
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of Keller Jordan's implementation
_STEPS = 5
_EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """For the matrices inside a model's layers."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient; Nesterov momentum."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                updates = torch.stack([self._with_momentum(m, group["momentum"]) for m in matrices])
                rate = group["lr"] * math.sqrt(max(1, shape[0] / shape[1]))
                for matrix, update in zip(matrices, orthogonalized(updates), strict=True):
                    matrix.add_(update, alpha=-rate)

    def _with_momentum(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Each matrix [N, rows, columns] with its singular values moved to about 1 (0.7 to 1.2)."""
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_EPS)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
