"""DeepSeek-R1's own cost, worked out as `r1 plan --gpu` does: `python benchmarks/paper_cost.py`.

Published (arXiv 2501.12948 v2, Table 7; docs/PAPER.md): 101,000 H800 hours for R1-Zero (64 x 8 GPUs, 198
hours), 5,000 for SFT data, 41,000 for R1 (80 hours); 147,000 in all. Nothing is fitted to them. What goes in:

  published      10,400 updates in 650 rollout phases of 512 questions x 16 outputs; at most 32,768 tokens,
                 65,536 from update 8,200 on; 16 mini-batches, one inner epoch, a KL term; 1,700 updates of
                 the last stage; 800k SFT samples of 5,355 tokens, two epochs; 671B weights, 37B active
  only a curve   R1-Zero's mean length (v1, Figure 3): 500 tokens at the start, in a straight line to 10,000
                 at update 8,200, then 15,000; so in R1's stages 10,000
  not published  how long dev2 went on ("until convergence"): 300 phases, as in recipes/deepseek-r1.toml;
                 samples for each kept one of the SFT data: 4; prompts: 128 tokens
  utilisation    34.6% of dense bfloat16 in training, from DeepSeek-V3's own pretraining; 32.5% of the data
                 sheet in sampling, from DeepSeek's inference service (pipeline/planning/roofline.py)

Left out: self-speculation, which the paper has and which shortens the longest completions; loading models in
and out between phases; rewards; failures. `--lengths 0.5` scales all mean lengths. Of the three lines only
R1-Zero's rests on nothing that is unknown but the curve.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from r1kit.grpo import GrpoConfig
from r1kit.pipeline.planning.gpus import find_gpu
from r1kit.pipeline.planning.roofline import (
    PUBLISHED_SIZES,
    SAMPLING_UTILISATION,
    TRAINING_UTILISATION,
    GpuPace,
)
from r1kit.pipeline.planning.work import Piece, Sampling, Updates
from r1kit.sft import SftConfig

DEVICES = 512
MODEL = "deepseek-ai/DeepSeek-V3-Base"
PROMPT_TOKENS = 128
QUESTIONS, GROUP_SIZE, MINI_BATCHES = 512, 16, 16
# H800 hours by v2's Table 7
PUBLISHED = {"R1-Zero": 101_000, "SFT data": 5_000, "R1": 41_000}
_BLOCK = 25  # phases that are taken together: their mean length hardly differs


@dataclass(frozen=True)
class Phase:
    """So many rollout phases in a row, with this mean length and limit."""

    times: int
    tokens: float
    limit: int


def zero_phases(scale: float) -> Iterator[Phase]:
    """R1-Zero's 650."""
    before = 8_200 // MINI_BATCHES
    for start in range(0, before, _BLOCK):
        times = min(_BLOCK, before - start)
        middle = (start + times / 2) / before
        yield Phase(times, scale * (500 + 9_500 * middle), 32_768)
    yield Phase(10_400 // MINI_BATCHES - before, scale * 15_000, 65_536)


def grpo_pieces(phase: Phase) -> list[Piece]:
    """Sampling and updates of these phases; no group is dropped."""
    outputs = QUESTIONS * GROUP_SIZE
    config = GrpoConfig(
        model="base",
        prompt_style="zero",
        problems={"math": 1.0},
        rewards={"accuracy": 1.0},
        steps=phase.times,
        max_new_tokens=phase.limit,
        gradient_checkpointing=True,
    )
    rows = outputs / MINI_BATCHES
    # a pass of the reference in each update, one for the old logprobs of all but the first of a phase
    forwards = 1 + (MINI_BATCHES - 1) / MINI_BATCHES
    return [
        Sampling(outputs, QUESTIONS, PROMPT_TOKENS, phase.tokens, phase.limit, times=phase.times),
        Updates(
            config,
            times=phase.times * MINI_BATCHES,
            rows=rows,
            prompts=min(QUESTIONS, rows),
            prompt_tokens=PROMPT_TOKENS,
            tokens=phase.tokens,
            limit=phase.limit,
            forwards=forwards,
        ),
    ]


def paper_pieces(scale: float) -> dict[str, list[Piece]]:
    """The work behind each line of the paper's table."""
    zero = [piece for phase in zero_phases(scale) for piece in grpo_pieces(phase)]
    r1 = grpo_pieces(Phase(300 + 1_700 // MINI_BATCHES, scale * 10_000, 32_768))
    sft_config = SftConfig(model="base", data="data.jsonl", gradient_checkpointing=True)
    sft: list[Piece] = [Updates(sft_config, 2, 804_745, 0, 0, 5_355, 32_768)]
    # reasoning data alone is sampled from the policy: math, code, STEM, logic of v2's B.3.3
    kept = {6_094: 395_285, 7_436: 211_129, 4_929: 10_124, 2_739: 10_395}
    mean = sum(tokens * num for tokens, num in kept.items()) / sum(kept.values())
    sampled = 4.0 * sum(kept.values())
    data: list[Piece] = [Sampling(sampled, sampled / 16, PROMPT_TOKENS, mean, 32_768)]
    return {"R1-Zero": zero, "SFT data": data, "R1": [*r1, *sft]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lengths", type=float, default=1.0, help="times the mean lengths")
    parser.add_argument("--gpu", default="H800")
    options = parser.parse_args()
    print((__doc__ or "").split("\n\n", 1)[1].strip())
    pace, size = GpuPace(find_gpu(options.gpu), DEVICES, max_rows=256), PUBLISHED_SIZES[MODEL]
    print(
        f"\n{DEVICES} x {options.gpu}; copies on {pace.copy_devices(size)}; utilisation "
        f"{TRAINING_UTILISATION:.1%} in training, {SAMPLING_UTILISATION:.1%} in sampling\n"
    )
    print(
        "| | sampling, GPU hours | training | sum | published | ours / published |\n|---|---|---|---|---|---|"
    )
    totals = [0.0, 0.0]
    for name, pieces in paper_pieces(options.lengths).items():
        hours = [0.0, 0.0]
        for piece in pieces:
            hours[not isinstance(piece, Sampling)] += pace.seconds(size, piece) / 3600 * DEVICES
        totals = [a + b for a, b in zip(totals, hours, strict=True)]
        print(line(name, hours, PUBLISHED[name]))
    print(line("all", totals, sum(PUBLISHED.values())))


def line(name: str, hours: list[float], published: int) -> str:
    """A row of the table."""
    cells = [*hours, sum(hours), published]
    return f"| {name} | {' | '.join(f'{c:,.0f}' for c in cells)} | {sum(hours) / published:.2f} |"


if __name__ == "__main__":
    main()
