"""GPUs by name, and the time of work on them by hand."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from r1kit.errors import UserError
from r1kit.grpo import GrpoConfig
from r1kit.pipeline.planning.gpus import GPUS, Gpu, find_gpu
from r1kit.pipeline.planning.roofline import (
    PUBLISHED_SIZES,
    SAMPLING_UTILISATION,
    TRAINING_UTILISATION,
    GpuPace,
    ModelSize,
    size_of,
)
from r1kit.pipeline.planning.work import Grading, Reading, Sampling, Updates

# 1 GB a second from memory, 1 GFLOP/s; a model of 1M weights, 2 MB, with 1 kB of cache a token
SLOW = Gpu("slow", 10e6, 1e9, 1e9)
MODEL = ModelSize(1e6, 1e6, 2, 1000, layers=2)
CONFIG = GrpoConfig(
    model="base", prompt_style="zero", problems={"sums": 1.0}, rewards={"accuracy": 1.0}, steps=1
)


def pace(devices: int = 1, max_rows: int = 64) -> GpuPace:
    return GpuPace(SLOW, devices, max_rows, training_utilisation=0.5, sampling_utilisation=0.25)


@pytest.mark.parametrize("name", ["H100", "h100", "RTX 4090", "rtx4090", "RTX-4090", "4090", "l40s"])
def test_gpus_are_found_however_they_are_written(name: str) -> None:
    assert find_gpu(name).name in GPUS


def test_an_unknown_gpu_suggests_the_near_miss() -> None:
    with pytest.raises(UserError, match=r"^--gpu H80: no such GPU in the table; did you mean `H800`\?$"):
        find_gpu("H80")
    with pytest.raises(UserError, match="known here: B200, H200, H100, H800, A100, L40S, RTX 4090"):
        find_gpu("TPU v5")


def test_a_decoding_step_reads_weights_and_caches_or_computes() -> None:
    # 2 MB of weights and 2 rows x 100 tokens x 1 kB at 1 GB/s, a quarter of it reached; 4 MFLOP take longer
    assert pace().step_seconds(MODEL, rows=2, context=100) == pytest.approx(4e6 / 1e9 / 0.25)
    assert pace().step_seconds(MODEL, rows=0.5, context=2000) == pytest.approx((2e6 + 1e6) / 1e9 / 0.25)
    # 4 MB of weights leave no room for anything in 10 MB x 1/2: still one device; 8 MB need two
    assert pace().copy_devices(ModelSize(2e6, 2e6, 2, 1000, 2)) == 1
    assert pace(4).copy_devices(ModelSize(4e6, 4e6, 2, 1000, 2)) == 2
    with pytest.raises(UserError, match=r"--gpus 1: weights of 0 GB .* need 2 x slow"):
        pace(1).copy_devices(ModelSize(4e6, 4e6, 2, 1000, 2))


def test_a_small_model_waits_for_its_kernels() -> None:
    tiny = ModelSize(10, 10, 2, 1, layers=4)
    assert pace().step_seconds(tiny, rows=1, context=1) == pytest.approx(4e-4)
    # 100 tokens in micro-batches of 40: three, each three times through 4 layers, and once without gradient
    config = CONFIG.model_copy(update={"tokens_per_micro_batch": 40})
    piece = Updates(config, times=2, rows=10, prompts=0, prompt_tokens=0, tokens=10, limit=32, forwards=1)
    assert pace().seconds(tiny, piece) == pytest.approx(2 * 4 * 3 * 4e-4)


def test_a_mixture_reads_the_experts_that_are_used() -> None:
    mixture = ModelSize(1e6, 1e5, 2, 0, 2)
    assert pace().step_seconds(mixture, rows=1, context=0) == pytest.approx(2e5 / 1e9 / 0.25)
    assert pace().step_seconds(mixture, rows=3, context=0) == pytest.approx(6e5 / 1e9 / 0.25)
    assert pace().step_seconds(mixture, rows=9.9, context=0) == pytest.approx(1.98e6 / 1e9 / 0.25)


def test_sampling_waits_for_the_longest_completion_of_all_devices() -> None:
    # 8 completions of 10 tokens, at most 20: 20 steps; 4 of them on each device, 2 in flight on average
    piece = Sampling(8, 2, prompt_tokens=50, tokens=10, limit=20, times=3)
    step = pace(2).step_seconds(MODEL, rows=2, context=55)
    prompts = 2 * 1e6 * 2 * 50 / (2 * 1e9 * 0.5)
    assert pace(2).seconds(MODEL, piece) == pytest.approx(3 * (20 * step + prompts))


def test_more_devices_than_completions_are_no_faster_and_longer_completions_take_longer() -> None:
    piece = Sampling(8, 2, prompt_tokens=50, tokens=10, limit=200)
    step = pace(8).step_seconds(MODEL, rows=10 / 26.566, context=55)
    # the longest of 8: 10 x (ln 8 + 0.5772) tokens, as many steps
    few, many = pace(8).seconds(MODEL, piece), pace(10_000).seconds(MODEL, piece)
    assert few == pytest.approx(26.566 * step + 2 * 1e6 * 2 * 50 / (8 * 1e9 * 0.5), rel=1e-3)
    assert 26.56 * step < many < few
    times = [pace(10_000).seconds(MODEL, piece.at_length(factor)) for factor in (0.5, 1, 2, 100)]
    assert times == sorted(times)


def test_updates_take_six_operations_a_weight_and_token_or_eight() -> None:
    piece = Updates(CONFIG, times=5, rows=4, prompts=1, prompt_tokens=20, tokens=10, limit=32, forwards=1.5)
    # 60 tokens; 6 + 2 x 1.5 operations, of 2 x 0.5 GFLOP/s
    assert pace(2).seconds(MODEL, piece) == pytest.approx(5 * 9 * 1e6 * 60 / 1e9)
    again = CONFIG.model_copy(update={"gradient_checkpointing": True})
    kept = Updates(again, times=5, rows=4, prompts=1, prompt_tokens=20, tokens=10, limit=32, forwards=1.5)
    assert pace(2).seconds(MODEL, kept) == pytest.approx(5 * 11 * 1e6 * 60 / 1e9)
    assert pace(2).seconds(MODEL, Reading(3, 10, 32)) == pytest.approx(2 * 1e6 * 30 / 1e9)
    assert pace(2).seconds(MODEL, Grading(3)) == 0


def test_utilisations_follow_from_what_was_published() -> None:
    # DeepSeek-V3: 14.8T tokens in 2.664M H800 hours
    operations, hours = 6 * 37e9 * 14.8e12, 2.664e6
    assert operations / (hours * 3600 * GPUS["H800"].flops) == pytest.approx(TRAINING_UTILISATION, abs=5e-4)
    # its service: 14,800 tokens a second from 8 devices, 21 for each user, 4,989 tokens of context
    at_full_speed = GpuPace(GPUS["H800"], 144, 256, sampling_utilisation=1.0)
    size = PUBLISHED_SIZES["deepseek-ai/DeepSeek-V3-Base"]
    seconds = at_full_speed.step_seconds(size, rows=14_800 / 8 / 21, context=4_989)
    assert seconds == pytest.approx(0.0155, abs=5e-5)
    assert seconds * 21 == pytest.approx(SAMPLING_UTILISATION, abs=5e-4)


def test_the_size_of_a_model_by_its_layers() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=10, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
            )
        )  # fmt: skip
    # embedding 80; a layer: q, o 64 each, k, v 32 each, MLP 3 x 128, norms 16; last norm 8
    assert size_of(model) == ModelSize(80 + 2 * (192 + 384 + 16) + 8, 80 + 2 * 592 + 8, 2, 2 * 2 * 4 * 2, 2)


def test_a_mixture_uses_a_share_of_its_experts() -> None:
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(
            Qwen3MoeConfig(
                vocab_size=10, hidden_size=8, moe_intermediate_size=4, num_hidden_layers=1, head_dim=4,
                num_attention_heads=2, num_key_value_heads=1, num_experts=8, num_experts_per_tok=2,
            )
        )  # fmt: skip
    size = size_of(model)
    # experts: 8 x 3 x 8 x 4 weights, of which a token uses 2
    assert size.weights - size.active == 6 * 3 * 8 * 4
