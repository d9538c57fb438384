"""What a model's configuration tells before the model is loaded: whether it can be trained, what samples it.

Most model families are sampled with transformers' own forward pass. That is exact, but slower than the local
decoder, so users are told why.
"""

from collections.abc import Collection, Iterator
from typing import Any

from r1kit.errors import UserError
from r1kit.model.loading import load_skeleton
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.recipe import BASE
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.sampling.local import why_unsupported

_SLOWER = "sampled with transformers' own forward pass, slower than the local decoder"


def look_at_model(context: RunContext, stage: str) -> str:
    """The class that the stage's model is loaded as, and what samples it.

    Raises `ModelError` if no class can load it.
    """
    config = context.recipe.stages[stage]
    model = getattr(config, "model", None)
    if not isinstance(model, str):
        return ""
    scores = isinstance(config, RewardModelConfig)
    skeleton = load_skeleton(context.root_path(model), scorer=scores, dtype=context.dtype)
    name = type(skeleton).__name__
    if scores or not _samples(config):
        return name
    reason = why_unsupported(skeleton)
    return f"{name}, sampled by the local decoder" if reason is None else f"{name}, {_SLOWER}: {reason}"


def slower_samplers(context: RunContext, stages: Collection[str] | None = None) -> Iterator[str]:
    """A sentence for each model that the local decoder can't sample, with the reason.

    Models that can't be loaded are skipped; `look_at_model` reports those.
    """
    recipe = context.recipe
    names = [getattr(c, "model", None) for n, c in recipe.stages.items() if stages is None or n in stages]
    names += [BASE] if recipe.eval is not None else []
    # a stage's model has the shape of the model it was trained from, which is there before the stage is made
    for root in dict.fromkeys(context.root_path(name) for name in names if isinstance(name, str)):
        try:
            reason = why_unsupported(load_skeleton(root, dtype=context.dtype))
        except UserError:
            continue
        if reason is not None:
            yield f"{root} is {_SLOWER}: {reason}."


def _samples(config: Any) -> bool:
    return hasattr(config, "max_new_tokens")
