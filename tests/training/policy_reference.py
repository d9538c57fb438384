"""The policy losses once more, from the papers' equations: token by token, in float64, with plain loops."""

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from tests.bounds import rounding_error

F64 = torch.float64
Scalar = torch.Tensor

MAX_LENGTH = 11.0
KINDS = ("grpo", "dr_grpo", "dapo", "gspo", "cispo")


def kl_k1(logprob: Scalar, ref: Scalar) -> Scalar:
    """The value of log pi/ref; as a loss (log pi/ref, held) * log pi: the score function's gradient."""
    held = float(logprob.detach() - ref)
    return held * logprob + (held - held * float(logprob.detach()))


def kl_k2(logprob: Scalar, ref: Scalar) -> Scalar:
    return 0.5 * (logprob - ref) * (logprob - ref)


def kl_k3(logprob: Scalar, ref: Scalar) -> Scalar:
    inverse = torch.exp(ref) / torch.exp(logprob)
    return inverse - torch.log(inverse) - 1


KLS: dict[str, Callable[[Scalar, Scalar], Scalar]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def clip(ratio: Scalar, low: float, high: float) -> Scalar:
    return torch.clamp(ratio, 1 - low, 1 + high)


def importance_weights(correction, old, sampler, mask, cap) -> torch.Tensor:
    """Each token's weight against the sampler, one at a time."""
    weights = torch.ones_like(old)
    for i in range(mask.shape[0]):
        tokens = [t for t in range(mask.shape[1]) if mask[i, t]]
        for t in tokens:
            own = tokens if correction == "sequence" else [t]
            if correction != "none":
                factors = [float(torch.exp(old[i, u]) / torch.exp(sampler[i, u])) for u in own]
                weights[i, t] = min(math.prod(factors), cap)
    return weights


def reference_loss(
    kind, logprobs, old, ref, advantages, mask, weights, *, clip_low, clip_high, kl_coef, kl
) -> Scalar:
    """The loss of all rows at once, so that every denominator is counted here, not given."""
    rows = [[t for t in range(mask.shape[1]) if mask[i, t]] for i in range(mask.shape[0])]
    num_rows = sum(len(tokens) > 0 for tokens in rows)
    num_tokens = sum(map(len, rows))
    total = torch.zeros((), dtype=F64)
    for i, tokens in enumerate(rows):
        if not tokens:
            continue
        advantage = float(advantages[i])
        ratios = [torch.exp(logprobs[i, t]) / torch.exp(old[i, t]) for t in tokens]
        row = torch.zeros((), dtype=F64)
        if kind == "gspo":
            product = torch.ones((), dtype=F64)
            for ratio in ratios:
                product = product * ratio ** (1 / len(tokens))
            term = torch.min(product * advantage, clip(product, clip_low, clip_high) * advantage)
        for t, ratio in zip(tokens, ratios, strict=True):
            if kind == "cispo":
                term = float(clip(ratio.detach(), clip_low, clip_high)) * advantage * logprobs[i, t]
            elif kind != "gspo":
                term = torch.min(ratio * advantage, clip(ratio, clip_low, clip_high) * advantage)
            row = row + weights[i, t] * term - kl_coef * KLS[kl](logprobs[i, t], ref[i, t])
        # gspo's term is that of the row, added once for each of its |o_i| tokens, and divided by them
        total = (
            total
            + row
            / {
                "grpo": len(tokens) * num_rows,
                "gspo": len(tokens) * num_rows,
                "dr_grpo": MAX_LENGTH * num_rows,
                "dapo": num_tokens,
                "cispo": num_tokens,
            }[kind]
        )
    return -total


def case(seed: int) -> dict[str, torch.Tensor]:
    """Random rows: ragged, one masked whole, some tokens masked in between; ratios from about 0.05 to 30.

    Even seeds move all tokens of a row the same way, so that rows, too, are clipped on both sides. NaN stands
    where nothing is trained.
    """
    generator = torch.Generator().manual_seed(seed)
    num_rows, num_targets = 8, 9
    shape = (num_rows, num_targets)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=F64)

    old = -0.1 - 3 * torch.rand(shape, generator=generator, dtype=F64)
    shift = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.0, 0.05, 0.0, 0.1], dtype=F64)[:, None]
    logprobs = old + (shift + normal(*shape) * 0.1 if seed % 2 == 0 else normal(*shape))
    logprobs[0, 0], logprobs[1, 0] = old[0, 0] + 3.4, old[1, 0] + 3.4
    ref = logprobs + normal(*shape) * 0.7
    sampler = old + normal(*shape) * 0.5
    lengths = torch.tensor([9, 1, 5, 9, 2, 7, 0, 3])
    mask = torch.arange(num_targets)[None] < lengths[:, None]
    mask[3, 2:4] = False
    advantages = torch.tensor([1.3, -1.0, 0.5, -2.0, 3.0, -0.4, 1.0, 0.8], dtype=F64)
    return {
        "logprobs": torch.where(mask, logprobs, torch.nan),
        "old": torch.where(mask, old, torch.nan),
        "ref": torch.where(mask, ref, torch.nan),
        "sampler": torch.where(mask, sampler, torch.nan),
        "advantages": torch.where(mask.any(1), advantages, torch.nan),
        "mask": mask,
    }


