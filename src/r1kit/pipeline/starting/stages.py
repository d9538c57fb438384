"""The stages of a first recipe as text, by goal. The paper's numbers stand in brackets, as in our recipes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.pipeline.starting.lines import header, line, table
from r1kit.pipeline.starting.model import Model
from r1kit.pipeline.starting.sizes import Sizes
from r1kit.pipeline.starting.wishes import Goal
from r1kit.types import PromptStyle

JUDGE = "grader"
_LORA = {"rank": 32, "alpha": 32}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the stages are made of: the goal, the model, the sizes, and where worked solutions come from."""

    goal: Goal
    model: Model
    sizes: Sizes
    has_judge: bool = False
    teacher: str | None = None
    sft_data: str | None = None  # a file beside the recipe; None: the model's own, by a cold start


def stage_lines(plan: Plan) -> Iterator[str]:
    """The tables of all stages of the goal, in the order of running."""
    if plan.goal == "zero":
        yield from _zero(plan)
    elif plan.goal == "distill":
        yield header("stages.samples", "right answers of the teacher, and only those [v1 2.3.3]")
        yield from _rejection(plan, str(plan.teacher))
        yield header("stages.distill", "the model fine-tuned on them [v1 2.4]")
        yield from _sft(plan, "samples", is_student=True)
    elif plan.goal == "sft-then-rl":
        if plan.sft_data is None:
            yield from _cold_start(plan, with_zero=False)
        yield header("stages.dev1", "fine-tuning on worked solutions [v1 2.3.1]")
        yield from _sft(plan, plan.sft_data or "cold_start")
        yield header("stages.dev2", "and reinforcement learning from there [v1 2.3.2]")
        yield from _grpo(plan, "dev1", "chat")
    else:
        yield from _full(plan)


def _full(plan: Plan) -> Iterator[str]:
    yield from _zero(plan)
    yield from _cold_start(plan, with_zero=True)
    yield header("stages.dev1", "the base fine-tuned on it [v1 2.3.1]")
    yield from _sft(plan, "cold_start")
    yield header("stages.dev2", "reasoning, with language consistency in the sum [v1 2.3.2]")
    yield from _grpo(plan, "dev1", "chat")
    yield header("stages.rejection", "right answers of dev2 are the data [v1 2.3.3]")
    yield from _rejection(plan, "dev2")
    yield header("stages.dev3", "the base once more, not dev2 [v1 2.3.3]")
    yield from _sft(plan, "rejection")
    # general data and reward models are not in one set of problems: recipes/tiny.toml has them
    yield header("stages.r1", "the last stage; with general data and reward models: recipes/tiny.toml")
    yield from _grpo(plan, "dev3", "chat", temperature=0.7)


def _zero(plan: Plan) -> Iterator[str]:
    yield header("stages.zero", "R1-Zero: reinforcement learning with rule rewards [v1 2.2]")
    yield from _grpo(plan, "base", plan.model.style, why=plan.model.why_style)


def _grpo(
    plan: Plan, model: str, style: PromptStyle, *, why: str = "", temperature: float | None = None
) -> Iterator[str]:
    sizes = plan.sizes
    rewards = {"accuracy": 1.0, "format": 1.0} | ({} if model == "base" else {"language": 1.0})
    yield line("kind", "grpo")
    yield line("model", model)
    yield line("prompt_style", style, why or "as it was fine-tuned")
    yield line("problems", {"train": 1.0}, "set -> share")
    yield line("rewards", rewards, "summed plainly [v2 2.2]")
    if plan.has_judge:
        yield line("judges", {"accuracy": JUDGE})
    yield line("steps", sizes.steps, "[650 of 512 problems]")
    yield line("problems_per_step", sizes.problems_per_step, "[512]")
    yield line("group_size", sizes.group_size, "samples of a problem, compared with each other [16]")
    yield line("mini_batches", sizes.mini_batches, "updates per step [16]")
    if sizes.resample_waves != 1:
        yield line("max_resample_waves", sizes.resample_waves, "a second wave costs as much as the first")
    if temperature is not None:
        yield line("temperature", temperature, "[0.7]")
    yield line("max_new_tokens", sizes.max_new_tokens, "[32,768]")
    yield line("clip_eps", 0.2, "PPO's; the paper's 10 hardly clips")
    yield line("kl_coef", 0.001, "[0.001]")
    yield from _optimizer(plan, sizes.rl_learning_rate, "[3e-6]", warmup_steps=5)
    yield line("checkpoint_every", 10, "steps; a killed run resumes from there")


def _sft(plan: Plan, data: str, *, is_student: bool = False) -> Iterator[str]:
    sizes = plan.sizes
    yield line("kind", "sft")
    yield line("model", "base")
    yield line("data", data)
    yield line("epochs", 2, "[2 to 3]")
    yield line("tokens_per_batch", sizes.tokens_per_batch, "[about 640_000]")
    yield line("max_tokens", sizes.max_tokens, "longer examples are dropped and counted [32,768]")
    source = "[1e-4 to 6e-5, by size: v2 B.4.3]" if is_student else "[5e-5, to a tenth: v2 B.4]"
    yield from _optimizer(
        plan, sizes.sft_learning_rate(is_student=is_student), source, warmup_steps=10, schedule="cosine"
    )


def _optimizer(plan: Plan, rate: float, source: str, **more: Any) -> Iterator[str]:
    sizes = plan.sizes
    if sizes.is_toy:
        source = "tinyworld's; nothing is learnt at the paper's rate at this size"
    elif sizes.lora:
        source += ", about ten times that for LoRA (docs/training.md)"
    yield table("optimizer", {"learning_rate": rate, **more}, source)
    if sizes.lora:
        yield line("lora", _LORA, "an adapter in place of all weights: it fits")
    if sizes.checkpointing:
        yield line("gradient_checkpointing", True, "less memory, a third more arithmetic in updates")
    if sizes.micro_tokens != 4_000:
        yield line("tokens_per_micro_batch", sizes.micro_tokens, "no effect on the gradient")


def _rejection(plan: Plan, model: str) -> Iterator[str]:
    yield line("kind", "rejection")
    yield line("model", model)
    yield line("problems", ["train"])
    if plan.has_judge:
        yield line("judge", JUDGE)
    yield line("samples_per_round", 4)
    yield line("max_rounds", 2)
    yield line("max_new_tokens", plan.sizes.max_new_tokens)


def _cold_start(plan: Plan, *, with_zero: bool) -> Iterator[str]:
    """Worked examples before the problem, and samples of zero where there is one [v1 2.3.1]."""
    yield header("stages.cold_start", "thousands of readable solutions in the paper")
    yield line("kind", "cold_start")
    yield line("min_tokens", 16, "of the reasoning")
    for kind in ("few_shot", "samples") if with_zero else ("few_shot",):
        yield "\n[[stages.cold_start.sources]]"
        yield from _source(plan, kind)


def _source(plan: Plan, kind: str) -> Iterator[str]:
    about: Mapping[str, tuple[str, str]] = {
        "few_shot": ("base", "worked examples of tinyworld before the problem; `examples`: a file of yours"),
        "samples": ("zero", "what R1-Zero gets right, at temperature 1.0 [v2 B.3.2]"),
    }
    model, comment = about[kind]
    yield line("kind", kind, comment)
    yield line("model", model)
    yield line("problems", "train")
    yield line("num_problems", min(plan.sizes.steps * plan.sizes.problems_per_step, 2_000))
    yield line("samples_per_problem", 4, "several [v2 B.3.2]")
    yield line("max_new_tokens", plan.sizes.max_new_tokens)
