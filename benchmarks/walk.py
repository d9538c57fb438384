"""Where a problem goes in one GRPO step: how many functions see it, in how many rooms, under how many names.

    python benchmarks/walk.py                      # this checkout
    PYTHONPATH=/tmp/before/src python benchmarks/walk.py

One step of tinyworld (4 problems, 4 samples each) runs under `sys.setprofile`. A stop is a function of r1kit
that is called while one of its arguments is the problem, or holds it (in a list, a tuple, a dictionary or a
dataclass, to a depth of four). A name is an argument's name at a stop. Not counted: code outside r1kit and in
other processes, comprehensions, what lies in objects that are not dataclasses.
"""

import dataclasses
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import r1kit

ROOT = Path(r1kit.__file__).parent
RECIPE = """
[run]
name = "walk"
[model]
base = "tinyworld"
device = "cpu"
[problems.train]
source = "tinyworld"
split = "train"
num_problems = 40
[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { train = 1.0 }
rewards = { accuracy = 1.0, format = 1.0 }
steps = 1
problems_per_step = 4
group_size = 4
max_resample_waves = 0
mini_batches = 1
max_new_tokens = 64
optimizer = { learning_rate = 1e-4 }
"""


def main() -> None:
    from r1kit.grpo import step
    from r1kit.pipeline.run import run_recipe

    stops: list[tuple[str, tuple[str, ...]]] = []
    watched: list[Any] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not (path := frame.f_code.co_filename).startswith(str(ROOT)):
            return
        code = frame.f_code
        if code.co_name.startswith("<"):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if not watched:  # the first problem of the step is the one that is followed
            if code.co_name == "encode_prompt":
                watched.append(frame.f_locals["problem"])
            else:
                return
        found = tuple(name for name in names if name != "self" and holds(frame.f_locals[name], watched[0], 4))
        if found:
            module = (
                str(Path(path).relative_to(ROOT).with_suffix(""))
                .replace(os.sep, ".")
                .removesuffix(".__init__")
            )
            stops.append((f"{module}.{code.co_qualname}", found))

    run_step = step.run_step

    def profiled(*arguments: Any) -> Any:
        threading.setprofile(profile)  # rewards are computed in threads that start after this
        sys.setprofile(profile)
        try:
            return run_step(*arguments)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    from r1kit.grpo import run

    run.run_step = profiled  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.toml"
        path.write_text(RECIPE, encoding="utf-8")
        run_recipe(path, output_dir=Path(folder) / "out")
    functions = Counter(name for name, _ in stops)
    rooms = {name.split(".")[0] for name in functions}
    names = {name for _, found in stops for name in found}
    print(f"{len(functions)} functions see the problem, in {len(rooms)} rooms, under {len(names)} names")
    print(f"rooms: {' '.join(sorted(rooms))}\nnames: {' '.join(sorted(names))}")
    for name in functions:
        print(f"  {name}({', '.join(next(found for other, found in stops if other == name))})")


def holds(value: Any, wanted: Any, depth: int) -> bool:
    """Whether a value is the wanted object, or has it inside."""
    if value is wanted:
        return True
    if depth == 0:
        return False
    if isinstance(value, dict):
        return any(holds(inner, wanted, depth - 1) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds(inner, wanted, depth - 1) for inner in value[:64])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(
            holds(getattr(value, field.name), wanted, depth - 1) for field in dataclasses.fields(value)
        )
    return False


if __name__ == "__main__":
    main()
