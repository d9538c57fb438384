"""The user's own rewards: `file.py:function`, a plain or async function from rollouts to numbers.

    def score(rollouts):                       # my_rewards.py
        return [float("!" not in rollout.completion.text) for rollout in rollouts]

The function gets the rollouts of a batch and returns one number for each, in order, or None for a score that
is unavailable. It runs in this process, with its permissions. If it raises, the run stops, and the rollouts
it was given are written to a file: a bug is never a reward of 0. A recipe may choose otherwise
(`on_reward_error = "missing"`): then these scores are missing, which is counted, and the run only ends if too
many are missing.
"""

import asyncio
import difflib
import importlib.util
import inspect
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from r1kit.data.jsonl import write_jsonl
from r1kit.data.records import rollout_to_json
from r1kit.errors import RecipeError, StageHalted, UserError
from r1kit.ranks import collectives
from r1kit.rewards.base import checked_values
from r1kit.types import Rollout

OnError = Literal["halt", "missing"]


class OwnReward:
    """Calls the function, awaits the result if it is async, and checks what it returns.

    `num_failed` counts the calls that raised without stopping the run.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        failure_dir: Path | None = None,
        on_error: OnError = "halt",
    ) -> None:
        self.name = name
        self.num_failed = 0
        self._on_error = on_error
        self._function = function
        self._failure_dir = failure_dir

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        try:
            values = self._values(rollouts)
        except Exception as error:  # the user's code may raise anything
            report = self._report(rollouts, error)
            if self._on_error == "halt":
                raise StageHalted(report) from error
            self.num_failed += 1
            return [None] * len(rollouts)
        return checked_values(self.name, values, len(rollouts))

    def try_on(self, rollouts: Sequence[Rollout]) -> None:
        """Call the function once, discard the result. Raises `UserError` for what would end a run."""
        try:
            values = self._values(rollouts)
        except Exception as error:  # the user's code may raise anything
            if self._on_error == "missing":
                return
            raise UserError(f"{self._raised(error)} on {len(rollouts)} made-up rollouts; fix it.") from None
        checked_values(self.name, values, len(rollouts))

    def _values(self, rollouts: Sequence[Rollout]) -> Any:
        values = self._function(list(rollouts))
        return _await(values) if inspect.isawaitable(values) else values

    def _raised(self, error: Exception) -> str:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"reward `{self.name}` raised {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
        )

    def _report(self, rollouts: Sequence[Rollout], error: Exception) -> str:
        """Write what the function was given to a file, and report where."""
        folder = self._failure_dir or Path(tempfile.mkdtemp(prefix="r1kit-reward-"))
        folder.mkdir(parents=True, exist_ok=True)
        # each rank fails on its own rollouts
        rank = f".rank{collectives.rank()}" if collectives.world_size() > 1 else ""
        path = folder / f"failed_reward{rank}.jsonl"
        write_jsonl(path, map(rollout_to_json, rollouts))
        trace = folder / f"failed_reward{rank}.txt"
        trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return (
            f"{self._raised(error)}. The {len(rollouts)} rollouts it was given are in {path}, the traceback "
            f"in {trace.name} beside it; fix the function and run again."
        )


def load_own_reward(
    name: str, *, recipe_dir: Path, failure_dir: Path | None = None, on_error: OnError = "halt"
) -> OwnReward:
    """The reward `file.py:function`, relative to the recipe's folder. Raises `RecipeError`."""
    file_name, _, function_name = name.rpartition(":")
    path = (recipe_dir / file_name).resolve()
    if not path.is_file():
        raise RecipeError(
            f"reward `{name}`: there is no file {path}; the path is relative to the recipe's folder."
        )
    module = _import(path, name)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(function_name, known, n=1)
        hint = (
            f"did you mean `{near[0]}`?"
            if near
            else f"functions in it: {', '.join(sorted(known)) or 'none'}."
        )
        raise RecipeError(f"reward `{name}`: no function `{function_name}` in {path}; {hint}")
    return OwnReward(name, function, failure_dir=failure_dir, on_error=on_error)


def _import(path: Path, name: str) -> ModuleType:
    module_name = f"r1kit_own_{path.stem}_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"reward `{name}`: {path} is not a Python file; name one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up their module by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[module_name]
        raise RecipeError(
            f"reward `{name}`: {path} can't be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _await(values: Awaitable[Any]) -> Any:
    """The result of an async function, run in its own thread: the caller's may already run an event loop."""

    async def wait() -> Any:
        return await values

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, wait()).result()
