"""Pretraining of tinyworld's models, on a shape that takes seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from r1kit.errors import UserError
from r1kit.tinyworld.build import build
from r1kit.tinyworld.checkpoints import base_dir
from r1kit.tinyworld.pretrain import CODE, BaseSize, _rate, pretrain

SHAPE = BaseSize(hidden=32, layers=1, heads=1, kv_heads=1, intermediate=64, num_tokens=0)


@pytest.mark.slow
def test_a_model_goes_on_from_another_ones_weights(tmp_path):
    rows = np.random.default_rng(0).integers(5, 500, (8, 512)).astype(np.uint16)
    for name in ("first", "next", "still"):
        (tmp_path / name).mkdir()
    pretrain(SHAPE, rows, base_dir(), tmp_path / "first", seed=0)
    still = replace(SHAPE, matrix_learning_rate=0.0, other_learning_rate=0.0)
    pretrain(still, rows, base_dir(), tmp_path / "still", seed=1, start=tmp_path / "first")
    pretrain(SHAPE, rows, base_dir(), tmp_path / "next", seed=1, start=tmp_path / "first")
    first, still_there, further = (
        Qwen3ForCausalLM.from_pretrained(tmp_path / name).model.embed_tokens.weight
        for name in ("first", "still", "next")
    )
    assert torch.equal(first, still_there)
    assert 0 < (further - first).abs().max() < 0.1


def test_rates_warm_up_stay_and_fall_and_those_of_the_code_base_fall_from_the_start():
    assert _rate(0, 1000, 0.4) == 1 / 50
    assert [_rate(i, 1000, 0.4) for i in (100, 500, 800, 999)] == pytest.approx([1, 1, 0.5, 0.0025])
    assert [_rate(i, 1000, CODE.cooldown_frac) for i in (100, 500)] == pytest.approx([0.9, 0.5])


def test_what_it_goes_on_from_has_to_be_there(tmp_path):
    with pytest.raises(UserError, match=r"base does not exist, and code continues from it; build it first\."):
        build(tmp_path, only="code")
