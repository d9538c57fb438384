"""Tolerances that follow from the arithmetic, not from the machine at hand.

Two ways to compute one thing differ by rounding: registers of another width, more threads, other blocks and
fused multiply-adds add the same terms up in another order. What that can make is bounded by the number of
roundings, the unit roundoff u of the type (2^-24 of float32) and the size of what is added; nothing in it
depends on the processor. `tests/reordered.py` adds up in other orders, to see what other processors would do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

# Roundings are as good as independent, of mean zero and at most u: a sum of n of them is beyond 4 sqrt(n) u
# by chance less often than 2 exp(-8) (Higham and Mary 2019, A new approach to probabilistic rounding error
# analysis, theorem 2.4). They are spread evenly, not all of size u: it is seven standard deviations.
_SPREAD = 4.0


def unit_roundoff(dtype: torch.dtype = torch.float32) -> float:
    """The largest relative error of one rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def sum_error(num_terms: int, scale: float, dtype: torch.dtype = torch.float32) -> float:
    """How far two sums of the same terms can lie apart, whatever the order of either: n u sum |x| each.

    `scale` is the sum of the terms' absolute values. For short sums; of long ones this is far above what
    happens.
    """
    return 2 * num_terms * unit_roundoff(dtype) * scale


def rounding_error(num_roundings: int, scale: float, dtype: torch.dtype = torch.float32) -> float:
    """How far two computations with so many roundings on their longest path lie apart, but for bad luck.

    `scale` is the size of the largest values that are added up on the way.
    """
    return 2 * _SPREAD * num_roundings**0.5 * unit_roundoff(dtype) * scale


# Numbers that a test works out by hand and the code in float32: twenty terms at most, of 4 in all.
FEW = sum_error(20, 4.0)


def model_roundings(model: Any, num_positions: int) -> int:
    """Roundings on the longest path through a decoder: to a logprob, and back to a weight's gradient.

    Every sum counts with its number of terms: of each layer two norms, the projections in and out, scores,
    softmax and values over the positions; then the last norm, the head, and the softmax over the vocabulary.
    The way back has each product twice, for inputs and for weights, which are summed over the positions.
    """
    config = model.config.get_text_config()
    hidden, heads = config.hidden_size, config.num_attention_heads
    width = getattr(config, "head_dim", None) or hidden // heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    elementwise = 20  # rotation, activation, products with a norm's weight, additions to the residual
    layer = 4 * hidden + heads * width + inner + width + 2 * num_positions + elementwise
    forward = config.num_hidden_layers * layer + 2 * hidden + config.vocab_size
    return 3 * forward + num_positions


def relative_error(model: Any, num_positions: int = 200) -> float:
    """Of numbers that come from a model's logprobs and gradients, in float32, by their size."""
    return rounding_error(model_roundings(model, num_positions), 1.0)


def assert_same(
    found: torch.Tensor,
    expected: torch.Tensor,
    model: Any,
    *,
    num_positions: int = 200,
    scale: float | None = None,
) -> None:
    """Equal but for float32's rounding on the way through the model; `scale` is that of the largest value.

    The error of a small value is that of the large ones that cancelled in it, hence one bound for all.
    """
    scale = float(expected.detach().abs().max()) if scale is None else scale
    bound = relative_error(model, num_positions) * scale
    torch.testing.assert_close(found, expected, rtol=0, atol=bound, check_dtype=False)


def same_numbers(
    expected: Mapping[str, float] | Sequence[float], model: Any, num_positions: int = 200
) -> Any:
    """Metrics, for `==`: each within the model's relative error, or that of 1 where it is smaller."""
    error = relative_error(model, num_positions)
    return pytest.approx(expected, rel=error, abs=error)


def is_a_tie(one: float, other: float, bound: float) -> bool:
    """Whether two numbers are so near that rounding decides which is the larger."""
    return abs(one - other) <= bound


def smooth_adam(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Adam whose steps are smooth in the gradient, so that rounding of a gradient stays rounding of a weight.

    With its own eps of 1e-8 the first step is the gradient's sign, times the learning rate: where a gradient
    is next to nothing, rounding alone decides which way a weight goes.
    """
    for group in optimizer.param_groups:
        group["eps"] = 1.0
    return optimizer
