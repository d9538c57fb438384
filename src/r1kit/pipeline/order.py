"""The order of stages: each runs after those that it takes a model or data from."""

from collections.abc import Mapping

from r1kit.pipeline.stages import StageConfig, references

Stages = Mapping[str, StageConfig]


def needs(stages: Stages, name: str) -> tuple[str, ...]:
    """The stages that a stage takes a model or data from, in the order it names them."""
    targets = [r.target for r in references(stages[name]) if r.role not in ("problems", "reward", "file")]
    return tuple(dict.fromkeys(target for target in targets if target in stages))


def running_order(stages: Stages) -> list[str]:
    """The stages, each after those it needs. If several could come next, the first in the file does."""
    order, waiting = _sort(stages)
    assert not waiting, waiting  # load_recipe refuses circles
    return order


def find_circle(stages: Stages) -> list[str]:
    """Stages that need each other in a circle: `[a, b, a]` if a needs b and b needs a; [] without one."""
    _, waiting = _sort(stages)
    if not waiting:
        return []
    # Each waiting stage needs another waiting stage, so following these must come back to one seen before.
    path = [waiting[0]]
    while path.count(path[-1]) == 1:
        path.append(next(name for name in needs(stages, path[-1]) if name in waiting))
    return path[path.index(path[-1]) :]


def _sort(stages: Stages) -> tuple[list[str], list[str]]:
    """The stages in order, and those that can't run because they wait for each other."""
    order: list[str] = []
    waiting = list(stages)
    while ready := next((name for name in waiting if set(needs(stages, name)) <= set(order)), None):
        order.append(ready)
        waiting.remove(ready)
    return order, waiting
