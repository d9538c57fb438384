"""What `r1 init` says of a recipe that it has written: what was decided, and what to know before the run."""

from importlib.util import find_spec

from r1kit.pipeline.memory import format_bytes
from r1kit.pipeline.starting.data import settled_by
from r1kit.pipeline.starting.recipe_text import Parts
from r1kit.pipeline.starting.stages import Plan
from r1kit.pipeline.starting.wishes import GOALS, Wishes
from r1kit.sandbox import sandbox_refusal

# Smaller models hardly ever write a right answer in the shape that is asked for: SmolLM2-135M-Instruct did
# not once in 32 problems of GSM8K, neither by Table 1's template nor by its own (docs/first_run.md).
_SMALL_WEIGHTS = 200_000_000


def decisions(parts: Parts, needed: int, solutions: tuple[str, str] | None) -> list[tuple[str, str]]:
    """What was decided for a recipe: subject and sentence."""
    plan, data, test, hardware = parts.plan, parts.data, parts.test, parts.hardware
    model, sizes = plan.model, plan.sizes
    usable = f"{len(data.problems):,} problems"
    left_out = f", {data.num_left_out:,} rows left out" if data.num_left_out else ""
    tested = f"{parts.num_tested:,} problems of {test.why}" if test.data is not None else test.why
    trained = "an adapter (LoRA) is trained" if sizes.lora else "all weights are trained"
    trained += ", layers are run again in the backward pass" if sizes.checkpointing else ""
    trained += ", each GPU holds its part of them" if sizes.shard else ""
    found = [
        ("model", f"{model.short_name}: {model.unseen or model.why}"),
        ("data", f"{usable}{left_out}; {data.why}"),
        ("test", tested if parts.num_tested else "none: there will be no evaluation"),
        ("goal", f"{plan.goal}: {GOALS[plan.goal]}"),
    ]
    if plan.goal in ("zero", "full"):
        found.append(("prompts", f'prompt_style = "{model.style}": {model.why_style}'))
    if solutions is not None:
        found.append(("solutions", solutions[1]))
    found += [
        ("memory", f"about {format_bytes(needed)} at its peak, on {hardware}: {trained}"),
        ("sizes", _sizes_said(plan)),
    ]
    return found


def _sizes_said(plan: Plan) -> str:
    sizes = plan.sizes
    if plan.goal == "distill":  # no reinforcement learning in it
        return (
            f"answers of at most {sizes.max_new_tokens:,} tokens; updates on about "
            f"{sizes.tokens_per_batch:,} tokens each"
        )
    return (
        f"{sizes.steps} steps of {sizes.problems_per_step} problems x {sizes.group_size} samples of at most "
        f"{sizes.max_new_tokens} tokens"
    )


def notes(parts: Parts, needed: int, wishes: Wishes) -> list[str]:
    """What a person should know before the run."""
    plan, data, hardware = parts.plan, parts.data, parts.hardware
    model, sizes = plan.model, plan.sizes
    doubts = [
        d for d in data.doubts if d.flag not in wishes.columns and not (d.flag == "kind" and wishes.kind)
    ]
    found = [
        f"In doubt: {doubt.why}. {doubt.taken} was taken; --{doubt.flag} says another." for doubt in doubts
    ]
    if not model.num_weights and not sizes.is_toy:
        found.append(
            f"The size of {model.short_name} is not known here: it is taken for a model of 7B weights. "
            "Download it, and call `r1 init` again with its folder."
        )
    found += [f"Left out: {line}" for line in data.skipped.splitlines()]
    if data.num_left_out * 10 > data.num_rows:
        found.append(f"That is more than a tenth of the rows. {settled_by()}.")
    if data.num_verified < len(data.problems):
        found.append(
            f"{data.num_verified:,} of the {len(data.problems):,} problems were verified; `r1 doctor` "
            "verifies all."
        )
    if needed > hardware.usable_bytes:
        found.append(
            "That is more than there is: take a smaller model, or more or larger GPUs (--gpus, --gpu-memory)."
        )
    if hardware.device == "gpu" and not hardware.is_here and wishes.gpu_memory is None:
        found.append(
            "PyTorch sees no GPU here: 24 GB were taken for its memory; --gpu-memory GB says another."
        )
    if sizes.lora and find_spec("peft") is None:
        found.append("LoRA needs peft: pip install 'r1kit[lora]'.")
    if "code" in data.kinds and (refusal := sandbox_refusal()) is not None:
        found.append(refusal)
    can_start_with_sft = model.has_chat_template and data.kinds <= {"math", "choice", "logic"}
    is_small = not sizes.is_toy and 0 < model.num_weights < _SMALL_WEIGHTS
    if plan.goal == "zero" and is_small and can_start_with_sft:
        found.append(
            "Models as small as this hardly ever give a right answer in the right shape by themselves, and "
            "then there is nothing to reward: --goal sft-then-rl fine-tunes on worked solutions first."
        )
    return found