IMPORTANCE_CAP = 1.5
SETTINGS = [
    {"clip_low": low, "clip_high": high, "kl_coef": kl_coef, "kl": kl, "importance": importance}
    for low, high in ((0.2, 0.3), (10.0, 10.0))
    for kl_coef, kl, importance in (
        (0.0, "k3", "none"),
        (0.3, "k1", "none"),
        (0.3, "k2", "token"),
        (0.3, "k3", "sequence"),
    )
]


def gradient_error(gradient: torch.Tensor) -> float:
    """Of a loss's gradient in float32: a dozen operations a token, and logs up to 3.4 in their exponents."""
    return rounding_error(12 + 2 * 12, float(gradient.abs().max()))


def loss_error(loss: Scalar, gradient: torch.Tensor) -> float:
    """Of the loss in float32: its terms are about as large as the gradients of their tokens."""
    scale = abs(float(loss.detach())) + float(gradient.abs().sum())
    return rounding_error(12 + 2 * 12 + gradient.numel(), scale)


def check_against_reference(losses: ModuleType, kind: str, seed: int, settings: dict) -> None:
    """The loss of `losses`' micro-batches and its gradient are the reference's, but for rounding."""
    given = case(seed)
    mask = given["mask"]
    settings = dict(settings)
    correction = settings.pop("importance")
    tensors = [given[name] for name in ("old", "ref", "advantages", "mask")]
    weights = importance_weights(correction, given["old"], given["sampler"], mask, IMPORTANCE_CAP)
    exact = given["logprobs"].clone().requires_grad_()
    expected = reference_loss(kind, exact, *tensors, weights, **settings)
    expected.backward()

    totals = losses.Totals(
        num_rows=float(mask.any(1).sum()), num_tokens=float(mask.sum()), max_length=MAX_LENGTH
    )
    ours = given["logprobs"].float().requires_grad_()
    options = {**settings, "kl": losses.KL_ESTIMATORS[settings["kl"]], "totals": totals}
    found = torch.zeros(())
    for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
        old, ref, advantages = (given[name][rows].float() for name in ("old", "ref", "advantages"))
        if correction != "none":
            weigh = losses.IMPORTANCE_CORRECTIONS[correction]
            options["importance_BT"] = weigh(old, given["sampler"][rows], mask[rows], cap=IMPORTANCE_CAP)
        parts = losses.POLICY_LOSSES[kind](ours[rows], old, ref, advantages, mask[rows], **options)
        found = found + parts.loss
    found.backward()
    assert exact.grad is not None
    assert found.item() == pytest.approx(expected.item(), abs=loss_error(expected, exact.grad[mask]))
    assert ours.grad is not None
    assert ours.grad[~mask].abs().sum() == 0  # also where the logprob is NaN
    torch.testing.assert_close(
        ours.grad[mask].double(), exact.grad[mask], rtol=0, atol=gradient_error(exact.grad[mask])
    )
