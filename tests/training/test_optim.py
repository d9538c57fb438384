"""The schedules by hand; decay only where it belongs."""

import pytest
import torch

from r1kit.training.optim import OptimizerConfig, build_optimizer, learning_rate_at


def rates(total_steps: int, **options) -> list[float]:
    config = OptimizerConfig(learning_rate=1.0, **options)
    return [learning_rate_at(config, update, total_steps) for update in range(total_steps)]


def test_constant_stays():
    assert rates(3) == [1.0, 1.0, 1.0]


def test_warmup_rises_to_the_full_rate_after_its_steps():
    assert rates(5, warmup_steps=3) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_linear_falls_to_its_floor_at_the_last_update():
    assert rates(5, schedule="linear", min_learning_rate_frac=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_falls_to_a_tenth_and_is_half_way_in_the_middle():
    # halfway between 1 and 0.1 is 0.55; a quarter: 0.1 + 0.9 * (1 + cos 45 deg) / 2
    assert rates(5, schedule="cosine") == pytest.approx([1.0, 0.8681981, 0.55, 0.2318019, 0.1])


def test_decay_starts_after_the_warmup_and_one_update_is_possible():
    assert rates(4, schedule="linear", warmup_steps=1, min_learning_rate_frac=0.0) == pytest.approx(
        [0.5, 1.0, 0.5, 0.0]
    )
    assert rates(1, schedule="cosine") == [1.0]


def test_vectors_are_not_decayed():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    groups = build_optimizer(list(model.parameters()), OptimizerConfig(weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (3, 0.0)]
