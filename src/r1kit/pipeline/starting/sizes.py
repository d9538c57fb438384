"""Numbers of a first recipe, by hardware and data, and what is given up until they fit into the memory.

The paper's numbers are for 64 nodes; those here are what is usual on one machine. What fits is not guessed:
`fit` asks `plan_memory` of the recipe that would be written. Learning rates are the paper's, ten times as
high for LoRA (docs/training.md), and tinyworld's own for models of its size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from r1kit.errors import UserError
from r1kit.pipeline.starting.data import Data
from r1kit.pipeline.starting.hardware import Hardware
from r1kit.pipeline.starting.model import Model
from r1kit.text.prompts import encode_prompt

# Models of fewer weights are toys: they learn at tinyworld's rates, and nothing at the paper's.
_TOY_WEIGHTS = 10_000_000
# DeepSeek-R1 v2, B.4.3: learning rates of distillation, by size of the student.
_DISTILL_RATES = ((4e9, 1e-4), (10e9, 8e-5), (20e9, 7e-5), (float("inf"), 6e-5))
# Tokens of a completion where there is room: solutions of these sets are shorter or longer than others.
_TOKENS = {
    "gsm8k": 768,
    "svamp": 512,
    "math": 2_048,
    "olympiadbench": 4_096,
    "openr1-math": 4_096,
    "verl": 4_096,
}
_USUAL_TOKENS, _CPU_TOKENS = 1_024, 256
# Enough for the shape of a response; all of GSM8K's would take a CPU a day.
_CPU_SOLUTIONS = 500
_PROMPTS_ENCODED = 2_000
_FEWEST_TOKENS = 32
_NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of the recipe that depend on hardware, model and data."""

    steps: int
    problems_per_step: int
    group_size: int
    mini_batches: int
    max_new_tokens: int
    rl_rate: float
    sft_rate: float
    distill_rate: float
    tokens_per_batch: int
    eval_problems: int
    eval_samples: int
    max_rows: int
    micro_tokens: int
    max_tokens: int  # of an SFT example
    resample_waves: int = 1
    num_solutions: int | None = None  # worked ones that are trained on; None: all
    lora: bool = False
    checkpointing: bool = False
    shard: bool = False
    is_toy: bool = False

    @property
    def rl_learning_rate(self) -> float:
        """Of GRPO, as it is trained."""
        return self.rl_rate * (10 if self.lora else 1)

    def sft_learning_rate(self, *, is_student: bool) -> float:
        """Of SFT, as it is trained; a student of distillation has the paper's for its size."""
        rate = self.distill_rate if is_student and not self.is_toy else self.sft_rate
        return min(rate * 10, 5e-4) if self.lora else rate


def first_sizes(model: Model, data: Data, hardware: Hardware) -> Sizes:
    """The sizes before memory is looked at."""
    is_toy, on_gpu = 0 < model.num_weights < _TOY_WEIGHTS, hardware.device == "gpu"
    tokens = _tokens_of(data) if on_gpu and not is_toy else _CPU_TOKENS
    room = model.context - _longest_prompt(model, data)
    if room < _FEWEST_TOKENS and model.tokenizer is not None:
        raise UserError(_too_long(model, data))
    tokens = max(_FEWEST_TOKENS, min(tokens, room))
    distill_rate = next(rate for size, rate in _DISTILL_RATES if model.num_weights < size)
    sizes = Sizes(
        steps=200,
        problems_per_step=32,
        group_size=16,
        mini_batches=2,
        max_new_tokens=tokens,
        rl_rate=3e-6,
        sft_rate=5e-5,
        distill_rate=distill_rate,
        tokens_per_batch=32_000,
        eval_problems=500,
        eval_samples=4,
        max_rows=256,
        micro_tokens=16_000,
        max_tokens=min(4_096, model.context),
    )
    if not on_gpu:
        sizes = replace(
            sizes, steps=20, problems_per_step=4, group_size=8, mini_batches=1, tokens_per_batch=2_000,
            eval_problems=50, eval_samples=1, max_rows=64, micro_tokens=4_000, resample_waves=0,
            num_solutions=_CPU_SOLUTIONS,
        )  # fmt: skip
    if is_toy:
        sizes = replace(
            sizes, steps=40, problems_per_step=16, group_size=16, mini_batches=1, tokens_per_batch=1_000,
            rl_rate=7e-4, sft_rate=1e-3, eval_problems=80, eval_samples=4, max_rows=256, micro_tokens=4_000,
            resample_waves=0, num_solutions=None, is_toy=True,
        )  # fmt: skip
    return replace(sizes, problems_per_step=min(sizes.problems_per_step, max(1, len(data.problems) // 2)))


def _tokens_of(data: Data) -> int:
    return _TOKENS.get(str(data.fields.get("mapping") or data.fields["source"]), _USUAL_TOKENS)


def _longest_prompt(model: Model, data: Data) -> int:
    """Tokens of the longest prompt; a guess where there is no tokenizer to ask."""
    if model.tokenizer is None:
        return 1_024
    every = -(-len(data.problems) // _PROMPTS_ENCODED)
    return max(
        (len(encode_prompt(p, model.tokenizer, model.style)) for p in data.problems[::every]), default=0
    )


def _too_long(model: Model, data: Data) -> str:
    """Which problems leave no room for a completion, and what to do about them."""
    assert model.tokenizer is not None
    most = model.context - _FEWEST_TOKENS
    lengths = ((p, len(encode_prompt(p, model.tokenizer, model.style))) for p in data.problems)
    found = [f"{p.id} ({length:,} tokens)" for p, length in lengths if length > most]
    more = f" and {len(found) - _NAMES_SHOWN:,} more" if len(found) > _NAMES_SHOWN else ""
    return (
        f"--data {data.fields['source']}: of {len(data.problems):,} problems {len(found):,} are too long for "
        f"the {model.context:,} tokens of {model.short_name}'s context: {', '.join(found[:_NAMES_SHOWN])}"
        f"{more}; remove their rows, or take a model with a longer context"
    )


def fit(sizes: Sizes, hardware: Hardware, needs: Callable[[Sizes], int]) -> tuple[Sizes, int]:
    """The first sizes that fit into the device's memory, and what they need; else the smallest.

    `needs` gives the bytes of the largest stage. What is given up comes in the order of what it costs:
    nothing but time (layers run again, smaller micro-batches), other processes' memory, then all weights but
    an adapter's, then the number of rows that are sampled at a time.
    """
    for tried in _ladder(sizes, hardware):
        needed = needs(tried)
        if needed <= hardware.usable_bytes:
            break
    return tried, needed


def _ladder(sizes: Sizes, hardware: Hardware) -> Iterator[Sizes]:
    yield sizes
    if sizes.micro_tokens > 4_000:
        sizes = replace(sizes, micro_tokens=4_000)
        yield sizes
    sizes = replace(sizes, checkpointing=True)
    yield sizes
    if hardware.num > 1:
        yield replace(sizes, shard=True)
    sizes = replace(sizes, lora=True)
    while True:
        yield sizes
        if sizes.max_rows <= 8:
            return
        sizes = replace(sizes, max_rows=sizes.max_rows // 2)
